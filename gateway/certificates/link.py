"""One link, alive: its context, its judge, and both made anew when files, lists or answers change.

Invariants:

* what is new is tried in a fresh context first; what cannot be used changes nothing, is named, and is told;
* a connection that is open stays open over an exchange of the pair; a peer that is no longer believed is refused at
  its next handshake at once and on a kept connection when the judge is next asked;
* what could not be used is tried again at each look: a clock that was wrong, or a pair that is not valid yet, mends
  itself; no look ends the process;
* the same file twice is read once: by inode, time and size.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import structlog
from cryptography import x509

from gateway.certificates.links import Link
from security.clock import Clock
from security.errors import BadInput, Broken, Fault
from security.keys.authority import CLIENT_AUTH, SERVER_AUTH
from security.keys.revocation import Trust, certificates_in, lists_in
from security.keys.signer import PemSigner
from security.keys.tls import CurrentContext, client_context, server_context, visitor_context
from security.secrets import replace_private

log = structlog.get_logger()

Stamp = tuple[int, int, int]
VISITED = frozenset({"pacs-http", "alerts"})
"""Kinds of links to servers that need not know our suites."""
Changed = Callable[[str, str], None]
"""Told of the link's key and the SHA-256 of the certificate of ours that is in use from now on."""


class TrustedLink:
    """The context and the judge of one link."""

    def __init__(self, link: Link, *, clock: Clock, grace_s: float, folder: Path | None = None) -> None:
        """Read the files. ``folder``: where fetched lists are kept, None for memory alone.

        Raises:
            Broken: ``tls-unusable``, ``key-mismatch``, ``certificate-expired``, those of ``read_secret``.
        """
        self.link = link
        self.fault = ""
        self._clock = clock
        self._folder = folder
        self._stamps = stamps(self._files())
        self.trust = Trust(
            self._authorities(),
            clock=clock,
            unknown=link.revocation.unknown,
            grace=timedelta(seconds=grace_s),
            purpose=_purpose(link),
        )
        self._take_files()
        self.shown = ""
        self._checked = self.trust.lists_for_handshakes()
        self.context = CurrentContext(self._fresh())

    def look(self, changed: Changed = lambda _key, _shown: None) -> None:
        """Take what changed on disk, or in what is held of lists, into use. ``changed``: told of another pair."""
        found = stamps(self._files())
        if found != self._stamps or self.fault or self.trust.lists_for_handshakes() != self._checked:
            self._stamps = found
            self._renew(changed)

    def take_list(self, source: str, data: bytes) -> None:
        """Use a fetched list, and keep it for the next start.

        Raises:
            BadInput: ``crl-…``.
        """
        found = lists_in(data, self.trust.authorities)
        if self.trust.take_lists(found) and self._folder is not None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_private(self._kept(source), data)

    def _renew(self, changed: Changed) -> None:
        before, trouble = self.shown, self.fault
        try:
            self.trust.use(self._authorities())
            self._take_files()
            self._checked = self.trust.lists_for_handshakes()
            self.context.exchange(self._fresh())
        except Fault as fault:
            self.fault = fault.code
            if self.fault != trouble:
                log.warning("tls-not-renewed", link=self.link.key, fault=fault)
            return
        self.fault = ""
        if self.shown != before or trouble:
            log.info("tls-renewed", link=self.link.key)
        if self.shown != before:
            changed(self.link.key, self.shown)

    def _fresh(self) -> ssl.SSLContext:
        """A context of the files as they are.

        Raises:
            Broken: as the constructor.
        """
        pair, ca = self.link.pair, self.link.ca_file
        if pair is None or self.link.kind in VISITED:
            return visitor_context(
                ca, pair=(pair.certificate_file, pair.key_file) if pair else None, judge=self.trust
            )
        signer = PemSigner(pair.certificate_file, pair.key_file, self._clock)  # judges the pair, key and dates
        made = (
            server_context(pair.certificate_file, pair.key_file, ca, judge=self.trust, lists=self._checked)
            if self.link.side == "server"
            else client_context(pair.certificate_file, pair.key_file, ca, judge=self.trust)
        )
        self.shown = hashlib.sha256(signer.der).hexdigest()
        return made

    def _authorities(self) -> tuple[x509.Certificate, ...]:
        try:
            return certificates_in(self.link.ca_file.read_bytes())
        except (OSError, BadInput) as error:
            raise Broken(
                f"{self.link.ca_file} holds no authorities that can be read",
                code="tls-unusable",
                hint="give them in PEM form, one after the other, up to the root",
            ) from error

    def _take_files(self) -> None:
        """The list file of the configuration, and what was fetched before. One that cannot be used is named: what
        follows from its absence is the link's rule."""
        own = self.link.revocation.crl_file
        kept = [self._kept(url) for url in self.link.revocation.crl_urls if self._folder is not None]
        for path in (own, *kept):
            if path is None or not path.exists():
                continue
            try:
                self.trust.take_lists(lists_in(path.read_bytes(), self.trust.authorities))
            except (OSError, BadInput) as error:
                code = error.code if isinstance(error, BadInput) else "crl-unreadable"
                log.warning("revocation-list-not-used", link=self.link.key, file=str(path), code=code)

    def _kept(self, source: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{hashlib.sha256(source.encode()).hexdigest()[:32]}.crl"

    def _files(self) -> tuple[Path | None, ...]:
        pair = self.link.pair
        own = (pair.certificate_file, pair.key_file) if pair else ()
        return *own, self.link.ca_file, self.link.revocation.crl_file


def _purpose(link: Link) -> x509.ObjectIdentifier | None:
    """What the peer's certificate must be for (security §2): demanded beyond the network of the PACS, where devices
    often show certificates that state nothing."""
    if link.kind in {"dicom", "pacs", "pacs-http"}:
        return None
    return CLIENT_AUTH if link.side == "server" else SERVER_AUTH


def stamps(files: tuple[Path | None, ...]) -> Mapping[Path, Stamp]:
    """Inode, time and size of each file, of those that are there."""
    found: dict[Path, Stamp] = {}
    for path in files:
        with contextlib.suppress(OSError):
            if path is not None:
                status = path.stat()
                found[path] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return found
