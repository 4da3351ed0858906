"""The command ``poterne``: thin; every command reads its configuration, does one thing and says what it found.

Exit codes: 0 done, 1 the checked thing is wrong, 2 bad usage or configuration (file, key and reason named).
Each command imports what it runs inside its own function, so that a question to the queue does not wait for the
libraries of the doors.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from gateway.lab import DemoFault
from gateway.settings import ConfigurationError, Settings, load
from security.errors import Fault

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its markup would swallow [section] names
    help="Poterne, the guarded gate beside a PACS.",
)
index_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The embedded index node (XDS.b registry and repository).",
)
app.add_typer(index_app, name="index")

Conf = Annotated[Path | None, typer.Option("--conf", help="Configuration file (TOML); conf.d/*.toml beside it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]
Ready = Annotated[
    Path | None,
    typer.Option("--ready-file", help="Write the bound addresses there, as JSON, once every door is open."),
]


def _settings(conf: Path | None) -> Settings:
    """The configuration, or exit 2 with every problem; the log goes by it from here on."""
    from gateway import telemetry

    try:
        settings = load(conf, os.environ)
    except ConfigurationError as error:
        for problem in error.problems:
            typer.echo(problem, err=True)
        raise typer.Exit(2) from error
    telemetry.configure_logging(settings.log)
    return settings


def _announce(ready_file: Path | None, bound: Mapping[str, str]) -> None:
    if ready_file:
        partial = ready_file.with_suffix(".part")
        partial.write_text(json.dumps(dict(bound)))
        partial.rename(ready_file)


@app.command()
def serve(conf: Conf = None, ready_file: Ready = None) -> None:
    """Run the gateway: listen for reports, publish their exams."""
    from gateway import lifecycle, wiring

    settings = _settings(conf)

    async def run() -> None:
        async with wiring.house(settings) as house:
            await lifecycle.serve(
                house, stop_grace_s=settings.outbox.stop_grace_s, announce=lambda bound: _announce(ready_file, bound)
            )

    asyncio.run(run())


@index_app.command("serve")
def index_serve(conf: Conf = None, ready_file: Ready = None) -> None:
    """Run the index node of the configuration's [index_node] section."""
    from gateway import lifecycle, wiring

    settings = _settings(conf)
    if settings.index_node is None:
        typer.echo(f"{conf}: index_node: missing section → describe the node to run", err=True)
        raise typer.Exit(2)
    node = settings.index_node

    async def run() -> None:
        async with wiring.index_house(node) as house:
            await lifecycle.serve(
                house, stop_grace_s=settings.outbox.stop_grace_s, announce=lambda bound: _announce(ready_file, bound)
            )

    asyncio.run(run())


@app.command()
def check(conf: Conf = None, as_json: AsJson = False) -> None:
    """Check the configuration: every problem at once, with file, key and reason."""
    from gateway import check as checking

    raise typer.Exit(checking.report(conf, os.environ, as_json=as_json))


@app.command()
def exam(
    study_uid: str,
    conf: Conf = None,
    tenant: Annotated[str, typer.Option(help="Tenant; needed when several know the study.")] = "",
    as_json: AsJson = False,
) -> None:
    """One exam's timeline: each step, its evidence, what is missing, next try."""
    from gateway import views

    raise typer.Exit(asyncio.run(views.exam(_settings(conf), study_uid, tenant=tenant, as_json=as_json)))


@app.command()
def queue(conf: Conf = None, as_json: AsJson = False) -> None:
    """The publication queue: exams by state, the oldest, what each waits for."""
    from gateway import views

    raise typer.Exit(asyncio.run(views.queue(_settings(conf), as_json=as_json)))


@app.command()
def demo(
    wait_s: Annotated[float, typer.Option(help="Seconds the exams may take to reach their expected states.")] = 30.0,
    fault: Annotated[
        DemoFault | None, typer.Option(help="Break one thing on purpose: the demo must notice and name it.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep the whole site in this new directory.")] = None,
    as_json: AsJson = False,
) -> None:
    """A whole site on loopback, from report to index: seven exams, of which five must be indexed.

    One is held for its identity and one waits for its images. Exit code 1 when an exam ends otherwise. On a
    terminal the site then stays up until Ctrl-C.
    """
    from gateway import demo as demonstration

    raise typer.Exit(
        asyncio.run(
            demonstration.run(wait_s=wait_s, fault=fault, keep=keep, as_json=as_json, stay=sys.stdin.isatty())
        )
    )


def main() -> None:
    """Entry point. A fault that a command did not handle is shown as its message and hint, exit 2."""
    try:
        app()
    except* Fault as faults:
        for fault in _leaves(faults):
            typer.echo(str(fault), err=True)
        sys.exit(2)


def _leaves(group: BaseExceptionGroup[Fault]) -> Iterator[Fault]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    main()
