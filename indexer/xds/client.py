"""The client of an XDS.b index: ITI-41, ITI-57, ITI-18 GetDocuments and ITI-43 over aiohttp.

Invariants:

* one call is one HTTP request: no redirect is followed, nothing is re-sent, no proxy variable is read (T26);
* before the first byte is handed to the connection a failure is ``NotSent``, from then on it is ``Ambiguous``
  until a readable answer to our own MessageID says otherwise (FF-20, F07);
* an answer is read up to a cap and never inflated (T24);
* plain HTTP goes to loopback only.

What an answer means stands in ``indexer.xds.answers``; when to try again belongs to the outbox.
"""

from __future__ import annotations

import io
import ipaddress
import os
import ssl
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp

from indexer.ports import Ambiguous, EntryAnswer, EntryUnknown, IndexAnswer, NotSent, StatusChange, Submission
from indexer.xds import vocabulary as xds
from indexer.xds.answers import (
    AnswerRules,
    Reply,
    entry_answer,
    registry_answer,
    retrieved_document,
    update_answer,
)
from indexer.xds.metadata import patient_named, retrieve_request, stored_query_get_documents
from indexer.xds.soap import NO_ATTACHMENTS, encode_request, provide_and_register_body
from indexer.xds.vihf import Errand
from security.clock import SystemClock
from security.crash import crash_point
from security.errors import BadInput, Broken, Fault, Unavailable

_KEEPALIVE_S = 10.0  # shorter than what servers keep, so that we rarely write into a connection they just closed
_CHUNK = 64 * 1024
_CERTIFICATE_ALERTS = frozenset(  # as OpenSSL spells the alerts of RFC 8446 §6.2
    {
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_ACCESS_DENIED",
        "TLSV1_ALERT_UNKNOWN_CA",
    }
)


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
            parts = urlsplit(url)
            if parts.scheme == "http" and _is_loopback(parts.hostname or ""):
                continue
            if parts.scheme != "https" or self.tls is None:
                raise Broken(
                    f"index address {parts.scheme}://{parts.hostname}: mutual TLS is required",
                    code="index-address",
                    hint="configure an https address with certificate and trust anchors; http is for loopback only",
                )


@dataclass(slots=True)
class _Progress:
    """How far one request came; aiohttp's trace hook writes it."""

    sent: bool = False


class XdsClient:
    """``NationalIndex`` over XDS.b. One instance per tenant and index; use it on one event loop and close it."""

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
        self._observe_date = observe_date
        self._assertion = assertion
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

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
        progress = _Progress()
        try:
            async with self._open_session().post(
                url,
                data=io.BytesIO(data),  # aiohttp warns about long bytes; a file is written in pieces
                headers={"Content-Type": content_type},
                allow_redirects=False,
                trace_request_ctx=progress,
            ) as response:
                if crash_at:
                    crash_point(crash_at)
                self._observe_date(response.headers.get("Date", ""), SystemClock().now())
                answer = await self._read(response)
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            return _failure(error, sent=progress.sent)
        if answer is None:
            return Ambiguous(
                reason="answer-too-large", detail=f"more than {self._endpoint.response_bytes_max} bytes of answer"
            )
        return Reply(
            message_id=message_id,
            http_status=response.status,
            content_type=response.headers.get("Content-Type", ""),
            data=answer,
            retry_after=response.headers.get("Retry-After", ""),
        )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes | None:
        """The answer's body as sent, None when it is over the cap."""
        answer = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            answer += chunk
            if len(answer) > self._endpoint.response_bytes_max:
                return None
        return bytes(answer)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(_note_sent)
            self._session = aiohttp.ClientSession(
                # aiohttp sets TCP_NODELAY on every connection; limits are the outbox's business
                connector=aiohttp.TCPConnector(
                    ssl=self._endpoint.tls or True, limit=0, keepalive_timeout=_KEEPALIVE_S
                ),
                timeout=aiohttp.ClientTimeout(
                    total=self._endpoint.total_timeout_s, connect=self._endpoint.connect_timeout_s
                ),
                headers={"Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                trace_configs=[trace],
            )
        return self._session


async def _note_sent(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    """Just before aiohttp hands the request's head to the transport."""
    context.trace_request_ctx.sent = True


def _failure(error: BaseException, *, sent: bool) -> NotSent | Ambiguous:
    """What a failed exchange means. The text of an error may quote the peer: its type and number do not."""
    number = getattr(error, "errno", None)
    detail = type(error).__name__ + (f": {os.strerror(number)}" if isinstance(number, int) and number > 0 else "")
    # With TLS 1.3 our handshake ends before the peer has judged our certificate: its refusal arrives after the
    # request was written, yet the peer's application never saw a byte of it (RFC 8446 §4.4.2.4).
    if isinstance(error, aiohttp.ClientSSLError) or _refuses_our_certificate(error):
        return NotSent(reason="tls-refused", detail=detail)
    late = isinstance(error, TimeoutError)
    if sent:
        return Ambiguous(reason="timeout" if late else "connection-lost", detail=detail)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NotSent(reason="name-not-found", detail=detail)
    return NotSent(reason="connect-timeout" if late else "no-connection", detail=detail)


def _refuses_our_certificate(error: BaseException) -> bool:
    """Whether the connection ended by a TLS alert about our certificate (RFC 8446 §6.2)."""
    cause = error.__cause__
    return isinstance(cause, ssl.SSLError) and cause.reason in _CERTIFICATE_ALERTS


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
