"""Heads of the trail written down where the database's administrator cannot take them back: one JSON line each.

Invariants:

* a line is on stable storage before the next step of the trail; what is written is only ever added to;
* each head is written once, also after a crash between the head and its line; heads made after the database was set
  back are written too, and show that it was;
* reading believes nothing: a line counts when its own signature is good, and one that is not is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from security.audit.heads import Head
from security.clock import from_ms, to_ms
from security.errors import BadInput, Unavailable

LINE_BYTES_MAX = 4096
_TAIL_BYTES = 64 * 1024
_NEVER = datetime.min.replace(tzinfo=UTC)
_MS_MAX = 253_402_300_799_000  # the last second of the year 9999
_Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Line(BaseModel):
    """What a line says. ``at``: milliseconds since 1970 UTC."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    size: Annotated[int, Field(ge=1)]
    last_seq: Annotated[int, Field(ge=1)]
    root: _Hash
    segment: _Hash
    at: Annotated[int, Field(ge=0, le=_MS_MAX)]
    key: _Hash
    signature: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]


def line(head: Head) -> str:
    """The line of a head, without its end."""
    return _Line(
        size=head.size,
        last_seq=head.last_seq,
        root=head.root.hex(),
        segment=head.segment.hex(),
        at=to_ms(head.at),
        key=head.key.hex(),
        signature=head.signature.hex(),
    ).model_dump_json()


def read_line(text: str, *, where: str) -> Head:
    """The head of a line.

    Raises:
        BadInput: ``witness-line`` it is no head, or its signature is not good.
    """
    try:
        said = _Line.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise BadInput(
            f"{where} is not a head of an audit trail: {place} {fault['msg']}".strip(),
            code="witness-line",
            hint="compare with another copy of the witness; a line that a crash cut may be taken out",
        ) from None
    head = Head(
        size=said.size,
        last_seq=said.last_seq,
        root=bytes.fromhex(said.root),
        segment=bytes.fromhex(said.segment),
        at=from_ms(said.at),
        key=bytes.fromhex(said.key),
        signature=bytes.fromhex(said.signature),
    )
    if not head.is_signed():
        raise BadInput(
            f"{where}: the signature is not that of its key over the head",
            code="witness-line",
            hint="compare with another copy of the witness",
        )
    return head


def read(path: Path) -> list[Head]:
    """Every head of a witness, in the order of the file.

    Raises:
        BadInput: ``witness-line``, with the line; ``witness-unreadable``.
    """
    found: list[Head] = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX), ""), start=1):
                if text.strip():
                    found.append(read_line(text, where=f"{path}, line {number}"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} cannot be read: {error}",
            code="witness-unreadable",
            hint="name the file that heads were added to",
        ) from error
    return found


class WitnessFile:
    """A file that heads are added to, best on another machine's disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._until: datetime | None = None

    @property
    def is_in_step(self) -> bool:
        """Whether every head it was given is written down."""
        return self._until is not None

    def last(self) -> datetime:
        """When the newest head was made that is written down; long ago when there is none.

        Raises:
            Unavailable: ``witness-unwritable``.
        """
        if self._until is None:
            with self._reachable():
                self._until = self._last_moment()
        assert self._until is not None
        return self._until

    def add(self, heads: Iterable[Head]) -> int:
        """Write down those that are newer than the last line; how many.

        Raises:
            Unavailable: ``witness-unwritable``; the same heads may be added later.
        """
        since = self.last()
        news = [head for head in heads if head.at > since]
        if not news:
            return 0
        with self._reachable():
            is_new = os.O_CREAT if since == _NEVER else 0  # one that is gone is told, not begun anew in silence
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | is_new, 0o640)
            try:
                data = "".join(line(head) + "\n" for head in news).encode()
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self._until = news[-1].at
        return len(news)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """What fails in the block leaves it open how far the file goes."""
        try:
            yield
        except OSError as error:
            self._until = None
            raise Unavailable(
                f"the audit witness {self._path} cannot be written: {error.strerror}",
                code="witness-unwritable",
                hint="mount it again, or set audit.witness_file; heads are kept and written then",
            ) from error

    def _last_moment(self) -> datetime:
        """When the head of the last whole line was made. What a crash left of a line is ended."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return _NEVER
        try:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            tail = os.pread(descriptor, _TAIL_BYTES, max(end - _TAIL_BYTES, 0))
            if tail and not tail.endswith(b"\n"):
                os.write(descriptor, b"\n")
        finally:
            os.close(descriptor)
        for text in reversed(tail.decode("utf-8", "replace").splitlines()):
            try:
                return read_line(text, where=str(self._path)).at
            except BadInput:
                continue  # cut by a crash; the line before it counts, and its head is written again
        return _NEVER
