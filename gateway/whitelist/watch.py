"""The white list looked for on schedule: fetched or read, verified, taken or refused; the last good one stays."""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate

from gateway.certificates.fetch import Fetcher
from gateway.settings import CertificatesSettings, WhiteListSettings
from gateway.whitelist import rows
from gateway.whitelist.document import Difference, WhiteList, difference
from gateway.whitelist.verification import Signer, VerifiedList, verified
from security.clock import Clock
from security.errors import BadInput, Broken, Fault, Refused
from security.keys.revocation import LIST_BYTES_MAX, Trust, certificates_in, lists_in, ocsp_answer, ocsp_question
from security.store.port import Store
from security.xmlsig.listed import SIZE_MAX

log = structlog.get_logger()

_OCSP_BYTES_MAX = 64 * 1024
_TICK_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a look brought. ``is_new``: another list is in use now."""

    found: VerifiedList
    changes: Difference
    is_new: bool


def no_white_list() -> Refused:
    """Why a site without one is asked in vain."""
    return Refused("no white list is configured", code="no-white-list", hint="describe it in [white_list]")


class WhiteListWatch:
    """The white list of one site."""

    def __init__(
        self, settings: WhiteListSettings, certificates: CertificatesSettings, *, store: Store, clock: Clock
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._fetcher = Fetcher(certificates.networks)
        self._signer = Signer(common_name=settings.signer_cn, unit=settings.signer_ou)
        self._grace = timedelta(seconds=certificates.crl_grace_s)

    async def run(self, stop: asyncio.Event) -> None:
        """Look for it until ``stop``; a look that fails is repeated with the next one due."""
        due = 0.0
        while not stop.is_set():
            if self._clock.monotonic() >= due:
                try:
                    await self.look(actor="poterne")
                except Fault as fault:
                    log.warning("white-list-not-taken", fault=fault)
                due = self._clock.monotonic() + self._settings.refresh_s * random.uniform(0.9, 1.1)  # noqa: S311
            try:
                async with asyncio.timeout(_TICK_S):
                    await stop.wait()
            except TimeoutError:
                continue

    async def look(self, *, actor: str) -> Outcome:
        """Fetch, verify, and take it when it is newer than what is held.

        Raises:
            BadInput: ``xml-…``, ``signature-…``, ``white-list-…``. Refused: ``white-list-older``, ``fetch-address``.
            Unavailable: ``fetch-failed``. Broken: ``white-list-file``, ``tls-unusable``.
        """
        try:
            outcome = await self._look(actor)
        except Fault as fault:
            code = fault.code
            await self._store.write(lambda tx: rows.note_look(tx, now=self._clock.now(), code=code, actor=actor))
            raise
        await self._store.write(lambda tx: rows.note_look(tx, now=self._clock.now(), code="", actor=actor))
        return outcome

    async def in_use(self) -> tuple[WhiteList, rows.Held] | None:
        """The list in use, its signature verified again as of when it was taken; None when there is none.

        Raises:
            BadInput: the stored bytes are not the list that was taken.
        """
        found = await self._store.read(rows.held)
        if not found:
            return None
        return await asyncio.to_thread(self.reread, found[0]), found[0]

    def reread(self, held: rows.Held) -> WhiteList:
        """A list that was taken, from its stored bytes; revocation was judged when it was taken.

        Raises:
            BadInput: ``signature-…``: the bytes were altered.
        """
        trust = Trust(self._authorities(), clock=_Then(held.taken_at), unknown="allow")
        return verified(held.document, signer=self._signer, trust=trust, now=held.taken_at).content

    async def _look(self, actor: str) -> Outcome:
        document = await self._document()
        trust = Trust(
            await asyncio.to_thread(self._authorities),
            clock=self._clock,
            unknown=self._settings.revocation.unknown,
            grace=self._grace,
        )
        await self._bring_lists(trust)
        found = await self._verified(document, trust)
        previous = await self._store.read(rows.held)
        changes = difference(await self._believed(previous), found.content)
        if previous and document == previous[0].document:
            return Outcome(found=found, changes=changes, is_new=False)
        if previous and (found.content.generated_at, found.signed_at) <= (
            previous[0].generated_at,
            previous[0].signed_at,
        ):
            raise Refused(
                "white list: it is not newer than the one in use, which stays",
                code="white-list-older",
                hint="ask whoever publishes the list; somebody may be putting an old one back",
            )
        counts = f"+{len(changes.added)} -{len(changes.removed)} ~{len(changes.changed)}"
        detail = f"{counts} of {len(found.content.boxes)}"
        now = self._clock.now()
        await self._store.write(lambda tx: rows.take(tx, document, found, now=now, actor=actor, detail=detail))
        log.info("white-list-taken", boxes=len(found.content.boxes), changes=detail)
        return Outcome(found=found, changes=changes, is_new=True)

    async def _believed(self, previous: tuple[rows.Held, ...]) -> WhiteList | None:
        """The list in use, to compare with; None when it is no longer believed (another authority, altered bytes):
        that must not keep a good one out."""
        try:
            return await asyncio.to_thread(self.reread, previous[0]) if previous else None
        except BadInput as fault:
            log.warning("white-list-in-use-not-believed", fault=fault)
            return None

    async def _verified(self, document: bytes, trust: Trust) -> VerifiedList:
        """With an OCSP responder the signer is asked about once it is known who signed."""

        def attempt() -> VerifiedList:
            return verified(document, signer=self._signer, trust=trust, now=self._clock.now())

        try:
            return await asyncio.to_thread(attempt)
        except BadInput:
            seen = trust.seen()
            if not self._settings.revocation.ocsp_url or not seen:
                raise
        await self._ask(trust, seen[0])
        return await asyncio.to_thread(attempt)

    async def _ask(self, trust: Trust, certificate: bytes) -> None:
        asked, chain, nonce = self._settings.revocation, trust.chain(certificate), secrets.token_bytes(32)
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
        trust.take_answer(chain[0].public_bytes(Encoding.DER), answer)

    async def _bring_lists(self, trust: Trust) -> None:
        asked = self._settings.revocation
        if asked.crl_file is not None:
            data = await asyncio.to_thread(_bytes_of, asked.crl_file, LIST_BYTES_MAX)
            trust.take_lists(lists_in(data, trust.authorities))
        for url in asked.crl_urls:
            data = await self._fetcher.fetch(url, bytes_max=LIST_BYTES_MAX)
            trust.take_lists(lists_in(data, trust.authorities))

    async def _document(self) -> bytes:
        if self._settings.file is not None:
            return await asyncio.to_thread(_bytes_of, self._settings.file, SIZE_MAX)
        return await self._fetcher.fetch(
            self._settings.url, bytes_max=SIZE_MAX, ca_file=self._settings.server_ca_file
        )

    def _authorities(self) -> tuple[Certificate, ...]:
        return certificates_in(_bytes_of(self._settings.ca_file, SIZE_MAX))


class _Then(Clock):
    """The moment at which something was judged."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def now(self) -> datetime:
        return self._moment

    def monotonic(self) -> float:
        return 0.0


def _bytes_of(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise Broken(
            f"{path} cannot be read: {error.strerror}", code="white-list-file", hint="put the file back"
        ) from error
    if len(data) > bytes_max:
        raise BadInput(
            f"{path} has more than {bytes_max} bytes", code="fetch-too-large", hint="see what put it there"
        )
    return data
