"""What ``poterne backup --xdm`` and ``poterne restore --xdm`` tell, from the facts of ``gateway.continuity.xdm`` as
they cross the control socket. Studies by UID, never a patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.i18n import N_, Words

LINES_MAX = 50
"""Sets or exams that are named; the rest is counted, and all of them are in ``--json``."""

OUTCOMES: Final[Mapping[str, str]] = {
    "new": N_("would be taken"),
    "imported": N_("taken"),
    "known": N_("known already: nothing changed"),
    "held": N_("taken and held: a person must look (poterne exam)"),
    "withdrawn": N_("taken as withdrawn: they stay out of the index"),
    "refused": N_("not taken"),
}
LACKING: Final[Mapping[str, str]] = {
    "no-report-named": N_("name no report (CR.TXT)"),
    "no-signature": N_("hold no signature (SIGN)"),
    "no-entry-uuid": N_("state no entryUUID: the index is asked for it"),
}


def exported(made: Mapping[str, Any], words: Words) -> Iterator[str]:
    """The export as lines for a person."""
    for one in made["archives"]:
        yield words(
            "{file}: {exams} exams, {versions} versions, {size} bytes. SHA-256 {digest}",
            file=one["file"],
            exams=words.number(one["exams"]),
            versions=words.number(one["versions"]),
            size=words.number(one["bytes"]),
            digest=one["sha256"],
        )
    if not made["archives"]:
        yield words("Nothing to export: no archive was written.")
    else:
        yield words(
            "These files NAME PATIENTS and are not encrypted (mode 0600): encrypt them before they leave this"
            " machine, and destroy them after the import."
        )
    for one in made["left_out"][:LINES_MAX]:
        yield words(
            "left out: {study}, version {version} ({reason})",
            study=one["study"],
            version=one["version"],
            reason=one["reason"],
        )
    if len(made["left_out"]) > LINES_MAX:
        yield words("… and {n} more", n=words.number(len(made["left_out"]) - LINES_MAX))


def imported(done: Mapping[str, Any], words: Words) -> Iterator[str]:
    """The import, or its plan, as lines for a person."""
    yield words.count(
        "{n} submission set read in {span}",
        "{n} submission sets read in {span}",
        done["sets"],
        span=words.span(done["seconds"]),
    )
    for outcome, said in OUTCOMES.items():
        if number := done["counts"].get(outcome):
            yield words("exams {said}: {n}", said=words(said), n=words.number(number))
    for code, number in done["lacking"].items():
        yield words("versions that {said}: {n}", said=words(LACKING[code]), n=words.number(number))
    for study in [study for study, outcome in done["exams"].items() if outcome == "held"][:LINES_MAX]:
        yield words("held: {study}", study=study)
    for one in done["refused"][:LINES_MAX]:
        place = f"{one['file']} {one['place']}".rstrip()
        yield words("refused: {place}: {why} [{code}]", place=place, why=one["why"], code=one["code"])
    if len(done["refused"]) > LINES_MAX:
        yield words("… and {n} more", n=words.number(len(done["refused"]) - LINES_MAX))
    if done["is_plan"]:
        yield words("Nothing was changed. To do it: --apply instead of --plan.")
    elif done["counts"].get("imported") or done["counts"].get("held"):
        yield words(
            "Now: poterne serve, then poterne reconcile; new events of these exams come to this box from now on."
        )
