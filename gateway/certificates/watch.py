"""Every link of a running site kept current: files looked at, lists fetched, questions asked, changes told.

One task. A source that does not answer is asked again sooner; what is held stays in use meanwhile. A peer that is
seen for the first time on a link known by OCSP alone is asked about at once: its next try a moment later passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import structlog

from gateway.certificates.fetch import Fetcher
from gateway.certificates.link import TrustedLink
from gateway.certificates.links import Link
from gateway.certificates.page import Page
from gateway.settings import CertificatesSettings
from security import audit
from security.clock import Clock
from security.errors import Broken, Fault
from security.keys.revocation import LIST_BYTES_MAX, fingerprint, ocsp_answer, ocsp_question
from security.keys.tls import CurrentContext
from security.store.port import Tx

log = structlog.get_logger()

ZONE = "ops"
LOOK_S = 5.0
_ASK_S = 1.0
_AGAIN_S = 60.0
_OCSP_BYTES_MAX = 64 * 1024
_QUESTIONS_MAX = 16
Told = Callable[[str, str], Awaitable[None]]
"""Takes the key of a link and the SHA-256 of the certificate it shows from now on."""


@dataclass(kw_only=True)
class _Due:
    """When a link's sources are next asked, in monotonic seconds."""

    lists_at: float = 0.0
    answers: dict[str, float] = field(default_factory=dict)


def certificate_changed(tx: Tx, at: datetime, key: str, shown: str) -> None:
    """The audit row of a pair that was exchanged (security §4)."""
    audit.append(
        tx,
        audit.AuditRecord(
            tenant=key.split(".")[1] if key.startswith("tenants.") else "",
            zone=ZONE,
            at=at,
            event="certificate.changed",
            actor="poterne",
            outcome=0,
            object_type="link",
            object_id=key,
            detail=f"sha256 {shown}",
        ),
    )


def _opened(key: str, link: Link, clock: Clock, grace_s: float, folder: Path | None) -> TrustedLink:
    try:
        return TrustedLink(link, clock=clock, grace_s=grace_s, folder=folder)
    except Broken as fault:
        raise Broken(f"{key}: {fault.args[0]}", code=fault.code, hint=fault.hint) from fault


class TrustedLinks:
    """The links of a configuration, by key."""

    def __init__(
        self, found: Mapping[str, Link], asked: CertificatesSettings, clock: Clock, *, page: Page | None = None
    ) -> None:
        """Open every link of ``found``. ``page``: the pair of the console, kept current with them.

        Raises:
            Broken: a pair or a bundle cannot be used, by the key of its section.
        """
        self._clock = clock
        self._refresh_s = asked.refresh_s
        self._fetcher = Fetcher(asked.networks)
        folder = asked.folder / "lists" if asked.folder else None
        self.by_key: Mapping[str, TrustedLink] = {
            key: _opened(key, link, clock, asked.crl_grace_s, folder) for key, link in found.items()
        }
        self._due = {key: _Due() for key in self.by_key}
        self.page = page

    def context(self, key: str) -> CurrentContext | None:
        """The context of a link, None when it speaks no TLS."""
        link = self.by_key.get(key)
        return link.context if link else None

    def link(self, key: str) -> TrustedLink | None:
        """The link of that key, None when it speaks no TLS."""
        return self.by_key.get(key)

    async def settle(self) -> None:
        """What a short-lived process needs before it calls: lists fetched, and each server that only OCSP speaks of
        met once, so that it is asked about."""
        await self.refresh()
        for link in self.by_key.values():
            if link.link.side == "client" and link.link.revocation.ocsp_url:
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(_ASK_S * 10):
                        _, writer = await asyncio.open_connection(link.link.host, link.link.port, ssl=link.context)
                        writer.close()
                        await writer.wait_closed()
        await self.refresh()

    async def run(self, stop: asyncio.Event, told: Told) -> None:
        """Keep every link current until ``stop``."""
        looked_at = 0.0
        while not stop.is_set():
            now = self._clock.monotonic()
            if now - looked_at >= LOOK_S:
                looked_at = now
                await self.look(told)
            await self.refresh()
            try:
                async with asyncio.timeout(_ASK_S):
                    await stop.wait()
            except TimeoutError:
                continue

    async def look(self, told: Told) -> None:
        """Take what changed on disk into use."""
        changed: list[tuple[str, str]] = []
        for link in (*self.by_key.values(), *((self.page,) if self.page else ())):
            await asyncio.to_thread(link.look, lambda key, shown: changed.append((key, shown)))
        for key, shown in changed:
            await told(key, shown)

    async def refresh(self) -> None:
        """Fetch the lists that are due and ask about the certificates that are."""
        for key, link in self.by_key.items():
            due, asked = self._due[key], link.link.revocation
            if asked.crl_urls and self._clock.monotonic() >= due.lists_at:
                whole = [await self._fetch_list(link, url) for url in asked.crl_urls]
                wait_s = self._refresh_s if all(whole) else min(_AGAIN_S, self._refresh_s)
                due.lists_at = self._clock.monotonic() + wait_s * random.uniform(0.9, 1.1)  # noqa: S311  not a secret
            if asked.ocsp_url:
                await self._ask(link, due)

    async def _fetch_list(self, link: TrustedLink, url: str) -> bool:
        try:
            data = await self._fetcher.fetch(url, bytes_max=LIST_BYTES_MAX)
            await asyncio.to_thread(link.take_list, url, data)
        except Fault as fault:
            log.warning("revocation-list-not-fetched", link=link.link.key, url=url, fault=fault)
            return False
        return True

    async def _ask(self, link: TrustedLink, due: _Due) -> None:
        now = self._clock.monotonic()
        seen = {fingerprint(one): one for one in link.trust.seen()}
        due.answers = {key: at for key, at in due.answers.items() if key in seen}
        wanted = [one for key, one in seen.items() if due.answers.get(key, 0.0) <= now]
        for certificate in wanted[:_QUESTIONS_MAX]:
            good = await self.ask(link, certificate)
            wait_s = self._refresh_s if good else min(_AGAIN_S, self._refresh_s)
            due.answers[fingerprint(certificate)] = self._clock.monotonic() + wait_s

    async def ask(self, link: TrustedLink, certificate: bytes) -> bool:
        """One OCSP question; whether its answer could be used."""
        asked, chain = link.link.revocation, link.trust.chain(certificate)
        if len(chain) < 2:
            return False
        nonce = secrets.token_bytes(32)
        try:
            data = await self._fetcher.fetch(
                asked.ocsp_url,
                body=ocsp_question(chain[0], chain[1], nonce),
                content_type="application/ocsp-request",
                bytes_max=_OCSP_BYTES_MAX,
            )
            answer = ocsp_answer(
                data,
                certificate=chain[0],
                issuer=chain[1],
                nonce=nonce,
                needs_nonce=asked.ocsp_nonce == "required",
                at=self._clock.now(),
            )
        except Fault as fault:
            log.warning("ocsp-not-answered", link=link.link.key, fault=fault)
            return False
        link.trust.take_answer(certificate, answer)
        return True

    def troubles(self) -> tuple[str, ...]:
        """What somebody must look at, as key and code: a renewed pair that cannot be used, a list past half of its
        life (security §2)."""
        faults = [f"{key}: {link.fault}" for key, link in self.by_key.items() if link.fault]
        if self.page and self.page.fault:
            faults.append(f"{self.page.key}: {self.page.fault}")
        return (*faults, *(f"{key}: crl-old" for key, link in self.by_key.items() if link.trust.half_spent()))
