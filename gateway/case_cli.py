"""``poterne case``: the commands; what they do and print is in ``gateway.cases`` and ``gateway.contours``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.terminal import AsJson, Conf, Lang, words_of

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Cases of a peer audit, prepared at the site.")

Folder = Annotated[Path, typer.Argument(metavar="CASE", file_okay=False, help="The folder of the case.")]
SiteKey = Annotated[
    Path | None,
    typer.Option(
        "--site-key",
        metavar="FILE",
        help="A key of the site's own instead of the gateway's: 32 bytes or 64 hexadecimal digits.",
    ),
]
Tenant = Annotated[str, typer.Option("--tenant", help="Legal entity; needed when there are several.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides; kept with the case at the site.")]


@app.command("build")
def case_build(
    folder: Folder,
    images: Annotated[Path, typer.Option("--images", exists=True, help="Folder of the exam's DICOM objects.")],
    unit: Annotated[str, typer.Option("--unit", help="The drawn unit, as in the transcript.")],
    transcript: Annotated[
        Path | None,
        typer.Option("--transcript", exists=True, dir_okay=False, help="Of the draw; refuses other units."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", exists=True, dir_okay=False, help="CDA R2 report.")
    ] = None,
    request: Annotated[
        Path | None, typer.Option("--request", exists=True, dir_okay=False, help="HL7 v2 order (ORM, OMI).")
    ] = None,
    conf: Conf = None,
    tenant: Tenant = "",
    site_key: SiteKey = None,
    campaign: Annotated[str, typer.Option("--campaign", help="With --site-key: the campaign's identifier.")] = "",
    patient_id: Annotated[str, typer.Option("--patient-id", help="With --site-key: the patient's identifier.")] = "",
    authority: Annotated[str, typer.Option("--authority", help="With --site-key: OID of who gave it.")] = "",
    other_id: Annotated[
        list[str] | None, typer.Option("--other-id", help="With --site-key: another identifier of the patient.")
    ] = None,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Begin a case: look at its originals, propose what to cover, say what waits for a person."""
    from gateway import cases

    exam = cases.Exam(
        unit=unit,
        images=images,
        report=report,
        request=request,
        transcript=transcript,
        campaign=campaign,
        authority=authority,
        patient_id=patient_id,
        other_ids=tuple(other_id or ()),
    )
    holder = cases.Holder(site_key=site_key, conf=conf, tenant=tenant)
    raise typer.Exit(cases.build(words_of(lang), folder, exam, holder, as_json=as_json))


@app.command("review")
def case_review(
    folder: Folder,
    conf: Conf = None,
    tenant: Tenant = "",
    site_key: SiteKey = None,
    by: By = "",
    image: Annotated[list[int] | None, typer.Option("--image", help="Number of an image that was looked at.")] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option("--mask", metavar="X,Y,WIDTH,HEIGHT[,FRAME]", help="Blacken a rectangle of that image."),
    ] = None,
    leave_out: Annotated[
        int | None, typer.Option("--leave-out", help="Number of an image that does not leave.")
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option("--boxes", exists=True, dir_okay=False, help="Edited boxes of the report's pages.")
    ] = None,
    read: Annotated[
        bool, typer.Option("--read", help="Report and request were read and may leave as shown.")
    ] = False,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Say what waits, or record what a person decided: images, masks, boxes, texts."""
    from gateway import cases

    told = cases.Told(
        by=by, images=tuple(image or ()), masks=tuple(mask or ()), leave_out=leave_out, boxes=boxes, is_read=read
    )
    holder = cases.Holder(site_key=site_key, conf=conf, tenant=tenant)
    raise typer.Exit(cases.review(words_of(lang), folder, told, holder, as_json=as_json))


@app.command("check")
def case_check(
    folder: Folder,
    conf: Conf = None,
    tenant: Tenant = "",
    site_key: SiteKey = None,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Make everything, search it for the originals' values, keep nothing; 1 when the case is not ready."""
    from gateway import cases

    holder = cases.Holder(site_key=site_key, conf=conf, tenant=tenant)
    raise typer.Exit(cases.check(words_of(lang), folder, holder, as_json=as_json))


@app.command("package")
def case_package(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", metavar="CASE.zip", help="The file to write; it must not exist.")],
    conf: Conf = None,
    tenant: Tenant = "",
    site_key: SiteKey = None,
    for_viewer: Annotated[
        bool, typer.Option("--for-viewer", help="With images that show a face: for the site's own viewer alone.")
    ] = False,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Write what an auditor may read, once nothing waits."""
    from gateway import cases

    holder = cases.Holder(site_key=site_key, conf=conf, tenant=tenant)
    raise typer.Exit(cases.package(words_of(lang), folder, holder, out=out, for_viewer=for_viewer, as_json=as_json))


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
