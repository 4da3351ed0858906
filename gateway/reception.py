"""The accounts of a running gateway, put together: who signs in, who adds them, what two persons agree on, broken
glass; and what commands may ask of them (``gateway.control``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict, dataclass

from gateway.facts import Facts, Operation, Say, fact, operator, texts
from security.accounts.account import Account
from security.accounts.consents import Consent, Consents
from security.accounts.entry import Entry
from security.accounts.glass import BrokenGlass
from security.accounts.password import Passwords
from security.accounts.register import Invitation, Issuer, Register
from security.clock import Clock
from security.errors import Refused
from security.policy import Action, Role
from security.seal import Vault
from security.store.port import Store

OpenIssuer = Callable[[], Issuer | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """``tenants``: the legal entities an account may belong to; ``issuer``: the authority that certifies people, None
    when none is configured; ``providers``: the identity providers at which people sign in, with their ``iss``."""

    register: Register
    entry: Entry
    consents: Consents
    glass: BrokenGlass
    tenants: Collection[str]
    issuer: OpenIssuer
    providers: Mapping[str, str]

    @classmethod
    def over(
        cls,
        store: Store,
        vault: Vault,
        clock: Clock,
        *,
        tenants: Collection[str],
        alarm: Callable[[str, str], None],
        issuer: OpenIssuer = lambda: None,
        providers: Mapping[str, str] | None = None,
        passwords: Passwords | None = None,
    ) -> Reception:
        """The accounts of a store. ``alarm``: tells people of broken glass: tenant and account."""
        checks = passwords or Passwords()
        return cls(
            register=Register(store=store, vault=vault, clock=clock, passwords=checks),
            entry=Entry(store=store, vault=vault, clock=clock, passwords=checks),
            consents=Consents(store=store, clock=clock),
            glass=BrokenGlass(store=store, clock=clock, alarm=alarm),
            tenants=tenants,
            issuer=issuer,
            providers=providers or {},
        )

    def orders(self) -> Mapping[str, Operation]:
        """What commands may ask for, JSON in and out."""
        return {
            "account-list": self._list,
            "account-bootstrap": self._bootstrap,
            "account-add": self._add,
            "account-roles": self._roles,
            "account-lock": self._simple(self.register.lock),
            "account-unlock": self._simple(self.register.unlock),
            "account-reset": self._reset,
            "account-enrol": self._enrol,
            "account-revoke": self._revoke,
            "account-link": self._link,
            "account-unlink": self._simple(self.register.unbind_provider),
            "consent-use": self._use_consent,
        }

    async def _list(self, _facts: Facts, _say: Say) -> list[Facts]:
        return [account_facts(one) for one in await self.register.every()]

    async def _bootstrap(self, facts: Facts, _say: Say) -> Facts:
        return _invitation(await self.register.bootstrap(actor=fact(facts, "actor")))

    async def _add(self, facts: Facts, _say: Say) -> Facts:
        made = await self.register.add(
            fact(facts, "name"),
            person=fact(facts, "person"),
            roles=texts(facts, "roles"),
            tenant=self._tenant(facts),
            profession=str(facts.get("profession", "")),
            actor=fact(facts, "actor"),
        )
        return _invitation(made)

    async def _roles(self, facts: Facts, _say: Say) -> Facts:
        changed = await self.register.set_roles(
            fact(facts, "name"),
            texts(facts, "roles"),
            tenant=self._tenant(facts),
            profession=str(facts.get("profession", "")),
            actor=fact(facts, "actor"),
        )
        return account_facts(changed)

    async def _reset(self, facts: Facts, _say: Say) -> Facts:
        return _invitation(await self.register.reset(fact(facts, "name"), actor=fact(facts, "actor")))

    async def _enrol(self, facts: Facts, _say: Say) -> Facts:
        """A certificate: made from a request, or one that exists already."""
        name, actor = fact(facts, "name"), fact(facts, "actor")
        if stated := facts.get("certificate"):
            bound = await self.register.bind(name, str(stated).encode(), actor=actor)
            return {**account_facts(bound), "certificate": ""}
        issuer = self.issuer()
        if issuer is None:
            raise Refused(
                "no authority of this site is configured",
                code="no-issuer",
                hint="name its folder in [certificates] people_authority, or bind a certificate of another authority",
            )
        pem = await self.register.certify(name, fact(facts, "request").encode(), issuer, actor=actor)
        return {"name": name, "certificate": pem.decode()}

    async def _revoke(self, facts: Facts, _say: Say) -> Facts:
        gone = await self.register.revoke(fact(facts, "name"), self.issuer(), actor=fact(facts, "actor"))
        return {"revoked": gone}

    async def _link(self, facts: Facts, _say: Say) -> Facts:
        """An account is somebody at an identity provider of this site."""
        provider = fact(facts, "provider")
        if provider not in self.providers:
            raise Refused(
                f"nobody signs in at an identity provider called {provider}",
                code="unknown-provider",
                hint="known: " + (", ".join(sorted(self.providers)) or "none: [identity_providers.NAME]"),
            )
        linked = await self.register.bind_provider(
            fact(facts, "name"), self.providers[provider], fact(facts, "subject"), actor=fact(facts, "actor")
        )
        return account_facts(linked)

    async def _use_consent(self, facts: Facts, _say: Say) -> Facts:
        used = await self.agreed(facts, Action(fact(facts, "action")), tenant=str(facts.get("tenant", "")))
        return {"asked_by": used.asked_by, "given_by": used.given_by}

    async def agreed(self, facts: Facts, action: Action, *, tenant: str) -> Consent:
        """Use up what two persons agreed on, by the number in ``facts`` (``consent``), for who asks by a command.

        Raises:
            Refused: ``two-persons`` no number was given; as ``Consents.use``.
        """
        number = facts.get("consent")
        if not isinstance(number, int):
            raise Refused(
                f"{action} takes two persons",
                code="two-persons",
                hint="agree on it on the console, page Two persons, then give its number with --consent",
            )
        return await self.consents.use(number, action, tenant=tenant, actor=operator(str(facts.get("user", ""))))

    def _simple(self, act: Callable[..., Awaitable[Account]]) -> Operation:
        async def asked(facts: Facts, _say: Say) -> Facts:
            return account_facts(await act(fact(facts, "name"), actor=fact(facts, "actor")))

        return asked

    def _tenant(self, facts: Facts) -> str:
        tenant = str(facts.get("tenant", ""))
        if tenant and tenant not in self.tenants:
            raise Refused(
                f"no legal entity is called {tenant}",
                code="unknown-tenant",
                hint="known: " + ", ".join(sorted(self.tenants)),
            )
        return tenant


def account_facts(account: Account) -> Facts:
    """An account as JSON: no proof in it."""
    return asdict(account) | {
        "roles": [role.value for role in Role if role in account.roles],
        "status": account.status.value,
        "certificates": list(account.certificates),
        "created_at": account.created_at.isoformat(),
        "changed_at": account.changed_at.isoformat(),
    }


def _invitation(made: Invitation) -> Facts:
    return {"account": made.account, "code": made.code, "expires_at": made.expires_at.isoformat()}
