"""Comments and application data inside compressed frames, taken out without touching what is decoded (FF-50).

JPEG and JPEG-LS: COM and APPn segments (ITU-T T.81 B.2.4, T.87 C.1), except what a decoder needs: JFIF without a
thumbnail, Adobe's colour transform, the colour transform of JPEG-LS. JPEG 2000 and HTJ2K: COM segments of main and
tile-part headers (T.800 A.9.2). RLE (PS3.5 G) has no place for a comment.

Invariants:

* entropy-coded bytes are never changed;
* a frame without anything to take out is returned as the same bytes;
* a frame that is not understood to its end is refused, never passed on.
"""

from __future__ import annotations

import struct

from security.errors import BadInput

_SOI, _EOI, _SOS, _COM = 0xD8, 0xD9, 0xDA, 0xFE
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_J2K_COM, _J2K_TLM = 0xFF64, 0xFF55


def without_comments(frame: bytes, *, what: str) -> bytes:
    """The same codestream with nothing in it that only a person would read.

    Raises:
        BadInput: ``codestream-odd``, it is no JPEG, JPEG-LS or JPEG 2000 codestream or ends early.
    """
    try:
        if frame[:3] == b"\xff\xd8\xff":
            return _jpeg(frame)
        if frame[:4] == b"\xff\x4f\xff\x51":
            return _jpeg2000(frame)
    except (struct.error, IndexError, ValueError) as cause:
        raise _odd(what) from cause
    raise _odd(what)


def _odd(what: str) -> BadInput:
    return BadInput(
        f"{what}: a compressed frame is no complete JPEG, JPEG-LS or JPEG 2000 codestream",
        code="codestream-odd",
        hint="a person looks at the object; it leaves the site rendered or not at all",
    )


def _jpeg(frame: bytes) -> bytes:
    out = [frame[:2]]
    position = 2
    while True:
        start = position
        if frame[position] != 0xFF:
            raise ValueError(position)
        while frame[position + 1] == 0xFF:  # fill bytes, B.1.1.2
            position += 1
        marker = frame[position + 1]
        position += 2
        if marker == _EOI:
            out.append(b"\xff\xd9")
            break
        if marker in _ALONE:
            out.append(frame[start:position])
            continue
        (length,) = struct.unpack_from(">H", frame, position)
        end = position + length
        if length < 2 or end > len(frame):
            raise ValueError(position)
        if not _is_chatter(marker, frame[position + 2 : end]):
            out.append(frame[start:end])
        position = end
        if marker == _SOS:
            position = _scan_end(frame, end)
            out.append(frame[end:position])
    body = b"".join(out)
    rest = frame[position:]
    if rest.strip(b"\0\xff") == b"" and len(body) + len(rest) == len(frame):
        return frame
    return body + b"\0" * (len(body) % 2)


def _scan_end(frame: bytes, position: int) -> int:
    """Where the entropy-coded bytes end: at a marker neither stuffed nor a restart (B.1.1.5; T.87 C.1)."""
    while True:
        position = frame.index(b"\xff", position)
        after = frame[position + 1]
        if after == 0xFF:
            position += 1
        elif after < 0x80 or 0xD0 <= after <= 0xD7:
            position += 2
        else:
            return position


def _is_chatter(marker: int, body: bytes) -> bool:
    if marker == _COM:
        return True
    if not 0xE0 <= marker <= 0xEF:
        return False
    jfif = marker == 0xE0 and body[:5] == b"JFIF\0" and len(body) == 14 and body[12:14] == b"\0\0"
    adobe = marker == 0xEE and body[:5] == b"Adobe" and len(body) == 12
    transform = marker == 0xE8 and body[:4] == b"mrfx" and len(body) == 5
    return not (jfif or adobe or transform)


def _jpeg2000(frame: bytes) -> bytes:
    body, end, lengths_stay = _rebuilt(frame, {_J2K_COM})
    if not lengths_stay:  # then the optional table of tile-part lengths (A.7.1) goes too
        body, end, _ = _rebuilt(frame, {_J2K_COM, _J2K_TLM})
    rest = frame[end:]
    if rest.strip(b"\0") == b"" and len(body) + len(rest) == len(frame):
        return frame
    return body + b"\0" * (len(body) % 2)


def _rebuilt(frame: bytes, dropped: set[int]) -> tuple[bytes, int, bool]:
    """The codestream without some marker segments, where it ended, and whether every tile-part kept its length."""
    out = bytearray(frame[:2])
    position = 2
    while frame[position : position + 2] != b"\xff\x90":
        position = _segment(frame, position, len(frame), out, dropped)
    lengths_stay = True
    while frame[position : position + 2] == b"\xff\x90":
        before, start = len(out), position
        position = _tile_part(frame, position, out, dropped)
        lengths_stay = lengths_stay and len(out) - before == position - start
    if frame[position : position + 2] != b"\xff\xd9":
        raise ValueError(position)
    return bytes(out) + b"\xff\xd9", position + 2, lengths_stay


def _segment(frame: bytes, position: int, most: int, out: bytearray, dropped: set[int]) -> int:
    """One marker segment of a header copied, unless it is dropped; where the next begins."""
    marker, length = (
        int.from_bytes(frame[position : position + 2]),
        int.from_bytes(frame[position + 2 : position + 4]),
    )
    end = position + 2 + length
    if marker < 0xFF01 or length < 2 or end > most:
        raise ValueError(position)
    if marker not in dropped:
        out += frame[position:end]
    return end


def _tile_part(frame: bytes, start: int, out: bytearray, dropped: set[int]) -> int:
    """One tile-part, its length stated anew when its header loses a comment (A.4.2)."""
    (length,) = struct.unpack_from(">L", frame, start + 6)
    end = start + length if length else frame.rindex(b"\xff\xd9")
    if not start + 12 < end <= len(frame):
        raise ValueError(start)
    header = bytearray(frame[start : start + 12])
    position = start + 12
    while frame[position : position + 2] != b"\xff\x93":
        position = _segment(frame, position, end, header, dropped)
    if length:
        struct.pack_into(">L", header, 6, len(header) + end - position)
    out += header + frame[position:end]
    return end
