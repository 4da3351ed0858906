"""What every HTTP adapter shares: one peer, one exchange per question, JSON within bounds.

Invariants:

* one session per question, in one thread (a requests Session is not made to be shared), cut with it;
* every answer is capped, of an awaited status and media type, parsed by ``security.parse.json``; redirects,
  proxies, netrc and compressed bodies are refused or ignored, and no body is read before its head is judged;
* a request is repeated at most once, only a GET, only when the connection broke before an answer;
* texts are exact or there is no answer: JSON is UTF-8 (RFC 8259 8.1), whatever a ``charset`` says (FF-10).

The only door of ``requests``.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from gateway.bridge import Call
from gateway.pacs.door import Inconclusive
from security.errors import BadInput
from security.identity import Uid
from security.parse.json import parse_json

# Its log quotes addresses, which hold UIDs: our answers say what happened.
logging.getLogger("urllib3").setLevel(logging.CRITICAL + 1)

# Orthanc: 850 bytes and 20 values per instance were measured: room for 75,000, which the parser's VALUES_MAX makes
# 50,000. QIDO-RS: 700 bytes and 22 values per instance.
ANSWER_BYTES_MAX = 64 * 1024 * 1024
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpPeer:
    """One PACS behind HTTP and how long it is waited for.

    ``url``: base address. ``password``: the secret itself, read by the caller; no user, no authentication.
    ``ca_file``: authorities for https, None for the system's; ``tls``: the context that judges the server, in place
    of the library's own. ``certificate_file``, ``key_file``: ours, both or none. ``timeout_s``: to connect, and
    without progress; ``deadline_s``: for a whole question;
    ``questions_max``: questions at once. ``control``: a study that this PACS always holds, None when the site
    names none.
    """

    name: str
    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    certificate_file: Path | None = None
    key_file: Path | None = None
    timeout_s: float = 30.0
    deadline_s: float = 120.0
    control: Uid | None = None
    questions_max: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """One clean answer. ``value``: its JSON, None when the status is 204. ``warning``: the ``Warning`` header."""

    value: Any
    warning: str = ""


class HttpExchange:
    """The requests of one question; made by ``open``."""

    def __init__(self, peer: HttpPeer, session: requests.Session, *, media_types: tuple[str, ...]) -> None:
        self._peer = peer
        self._session = session
        self._media_types = media_types

    @classmethod
    @contextmanager
    def open(cls, peer: HttpPeer, call: Call, *, media_types: tuple[str, ...]) -> Iterator[Self]:
        """An exchange whose sockets are shut when ``call`` is cut.

        ``media_types``: those an answer may have; the first is asked for.
        """
        with _StraightSession() as session:
            session.trust_env = False  # no proxy, no netrc: the PACS is where the configuration says
            session.headers.update({"Accept": media_types[0], "Accept-Encoding": "identity"})
            if peer.username:
                session.auth = HTTPBasicAuth(peer.username.encode(), peer.password.encode())
            if peer.ca_file is not None:
                session.verify = str(peer.ca_file)
            if peer.certificate_file is not None and peer.key_file is not None:
                session.cert = (str(peer.certificate_file), str(peer.key_file))
            adapter = _CuttableAdapter(peer.tls)
            call.on_cut(adapter.cut)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            yield cls(peer, session, media_types=media_types)

    def json(
        self,
        method: str,
        path: str,
        *,
        listed: bool = False,
        may_be_empty: bool = False,
        bytes_max: int = ANSWER_BYTES_MAX,
        **body: Any,
    ) -> HttpAnswer:
        """One request below the base address; ``body`` is that of requests (``data`` or ``json``).

        ``listed``: the peer named this resource a moment ago, so a 404 says that it is gone. ``may_be_empty``:
        204 is an answer too.

        Raises:
            Inconclusive: no clean answer of status 200 (or 204) came back.
            BadInput: it is no JSON.
        """
        what = path.partition("?")[0]
        try:
            with self._session.request(
                method,
                self._peer.url.rstrip("/") + path,
                timeout=self._peer.timeout_s,
                allow_redirects=False,
                stream=True,
                **body,
            ) as response:
                if may_be_empty and response.status_code == http.client.NO_CONTENT:
                    return HttpAnswer(value=None, warning=response.headers.get("Warning", ""))
                self._check(response, listed=listed)
                data = _read(response, bytes_max)
                warning = response.headers.get("Warning", "")
        except requests.Timeout:
            raise Inconclusive("timeout", f"no progress for {self._peer.timeout_s:g} s") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as cause:
            raise Inconclusive("unreachable", f"the exchange broke ({type(cause).__name__})") from None
        try:
            return HttpAnswer(value=parse_json(data, what=what, limit=bytes_max), warning=warning)
        except BadInput as fault:
            if fault.code != "json-not-utf8":
                raise
            raise Inconclusive(
                "undecodable-identity", "the answer is not UTF-8, as JSON must be: correct the PACS's character set"
            ) from None

    def _check(self, response: requests.Response, *, listed: bool) -> None:
        status = response.status_code
        if status in (401, 403):
            raise Inconclusive("unauthorised", f"HTTP {status}: check the user, password or certificate of this PACS")
        if status == 404 and listed:
            raise Inconclusive("changing", "what the peer just listed is gone: the study changes right now")
        if status != 200:
            raise Inconclusive(f"http-{status}", f"HTTP {status} where 200 is due: {_said(status)}")
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind not in self._media_types or response.headers.get("Content-Encoding", "identity") != "identity":
            raise Inconclusive(
                "bad-answer", f"the answer is no plain {self._media_types[0]}: check the url of this PACS"
            )


def _said(status: int) -> str:
    """What to think of a status that is no answer."""
    match status:
        case 400 | 404 | 405 | 406 | 415 | 501:
            return "the peer does not know this question; check the url of this PACS"
        case 413:
            return "the peer holds the answer for too large"
        case 429 | 503:
            return "the peer is busy"
        case _:
            return "the peer failed, or sends elsewhere" if status < 400 or status >= 500 else "the peer refuses"


def _read(response: requests.Response, bytes_max: int) -> bytes:
    data = bytearray()
    for chunk in response.iter_content(_CHUNK):
        data += chunk
        if len(data) > bytes_max:
            raise Inconclusive("too-large", f"more than {bytes_max} bytes")
    return bytes(data)


class _StraightSession(requests.Session):
    """A session for which no answer is a redirect.

    ``allow_redirects=False`` alone does not do: requests then still prepares the next request, for which it reads
    the whole body of the answer and parses ``Location``.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002 - the signature of requests
        return None


class _CuttableAdapter(HTTPAdapter):
    """An adapter that knows its sockets, so that a thread waiting on one can be woken.

    A request is repeated at most once, only a GET, only when the connection broke before an answer (a kept
    connection that the peer closed meanwhile).
    """

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._opened: list[socket.socket] = []
        self._is_cut = False
        again = urllib3.Retry(
            total=1,
            connect=0,
            read=1,
            redirect=0,
            status=0,
            other=0,
            allowed_methods={"GET"},
            backoff_factor=0,
            respect_retry_after_header=False,  # else a busy peer that says so becomes one that broke
        )
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=again)

    def cut(self) -> None:
        """Shut every socket. Never blocks."""
        self._is_cut = True
        for opened in tuple(self._opened):
            _shut(opened)

    def close(self) -> None:
        """Close the pool and every socket: the pool alone waits for the garbage collector."""
        super().close()
        for opened in self._opened:
            opened.close()

    def _watch(self, opened: socket.socket) -> None:
        self._opened.append(opened)
        if self._is_cut:  # it was cut while connecting
            _shut(opened)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        if self._tls is not None:
            kwargs["ssl_context"] = self._tls
        super().init_poolmanager(*args, **kwargs)
        watch = self._watch

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                watch(self.sock)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                watch(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}


def _shut(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        socket.socket.shutdown(opened, socket.SHUT_RDWR)  # the plain one: another thread may be inside the TLS one
