"""Signing in: who proves to be which account.

Invariants:

* a try is counted before it is judged, per account and per address, whether the account exists or not;
* every refusal says the same and takes the same work: no answer tells which names exist (T33);
* a code of the second factor is taken once, in the transaction that admits;
* a password never admits without the second factor; a certificate admits alone: its key is the second thing;
* a browser that was let in before is counted by itself for the account it was let in as, so that nobody's tries lock
  out a person.

Sessions are the matter of the zone that opens them.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from security.accounts import SEALED_UNDER, backoff, rows, totp, trail
from security.accounts.account import Account, Status, folded
from security.accounts.password import LENGTH_MAX, Passwords
from security.clock import Clock
from security.errors import Refused
from security.seal import Vault
from security.store.port import Store, Tx

PASSWORD, CERTIFICATE, FEDERATED = "password and code", "certificate", "identity provider"
_UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a try comes from. ``address``: of the connection; ``counted_as``: what tries are counted by there;
    ``browser``: the cookie of one that was let in before, "" without."""

    address: str
    counted_as: str
    browser: str = ""
    zone: str = trail.ZONE


class TooManyTries(Refused):
    """Nobody judges it before ``wait_s`` seconds have passed."""

    def __init__(self, wait_s: float) -> None:
        super().__init__("too many tries", code="too-many-tries", hint=f"wait {int(wait_s) + 1} s")
        self.wait_s = wait_s


class Entry:
    """The proofs of all accounts of one store."""

    def __init__(self, *, store: Store, vault: Vault, clock: Clock, passwords: Passwords) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._passwords = passwords

    async def by_password(self, name: str, password: str, code: str, place: Place) -> Account:
        """The account whose name, password and code these are.

        Raises:
            TooManyTries: it was not looked at.
            Refused: ``not-admitted`` whatever is wrong.
        """
        known = folded(name)[:LENGTH_MAX]
        who = self._counted(known, place)
        now = self._clock.now()
        await self._store.write(lambda tx: self._count(tx, who, now))
        held = await self._store.read(lambda tx: rows.proofs(tx, known))
        kept = self._open(known, "password", held.password) if held and held.password else None
        matches = await self._passwords.matches(password[:LENGTH_MAX], kept)
        found = await self._store.write(
            lambda tx: self._judge(tx, known, code, place, who, matches=matches, now=self._clock.now())
        )
        if found is None:
            raise _not_admitted()
        return found

    async def by_certificate(self, fingerprint: str, place: Place) -> Account:
        """The account that the verified certificate of the connection stands for.

        Raises:
            Refused: ``not-admitted``.
        """
        found = await self._store.write(
            lambda tx: self._admit(tx, rows.by_certificate(tx, fingerprint), CERTIFICATE, place)
        )
        if found is None:
            raise _not_admitted()
        return found

    async def by_provider(self, issuer: str, subject: str, place: Place) -> Account:
        """The account that was linked to this subject at this identity provider; the caller has verified the token.

        Raises:
            TooManyTries: it was not looked at.
            Refused: ``not-admitted``.
        """
        identity = federated(issuer, subject)
        who = (self._vault.blind(SEALED_UNDER, "try", f"provider {place.counted_as}"),)  # passwords go on beside

        def work(tx: Tx) -> Account | None:
            self._count(tx, who, self._clock.now())
            admitted = self._admit(tx, rows.by_federated(tx, identity), FEDERATED, place)
            if admitted:
                self._take_back(tx, who)
            return admitted

        found = await self._store.write(work)
        if found is None:
            raise _not_admitted()
        return found

    async def prove_by_provider(self, name: str, issuer: str, subject: str, place: Place) -> None:
        """A person who is signed in was asked again by the identity provider; the caller has verified that.

        Raises:
            Refused: ``not-admitted`` it is somebody else.
        """

        def work(tx: Tx) -> bool:
            found = rows.by_federated(tx, federated(issuer, subject))
            return self._note_proof(tx, name, place, good=found is not None and found.name == name)

        if not await self._store.write(work):
            raise _not_admitted()

    async def try_code(self, place: Place) -> None:
        """Count a try at a one-time code.

        Raises:
            TooManyTries.
        """
        who = (self._vault.blind(SEALED_UNDER, "try", f"code {place.counted_as}"),)
        await self._store.write(lambda tx: self._count(tx, who, self._clock.now()))

    async def prove(self, name: str, code: str, place: Place) -> None:
        """A person who is signed in proves to be there: a fresh code.

        Raises:
            TooManyTries. Refused: ``not-admitted``.
        """
        now = self._clock.now()
        who = self._counted(name, place)
        await self._store.write(lambda tx: self._count(tx, who, now))

        def work(tx: Tx) -> bool:
            good = self._takes_code(tx, name, code, now)
            if good:
                self._forgive(tx, who)
            return self._note_proof(tx, name, place, good=good)

        if not await self._store.write(work):
            raise _not_admitted()

    async def standing(self, name: str) -> Account | None:
        """The account as it is now; None unless it may have sessions."""
        found = await self._store.read(lambda tx: rows.account(tx, name))
        return found if found and found.status is Status.ACTIVE else None

    async def is_empty(self) -> bool:
        """Whether nobody can sign in yet."""
        accounts = await self._store.read(rows.every)
        return not any(one.status is Status.ACTIVE for one in accounts)

    async def left(self, name: str, place: Place) -> None:
        """A person signed out."""
        await self._store.write(
            lambda tx: trail.note(
                tx,
                "session.closed",
                actor=f"account:{name}",
                about=place.address,
                kind="address",
                now=self._clock.now(),
                zone=place.zone,
            )
        )

    def browser_cookie(self, name: str) -> str:
        """The cookie of a browser that was just let in as ``name``; nobody else can make it."""
        made = secrets.token_hex(16)
        return f"{made}.{self._browser_mark(made, name)}"

    # -- inside ----------------------------------------------------------------------------------------------------

    def _browser_mark(self, made: str, name: str) -> str:
        return self._vault.blind(SEALED_UNDER, "browser", f"{made}\n{name}").hex()

    def _counted(self, name: str, place: Place) -> tuple[bytes, ...]:
        """What a try counts against: the browser alone when we know it, else account and address."""
        made, _, mark = place.browser.partition(".")
        if made.isascii() and mark and hmac.compare_digest(self._browser_mark(made, name), _ascii(mark)):
            return (self._vault.blind(SEALED_UNDER, "try", f"browser {made}"),)
        return (
            self._vault.blind(SEALED_UNDER, "try", f"account {_ascii(name)}"),
            self._vault.blind(SEALED_UNDER, "try", f"address {place.counted_as}"),
        )

    def _count(self, tx: Tx, who: tuple[bytes, ...], now: datetime) -> None:
        """Count one try.

        Raises:
            TooManyTries: one too many.
        """
        held = [rows.tries(tx, one) for one in who]
        wait_s = max(backoff.waits_s(one, now) for one in held)
        if wait_s:
            raise TooManyTries(wait_s)
        rows.forget_old_tries(tx, now)
        for one, before in zip(who, held, strict=True):
            rows.remember(tx, one, backoff.after_a_try(before, now))

    def _forgive(self, tx: Tx, who: tuple[bytes, ...]) -> None:
        """The try was good: the account's are forgotten, the address's are one less."""
        rows.remember(tx, who[0], None)
        self._take_back(tx, who[1:])

    @staticmethod
    def _take_back(tx: Tx, who: tuple[bytes, ...]) -> None:
        """The last try counts no more."""
        for one in who:
            held = rows.tries(tx, one)
            rows.remember(tx, one, backoff.forgiven(held) if held else None)

    def _judge(
        self, tx: Tx, name: str, code: str, place: Place, who: tuple[bytes, ...], *, matches: bool, now: datetime
    ) -> Account | None:
        found = rows.account(tx, name)
        good = matches and self._takes_code(tx, name, code, now)
        admitted = self._admit(tx, found if good else None, PASSWORD, place, named=found)
        if admitted:
            self._forgive(tx, who)
        return admitted

    def _takes_code(self, tx: Tx, name: str, code: str, now: datetime) -> bool:
        held = rows.proofs(tx, name)
        if held is None or held.totp is None:
            return False
        secret = self._open(name, "totp", held.totp)
        step = totp.accepted_step(secret, code, now=now, last=held.totp_step)
        return step is not None and rows.take_step(tx, name, step)

    def _admit(
        self, tx: Tx, found: Account | None, how: str, place: Place, *, named: Account | None = None
    ) -> Account | None:
        """The account when it may come in, and the record of it."""
        admitted = found if found and found.status is Status.ACTIVE else None
        known = found or named
        trail.note(
            tx,
            "session.opened" if admitted else "session.refused",
            actor=f"account:{known.name if known else _UNKNOWN}",
            about=place.address,
            kind="address",
            now=self._clock.now(),
            tenant=known.tenant if known else "",
            detail=how,
            outcome=trail.SUCCESS if admitted else trail.MINOR,
            zone=place.zone,
        )
        return admitted

    def _note_proof(self, tx: Tx, name: str, place: Place, *, good: bool) -> bool:
        trail.note(
            tx,
            "session.proved" if good else "session.not-proved",
            actor=f"account:{name}",
            about=place.address,
            kind="address",
            now=self._clock.now(),
            outcome=trail.SUCCESS if good else trail.MINOR,
            zone=place.zone,
        )
        return good

    def _open(self, name: str, what: str, sealed: bytes) -> bytes:
        return self._vault.open(SEALED_UNDER, sealing_context(name, what), sealed)


def sealing_context(name: str, what: str) -> str:
    """What a sealed proof is bound to."""
    return f"account.{what}/{name}"


def federated(issuer: str, subject: str) -> str:
    """An identity at a provider, as it is kept."""
    return f"{issuer}|{subject}"


def _ascii(text: str) -> str:
    """Whatever was typed, comparable."""
    return text.encode("utf-8", "backslashreplace").decode("ascii", "backslashreplace")


def _not_admitted() -> Refused:
    return Refused("not admitted", code="not-admitted", hint="name, password and code must all be right")
