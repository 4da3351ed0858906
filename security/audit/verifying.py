"""What was done to the trail since it was written: every edit, deletion, reorder, insertion, truncation and rollback,
with the place where it shows.

Three things are compared: each row's content with its leaf, the leaves with the signed heads of the database, and
both with the heads that an outside witness wrote down. What each of them tells:

* content and leaf differ, or content is gone and no record of an erasure says so → that row was edited; a number is
  missing → that row was deleted;
* the leaves of one segment do not give the segment's root → something in it was replaced, moved, put in or taken out;
* a signature is not that of its key, or no key that is trusted vouches for it → the heads were forged;
* the witness knows a head that the leaves do not give → the trail was rewritten or set back after that head;
* rows have waited too long for a head → the heads were cut off, or nobody makes them.

Invariants:

* the check is pure and is fed row by row: a trail of any length costs the same memory;
* whoever can write the database but has not the key-encryption key cannot make a head; whoever has both still cannot
  change what the witness wrote down. Without a witness a rollback of the whole database cannot be seen, and the
  report says that none was given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import pairwise

from security.audit import heads as heading
from security.audit.heads import Head, Key
from security.audit.record import ERASED, RESTORED, leaf_of_row
from security.audit.tree import HASH_BYTES, Frontier
from security.clock import from_ms
from security.store.port import ReadTx, Row, Store

ROWS_AT_ONCE = 10_000
HEAD_LATE = timedelta(minutes=15)
_FINDINGS_MAX = 1_000


class Kind(StrEnum):
    """What was found."""

    EDITED = "edited"
    DELETED = "deleted"
    CHANGED = "changed"
    TRUNCATED = "truncated"
    REWRITTEN = "rewritten"
    ROLLED_BACK = "rolled-back"
    RESTORED = "restored"
    HEAD_FORGED = "head-forged"
    KEY_UNKNOWN = "key-unknown"
    UNSEALED = "unsealed"


NOTES = frozenset({Kind.RESTORED})
"""Kinds that the trail itself explains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it was written. ``first`` and ``last``: the numbers of the records between which it
    lies, both included; 0 where none is concerned."""

    kind: Kind
    first: int = 0
    last: int = 0
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verification found. ``covered``: records under the newest head; ``witnessed``: heads the witness knows,
    None without a witness."""

    records: int
    covered: int
    heads: int
    witnessed: int | None
    findings: tuple[Finding, ...]

    @property
    def is_intact(self) -> bool:
        """Whether nothing was found that the trail does not explain."""
        return all(finding.kind in NOTES for finding in self.findings)


class Checker:
    """The check: ``row`` for each row by ascending number, then ``finish``.

    ``witness``: the heads of the outside witness, in the order it wrote them, None without one.
    """

    def __init__(
        self, heads: Sequence[Head], keys: Sequence[Key], witness: Sequence[Head] | None, *, now: datetime
    ) -> None:
        self._heads = heads
        self._witness = witness
        self._now = now
        self._findings: list[Finding] = []
        self._tree = Frontier()
        self._segment = Frontier()
        self._at_head = 0
        self._seen = 0
        self._last_seq = 0
        self._unsealed_since: int | None = None
        self._restores: list[datetime] = []
        self._erased: list[tuple[int, int]] = []
        self._erasures: list[tuple[int, int]] = []
        self._roots: dict[int, bytes] = {}
        self._wanted = {head.size for head in witness or ()}
        self._judge_heads(keys)

    @property
    def seen(self) -> int:
        """How many rows it was given."""
        return self._seen

    # -- heads alone ---------------------------------------------------------------------------------------------

    def _judge_heads(self, keys: Sequence[Key]) -> None:
        trusted = {head.key for head in self._witness or ()} or {key.public for key in keys[:1]}
        known = heading.vouched_for(keys, trusted) | self._before(keys, trusted)
        sizes = (0, *(head.size for head in self._heads))
        for before, head in zip(sizes, self._heads, strict=False):
            if not head.is_signed():
                self._find(Kind.HEAD_FORGED, before + 1, head.size, "the head over these is not signed by its key")
            elif head.key not in known:
                self._find(Kind.KEY_UNKNOWN, before + 1, head.size, "no trusted key vouches for the key of the head")

    @staticmethod
    def _before(keys: Sequence[Key], trusted: Iterable[bytes]) -> frozenset[bytes]:
        """Keys from which a chain of vouching leads to a trusted one."""
        wanted = frozenset(trusted)
        return frozenset(
            key.public for at, key in enumerate(keys) if wanted & heading.vouched_for(keys[at:], {key.public})
        )

    # -- rows ----------------------------------------------------------------------------------------------------

    def row(self, row: Row) -> None:
        """One row of the trail."""
        seq = row["seq"]
        if seq != self._last_seq + 1:
            self._find(Kind.DELETED, self._last_seq + 1, seq - 1, "no records have these numbers")
        while self._at_head < len(self._heads) and seq > self._heads[self._at_head].last_seq:
            self._close_segment()
        self._last_seq = seq
        if row["is_erased"]:
            self._note_erased(seq)
        elif leaf_of_row(row) != row["leaf"]:
            self._find(Kind.EDITED, seq, seq, "the content is not what was written")
        if len(row["leaf"]) == HASH_BYTES:
            self._tree.add(row["leaf"])
            self._segment.add(row["leaf"])
        self._seen += 1
        if self._tree.size in self._wanted:
            self._roots[self._tree.size] = self._tree.root()
        if row["event"] == RESTORED:
            self._restores.append(from_ms(row["at"]))
        if row["event"] == ERASED:
            self._erasures.append(_span(row["object_id"]))
        if self._at_head == len(self._heads) and self._unsealed_since is None:
            self._unsealed_since = row["at"]

    def _note_erased(self, seq: int) -> None:
        """One record without content; those that follow one another are kept as one span."""
        if self._erased and self._erased[-1][1] == seq - 1:
            self._erased[-1] = (self._erased[-1][0], seq)
        else:
            self._erased.append((seq, seq))

    def _close_segment(self, *, is_end: bool = False) -> None:
        """Every row of one head was seen. ``is_end``: no row follows."""
        head, number = self._heads[self._at_head], self._at_head
        before = self._heads[number - 1] if number else None
        first, many = (before.last_seq + 1, head.size - before.size) if before else (1, head.size)
        if self._segment.size == many and self._segment.root() == head.segment:
            if self._tree.size == head.size and self._tree.root() != head.root:
                self._find(Kind.REWRITTEN, 1, head.last_seq, "the root over all records differs from the signed one")
        elif is_end and self._last_seq < head.last_seq:
            self._find(Kind.TRUNCATED, max(first, self._last_seq + 1), head.last_seq, "no record is left there")
        else:
            self._find(
                Kind.CHANGED,
                first,
                head.last_seq,
                f"{self._segment.size} records give another root than the {many} that were signed",
            )
        self._segment = Frontier()
        self._at_head += 1

    # -- the end -------------------------------------------------------------------------------------------------

    def finish(self) -> Report:
        """What was found, in the order of the records."""
        while self._at_head < len(self._heads):
            self._close_segment(is_end=True)
        self._judge_unsealed()
        for first, last in self._erased:
            if not any(low <= first and last <= high for low, high in self._erasures):
                self._find(Kind.EDITED, first, last, "the content is gone, and no record says that it was erased")
        if self._witness is not None:
            self._judge_witness(self._witness)
        covered = self._heads[-1].size if self._heads else 0
        return Report(
            records=self._seen,
            covered=covered,
            heads=len(self._heads),
            witnessed=None if self._witness is None else len(self._witness),
            findings=tuple(sorted(self._findings, key=lambda one: (one.first, one.kind))),
        )

    def _judge_unsealed(self) -> None:
        since = self._unsealed_since
        if since is not None and self._now.timestamp() * 1000 - since > HEAD_LATE.total_seconds() * 1000:
            first = self._heads[-1].last_seq + 1 if self._heads else 1
            self._find(Kind.UNSEALED, first, self._last_seq, "no head covers these, though one was due long ago")

    def _judge_witness(self, witness: Sequence[Head]) -> None:
        """Each head that was written down must still be true, but for those that a restore left behind."""
        for before, after in pairwise(witness):
            if after.size <= before.size:
                self._set_back(after.size, before.size, before.at, after.at)
        shortest: int | None = None
        standing: list[Head] = []
        for head in reversed(witness):
            if shortest is None or head.size < shortest:
                standing.append(head)
                shortest = head.size
        for head in standing:
            if head.size > self._seen:
                self._set_back(self._seen + 1, head.size, head.at, self._now)
            elif self._roots.get(head.size) != head.root:
                self._find(Kind.REWRITTEN, 1, head.last_seq, f"the witness of {head.at:%Y-%m-%d %H:%M} UTC differs")
                return

    def _set_back(self, first: int, last: int, since: datetime, until: datetime) -> None:
        """Records ``first`` to ``last`` were there at ``since``, and no more at ``until``."""
        when = f"between {since:%Y-%m-%d %H:%M} and {until:%Y-%m-%d %H:%M} UTC"
        if any(since <= at <= until for at in self._restores):
            self._find(Kind.RESTORED, first, last, f"a restore set the database back {when}")
        else:
            self._find(Kind.ROLLED_BACK, first, last, f"the database was set back {when}")

    def _find(self, kind: Kind, first: int, last: int, words: str) -> None:
        if len(self._findings) < _FINDINGS_MAX:
            self._findings.append(Finding(kind=kind, first=first, last=last, words=words))


def _feed(checker: Checker, rows: Sequence[Row]) -> None:
    for row in rows:
        checker.row(row)


def _span(text: str) -> tuple[int, int]:
    """The numbers of ``first-last``; what is none covers nothing."""
    first, _, last = text.partition("-")
    return (int(first), int(last)) if first.isdecimal() and last.isdecimal() else (1, 0)


async def verify(
    store: Store, *, witness: Sequence[Head] | None, now: datetime, progress: Callable[[int], None] | None = None
) -> Report:
    """Check the whole trail of a database, while it is written to. ``progress``: told how many records were seen."""
    heads, keys = await store.read(lambda tx: (heading.heads(tx), heading.keys(tx)))
    checker, last = Checker(heads, keys, witness, now=now), 0
    while rows := await store.read(partial(_rows, after=last)):
        await asyncio.to_thread(_feed, checker, rows)
        last = rows[-1]["seq"]
        if progress:
            progress(checker.seen)
    return checker.finish()


def _rows(tx: ReadTx, after: int) -> list[Row]:
    return tx.rows(
        "SELECT * FROM audit_record WHERE seq > :after ORDER BY seq LIMIT :many", after=after, many=ROWS_AT_ONCE
    )
