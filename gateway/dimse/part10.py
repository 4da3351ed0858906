"""The head of a Part 10 file (PS3.10 7.1) in front of a received data set, and that head read back.

128 zero bytes, DICM, group 0002. The preamble is always empty: what a sender's file had there never travels by DIMSE,
and nobody smuggles a programme through us (T12).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gateway.dimse.negotiation import IMPLEMENTATION, IMPLEMENTATION_VERSION

_PREFIX = bytes(128) + b"DICM"
_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sHL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What the head says: the command's identifiers, the syntax of the association, the sender."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    source_aet: str


def write_head(meta: Meta) -> bytes:
    """Preamble, prefix and file meta information; texts beyond what their VR may hold are cut."""
    body = _LONG.pack(2, 0x0001, b"OB", 0, 2) + b"\0\1"
    body += _element(0x0002, b"UI", meta.sop_class)
    body += _element(0x0003, b"UI", meta.sop_instance)
    body += _element(0x0010, b"UI", meta.transfer_syntax)
    body += _element(0x0012, b"UI", IMPLEMENTATION)
    body += _element(0x0013, b"SH", IMPLEMENTATION_VERSION)
    body += _element(0x0016, b"AE", meta.source_aet)
    return _PREFIX + _SHORT.pack(2, 0, b"UL", 4) + struct.pack("<L", len(body)) + body


def _element(element: int, vr: bytes, text: str) -> bytes:
    raw = text.encode("ascii", "replace")[:64]
    raw += (b"\0" if vr == b"UI" else b" ") * (len(raw) % 2)
    return _SHORT.pack(2, element, vr, len(raw)) + raw


def read_head(data: bytes) -> tuple[Meta, int]:
    """What ``write_head`` wrote at the beginning of ``data``, and where the data set begins.

    Raises:
        ValueError: it did not write this.
    """
    try:
        if not data.startswith(_PREFIX):
            raise ValueError("no head of ours")
        position = len(_PREFIX)
        (length,) = struct.unpack_from("<L", data, position + _SHORT.size)
        position += _SHORT.size + 4
        end, found = position + length, dict[int, str]()
        position += _LONG.size + 2
        while position < end:
            _, element, _, size = _SHORT.unpack_from(data, position)
            position += _SHORT.size
            found[element] = data[position : position + size].decode("ascii").strip("\0 ")
            position += size
    except struct.error as error:
        raise ValueError("no head of ours") from error
    meta = Meta(
        sop_class=found.get(0x0002, ""),
        sop_instance=found.get(0x0003, ""),
        transfer_syntax=found.get(0x0010, ""),
        source_aet=found.get(0x0016, ""),
    )
    return meta, end
