"""What ``poterne reconcile`` tells: counts per case, the studies of each, in words. From the facts of
``indexer.reconciliation.round.Report`` and of ``gateway.inventory.Stock`` as they cross the control socket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.i18n import N_, Words

LINES_MAX = 50
"""Studies a case shows; the rest is counted, and all of them are in ``--json``."""
_QUIET = frozenset({"in-step", "withdrawn", "kept-out", "under-way", "absent-everywhere"})
_UNCLEAN = frozenset({"day-unknown", "index-unknown", "pacs-unknown", "pacs-unproven", "adoption-waits"})

SAID: Final[Mapping[str, str]] = {
    "in-step": N_("PACS, database and index agree"),
    "under-way": N_("under way: a task of theirs is not finished"),
    "index-unknown": N_("the index gave no clean answer: nothing concluded"),
    "adoption-waits": N_("the index holds an entry of ours that was forgotten here, and the PACS cannot say what of"),
    "entry-adopted": N_("the index held an entry of ours that was forgotten here: adopted"),
    "withdrawn-visible": N_("withdrawn here and shown by the index: withdrawn again"),
    "withdrawn": N_("withdrawn, and stay so"),
    "withdrawal-adopted": N_("withdrawn at the index, and that was forgotten here: noted, their reports are held"),
    "kept-out-visible": N_("taken out by a person and shown by the index: to be withdrawn"),
    "kept-out": N_("taken out by a person, and stay so"),
    "patient-opposed": N_("the patient is opposed, and the index shows them: to be withdrawn"),
    "no-valid-report": N_("no valid report, and the index shows them: to be withdrawn"),
    "not-to-publish": N_("their reports do not let them be published"),
    "pacs-unknown": N_("a PACS gave no clean answer: nothing concluded"),
    "pacs-unproven": N_("absent from a PACS without control_study: that proves nothing"),
    "absent-twice": N_("twice absent from the PACS, an hour apart: to be withdrawn"),
    "absent-once": N_("absent from the PACS for the first time: looked at again in an hour or later"),
    "absent-too-soon": N_("absent from the PACS for less than an hour"),
    "absent-everywhere": N_("neither in the PACS nor in the index"),
    "stopped": N_("held or failed: a person or an event must lift them"),
    "entry-deprecated": N_("deprecated at the index by somebody else: held for a person"),
    "entry-missing": N_("shown by the index before and now missing: held for a person"),
    "never-published": N_("reported and in the PACS, missing from the index: published"),
    "contradicted": N_("the PACS contradicts the report: held for a person"),
    "content-differs": N_("PACS or report say other than the index: replaced"),
    "visibility-differs": N_("the index does not hide them from whom the reports do: mended"),
    "without-report": N_("in the PACS, and no report ever spoke of them: let the RIS send their reports"),
    "day-unknown": N_("days of which the PACS gave no clean list: run them again"),
}


FILES: Final[Mapping[str, str]] = {
    "adopted": N_("had no row: given one again"),
    "quarantined": N_("of these in quarantine: a person must look (poterne pacs inbox)"),
    "put_aside": N_("do not open, or are not what their name says: put aside in the folder unreadable"),
    "lost": N_("rows whose file is gone: check the disk, let their senders send them again"),
}
PARTS: Final[Mapping[str, str]] = {
    "received": N_("the files of received objects"),
    "trail": N_("the audit trail"),
}


def needs_a_person(found: Mapping[str, Any]) -> bool:
    """Whether the run stopped, something could not be told, or what is our own is not as it was written."""
    received, trail = found.get("received"), found.get("trail")
    return (
        found["state"] == "stopped"
        or any(found["counts"].get(case) for case in _UNCLEAN)
        or bool(found.get("unchecked"))
        or bool(received and (received["lost"] or received["quarantined"] or received["put_aside"]))
        or bool(trail and not trail["is_intact"])
    )


def text(found: Mapping[str, Any], words: Words) -> Iterator[str]:
    """The report as lines for a person."""
    yield words.count(
        "{tenant}: {n} exam looked at in {span}; questions: {pacs} to the PACS, {index} to the index",
        "{tenant}: {n} exams looked at in {span}; questions: {pacs} to the PACS, {index} to the index",
        found["looked_at"],
        tenant=found["tenant"],
        span=words.span(found["seconds"]),
        pacs=words.number(found["asked"]["pacs"]),
        index=words.number(found["asked"]["index"]),
    )
    for case, said in SAID.items():
        if number := found["counts"].get(case, 0):
            yield f"  {words.number(number):>8}  {words(said)} [{case}]"
            if case not in _QUIET:
                yield from _studies(found, case, words)
    if found["state"] == "stopped":
        yield words(
            "STOPPED: more withdrawals than one run may ask for. Nothing was withdrawn. Look at the studies above; if"
            " they are right and two persons agreed, run again with --withdraw-up-to, their number, and --consent."
        )


def own(found: Mapping[str, Any], words: Words) -> Iterator[str]:
    """What the gateway found of its own, as lines for a person: received objects, audit trail."""
    if received := found.get("received"):
        yield words.count(
            "{n} file of received objects compared with their rows",
            "{n} files of received objects compared with their rows",
            received["files"],
        )
        for case, said in FILES.items():
            number = len(received[case]) if case == "lost" else received[case]
            if number:
                yield f"  {words.number(number):>8}  {words(said)} [file-{case.replace('_', '-')}]"
        for one in received["lost"][:LINES_MAX]:
            yield f"              {one['study']}  {one['sop']}"
    if trail := found.get("trail"):
        if trail["is_intact"]:
            yield words.count(
                "audit trail: {n} record, as it was written",
                "audit trail: {n} records, as they were written",
                trail["records"],
            )
        else:
            kinds = ", ".join(sorted({one["kind"] for one in trail["findings"]}))
            yield words("AUDIT TRAIL ALTERED ({kinds}): poterne audit verify says where", kinds=kinds)
    for what, code in found.get("unchecked", {}).items():
        yield words("NOT CHECKED: {what} [{code}]", what=words(PARTS[what]), code=code)


def _studies(found: Mapping[str, Any], case: str, words: Words) -> Iterator[str]:
    studies = [one["study"] for one in found["drift"] if one["case"] == case]
    for study in studies[:LINES_MAX]:
        yield f"              {study}"
    if len(studies) > LINES_MAX:
        yield words("  … and {n} more: --json lists them all", n=words.number(len(studies) - LINES_MAX))
