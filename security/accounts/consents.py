"""What two persons agree on before it is done (T46): one asks, another one gives, it is used once within the hour.

Each of the two has proved to be there when asking and giving; the policy is asked again, with both, when it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from security.accounts import rows, trail
from security.accounts.account import Status
from security.clock import Clock, from_ms, to_ms
from security.errors import BadInput, Refused
from security.policy import TABLE, Action, Allow, Deny, Purpose, Reason, Resource, Role, Subject, Zone, decide
from security.store.port import ReadTx, Row, Store, Tx

GOOD_FOR: Final = timedelta(hours=1)
NEEDING_TWO: Final = tuple(action for action, rule in TABLE.items() if rule.two_persons)
_REASON = range(10, 501)
_PURPOSES: Final[Mapping[Action, Purpose]] = {Action.CASE_REIDENTIFY: Purpose.PEER_AUDIT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """One agreement. ``given_by``: "" while the second person is missing."""

    id: int
    tenant: str
    action: Action
    reason: str
    asked_by: str
    asked_at: datetime
    given_by: str
    expires_at: datetime
    used_at: datetime | None


class Consents:
    """The agreements of one store."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def open(self) -> list[Consent]:
        """Those that can still be given or used, newest first."""
        now = to_ms(self._clock.now())
        return [
            _consent(row)
            for row in await self._store.read(
                lambda tx: tx.rows(
                    "SELECT * FROM account_consent WHERE used_at IS NULL AND expires_at > :now"
                    " ORDER BY consent_id DESC",
                    now=now,
                )
            )
        ]

    async def ask(self, action: str, *, tenant: str, reason: str, account: str) -> int:
        """Ask for something that takes two; its number.

        Raises:
            BadInput: ``consent-action``, ``consent-reason``. Refused: ``not-allowed`` the role may not.
        """
        if action not in NEEDING_TWO:
            known = ", ".join(NEEDING_TWO)
            raise BadInput("nothing of that name takes two persons", code="consent-action", hint=f"one of {known}")
        if len(reason) not in _REASON or not reason.isprintable():
            raise BadInput("the reason is no line of 10 to 500 characters", code="consent-reason", hint="say why")
        now = self._clock.now()

        def work(tx: Tx) -> int:
            self._require(tx, Action(action), tenant, account, seconded_by="")
            row = tx.row(
                "INSERT INTO account_consent (tenant, action, reason, asked_by, asked_at, given_by, expires_at)"
                " VALUES (:tenant, :action, :reason, :account, :now, '', :ends) RETURNING consent_id",
                tenant=tenant,
                action=action,
                reason=reason,
                account=account,
                now=to_ms(now),
                ends=to_ms(now + GOOD_FOR),
            )
            assert row is not None
            self._note(tx, "consent.asked", actor=account, number=row["consent_id"], action=action, tenant=tenant)
            return int(row["consent_id"])

        return await self._store.write(work)

    async def give(self, number: int, *, account: str) -> None:
        """The second person agrees.

        Raises:
            Refused: ``unknown-consent``, ``consent-own``, ``not-allowed``.
        """
        now = self._clock.now()

        def work(tx: Tx) -> None:
            held = self._held(tx, number, now)
            if held.asked_by == account:
                raise Refused("the second person is another one", code="consent-own", hint="ask a colleague")
            self._require(tx, held.action, held.tenant, account, seconded_by=held.asked_by)
            tx.change(
                "UPDATE account_consent SET given_by = :account, given_at = :now"
                " WHERE consent_id = :number AND given_by = ''",
                account=account,
                now=to_ms(now),
                number=number,
            )
            self._note(tx, "consent.given", actor=account, number=number, action=held.action, tenant=held.tenant)

        await self._store.write(work)

    async def use(self, number: int, action: Action, *, tenant: str, actor: str) -> Consent:
        """Use an agreement up, for exactly what was agreed.

        Raises:
            Refused: ``unknown-consent``, ``consent-missing`` the second person has not agreed, ``not-allowed``.
        """
        now = self._clock.now()

        def work(tx: Tx) -> Consent:
            held = self._held(tx, number, now)
            if (held.action, held.tenant) != (action, tenant):
                raise _unknown()
            if not held.given_by:
                raise Refused(
                    "the second person has not agreed yet", code="consent-missing", hint="on the console: Two persons"
                )
            for one, other in ((held.asked_by, held.given_by), (held.given_by, held.asked_by)):
                self._require(tx, action, tenant, one, seconded_by=other)
            tx.change(
                "UPDATE account_consent SET used_at = :now WHERE consent_id = :number",
                now=to_ms(now),
                number=number,
            )
            self._note(tx, "consent.used", actor=actor, number=number, action=action, tenant=tenant)
            return held

        return await self._store.write(work)

    def _require(self, tx: ReadTx, action: Action, tenant: str, account: str, *, seconded_by: str) -> None:
        """The policy, for one of the two as the account is now; who asks lacks the second person alone."""
        found = rows.account(tx, account)
        roles: frozenset[Role] = found.roles if found and found.status is Status.ACTIVE else frozenset()
        subject = Subject(
            name=account,
            roles=roles,
            tenant=found.tenant if found else "",
            is_fresh=True,  # each proved it on the page where they asked or gave
            seconded_by=seconded_by,
        )
        purpose = _PURPOSES.get(action, Purpose.OPERATION)
        judged = decide(subject, purpose, action, Resource(tenant=tenant), Zone.OPS)
        lacks_the_second = not seconded_by and judged == Deny(reason=Reason.SECOND_PERSON)
        if not isinstance(judged, Allow) and not lacks_the_second:
            raise Refused(
                "this account may not", code="not-allowed", hint="docs/access.md says which roles may ask for it"
            )

    def _held(self, tx: ReadTx, number: int, now: datetime) -> Consent:
        row = tx.row(
            "SELECT * FROM account_consent WHERE consent_id = :number AND used_at IS NULL AND expires_at > :now",
            number=number,
            now=to_ms(now),
        )
        if row is None:
            raise _unknown()
        return _consent(row)

    def _note(self, tx: Tx, event: str, *, actor: str, number: int, action: str, tenant: str) -> None:
        about = str(number)
        said = actor if ":" in actor else f"account:{actor}"
        trail.note(
            tx, event, actor=said, about=about, kind="consent", now=self._clock.now(), detail=action, tenant=tenant
        )


def _consent(row: Row) -> Consent:
    return Consent(
        id=row["consent_id"],
        tenant=row["tenant"],
        action=Action(row["action"]),
        reason=row["reason"],
        asked_by=row["asked_by"],
        asked_at=from_ms(row["asked_at"]),
        given_by=row["given_by"],
        expires_at=from_ms(row["expires_at"]),
        used_at=from_ms(row["used_at"]) if row["used_at"] else None,
    )


def _unknown() -> Refused:
    return Refused("no such agreement is open", code="unknown-consent", hint="it is good for an hour, and once")
