"""The rows of the accounts: plain functions of a transaction, nothing decided here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from security.accounts.account import Account, Status
from security.accounts.backoff import Tries
from security.clock import from_ms, to_ms
from security.policy import Role
from security.store.port import ReadTx, Row, Tx

_TRIES_KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proofs:
    """What an account proves itself with, sealed."""

    password: bytes | None
    totp: bytes | None
    totp_step: int


def account(tx: ReadTx, name: str) -> Account | None:
    """One account."""
    row = tx.row("SELECT * FROM account WHERE name = :name", name=name)
    return _account(row, _certificates(tx, name)) if row else None


def every(tx: ReadTx) -> list[Account]:
    """All accounts, by name."""
    held: dict[str, list[str]] = {}
    for row in tx.rows("SELECT account, fingerprint FROM account_certificate WHERE revoked_at IS NULL"):
        held.setdefault(row["account"], []).append(row["fingerprint"])
    return [_account(row, held.get(row["name"], ())) for row in tx.rows("SELECT * FROM account ORDER BY name")]


def proofs(tx: ReadTx, name: str) -> Proofs | None:
    """The proofs of an account."""
    row = tx.row("SELECT password, totp, totp_step FROM account WHERE name = :name", name=name)
    return Proofs(password=row["password"], totp=row["totp"], totp_step=row["totp_step"]) if row else None


def add(tx: Tx, made: Account) -> bool:
    """A new account without proofs; False when the name is taken."""
    return (
        tx.change(
            "INSERT INTO account (name, person, tenant, roles, profession, status, version, totp_step, federated,"
            " created_at, changed_at) VALUES (:name, :person, :tenant, :roles, :profession, :status, 1, 0,"
            " :federated, :at, :at) ON CONFLICT (name) DO NOTHING",
            name=made.name,
            person=made.person,
            tenant=made.tenant,
            roles=_spelt(made.roles),
            profession=made.profession,
            status=made.status.value,
            federated=made.federated,
            at=to_ms(made.created_at),
        )
        == 1
    )


def set_roles(tx: Tx, name: str, *, roles: frozenset[Role], tenant: str, profession: str, now: datetime) -> None:
    """New roles; every session of the account is over."""
    tx.change(
        "UPDATE account SET roles = :roles, tenant = :tenant, profession = :profession, version = version + 1,"
        " changed_at = :now WHERE name = :name",
        name=name,
        roles=_spelt(roles),
        tenant=tenant,
        profession=profession,
        now=to_ms(now),
    )


def set_status(tx: Tx, name: str, status: Status, *, now: datetime) -> None:
    """Another standing; every session of the account is over."""
    tx.change(
        "UPDATE account SET status = :status, version = version + 1, changed_at = :now WHERE name = :name",
        name=name,
        status=status.value,
        now=to_ms(now),
    )


def set_proofs(tx: Tx, name: str, found: Proofs, *, now: datetime) -> None:
    """New proofs; every session of the account is over."""
    tx.change(
        "UPDATE account SET password = :password, totp = :totp, totp_step = :step, version = version + 1,"
        " changed_at = :now WHERE name = :name",
        name=name,
        password=found.password,
        totp=found.totp,
        step=found.totp_step,
        now=to_ms(now),
    )


def take_step(tx: Tx, name: str, step: int) -> bool:
    """Use a time step up; False when it, or a later one, was used before (T32: a code is good once)."""
    return (
        tx.change(
            "UPDATE account SET totp_step = :step WHERE name = :name AND totp_step < :step", name=name, step=step
        )
        == 1
    )


def bind_federated(tx: Tx, name: str, federated: str, *, now: datetime) -> None:
    """Who the account is at an identity provider, "" for nobody; every session of the account is over."""
    tx.change(
        "UPDATE account SET federated = :federated, version = version + 1, changed_at = :now WHERE name = :name",
        name=name,
        federated=federated,
        now=to_ms(now),
    )


def by_federated(tx: ReadTx, federated: str) -> Account | None:
    """Whose identity that is."""
    row = tx.row("SELECT name FROM account WHERE federated = :federated AND federated <> ''", federated=federated)
    return account(tx, row["name"]) if row else None


# -- certificates --------------------------------------------------------------------------------------------------


def bind_certificate(tx: Tx, name: str, *, fingerprint: str, pem: str, now: datetime) -> bool:
    """A certificate stands for the account; False when it stands, or stood, for one."""
    return (
        tx.change(
            "INSERT INTO account_certificate (fingerprint, account, certificate, bound_at)"
            " VALUES (:fingerprint, :name, :pem, :now) ON CONFLICT (fingerprint) DO NOTHING",
            fingerprint=fingerprint,
            name=name,
            pem=pem,
            now=to_ms(now),
        )
        == 1
    )


def by_certificate(tx: ReadTx, fingerprint: str) -> Account | None:
    """For whom a certificate stands now."""
    row = tx.row(
        "SELECT account FROM account_certificate WHERE fingerprint = :fingerprint AND revoked_at IS NULL",
        fingerprint=fingerprint,
    )
    return account(tx, row["account"]) if row else None


def revoke_certificates(tx: Tx, name: str, *, now: datetime) -> list[str]:
    """No certificate stands for the account any more; those that did, PEM."""
    rows = tx.rows(
        "UPDATE account_certificate SET revoked_at = :now WHERE account = :name AND revoked_at IS NULL"
        " RETURNING certificate",
        name=name,
        now=to_ms(now),
    )
    return [row["certificate"] for row in rows]


# -- codes ---------------------------------------------------------------------------------------------------------


def put_code(tx: Tx, *, digest: bytes, account: str, now: datetime, expires_at: datetime) -> None:
    """A new code; those given before for the same account are good no more."""
    tx.change("DELETE FROM account_code WHERE account = :account AND used_at IS NULL", account=account)
    tx.change(
        "INSERT INTO account_code (digest, account, made_at, expires_at) VALUES (:digest, :account, :now, :ends)",
        digest=digest,
        account=account,
        now=to_ms(now),
        ends=to_ms(expires_at),
    )


def code_account(tx: ReadTx, digest: bytes, *, now: datetime) -> str | None:
    """The account of a code that is still good, "" for the first one; None for any other code."""
    row = tx.row(
        "SELECT account FROM account_code WHERE digest = :digest AND used_at IS NULL AND expires_at > :now",
        digest=digest,
        now=to_ms(now),
    )
    return str(row["account"]) if row else None


def use_code(tx: Tx, digest: bytes, *, now: datetime) -> bool:
    """Use a code up; False when it is good no more."""
    return (
        tx.change(
            "UPDATE account_code SET used_at = :now WHERE digest = :digest AND used_at IS NULL AND expires_at > :now",
            digest=digest,
            now=to_ms(now),
        )
        == 1
    )


# -- tries ---------------------------------------------------------------------------------------------------------


def tries(tx: ReadTx, who: bytes) -> Tries | None:
    """What is remembered of who tried."""
    row = tx.row("SELECT failures, not_before, last_at FROM account_try WHERE who = :who", who=who)
    if row is None:
        return None
    return Tries(failures=row["failures"], not_before=from_ms(row["not_before"]), last_at=from_ms(row["last_at"]))


def remember(tx: Tx, who: bytes, found: Tries | None) -> None:
    """Keep it, or nothing."""
    if found is None:
        tx.change("DELETE FROM account_try WHERE who = :who", who=who)
        return
    tx.change(
        "INSERT INTO account_try (who, failures, not_before, last_at) VALUES (:who, :failures, :wait, :last)"
        " ON CONFLICT (who) DO UPDATE SET failures = excluded.failures, not_before = excluded.not_before,"
        " last_at = excluded.last_at",
        who=who,
        failures=found.failures,
        wait=to_ms(found.not_before),
        last=to_ms(found.last_at),
    )


def forget_old_tries(tx: Tx, now: datetime) -> None:
    """What is a day old says nothing any more."""
    tx.change("DELETE FROM account_try WHERE last_at < :before", before=to_ms(now - _TRIES_KEPT))


def _account(row: Row, certificates: Iterable[str]) -> Account:
    return Account(
        name=row["name"],
        person=row["person"],
        tenant=row["tenant"],
        roles=frozenset(map(Role, row["roles"].split())),
        profession=row["profession"],
        status=Status(row["status"]),
        version=row["version"],
        has_password=row["password"] is not None,
        certificates=tuple(sorted(certificates)),
        federated=row["federated"],
        created_at=from_ms(row["created_at"]),
        changed_at=from_ms(row["changed_at"]),
    )


def _certificates(tx: ReadTx, name: str) -> list[str]:
    rows = tx.rows(
        "SELECT fingerprint FROM account_certificate WHERE account = :name AND revoked_at IS NULL", name=name
    )
    return [row["fingerprint"] for row in rows]


def _spelt(roles: frozenset[Role]) -> str:
    return " ".join(role for role in Role if role in roles)
