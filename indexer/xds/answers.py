"""What an answer of the index means: accepted, refused, busy, or nobody knows (FF-20, FF-21, F10).

Invariants:

* accepted is said in exactly one way: a readable RegistryResponse with status Success, without an error in it,
  in answer to our own MessageID, under an HTTP status of success;
* whatever cannot be read after the request has left is ``Ambiguous``: the index is asked before any re-send;
* a code no table lists is neither retried nor declared lasting: a person looks (reliability §2);
* both answers products give to a resubmission, duplicate id and non-identical hash, are one outcome,
  ``already-there`` (FF-21);
* the index's own words (codeContext, fault reason, page text) may name a patient and never leave this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lxml import etree

from indexer.ports import (
    Accepted,
    Ambiguous,
    EntryAbsent,
    EntryAnswer,
    EntryFound,
    EntryUnknown,
    EntryVersion,
    IndexAnswer,
    Listed,
    Rejected,
)
from indexer.wire import BUSY_STATUSES, HttpReply, retry_after_s
from indexer.xds import vocabulary as xds
from indexer.xds.soap import Envelope, SoapFault, decode, octets, text
from security.errors import BadInput, Fault, Unavailable

SIGNATURE_TYPE = "text/xml"  # the set's signature document stands beside its manifest (drim-m §5)
_VERSION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_CODE = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRules:
    """``internal_errors``: what XDSRegistryError and XDSRepositoryError mean at this index (ihe.md §3.8).
    ``deleted_status``: availabilityStatus of what was withdrawn there."""

    internal_errors: Literal["hold", "retry", "refuse"] = "hold"
    deleted_status: str = xds.STATUS_DELETED


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(HttpReply):
    """One HTTP answer to the request with MessageID ``message_id``."""

    message_id: str


def registry_answer(reply: Reply, rules: AnswerRules) -> IndexAnswer:
    """The outcome of ITI-41, which knows no partial success (ITI TF-2 3.41.4.2.3)."""
    read = _open(reply, f"{{{xds.NS_RS}}}RegistryResponse")
    if not isinstance(read, Envelope):
        return read
    status = read.body.get("status", "")
    errors, warnings = _codes(read.body)
    if status == xds.RESPONSE_FAILURE:
        return refusal(errors, rules)
    if status != xds.RESPONSE_SUCCESS or errors or not 200 <= reply.http_status < 300:
        return Ambiguous(
            reason="contradictory-answer",
            detail=f"status {_last_word(status)} with {len(errors)} errors under HTTP {reply.http_status}",
        )
    return Accepted(detail="with warnings " + " ".join(warnings) if warnings else "")


def update_answer(reply: Reply, rules: AnswerRules) -> IndexAnswer:
    """The outcome of ITI-57. An entry that is no longer as we saw it is no refusal: our own earlier attempt may be
    the reason, so the index is asked (I9)."""
    answer = registry_answer(reply, rules)
    if isinstance(answer, Rejected) and not xds.CHANGED_MEANWHILE_CODES.isdisjoint(answer.codes):
        return Ambiguous(reason="changed-meanwhile", detail=answer.detail)
    return answer


def entry_answer(reply: Reply, unique_id: str, rules: AnswerRules) -> EntryAnswer:
    """What ITI-18 GetDocuments by uniqueId shows. Absent needs a clean answer with an empty list."""
    listed = _listed(reply)
    if isinstance(listed, EntryUnknown):
        return listed
    if not listed:
        return EntryAbsent()
    entries = [e for e in listed if e.tag == f"{{{xds.NS_RIM}}}ExtrinsicObject" and _unique_id(e) == unique_id]
    if len(entries) != len(listed):
        return EntryUnknown(reason="other-objects", detail="the answer lists objects that were not asked for")
    return _entry(entries, unique_id, rules)


def entries_shown(reply: Reply, unique_ids: Sequence[str], rules: AnswerRules) -> Mapping[str, EntryFound]:
    """What ITI-18 GetDocuments by a list of uniqueIds shows, nothing of an unclean answer."""
    listed = _listed(reply)
    if isinstance(listed, EntryUnknown):
        return {}
    by_uid: dict[str, list[etree._Element]] = {}
    for element in listed:
        if element.tag == f"{{{xds.NS_RIM}}}ExtrinsicObject":
            by_uid.setdefault(_unique_id(element), []).append(element)
    found = {uid: _entry(by_uid[uid], uid, rules) for uid in unique_ids if uid in by_uid}
    return {uid: one for uid, one in found.items() if isinstance(one, EntryFound)}


def _listed(reply: Reply) -> list[etree._Element] | EntryUnknown:
    """The objects of a clean answer to ITI-18."""
    read = _open(reply, f"{{{xds.NS_QUERY}}}AdhocQueryResponse")
    if not isinstance(read, Envelope):
        reason = "+".join(read.codes) if isinstance(read, Rejected) else read.reason
        return EntryUnknown(reason=reason, detail=read.detail)
    status = read.body.get("status", "")
    errors, _ = _codes(read.body)
    objects = read.body.find(f"{{{xds.NS_RIM}}}RegistryObjectList")
    if status != xds.RESPONSE_SUCCESS or errors or objects is None or not 200 <= reply.http_status < 300:
        return EntryUnknown(
            reason="+".join(errors) or "query-failed",
            detail=f"the query was answered with status {_last_word(status)} under HTTP {reply.http_status}",
        )
    return list(objects.iterchildren(etree.Element))


def listed_entries(reply: Reply, rules: AnswerRules) -> tuple[Listed, ...] | EntryUnknown:
    """What ITI-18 FindDocumentsByReferenceId lists. Empty needs a clean answer with an empty list."""
    objects = _listed(reply)
    if isinstance(objects, EntryUnknown):
        return objects
    found: list[Listed] = []
    for element in objects:
        if element.get("mimeType") == SIGNATURE_TYPE:
            continue
        unique_id = _unique_id(element) if element.tag == f"{{{xds.NS_RIM}}}ExtrinsicObject" else ""
        if not unique_id:
            return EntryUnknown(reason="other-objects", detail="the answer lists objects that were not asked for")
        entry = _entry([element], unique_id, rules)
        if not isinstance(entry, EntryFound):
            return EntryUnknown(reason="unreadable-entry", detail="an entry of the answer cannot be read")
        person, institution = _author(element)
        found.append(
            Listed(
                entry=entry,
                created=_first(element, "creationTime"),
                author=person.partition("^")[0],
                institution=[*institution.split("^"), *[""] * 10][9],
            )
        )
    return tuple(found)


def _author(entry: etree._Element) -> tuple[str, str]:
    """AuthorPerson and authorInstitution of XDSDocumentEntry, "" when it states none or several authors."""
    said = [
        (_first(one, "authorPerson"), _first(one, "authorInstitution"))
        for one in entry.iterchildren(f"{{{xds.NS_RIM}}}Classification")
        if one.get("classificationScheme") == xds.ENTRY_AUTHOR
    ]
    return said[0] if len(said) == 1 else ("", "")


def _first(owner: etree._Element, slot: str) -> str:
    """The first value of a Slot, "" when it is not there."""
    values = (
        text(value)
        for one in owner.iterchildren(f"{{{xds.NS_RIM}}}Slot")
        if one.get("name") == slot
        for value in one.iter(f"{{{xds.NS_RIM}}}Value")
    )
    return next(values, "")


def retrieved_document(reply: Reply, unique_id: str) -> bytes:
    """The document that ITI-43 brought.

    Raises:
        Unavailable, BadInput: none came; ``code`` is the index's own error code where it gave one.
    """
    read = _open(reply, f"{{{xds.NS_XDSB}}}RetrieveDocumentSetResponse")
    if isinstance(read, Rejected):
        raise _no_document(read.codes[0], lasting=read.lasting)
    if isinstance(read, Ambiguous):
        raise _no_document(read.reason, lasting=False)
    response = read.body.find(f"{{{xds.NS_RS}}}RegistryResponse")
    errors = _codes(response)[0] if response is not None else []
    if errors:
        raise _no_document(errors[0], lasting=errors[0] not in xds.TRANSIENT_CODES)
    if response is None or response.get("status") != xds.RESPONSE_SUCCESS:
        raise _no_document("retrieve-failed", lasting=True)
    found = [
        element.find(f"{{{xds.NS_XDSB}}}Document")
        for element in read.body.iterchildren(f"{{{xds.NS_XDSB}}}DocumentResponse")
        if text(element.find(f"{{{xds.NS_XDSB}}}DocumentUniqueId")) == unique_id
    ]
    if len(found) != 1 or found[0] is None:
        raise _no_document("retrieve-other-document", lasting=True)
    return octets(found[0], read.attachments)


# -- the envelope ------------------------------------------------------------------------------------------------


def _open(reply: Reply, root: str) -> Envelope | Rejected | Ambiguous:
    """The envelope, when it is an answer to our request with the expected body element."""
    try:
        envelope = decode(reply.content_type, reply.data)
    except SoapFault as fault:
        return _faulted(reply, fault)
    except BadInput as fault:
        return _by_status(reply, fault.code)
    if envelope.relates_to != reply.message_id:
        return Ambiguous(reason="wrong-relates-to", detail="the answer does not relate to our MessageID")
    if envelope.body.tag != root:
        return Ambiguous(reason="wrong-root", detail=f"the answer's body is not {etree.QName(root).localname}")
    return envelope


def _faulted(reply: Reply, fault: SoapFault) -> Rejected | Ambiguous:
    """A Receiver fault may pass (SOAP 1.2 §5.4.6); any other is about us, and nobody knows yet which part of us."""
    if fault.relates_to not in {
        "",
        reply.message_id,
    }:  # a node that could not read our header has nothing to relate to
        return Ambiguous(reason="wrong-relates-to", detail="the SOAP Fault does not relate to our MessageID")
    passing = fault.fault_code == "Receiver"
    return Rejected(
        lasting=not passing,
        known=passing,
        codes=(f"soap-{fault.fault_code.lower()}",),
        detail=f"SOAP Fault {fault.fault_code} under HTTP {reply.http_status}",
        retry_after_s=retry_after_s(reply.retry_after),
    )


def _by_status(reply: Reply, why: str) -> Rejected | Ambiguous:
    """An answer that is no SOAP message: only its HTTP status speaks.

    502, 504 and a bare 500 come from hops that do not know what the index did behind them (FF-23), so they are
    ambiguous rather than busy.
    """
    status = reply.http_status
    if status in BUSY_STATUSES:
        return Rejected(
            lasting=False,
            known=True,
            codes=(f"http-{status}",),
            detail=f"HTTP {status}",
            retry_after_s=retry_after_s(reply.retry_after),
        )
    if status == 409:
        return Ambiguous(reason="already-there", detail="HTTP 409")
    if 300 <= status < 500:
        detail = f"HTTP {status} without a SOAP message: address, certificate or route, not the exam"
        return Rejected(lasting=True, known=False, codes=(f"http-{status}",), detail=detail)
    return Ambiguous(reason="unreadable-answer", detail=f"HTTP {status}, {len(reply.data)} bytes: {why}")


# -- the ebXML response ------------------------------------------------------------------------------------------


def _codes(response: etree._Element) -> tuple[list[str], list[str]]:
    """The errorCode values by severity, each once: errors, warnings."""
    errors: dict[str, None] = {}
    warnings: dict[str, None] = {}
    for element in response.iterfind(f"{{{xds.NS_RS}}}RegistryErrorList/{{{xds.NS_RS}}}RegistryError"):
        code = element.get("errorCode", "").strip()
        severity = element.get("severity", xds.SEVERITY_ERROR)
        (warnings if severity == xds.SEVERITY_WARNING else errors)[code if _CODE.fullmatch(code) else "no-code"] = (
            None
        )
    return list(errors), list(warnings)


def refusal(codes: Sequence[str], rules: AnswerRules) -> Rejected | Ambiguous:
    """What a failure with these error codes of ITI TF-3 table 4.2.4.1-2 means, whichever door said it.

    "Already there" outweighs whatever stands beside it: an index that knows our uniqueId often complains of our
    entryUUIDs too, and asking costs nothing. Otherwise the worst decides: unlisted, then lasting, then transient.
    """
    listed = " ".join(codes) or "without an error"
    if not xds.ALREADY_THERE_CODES.isdisjoint(codes):
        return Ambiguous(reason="already-there", detail=f"the index knows this submission: {listed}")
    retried = xds.TRANSIENT_CODES | (xds.INTERNAL_CODES if rules.internal_errors == "retry" else frozenset())
    refused = xds.LASTING_CODES | (xds.INTERNAL_CODES if rules.internal_errors == "refuse" else frozenset())
    return Rejected(
        lasting=not refused.isdisjoint(codes),
        known=bool(codes) and (retried | refused).issuperset(codes),
        codes=tuple(codes) or ("no-code",),
        detail=f"the index refused: {listed}",
    )


def _unique_id(entry: etree._Element) -> str:
    values = [
        identifier.get("value", "")
        for identifier in entry.iterchildren(f"{{{xds.NS_RIM}}}ExternalIdentifier")
        if identifier.get("identificationScheme") == xds.ENTRY_UNIQUE_ID
    ]
    return values[0] if len(values) == 1 else ""


def _entry(entries: Sequence[etree._Element], unique_id: str, rules: AnswerRules) -> EntryAnswer:
    """One entry, or the only approved one of several versions of its metadata."""
    words = {xds.STATUS_APPROVED: "Approved", xds.STATUS_DEPRECATED: "Deprecated", rules.deleted_status: "Deleted"}
    approved = [entry for entry in entries if entry.get("status") == xds.STATUS_APPROVED]
    if len(approved) > 1:
        return EntryUnknown(reason="several-approved", detail=f"{len(approved)} approved entries have this uniqueId")
    entry = approved[0] if approved else entries[0]
    entry_uuid, status = entry.get("id", ""), words.get(entry.get("status", ""))
    if status is None or not entry_uuid.startswith("urn:uuid:"):
        return EntryUnknown(
            reason="unreadable-entry",
            detail="the entry is neither approved, deprecated nor deleted, or has no entryUUID",
        )
    return EntryFound(
        entry_uuid=entry_uuid, unique_id=unique_id, status=status, codes=_codes_of(entry), revision=_revision(entry)
    )


def _codes_of(entry: etree._Element) -> frozenset[str] | None:
    """Its confidentialityCode values; an entry has one at least, so none is an answer that does not tell."""
    stated = (
        one.get("nodeRepresentation", "")
        for one in entry.iterchildren(f"{{{xds.NS_RIM}}}Classification")
        if one.get("classificationScheme") == xds.ENTRY_CONFIDENTIALITY_CODE
    )
    return frozenset(filter(None, stated)) or None


def _revision(entry: etree._Element) -> EntryVersion | None:
    """What a new version of its metadata must name (ITI TF-2 3.57.4.1.3.3.1), None where the index does not say."""
    info = entry.find(f"{{{xds.NS_RIM}}}VersionInfo")
    number = info.get("versionName", "") if info is not None else ""
    logical_id, repository = entry.get("lid", ""), _first(entry, "repositoryUniqueId")
    if not _VERSION.fullmatch(number) or not logical_id.startswith("urn:uuid:") or not repository:
        return None
    return EntryVersion(
        entry_uuid=entry.get("id", ""), logical_id=logical_id, version=int(number), repository=repository
    )


def _no_document(code: str, *, lasting: bool) -> Fault:
    kind = BadInput if lasting else Unavailable
    return kind(
        "ITI-43 brought no document",
        code=code,
        hint="ask the operator of the index" if lasting else "ask again later",
    )


def _last_word(status: str) -> str:
    word = status.rpartition(":")[2]
    return word if _CODE.fullmatch(word) else "unreadable"
