"""What ``poterne case build|review|check|package`` does and prints.

A case's folder is the site's: mode 0700, originals named by path, previews of pages with what names somebody in them.
Only the package is for others.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from gateway import orders, views
from gateway.facts import operator
from gateway.i18n import N_, Words
from gateway.settings import Settings
from gateway.terminal import settings_of
from sampler.case import package as packages
from sampler.case import work as works
from sampler.case.preparation import Originals, State, images
from sampler.case.preparation import check as checked
from sampler.case.work import Decision, Work
from sampler.pages import document, redaction
from sampler.pages.proposal import Cover
from sampler.pseudonym.keys import CampaignKeys
from sampler.pseudonym.masks import Mask
from sampler.pseudonym.pixels import Risk
from security.errors import BadInput, Refused
from security.parse.dicom import parse_untrusted
from security.parse.json import parse_json
from security.secrets import create_private, read_kek, replace_private

BOXES = "boxes.json"
REPORT = "report.xml"
REQUEST = "request.json"
_RISKS: dict[str, str] = {
    Risk.STATED.name: N_("the image says that text is burnt in"),
    Risk.MODALITY.name: N_(
        "images of this modality often hold burnt-in text, and the image does not say that it has none"
    ),
    Risk.SCREEN.name: N_("a localizer, a dose sheet or a captured screen"),
    Risk.OVERLAY.name: N_("a drawing stands in unused bits of the pixels"),
    Risk.LABEL.name: N_("the picture of a slide's label"),
}
_LEFT_OUT: dict[str, str] = {
    "class-not-allowed": N_("objects of this kind do not leave by themselves"),
    "syntax-not-allowed": N_("its transfer syntax is not looked into"),
    "person": N_("a person left it out"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds the campaign's keys: the gateway of ``conf`` (``tenant`` of it), or a file with the site's key."""

    site_key: Path | None = None
    conf: Path | None = None
    tenant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """What a case is to be made of. Without ``transcript`` the campaign and the patient are stated by hand."""

    unit: str
    images: Path
    report: Path | None
    request: Path | None
    transcript: Path | None = None
    campaign: str = ""
    authority: str = ""
    patient_id: str = ""
    other_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a person decided."""

    by: str
    images: tuple[int, ...]
    masks: tuple[str, ...]
    leave_out: int | None
    boxes: Path | None
    is_read: bool

    @property
    def decides(self) -> bool:
        return bool(self.images or self.masks or self.leave_out or self.boxes or self.is_read)


def build(words: Words, folder: Path, exam: Exam, holder: Holder, *, as_json: bool) -> int:
    """Make the folder and what a person needs to decide; 0, or 1 when something stands in the way.

    Raises:
        BadInput, Refused: those of ``sampler.case`` and of ``frames.opened``; ``case-not-drawn``, ``case-exists``,
            ``case-unnamed``.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Refused(
            f"{folder} is not empty",
            code="case-exists",
            hint="give a new folder, or remove this one with what it holds",
        )
    work, keys = _opened(words, _begun(exam, holder), holder)
    source = exam.images
    paths = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    looked = _progress(words, N_("looked at {n} of {of}"), len(paths))
    work = replace(work, images=images(paths, study=work.study, told=looked))
    originals = Originals(work, keys)
    originals = originals.now(replace(work, covers=originals.proposed()))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    works.save(originals.work, folder)
    _show(originals, folder)
    return int(bool(_checked(words, folder, originals, as_json=as_json).wrong))


def _begun(exam: Exam, holder: Holder) -> Work:
    """The work before anything was looked at."""
    drawn = _drawn(exam.transcript, exam.unit) if exam.transcript else {}
    campaign = drawn.get("campaign", exam.campaign)
    by_gateway = holder.site_key is None
    if not campaign or (by_gateway and not drawn) or not (by_gateway or (exam.patient_id and exam.authority)):
        raise BadInput(
            "neither a transcript nor campaign, patient and site key are given",
            code="case-unnamed",
            hint="--transcript T.json with --conf; or --site-key, --campaign, --patient-id and --authority",
        )
    return Work(
        campaign=campaign,
        unit=exam.unit,
        authority=exam.authority,
        patient_id=exam.patient_id,
        other_ids=exam.other_ids,
        root=drawn["root"] if by_gateway else "",
        report=str(exam.report.resolve()) if exam.report else "",
        request=str(exam.request.resolve()) if exam.request else "",
    )


def _drawn(transcript: Path, unit: str) -> dict[str, str]:
    """Campaign and frame of a draw that has the unit among its own, after its replacements."""
    try:
        body = parse_json(transcript.read_bytes(), what=transcript.name)["body"]
        units = {one for drawn in body["final"].values() for one in drawn}
        told = {"campaign": str(body["campaign"]), "root": str(body["frame"]["root"])}
    except (AttributeError, KeyError, TypeError):
        raise BadInput(
            f"{transcript.name} is no transcript", code="case-not-drawn", hint="see poterne draw verify"
        ) from None
    if unit in units:
        return told
    raise Refused(
        f"{transcript.name} did not draw this unit, or replaced it",
        code="case-not-drawn",
        hint="a case is built for a unit of the list 'final'; verify the transcript with poterne draw verify",
    )


def _opened(words: Words, work: Work, holder: Holder) -> tuple[Work, CampaignKeys]:
    """The work with whose exam it is, and the campaign's keys; asked of the gateway, that is on record."""
    if not work.root:
        if holder.site_key is None:
            raise BadInput("the site's key is missing", code="case-unnamed", hint="--site-key FILE, as it was built")
        return work, CampaignKeys.derive(read_kek(holder.site_key), work.campaign)
    settings = settings_of(holder.conf)
    facts = {
        "tenant": views.one_tenant(settings, holder.tenant, words),
        "campaign": work.campaign,
        "root": work.root,
        "unit": work.unit,
        "actor": operator(),
    }
    told = asyncio.run(_asked(settings, facts))
    keys = CampaignKeys(**{name: bytes.fromhex(value) for name, value in told["keys"].items()})
    return replace(
        work,
        study=str(told["study"]),
        authority=str(told["authority"]),
        patient_id=str(told["patient_id"]),
        other_ids=tuple(map(str, told["other_ids"])),
    ), keys


async def _asked(settings: Settings, facts: dict[str, str]) -> Any:
    async with orders.orders(settings) as order:
        return await order("case-open", facts)


def review(words: Words, folder: Path, told: Told, holder: Holder, *, as_json: bool) -> int:
    """Record decisions, and say what waits; 0 when nothing does.

    Raises:
        BadInput: ``case-no-name``, ``case-mask``, ``case-boxes``, ``cover-off-page``, ``case-no-image``.
        Refused: ``case-residue`` when a box was taken away under which a known value stands.
    """
    work = works.load(folder)
    if told.decides:
        work, keys = _opened(words, _decided(work, told), holder)
        changed = Originals(work, keys)
        redaction.within(work.covers, changed.texts.pages)
        if told.is_read:
            redaction.without_residue(changed.texts.pages, work.covers, changed.identifiers)
        works.save(work, folder)
        if told.boxes is not None:
            _show(changed, folder)
    if as_json:
        typer.echo(json.dumps(_waiting(work), ensure_ascii=False, indent=1))
    else:
        _tell_waiting(words, folder, work)
    return int(bool(work.waiting) or not work.is_read)


def _decided(work: Work, told: Told) -> Work:
    if not told.by.strip():
        raise BadInput("nobody is named", code="case-no-name", hint="--by NAME: a decision is somebody's")
    decision = Decision(by=told.by.strip(), at=datetime.now(UTC).isoformat(timespec="seconds"))
    if told.masks and len(told.images) != 1:
        raise BadInput("masks belong to one image", code="case-mask", hint="--image NUMBER with each --mask")
    for number in told.images:
        work = work.seen(number, decision, tuple(_mask(work, number, text) for text in told.masks))
    if told.leave_out is not None:
        work = work.without(told.leave_out, "person")
    if told.boxes is not None:
        work = replace(work, covers=_boxes(told.boxes), read=None)
    return replace(work, read=decision) if told.is_read else work


def _mask(work: Work, number: int, text: str) -> Mask:
    try:
        x, y, width, height, *frame = (int(part) for part in text.split(","))
        (on_frame,) = frame or (None,)
    except ValueError:
        raise BadInput(
            f"{text[:40]} is no rectangle",
            code="case-mask",
            hint="X,Y,WIDTH,HEIGHT or X,Y,WIDTH,HEIGHT,FRAME, in pixels",
        ) from None
    shown = parse_untrusted(Path(work.image(number).path), what=f"image {number}")
    rows, columns = int(shown.get("Rows") or 0), int(shown.get("Columns") or 0)
    return Mask(x=x, y=y, width=width, height=height, rows=rows, columns=columns, frame=on_frame)


def _boxes(path: Path) -> tuple[Cover, ...]:
    try:
        return works.covers_of(parse_json(path.read_bytes(), what=path.name))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadInput(
            f"{path.name} is no list of boxes",
            code="case-boxes",
            hint=f"edit a copy of {BOXES} in the folder of the case: page, box, why, in_place",
        ) from None


def check(words: Words, folder: Path, holder: Holder, *, as_json: bool) -> int:
    """Make everything and keep nothing; 0 when the case is ready, else 1.

    Raises:
        BadInput, Refused: those of ``sampler.case``.
    """
    work, keys = _opened(words, works.load(folder), holder)
    return int(not _checked(words, folder, Originals(work, keys), as_json=as_json).is_ready)


def package(words: Words, folder: Path, holder: Holder, *, out: Path, for_viewer: bool, as_json: bool) -> int:
    """Write the package; 0.

    Raises:
        BadInput, Refused: those of ``sampler.case.package``; ``case-exists``.
    """
    if out.exists():
        raise Refused(
            f"{out} is there already", code="case-exists", hint="give another name: a package is never replaced"
        )
    work, keys = _opened(words, works.load(folder), holder)
    originals = Originals(work, keys)
    facts = packages.write(
        originals, out, for_viewer=for_viewer, told=_progress(words, N_("made {n} of {of}"), len(work.images))
    )
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=1))
        return 0
    typer.echo(words("{out}: {n} images, mode 0600", out=out, n=words.number(facts["images"])))
    if facts["images_rendered_only"] and not for_viewer:
        left = words.number(facts["images_rendered_only"])
        typer.echo(
            words("{n} images that show a face are not in it: they are for the site's own viewer alone", n=left)
        )
    if for_viewer:
        typer.echo(words("This package is for the site's own viewer: images in it may show a face."))
    return 0


# -- what is shown --------------------------------------------------------------------------------------------------


def _show(originals: Originals, folder: Path) -> None:
    """What a person looks at before deciding: pages with boxes, the texts as they would leave."""
    texts, covers = originals.texts, originals.work.covers
    if texts.report is not None:
        _private(folder / REPORT, texts.report)
    if texts.requests:
        content = json.dumps([asdict(one) for one in texts.requests], ensure_ascii=False, indent=1)
        _private(folder / REQUEST, content.encode())
    if texts.pages:
        content = json.dumps([asdict(one) for one in covers], ensure_ascii=False, indent=1)
        _private(folder / BOXES, content.encode())
        pictures = document.drawn(texts.pdf)
        for name, made in (
            ("preview", redaction.preview(pictures, covers)),
            ("page", redaction.covered(pictures, covers)),
        ):
            for number, picture in enumerate(made, start=1):
                _private(folder / f"{name}-{number:02}.png", picture)


def _private(path: Path, content: bytes) -> None:
    (replace_private if path.exists() else create_private)(path, content)


def _checked(words: Words, folder: Path, originals: Originals, *, as_json: bool) -> State:
    told = _progress(words, N_("made {n} of {of}"), len(originals.work.images))
    work, state = checked(originals, told=told)
    works.save(work, folder)
    if as_json:
        typer.echo(
            json.dumps(asdict(state) | {"ready": state.is_ready, **_waiting(work)}, ensure_ascii=False, indent=1)
        )
        return state
    typer.echo(words("{n} images can leave", n=words.number(state.made)))
    if state.rendered_only:
        typer.echo(
            words("of these {n} show a face: for the site's own viewer alone", n=words.number(state.rendered_only))
        )
    for fault in state.wrong:
        typer.echo("✗ " + fault)
    _tell_waiting(words, folder, work)
    return state


def _waiting(work: Work) -> dict[str, Any]:
    return {
        "waiting": [{"image": number, "because": list(work.images[number - 1].waits)} for number in work.waiting],
        "left_out": [
            {"image": number, "because": image.left_out}
            for number, image in enumerate(work.images, start=1)
            if image.left_out
        ],
        "boxes": len(work.covers),
        "read": asdict(work.read) if work.read else None,
    }


def _tell_waiting(words: Words, folder: Path, work: Work) -> None:
    for number, image in enumerate(work.images, start=1):
        if image.left_out:
            typer.echo(words("image {n} is left out: {why}", n=number, why=words(_LEFT_OUT[image.left_out])))
    for number in work.waiting:
        typer.echo(words("image {n} waits for a person: {path}", n=number, path=work.images[number - 1].path))
        for why in work.images[number - 1].waits:
            typer.echo("    " + words(_RISKS[why]))
    if work.waiting:
        typer.echo("→ " + words("look at it, then: poterne case review {folder} --image N --by NAME", folder=folder))
    if not work.is_read:
        typer.echo(words("{n} boxes on the report's pages; report and request wait to be read", n=len(work.covers)))
        typer.echo("→ " + words("look at preview-*.png, report.xml and request.json in {folder};", folder=folder))
        typer.echo("  " + words("change a copy of boxes.json where needed (--boxes), then --read --by NAME"))
    if not work.waiting and work.is_read:
        typer.echo(words("Nothing waits for a person."))


def _progress(words: Words, text: str, of: int) -> Callable[[int], object]:
    """Says how far it is, on a terminal's own line."""

    def told(number: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if number == of else ""
            sys.stderr.write("\r" + words(text, n=number, of=of) + end)

    return told
