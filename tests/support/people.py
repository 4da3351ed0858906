"""Accounts for tests: a register over a real store, people who are enrolled, and their codes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from security.accounts import SEALED_UNDER, totp
from security.accounts.account import Account, Status
from security.accounts.entry import Entry, Place
from security.accounts.password import Passwords
from security.accounts.register import Register
from security.clock import Clock
from security.policy import Role
from security.seal import Vault
from security.store.port import Store

PASSWORD = "quatre barques sous la pluie"
HERE = Place(address="127.0.0.1", counted_as="loopback")
KEK = bytes(range(32))


@dataclass
class Someone:
    """An enrolled person. ``secret``: of the second factor."""

    name: str
    secret: bytes
    password: str = PASSWORD


@dataclass
class People:
    """The accounts of one store and a clock that tests turn."""

    register: Register
    entry: Entry
    clock: Clock
    store: Store
    vault: Vault

    async def enrolled(
        self, name: str = "jeanne.martin", *roles: str, tenant: str = "", person: str = "Jeanne Martin"
    ):
        """A person with these roles who has set password and second factor."""
        invitation = await self.register.add(
            name,
            person=person,
            roles=roles or ("operator",),
            tenant=tenant,
            profession="radiologist" if "auditor" in roles else "",
            actor="security-officer:test",
        )
        return await self.enrol(invitation.code, name=name, person=person)

    async def enrol(self, code: str, *, name: str = "", person: str = "", password: str = PASSWORD) -> Someone:
        """Use a code, with the second factor's code of the last time step: the one of now stays good."""
        offer = await self.register.offer(code)
        now = self.clock.now() - timedelta(seconds=totp.STEP_S)
        made = await self.register.enrol(
            code, name=name, person=person, new_password=password, totp_code=totp.code_at(offer.secret, now)
        )
        return Someone(name=made.name, secret=offer.secret, password=password)

    def code(self, who: Someone) -> str:
        """The code that an authenticator shows now."""
        return totp.code_at(who.secret, self.clock.now())


async def people(store: Store, clock: Clock, *, tenants: Iterable[str] = (), kek: bytes = KEK) -> People:
    """The accounts of a store, with hashes that are cheap to make."""
    vault = await Vault.load(store, kek, [*tenants, SEALED_UNDER], clock)
    passwords = Passwords(memory_kib=64)
    more = {"store": store, "vault": vault, "clock": clock, "passwords": passwords}
    return People(register=Register(**more), entry=Entry(**more), clock=clock, store=store, vault=vault)


async def rewound(found: People, name: str) -> None:
    """Let the code of now be taken again: tests sign in more often than every thirty seconds."""
    await found.store.write(lambda tx: tx.change("UPDATE account SET totp_step = 0 WHERE name = :name", name=name))


def account(*roles: Role, name: str = "jeanne.martin", version: int = 1, tenant: str = "") -> Account:
    """An account that no store holds."""
    return Account(
        name=name,
        person="Jeanne Martin",
        tenant=tenant,
        roles=frozenset(roles or (Role.OPERATOR,)),
        profession="",
        status=Status.ACTIVE,
        version=version,
        has_password=True,
        certificates=(),
        federated="",
        created_at=datetime(2026, 3, 1, tzinfo=UTC),
        changed_at=datetime(2026, 3, 1, tzinfo=UTC),
    )
