"""The datatypes of a Bundle in the making, as plain JSON: what identifies is whole or the manifest is refused."""

from __future__ import annotations

import re
from datetime import date, datetime, timezone
from typing import Any

from indexer.fhir import vocabulary as v
from indexer.fhir.narrative import printable
from indexer.report import Coded
from security.errors import BadInput

Json = dict[str, Any]

_DA = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})", re.ASCII)
_TM = re.compile(r"([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(\.[0-9]{1,6})?)?)?", re.ASCII)
_CODE = re.compile(r"\S+( \S+)*")  # FHIR R4 code, one blank at most between words
_SYSTEM = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", re.ASCII)  # an absolute URI
_INTEGER_MAX = 2**31 - 1


def refused(code: str, why: str) -> BadInput:
    """The refusal of a manifest. ``why``: what is wrong, no value."""
    return BadInput(
        f"no manifest document can be made: {why}",
        code=code,
        hint="correct the report, the PACS or the tenant's settings, then release the exam",
    )


def identifier(issuer: str, value: str, what: str) -> Json:
    """Identifier of an issuer, "" when nobody names one. ``what``: the name of the number in a refusal."""
    return stated({"system": system(issuer, what), "value": whole(value, what)})


def procedure(coded: Coded) -> Json:
    """With text, whatever the display: MADO's mado-reqproc-1."""
    return {**concept(coded), "text": printable(coded.display) or coded.code}


def concept(coded: Coded) -> Json:
    """CodeableConcept of one coding."""
    return {"coding": [coding(coded)]}


def coding(coded: Coded) -> Json:
    """Coding, its system as a URI."""
    return stated(
        {
            "system": system(coded.system, "code system"),
            "code": code(coded.code, "code"),
            "display": printable(coded.display),
        }
    )


def code(text: str, what: str) -> str:
    """FHIR code: written as it is, or not at all."""
    if not _CODE.fullmatch(text) or printable(text) != text:
        raise refused("fhir-text", f"a {what} is empty or holds a character that FHIR forbids")
    return text


def system(oid: str, what: str) -> str:
    """URI of an OID; a URI stays one, anything else is refused as ``fhir-system``."""
    url = v.url_of(oid)
    if url and not _SYSTEM.fullmatch(url):
        raise refused("fhir-system", f"the issuer or system of a {what} is neither an OID nor a URI")
    return url


def whole(text: str, what: str) -> str:
    """Text that identifies: written as it is, or not at all. ``what`` names it in the refusal."""
    if not text or printable(text) != text:
        raise refused("fhir-text", f"the {what} is empty, has blanks at its edges or a character FHIR forbids")
    return text


def unsigned(number: int | None) -> int | None:
    """FHIR unsignedInt: 0 to 2^31 - 1; any other number is not written."""
    return number if number is not None and 0 <= number <= _INTEGER_MAX else None


def stated(resource: Json) -> Json:
    """Without the members that say nothing: FHIR has no empty text, list or object (R4, JSON)."""
    return {name: value for name, value in resource.items() if value is not None and value not in ("", [], {})}


def day(stated: str) -> str:
    """FHIR date of a DA, "" when there is no such day."""
    read = _DA.fullmatch(stated)
    try:
        return date(*map(int, read.groups())).isoformat() if read else ""
    except ValueError:
        return ""


def clock(stated: str) -> str:
    """HH:MM:SS[.f] of a TM, "" when there is no such time (a leap second is one that readers of FHIR lack). FHIR has
    no time of less than seconds (R4, dateTime): zero ones stand for those left out."""
    read = _TM.fullmatch(stated)
    if read is None:
        return ""
    hours, minutes, seconds = (part or "00" for part in read.groups()[:3])
    possible = hours < "24" and minutes < "60" and seconds < "60"
    return f"{hours}:{minutes}:{seconds}{read[4] or ''}" if possible else ""


def offset(zone: timezone) -> str:
    """+HH:MM, as isoformat writes it."""
    return datetime(2000, 1, 1, tzinfo=zone).isoformat()[19:]
