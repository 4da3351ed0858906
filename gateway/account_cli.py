"""``poterne accounts``: the commands and their options. Each imports what it runs inside its own function."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from gateway.terminal import AsJson, Conf, Lang, settings_of, words_of

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Who may sign in: people, their roles, what they prove it with."
)

Name = Annotated[str, typer.Argument(help="Name of the account, as it is typed at sign-in.")]
Roles = Annotated[list[str], typer.Option("--role", help="A role; may be repeated. docs/access.md lists them.")]
Of = Annotated[str, typer.Option("--tenant", help="The one legal entity it belongs to; otherwise all of them.")]
Profession = Annotated[str, typer.Option("--profession", help="Of an auditor, who needs one.")]


@app.command("list")
def accounts_list(conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """Every account: standing, roles, what it proves itself with."""
    from gateway import account_commands

    raise typer.Exit(asyncio.run(account_commands.listed(settings_of(conf), words_of(lang), as_json=as_json)))


@app.command("bootstrap")
def accounts_bootstrap(conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """A one-time code for the first account, a security officer; only while there is none."""
    from gateway import account_commands

    raise typer.Exit(asyncio.run(account_commands.bootstrap(settings_of(conf), words_of(lang), as_json=as_json)))


@app.command("add")
def accounts_add(
    name: Name,
    person: Annotated[str, typer.Option("--person", help="First name and name, for people.")],
    role: Roles,
    conf: Conf = None,
    tenant: Of = "",
    profession: Profession = "",
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """A new account, and the one-time code its person enrols with on the console."""
    from gateway import account_commands

    settings, words = settings_of(conf), words_of(lang)
    work = account_commands.add(
        settings,
        words,
        name=name,
        person=person,
        roles=role,
        tenant=tenant,
        profession=profession,
        as_json=as_json,
    )
    raise typer.Exit(asyncio.run(work))


@app.command("roles")
def accounts_roles(
    name: Name,
    role: Roles,
    conf: Conf = None,
    tenant: Of = "",
    profession: Profession = "",
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Other roles instead of those it has; its sessions are over at once."""
    from gateway import account_commands

    settings, words = settings_of(conf), words_of(lang)
    work = account_commands.roles(
        settings, words, name=name, roles=role, tenant=tenant, profession=profession, as_json=as_json
    )
    raise typer.Exit(asyncio.run(work))


@app.command("lock")
def accounts_lock(name: Name, conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """Nobody signs in as this account; its sessions are over at once."""
    from gateway import account_commands

    work = account_commands.standing(settings_of(conf), words_of(lang), "lock", name=name, as_json=as_json)
    raise typer.Exit(asyncio.run(work))


@app.command("unlock")
def accounts_unlock(name: Name, conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """It may sign in again; failed tries are forgotten."""
    from gateway import account_commands

    work = account_commands.standing(settings_of(conf), words_of(lang), "unlock", name=name, as_json=as_json)
    raise typer.Exit(asyncio.run(work))


@app.command("reset")
def accounts_reset(name: Name, conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """Password or second factor is lost: both are worthless from now on, and a new code is printed."""
    from gateway import account_commands

    work = account_commands.reset(settings_of(conf), words_of(lang), name=name, as_json=as_json)
    raise typer.Exit(asyncio.run(work))


@app.command("enrol")
def accounts_enrol(
    name: Name,
    request: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="PKCS #10 request; our authority certifies it.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A certificate that another authority issued.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the certificate there; printed otherwise.")] = None,
    conf: Conf = None,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Bind a client certificate to an account, from a request or as it is."""
    from gateway import account_commands

    if (request is None) is (certificate is None):
        raise typer.BadParameter("--request, or --certificate")
    settings, words = settings_of(conf), words_of(lang)
    work = account_commands.enrol(
        settings, words, name=name, request=request, certificate=certificate, out=out, as_json=as_json
    )
    raise typer.Exit(asyncio.run(work))


@app.command("link")
def accounts_link(
    name: Name,
    provider: Annotated[str, typer.Option("--provider", help="Name of the [identity_providers] section.")],
    subject: Annotated[
        str, typer.Option("--subject", help="Their sub there, letter by letter: the page that refuses them shows it.")
    ],
    conf: Conf = None,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Whoever is this subject at an identity provider signs in as this account; its roles stay its own."""
    from gateway import account_commands

    work = account_commands.link(
        settings_of(conf), words_of(lang), name=name, provider=provider, subject=subject, as_json=as_json
    )
    raise typer.Exit(asyncio.run(work))


@app.command("unlink")
def accounts_unlink(name: Name, conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """No identity provider speaks for this account any more; its sessions are over at once."""
    from gateway import account_commands

    work = account_commands.standing(settings_of(conf), words_of(lang), "unlink", name=name, as_json=as_json)
    raise typer.Exit(asyncio.run(work))


@app.command("revoke")
def accounts_revoke(name: Name, conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """A key or card is lost: no certificate stands for the account any more, and the authority lists it."""
    from gateway import account_commands

    work = account_commands.revoke(settings_of(conf), words_of(lang), name=name, as_json=as_json)
    raise typer.Exit(asyncio.run(work))
