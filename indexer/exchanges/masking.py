"""What an exchange says without its patient: the structure, and of the values those that a list knows.

Invariants:

* a value is shown when an entry of the lists below says so for its place *and* it is spelt as that entry wants, or is
  one of its words; every other value, name or text is masked, also where nobody thought of it;
* an element, attribute, slot or member whose name no list has is masked whole, its name too;
* what cannot be read as the document it claims to be is masked whole;
* a masked value says that it was one, and nothing of what it held: not its length. Of a body that is masked whole the
  length is told.

Pure. Masked here does not mean anonymous: when an exam was sent, and which StudyInstanceUID it is about, is known to
whoever asks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl

from lxml import etree

from indexer import codes
from indexer.exchanges import vocabulary as known
from indexer.xds import vocabulary as xds
from security.errors import BadInput
from security.parse.json import parse_json
from security.parse.mime import media_type, read_related
from security.parse.xml import parse_xml

MASKED: Final = "‹masked›"
Shown = Callable[[str], bool]

_JSON_TYPES = frozenset({"application/json", "application/fhir+json"})
_XML_TYPES = frozenset({"application/soap+xml", "application/xop+xml", "text/xml", "application/xml"})
_UUID = re.compile(r"(?:urn:uuid:)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_OID = re.compile(  # an arc as long as a matricule, with its key or without, may be one
    r"(?:urn:oid:)?(?:2\.25\.[1-9][0-9]{19,38}|[0-2](?:\.(?!(?:[0-9]{13}|[0-9]{15})(?![0-9]))(?:0|[1-9][0-9]*)){3,})",
    re.ASCII,
)
_QUOTED_OID = re.compile(rf"\(?'{_OID.pattern}'\)?", re.ASCII)
_DTM = re.compile(r"20[0-9]{12}", re.ASCII)
_INSTANT = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,12}(?:Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII)
_CID = re.compile(r"cid:document-[0-9]{1,3}@poterne", re.ASCII)
_STATUS_LINE = re.compile(r"[1-5][0-9]{2}(?: (?:OK|Created|No Content|Bad Request|Conflict))?", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,6}", re.ASCII)


def masked(content_type: str, data: bytes, *, is_cut: bool = False) -> str:
    """What may be shown of a body to anybody who may see the exam. ``is_cut``: its end is missing."""
    kind = ""
    try:
        kind, _ = media_type(content_type)
        read = _READERS.get(kind)
        if not data or is_cut or read is None:
            return _whole(kind, data, "its end is missing" if is_cut else "no rule for this type") if data else ""
        return read(content_type, data)
    except BadInput as fault:
        return _whole(kind, data, fault.code)


def _whole(kind: str, data: bytes, why: str) -> str:
    shown = kind if kind in known.MEDIA_TYPES else MASKED
    return f"{MASKED} ({len(data)} bytes, {shown}: {why})"


def _related(content_type: str, data: bytes) -> str:
    related = read_related(content_type, data)
    parts = [_xml(related.root.data)]
    for part in related.parts.values():
        name = f"cid:{part.content_id}"
        parts.append(f"{name if _CID.fullmatch(name) else MASKED}: {_whole('', part.data, 'a document')}")
    return "\n\n".join(parts)


# -- XML ---------------------------------------------------------------------------------------------------------


def _xml(data: bytes) -> str:
    shown = _element(parse_xml(data, what="exchange"))
    etree.indent(shown, space="  ")
    return etree.tostring(shown, encoding="unicode")


def _element(element: etree._Element) -> etree._Element:
    """A copy that holds what may be shown."""
    name = etree.QName(element)
    if name.localname not in known.ELEMENTS.get(name.namespace or "", ()):
        return etree.Element("masked")
    made = etree.Element(element.tag, nsmap=_prefixes(element))
    for key, value in _attributes(element):
        is_known = key in known.ATTRIBUTES
        made.set(key if is_known else "masked", value if is_known and _attribute(element, key, value) else MASKED)
    if (element.text or "").strip():
        made.text = element.text if _text(element) else MASKED
    for child in element:
        if not isinstance(child.tag, str):
            continue  # comments and processing instructions are no place for anything
        made.append(_element(child))
        if (child.tail or "").strip():
            made[-1].tail = MASKED
    return made


def _attributes(element: etree._Element) -> list[tuple[str, str]]:
    return [(str(key), str(value)) for key, value in element.items()]


def _prefixes(element: etree._Element) -> dict[str, str]:
    """The declarations whose prefix and namespace are known; lxml writes others anew."""
    return {p: u for p, u in element.nsmap.items() if p is not None and u in known.PREFIXES.get(p, ())}


def _attribute(element: etree._Element, name: str, value: str) -> bool:
    if name == "value" and etree.QName(element).localname == "ExternalIdentifier":
        return element.get("identificationScheme") in known.OID_IDENTIFIERS and bool(_OID.fullmatch(value))
    if name == "name":
        return value in known.SLOTS
    if name == "nodeRepresentation":
        table = known.CODE_TABLES.get(element.get("classificationScheme", ""))
        return table is not None and _is_known_code(table, value)
    if name == "href":
        return bool(_CID.fullmatch(value))
    if name == "errorCode":
        return value in known.ERROR_CODES
    return value in known.WORDS or bool(_UUID.fullmatch(value))


def _text(element: etree._Element) -> bool:
    """Whether the text of the element may be shown."""
    name, value = etree.QName(element), (element.text or "").strip()
    if name.namespace == xds.NS_RIM and name.localname == "Value":
        slot = next((one for one in element.iterancestors(f"{{{xds.NS_RIM}}}Slot")), None)
        return slot is not None and _slot_value(slot.get("name", ""), value)
    if name.namespace == xds.NS_WSA:
        return value in known.WORDS or bool(_UUID.fullmatch(value))
    if name.namespace == xds.NS_SOAP12 and name.localname == "Value":
        return value.rpartition(":")[2] in known.FAULT_CODES
    return False


def _slot_value(slot: str, value: str) -> bool:
    is_so = _SPELT.get(known.SLOTS.get(slot, ""))
    return is_so is not None and is_so(value)


_SPELT: Final[Mapping[str, Shown]] = {
    "moment": lambda value: bool(_DTM.fullmatch(value)),
    "oid": lambda value: bool(_OID.fullmatch(value)),
    "query-oid": lambda value: bool(_QUOTED_OID.fullmatch(value)),
    "count": lambda value: bool(_COUNT.fullmatch(value)),
    "word": lambda value: value.strip("()'") in known.WORDS,
}
"""How each rule of ``vocabulary.SLOTS`` wants its values."""


@cache
def _is_known_code(table: codes.TableName, code: str) -> bool:
    return code in codes.table(table).codes


# -- JSON and forms ----------------------------------------------------------------------------------------------


def _json(data: bytes) -> str:
    return json.dumps(_value(parse_json(data, what="exchange"), (), ""), indent=2, ensure_ascii=False)


def _value(value: Any, path: tuple[str, ...], kind: str) -> Any:
    """``path``: names of the members above, ``kind``: resourceType of the resource it stands in."""
    if isinstance(value, dict):
        stated = value.get("resourceType")
        kind = stated if isinstance(stated, str) and stated in known.RESOURCES else "" if stated else kind
        shown = {k: _value(one, (*path, k), kind) for k, one in value.items() if k in known.MEMBERS}
        return shown | ({MASKED: MASKED} if len(shown) < len(value) else {})
    if isinstance(value, list):
        return [_value(one, path, kind) for one in value]
    return value if _member(path[-1] if path else "", path, kind, value) else MASKED


def _member(name: str, path: tuple[str, ...], kind: str, value: Any) -> bool:
    """Whether the value of a member may be shown."""
    if not isinstance(value, str):
        return name == "total" and isinstance(value, int)
    return (
        value in known.JSON_WORDS.get(name, ())
        or (name in known.UUID_MEMBERS and _is_reference(value))
        or (name == "value" and not {"identifier", "masterIdentifier"}.isdisjoint(path) and _is_named(path, value))
        or (name == "status" and path[-2:-1] == ("response",) and bool(_STATUS_LINE.fullmatch(value)))
        or (name == "lastModified" and bool(_INSTANT.fullmatch(value)))
        or (name == "code" and kind == "OperationOutcome" and value in known.ERROR_CODES)
    )


def _is_named(path: Collection[str], value: str) -> bool:
    """An identifier of a document or an entry, never one of a person, an order or an exam."""
    return not {"subject", "contained", "related", "context", "author"} & set(path) and (
        value.startswith("urn:") and bool(_UUID.fullmatch(value) or _OID.fullmatch(value))
    )


def _is_reference(value: str) -> bool:
    """``urn:uuid:…``, a resource type, or both."""
    kind, slash, rest = value.partition("/")
    if not slash:
        return value in known.RESOURCES or bool(_UUID.fullmatch(value))
    name, _, version = rest.partition("/_history/")
    return (
        kind in known.RESOURCES and bool(_UUID.fullmatch(name)) and (not version or bool(_COUNT.fullmatch(version)))
    )


def _form(data: bytes) -> str:
    try:
        fields = parse_qsl(data.decode("ascii"), keep_blank_values=True, max_num_fields=50, errors="strict")
    except ValueError:
        return _whole("application/x-www-form-urlencoded", data, "not a form")
    return "\n".join(
        f"{name}={value if _field(name, value) else MASKED}" if name in _FIELDS else f"{MASKED}={MASKED}"
        for name, value in fields
    )


_READERS: Final[Mapping[str, Callable[[str, bytes], str]]] = {
    "multipart/related": _related,
    "application/x-www-form-urlencoded": lambda _, data: _form(data),
    **dict.fromkeys(_XML_TYPES, lambda _, data: _xml(data)),
    **dict.fromkeys(_JSON_TYPES, lambda _, data: _json(data)),
}

_FIELDS: Mapping[str, Shown] = {
    "identifier": lambda value: (
        value.startswith("urn:ietf:rfc:3986|urn:oid:") and bool(_OID.fullmatch(value.partition("|")[2]))
    ),
    "status": lambda value: set(value.split(",")) <= set(known.JSON_WORDS["status"]),
}


def _field(name: str, value: str) -> bool:
    return _FIELDS[name](value)
