"""One exam's whole account for the command line: its timeline, what the PACS answered, what was said to the index.

Lines for a terminal and facts for JSON; masked or in clear, as whoever asked has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import tzinfo
from typing import Any

from gateway.i18n import Words
from gateway.web import details, vocabulary
from indexer import advice, exams, questions
from indexer.exchanges.reveal import Masked
from indexer.exchanges.rows import Listed, listed
from indexer.timeline import Exam
from security.outbox import jobs
from security.store.port import ReadTx

_BLANKS = "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What is known of one exam. ``is_paused``: somebody paused its tenant."""

    exam: Exam
    is_paused: bool
    pacs: tuple[questions.Answered, ...]
    exchanges: tuple[Listed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """What was sent and what came, as text. ``cut``: bytes of the answer that are not kept; ``withheld``: bytes of a
    credential that are kept nowhere."""

    request: str
    answer: str
    is_masked: bool
    cut: int = 0
    withheld: int = 0


def read(tx: ReadTx, tenant: str, study: str) -> Account:
    """The account of one exam; without a step when nobody knows it."""
    return Account(
        exam=exams.one(tx, tenant, study),
        is_paused=any(pause.tenant == tenant for pause in jobs.paused(tx)),
        pacs=tuple(questions.answers(tx, tenant, study)),
        exchanges=tuple(listed(tx, tenant, study)),
    )


def masked_sides(found: Masked) -> Sides:
    """Both sides for anybody."""
    return Sides(request=found.request, answer=found.answer, is_masked=True, cut=found.cut, withheld=found.withheld)


def clear_sides(request: bytes, answer: bytes, *, cut: int, withheld: int) -> Sides:
    """Both sides for who has the right; bytes that are no UTF-8 are shown by their number."""
    return Sides(
        request=request.decode("utf-8", "backslashreplace"),
        answer=answer.decode("utf-8", "backslashreplace"),
        is_masked=False,
        cut=cut,
        withheld=withheld,
    )


def facts(told: Account, shown: Mapping[int, Sides], words: Words, zone: tzinfo) -> dict[str, Any]:
    """The account as JSON values."""
    cause = advice.cause(told.exam, is_paused=told.is_paused)
    step = advice.next_step(told.exam, is_paused=told.is_paused)
    steps = [asdict(one) | {"words": details.told(one, words)} for one in told.exam.steps]
    return {
        **asdict(told.exam),
        "steps": steps,
        "cause": {"code": cause, "words": vocabulary.reason(cause, words) if cause else ""},
        "next": {
            "what": details.next_step(step, words, zone),
            "code": step.what.value,
            "who": step.who.value,
            "at": step.at,
        },
        "pacs": [asdict(one) for one in told.pacs],
        "exchanges": [
            asdict(one) | (asdict(shown[one.number]) if one.number in shown else {}) for one in told.exchanges
        ],
    }


def lines(told: Account, shown: Mapping[int, Sides], words: Words, zone: tzinfo) -> Sequence[str]:
    """What was said between us and the index, one line each; below it both sides where they are ``shown``."""
    made = [words("Said to the index (the bytes are kept sealed: --exchanges shows them masked):")]
    for one in told.exchanges:
        made += ["  " + printable(_line(one, words, zone))]
        if one.number in shown:
            made += _sides(shown[one.number], words)
    return made if told.exchanges else []


def _line(one: Listed, words: Words, zone: tzinfo) -> str:
    status = f"HTTP {one.http_status}" if one.http_status else ""
    size = details.sizes(one.request_bytes, one.answer_bytes, words) if one.number else ""
    said = [
        f"{one.began_at.astimezone(zone):%Y-%m-%d %H:%M:%S}",
        f"{one.transaction:<6}",
        one.url,
        status,
        details.outcome(one.outcome, words),
        details.took(one.began_at, one.ended_at, words),
        size,
    ]
    return "  ".join(part for part in said if part)


def _sides(sides: Sides, words: Words) -> Sequence[str]:
    asked = words("sent, masked:") if sides.is_masked else words("sent:")
    came = words("came, masked:") if sides.is_masked else words("came:")
    made = [f"    {asked}", *_indented(sides.request), f"    {came}", *_indented(sides.answer)]
    if sides.cut:
        made.append("    " + words("{n} more bytes came and are not kept", n=words.number(sides.cut)))
    if sides.withheld:
        made.append("    " + words("a credential of {n} bytes is kept nowhere", n=words.number(sides.withheld)))
    return made


def _indented(text: str) -> list[str]:
    return [f"      {printable(line)}" for line in text.splitlines()]


def printable(line: str) -> str:
    """A line as a terminal may have it: what is not printable is replaced (T31)."""
    return "".join(c if c.isprintable() or c in _BLANKS else "�" for c in line).rstrip()
