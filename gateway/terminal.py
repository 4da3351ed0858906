"""What every command begins with: its configuration, its language, and the options they share."""

from __future__ import annotations

import os
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.settings import ConfigurationError, Settings, load

if TYPE_CHECKING:
    from gateway.i18n import Words

Conf = Annotated[Path | None, typer.Option("--conf", help="Configuration file (TOML); conf.d/*.toml beside it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]
Lang = Annotated[
    str | None,
    typer.Option("--lang", metavar="fr|en", help="Otherwise that of LC_ALL, LC_MESSAGES or LANG, else French."),
]

chosen: ContextVar[str | None] = ContextVar("chosen", default=None)
"""The language that was asked for, for what goes wrong later."""


def settings_of(conf: Path | None) -> Settings:
    """The configuration, or exit 2 with every problem; the log goes by it from here on."""
    from gateway import telemetry  # noqa: PLC0415  a question to the queue does not wait for it

    try:
        settings = load(conf, os.environ)
    except ConfigurationError as error:
        for problem in error.problems:
            typer.echo(problem, err=True)
        raise typer.Exit(2) from error
    telemetry.configure_logging(settings.log)
    return settings


def words_of(lang: str | None) -> Words:
    """Words in the language asked for; what goes wrong from here on is told in it too."""
    from gateway import i18n  # noqa: PLC0415

    if lang not in {None, *i18n.LANGUAGES}:
        raise typer.BadParameter("fr, en", param_hint="--lang")
    chosen.set(lang)
    return i18n.words(i18n.language(lang, os.environ))
