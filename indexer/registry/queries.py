"""Stored queries (ITI-18): what was asked, read strictly, and which entries and sets fit it (ITI TF-2 3.18.4.1.2).

Invariants:

* a parameter value is text to compare, never part of a statement: no value reaches SQL except bound ids;
* every parameter of a request is one its query defines; a filter we would ignore is refused instead;
* OR between the values of a parameter, AND between its repetitions where the standard allows those.

Pure. Which objects a query may look at, and what belongs around a found one, is the node's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from lxml import etree

from indexer.registry.answers import RegistryError, XdsRefusal
from indexer.registry.validate import moment, patient_of
from indexer.xds import vocabulary as v
from indexer.xds.objects import (
    Classification,
    DocumentEntry,
    RegistryObject,
    SubmissionSet,
    canonical_reference,
    text_of,
)

_RIM = f"{{{v.NS_RIM}}}"
_QUERY = f"{{{v.NS_QUERY}}}"
_ENTRY = "$XDSDocumentEntry"
_SET = "$XDSSubmissionSet"
_VALUES_MAX = 256  # per query: ids and codes together
_ATOM = re.compile(r"\s*(?:'((?:[^']|'')*)'|([0-9]{1,19}))\s*")

Slots = tuple[tuple[str, ...], ...]  # one tuple of values per Slot of the same name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """The parameters of one stored query. ``exactly_one_of``: alternatives."""

    required: tuple[str, ...] = ()
    exactly_one_of: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


_ENTRY_CODES = {
    _ENTRY + "ClassCode": v.ENTRY_CLASS_CODE,
    _ENTRY + "TypeCode": v.ENTRY_TYPE_CODE,
    _ENTRY + "PracticeSettingCode": v.ENTRY_PRACTICE_SETTING_CODE,
    _ENTRY + "HealthcareFacilityTypeCode": v.ENTRY_FACILITY_TYPE_CODE,
    _ENTRY + "EventCodeList": v.ENTRY_EVENT_CODE_LIST,
    _ENTRY + "ConfidentialityCode": v.ENTRY_CONFIDENTIALITY_CODE,
    _ENTRY + "FormatCode": v.ENTRY_FORMAT_CODE,
}
_ENTRY_TIMES = {
    _ENTRY + "CreationTime": "creationTime",
    _ENTRY + "ServiceStartTime": "serviceStartTime",
    _ENTRY + "ServiceStopTime": "serviceStopTime",
}
_ENTRY_FILTERS = (
    *_ENTRY_CODES,
    *(name + end for name in _ENTRY_TIMES for end in ("From", "To")),
    _ENTRY + "AuthorPerson",
    _ENTRY + "Type",
)
_REFERENCES = _ENTRY + "ReferenceIdList"
_ENTRY_IDS = (_ENTRY + "EntryUUID", _ENTRY + "UniqueId")
_SET_IDS = (_SET + "EntryUUID", _SET + "UniqueId")
_SHAPES = {
    v.FIND_DOCUMENTS: _Shape(required=(_ENTRY + "PatientId", _ENTRY + "Status"), optional=_ENTRY_FILTERS),
    v.FIND_DOCUMENTS_BY_REFERENCE_ID: _Shape(
        required=(_ENTRY + "PatientId", _ENTRY + "Status", _REFERENCES), optional=_ENTRY_FILTERS
    ),
    v.FIND_SUBMISSION_SETS: _Shape(
        required=(_SET + "PatientId", _SET + "Status"),
        optional=tuple(
            _SET + n for n in ("SourceId", "SubmissionTimeFrom", "SubmissionTimeTo", "AuthorPerson", "ContentType")
        ),
    ),
    v.GET_DOCUMENTS: _Shape(exactly_one_of=_ENTRY_IDS),
    v.GET_ASSOCIATIONS: _Shape(required=("$uuid",)),
    v.GET_DOCUMENTS_AND_ASSOCIATIONS: _Shape(exactly_one_of=_ENTRY_IDS),
    v.GET_SUBMISSION_SETS: _Shape(required=("$uuid",)),
    v.GET_SUBMISSION_SET_AND_CONTENTS: _Shape(
        exactly_one_of=_SET_IDS, optional=tuple(_ENTRY + n for n in ("FormatCode", "ConfidentialityCode", "Type"))
    ),
    v.GET_RELATED_DOCUMENTS: _Shape(required=("$AssociationTypes",), exactly_one_of=_ENTRY_IDS),
}
_REPEATABLE = frozenset({_ENTRY + "EventCodeList", _ENTRY + "ConfidentialityCode", _REFERENCES})
_MULTIPLE = _REPEATABLE | {
    *_ENTRY_CODES,
    *_ENTRY_IDS,
    _ENTRY + "AuthorPerson",
    _ENTRY + "Status",
    _ENTRY + "Type",
    _SET + "SourceId",
    _SET + "ContentType",
    _SET + "Status",
    "$uuid",
    "$AssociationTypes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredQuery:
    """One query as asked. ``id``: its AdhocQuery id. ``leaf``: whole objects wanted, else references.

    ``repr`` shows the query only: parameters name patients.
    """

    id: str
    leaf: bool
    parameters: Mapping[str, Slots]

    def __repr__(self) -> str:
        return f"StoredQuery({self.id}, {sorted(self.parameters)})"

    def values(self, name: str) -> tuple[str, ...]:
        """Every value of one parameter, () when it is absent."""
        return tuple(value for slot in self.parameters.get(name, ()) for value in slot)

    @property
    def ids(self) -> tuple[str, ...]:
        """The entryUUIDs or uniqueIds a Get query names."""
        names = (*_ENTRY_IDS, *_SET_IDS, "$uuid")
        return tuple(canonical_reference(value) for name in names for value in self.values(name))

    @property
    def patient(self) -> tuple[str, str]:
        """(authority, identifier) of the patient a Find query is about."""
        found = patient_of((*self.values(_ENTRY + "PatientId"), *self.values(_SET + "PatientId"))[0])
        assert found is not None, "parse_query checked it"
        return found

    @property
    def association_types(self) -> frozenset[str]:
        return frozenset(self.values("$AssociationTypes"))


def parse_query(request: etree._Element) -> StoredQuery:
    """The query in a query:AdhocQueryRequest element.

    Raises:
        XdsRefusal: XDSUnknownStoredQuery, XDSStoredQueryMissingParam, XDSStoredQueryParamNumber, or
            XDSRegistryError for what has no code of its own (another element, unreadable value, unknown parameter).
    """
    query = request.find(_RIM + "AdhocQuery")
    if request.tag != _QUERY + "AdhocQueryRequest" or query is None:
        raise _refused("XDSRegistryError", "the request is no query:AdhocQueryRequest with a rim:AdhocQuery")
    option = request.find(_QUERY + "ResponseOption")
    returned = option.get("returnType", "") if option is not None else ""
    if returned not in {v.RETURN_LEAF_CLASS, v.RETURN_OBJECT_REF}:
        raise _refused("XDSRegistryError", "ResponseOption/@returnType is neither LeafClass nor ObjectRef")
    query_id = query.get("id", "").strip().lower()
    shape = _SHAPES.get(query_id)
    if shape is None:
        raise _refused("XDSUnknownStoredQuery", "this index has no stored query of that id")
    parameters: dict[str, Slots] = {}
    for slot in query.iterchildren("{*}Slot"):
        if slot.tag != _RIM + "Slot":
            raise _refused("XDSRegistryError", "a parameter is a Slot of another namespace than rim")
        name = slot.get("name", "")
        parameters[name] = (*parameters.get(name, ()), _slot_values(slot))
    if parameters.get("$MetadataLevel") == (("1",),):
        del parameters["$MetadataLevel"]  # the level every answer of this index has
    _check(shape, parameters)
    return StoredQuery(id=query_id, leaf=returned == v.RETURN_LEAF_CLASS, parameters=parameters)


def _slot_values(slot: etree._Element) -> tuple[str, ...]:
    """Every value of one Slot. One without any, or with anything else in it, would be a filter we ignore: refused."""
    lists = list(slot.iterchildren("*"))
    written = [value for each in lists for value in each.iterchildren("*")]
    if {each.tag for each in lists} != {_RIM + "ValueList"} or {each.tag for each in written} != {_RIM + "Value"}:
        raise _refused("XDSRegistryError", "a parameter holds no rim:ValueList of rim:Value, or more than that")
    return tuple(value for each in written for value in _values(text_of(each)))


def _values(text: str) -> list[str]:
    """The values of one rim:Value: ``'x'``, ``('a','b')`` or a number; ``''`` inside quotes is one quote."""
    is_list = text.startswith("(") and text.endswith(")")
    inner = text[1:-1] if is_list else text
    found: list[str] = []
    at = 0
    while match := _ATOM.match(inner, at):
        found.append(match[2] if match[1] is None else match[1].replace("''", "'"))
        if match.end() == len(inner):
            return found
        if not is_list or inner[match.end()] != ",":
            break
        at = match.end() + 1
    raise _refused("XDSRegistryError", "a parameter value is neither 'text', a number nor a ('list','of','them')")


def _check(shape: _Shape, parameters: Mapping[str, Slots]) -> None:
    """Every parameter known, none missing, none with more values than it may have, each readable."""
    known = {*shape.required, *shape.exactly_one_of, *shape.optional}
    if not parameters.keys() <= known:
        raise _refused("XDSRegistryError", f"{len(parameters.keys() - known)} parameters this query does not define")
    for name in shape.required:
        if name not in parameters:
            raise _refused("XDSStoredQueryMissingParam", f"{name} is missing")
    given = [name for name in shape.exactly_one_of if name in parameters]
    if shape.exactly_one_of and len(given) != 1:
        code = "XDSStoredQueryParamNumber" if given else "XDSStoredQueryMissingParam"
        raise _refused(code, f"exactly one of {', '.join(shape.exactly_one_of)} is needed")
    if sum(len(values) for slots in parameters.values() for values in slots) > _VALUES_MAX:
        raise _refused("XDSStoredQueryParamNumber", f"more than {_VALUES_MAX} values")
    for name, slots in parameters.items():
        _check_values(name, slots)


def _check_values(name: str, slots: Slots) -> None:
    if len(slots) > 1 and name not in _REPEATABLE:
        raise _refused("XDSStoredQueryParamNumber", f"{name} appears {len(slots)} times")
    if name not in _MULTIPLE and len(slots[0]) > 1:
        raise _refused("XDSStoredQueryParamNumber", f"{name} holds {len(slots[0])} values, one expected")
    fits, wanted = _syntax(name)
    if not all(fits(value) for values in slots for value in values):
        raise _refused("XDSRegistryError", f"{name} is not {wanted}")


def _syntax(name: str) -> tuple[Callable[[str], bool], str]:
    if name in _ENTRY_CODES or name == _SET + "ContentType":
        return lambda text: text.count("^^") == 1 and not text.startswith("^"), "code^^codingScheme"
    if name.endswith("PatientId"):
        return lambda text: patient_of(text) is not None, "CX id^^^&OID&ISO"
    if name.endswith(("TimeFrom", "TimeTo")):
        return lambda text: moment(text) is not None, "YYYY[MM[DD[hh[mm[ss]]]]]"
    return bool, "a value"


def fitting_entries(query: StoredQuery, entries: Iterable[DocumentEntry]) -> list[DocumentEntry]:
    """The entries that meet every filter of the query, in the order given."""
    statuses = query.values(_ENTRY + "Status")
    kinds = query.values(_ENTRY + "Type") or (v.STABLE_DOCUMENT,)
    return [
        e
        for e in entries
        if (not statuses or e.status in statuses)
        and e.object_type in kinds
        and all(
            _holds_code(e.classified(scheme), slot)
            for name, scheme in _ENTRY_CODES.items()
            for slot in query.parameters.get(name, ())
        )
        and all(_within(e.value(slot), query, name) for name, slot in _ENTRY_TIMES.items())
        and _has_author(e.classified(v.ENTRY_AUTHOR), query.values(_ENTRY + "AuthorPerson"))
        and all(_refers(e, slot) for slot in query.parameters.get(_REFERENCES, ()))
    ]


def fitting_sets(query: StoredQuery, sets: Iterable[SubmissionSet]) -> list[SubmissionSet]:
    """The submission sets that meet every filter of the query, in the order given."""
    statuses = query.values(_SET + "Status")
    sources = query.values(_SET + "SourceId")
    return [
        s
        for s in sets
        if s.status in statuses
        and (not sources or s.identifier(v.SET_SOURCE_ID) in sources)
        and all(
            _holds_code(s.classified(v.SET_CONTENT_TYPE_CODE), slot)
            for slot in query.parameters.get(_SET + "ContentType", ())
        )
        and _within(s.value("submissionTime"), query, _SET + "SubmissionTime")
        and _has_author(s.classified(v.SET_AUTHOR), query.values(_SET + "AuthorPerson"))
    ]


def _holds_code(codes: Iterable[Classification], wanted: tuple[str, ...]) -> bool:
    return any(f"{c.code}^^{scheme}" in wanted for c in codes for scheme in c.values("codingScheme"))


def _refers(found: RegistryObject, wanted: tuple[str, ...]) -> bool:
    """One of the references is held: same id, authority and type (CXi.1, .4, .5)."""

    def key(text: str) -> tuple[str, ...]:
        parts = (*text.split("^"), "", "", "", "", "")
        return parts[0], parts[3], parts[4]

    return bool({key(r) for r in found.values(v.SLOT_REFERENCE_ID_LIST)} & {key(w) for w in wanted})


def _within(stated: str, query: StoredQuery, name: str) -> bool:
    """From ≤ stated < To (3.18.4.1.2.3). An entry without the time fits no bound on it."""
    low, high = (next(iter(query.values(name + end)), "") for end in ("From", "To"))
    if not low and not high:
        return True
    at = moment(stated)
    if at is None:
        return False
    return (moment(low) or datetime.min) <= at and (not high or at < (moment(high) or datetime.max))  # noqa: DTZ901 - DTM are compared as naive UTC, see moment()


def _has_author(authors: Iterable[Classification], patterns: tuple[str, ...]) -> bool:
    return not patterns or any(
        like(pattern, person) for a in authors for person in a.values("authorPerson") for pattern in patterns
    )


def like(pattern: str, text: str) -> bool:
    """SQL LIKE without SQL: ``%`` any run of characters, ``_`` any one (3.18.4.1.2.3).

    Greedy with one way back, so the cost is at most the product of the lengths, whatever the pattern.
    """
    p = t = 0
    star, mark = -1, 0
    while t < len(text):
        if p < len(pattern) and pattern[p] == "%":
            star, mark, p = p, t, p + 1
        elif p < len(pattern) and pattern[p] in {"_", text[t]}:
            p, t = p + 1, t + 1
        elif star >= 0:
            mark += 1
            p, t = star + 1, mark
        else:
            return False
    return not pattern[p:].strip("%")


def _refused(code: str, context: str) -> XdsRefusal:
    return XdsRefusal(RegistryError(code=code, context=context))
