"""The client of an MHD index: ITI-65, ITI-67 by identifier and ITI-68 over aiohttp.

Invariants:

* one call is one exchange on the wire, with what ``indexer.wire`` holds of each (T24, T26); a retrieval is two, the
  search that says where the document is, and the document, under the configured address only;
* what goes out is a pure function of the stored submission: an attempt repeats the bytes of the one before (FF-21);
* an identifier is asked by POST _search: no URL of ours names a document or a patient.

A search for a document is by its uniqueId and every status, without the patient: the uniqueId names one document in
the world, and a patient whose identifiers were merged since would turn a found entry into a false absence. MHD asks
of a consumer that it names the patient; a responder that insists answers 400, which concludes nothing.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode, urljoin

from indexer.mhd import values
from indexer.mhd import vocabulary as mhd
from indexer.mhd.answers import (
    entries_shown,
    entry_answer,
    is_within,
    listed_entries,
    no_document,
    provide_answer,
    retrieved,
    search_matches,
    withdrawal_answer,
)
from indexer.mhd.transaction import FhirDocuments, provide_bundle, withdrawal_bundle
from indexer.ports import EntryAnswer, EntryFound, EntryUnknown, IndexAnswer, Listed, StatusChange, Submission
from indexer.wire import HttpReply, Wire, require_mutual_tls
from indexer.xds import vocabulary as xds
from indexer.xds.answers import AnswerRules
from indexer.xds.ebrim import cx
from security.errors import Unavailable
from security.identity import Uid

_STATUSES = f"{mhd.CURRENT},{mhd.SUPERSEDED},{mhd.IN_ERROR}"
_ACCEPT = {"Accept": mhd.FHIR_JSON}


@dataclass(frozen=True, slots=True, kw_only=True)
class MhdEndpoint:
    """Where one index is. ``base_url``: the FHIR base; ``tls``: our client certificate and the peer's trust anchors,
    None for loopback only. Time-outs and cap as ``indexer.wire.Wire`` has them.

    Raises:
        Broken: ``index-address`` as ``require_mutual_tls``.
    """

    base_url: str
    fhir_documents: FhirDocuments = "binary"
    tls: ssl.SSLContext | None = None
    connect_timeout_s: float = 10.0
    total_timeout_s: float = 120.0
    response_bytes_max: int = 32 * 1024 * 1024

    def __post_init__(self) -> None:
        require_mutual_tls(self.base_url, self.tls)


class MhdClient:
    """``NationalIndex`` over MHD. One instance per tenant and index; use it on one event loop and close it."""

    spans_patients = True
    provides, updates = "ITI-65", "ITI-65"

    def __init__(
        self,
        endpoint: MhdEndpoint,
        rules: AnswerRules | None = None,
        *,
        observe_date: Callable[[str, datetime], None] = lambda _header, _at: None,
    ) -> None:
        """``observe_date``: given the Date header (RFC 9110 §6.6.1) of each answer and when it arrived."""
        self._endpoint = endpoint
        self._base = endpoint.base_url.rstrip("/")
        self._rules = rules or AnswerRules()
        self._wire = Wire(
            tls=endpoint.tls,
            connect_timeout_s=endpoint.connect_timeout_s,
            total_timeout_s=endpoint.total_timeout_s,
            response_bytes_max=endpoint.response_bytes_max,
            observe_date=observe_date,
        )

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        await self._wire.aclose()

    async def provide_and_register(self, submission: Submission) -> IndexAnswer:
        """ITI-65 with the stored bytes."""
        bundle, entries = provide_bundle(submission, fhir_documents=self._endpoint.fhir_documents)
        reply = await self._transaction(bundle, "ITI-65")
        return provide_answer(reply, self._rules, entries=entries) if isinstance(reply, HttpReply) else reply

    async def update_status(self, change: StatusChange) -> IndexAnswer:
        """ITI-65 with a List and the PATCH of the entry's status."""
        bundle, entries = withdrawal_bundle(change)
        reply = await self._transaction(bundle, "ITI-65 PATCH")
        return withdrawal_answer(reply, self._rules, entries=entries) if isinstance(reply, HttpReply) else reply

    async def find_document(self, unique_id: str) -> EntryAnswer:
        """ITI-67 by identifier, whatever the status."""
        reply = await self._search(unique_id)
        return entry_answer(reply, unique_id) if isinstance(reply, HttpReply) else reply

    async def find_documents(self, unique_ids: Sequence[str]) -> Mapping[str, EntryFound]:
        """ITI-67 by several identifiers, whatever the status."""
        wanted = [values.unique_id_value(unique_id) for unique_id in unique_ids]
        named = ",".join(f"{one['system']}|{one['value']}" for one in wanted)
        reply = await self._asked({"identifier": named, "_count": str(max(len(wanted), 1))})
        return entries_shown(reply, unique_ids) if isinstance(reply, HttpReply) else {}

    async def find_by_reference(self, patient: str, study: Uid, issuer: str) -> tuple[Listed, ...] | EntryUnknown:
        """ITI-67 by patient and related identifier, whatever the status."""
        related = values.related_of_cxi(cx(str(study), issuer, xds.REFERENCE_STUDY))["identifier"]
        named = values.identifier_of_cx(patient)
        reply = await self._asked(
            {
                "patient.identifier": f"{named.get('system', '')}|{named['value']}",
                "related:identifier": f"{related['system']}|{related['value']}",
            }
        )
        return listed_entries(reply) if isinstance(reply, HttpReply) else reply

    async def retrieve_document(self, unique_id: str, repository: str) -> bytes:  # noqa: ARG002 - MHD has one base
        """ITI-68 of the document that ITI-67 finds.

        Raises:
            Unavailable, BadInput: no document came back; ``document-elsewhere`` its URL leaves the configured base.
        """
        reply = await self._search(unique_id)
        matches = search_matches(reply, unique_id) if isinstance(reply, HttpReply) else reply
        if isinstance(matches, EntryUnknown):
            raise no_document(matches.reason, lasting=False)
        shown = [one for one in matches if one.status == mhd.CURRENT] or matches
        if len(shown) != 1:
            raise no_document("XDSDocumentUniqueIdError", lasting=True)
        url = urljoin(self._base + "/", shown[0].url)
        if not is_within(url, self._base):
            raise no_document("document-elsewhere", lasting=True)
        document = await self._wire.exchange("GET", url, headers={"Accept": "*/*"}, transaction="ITI-68")
        if isinstance(document, HttpReply):
            return retrieved(document)
        raise Unavailable(f"ITI-68: {document.detail}", code=document.reason, hint="ask again later")

    async def _transaction(self, bundle: bytes, transaction: str) -> HttpReply | IndexAnswer:
        headers = {"Content-Type": mhd.FHIR_JSON, **_ACCEPT}
        return await self._wire.exchange(
            "POST", self._base, headers=headers, data=bundle, transaction=transaction, crash_at="request-sent"
        )

    async def _search(self, unique_id: str) -> HttpReply | EntryUnknown:
        wanted = values.unique_id_value(unique_id)
        return await self._asked({"identifier": f"{wanted['system']}|{wanted['value']}"})

    async def _asked(self, what: Mapping[str, str]) -> HttpReply | EntryUnknown:
        """The answer to a search, whatever the status."""
        form = urlencode({**what, "status": _STATUSES})
        headers = {"Content-Type": "application/x-www-form-urlencoded", **_ACCEPT}
        url = f"{self._base}/DocumentReference/_search"
        reply = await self._wire.exchange("POST", url, headers=headers, data=form.encode(), transaction="ITI-67")
        return reply if isinstance(reply, HttpReply) else EntryUnknown(reason=reply.reason, detail=reply.detail)
