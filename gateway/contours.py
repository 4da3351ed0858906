"""What ``poterne case contours`` prints and draws: two contourings of one planning CT, structure by structure."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from gateway.i18n import N_, Words
from sampler.radiotherapy import objects, picture
from sampler.radiotherapy.comparison import Compared, Drawn
from sampler.radiotherapy.comparison import compare as compared_of
from sampler.radiotherapy.dvh import DoseVolume
from sampler.radiotherapy.objects import Series

PERCENTS = (98, 95, 50, 2)
_ROWS: tuple[tuple[str, str], ...] = (
    ("dice", "Dice"),
    ("jaccard", "Jaccard"),
    ("hausdorff_mm", N_("Hausdorff distance, mm")),
    ("hausdorff95_mm", N_("95th percentile of it, mm")),
    ("mean_mm", N_("mean surface distance, mm")),
    ("surface_dice", N_("surface Dice")),
    ("added_path_mm", N_("path still to draw, mm")),
)


def compare(
    words: Words,
    reference: Path,
    compared: Path,
    *,
    ct: Path,
    dose: Path | None,
    tolerance_mm: float,
    out: Path | None,
    as_json: bool,
) -> int:
    """Print every figure; with ``out`` leave each structure's picture and dose-volume curves (SVG) there.

    Raises:
        BadInput: those of ``sampler.radiotherapy.objects`` and ``comparison``.
    """
    images = objects.series(sorted(path for path in ct.iterdir() if path.is_file()))
    found = compared_of(
        objects.structure_set(reference),
        objects.structure_set(compared),
        images,
        dose=objects.dose(dose) if dose else None,
        tolerance_mm=tolerance_mm,
    )
    pictures = [_draw(one, images, out, number, words) if out else [] for number, one in enumerate(found, start=1)]
    facts = [_facts(one, drawn) for one, drawn in zip(found, pictures, strict=True)]
    if as_json:
        typer.echo(json.dumps({"tolerance_mm": tolerance_mm, "structures": facts}, ensure_ascii=False, indent=2))
        return 0
    for fact in facts:
        _tell(fact, words, tolerance_mm)
    typer.echo(words("Descriptive figures, an aid to the reader: no pass mark."))
    return 0


def _draw(one: Compared, images: Series, out: Path, number: int, words: Words) -> list[str]:
    """The names of the files made; they come from the place in the list, never from the structure's name."""
    out.mkdir(parents=True, exist_ok=True)
    names = words("reference"), words("compared")
    made = []
    drawing = picture.structure(one, images, names=names)
    if drawing:
        made.append(f"{number:02}.svg")
        (out / made[-1]).write_text(drawing)
    curves = [(name, drawn.dose) for name, drawn in zip(names, (one.reference, one.other), strict=True) if drawn.dose]
    if curves:
        made.append(f"{number:02}-dvh.svg")
        (out / made[-1]).write_text(picture.curves(curves, axes=(words("dose, Gy"), words("volume"))))
    return made


def _facts(one: Compared, pictures: list[str]) -> dict[str, Any]:
    surfaces = asdict(one.surfaces) if one.surfaces else {}
    figures = {name: surfaces.get(name) for name in ("hausdorff_mm", "hausdorff95_mm", "mean_mm", "surface_dice")}
    return {
        "name": one.name,
        "dice": one.dice,
        "jaccard": one.jaccard,
        **figures,
        "added_path_mm": one.added_path_mm,
        "reference": _one_side(one.reference),
        "compared": _one_side(one.other),
        "pictures": pictures,
    }


def _one_side(drawn: Drawn) -> dict[str, Any]:
    return {
        "volume_cc": drawn.volume_cc,
        "contours": len(drawn.structure.polygons),
        "contours_skipped": drawn.structure.skipped,
        "dose": _doses(drawn.dose) if drawn.dose else None,
    }


def _doses(found: DoseVolume) -> dict[str, Any]:
    return {
        "mean_gy": found.mean,
        **{f"d{percent}_gy": found.at_least(percent) for percent in PERCENTS},
        "voxels": len(found.gray),
        "voxels_beyond_grid": found.unknown,
    }


def _tell(fact: dict[str, Any], words: Words, tolerance_mm: float) -> None:
    typer.echo(fact["name"])
    for key, text in _ROWS:
        value = fact[key]
        shown = words("no figure: nothing drawn") if value is None else _decimals(value, words)
        label = words(text) + (f" ({_decimals(tolerance_mm, words)} mm)" if key == "surface_dice" else "")
        typer.echo(f"  {label:<38}{shown:>12}")
    for side, label in (("reference", words("reference")), ("compared", words("compared"))):
        of = fact[side]
        parts = [words("{cc} cm³", cc=_decimals(of["volume_cc"], words))]
        if of["contours_skipped"]:
            parts.append(words("{n} contours of another kind left out", n=of["contours_skipped"]))
        if of["dose"]:
            doses = of["dose"]
            parts.append(words("mean {gy} Gy", gy=_decimals(doses["mean_gy"], words)))
            parts += [f"D{percent} {_decimals(doses[f'd{percent}_gy'], words)}" for percent in PERCENTS]
            if doses["voxels_beyond_grid"]:
                parts.append(words("{n} voxels beyond the dose grid left out", n=doses["voxels_beyond_grid"]))
        typer.echo(f"  {label}: " + ", ".join(parts))
    for name in fact["pictures"]:
        typer.echo("  → " + name)


def _decimals(value: float, words: Words) -> str:
    text = f"{value:.3f}"
    return text.replace(".", ",") if words.lang == "fr" else text
