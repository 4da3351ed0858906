"""Lists and answers fetched from configured addresses, and from nowhere else (T26).

Invariants:

* an address comes from the configuration, never from a certificate, a list or an answer;
* a name is resolved once and the connection goes to what it gave; every address it gives must be public, or of a
  network that the site named; a literal address is held to the same;
* one exchange, no redirect, no proxy, no cookie; nothing is inflated; what is read has a cap and a deadline.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from security.errors import BadInput, Refused, Unavailable

TIMEOUT_S = 30.0
_CHUNK = 64 * 1024
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    body: bytes


class Fetcher:
    """Asks configured addresses. ``networks``: those of the site's own that may be asked."""

    def __init__(self, networks: Iterable[str] = (), *, timeout_s: float = TIMEOUT_S) -> None:
        self._networks = tuple(ipaddress.ip_network(one) for one in networks)
        self._timeout_s = timeout_s

    async def fetch(
        self,
        url: str,
        *,
        bytes_max: int,
        body: bytes | None = None,
        content_type: str = "",
        ca_file: Path | None = None,
    ) -> bytes:
        """The bytes of one answer with status 200: GET, or POST of ``body``. ``ca_file``: authorities of an https
        server, None for the system's.

        Raises:
            Refused: ``fetch-address`` another scheme, or an address nobody named.
            Unavailable: ``fetch-failed`` no connection, another status, too slow.
            BadInput: ``fetch-too-large``.
        """
        secure = ssl.create_default_context(cafile=ca_file)
        secure.minimum_version = ssl.TLSVersion.TLSv1_2
        answer = await self.ask(url, tls=secure, bytes_max=bytes_max, body=body, content_type=content_type)
        if answer.status != 200:
            raise Unavailable(
                f"{urlsplit(url).hostname} answered HTTP {answer.status}", code="fetch-failed", hint=_LATER
            )
        return answer.body

    async def ask(
        self,
        url: str,
        *,
        tls: ssl.SSLContext,
        bytes_max: int,
        body: bytes | None = None,
        content_type: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One answer of any status: GET, or POST of ``body``. ``tls``: whom an https server must be, and who we are.

        Raises:
            Refused, Unavailable, BadInput: as ``fetch``, whatever the status.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise _not_allowed("another scheme than http and https")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = await self._resolved(parts.hostname, port)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(resolver=_Pinned(found), use_dns_cache=False, ssl=tls),
                    timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                    headers={"Accept-Encoding": "identity"},
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    trust_env=False,
                ) as session,
                session.request(
                    "GET" if body is None else "POST",
                    url,
                    data=body,
                    headers={**({"Content-Type": content_type} if content_type else {}), **(headers or {})},
                    allow_redirects=False,
                ) as answer,
            ):
                return Answer(status=answer.status, body=await _read(answer, bytes_max))
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            raise Unavailable(
                f"{parts.hostname} cannot be asked ({type(error).__name__})", code="fetch-failed", hint=_LATER
            ) from error

    async def _resolved(self, host: str, port: int) -> Sequence[ResolveResult]:
        """Where a name leads, each place allowed."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Unavailable(f"{host} has no address", code="fetch-failed", hint=_LATER) from error
        results = []
        for family, _, protocol, _, where in found:
            address = ipaddress.ip_address(str(where[0]).partition("%")[0])
            if not is_allowed(address, self._networks):
                raise _not_allowed(f"{host} leads to an address that is not public")
            results.append(
                ResolveResult(
                    hostname=host, host=str(where[0]), port=port, family=family, proto=protocol,
                    flags=socket.AI_NUMERICHOST,
                )
            )  # fmt: skip
        return results


def is_allowed(address: Address, networks: Iterable[Network]) -> bool:
    """Whether an address may be asked: public, or of one of ``networks``. An IPv4 address in an IPv6 one is judged
    itself."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return is_allowed(inner, networks)
        if address in _NAT64:
            return is_allowed(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF), networks)
        if address.teredo is not None:
            return False
    return (address.is_global and not address.is_multicast) or any(address in network for network in networks)


class _Pinned(AbstractResolver):
    """What was judged is what is connected to."""

    def __init__(self, found: Sequence[ResolveResult]) -> None:
        self._found = found

    async def resolve(
        self,
        host: str,  # noqa: ARG002  as theirs
        port: int = 0,  # noqa: ARG002
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002
    ) -> list[ResolveResult]:
        return list(self._found)

    async def close(self) -> None:
        return None


async def _read(answer: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    held = bytearray()
    async for chunk in answer.content.iter_chunked(_CHUNK):
        held += chunk
        if len(held) > bytes_max:
            raise BadInput(f"more than {bytes_max} bytes of answer", code="fetch-too-large", hint=_LATER)
    return bytes(held)


def _not_allowed(reason: str) -> Refused:
    return Refused(
        f"not asked: {reason}",
        code="fetch-address",
        hint="name an address the site means; networks of its own stand in certificates.networks",
    )


_LATER = "see whether its address is right and whether this machine may reach it"
