"""Accounts made, changed, enrolled, locked and lost.

Invariants:

* an account begins without proofs: its person sets them with a one-time code, good for a day and once;
* a change of roles, standing or proofs raises the account's version: every session of it is over at once (T32);
* the first account comes from the machine itself, and only while no security officer can sign in;
* what is lost is revoked before it is given again: ``reset`` for password and second factor, ``revoke`` for
  certificates;
* each change and its audit record are one transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from security.accounts import SEALED_UNDER, codes, password, rows, totp, trail
from security.accounts.account import Account, Status, folded, login_name, person_name, roles_of
from security.accounts.entry import federated, sealing_context
from security.accounts.password import Passwords
from security.clock import Clock
from security.errors import BadInput, Refused
from security.policy import Role
from security.seal import Vault
from security.store.port import ReadTx, Store, Tx

CERTIFICATE_DAYS: Final = 365
_SUBJECT_MAX: Final = 255
"""Characters of a ``sub`` (OpenID Connect Core §2)."""
_BEFORE = timedelta(hours=1)


class Issuer(Protocol):
    """The authority that certifies people (``security.keys``)."""

    def certify(self, request: bytes, *, not_before: datetime, not_after: datetime, purposes: Iterable[Any]) -> bytes:
        """The certificate, PEM, for a PKCS #10 request."""
        ...

    def revoke(self, certificates: Iterable[x509.Certificate], *, now: datetime) -> object:
        """A new list of what was revoked, with these on it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """What a person enrols with. ``code``: shown once, kept nowhere."""

    account: str
    code: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a good code opens. ``account``: None for the first one, whose name is still to be chosen."""

    account: Account | None
    secret: bytes


class Register:
    """The accounts of one store."""

    def __init__(self, *, store: Store, vault: Vault, clock: Clock, passwords: Passwords) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._passwords = passwords

    # -- looking -----------------------------------------------------------------------------------------------

    async def every(self) -> list[Account]:
        """All accounts, by name."""
        return await self._store.read(rows.every)

    # -- making ------------------------------------------------------------------------------------------------

    async def bootstrap(self, *, actor: str) -> Invitation:
        """A code for the first account, a security officer.

        Raises:
            Refused: ``bootstrap-not-needed``.
        """

        def work(tx: Tx) -> Invitation:
            if officers := _officers(tx):
                raise Refused(
                    f"a security officer can sign in already: {', '.join(officers)}",
                    code="bootstrap-not-needed",
                    hint="let them add accounts, or give them a new code: poterne accounts reset NAME",
                )
            return self._invite(tx, "", actor=actor, event="account.bootstrap")

        return await self._store.write(work)

    async def add(
        self,
        name: str,
        *,
        person: str,
        roles: Iterable[str],
        tenant: str = "",
        profession: str = "",
        actor: str,
    ) -> Invitation:
        """A new account and the code its person enrols with.

        Raises:
            BadInput: ``account-name``, ``account-person``, ``account-roles``. Refused: ``account-exists``.
        """
        made = _invited(
            login_name(name),
            person_name(person),
            roles_of(roles),
            now=self._clock.now(),
            tenant=tenant,
            profession=profession,
        )
        _check_profession(made.roles, profession)

        def work(tx: Tx) -> Invitation:
            if not rows.add(tx, made):
                raise Refused(f"there is an account {made.name}", code="account-exists", hint="choose another name")
            self._note(tx, "account.added", made.name, actor, _roles(made.roles), tenant=tenant)
            return self._invite(tx, made.name, actor=actor, event="account.invited")

        return await self._store.write(work)

    async def offer(self, code: str) -> Offer:
        """What a code opens.

        Raises:
            Refused: ``code-not-good`` unknown, used or too old.
        """
        kept = codes.digest(code)
        now = self._clock.now()

        def work(tx: ReadTx) -> Offer:
            name = rows.code_account(tx, kept, now=now)
            found = rows.account(tx, name) if name else None
            if name is None or (found is None and (name or _officers(tx))) or _is_locked(found):
                raise _code_not_good()
            return Offer(account=found, secret=self._secret(code))

        return await self._store.read(work)

    async def enrol(self, code: str, *, name: str, person: str, new_password: str, totp_code: str) -> Account:
        """Set the proofs of the account of a code. ``name``, ``person``: of the first account; ignored for another.

        Raises:
            Refused: ``code-not-good``, ``account-exists``. BadInput: ``account-…``, ``password-…``, ``totp-wrong``.
        """
        found = await self.offer(code)
        login = found.account.name if found.account else login_name(name)
        shown = found.account.person if found.account else person_name(person)
        password.judge(new_password, name=login, person=shown)
        now = self._clock.now()
        step = totp.accepted_step(found.secret, totp_code, now=now, last=0)
        if step is None:
            raise BadInput(
                "this is not the code of now",
                code="totp-wrong",
                hint="take the code the authenticator shows now; if it never fits, look at the clocks",
            )
        hashed = await self._passwords.hashed(new_password)
        officer = _invited(login, shown, frozenset({Role.SECURITY_OFFICER}), now=now)

        def work(tx: Tx) -> Account:
            refused = _officers(tx) if found.account is None else _is_locked(rows.account(tx, login))
            if refused or not rows.use_code(tx, codes.digest(code), now=now):
                raise _code_not_good()
            if found.account is None and not rows.add(tx, officer):
                raise Refused(f"there is an account {login}", code="account-exists", hint="choose another name")
            sealed = rows.Proofs(
                password=self._seal(login, "password", hashed),
                totp=self._seal(login, "totp", found.secret),
                totp_step=step,
            )
            rows.set_proofs(tx, login, sealed, now=now)
            rows.set_status(tx, login, Status.ACTIVE, now=now)
            self._note(tx, "account.enrolled", login, f"account:{login}")
            return _held(tx, login)

        return await self._store.write(work)

    async def change_password(self, name: str, new_password: str) -> None:
        """Another password for who is signed in and has just proved it; their other sessions are over.

        Raises:
            BadInput: ``password-…``.
        """
        known = await self._store.read(lambda tx: _held(tx, name))
        password.judge(new_password, name=name, person=known.person)
        hashed = await self._passwords.hashed(new_password)
        now = self._clock.now()

        def work(tx: Tx) -> None:
            held = rows.proofs(tx, name)
            assert held is not None
            rows.set_proofs(tx, name, replace(held, password=self._seal(name, "password", hashed)), now=now)
            self._note(tx, "account.password-changed", name, f"account:{name}")

        await self._store.write(work)

    # -- changing ----------------------------------------------------------------------------------------------

    async def set_roles(
        self, name: str, roles: Iterable[str], *, tenant: str, profession: str = "", actor: str
    ) -> Account:
        """Other roles.

        Raises:
            Refused: ``unknown-account``, ``last-security-officer``. BadInput: ``account-roles``.
        """
        wanted = roles_of(roles)
        _check_profession(wanted, profession)

        def change(tx: Tx, held: Account) -> str:
            if Role.SECURITY_OFFICER not in wanted or tenant:
                _keep_an_officer(tx, held)
            rows.set_roles(tx, held.name, roles=wanted, tenant=tenant, profession=profession, now=self._clock.now())
            return f"{_roles(held.roles)} → {_roles(wanted)}"

        return await self._change(name, "account.roles-changed", actor, change)

    async def lock(self, name: str, *, actor: str) -> Account:
        """Nobody signs in as this account; its sessions are over.

        Raises:
            Refused: ``unknown-account``, ``last-security-officer``.
        """

        def change(tx: Tx, held: Account) -> str:
            _keep_an_officer(tx, held)
            rows.set_status(tx, held.name, Status.LOCKED, now=self._clock.now())
            return ""

        return await self._change(name, "account.locked", actor, change)

    async def unlock(self, name: str, *, actor: str) -> Account:
        """It may be signed in as again; failed tries at it are forgotten.

        Raises:
            Refused: ``unknown-account``.
        """

        def change(tx: Tx, held: Account) -> str:
            proved = held.has_password or held.certificates or held.federated
            status = Status.ACTIVE if proved else Status.INVITED
            rows.set_status(tx, held.name, status, now=self._clock.now())
            rows.remember(tx, self._vault.blind(SEALED_UNDER, "try", f"account {held.name}"), None)
            return ""

        return await self._change(name, "account.unlocked", actor, change)

    async def reset(self, name: str, *, actor: str) -> Invitation:
        """Password and second factor are good no more; a new code to enrol with.

        Raises:
            Refused: ``unknown-account``.
        """

        def work(tx: Tx) -> Invitation:
            held, now = _held(tx, folded(name)), self._clock.now()
            rows.set_proofs(tx, held.name, rows.Proofs(password=None, totp=None, totp_step=0), now=now)
            if held.status is Status.ACTIVE and not (held.certificates or held.federated):
                rows.set_status(tx, held.name, Status.INVITED, now=now)
            self._note(tx, "account.reset", held.name, actor, tenant=held.tenant)
            return self._invite(tx, held.name, actor=actor, event="account.invited")

        return await self._store.write(work)

    async def certify(self, name: str, request: bytes, issuer: Issuer, *, actor: str) -> bytes:
        """A certificate for the account from a PKCS #10 request, bound to it; the certificate, PEM.

        Raises:
            Refused: ``unknown-account``. BadInput: of the authority.
        """
        await self._store.read(lambda tx: _held(tx, folded(name)))
        now = self._clock.now()
        pem = issuer.certify(
            request,
            not_before=now - _BEFORE,
            not_after=now + timedelta(days=CERTIFICATE_DAYS),
            purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,),
        )
        await self.bind(name, pem, actor=actor)
        return pem

    async def bind(self, name: str, pem: bytes, *, actor: str) -> Account:
        """A certificate stands for the account from now on.

        Raises:
            Refused: ``unknown-account``, ``certificate-taken``. BadInput: ``certificate-unusable``.
        """
        shown = _certificate(pem)
        mark = hashlib.sha256(shown.public_bytes(Encoding.DER)).hexdigest()

        def change(tx: Tx, held: Account) -> str:
            now = self._clock.now()
            text = shown.public_bytes(Encoding.PEM).decode()
            if not rows.bind_certificate(tx, held.name, fingerprint=mark, pem=text, now=now):
                raise Refused(
                    "this certificate stands, or stood, for an account",
                    code="certificate-taken",
                    hint="make a new key and certificate for each person; a revoked one never comes back",
                )
            status = Status.ACTIVE if held.status is Status.INVITED else held.status
            rows.set_status(tx, held.name, status, now=now)
            return mark[:16]

        return await self._change(name, "account.certificate-bound", actor, change)

    async def bind_provider(self, name: str, issuer: str, subject: str, *, actor: str) -> Account:
        """The account is this subject at that identity provider from now on, and no other one anywhere.

        Raises:
            Refused: ``unknown-account``, ``identity-taken``. BadInput: ``account-subject``.
        """
        if not subject or len(subject) > _SUBJECT_MAX or not subject.isprintable():
            raise BadInput(
                "this is no sub of an identity provider",
                code="account-subject",
                hint="give it letter by letter: the page that refuses the person shows it",
            )

        def change(tx: Tx, held: Account) -> str:
            identity, now = federated(issuer, subject), self._clock.now()
            other = rows.by_federated(tx, identity)
            if other is not None and other.name != held.name:
                raise Refused(
                    f"this identity is linked to the account {other.name}",
                    code="identity-taken",
                    hint=f"poterne accounts unlink {other.name} first, if it is the same person",
                )
            rows.bind_federated(tx, held.name, identity, now=now)
            status = Status.ACTIVE if held.status is Status.INVITED else held.status
            rows.set_status(tx, held.name, status, now=now)
            return issuer

        return await self._change(name, "account.provider-bound", actor, change)

    async def unbind_provider(self, name: str, *, actor: str) -> Account:
        """No identity provider speaks for the account any more; its sessions are over.

        Raises:
            Refused: ``unknown-account``, ``last-security-officer``.
        """

        def change(tx: Tx, held: Account) -> str:
            enters = held.has_password or bool(held.certificates)
            now = self._clock.now()
            if not enters:
                _keep_an_officer(tx, held)
            rows.bind_federated(tx, held.name, "", now=now)
            status = Status.INVITED if held.status is Status.ACTIVE and not enters else held.status
            rows.set_status(tx, held.name, status, now=now)
            return held.federated.partition("|")[0]

        return await self._change(name, "account.provider-unbound", actor, change)

    async def revoke(self, name: str, issuer: Issuer | None, *, actor: str) -> int:
        """No certificate stands for the account any more, and the authority is told of those; how many did.

        Raises:
            Refused: ``unknown-account``. BadInput: of the authority.
        """
        now = self._clock.now()
        gone: list[str] = []

        def change(tx: Tx, held: Account) -> str:
            gone[:] = rows.revoke_certificates(tx, held.name, now=now)
            status = Status.INVITED if held.status is Status.ACTIVE and not _enters_otherwise(held) else held.status
            rows.set_status(tx, held.name, status, now=now)
            return f"{len(gone)} certificates"

        await self._change(name, "account.certificates-revoked", actor, change)
        if issuer is not None and gone:
            issuer.revoke([_certificate(pem.encode()) for pem in gone], now=now)
        return len(gone)

    # -- inside ------------------------------------------------------------------------------------------------

    async def _change(self, name: str, event: str, actor: str, change: Callable[[Tx, Account], str]) -> Account:
        def work(tx: Tx) -> Account:
            held = _held(tx, folded(name))
            detail = change(tx, held)
            self._note(tx, event, held.name, actor, detail, tenant=held.tenant)
            return _held(tx, held.name)

        return await self._store.write(work)

    def _invite(self, tx: Tx, name: str, *, actor: str, event: str) -> Invitation:
        code, now = codes.new_code(), self._clock.now()
        ends = now + codes.GOOD_FOR
        rows.put_code(tx, digest=codes.digest(code), account=name, now=now, expires_at=ends)
        self._note(tx, event, name or "first", actor)
        return Invitation(account=name, code=code, expires_at=ends)

    def _secret(self, code: str) -> bytes:
        """The second factor that goes with a code: always the same for it, and nobody else can make it."""
        mark = codes.digest(code).hex()
        return self._vault.blind(SEALED_UNDER, "totp", mark)[: totp.SECRET_BYTES]

    def _seal(self, name: str, what: str, plain: bytes) -> bytes:
        return self._vault.seal(SEALED_UNDER, sealing_context(name, what), plain)

    def _note(self, tx: Tx, event: str, name: str, actor: str, detail: str = "", *, tenant: str = "") -> None:
        trail.note(tx, event, actor=actor, about=name, now=self._clock.now(), detail=detail, tenant=tenant)


def _held(tx: ReadTx, name: str) -> Account:
    found = rows.account(tx, name)
    if found is None:
        raise Refused("there is no such account", code="unknown-account", hint="see: poterne accounts list")
    return found


def _invited(
    name: str, person: str, roles: frozenset[Role], *, now: datetime, tenant: str = "", profession: str = ""
) -> Account:
    """An account without proofs."""
    return Account(
        name=name,
        person=person,
        tenant=tenant,
        roles=roles,
        profession=profession,
        status=Status.INVITED,
        version=1,
        has_password=False,
        certificates=(),
        federated="",
        created_at=now,
        changed_at=now,
    )


def _enters_otherwise(held: Account) -> bool:
    return held.has_password or bool(held.federated)


def _keep_an_officer(tx: ReadTx, held: Account) -> None:
    """Somebody must stay who may add and unlock others."""
    if _officers(tx) == [held.name]:
        raise Refused(
            f"{held.name} is the last security officer",
            code="last-security-officer",
            hint="make another one first: poterne accounts add NAME --role security-officer",
        )


def _officers(tx: ReadTx) -> list[str]:
    """Who may add and unlock others, everywhere, now."""
    return [
        one.name
        for one in rows.every(tx)
        if Role.SECURITY_OFFICER in one.roles and one.status is Status.ACTIVE and not one.tenant
    ]


def _is_locked(found: Account | None) -> bool:
    return found is not None and found.status is Status.LOCKED


def _check_profession(roles: frozenset[Role], profession: str) -> None:
    """An auditor reads as somebody of a profession (peer-audit §3)."""
    if Role.AUDITOR in roles and not profession:
        raise BadInput("an auditor needs a profession", code="account-profession", hint="name it: --profession")
    if profession and not profession.isprintable():
        raise BadInput("the profession is not one line", code="account-profession", hint="write it on one line")


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise BadInput(
            "no certificate in PEM form", code="certificate-unusable", hint="give the certificate, not the key"
        ) from None


def _roles(roles: frozenset[Role]) -> str:
    return ", ".join(role for role in Role if role in roles)


def _code_not_good() -> Refused:
    return Refused(
        "this code is not good (any more)",
        code="code-not-good",
        hint="ask for a new one: poterne accounts reset NAME, or bootstrap for the first account",
    )
