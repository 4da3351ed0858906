"""The client of an XDS.b index: ITI-41, ITI-57, ITI-18 GetDocuments and ITI-43 over aiohttp.

Invariants:

* one call is one exchange on the wire, with what ``indexer.wire`` holds of each (T24, T26);
* what was sent is ``Ambiguous`` until a readable answer to our own MessageID says otherwise (FF-20, F07).

What an answer means stands in ``indexer.xds.answers``; when to try again belongs to the outbox.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer.ports import (
    Ambiguous,
    EntryAnswer,
    EntryFound,
    EntryUnknown,
    IndexAnswer,
    Listed,
    NotSent,
    StatusChange,
    Submission,
)
from indexer.wire import HttpReply, Wire, require_mutual_tls
from indexer.xds import vocabulary as xds
from indexer.xds.answers import (
    AnswerRules,
    Reply,
    entries_shown,
    entry_answer,
    listed_entries,
    registry_answer,
    retrieved_document,
    update_answer,
)
from indexer.xds.metadata import (
    patient_named,
    retrieve_request,
    stored_query_by_reference,
    stored_query_get_documents,
)
from indexer.xds.soap import NO_ATTACHMENTS, encode_request, provide_and_register_body
from indexer.xds.vihf import Errand
from security.errors import BadInput, Fault, Unavailable
from security.identity import Uid


@dataclass(frozen=True, slots=True, kw_only=True)
class XdsEndpoint:
    """Where one index is. ``tls``: our client certificate and the peer's trust anchors; None for loopback only.

    ``connect_timeout_s`` covers name, TCP and TLS; ``total_timeout_s`` the whole exchange; ``response_bytes_max``
    the body of an answer.

    Raises:
        Broken: ``index-address`` a URL that is not https, nor http on loopback, or https without ``tls``.
    """

    registry_url: str
    repository_url: str
    repository_unique_id: str
    tls: ssl.SSLContext | None = None
    connect_timeout_s: float = 10.0
    total_timeout_s: float = 120.0
    response_bytes_max: int = 32 * 1024 * 1024

    def __post_init__(self) -> None:
        for url in (self.registry_url, self.repository_url):
            require_mutual_tls(url, self.tls)


class XdsClient:
    """``NationalIndex`` over XDS.b. One instance per tenant and index; use it on one event loop and close it."""

    spans_patients = False
    provides, updates = "ITI-41", "ITI-57"

    def __init__(
        self,
        endpoint: XdsEndpoint,
        rules: AnswerRules | None = None,
        *,
        observe_date: Callable[[str, datetime], None] = lambda _header, _at: None,
        assertion: Callable[[Errand], bytes] | None = None,
    ) -> None:
        """``observe_date``: given the Date header (RFC 9110 §6.6.1) of each answer and when it arrived.
        ``assertion``: makes the wsse:Security header of one attempt (``indexer.xds.vihf``), None for none."""
        self._endpoint = endpoint
        self._rules = rules or AnswerRules()
        self._assertion = assertion
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
        """ITI-41 with the stored bytes."""
        body, attachments = provide_and_register_body(submission)
        reply = await self._exchange(
            self._endpoint.repository_url,
            xds.ITI_41,
            body,
            attachments,
            mtom=True,
            crash_at="request-sent",
            errand=lambda: Errand(
                patient_id=patient_named(submission.metadata),
                is_secret=submission.is_secret,
                sender=submission.sender,
            ),
        )
        return registry_answer(reply, self._rules) if isinstance(reply, Reply) else reply

    async def update_status(self, change: StatusChange) -> IndexAnswer:
        """ITI-57 with the stored bytes, to the registry (ITI TF-2 3.57)."""
        reply = await self._exchange(
            self._endpoint.registry_url,
            xds.ITI_57,
            change.metadata,
            mtom=False,
            crash_at="request-sent",
            errand=lambda: Errand(patient_id=patient_named(change.metadata)),
        )
        return update_answer(reply, self._rules) if isinstance(reply, Reply) else reply

    async def find_document(self, unique_id: str) -> EntryAnswer:
        """ITI-18 GetDocuments by uniqueId."""
        body = stored_query_get_documents(unique_id)
        reply = await self._exchange(self._endpoint.registry_url, xds.ITI_18, body, mtom=False)
        if isinstance(reply, Reply):
            return entry_answer(reply, unique_id, self._rules)
        return EntryUnknown(reason=reply.reason, detail=reply.detail)

    async def find_documents(self, unique_ids: Sequence[str]) -> Mapping[str, EntryFound]:
        """ITI-18 GetDocuments by a list of uniqueIds, all of one patient."""
        body = stored_query_get_documents(*unique_ids)
        reply = await self._exchange(self._endpoint.registry_url, xds.ITI_18, body, mtom=False)
        return entries_shown(reply, unique_ids, self._rules) if isinstance(reply, Reply) else {}

    async def find_by_reference(self, patient: str, study: Uid, issuer: str) -> tuple[Listed, ...] | EntryUnknown:
        """ITI-18 FindDocumentsByReferenceId: approved, deprecated and, where the index tells, withdrawn manifests."""
        statuses = (xds.STATUS_APPROVED, xds.STATUS_DEPRECATED, self._rules.deleted_status)
        body = stored_query_by_reference(patient, study, issuer, statuses)
        reply = await self._exchange(self._endpoint.registry_url, xds.ITI_18, body, mtom=False)
        if isinstance(reply, Reply):
            return listed_entries(reply, self._rules)
        return EntryUnknown(reason=reply.reason, detail=reply.detail)

    async def retrieve_document(self, unique_id: str, repository: str) -> bytes:
        """ITI-43 from the configured repository.

        Raises:
            BadInput: ``XDSUnknownRepositoryId`` another repository is asked for: we only dial configured peers.
            Unavailable, BadInput: no document came back, with the index's own error code in ``code``.
        """
        if repository != self._endpoint.repository_unique_id:
            raise BadInput(
                "ITI-43 for a repository that is not configured",
                code="XDSUnknownRepositoryId",
                hint="compare the entry's repositoryUniqueId with the configured one",
            )
        body = retrieve_request(repository, unique_id)
        reply = await self._exchange(self._endpoint.repository_url, xds.ITI_43, body, mtom=True)
        if isinstance(reply, Reply):
            return retrieved_document(reply, unique_id)
        raise Unavailable(f"ITI-43: {reply.detail}", code=reply.reason, hint="ask again later")

    async def _exchange(
        self,
        url: str,
        action: str,
        body: bytes,
        attachments: Mapping[str, bytes] = NO_ATTACHMENTS,
        *,
        mtom: bool,
        crash_at: str = "",
        errand: Callable[[], Errand] = Errand,
    ) -> Reply | NotSent | Ambiguous:
        """One request and the bytes of its answer."""
        try:
            security = self._assertion(errand()) if self._assertion else b""
        except Fault as fault:  # a certificate that is not valid now: nothing leaves until the operator acted
            return NotSent(reason=fault.code, detail=str(fault.args[0]))
        message_id = f"urn:uuid:{uuid.uuid4()}"
        content_type, data = encode_request(
            action=action,
            to=url,
            message_id=message_id,
            body=body,
            attachments=attachments,
            mtom=mtom,
            security=security,
        )
        reply = await self._wire.exchange(
            "POST",
            url,
            headers={"Content-Type": content_type},
            data=data,
            transaction=xds.TRANSACTIONS[action],
            credential=security,
            crash_at=crash_at,
        )
        if not isinstance(reply, HttpReply):
            return reply
        return Reply(
            message_id=message_id,
            http_status=reply.http_status,
            content_type=reply.content_type,
            data=reply.data,
            retry_after=reply.retry_after,
        )
