"""TLS contexts for links whose both ends authenticate (security §2).

Invariants:

* TLS 1.2 or 1.3, the suites of PS3.15 B.12, no renegotiation, no compression, no session tickets;
* both sides show a certificate that chains to the authority of *this* link, never to the system's store;
* strict X.509 (RFC 5280) and, on the calling side, the name of the server in its subjectAltName;
* whoever has a judge asks it at the end of every handshake, resumed ones included, before a byte of the application.

Revocation needs lists that somebody refreshes (``security.keys.revocation``): the judge has them.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Protocol, Self

from security.errors import Broken
from security.secrets import read_secret

SUITES = ":".join(
    f"ECDHE-{key}-{cipher}" for cipher in ("AES256-GCM-SHA384", "AES128-GCM-SHA256") for key in ("ECDSA", "RSA")
)
"""The TLS 1.2 suites; those of TLS 1.3 are all acceptable and cannot be chosen here."""


class Judge(Protocol):
    """Who says whether a peer's certificate is believed now."""

    def refuses(self, certificate: bytes) -> str:
        """Why not, in one word; "" when it is."""
        ...


class _JudgedObject(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        _judge(self.context, self.getpeercert(binary_form=True))


class _JudgedSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  as theirs
        super().do_handshake(block)
        _judge(self.context, self.getpeercert(binary_form=True))


class _JudgedContext(ssl.SSLContext):
    """A context that asks its judge, None for nobody, at the end of each handshake."""

    sslobject_class = _JudgedObject
    sslsocket_class = _JudgedSocket
    judge: Judge | None = None


def _judge(context: ssl.SSLContext, certificate: bytes | None) -> None:
    judge = context.judge if isinstance(context, _JudgedContext) else None
    why = judge.refuses(certificate or b"") if judge else ""
    if why:
        raise ssl.SSLCertVerificationError(1, f"the peer's certificate is refused: {why}")


def server_context(
    cert: Path, key: Path, ca: Path, *, judge: Judge | None = None, lists: Sequence[bytes] = ()
) -> ssl.SSLContext:
    """Context of a listener that serves only clients whose certificate chains to ``ca``.

    ``lists``: fresh revocation lists of every authority of ``ca``, in PEM form, so that a revoked peer is told by the
    alert for it; none otherwise.

    Raises:
        Broken: ``tls-unusable``, and those of ``read_secret`` for the key.
    """
    context = _mutual(ssl.PROTOCOL_TLS_SERVER, cert, key, ca, judge)
    if lists:
        _check_lists(context, lists)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    return context


def page_context(cert: Path, key: Path, ca: Path | None) -> ssl.SSLContext:
    """Context of a listener that people's browsers open. With ``ca`` a browser may show a certificate that chains to
    it; who shows none signs in otherwise, who shows another is refused.

    Raises:
        Broken: ``tls-unusable``, and those of ``read_secret`` for the key.
    """
    context = _mutual(ssl.PROTOCOL_TLS_SERVER, cert, key, ca or cert, None)
    context.verify_mode = ssl.CERT_OPTIONAL if ca else ssl.CERT_NONE
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    return context


def client_context(cert: Path, key: Path, ca: Path, *, judge: Judge | None = None) -> ssl.SSLContext:
    """Context of a caller that shows ``cert`` and demands the server's name and a chain to ``ca``.

    Raises:
        Broken: ``tls-unusable``, and those of ``read_secret`` for the key.
    """
    context = _mutual(ssl.PROTOCOL_TLS_CLIENT, cert, key, ca, judge)
    context.hostname_checks_common_name = False
    return context


def visitor_context(ca: Path, *, pair: tuple[Path, Path] | None = None, judge: Judge | None = None) -> ssl.SSLContext:
    """Context of a caller of a server that need not know who calls, nor our suites: a PACS behind HTTP, a mail relay.
    It demands TLS 1.2 at least, the server's name and a chain to ``ca``. ``pair``: certificate and key of ours.

    Raises:
        Broken: ``tls-unusable``, and those of ``read_secret`` for the key.
    """
    context = _JudgedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.judge = judge
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if pair is not None:
        read_secret(pair[1], what="TLS key")
    _load(context, pair, ca)
    return context


class CurrentContext(ssl.SSLContext):
    """A context that can be exchanged while it is used: every new connection gets the one that is current.

    Exchanging the context inside an SNI callback changes the certificate but not whom it trusts, and reloading in
    place lets resumed sessions keep old trust; handing each connection to a fresh context does neither. Asyncio's
    servers and clients, aiohttp and pynetdicom take this object where they take a context. ``generation`` grows with
    each exchange: who keeps connections alive sees by it that they are of an older one.
    """

    generation: int
    _current: ssl.SSLContext

    def __new__(cls, current: ssl.SSLContext) -> Self:
        made = super().__new__(cls, current.protocol)
        made._current = current
        made.verify_mode = current.verify_mode
        made.generation = 0
        return made

    def exchange(self, current: ssl.SSLContext) -> None:
        """From the next connection on, ``current``."""
        self._current = current
        self.generation += 1

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """As the current context does."""
        return self._current.wrap_bio(*args, **kwargs)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """As the current context does."""
        return self._current.wrap_socket(*args, **kwargs)


def _mutual(protocol: int, cert: Path, key: Path, ca: Path, judge: Judge | None) -> ssl.SSLContext:
    read_secret(key, what="TLS key")  # ssl opens the file by itself, without judging who else may
    context = _JudgedContext(protocol)
    context.judge = judge
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(SUITES)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    _load(context, (cert, key), ca)
    return context


def _load(context: ssl.SSLContext, pair: tuple[Path, Path] | None, ca: Path) -> None:
    try:
        if pair is not None:
            # The password, never needed, keeps OpenSSL from asking a terminal for one.
            context.load_cert_chain(*pair, password="")
        context.load_verify_locations(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        cert, key = pair or ("none", "none")
        raise Broken(
            f"TLS cannot use certificate {cert}, key {key} and authority {ca}: {error.strerror or error}",
            code="tls-unusable",
            hint="the files are PEM, the key is unencrypted and belongs to the certificate",
        ) from error


def _check_lists(context: ssl.SSLContext, lists: Sequence[bytes]) -> None:
    """OpenSSL reads revocation lists from files alone."""
    with NamedTemporaryFile(suffix=".pem") as file:
        file.write(b"".join(lists))
        file.flush()
        context.load_verify_locations(cafile=file.name)
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
