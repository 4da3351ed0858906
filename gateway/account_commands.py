"""What ``poterne accounts`` does and prints. The acting is the gateway's (``gateway.reception``), running or built
here for the moment; a code is printed once and kept nowhere.
"""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import typer

from gateway import orders
from gateway.i18n import N_, Words
from gateway.settings import Settings
from gateway.web.vocabulary import ACCOUNT_STATES, ROLES
from security.errors import BadInput

Facts = Mapping[str, Any]
_REQUEST_BYTES_MAX = 64 * 1024
_DONE: dict[str, str] = {
    "lock": N_("{name} is locked: nobody signs in as this account, and its sessions are over."),
    "unlock": N_("{name} may sign in again."),
    "unlink": N_("{name} is nobody at an identity provider any more, and its sessions are over."),
}


def actor() -> str:
    """Who asks, as the audit record says it."""
    return f"host:{getpass.getuser()} (command line)"


async def listed(settings: Settings, words: Words, *, as_json: bool) -> int:
    """Print every account, without any proof."""
    async with orders.orders(settings) as order:
        found = await order("account-list", {})
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return 0
    if not found:
        typer.echo(words("There is no account yet: poterne accounts bootstrap."))
    for one in found:
        proofs = [words("password and code")] * one["has_password"]
        proofs += [words.count("{n} certificate", "{n} certificates", len(one["certificates"]))] * bool(
            one["certificates"]
        )
        proofs += [words("identity provider")] * bool(one["federated"])
        roles = ", ".join(words(ROLES[role]) for role in one["roles"])
        state = words(ACCOUNT_STATES[one["status"]])
        where = one["tenant"] or words("all legal entities")
        told = [one["name"], one["person"], state, roles, where, ", ".join(proofs) or "—"]
        typer.echo("  ".join(told))
    return 0


async def bootstrap(settings: Settings, words: Words, *, as_json: bool) -> int:
    """Print the code of the first account."""
    async with orders.orders(settings) as order:
        made = await order("account-bootstrap", {"actor": actor()})
    _say_code(settings, words, made, as_json=as_json)
    return 0


async def add(
    settings: Settings,
    words: Words,
    *,
    name: str,
    person: str,
    roles: Sequence[str],
    tenant: str,
    profession: str,
    as_json: bool,
) -> int:
    """Make an account and print the code its person enrols with."""
    facts = {"name": name, "person": person, "roles": list(roles), "tenant": tenant, "profession": profession}
    async with orders.orders(settings) as order:
        made = await order("account-add", facts | {"actor": actor()})
    _say_code(settings, words, made, as_json=as_json)
    return 0


async def reset(settings: Settings, words: Words, *, name: str, as_json: bool) -> int:
    """Make password and second factor worthless and print a new code."""
    async with orders.orders(settings) as order:
        made = await order("account-reset", {"name": name, "actor": actor()})
    _say_code(settings, words, made, as_json=as_json)
    return 0


async def roles(
    settings: Settings,
    words: Words,
    *,
    name: str,
    roles: Sequence[str],
    tenant: str,
    profession: str,
    as_json: bool,
) -> int:
    """Give other roles."""
    facts = {"name": name, "roles": list(roles), "tenant": tenant, "profession": profession, "actor": actor()}
    async with orders.orders(settings) as order:
        changed = await order("account-roles", facts)
    if as_json:
        typer.echo(json.dumps(changed, ensure_ascii=False))
        return 0
    said = ", ".join(words(ROLES[role]) for role in changed["roles"])
    typer.echo(words("{name} is now: {roles}. Its sessions are over.", name=changed["name"], roles=said))
    return 0


async def standing(settings: Settings, words: Words, what: str, *, name: str, as_json: bool) -> int:
    """``lock``, ``unlock`` or ``unlink`` an account."""
    async with orders.orders(settings) as order:
        changed = await order(f"account-{what}", {"name": name, "actor": actor()})
    typer.echo(json.dumps(changed, ensure_ascii=False) if as_json else words(_DONE[what], name=changed["name"]))
    return 0


async def enrol(
    settings: Settings,
    words: Words,
    *,
    name: str,
    request: Path | None,
    certificate: Path | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Bind a certificate to an account: one that exists, or one made from a request (PKCS #10), written to ``out``.

    Raises:
        BadInput: ``request-unusable`` a file is too large to be one.
    """
    facts = {"name": name, "actor": actor()}
    for key, file in (("request", request), ("certificate", certificate)):
        if file is not None:
            facts[key] = _text_of(file)
    async with orders.orders(settings) as order:
        made = await order("account-enrol", facts)
    if made["certificate"] and out:
        await asyncio.to_thread(out.write_text, made["certificate"])
    if as_json:
        typer.echo(json.dumps(made, ensure_ascii=False))
    else:
        typer.echo(words("{name} may sign in with this certificate.", name=name))
        if made["certificate"] and not out:
            typer.echo(made["certificate"], nl=False)
    return 0


async def link(settings: Settings, words: Words, *, name: str, provider: str, subject: str, as_json: bool) -> int:
    """An account is this ``sub`` at that identity provider."""
    facts = {"name": name, "provider": provider, "subject": subject, "actor": actor()}
    async with orders.orders(settings) as order:
        linked = await order("account-link", facts)
    told = words(
        "{name} may sign in at {provider} as {subject}. Sessions it had are over.",
        name=linked["name"],
        provider=provider,
        subject=subject,
    )
    typer.echo(json.dumps(linked, ensure_ascii=False) if as_json else told)
    return 0


async def revoke(settings: Settings, words: Words, *, name: str, as_json: bool) -> int:
    """What is lost stands for nobody: every certificate of an account."""
    async with orders.orders(settings) as order:
        done = await order("account-revoke", {"name": name, "actor": actor()})
    if as_json:
        typer.echo(json.dumps(done, ensure_ascii=False))
        return 0
    typer.echo(
        words.count(
            "{n} certificate of {name} was revoked.",
            "{n} certificates of {name} were revoked.",
            done["revoked"],
            name=name,
        )
    )
    typer.echo(words("Enrol a new one with: poterne accounts enrol {name} --request FILE", name=name))
    return 0


def _text_of(file: Path) -> str:
    data = file.read_bytes()
    if len(data) > _REQUEST_BYTES_MAX or not data.isascii():
        raise BadInput(f"{file} is no PEM file", code="request-unusable", hint="give the request or the certificate")
    return data.decode("ascii")


def _say_code(settings: Settings, words: Words, made: Facts, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(made, ensure_ascii=False))
        return
    zone = ZoneInfo(next((one.timezone for one in settings.tenants.values()), "UTC"))
    ends = words.moment(datetime.fromisoformat(made["expires_at"]), zone)
    typer.echo(words("Code: {code}", code=made["code"]))
    typer.echo(words("Good once, until {when}. It is shown now and never again.", when=ends))
    typer.echo(words("On the console: {url}", url=f"{console_address(settings)}/enrol"))


def console_address(settings: Settings) -> str:
    """Where people open the console, as far as the configuration tells."""
    if settings.alerts.console_url:
        return settings.alerts.console_url.rstrip("/")
    return f"http://{settings.ops.listen or '127.0.0.1'}/console"
