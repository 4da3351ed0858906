"""One HTTP exchange with a configured peer: exactly one request, and what its end means for what we sent.

Invariants:

* one call is one HTTP request: no redirect is followed, nothing is re-sent, no proxy variable is read (T26);
* before the first byte is handed to the connection a failure is ``NotSent``, from then on it is ``Ambiguous``
  (FF-20, F07);
* an answer is read up to a cap and never inflated (T24);
* plain HTTP goes to loopback only; TLS shows our certificate;
* whoever tapes gets every exchange as it was, also what came of an answer that was cut, and never a credential.
* when our pair or whom we trust changes, the next exchange is on a new connection, and none under way is cut.

What an answer means stands with each door to the index (``indexer.xds.answers``, ``indexer.mhd.answers``); when to
try again belongs to the outbox.
"""

from __future__ import annotations

import io
import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp

from indexer.ports import Ambiguous, NotSent
from security.clock import SystemClock
from security.crash import crash_point
from security.errors import Broken
from security.keys.tls import CurrentContext

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
BUSY_STATUSES = frozenset({408, 425, 429, 503})
"""RFC 9110 §15.5.9 and §15.6.4, RFC 8470, RFC 6585: the request was not processed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """One HTTP answer, its body as sent. Header values as received, "" when absent."""

    http_status: int
    content_type: str
    data: bytes = field(repr=False)
    retry_after: str = ""


def retry_after_s(retry_after: str) -> float | None:
    """Retry-After in its seconds form (RFC 9110 §10.2.3); a date is left to our own back-off."""
    return float(retry_after) if re.fullmatch(r"[0-9]{1,9}", retry_after.strip()) else None


TAPED_MAX = 64 * 1024
"""Bytes of an answer that a tape keeps; how many there were stands beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One exchange as it was on the wire.

    ``transaction``: of IHE; ``url``: without its query; ``request``: the body as it left; ``credential``: the part of
    it that proves who we are, b"" for none. ``http_status``: 0 when no answer began. ``answer``: the first
    ``TAPED_MAX`` bytes of the ``answer_bytes`` that came; ``failure``: why it did not end, "" when it came whole;
    ``detail``: of the failure.
    """

    transaction: str
    method: str
    url: str
    began_at: datetime
    ended_at: datetime
    request_type: str
    request: bytes = field(repr=False)
    credential: bytes = field(default=b"", repr=False)
    http_status: int = 0
    answer_type: str = ""
    answer: bytes = field(default=b"", repr=False)
    answer_bytes: int = 0
    failure: str = ""
    detail: str = ""


@dataclass(slots=True)
class _Tape:
    now: Callable[[], datetime]
    exchanges: list[Exchange] = field(default_factory=list)


_TAPE: ContextVar[_Tape | None] = ContextVar("tape", default=None)


@contextmanager
def taped(now: Callable[[], datetime]) -> Iterator[list[Exchange]]:
    """Every exchange that ends inside the block, of this task and of those it begins, in the order in which they
    end. ``now``: the clock of their stamps."""
    tape = _Tape(now=now)
    token = _TAPE.set(tape)
    try:
        yield tape.exchanges
    finally:
        _TAPE.reset(token)


@dataclass(slots=True)
class _Progress:
    """How far one exchange came; aiohttp's trace hook writes ``sent``."""

    sent: bool = False
    http_status: int = 0
    content_type: str = ""
    data: bytearray = field(default_factory=bytearray, repr=False)


@dataclass(slots=True, kw_only=True)
class _Pool:
    """Connections made while one certificate and one trust were current. ``users``: exchanges under way."""

    session: aiohttp.ClientSession
    generation: int
    users: int = 0


class Wire:
    """The connections to one peer. Use it on one event loop and close it.

    ``tls``: our client certificate and the peer's trust anchors; None for loopback only. ``connect_timeout_s`` covers
    name, TCP and TLS; ``total_timeout_s`` the whole exchange; ``response_bytes_max`` the body of an answer.
    ``observe_date``: given the Date header (RFC 9110 §6.6.1) of each answer and when it arrived.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None,
        connect_timeout_s: float,
        total_timeout_s: float,
        response_bytes_max: int,
        observe_date: Callable[[str, datetime], None],
    ) -> None:
        self._tls = tls
        self._timeout = aiohttp.ClientTimeout(total=total_timeout_s, connect=connect_timeout_s)
        self._response_bytes_max = response_bytes_max
        self._observe_date = observe_date
        self._pool: _Pool | None = None

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.session.close()

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        data: bytes | None = None,
        transaction: str,
        credential: bytes = b"",
        crash_at: str = "",
    ) -> HttpReply | NotSent | Ambiguous:
        """One request and the bytes of its answer. ``transaction``: its name in IHE; ``credential``: what of ``data``
        no tape may keep."""
        tape, progress, asked = _TAPE.get(), _Progress(), (method, url, headers)
        if tape is None:
            return await self._exchanged(asked, data, progress, crash_at)
        began_at = tape.now()
        failed: NotSent | Ambiguous | None = Ambiguous(reason="cancelled", detail="nobody waited for its end")
        try:
            reply = await self._exchanged(asked, data, progress, crash_at)
            failed = None if isinstance(reply, HttpReply) else reply
            return reply
        finally:
            tape.exchanges.append(
                Exchange(
                    transaction=transaction,
                    method=method,
                    url=url.partition("?")[0],
                    began_at=began_at,
                    ended_at=tape.now(),
                    request_type=headers.get("Content-Type", ""),
                    request=data or b"",
                    credential=credential,
                    http_status=progress.http_status,
                    answer_type=progress.content_type,
                    answer=bytes(progress.data[:TAPED_MAX]),
                    answer_bytes=len(progress.data),
                    failure=failed.reason if failed else "",
                    detail=failed.detail if failed else "",
                )
            )

    async def _exchanged(
        self,
        asked: tuple[str, str, Mapping[str, str]],
        data: bytes | None,
        progress: _Progress,
        crash_at: str,
    ) -> HttpReply | NotSent | Ambiguous:
        method, url, headers = asked
        pool = await self._taken_pool()
        try:
            async with pool.session.request(
                method,
                url,
                # aiohttp warns about long bytes; a file is written in pieces
                data=None if data is None else io.BytesIO(data),
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=progress,
            ) as response:
                if crash_at:
                    crash_point(crash_at)
                progress.http_status = response.status
                progress.content_type = response.headers.get("Content-Type", "")
                self._observe_date(response.headers.get("Date", ""), SystemClock().now())
                is_read = await self._read(response, progress.data)
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            return _failure(error, sent=progress.sent)
        finally:
            pool.users -= 1
            await self._let_go(pool)
        if not is_read:
            return Ambiguous(
                reason="answer-too-large", detail=f"more than {self._response_bytes_max} bytes of answer"
            )
        return HttpReply(
            http_status=progress.http_status,
            content_type=progress.content_type,
            data=bytes(progress.data),
            retry_after=response.headers.get("Retry-After", ""),
        )

    async def _read(self, response: aiohttp.ClientResponse, answer: bytearray) -> bool:
        """The answer's body as sent, into ``answer``; False when it is over the cap."""
        async for chunk in response.content.iter_chunked(_CHUNK):
            answer += chunk
            if len(answer) > self._response_bytes_max:
                return False
        return True

    async def _taken_pool(self) -> _Pool:
        """Connections of the certificate and trust that are current, with one more user; older ones end with their
        last exchange."""
        generation = self._tls.generation if isinstance(self._tls, CurrentContext) else 0
        old = self._pool
        if old is not None and old.generation == generation:
            old.users += 1
            return old
        self._pool = current = _Pool(session=self._opened(), generation=generation, users=1)
        if old is not None:
            await self._let_go(old)
        return current

    async def _let_go(self, pool: _Pool) -> None:
        if pool is not self._pool and not pool.users:
            await pool.session.close()

    def _opened(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_note_sent)
        return aiohttp.ClientSession(
            # aiohttp sets TCP_NODELAY on every connection; limits are the outbox's business
            connector=aiohttp.TCPConnector(ssl=self._tls or True, limit=0, keepalive_timeout=_KEEPALIVE_S),
            timeout=self._timeout,
            headers={"Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            trace_configs=[trace],
        )


def require_mutual_tls(url: str, tls: ssl.SSLContext | None) -> None:
    """Refuse an address that would carry patients in clear.

    Raises:
        Broken: ``index-address`` it is not https, nor http on loopback, or https without ``tls``.
    """
    parts = urlsplit(url)
    if parts.scheme == "http" and _is_loopback(parts.hostname or ""):
        return
    if parts.scheme != "https" or tls is None:
        raise Broken(
            f"index address {parts.scheme}://{parts.hostname}: mutual TLS is required",
            code="index-address",
            hint="configure an https address with certificate and trust anchors; http is for loopback only",
        )


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
