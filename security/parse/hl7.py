"""The one door for HL7 v2 messages in ER7 (HL7 2.5 chapter 2).

``parse_message`` turns the bytes of one message into an immutable ``Message``; fields are split and unescaped
when they are read, by the standard's 1-based numbers (MSH-1 and MSH-2 included).

Invariants:

* bytes become text once, by MSH-18; bytes that do not fit the declaration are read as what they are (UTF-8 if
  they form it, else the fallback) and ``Charset.fell_back`` says so (FF-10);
* sizes are capped before work is done on them;
* a line that is no segment is a ``Problem`` of the message, so that one answer can name every reason; only what
  leaves nothing to read (no MSH, no character set that fits, a cap) raises;
* problems and errors name places, never values.

Whether a message makes sense is for the doors that read it (``gateway.hl7``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo

from security.errors import BadInput

SIZE_MAX = 32 * 1024 * 1024
LINE_ENDS_MAX = 10_000  # CR and LF together, before anything is split
FIELDS_MAX = 500  # per segment
REPETITIONS_MAX = 10_000  # per segment
ESCAPES_MAX = 1_000_000  # escape characters in one message: room for Base64 of any size folded with \.br\
_NULL = '""'  # 2.5 §2.5.3: the sender holds no value
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}", re.ASCII)
_C1 = re.compile(rb"[\x80-\x9f]")  # control codes of ISO 8859, letters and quotes of Windows-1252
_TS = re.compile(
    r"(1[89]\d\d|2\d{3})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?)?)?)?(?:([+-])(\d\d)(\d\d))?",
    re.ASCII,
)
_HINT = "correct the message at its sender and send it again"

CHARSETS = {  # MSH-18, table 0211 → Python codec
    "": "ascii",
    "ASCII": "ascii",
    "UNICODE UTF-8": "utf-8",
    "8859/1": "latin-1",
    "8859/15": "iso8859-15",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Charset:
    """How bytes became text: MSH-18 as declared, the codec used, whether the two disagree."""

    declared: str
    used: str
    fell_back: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One reason against a message, and where it is (HL7 ERR-2).

    ``code``: stable, words joined by hyphens. ``sequence``: which occurrence of ``segment``, from 1. ``field``:
    0 when the reason is about the whole segment. ``text``: what was expected and what to do, no patient value.
    """

    code: str
    text: str
    segment: str = ""
    sequence: int = 0
    field: int = 0


_SECOND_HEADER = Problem(
    code="second-header",
    segment="MSH",
    sequence=2,
    text="Two MSH segments in one frame: two messages ran into each other; send each in its own MLLP frame",
)


@dataclass(frozen=True, slots=True)
class Delimiters:
    r"""MSH-1 and MSH-2, and the codec that ``\Xhh\`` escapes are bytes of."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    codec: str = "utf-8"

    def unescape(self, text: str) -> str:
        """Plain text of an escaped value (2.5 §2.7). An escape this house does not know stays as it is."""
        if self.escape not in text:
            return text
        parts = text.split(self.escape)  # plain text at even places, commands between
        unclosed = self.escape + parts.pop() if len(parts) % 2 == 0 else ""
        return "".join(self._meaning(part) if i % 2 else part for i, part in enumerate(parts)) + unclosed

    def _meaning(self, command: str) -> str:
        known = {
            "F": self.field,
            "S": self.component,
            "T": self.subcomponent,
            "R": self.repetition,
            "E": self.escape,
            ".br": "\n",
        }
        as_sent = f"{self.escape}{command}{self.escape}"
        if not command.startswith("X"):
            return known.get(command, as_sent)
        try:
            return bytes.fromhex(command[1:]).decode(self.codec)
        except ValueError:  # not hexadecimal, or not this character set
            return as_sent


@dataclass(frozen=True, slots=True)
class Repetition:
    """One repetition of a field, still escaped in ``raw``."""

    raw: str
    delimiters: Delimiters

    def component(self, number: int, sub: int = 1) -> str:
        """Plain text of component ``number``, subcomponent ``sub``; "" when absent or null."""
        raw = _part(_part(self.raw, self.delimiters.component, number), self.delimiters.subcomponent, sub)
        return "" if raw == _NULL else self.delimiters.unescape(raw)

    def as_sent(self, number: int) -> str:
        """Component ``number`` whole and still escaped, for encoded data; "" when absent or null."""
        raw = _part(self.raw, self.delimiters.component, number)
        return "" if raw == _NULL else raw


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment. ``sequence``: which occurrence of this name in the message, from 1."""

    name: str
    sequence: int
    fields: tuple[str, ...]
    delimiters: Delimiters

    def field(self, number: int) -> tuple[Repetition, ...]:
        """The repetitions of field ``number`` that hold something, in order."""
        if not 1 <= number <= len(self.fields):
            return ()
        raw = self.fields[number - 1]
        if self.name == "MSH" and number <= 2:  # the delimiters themselves
            return (Repetition(raw, Delimiters("", "\0", "\0", "\0", "\0")),)
        return tuple(Repetition(part, self.delimiters) for part in raw.split(self.delimiters.repetition) if part)

    def text(self, number: int, component: int = 1, sub: int = 1) -> str:
        """Plain text in the first repetition of field ``number``; "" when absent or null."""
        repetitions = self.field(number)
        return repetitions[0].component(component, sub) if repetitions else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. ``problems``: lines that are no segment, a second MSH."""

    segments_in_order: tuple[Segment, ...]
    charset: Charset
    problems: tuple[Problem, ...]

    @property
    def header(self) -> Segment:
        """MSH, always there."""
        return self.segments_in_order[0]

    def segment(self, name: str) -> Segment | None:
        """The first segment of that name."""
        return next((segment for segment in self.segments_in_order if segment.name == name), None)

    def segments(self, name: str) -> tuple[Segment, ...]:
        """Every segment of that name, in order."""
        return tuple(segment for segment in self.segments_in_order if segment.name == name)


def parse_message(raw: bytes, *, fallback: str = "cp1252") -> Message:
    """Parse one ER7 message; segments end with CR, LF or both, blank lines are skipped.

    ``fallback``: codec for bytes that neither fit MSH-18 nor form UTF-8.

    Raises:
        BadInput: ``hl7-too-large``, ``hl7-no-msh``, ``hl7-bad-delimiters``, ``hl7-undecodable``,
            ``hl7-too-many-lines``, ``hl7-too-many-escapes``, ``hl7-too-many-fields``,
            ``hl7-too-many-repetitions``.
    """
    if len(raw) > SIZE_MAX:
        raise BadInput(f"HL7 message of {len(raw)} bytes, at most {SIZE_MAX}", code="hl7-too-large", hint=_HINT)
    if raw.count(b"\r") + raw.count(b"\n") > LINE_ENDS_MAX:
        raise BadInput(f"HL7 message of more than {LINE_ENDS_MAX} lines", code="hl7-too-many-lines", hint=_HINT)
    raw = raw.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n \t")
    charset, text = _decode(raw, fallback)
    delimiters = _delimiters(text, charset.used)
    if text.count(delimiters.escape) > ESCAPES_MAX:
        raise BadInput(
            f"HL7 message of more than {ESCAPES_MAX} escape characters", code="hl7-too-many-escapes", hint=_HINT
        )
    segments: list[Segment] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    broken_before = False
    for line in text.replace("\r", "\n").split("\n"):
        if not line or line.isspace():
            continue
        segment = _segment(line, seen, delimiters)
        if segment is not None:
            segments.append(segment)
            if segment.name == "MSH" and segment.sequence == 2:
                problems.append(_SECOND_HEADER)
        elif not broken_before:
            problems.append(_broken(segments[-1]))
        broken_before = segment is None
    return Message(segments_in_order=tuple(segments), charset=charset, problems=tuple(problems))


def parse_ts(text: str, default: tzinfo) -> datetime:
    """The aware start of an HL7 TS (``YYYY[MM[DD[HH[MM[SS[.f]]]]]][±ZZZZ]``); ``default``: zone when none stands.

    Raises:
        BadInput: ``hl7-bad-time``.
    """
    match = _TS.fullmatch(text)
    moment = _moment(match, default) if match else None
    if moment is None:
        raise BadInput(
            f"not an HL7 time stamp ({len(text)} characters)",
            code="hl7-bad-time",
            hint="expected YYYY[MM[DD[HH[MM[SS]]]]][±ZZZZ]",
        )
    return moment


def _moment(match: re.Match[str], default: tzinfo) -> datetime | None:
    """The moment the digits name, None when no calendar has it."""
    *numbers, fraction, sign, zone_h, zone_m = match.groups()
    year, month, day, hour, minute, second = (int(n) if n else None for n in numbers)
    try:
        zone = default
        if sign:
            offset = timedelta(hours=int(zone_h), minutes=int(zone_m))
            zone = timezone(-offset if sign == "-" else offset)
        microsecond = int((fraction or "").ljust(6, "0"))
        return datetime(
            year or 0, month or 1, day or 1, hour or 0, minute or 0, second or 0, microsecond, tzinfo=zone
        )
    except ValueError:
        return None


def escape(text: str, *, delimiters: Delimiters | None = None) -> str:
    """``text`` as one value of a message: delimiters and control characters become escapes (2.5 §2.7)."""
    d = delimiters or Delimiters()
    meanings = {d.escape: "E", d.field: "F", d.component: "S", d.subcomponent: "T", d.repetition: "R"}
    return "".join(
        f"{d.escape}{meanings[c]}{d.escape}"
        if c in meanings
        else f"{d.escape}X{ord(c):02X}{d.escape}"
        if c < " " or c == "\x7f"
        else c
        for c in text
    )


def _decode(raw: bytes, fallback: str) -> tuple[Charset, str]:
    """The text of the message and how it was found."""
    head = re.split(rb"[\r\n]", raw[:4096], maxsplit=1)[0].decode("latin-1")
    if not head.startswith("MSH") or len(head) < 8:
        raise BadInput("HL7 message without an MSH segment", code="hl7-no-msh", hint=_HINT)
    declared = _part(_part(_part(head, head[3], 18), head[5], 1), head[4], 1).strip()
    codec = CHARSETS.get(declared.upper(), "utf-8")
    if not raw.isascii() and codec != "utf-8":
        # ISO 8859 fits every byte, so a wrong label shows otherwise: text in French never forms UTF-8 by chance,
        # and it has no C1 control codes.
        codec = "utf-8" if _is_utf8(raw) else fallback if codec == "ascii" or _C1.search(raw) else codec
    for used in dict.fromkeys((codec, fallback)):
        try:
            text = raw.decode(used)
        except UnicodeDecodeError:
            continue
        known = CHARSETS.get(declared.upper())
        return Charset(declared=declared, used=used, fell_back=used != known), text
    raise BadInput(
        f"HL7 message in no known character set: neither MSH-18 nor {fallback} fits its bytes",
        code="hl7-undecodable",
        hint="declare the true character set in MSH-18",
    )


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _delimiters(text: str, codec: str) -> Delimiters:
    """MSH-1 and MSH-2: one field separator, then component, repetition, escape, subcomponent [, truncation]."""
    field = text[3]
    encoding = text[4:12].split(field, 1)[0]
    wanted = len(encoding) in {4, 5} and len({field, *encoding}) == len(encoding) + 1
    if not wanted or any(
        c.isalnum() or c in ' "' or not c.isascii() or not c.isprintable() for c in field + encoding
    ):
        raise BadInput("MSH-1 and MSH-2 do not hold five different delimiters", code="hl7-bad-delimiters", hint=_HINT)
    return Delimiters(field, encoding[0], encoding[1], encoding[2], encoding[3], codec)


def _segment(line: str, seen: dict[str, int], delimiters: Delimiters) -> Segment | None:
    """The segment a line holds, or None."""
    name = line[:3]
    if not _NAME.fullmatch(name) or line[3:4] not in {"", delimiters.field}:
        return None
    if line.count(delimiters.repetition) > REPETITIONS_MAX:
        raise BadInput(
            f"segment {name} with more than {REPETITIONS_MAX} repetitions",
            code="hl7-too-many-repetitions",
            hint=_HINT,
        )
    fields = line[4:].split(delimiters.field, FIELDS_MAX)
    if len(fields) > FIELDS_MAX:
        raise BadInput(f"segment {name} with more than {FIELDS_MAX} fields", code="hl7-too-many-fields", hint=_HINT)
    if name == "MSH":
        fields.insert(0, delimiters.field)
    seen[name] = seen.get(name, 0) + 1
    return Segment(name, seen[name], tuple(fields), delimiters)


def _broken(last: Segment) -> Problem:
    """The problem of one or more consecutive lines that are no segment."""
    return Problem(
        code="broken-line",
        segment=last.name,
        sequence=last.sequence,
        text=f"After segment {last.name} number {last.sequence} comes a line that is no segment (no three-character "
        "name and separator): a line break inside a field must be sent as \\.br\\",
    )


def _part(text: str, delimiter: str, number: int) -> str:
    """Part ``number``, from 1, of ``text`` split at ``delimiter``; "" when there are fewer. Splits no further."""
    parts = text.split(delimiter, number)
    return parts[number - 1] if number <= len(parts) else ""
