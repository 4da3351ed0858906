"""``poterne certs keys``: the keys of what is sealed. Thin: each command gives one order and says what came of it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateway.facts import operator
from gateway.i18n import Words
from gateway.terminal import AsJson, Conf, Lang, settings_of, words_of

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Keys of what is sealed in the database.")

TenantName = Annotated[str, typer.Argument(metavar="TENANT", help="The legal entity.")]


@app.command()
def show(conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """How many keys are under the key-encryption key in use, and under the one before."""
    told = _ordered(conf, "keys-show")
    words = words_of(lang)
    if as_json:
        typer.echo(json.dumps(told))
        return
    typer.echo(
        words(
            "under the key in use: {many}; under the one before: {left}", many=told["current"], left=told["previous"]
        )
    )
    if told["has_previous"]:
        typer.echo(_kept(words))
    for tenant, held in told["tenants"].items():
        since = f"{datetime.fromtimestamp(held['newest_ms'] / 1000, UTC):%Y-%m-%d}"
        typer.echo(
            words("{tenant}: {many} sealing keys, the newest of {day}", tenant=tenant, many=held["keys"], day=since)
        )


@app.command()
def rotate(conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """Make a new key-encryption key and wrap every stored key under it; goes on where it was interrupted."""
    told = _ordered(conf, "keys-rotate")
    words = words_of(lang)
    if as_json:
        typer.echo(json.dumps(told))
        return
    typer.echo(
        words("{many} keys are under the new key now; copy its file to where keys are kept", many=told["wrapped"])
    )
    typer.echo(_kept(words))


@app.command()
def forget(conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """Remove the key-encryption key before; refused while a stored key needs it."""
    told = _ordered(conf, "keys-forget")
    words = words_of(lang)
    typer.echo(json.dumps(told) if as_json else words("the old key is gone from this machine"))


@app.command()
def renew(tenant: TenantName, conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """Seal under a new key of a legal entity from now on; what was sealed before opens as before."""
    told = _ordered(conf, "keys-renew", tenant=tenant)
    words = words_of(lang)
    typer.echo(json.dumps(told) if as_json else words("{tenant} is sealed under key {key} from now on", **told))


@app.command()
def erase(
    tenant: TenantName,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the audit trail.")],
    conf: Conf = None,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Destroy the keys of a legal entity that is configured no more: what was sealed for it never opens again."""
    told = _ordered(conf, "keys-erase", tenant=tenant, reason=reason)
    words = words_of(lang)
    if as_json:
        typer.echo(json.dumps(told))
        return
    typer.echo(words("{keys} keys of {tenant} are destroyed", **told))
    typer.echo(
        words(
            "backups still hold them wrapped: rotate the key-encryption key, then destroy every copy of the old one"
        )
    )


def _kept(words: Words) -> str:
    return words(
        "the old key is kept beside: keep a copy as long as backups made before, then: poterne certs keys forget"
    )


def _ordered(conf: Conf, operation: str, **facts: str) -> dict[str, Any]:
    from gateway import orders

    settings = settings_of(conf)

    async def ask() -> dict[str, Any]:
        async with orders.orders(settings) as order:
            actor = operator()
            return dict(await order(operation, {"actor": actor, **facts}))

    return asyncio.run(ask())
