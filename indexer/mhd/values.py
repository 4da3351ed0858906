"""Single values between XDS and FHIR: codes, identifiers, moments, persons, structures, hashes.

Invariants:

* each pair of functions is a way there and back: what XDS says and FHIR can hold comes back the same;
* HL7 escapes are undone on the way to FHIR and made again on the way back (HL7 v2.5 §2.7);
* a reader never guesses: what it cannot map raises ``BadInput`` that names the place, never the value.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from indexer.fhir import vocabulary as fhir
from indexer.mhd import vocabulary as mhd
from indexer.xds import vocabulary as xds
from security.errors import BadInput

Resource = dict[str, Any]

_ESCAPES = {"\\E\\": "\\", "\\S\\": "^", "\\T\\": "&", "\\F\\": "|", "\\R\\": "~"}
_ESCAPED = re.compile(r"\\[ESTFR]\\")
_UNESCAPED = str.maketrans({text: escape for escape, text in _ESCAPES.items()})
_MOMENT = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII
)
_DTM = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?", re.ASCII)
_REFERENCE_TYPES = {xds.REFERENCE_ACCESSION: fhir.ACCESSION, xds.REFERENCE_ORDER: fhir.PLACER}
_GENDERS = {"M": "male", "F": "female", "O": "other", "U": "unknown"}
_NAME_USES = {"D": "usual", "L": "official"}  # HL7 table 0200
_SHA1_BYTES = 20


def unfit(what: str, *, code: str = "XDSRegistryMetadataError") -> BadInput:
    """The refusal of a resource. ``what``: the element and what is wrong with it, no value."""
    return BadInput(what, code=code, hint="correct the resource and send it again (IHE ITI MHD 4.2)")


# -- reading JSON of a known shape ---------------------------------------------------------------------------------


def text(holder: Any, key: str, where: str) -> str:
    """A text member, stripped, "" when it is absent."""
    value = holder.get(key, "") if isinstance(holder, Mapping) else ""
    if not isinstance(value, str):
        raise unfit(f"{where}.{key} is no text")
    return value.strip()


def item(holder: Any, key: str, where: str) -> Resource:
    """An object member, {} when it is absent."""
    value = holder.get(key, {}) if isinstance(holder, Mapping) else {}
    if not isinstance(value, dict):
        raise unfit(f"{where}.{key} is no object")
    return value


def items(holder: Any, key: str, where: str) -> list[Resource]:
    """The objects of a list member, [] when it is absent."""
    value = holder.get(key, []) if isinstance(holder, Mapping) else []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise unfit(f"{where}.{key} is no list of objects")
    return value


def extensions(holder: Any, url: str, where: str) -> list[Resource]:
    """The extensions with that URL."""
    return [one for one in items(holder, "extension", where) if one.get("url") == url]


# -- codes -------------------------------------------------------------------------------------------------------


def coding(code: str, system: str, display: str) -> Resource:
    """Coding of a code in the scheme ``system`` (an OID, or any other text of XDS)."""
    url = fhir.FORMAT_CODE if system in mhd.FORMAT_CODE_OIDS else fhir.url_of(system)
    return {"system": url, "code": code} | ({"display": display} if display and display != code else {})


def coded(value: Any, where: str) -> tuple[str, str, str]:
    """Code, scheme and display of a Coding; the code stands for a display that is absent."""
    code, system = text(value, "code", where), text(value, "system", where)
    if not code or not system:
        raise unfit(f"{where} lacks code or system")
    match system:
        case fhir.FORMAT_CODE:
            scheme = mhd.FORMAT_CODE_OIDS[0]
        case fhir.DICOM_UIDS:
            scheme = fhir.oid_of(fhir.DCMUID)
        case _:
            scheme = fhir.oid_of(system)
    return code, scheme, text(value, "display", where) or code


def concept(code: str, system: str, display: str) -> Resource:
    """CodeableConcept with that one coding."""
    return {"coding": [coding(code, system, display)]}


def concept_coding(value: Any, where: str) -> Resource:
    """The first Coding of a CodeableConcept."""
    found = items(value, "coding", where)
    if not found:
        raise unfit(f"{where} has no coding")
    return found[0]


# -- identifiers ---------------------------------------------------------------------------------------------------


def unique_id_value(unique_id: str) -> Resource:
    """System and value of a uniqueId: an OID, or ``OID^extension`` (ITI TF-3 4.2.3.2.26)."""
    root, caret, extension = unique_id.partition("^")
    if caret:
        return {"system": fhir.url_of(root), "value": extension}
    return {"system": fhir.URI, "value": fhir.URN_OID + unique_id}


def typed_identifier(kind: str, value: Resource) -> Resource:
    """An Identifier of MHD's own type ``kind`` (uniqueId, entryUUID)."""
    return {"type": {"coding": [{"system": mhd.IDENTIFIER_TYPES, "code": kind}]}, "use": "usual"} | value


def unique_id_of(identifier: Any, where: str) -> str:
    """The XDS uniqueId of an Identifier. Raises ``BadInput`` for anything but an OID."""
    system, value = text(identifier, "system", where), text(identifier, "value", where)
    if system == fhir.URI and fhir.is_oid(value.removeprefix(fhir.URN_OID)):
        return value.removeprefix(fhir.URN_OID)
    if system.startswith(fhir.URN_OID) and value:
        return f"{system.removeprefix(fhir.URN_OID)}^{value}"
    raise unfit(f"{where} is no urn:oid: identifier")


def identifier_of_cx(cx: str) -> Resource:
    """Identifier of a CX ``id^^^&OID&ISO[^type]``."""
    parts = [*cx.split("^"), "", "", "", "", ""]
    authority = parts[3].split("&")[1] if parts[3].count("&") == 2 else ""
    made: Resource = {"system": fhir.url_of(authority)} if authority else {}
    made["value"] = unescaped(parts[0])
    if parts[4]:
        made["type"] = {"coding": [{"system": fhir.IDENTIFIER_TYPE, "code": parts[4]}]}
    return made


def cx_of(identifier: Any, where: str) -> str:
    """CX of an Identifier issued under an OID; its type code of v2-0203 is kept.

    Raises:
        BadInput: ``XDSUnknownPatientId`` no value, or no OID as system.
    """
    system, value = text(identifier, "system", where), text(identifier, "value", where)
    if not value or not system.startswith(fhir.URN_OID) or not fhir.is_oid(system.removeprefix(fhir.URN_OID)):
        raise unfit(f"{where} is no identifier under urn:oid:", code="XDSUnknownPatientId")
    return _cx(value, system.removeprefix(fhir.URN_OID), _type_code(identifier, where))


def related_of_cxi(cxi: str) -> Resource:
    """Logical reference of DocumentReference.context.related for one value of referenceIdList."""
    parts = [*cxi.split("^"), "", "", "", "", ""]
    value, kind = unescaped(parts[0]), parts[4]
    issuer = parts[3].split("&")[1] if parts[3].count("&") == 2 else ""
    if kind == xds.REFERENCE_STUDY:
        named: Resource = {
            "type": {"coding": [{"system": fhir.DCM, "code": fhir.STUDY_INSTANCE_UID}]},
            "system": fhir.DICOM_UID,
            "value": fhir.URN_OID + value,
        }
        if issuer:
            named["assigner"] = {"identifier": {"system": fhir.URI, "value": fhir.URN_OID + issuer}}
        return {"type": "ImagingStudy", "identifier": named}
    codings = [{"system": fhir.URI, "code": kind}]
    if kind in _REFERENCE_TYPES:
        codings = [{"system": fhir.IDENTIFIER_TYPE, "code": _REFERENCE_TYPES[kind]}]
    if kind == xds.REFERENCE_ACCESSION:
        codings.append({"system": fhir.DCM, "code": fhir.ACCESSION_NUMBER})
    named = {"type": {"coding": codings}} if kind else {}
    named |= {"system": fhir.url_of(issuer)} if issuer else {}
    return {"identifier": named | {"value": value}}


def cxi_of(related: Any, where: str) -> str:
    """One value of referenceIdList; "" for a reference that names no identifier (``reference`` alone)."""
    identifier = item(related, "identifier", where)
    system, value = text(identifier, "system", where), text(identifier, "value", where)
    if not value:
        return ""
    if system == fhir.DICOM_UID:
        assigner = item(item(identifier, "assigner", where), "identifier", where)
        issuer = text(assigner, "value", where).removeprefix(fhir.URN_OID)
        return _cx(value.removeprefix(fhir.URN_OID), issuer, xds.REFERENCE_STUDY)
    stated = {text(one, "code", where) for one in items(item(identifier, "type", where), "coding", where)}
    kind = next((name for name, code in _REFERENCE_TYPES.items() if code in stated), "")
    if not kind:
        kind = next((code for code in sorted(stated) if code.startswith("urn:")), "")
    if not kind and system == fhir.URI:
        kind = "urn:ihe:iti:xds:2013:uniqueId"  # ITI TF-3 table 4.2.3.1.7-2: an identifier that is a URI by itself
    issuer = fhir.oid_of(system) if system and system != fhir.URI else ""
    return _cx(value, issuer if fhir.is_oid(issuer) else "", kind or "urn:ihe:iti:xds:2013:uniqueId")


def _type_code(identifier: Any, where: str) -> str:
    found = items(item(identifier, "type", where), "coding", where)
    return next((text(c, "code", where) for c in found if c.get("system") == fhir.IDENTIFIER_TYPE), "")


def _cx(value: str, authority: str, kind: str) -> str:
    issued = f"&{authority}&ISO" if authority else ""
    return f"{escaped(value)}^^^{issued}" + (f"^{kind}" if kind else "")


# -- persons, structures, patients ---------------------------------------------------------------------------------


def person_of_xcn(xcn: str) -> tuple[Resource, bool]:
    """Content of a Practitioner for an XCN, or of a Device (then True): XCN.10 ``U`` names no human."""
    parts = [*map(unescaped, xcn.split("^")), *[""] * 14]
    raw = [*xcn.split("^"), *[""] * 14]
    made: Resource = {}
    if parts[0]:
        authority = raw[8].split("&")[1] if raw[8].count("&") == 2 else ""
        made["identifier"] = [_issued(parts[0], authority, parts[12])]
    if parts[9] == "U":
        names = [(parts[1], "user-friendly-name"), (parts[2], "manufacturer-name")]
        stated = [{"name": name, "type": kind} for name, kind in names if name]
        return made | ({"deviceName": stated} if stated else {}), True
    name: Resource = {"family": parts[1]} if parts[1] else {}
    name |= {"given": [given for given in (parts[2], parts[3]) if given]} if parts[2] or parts[3] else {}
    name |= {"use": _NAME_USES[parts[9]]} if name and parts[9] in _NAME_USES else {}
    return made | ({"name": [name]} if name else {}), False


def xcn_of(person: Resource, where: str) -> str:
    """XCN of a Practitioner or Device."""
    identifier = next(iter(items(person, "identifier", where)), {})
    value, system = text(identifier, "value", where), text(identifier, "system", where)
    kind = text(item(identifier, "type", where), "text", where)
    authority = fhir.oid_of(system)
    assigned = f"&{authority}&ISO" if fhir.is_oid(authority) else ""
    if person.get("resourceType") == "Device":
        names = {text(one, "type", where): text(one, "name", where) for one in items(person, "deviceName", where)}
        stated = [names.get("user-friendly-name", ""), names.get("manufacturer-name", ""), ""]
        use = "U"
    else:
        name = next(iter(items(person, "name", where)), {})
        given = name.get("given", [])
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            raise unfit(f"{where}.name.given is no list of texts")
        stated = [text(name, "family", where), *given[:2], "", ""][:3]
        use = next((code for code, word in _NAME_USES.items() if word == name.get("use")), "")
    fields = [value, *stated]
    return "^".join([*map(escaped, fields), "", "", "", "", assigned, use, "", "", escaped(kind)]).rstrip("^")


def organization_of_xon(xon: str) -> Resource:
    """Content of an Organization for an XON ``name^^^^^&OID&ISO^type^^^id``."""
    raw = [*xon.split("^"), *[""] * 10]
    made: Resource = {"name": unescaped(raw[0])} if raw[0] else {}
    authority = raw[5].split("&")[1] if raw[5].count("&") == 2 else ""
    if raw[9]:
        made["identifier"] = [_issued(unescaped(raw[9]), authority, unescaped(raw[6]))]
    return made


def xon_of(organization: Resource, where: str) -> str:
    """XON of an Organization."""
    identifier = next(iter(items(organization, "identifier", where)), {})
    authority = fhir.oid_of(text(identifier, "system", where))
    assigned = f"&{authority}&ISO" if fhir.is_oid(authority) else ""
    kind = text(item(identifier, "type", where), "text", where)
    fields = [text(organization, "name", where), "", "", "", ""]
    tail = [escaped(kind), "", "", escaped(text(identifier, "value", where))]
    return "^".join([*map(escaped, fields), assigned, *tail]).rstrip("^")


def _issued(value: str, authority: str, kind: str) -> Resource:
    made: Resource = {"system": fhir.url_of(authority)} if authority else {}
    made["value"] = value
    return made | ({"type": {"text": kind}} if kind else {})


def patient_of_info(source_id: str, info: tuple[str, ...]) -> Resource:
    """Content of the contained Patient for sourcePatientId and sourcePatientInfo."""
    fields = {name: value for name, _, value in (one.partition("|") for one in info)}
    made: Resource = {"identifier": [identifier_of_cx(source_id)]} if source_id else {}
    if name := fields.get("PID-5", ""):
        family, given, *_ = [*map(unescaped, name.split("^")), "", ""]
        use = _NAME_USES.get(([*name.split("^")] + [""] * 7)[6], "")
        stated: Resource = ({"use": use} if use else {}) | ({"family": family} if family else {})
        made["name"] = [stated | ({"given": [given]} if given else {})]
    if sex := fields.get("PID-8", ""):
        made["gender"] = _GENDERS.get(sex, "unknown")
    if born := fields.get("PID-7", ""):
        made["birthDate"] = moment_of_dtm(born[:8])
    birthplace = ([*fields.get("PID-11", "").split("^")] + [""] * 9)[8]
    if birthplace:
        place = {"extension": [{"url": fhir.INSEE_EXTENSION, "valueCoding": {"code": unescaped(birthplace)}}]}
        made["extension"] = [{"url": fhir.BIRTHPLACE_EXTENSION, "valueAddress": place}]
    return made


def info_of_patient(patient: Resource, where: str) -> tuple[str, tuple[str, ...]]:
    """SourcePatientId ("" when it states no identifier under an OID) and sourcePatientInfo of a Patient."""
    info: list[str] = []
    name = next(iter(items(patient, "name", where)), {})
    if name:
        given = name.get("given", [])
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            raise unfit(f"{where}.name.given is no list of texts")
        use = next((code for code, word in _NAME_USES.items() if word == name.get("use")), "")
        first = given[0] if given else ""
        info.append(f"PID-5|{escaped(text(name, 'family', where))}^{escaped(first)}^^^^^{use}".rstrip("^"))
    if born := text(patient, "birthDate", where):
        info.append(f"PID-7|{dtm_of_moment(born, where)[:8]}")
    if gender := text(patient, "gender", where):
        info.append("PID-8|" + next((sex for sex, word in _GENDERS.items() if word == gender), "U"))
    for extension in extensions(patient, fhir.BIRTHPLACE_EXTENSION, where):
        for place in extensions(item(extension, "valueAddress", where), fhir.INSEE_EXTENSION, where):
            code = text(item(place, "valueCoding", where), "code", where)
            info.append(f"PID-11|^^^^^^BDL^^{escaped(code)}")
    named = [one for one in items(patient, "identifier", where) if str(one.get("system")).startswith(fhir.URN_OID)]
    return (cx_of(named[0], where) if named else ""), tuple(info)


# -- moments, hashes, escapes ------------------------------------------------------------------------------------


def moment_of_dtm(dtm: str) -> str:
    """FHIR date or dateTime of a DTM ``YYYY[MM[DD[hh[mm[ss]]]]]`` in UTC; hours bring minutes and seconds along."""
    match = _DTM.fullmatch(dtm)
    if match is None:
        raise unfit("a stored time is no DTM")
    year, month, day, hour, minute, second = match.groups()
    stated = "-".join(part for part in (year, month, day) if part)
    return f"{stated}T{hour}:{minute or '00'}:{second or '00'}Z" if hour else stated


def dtm_of_moment(moment: str, where: str) -> str:
    """DTM in UTC of a FHIR date, dateTime or instant; a time of day without offset is refused (FHIR R4 2.24.0.1)."""
    match = _MOMENT.fullmatch(moment)
    try:
        if match is None:
            raise ValueError(moment)  # noqa: TRY301 - one refusal for every shape
        year, month, day, hour, _, _, offset = match.groups()
        if hour is None:
            date(int(year), int(month or 1), int(day or 1))
            return "".join(part for part in (year, month, day) if part)
        if offset is None:
            raise ValueError(moment)  # noqa: TRY301
        return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y%m%d%H%M%S")
    except (ValueError, OverflowError):
        raise unfit(f"{where} is no FHIR date or dateTime with offset") from None


def base64_of_hex(digest: str) -> str:
    """XDSDocumentEntry.hash as Attachment.hash: the same SHA-1, base64 instead of hexadecimal."""
    return base64.b64encode(bytes.fromhex(digest)).decode("ascii")


def hex_of_base64(digest: str, where: str) -> str:
    """Attachment.hash as XDSDocumentEntry.hash. Raises ``BadInput`` when it is no SHA-1."""
    try:
        raw = base64.b64decode(digest, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _SHA1_BYTES:
        raise unfit(f"{where} is no SHA-1 in base64", code="XDSRepositoryMetadataError")
    return raw.hex()


def escaped(value: str) -> str:
    """Text as one component of HL7."""
    return value.translate(_UNESCAPED)


def unescaped(value: str) -> str:
    """The text that one component of HL7 stands for."""
    return _ESCAPED.sub(lambda match: _ESCAPES[match[0]], value)


def base64_of(content: bytes) -> str:
    """Bytes as FHIR's base64Binary."""
    return base64.b64encode(content).decode("ascii")
