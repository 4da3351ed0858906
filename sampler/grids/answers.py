"""The rules of an answer (peer audit §4): what C, NC, NA and NE need before they are taken.

Invariants:

* NC has a comment and at least one piece of evidence; NA has a reason of the list, and only NA has one;
* a mandatory item is NA for ``OTHER`` only when the lead auditor approved it;
* evidence is a hash, a place in a pseudonymised image, or the number of an interview note: never a name;
* an item that was not answered is NE: ``complete`` adds it.

Pure. Who answered and when is the ledger's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from sampler.grids.grid import Grid, Item, Level, is_plain
from security.errors import BadInput

Verdict = Literal["C", "NC", "NA", "NE"]
Reason = Literal["", "MODALITY", "CONTEXT", "NOT_REQUESTED", "OTHER"]
COLUMNS = ("item", "answer", "reason", "comment", "evidence", "approved_by")
EVIDENCE = re.compile(
    r"sha256:[0-9a-f]{64}"
    r"|dicom:2\.25\.[1-9][0-9]{0,38}(?:#[1-9][0-9]{0,5})?"  # pseudonymised UIDs alone (§8.1), and a frame
    r"|note:[A-Za-z0-9._-]{1,32}"
)
COMMENT_MAX = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer. ``approved_by``: the lead auditor who let a mandatory item be NA for ``OTHER``, "" for none."""

    item: str
    verdict: Verdict = "NE"
    reason: Reason = ""
    comment: str = ""
    evidence: tuple[str, ...] = ()
    approved_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why an answer is not taken: a code of ``PROBLEMS``, and the item."""

    item: str
    code: str


PROBLEMS = {
    "unknown-item": "the grid has no such item for this",
    "answered-twice": "the item is answered twice",
    "no-such-answer": "the answer is none of C, NC, NA, NE",
    "comment-missing": "NC needs a comment",
    "evidence-missing": "NC needs evidence",
    "evidence-form": "evidence is sha256:…, dicom:<pseudonymised UID>#<frame> or note:<number>",
    "reason-missing": "NA needs a reason: MODALITY, CONTEXT, NOT_REQUESTED or OTHER",
    "reason-without-na": "only NA has a reason",
    "approval-missing": "a mandatory item is NA for OTHER only when the lead auditor approved it",
    "comment-too-long": "a comment has 2,000 characters at most, on lines without control characters",
}


def problems(grid: Grid, level: Level, answers: Sequence[Answer], *, leads: frozenset[str]) -> list[Problem]:
    """Everything that keeps these answers from being taken. ``leads``: who may approve."""
    items = {one.code: one for one in grid.of_level(level)}
    found: list[Problem] = []
    seen: set[str] = set()
    for answer in answers:
        item = items.get(answer.item)
        if item is None:
            found.append(Problem(item=answer.item[:32], code="unknown-item"))
            continue
        if answer.item in seen:
            found.append(Problem(item=answer.item, code="answered-twice"))
        seen.add(answer.item)
        found += [Problem(item=answer.item, code=code) for code in _broken(item, answer, leads)]
    return found


def _broken(item: Item, answer: Answer, leads: frozenset[str]) -> Iterable[str]:
    if answer.verdict not in get_args(Verdict):
        yield "no-such-answer"
    if answer.verdict == "NC" and not answer.comment.strip():
        yield "comment-missing"
    if answer.verdict == "NC" and not answer.evidence:
        yield "evidence-missing"
    if not all(EVIDENCE.fullmatch(one) for one in answer.evidence):
        yield "evidence-form"
    if len(answer.comment) > COMMENT_MAX or not is_plain(answer.comment.replace("\n", " ")):
        yield "comment-too-long"
    is_reason = answer.reason != "" and answer.reason in get_args(Reason)
    if answer.verdict == "NA" and not is_reason:
        yield "reason-missing"
    if answer.verdict != "NA" and answer.reason:
        yield "reason-without-na"
    if answer.verdict == "NA" and answer.reason == "OTHER" and item.is_mandatory and answer.approved_by not in leads:
        yield "approval-missing"


def checked(grid: Grid, level: Level, answers: Sequence[Answer], *, leads: frozenset[str]) -> tuple[Answer, ...]:
    """The answers of one case or service, in the grid's order, those not given as NE.

    Raises:
        BadInput: ``answers-rules`` the items and what each lacks.
    """
    found = problems(grid, level, answers, leads=leads)
    if found:
        said = "; ".join(f"{one.item}: {PROBLEMS[one.code]}" for one in found[:10])
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        raise BadInput(f"answers: {said}{more}", code="answers-rules", hint="correct them and send all of them again")
    return complete(grid, level, answers)


def complete(grid: Grid, level: Level, answers: Iterable[Answer]) -> tuple[Answer, ...]:
    """One answer for each item of the level, in the grid's order; NE where there was none."""
    given = {one.item: one for one in answers}
    return tuple(given.get(item.code, Answer(item=item.code)) for item in grid.of_level(level))


def answer_of(cells: dict[str, str]) -> Answer:
    """The answer of a row under ``COLUMNS``, not yet checked; ``evidence``: references apart by blanks."""
    return Answer(
        item=cells["item"].strip(),
        verdict=cast("Verdict", cells["answer"].strip()),
        reason=cast("Reason", cells["reason"].strip()),
        comment=cells["comment"].strip(),
        evidence=tuple(cells["evidence"].split()),
        approved_by=cells["approved_by"].strip(),
    )
