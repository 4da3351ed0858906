"""The pair of a listener that browsers open, alive: taken anew when its files change, without a connection cut.

Invariants:

* what is new is tried in a fresh context first, its dates too; what cannot be used changes nothing, is told, and is
  tried again at each look;
* at the start a certificate whose dates are over is served all the same, and alarmed elsewhere: nobody could sign in
  to see why, and publication does not wait for the console.

Leaves to others: whom a certificate of a person stands for (``security.accounts``), and that it was revoked there.
"""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import structlog

from gateway.certificates.link import Changed, stamps
from gateway.settings import OpsSettings
from security.clock import Clock
from security.errors import Fault
from security.keys.signer import PemSigner
from security.keys.tls import CurrentContext, page_context

log = structlog.get_logger()

OPS = "ops"


class Page:
    """The context of one such listener. ``key``: of its section."""

    def __init__(self, key: str, certificate: Path, private: Path, ca: Path | None, *, clock: Clock) -> None:
        """Read the files.

        Raises:
            Broken: ``tls-unusable``, those of ``read_secret``.
        """
        self.key = key
        self.fault = ""
        self._certificate, self._private, self._ca = certificate, private, ca
        self._clock = clock
        self._stamps = stamps((certificate, private, ca))
        self.context = CurrentContext(self._fresh())

    def look(self, changed: Changed = lambda _key, _shown: None) -> None:
        """Take files that changed into use. ``changed``: told of the section and of the certificate from now on."""
        found = stamps((self._certificate, self._private, self._ca))
        if found == self._stamps and not self.fault:
            return
        self._stamps, trouble = found, self.fault
        try:
            shown = PemSigner(self._certificate, self._private, self._clock).der  # judges the pair, key and dates
            self.context.exchange(self._fresh())
        except Fault as fault:
            self.fault = fault.code
            if self.fault != trouble:
                log.warning("tls-not-renewed", link=self.key, fault=fault)
            return
        self.fault = ""
        log.info("tls-renewed", link=self.key)
        changed(self.key, hashlib.sha256(shown).hexdigest())

    def _fresh(self) -> ssl.SSLContext:
        return page_context(self._certificate, self._private, self._ca)


def page_of(ops: OpsSettings, clock: Clock) -> Page | None:
    """The console's, None when it speaks no TLS.

    Raises:
        Broken: as ``Page``.
    """
    if not (ops.certificate_file and ops.key_file):
        return None
    return Page(OPS, ops.certificate_file, ops.key_file, ops.ca_file, clock=clock)
