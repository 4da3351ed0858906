"""Searches of MHD: what was asked, read strictly, and which entries and sets meet it (ITI TF-2 3.66, 3.67; MADO).

Invariants:

* every parameter is one of the tables below, which the CapabilityStatement is made of; a filter we would ignore is
  refused instead (FHIR R4 3.1.1.3 lets a server choose);
* a search names a patient or a document, and the statuses it wants: nobody lists an index;
* values are text to compare: none reaches SQL except as a bound id or inside a blind index;
* repeated parameters are AND, the commas inside one are OR (FHIR R4 3.1.1.3.1).

Pure. Which objects a search may look at is the node's business.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from indexer.fhir import vocabulary as fhir
from indexer.mhd import mapping, values
from indexer.mhd import vocabulary as mhd
from indexer.registry.answers import RegistryError, XdsRefusal
from indexer.registry.validate import moment
from indexer.xds import vocabulary as v
from indexer.xds.objects import Classification, DocumentEntry, RegistryObject
from security.errors import BadInput

VALUES_MAX = 256  # per search, all parameters together
COUNT_DEFAULT, COUNT_MAX = 200, 1000
_PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb")
_ESCAPED_COMMA = re.compile(r"(?<!\\),")
_KEY = re.compile(r"(?:.*/)?Patient/([0-9a-f]{64})|([0-9a-f]{64})", re.ASCII)

Span = tuple[datetime, datetime]
Token = tuple[str, str]
Kind = Literal["token", "date", "string", "reference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One search parameter. ``tokens``, ``spans``, ``texts``: what an object offers to it, by its kind."""

    kind: Kind
    meaning: str
    tokens: Callable[[RegistryObject], Iterable[Token]] | None = None
    spans: Callable[[RegistryObject], Span | None] | None = None
    texts: Callable[[RegistryObject], Iterable[str]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search as asked. ``patient``: (authority, identifier), or ``patient_key`` its id here; ``identifiers``: the
    uniqueIds and entryUUIDs it names, when it names no patient; ``after``: where a further page begins.

    ``repr`` shows the names only: values name patients.
    """

    filters: tuple[tuple[str, tuple[str, ...]], ...]
    patient: tuple[str, str] | None = None
    patient_key: bytes | None = None
    identifiers: tuple[str, ...] = ()
    count: int = COUNT_DEFAULT
    after: tuple[int, str] = (-1, "")
    asked: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        return f"Search({sorted({name for name, _ in self.filters})})"


def read_search(asked: Sequence[tuple[str, str]], known: Mapping[str, Parameter]) -> Search:
    """The search in the parameters of a request, decoded.

    Raises:
        XdsRefusal: XDSStoredQueryMissingParam, XDSStoredQueryParamNumber, or XDSRegistryError for what has no code of
            its own.
    """
    filters: list[tuple[str, tuple[str, ...]]] = []
    control: dict[str, str] = {}
    for number, (name, value) in enumerate(asked, start=1):
        if name in {"_count", "_format"} and name not in control:
            control[name] = value
        elif name in known:
            filters.append((name, _alternatives(name, value)))
        else:
            # Its name is not quoted: where an ampersand was not escaped it is the rest of a value (T34).
            raise _refused("XDSRegistryError", f"parameter {number} is not one of this search, or is repeated")
    if sum(len(alternatives) for _, alternatives in filters) > VALUES_MAX:
        raise _refused("XDSStoredQueryParamNumber", f"more than {VALUES_MAX} values")
    if control.get("_format", "json") not in {"json", mhd.FHIR_JSON, "application/json"}:
        raise _refused("XDSRegistryError", "_format is not json, the only one offered")
    for name, alternatives in filters:
        _check(name, alternatives, known[name])
    patient, key = _patient(filters)
    identifiers = () if patient or key else _identifiers(filters)
    if not (patient or key or identifiers):
        raise _refused("XDSStoredQueryMissingParam", "patient, patient.identifier or identifier is needed")
    if not any(name == "status" for name, _ in filters):
        raise _refused("XDSStoredQueryMissingParam", "status is needed")
    return Search(
        filters=tuple((name, values_) for name, values_ in filters if not name.startswith("patient")),
        patient=patient,
        patient_key=key,
        identifiers=identifiers,
        count=_count(control.get("_count", "")),
        asked=tuple(asked),
    )


def fitting(
    search: Search, objects: Iterable[RegistryObject], known: Mapping[str, Parameter]
) -> list[RegistryObject]:
    """The objects that meet every filter, in the order given."""
    return [
        one for one in objects if all(_meets(one, known[name], alternatives) for name, alternatives in search.filters)
    ]


def page(search: Search, found: Sequence[RegistryObject]) -> tuple[list[RegistryObject], bool]:
    """The objects of the page that the search asks for, oldest first, and whether more follow. A page begins behind
    an object, not at a number: one that changes its status meanwhile hides no other."""
    ordered = sorted(found, key=_place)
    rest = [one for one in ordered if _place(one) > search.after]
    return rest[: search.count], len(rest) > search.count


def _place(one: RegistryObject) -> tuple[int, str]:
    return one.kept_at, one.id


# -- reading parameters --------------------------------------------------------------------------------------------


def _alternatives(name: str, value: str) -> tuple[str, ...]:
    stated = tuple(re.sub(r"\\([,|$\\])", r"\1", one).strip() for one in _ESCAPED_COMMA.split(value))
    if not all(stated):
        raise _refused("XDSRegistryError", f"{name} has an empty value")
    return stated


def _check(name: str, alternatives: tuple[str, ...], parameter: Parameter) -> None:
    if parameter.kind == "date":
        for value in alternatives:
            _period(name, value)
    if name == "status" and not set(alternatives) <= set(mhd.STATUSES):
        raise _refused("XDSRegistryError", f"status is none of {', '.join(mhd.STATUSES)}")


def _patient(filters: Iterable[tuple[str, tuple[str, ...]]]) -> tuple[tuple[str, str] | None, bytes | None]:
    """The one patient that the search is about."""
    named = [(name, value) for name, values_ in filters if name.startswith("patient") for value in values_]
    if not named:
        return None, None
    if len(named) > 1:
        raise _refused("XDSStoredQueryParamNumber", "a search is about one patient")
    ((name, value),) = named
    if name == "patient":
        match = _KEY.fullmatch(value)
        if match is None:
            raise _refused("XDSUnknownPatientId", "patient is no id that this index gave; ask by patient.identifier")
        return None, bytes.fromhex(match[1] or match[2])
    system, _, identifier = value.partition("|")
    if not identifier or not fhir.is_oid(system.removeprefix(fhir.URN_OID)):
        raise _refused("XDSUnknownPatientId", "patient.identifier is not urn:oid:<authority>|<identifier>")
    return (system.removeprefix(fhir.URN_OID), identifier), None


def _identifiers(filters: Iterable[tuple[str, tuple[str, ...]]]) -> tuple[str, ...]:
    """The uniqueIds and entryUUIDs under which the index may hold what ``identifier`` names."""
    found: list[str] = []
    for name, alternatives in filters:
        if name == "identifier" and not found:
            for value in alternatives:
                system, _, identifier = value.rpartition("|")
                bare = identifier.removeprefix(fhir.URN_OID)
                is_split = system.startswith(fhir.URN_OID)
                found.append(f"{system.removeprefix(fhir.URN_OID)}^{bare}" if is_split else bare.lower())
    return tuple(found)


def _count(stated: str) -> int:
    if not stated:
        return COUNT_DEFAULT
    if not re.fullmatch(r"[0-9]{1,6}", stated, re.ASCII) or int(stated) < 1:
        raise _refused("XDSRegistryError", "_count is no number above 0")
    return min(int(stated), COUNT_MAX)


def _refused(code: str, context: str) -> XdsRefusal:
    return XdsRefusal(RegistryError(code=code, context=context))


# -- comparing -----------------------------------------------------------------------------------------------------


def _meets(one: RegistryObject, parameter: Parameter, alternatives: tuple[str, ...]) -> bool:
    if parameter.spans is not None:
        span = parameter.spans(one)
        return span is not None and any(_in_time(span, value) for value in alternatives)
    if parameter.texts is not None:
        begins = [text.casefold() for text in parameter.texts(one)]
        return any(text.startswith(value.casefold()) for text in begins for value in alternatives)
    assert parameter.tokens is not None, "a parameter offers one of the three"
    offered = list(parameter.tokens(one))
    return any(_is_token(token, value) for token in offered for value in alternatives)


def _is_token(token: Token, value: str) -> bool:
    """``code``, ``system|code``, ``|code`` (no system) or ``system|`` (FHIR R4 3.1.1.4.10)."""
    system, bar, code = value.rpartition("|")
    if not bar:
        return token[1] == code
    return token[0] == system and code in {"", token[1]}


def _period(name: str, value: str) -> tuple[str, Span]:
    """Prefix and span of a date as a search states it."""
    prefix = value[:2] if value[:2] in _PREFIXES else "eq"
    stated = value[2:] if value[:2] in _PREFIXES else value
    try:
        span = span_of(values.dtm_of_moment(stated, name))
    except BadInput:
        span = None
    if span is None:
        raise _refused(
            "XDSRegistryError", f"{name} is no date, or no dateTime with offset, after one of its prefixes"
        )
    return prefix, span


def _in_time(span: Span, value: str) -> bool:
    """FHIR R4 3.1.1.4.7: the span of the object against that of the value."""
    prefix, asked = _period("", value)
    is_inside = asked[0] <= span[0] and span[1] <= asked[1]
    return {
        "eq": is_inside,
        "ne": not is_inside,
        "gt": span[1] > asked[1],
        "lt": span[0] < asked[0],
        "ge": span[1] > asked[1] or is_inside,
        "le": span[0] < asked[0] or is_inside,
        "sa": span[0] >= asked[1],
        "eb": span[1] <= asked[0],
    }[prefix]


def span_of(dtm: str) -> Span | None:
    """From the first moment of a DTM to the first after it, naive UTC as ``moment`` has it; None for none."""
    start = moment(dtm)
    if start is None:
        return None
    days = {4: 366 if calendar.isleap(start.year) else 365, 6: calendar.monthrange(start.year, start.month)[1], 8: 1}
    length = len(dtm)
    width = timedelta(days=days[length]) if length in days else timedelta(seconds={10: 3600, 12: 60, 14: 1}[length])
    try:
        return start, start + width
    except OverflowError:
        return start, datetime.max  # noqa: DTZ901 - compared with its like only, see moment()


# -- what an object offers -----------------------------------------------------------------------------------------


def _codes(scheme: str) -> Callable[[RegistryObject], Iterable[Token]]:
    return lambda one: (token for code in one.classified(scheme) for token in _tokens(code))


def _events(chosen: Callable[[Classification], bool]) -> Callable[[RegistryObject], Iterable[Token]]:
    return lambda one: (
        token for code in one.classified(v.ENTRY_EVENT_CODE_LIST) if chosen(code) for token in _tokens(code)
    )


def _tokens(code: Classification) -> Iterable[Token]:
    """A code under the URL of its system, under its OID, and as DICOM's examples spell it."""
    for scheme in code.values("codingScheme"):
        url = values.coding(code.code, scheme, "")["system"]
        yield url, code.code
        if fhir.is_oid(scheme):
            yield fhir.URN_OID + scheme, code.code
        if url == fhir.DCMUID:
            yield fhir.DICOM_UIDS, code.code


def _own_identifiers(one: RegistryObject) -> Iterable[Token]:
    unique_id = one.identifier(v.ENTRY_UNIQUE_ID) or one.identifier(v.SET_UNIQUE_ID)
    written = values.unique_id_value(unique_id)
    yield written["system"], written["value"]
    yield written["system"], unique_id
    yield fhir.URI, one.id


def _references(kind: str = "") -> Callable[[RegistryObject], Iterable[Token]]:
    def offered(one: RegistryObject) -> Iterable[Token]:
        for cxi in one.values(v.SLOT_REFERENCE_ID_LIST):
            identifier = values.related_of_cxi(cxi)["identifier"]
            if kind and not cxi.endswith("^" + kind):
                continue
            yield identifier.get("system", ""), identifier["value"]
            if identifier.get("system") == fhir.DICOM_UID:  # the UID is written bare, and under RFC 3986, too
                yield fhir.DICOM_UID, identifier["value"].removeprefix(fhir.URN_OID)
                yield fhir.URI, identifier["value"]

    return offered


def _status(one: RegistryObject) -> Iterable[Token]:
    yield "", mapping.status_of(one) if isinstance(one, DocumentEntry) else mhd.CURRENT


def _slot_span(slot: str) -> Callable[[RegistryObject], Span | None]:
    return lambda one: span_of(one.value(slot))


def _kept(one: RegistryObject) -> Span | None:
    at = datetime.fromtimestamp(one.kept_at / 1000, UTC).replace(tzinfo=None, microsecond=0)
    return at, at + timedelta(seconds=1)


def _service(one: RegistryObject) -> Span | None:
    """ServiceStart to serviceStop; an end that is not stated is open (FHIR R4 2.24.0.11)."""
    start, stop = span_of(one.value("serviceStartTime")), span_of(one.value("serviceStopTime"))
    if start is None and stop is None:
        return None
    return (start[0] if start else datetime.min, stop[1] if stop else datetime.max)  # noqa: DTZ901 - see span_of()


def _names(scheme: str, part: int) -> Callable[[RegistryObject], Iterable[str]]:
    """Component ``part`` of each author's XCN."""
    return lambda one: (
        values.unescaped(parts[part])
        for author in one.classified(scheme)
        for xcn in author.values("authorPerson")
        if len(parts := xcn.split("^")) > part and parts[part]
    )


def _list_codes(_: RegistryObject) -> Iterable[Token]:
    yield mhd.LIST_TYPES, mhd.SUBMISSION_SET_CODE


def _source_id(one: RegistryObject) -> Iterable[Token]:
    source = one.identifier(v.SET_SOURCE_ID)
    yield fhir.URI, fhir.URN_OID + source
    yield "", source


_PATIENT = {
    "patient": Parameter(kind="reference", meaning="The patient, by the id this index gave."),
    "patient.identifier": Parameter(kind="token", meaning="The patient: urn:oid:<authority>|<identifier>."),
}

ENTRY_PARAMETERS: Mapping[str, Parameter] = {
    **_PATIENT,
    "identifier": Parameter(kind="token", meaning="uniqueId or entryUUID.", tokens=_own_identifiers),
    "status": Parameter(kind="token", meaning="current, superseded, entered-in-error.", tokens=_status),
    "author.given": Parameter(kind="string", meaning="Given name.", texts=_names(v.ENTRY_AUTHOR, 2)),
    "author.family": Parameter(kind="string", meaning="Family name.", texts=_names(v.ENTRY_AUTHOR, 1)),
    "category": Parameter(kind="token", meaning="classCode.", tokens=_codes(v.ENTRY_CLASS_CODE)),
    "type": Parameter(kind="token", meaning="typeCode.", tokens=_codes(v.ENTRY_TYPE_CODE)),
    "setting": Parameter(kind="token", meaning="practiceSetting.", tokens=_codes(v.ENTRY_PRACTICE_SETTING_CODE)),
    "facility": Parameter(kind="token", meaning="facilityType.", tokens=_codes(v.ENTRY_FACILITY_TYPE_CODE)),
    "event": Parameter(kind="token", meaning="eventCodeList.", tokens=_codes(v.ENTRY_EVENT_CODE_LIST)),
    "security-label": Parameter(
        kind="token", meaning="confidentialityCode.", tokens=_codes(v.ENTRY_CONFIDENTIALITY_CODE)
    ),
    "format": Parameter(kind="token", meaning="formatCode.", tokens=_codes(v.ENTRY_FORMAT_CODE)),
    "creation": Parameter(kind="date", meaning="When the document was made.", spans=_slot_span("creationTime")),
    "date": Parameter(kind="date", meaning="When this index took it.", spans=_kept),
    "period": Parameter(kind="date", meaning="Time of the service.", spans=_service),
    "related:identifier": Parameter(kind="token", meaning="One of referenceIdList.", tokens=_references()),
    "modality": Parameter(kind="token", meaning="Modality (MADO).", tokens=_events(mapping.is_modality)),
    "bodysite": Parameter(kind="token", meaning="Anatomic region (MADO).", tokens=_events(mapping.is_region)),
    "anatomical-region": Parameter(kind="token", meaning="As bodysite.", tokens=_events(mapping.is_region)),
    "study-instance-uid": Parameter(
        kind="token", meaning="Study Instance UID (MADO).", tokens=_references(v.REFERENCE_STUDY)
    ),
    "accession-number": Parameter(
        kind="token", meaning="Accession number (MADO).", tokens=_references(v.REFERENCE_ACCESSION)
    ),
}
"""ITI-67: the parameters that MHD and MADO ask of a responder. ``related`` compares identifiers, so it is asked as
``related:identifier``: an index of XDS holds no resource that a related reference could lead to."""

LIST_PARAMETERS: Mapping[str, Parameter] = {
    **_PATIENT,
    "identifier": Parameter(kind="token", meaning="uniqueId or entryUUID.", tokens=_own_identifiers),
    "status": Parameter(kind="token", meaning="current.", tokens=_status),
    "code": Parameter(kind="token", meaning="submissionset, the only kind here.", tokens=_list_codes),
    "date": Parameter(kind="date", meaning="submissionTime.", spans=_slot_span("submissionTime")),
    "designationType": Parameter(kind="token", meaning="contentTypeCode.", tokens=_codes(v.SET_CONTENT_TYPE_CODE)),
    "sourceId": Parameter(kind="token", meaning="OID of the source.", tokens=_source_id),
    "source.given": Parameter(kind="string", meaning="Given name.", texts=_names(v.SET_AUTHOR, 2)),
    "source.family": Parameter(kind="string", meaning="Family name.", texts=_names(v.SET_AUTHOR, 1)),
}
"""ITI-66."""
