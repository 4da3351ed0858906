"""TLS contexts for links whose both ends authenticate (security §2).

Invariants:

* TLS 1.2 or 1.3, the suites of PS3.15 B.12, no renegotiation, no compression, no session tickets;
* both sides show a certificate that chains to the authority of *this* link, never to the system's store;
* strict X.509 (RFC 5280) and, on the calling side, the name of the server in its subjectAltName.

Revocation is not checked here: it needs lists that somebody refreshes.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Self

from security.errors import Broken
from security.secrets import read_secret

SUITES = ":".join(
    f"ECDHE-{key}-{cipher}" for cipher in ("AES256-GCM-SHA384", "AES128-GCM-SHA256") for key in ("ECDSA", "RSA")
)
"""The TLS 1.2 suites; those of TLS 1.3 are all acceptable and cannot be chosen here."""


def server_context(cert: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Context of a listener that serves only clients whose certificate chains to ``ca``.

    Raises:
        Broken: ``tls-unusable``, and those of ``read_secret`` for the key.
    """
    context = _mutual(ssl.PROTOCOL_TLS_SERVER, cert, key, ca)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    return context


def client_context(cert: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Context of a caller that shows ``cert`` and demands the server's name and a chain to ``ca``.

    Raises:
        Broken: ``tls-unusable``, and those of ``read_secret`` for the key.
    """
    context = _mutual(ssl.PROTOCOL_TLS_CLIENT, cert, key, ca)
    context.hostname_checks_common_name = False
    return context


class CurrentContext(ssl.SSLContext):
    """A listener's context that can be exchanged while it listens: every new connection gets the one that is current.

    Exchanging the context inside an SNI callback changes the certificate but not whom it trusts, and reloading in
    place lets resumed sessions keep old trust; handing each connection to a fresh context does neither. Asyncio's
    servers take this object where they take a context.
    """

    _current: ssl.SSLContext

    def __new__(cls, current: ssl.SSLContext) -> Self:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made._current = current
        return made

    def exchange(self, current: ssl.SSLContext) -> None:
        """From the next connection on, ``current``."""
        self._current = current

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """As the current context does."""
        return self._current.wrap_bio(*args, **kwargs)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """As the current context does."""
        return self._current.wrap_socket(*args, **kwargs)


def _mutual(protocol: int, cert: Path, key: Path, ca: Path) -> ssl.SSLContext:
    read_secret(key, what="TLS key")  # ssl opens the file by itself, without judging who else may
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(SUITES)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        # The password, never needed, keeps OpenSSL from asking a terminal for one.
        context.load_cert_chain(cert, key, password="")
        context.load_verify_locations(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise Broken(
            f"TLS cannot use certificate {cert}, key {key} and authority {ca}: {error.strerror or error}",
            code="tls-unusable",
            hint="the files are PEM, the key is unencrypted and belongs to the certificate",
        ) from error
    return context
