"""``poterne draw``: the commands; what they do and print is in ``gateway.draws``."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.terminal import AsJson, Conf, Lang, settings_of, words_of

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The verifiable draw of a peer audit (drim-draw/1)."
)

Frame = Annotated[Path, typer.Argument(metavar="FRAME.csv", help="unit,stratum,practitioner.")]
Protocol = Annotated[Path, typer.Argument(metavar="PROTOCOL.json", help="What was frozen: it is hashed as it is.")]
Seeds = Annotated[
    Path, typer.Argument(metavar="SEEDS.json", help="draw_no, contributions, beacon, replacements (docs/draw.md).")
]


@app.command("run")
def draw_run(
    frame: Frame,
    protocol: Protocol,
    seeds: Seeds,
    out: Annotated[Path, typer.Option("--out", metavar="TRANSCRIPT.json", help="Write the transcript there.")],
    key: Annotated[
        Path | None, typer.Option("--key", metavar="KEYFILE", help="Ed25519 key that signs; else a throw-away one.")
    ] = None,
    prev: Annotated[
        Path | None, typer.Option("--prev", metavar="TRANSCRIPT", help="Transcript of the voided draw before.")
    ] = None,
    times: Annotated[
        Path | None, typer.Option("--times", metavar="TIMES.json", help="committed_at, revealed_at; else now.")
    ] = None,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Draw the cases of a frame and write the signed transcript; 1 when the draw is refused."""
    from gateway import draws
    from security.clock import SystemClock

    files = draws.Files(frame=frame, protocol=protocol, seeds=seeds, out=out, key=key, prev=prev, times=times)
    raise typer.Exit(draws.run(files, words_of(lang), clock=SystemClock(), as_json=as_json))


@app.command("verify")
def draw_verify(
    transcript: Annotated[Path, typer.Argument(metavar="TRANSCRIPT.json", help="What poterne draw run wrote.")],
    frame: Annotated[
        Path | None, typer.Option("--frame", metavar="FRAME.csv", help="The whole list, for who may see it.")
    ] = None,
    prev: Annotated[
        list[Path] | None,
        typer.Option("--prev", metavar="TRANSCRIPT", help="Transcripts of the draws before, newest first."),
    ] = None,
    key: Annotated[str, typer.Option("--public-key", metavar="HEX", help="The key that the site announced.")] = "",
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail also on what is unchecked or left to weigh.")
    ] = False,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Check a transcript step by step, by two ways that share no code; 1 and the failing step when one fails."""
    from gateway import draws

    code = draws.verify(
        transcript, words_of(lang), frame=frame, previous=prev or (), key=key, strict=strict, as_json=as_json
    )
    raise typer.Exit(code)


@app.command("frame")
def draw_frame(
    protocol: Protocol,
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day of the exams.")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day of the exams.")],
    out: Annotated[Path, typer.Option("--out", metavar="FRAME.csv", help="Write the frame there.")],
    counts: Annotated[
        Path | None, typer.Option("--counts", metavar="COUNTS.json", help="Write sizes, exclusions and counts there.")
    ] = None,
    objections: Annotated[
        Path | None,
        typer.Option(
            "--objections",
            metavar="FILE",
            help="Patients (INS, local number) and exams (UID) to leave out, one a line; read, never kept.",
        ),
    ] = None,
    conf: Conf = None,
    tenant: Annotated[str, typer.Option("--tenant", help="Legal entity; needed when there are several.")] = "",
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Build the frame of a campaign from what the gateway knows, and hold it against four counts."""
    from gateway import frame_command

    settings, words = settings_of(conf), words_of(lang)
    wish = frame_command.Wish(
        protocol=protocol, first=first.date(), last=last.date(), out=out, counts=counts, objections=objections
    )
    raise typer.Exit(asyncio.run(frame_command.run(settings, words, wish, tenant=tenant, as_json=as_json)))


@app.command("forget")
def draw_forget(
    campaign: Annotated[str, typer.Argument(metavar="CAMPAIGN", help="As its protocol names it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the audit trail.")],
    conf: Conf = None,
    tenant: Annotated[str, typer.Option("--tenant", help="Legal entity; needed when there are several.")] = "",
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Destroy what ties a campaign's pseudonyms to exams and professionals: nobody turns them back afterwards."""
    from gateway import frame_command

    settings, words = settings_of(conf), words_of(lang)
    forgetting = frame_command.forget(settings, words, campaign, tenant=tenant, reason=reason, as_json=as_json)
    raise typer.Exit(asyncio.run(forgetting))


@app.command("verifier")
def draw_verifier() -> None:
    """Print the stand-alone verifier: one Python file, standard library only, to read and to keep."""
    from gateway import draws

    typer.echo(draws.source(), nl=False)
