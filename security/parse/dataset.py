"""A DICOM data set read as it streams by: its identifiers, and whether it holds together (T08, T10, T11, T13, FF-08).

``DataSetWalk`` looks at tags and lengths only (PS3.5 7): a value is stepped over, never kept, never decoded, except
the four identifiers, whose first occurrence at the top level is read.

Invariants:

* memory is a few headers and the open sequences, whatever the data set's size or announced lengths;
* whatever the bytes are, the caller sees nothing or ``BadInput`` with a ``dicom-…`` code;
* a data set that ends inside an element, nests without bound or inflates without bound is named, not repaired.

Leaves to others: Part 10 files and values (``security.parse.dicom``); what an identifier must look like
(``security.identity``).
"""

from __future__ import annotations

import struct
import zlib

from pydicom._dicom_dict import DicomDictionary

from security.errors import BadInput
from security.parse.identifiers import Identifiers

DEPTH_MAX = 64
INFLATED_MAX = 1024**3
INFLATE_RATIO_MAX = 200
_INFLATE_AT_ONCE = 256 * 1024
_INFLATE_FREE = 1024 * 1024  # bytes that any stream may inflate to, whatever its ratio

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
"""Transfer syntaxes whose whole data set is a deflated stream (PS3.5 A.5, A.6, A.7)."""

_SOP_CLASS, _SOP, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_WANTED = frozenset({_SOP_CLASS, _SOP, _STUDY, _SERIES})
_UID_BYTES_MAX = 256
_PIXELS = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # 32-bit lengths, PS3.5 7.1.2
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_SEQUENCES = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")


class _Open:
    """A sequence, an item or the data set itself, not ended yet. ``end``: offset after its last byte, None when a
    delimiter ends it."""

    __slots__ = ("end", "implicit", "kind")

    def __init__(self, kind: str, end: int | None, *, implicit: bool) -> None:
        self.kind = kind
        self.end = end
        self.implicit = implicit


class DataSetWalk:
    """One data set, given in pieces of any size to ``feed``, then ``close``. ``what`` names it in messages."""

    def __init__(self, transfer_syntax: str, *, what: str) -> None:
        self._what = what
        self._syntax = transfer_syntax
        self._order = ">" if transfer_syntax == EXPLICIT_BIG else "<"
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if transfer_syntax in DEFLATED else None
        self._deflated = self._inflated = 0
        self._open = [_Open("elements", None, implicit=transfer_syntax == IMPLICIT_LITTLE)]
        self._known = transfer_syntax.startswith("1.2.840.10008.")
        self._rest = b""  # a header or identifier that is not whole yet
        self._at = 0  # offset of the first byte of ``_rest``
        self._skip = 0  # bytes of a value that did not come yet
        self._found: dict[int, bytes] = {}

    @property
    def identifiers(self) -> Identifiers:
        """As far as they were met."""
        sop_class, sop, study, series = (
            self._found.get(tag, b"").decode("ascii", "replace").strip("\0 ")
            for tag in (_SOP_CLASS, _SOP, _STUDY, _SERIES)
        )
        return Identifiers(sop_class=sop_class, sop=sop, study=study, series=series)

    def feed(self, data: bytes | bytearray) -> None:
        """The next bytes.

        Raises:
            BadInput: ``dicom-malformed``, ``dicom-too-deep``, ``dicom-bomb``; nothing more may be fed.
        """
        if self._inflater is None:
            self._walk(data)
            return
        self._deflated += len(data)
        left = bytes(data)
        try:
            while left and not self._inflater.eof:
                piece = self._inflater.decompress(left, _INFLATE_AT_ONCE)
                left = self._inflater.unconsumed_tail
                self._inflated += len(piece)
                if self._inflated > min(INFLATED_MAX, max(_INFLATE_FREE, INFLATE_RATIO_MAX * self._deflated)):
                    raise _bad(f"{self._what}: {self._deflated} bytes inflate without bound", code="dicom-bomb")
                self._walk(piece)
        except zlib.error:
            raise _bad(f"{self._what}: not a deflated stream", code="dicom-malformed") from None

    def close(self) -> None:
        """The data set is complete.

        Raises:
            BadInput: ``dicom-truncated`` it ends inside an element, a sequence or the deflated stream;
                ``dicom-malformed`` it is empty.
        """
        if self._inflater is not None and not self._inflater.eof:
            raise _bad(f"{self._what}: the deflated stream ends early", code="dicom-truncated")
        self._leave()
        if self._rest or self._skip or len(self._open) > 1:
            raise _bad(f"{self._what}: ends inside an element", code="dicom-truncated")
        if self._at == 0:
            raise _bad(f"{self._what}: an empty data set", code="dicom-malformed")

    def _walk(self, data: bytes | bytearray) -> None:
        """Step over as many whole elements as there are."""
        if self._skip >= len(data):
            self._skip -= len(data)
            self._at += len(data)
            return
        buffer = self._rest + data if self._rest else data
        position, self._skip = self._skip, 0
        if not self._known and self._at == 0 and len(buffer) >= 8:
            self._known = True
            self._open[0].implicit = bytes(buffer[4:6]) not in _LONG | _SHORT  # a vendor's syntax: see what it is
        start = self._at
        while (step := self._element(buffer, position, start)) > position:
            position = step
            if position >= len(buffer):
                break
        if position >= len(buffer):
            self._skip, self._rest = position - len(buffer), b""
            self._at = start + len(buffer)
        else:
            self._rest = bytes(buffer[position:])
            self._at = start + position

    def _leave(self, at: int | None = None) -> None:
        """Close what ends here by its length."""
        at = self._at if at is None else at
        while len(self._open) > 1 and self._open[-1].end is not None and at >= self._open[-1].end:
            self._open.pop()

    def _element(  # noqa: PLR0911  one walk over the forms of PS3.5 7.1 and 7.5
        self, buffer: bytes | bytearray, position: int, start: int
    ) -> int:
        """The position after the element at ``position`` (beyond the buffer when its value is not there yet), or
        ``position`` itself when its header is not whole."""
        if len(self._open) > 1:
            self._leave(start + position)
        if len(buffer) - position < 8:
            return position
        group, element = struct.unpack_from(self._order + "HH", buffer, position)
        tag = group << 16 | element
        here = self._open[-1]
        if group == 0xFFFE or here.kind != "elements":
            return self._delimiter(tag, buffer, position, start)
        vr, length, value = self._header(buffer, position, implicit=here.implicit)
        if value == position:
            return position
        if length == _UNDEFINED:
            self._enter_undefined(tag, vr, implicit=here.implicit)
            return value
        self._check_fits(start + value + length)
        if vr == b"SQ" or (here.implicit and tag in _SEQUENCES):
            self._push("items", start + value + length, implicit=here.implicit)
            return value
        if tag in _WANTED and len(self._open) == 1 and tag not in self._found and length <= _UID_BYTES_MAX:
            if len(buffer) - value < length:
                return position
            self._found[tag] = bytes(buffer[value : value + length])
        return value + length

    def _header(self, buffer: bytes | bytearray, position: int, *, implicit: bool) -> tuple[bytes, int, int]:
        """VR (b"" where it is implicit), length, and position of the value; ``position`` when it is not whole."""
        if implicit:
            return b"", self._number("L", buffer, position + 4), position + 8
        vr = bytes(buffer[position + 4 : position + 6])
        if vr in _SHORT:
            return vr, self._number("H", buffer, position + 6), position + 8
        if vr not in _LONG:
            raise _bad(f"{self._what}: an element without a known VR", code="dicom-malformed")
        if len(buffer) - position < 12:
            return vr, 0, position
        return vr, self._number("L", buffer, position + 8), position + 12

    def _number(self, form: str, buffer: bytes | bytearray, position: int) -> int:
        return int(struct.unpack_from(self._order + form, buffer, position)[0])

    def _enter_undefined(self, tag: int, vr: bytes, *, implicit: bool) -> None:
        if vr in {b"SQ", b"UN"} or (implicit and tag != _PIXELS):
            self._push("items", None, implicit=implicit or vr == b"UN")  # PS3.5 6.2.2: UN holds implicit VR
        elif implicit or vr in {b"OB", b"OW"}:
            self._push("fragments", None, implicit=implicit)
        else:
            raise _bad(f"{self._what}: an element of undefined length that has none", code="dicom-malformed")

    def _delimiter(self, tag: int, buffer: bytes | bytearray, position: int, start: int) -> int:
        """An item, or the end of an item or a sequence (PS3.5 7.5)."""
        length = self._number("L", buffer, position + 4)
        here, value = self._open[-1], position + 8
        if tag == _ITEM and here.kind == "items":
            end = None if length == _UNDEFINED else start + value + length
            if end is not None:
                self._check_fits(end)
            self._push("elements", end, implicit=here.implicit)
            return value
        if tag == _ITEM and here.kind == "fragments" and length != _UNDEFINED:
            return value + length
        ends = {"elements": _ITEM_END, "items": _SEQUENCE_END, "fragments": _SEQUENCE_END}[here.kind]
        if tag != ends or here.end is not None or len(self._open) == 1:
            raise _bad(f"{self._what}: an item or its end where none can be", code="dicom-malformed")
        self._open.pop()
        return value

    def _push(self, kind: str, end: int | None, *, implicit: bool) -> None:
        if len(self._open) > 2 * DEPTH_MAX:
            raise _bad(f"{self._what}: sequences nested deeper than {DEPTH_MAX}", code="dicom-too-deep")
        self._open.append(_Open(kind, end, implicit=implicit))

    def _check_fits(self, end: int) -> None:
        """What begins inside a known length ends inside it."""
        for outer in reversed(self._open):
            if outer.end is not None:
                if end > outer.end:
                    raise _bad(f"{self._what}: an element longer than what holds it", code="dicom-malformed")
                return


def _bad(message: str, *, code: str) -> BadInput:
    return BadInput(message, code=code, hint="the sender must send the object again, complete and well-formed")
