"""What the index node answers, as frozen values and as the elements that carry them (ITI TF-3 4.2.4, ebRS 3.0).

Invariants:

* a ``codeContext`` names the rule and the place, never a patient's value: it ends in other people's logs;
* an answer with an error is never Success; ITI-41 and ITI-42 know no partial success (ITI TF-2 3.41.4.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lxml import etree

from indexer.xds import vocabulary as v
from indexer.xds.objects import Kept, element
from security.errors import BadInput

_RS = f"{{{v.NS_RS}}}"
_RIM = f"{{{v.NS_RIM}}}"
_QUERY = f"{{{v.NS_QUERY}}}"
_XDSB = f"{{{v.NS_XDSB}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryError:
    """One rs:RegistryError. ``location``: the object, by kind and ordinal, "" for the whole message."""

    code: str
    context: str
    location: str = ""
    severity: str = v.SEVERITY_ERROR


class XdsRefusal(BadInput):
    """A request this index answers with errors instead of results."""

    def __init__(self, *errors: RegistryError) -> None:
        super().__init__("; ".join(f"{e.code}: {e.context}" for e in errors), code="xds-refused")
        self.errors = errors


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAnswer:
    """Answer to ITI-41, ITI-42 and ITI-57. ``registered``: entryUUIDs of everything the request added."""

    errors: tuple[RegistryError, ...] = ()
    registered: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        return v.RESPONSE_FAILURE if self.errors else v.RESPONSE_SUCCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryAnswer:
    """Answer to ITI-18. ``leaf``: whole objects (LeafClass), else only their ids (ObjectRef). ``patients``: blind
    indexes of those that the query looked at, for its record."""

    errors: tuple[RegistryError, ...] = ()
    objects: tuple[Kept, ...] = ()
    leaf: bool = True
    patients: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        return v.RESPONSE_FAILURE if self.errors else v.RESPONSE_SUCCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievedDocument:
    """One document of an ITI-43 answer. ``patient``: its blind index, for the record of the read."""

    unique_id: str
    mime_type: str
    content: bytes
    patient: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieveAnswer:
    """Answer to ITI-43. ``repository`` and ``home`` are the node's own."""

    repository: str
    home: str = ""
    errors: tuple[RegistryError, ...] = ()
    documents: tuple[RetrievedDocument, ...] = ()

    @property
    def status(self) -> str:
        if not self.errors:
            return v.RESPONSE_SUCCESS
        return v.RESPONSE_PARTIAL_SUCCESS if self.documents else v.RESPONSE_FAILURE


def registry_response(answer: RegistryAnswer) -> etree._Element:
    """The rs:RegistryResponse element."""
    return _response(_RS + "RegistryResponse", answer.status, answer.errors)


def query_response(answer: QueryAnswer) -> etree._Element:
    """The query:AdhocQueryResponse element; a failed query carries an empty RegistryObjectList (ITI TF-2 3.18)."""
    root = _response(_QUERY + "AdhocQueryResponse", answer.status, answer.errors)
    found = etree.SubElement(root, _RIM + "RegistryObjectList", nsmap={"rim": v.NS_RIM})
    for kept in answer.objects:
        if answer.leaf:
            found.append(element(kept))
        else:
            etree.SubElement(found, _RIM + "ObjectRef", id=kept.id)
    return root


def retrieve_response(answer: RetrieveAnswer) -> tuple[etree._Element, dict[str, bytes]]:
    """The xdsb:RetrieveDocumentSetResponse element and the attachments its xop:Include elements name, by cid."""
    root = etree.Element(_XDSB + "RetrieveDocumentSetResponse", nsmap={"xdsb": v.NS_XDSB})
    root.append(_response(_RS + "RegistryResponse", answer.status, answer.errors))
    attachments: dict[str, bytes] = {}
    for number, document in enumerate(answer.documents, start=1):
        cid = f"document{number}@poterne"
        attachments[cid] = document.content
        item = etree.SubElement(root, _XDSB + "DocumentResponse")
        if answer.home:
            etree.SubElement(item, _XDSB + "HomeCommunityId").text = answer.home
        etree.SubElement(item, _XDSB + "RepositoryUniqueId").text = answer.repository
        etree.SubElement(item, _XDSB + "DocumentUniqueId").text = document.unique_id
        etree.SubElement(item, _XDSB + "mimeType").text = document.mime_type
        holder = etree.SubElement(item, _XDSB + "Document")
        etree.SubElement(holder, f"{{{v.NS_XOP}}}Include", href="cid:" + cid, nsmap={"xop": v.NS_XOP})
    return root, attachments


def _response(tag: str, status: str, errors: Iterable[RegistryError]) -> etree._Element:
    root = etree.Element(tag, status=status, nsmap={"rs": v.NS_RS, "query": v.NS_QUERY})
    listed = tuple(errors)
    if listed:
        worst = v.SEVERITY_ERROR if any(e.severity == v.SEVERITY_ERROR for e in listed) else v.SEVERITY_WARNING
        errors_list = etree.SubElement(root, _RS + "RegistryErrorList", highestSeverity=worst)
        for e in listed:
            own = {"errorCode": e.code, "codeContext": e.context, "location": e.location, "severity": e.severity}
            etree.SubElement(errors_list, _RS + "RegistryError", own)
    return root
