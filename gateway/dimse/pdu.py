"""Protocol data units (PS3.8 9.3): a byte stream cut into them, and the short ones written.

Invariants:

* a length is judged before a byte of what it announces is kept (T01);
* P-DATA is passed on piece by piece as it arrives, so memory does not depend on a PDU's size; the others are gathered
  up to ``ASSOCIATE_BYTES_MAX``;
* who sends many values that carry next to nothing breaks a rule: work for a byte is bounded (T02);
* a stream that broke a rule is not read any further.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

ASSOCIATE_BYTES_MAX = 256 * 1024  # an honest request of 121 contexts in 45 transfer syntaxes has 147,891 bytes
HEADER_BYTES = 6
_HEADER = struct.Struct(">BxL")
_PDV = struct.Struct(">LBB")
VALUES_FREE = 4096
VALUE_BYTES_MIN = 16
"""After so many values, the bytes they must carry on average: each costs us the same, whatever it carries."""

_TLS_RECORD = 0x16  # the first byte of a TLS handshake
_FIXED_LENGTH = 4  # of a release or an abort


class PduType(IntEnum):
    """PS3.8 table 9-1 and following."""

    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    P_DATA = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


class AbortReason(IntEnum):
    """Reasons of an abort by the provider (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class Violation(Exception):
    """The peer broke the protocol. ``reason``: for the A-ABORT; the message names the rule, not the bytes."""

    def __init__(self, message: str, reason: AbortReason = AbortReason.INVALID_PARAMETER) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pdu:
    """A whole PDU other than P-DATA; ``body`` without the six bytes of its header."""

    type: PduType
    body: bytes


class Fragment:
    """A piece of a presentation data value (PS3.8 9.3.5.1). ``data`` is valid until the next piece is asked for;
    ``is_last`` marks the last piece of the last fragment of a command or data set."""

    __slots__ = ("context_id", "data", "is_command", "is_last")

    def __init__(self, context_id: int, data: memoryview, *, is_command: bool, is_last: bool) -> None:
        self.context_id = context_id
        self.data = data
        self.is_command = is_command
        self.is_last = is_last


class PduReader:
    """The byte stream of one connection. ``data_bytes_max``: the maximum length we announced for P-DATA."""

    def __init__(self, *, data_bytes_max: int) -> None:
        self._data_bytes_max = max(data_bytes_max, ASSOCIATE_BYTES_MAX)
        self._head = bytearray()  # an unfinished header
        self._body: bytearray | None = None  # an unfinished PDU that is gathered
        self._type = PduType.ABORT
        self._left = 0  # bytes of the open PDU
        self._value_left = 0  # bytes of the open PDV
        self._context_id = self._control = 0
        self._values = self._carried = 0  # presentation data values so far, and the bytes in them
        self.mark = 0
        """Grows when a PDU begins and when its header is whole: the moments from which a deadline runs."""

    @property
    def is_between(self) -> bool:
        """No byte of an unfinished PDU came."""
        return not self._head and self._body is None and not self._left

    @property
    def left(self) -> int:
        """Bytes that the open PDU still lacks, 0 while its header is not whole."""
        return self._left

    def receive(self, data: memoryview) -> Iterator[Pdu | Fragment]:
        """What ``data`` completes. Take everything before the next call.

        Raises:
            Violation: a rule of PS3.8 9.3 is broken.
        """
        position, end = 0, len(data)
        while position < end:
            if self._value_left:
                take = min(end - position, self._value_left)
                yield self._piece(data[position : position + take])
                position += take
            elif self._body is not None:
                take = min(end - position, self._left)
                self._body += data[position : position + take]
                self._left -= take
                position += take
                if not self._left:
                    body, self._body = bytes(self._body), None
                    yield Pdu(self._type, body)
            else:
                if self.is_between:
                    self.mark += 1
                take = min(end - position, HEADER_BYTES - len(self._head))
                self._head += data[position : position + take]
                position += take
                if len(self._head) == HEADER_BYTES:
                    head, self._head = self._head, bytearray()
                    if self._left:
                        self._begin_value(head)
                        if not self._value_left:
                            yield self._piece(data[position:position])
                    else:
                        self._begin_pdu(head)

    def _begin_pdu(self, head: bytearray) -> None:
        code, length = _HEADER.unpack(head)
        try:
            self._type = PduType(code)
        except ValueError:
            what = "TLS on a plain listener?" if code == _TLS_RECORD else "not DICOM?"
            raise Violation(f"a PDU of unknown type {code}: {what}", AbortReason.UNRECOGNIZED_PDU) from None
        if self._type is PduType.P_DATA:
            if not HEADER_BYTES <= length <= self._data_bytes_max:
                raise Violation(f"a P-DATA PDU of {length} bytes, at most {self._data_bytes_max} are taken")
        else:
            if self._type in {PduType.RELEASE_RQ, PduType.RELEASE_RP, PduType.ABORT, PduType.ASSOCIATE_RJ}:
                fits = length == _FIXED_LENGTH
            else:
                fits = _FIXED_LENGTH <= length <= ASSOCIATE_BYTES_MAX
            if not fits:
                raise Violation(f"a PDU of type {code} announces {length} bytes")
            self._body = bytearray()
        self._left = length
        self.mark += 1

    def _begin_value(self, head: bytearray) -> None:
        length, self._context_id, self._control = _PDV.unpack(head)
        self._left -= HEADER_BYTES
        self._value_left = length - 2
        rest = self._left - self._value_left
        if self._value_left < 0 or rest < 0 or 0 < rest < HEADER_BYTES:
            raise Violation("the values of a P-DATA PDU do not fill it")
        if self._control > 3:
            raise Violation("reserved bits of a message control header are set")
        self._values += 1
        self._carried += self._value_left
        if self._values > VALUES_FREE and self._carried < self._values * VALUE_BYTES_MIN:
            raise Violation(f"{self._values} values that carry {self._carried} bytes")

    def _piece(self, data: memoryview) -> Fragment:
        self._left -= len(data)
        self._value_left -= len(data)
        return Fragment(
            self._context_id,
            data,
            is_command=bool(self._control & 1),
            is_last=bool(self._control & 2) and not self._value_left,
        )


def whole_pdu(kind: PduType, body: bytes) -> bytes:
    """A PDU with its header."""
    return _HEADER.pack(kind, len(body)) + body


def reject_pdu(result: int, source: int, reason: int) -> bytes:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return whole_pdu(PduType.ASSOCIATE_RJ, bytes((0, result, source, reason)))


def abort_pdu(reason: AbortReason) -> bytes:
    """A-ABORT by the service provider (PS3.8 9.3.8)."""
    return whole_pdu(PduType.ABORT, bytes((0, 0, 2, reason)))


RELEASE_RP = whole_pdu(PduType.RELEASE_RP, bytes(4))
"""A-RELEASE-RP (PS3.8 9.3.7)."""


def data_pdus(
    context_id: int, data: bytes | memoryview, *, is_command: bool, is_last: bool, bytes_max: int
) -> Iterator[bytes]:
    """P-DATA PDUs that carry ``data``, each of at most ``bytes_max`` bytes beyond its header (PS3.8 D.1)."""
    room = bytes_max - HEADER_BYTES
    position = 0
    while True:
        piece = data[position : position + room]
        position += len(piece)
        control = is_command | (2 if is_last and position >= len(data) else 0)
        yield b"".join(
            (
                _HEADER.pack(PduType.P_DATA, len(piece) + HEADER_BYTES),
                _PDV.pack(len(piece) + 2, context_id, control),
                piece,
            )
        )
        if position >= len(data):
            return
