"""``poterne audit``: the commands; what they do and print is in ``gateway.audits``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from gateway.terminal import AsJson, Conf, Lang, settings_of, words_of

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The audit trail: who saw what, and that nothing was changed."
)


@app.command("show")
def audit_show(
    between: Annotated[
        tuple[str, str], typer.Option("--between", metavar="FROM TO", help="Days or moments; a last day is included.")
    ],
    conf: Conf = None,
    tenant: Annotated[str, typer.Option(help="Legal entity; all of them otherwise.")] = "",
    study: Annotated[str, typer.Option(help="StudyInstanceUID, or another object's id.")] = "",
    who: Annotated[str, typer.Option(help="Who did it, as the trail writes it.")] = "",
    event: Annotated[str, typer.Option(help="The event; exam.* for all that begin so.")] = "",
    rows: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many at most.")] = 1_000,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Who did what and who saw what, oldest first. That it was asked is recorded too."""
    from gateway import audits

    wanted = {"tenant": tenant, "object_id": study, "actor": who, "event": event}
    settings, words = settings_of(conf), words_of(lang)
    showing = audits.show(settings, words, between=between, wanted=wanted, rows=rows, as_json=as_json)
    raise typer.Exit(asyncio.run(showing))


@app.command("verify")
def audit_verify(
    conf: Conf = None,
    witness: Annotated[Path | None, typer.Option(help="Heads kept outside; else audit.witness_file.")] = None,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Whether the trail is as it was written; 1 and the place of each change when it is not."""
    from gateway import audits

    settings, words = settings_of(conf), words_of(lang)
    raise typer.Exit(
        asyncio.run(
            audits.verify(settings, words, witness=str(witness.resolve()) if witness else "", as_json=as_json)
        )
    )


@app.command("head")
def audit_head(conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """The newest signed head, to be kept on paper or by somebody else."""
    from gateway import audits

    settings, words = settings_of(conf), words_of(lang)
    raise typer.Exit(asyncio.run(audits.head(settings, words, as_json=as_json)))


@app.command("prove")
def audit_prove(
    number: Annotated[int, typer.Argument(min=1, help="The record's number.")], conf: Conf = None, lang: Lang = None
) -> None:
    """What a stranger needs to check that a record stands under a signed head; JSON."""
    from gateway import audits

    words_of(lang)
    raise typer.Exit(asyncio.run(audits.prove(settings_of(conf), seq=number)))
