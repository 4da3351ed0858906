"""A new pair tried on a real handshake before it is switched to (FF-40).

* towards a PACS: an association and its release, with the new pair shown and the PACS judged as ever;
* towards an index: a TLS connection to its address, then one request and its answer: with TLS 1.3 a server refuses a
  certificate only after the handshake (RFC 8446 §4.4.2.4);
* for a listener of ours: a listener with the new pair on loopback, called by a client that demands the chain and a
  host of the certificate; our peers are not ours to call.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.certificates.link import TrustedLink
from gateway.certificates.links import Link, Pair
from gateway.certificates.watch import TrustedLinks
from gateway.settings import CertificatesSettings
from security.clock import Clock
from security.errors import Unavailable
from security.keys.revocation import certificates_in
from security.keys.signer import PemSigner, verify

_LIMIT_S = 20.0
_PROBE = b"poterne certs rehearse"
Call = Callable[[ssl.SSLContext], Awaitable[str]]
"""One harmless question to the peer over a context; what answered. Raises ``Unavailable`` when nothing did."""


async def rehearse(
    link: Link, waiting: Pair, *, certificates: CertificatesSettings, clock: Clock, call: Call | None
) -> str:
    """What served the new pair. ``call``: the question for the peer of a client, None for a listener.

    Raises:
        Broken: the pair cannot be used. Unavailable: ``rehearsal-failed``, with what the other side said.
    """
    tried = replace(link, pair=waiting)
    if link.side == "server" or call is None:
        return await _served(tried, waiting, clock)
    links = TrustedLinks({link.key: tried}, certificates, clock)
    await links.settle()
    found: TrustedLink = links.by_key[link.key]
    try:
        async with asyncio.timeout(_LIMIT_S):
            return await call(found.context)
    except (OSError, TimeoutError) as error:
        raise Unavailable(
            f"{link.host}:{link.port} did not serve the new pair ({_said(error)})",
            code="rehearsal-failed",
            hint="see what it expects: authority, name, revocation; the pair in use was not touched",
        ) from error


def sign(waiting: Pair, clock: Clock) -> str:
    """Rehearse a pair that only signs: a signature is made and verified.

    Raises:
        Broken: the pair cannot be used.
    """
    signer = PemSigner(waiting.certificate_file, waiting.key_file, clock)
    verify(signer.certificate, signer.algorithm, _PROBE, signer.sign(_PROBE))
    return "signed and verified"


async def _served(link: Link, pair: Pair, clock: Clock) -> str:
    PemSigner(pair.certificate_file, pair.key_file, clock)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.certificate_file, pair.key_file, password="")
    shown = certificates_in(await asyncio.to_thread(pair.certificate_file.read_bytes))
    client = ssl.create_default_context(cadata=_bundle(link.ca_file, shown))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    listening = await asyncio.start_server(_hang_up, "127.0.0.1", 0, ssl=server)
    try:
        port = listening.sockets[0].getsockname()[1]
        host = _host(shown[0])
        async with asyncio.timeout(_LIMIT_S):
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=host)
            version = writer.get_extra_info("ssl_object").version()
            writer.close()
    except (OSError, TimeoutError) as error:
        raise Unavailable(
            f"a caller that demands chain and host does not take the new pair ({_said(error)})",
            code="rehearsal-failed",
            hint="ask the authority for a certificate with its chain and the host of this listener",
        ) from error
    finally:
        listening.close()
        await listening.wait_closed()
    return f"{host}, {version}"


async def _hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def _bundle(ca_file: Path, shown: tuple[x509.Certificate, ...]) -> str:
    """The link's authorities, and the self-signed ones that came with the certificate."""
    own = "".join(one.public_bytes(Encoding.PEM).decode() for one in shown[1:])
    return ca_file.read_text(encoding="ascii") + own


def _host(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return hosts[0]


def _said(error: BaseException) -> str:
    return str(getattr(error, "reason", "") or getattr(error, "verify_message", "") or type(error).__name__)
