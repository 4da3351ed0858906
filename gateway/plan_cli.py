"""``poterne campaign plan|combine|compare``: the commands; what they compute and print is in
``gateway.campaign_plans``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.terminal import AsJson, Lang, words_of

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="How many cases a campaign needs.")
Indicator = Annotated[str, typer.Option("--indicator", help="Of the grid, as DEM.")]
Export = Annotated[Path, typer.Argument(metavar="campaign.json", help="Of an export.")]


@app.command("precision")
def plan_precision(
    share: Annotated[float, typer.Option(help="The share that is expected to conform.")],
    half_width: Annotated[float, typer.Option("--half-width", help="How far the estimate may be off.")],
    population: Annotated[int | None, typer.Option(min=1, help="Units in the frame; very many otherwise.")] = None,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Cases for an estimate of a share."""
    from gateway import campaign_plans as plans

    code = plans.precision(words_of(lang), share=share, half_width=half_width, population=population, as_json=as_json)
    raise typer.Exit(code)


@app.command("discovery")
def plan_discovery(
    population: Annotated[int, typer.Option(min=1, help="Units in the frame.")],
    defects: Annotated[int, typer.Option(min=1, help="Defects of which one at least is to be found.")],
    risk: Annotated[str, typer.Option(help="Of finding none.")] = "0.05",
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Cases that find at least one defect."""
    from gateway import campaign_plans as plans

    code = plans.discovery(words_of(lang), population=population, defects=defects, risk=risk, as_json=as_json)
    raise typer.Exit(code)


@app.command("allocation")
def plan_allocation(
    sizes: Annotated[list[str], typer.Argument(metavar="STRATUM=SIZE", help="Each stratum of the frame.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Cases in all.")],
    minimum: Annotated[int, typer.Option(min=0, help="Of each stratum, while n allows it.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Cases of each stratum."""
    from gateway import campaign_plans as plans

    raise typer.Exit(plans.allocation(n=n, sizes=sizes, minimum=minimum, as_json=as_json))


@app.command("acceptance")
def plan_acceptance(
    n: Annotated[int, typer.Option("--n", min=1, help="Units that are checked.")],
    accept: Annotated[int, typer.Option(min=0, help="Defects with which it is still accepted.")],
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of defects in the lot.")],
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """How often a check accepts a lot: for service checks alone."""
    from gateway import campaign_plans as plans

    raise typer.Exit(plans.acceptance(words_of(lang), n=n, accept=accept, share=share, as_json=as_json))


def combine(
    performed: Export,
    indicator: Indicator = "DEM",
    refused: Annotated[
        Path | None, typer.Option("--refused", help="Export of the audit of refused requests.")
    ] = None,
    unseen: Annotated[
        int | None, typer.Option("--unseen", min=0, help="Refused requests that were not drawn.")
    ] = None,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """The rate over all requests, refused ones too, or between which bounds it lies."""
    from gateway import campaign_plans as plans

    code = plans.combine(
        words_of(lang), performed, indicator=indicator, refused=refused, unseen=unseen, as_json=as_json
    )
    raise typer.Exit(code)


def compare(
    exports: Annotated[list[Path], typer.Argument(metavar="campaign.json", help="Of five audits at least.")],
    indicator: Indicator = "DEM",
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Audits around their pooled rate, within or outside of what chance explains; nothing is ranked."""
    from gateway import campaign_plans as plans

    raise typer.Exit(plans.compare(words_of(lang), exports, indicator=indicator, as_json=as_json))
