"""``poterne case``: the commands; what they do and print is in the modules they call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.terminal import AsJson, Lang, words_of

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Cases of a peer audit.")


@app.command("contours")
def case_contours(
    reference: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="RT Structure Set to compare with.")],
    compared: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="RT Structure Set that is compared.")],
    ct: Annotated[Path, typer.Option("--ct", exists=True, file_okay=False, help="Folder of the planning CT.")],
    dose: Annotated[
        Path | None, typer.Option("--dose", exists=True, dir_okay=False, help="RT Dose, for dose and volume.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Of the surface Dice, in mm.")] = 2.0,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the pictures; made when missing.")] = None,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Two contourings of one planning CT, structure by structure: an aid to the reader, not a pass mark."""
    from gateway import contours

    raise typer.Exit(
        contours.compare(
            words_of(lang), reference, compared, ct=ct, dose=dose, tolerance_mm=tolerance, out=out, as_json=as_json
        )
    )
