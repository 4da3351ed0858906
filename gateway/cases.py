"""What ``poterne case build|review|check|package`` does and prints.

A case's folder is the site's: mode 0700, originals named by path, previews of pages with what names somebody in them.
Only the package is for others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from gateway.i18n import N_, Words
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
class Exam:
    """What a case is to be made of."""

    campaign: str
    unit: str
    authority: str
    patient_id: str
    other_ids: tuple[str, ...]
    images: Path
    report: Path | None
    request: Path | None


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


def build(words: Words, folder: Path, exam: Exam, *, site_key: Path, transcript: Path | None, as_json: bool) -> int:
    """Make the folder and what a person needs to decide; 0, or 1 when something stands in the way.

    Raises:
        BadInput, Refused: those of ``sampler.case``; ``case-not-drawn``, ``case-exists``.
    """
    if transcript is not None:
        _require_drawn(transcript, exam.unit)
    if folder.exists() and any(folder.iterdir()):
        raise Refused(
            f"{folder} is not empty",
            code="case-exists",
            hint="give a new folder, or remove this one with what it holds",
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    paths = (
        sorted(path for path in exam.images.rglob("*") if path.is_file()) if exam.images.is_dir() else [exam.images]
    )
    work = Work(
        campaign=exam.campaign,
        unit=exam.unit,
        authority=exam.authority,
        patient_id=exam.patient_id,
        other_ids=exam.other_ids,
        images=images(paths, told=_progress(words, N_("looked at {n} of {of}"), len(paths))),
        report=str(exam.report.resolve()) if exam.report else "",
        request=str(exam.request.resolve()) if exam.request else "",
    )
    keys = CampaignKeys.derive(read_kek(site_key), work.campaign)
    originals = Originals(work, keys)
    work = replace(work, covers=originals.proposed())
    works.save(work, folder)
    _show(Originals(work, keys), folder)
    return _state(words, folder, work, keys, as_json=as_json)


def _require_drawn(transcript: Path, unit: str) -> None:
    """That the unit is among those of the draw, after its replacements."""
    body = parse_json(transcript.read_bytes(), what=transcript.name).get("body", {})
    final = body.get("final") if isinstance(body, dict) else None
    units = [one for drawn in final.values() for one in drawn] if isinstance(final, dict) else []
    if unit not in units:
        raise Refused(
            f"{transcript.name} did not draw this unit, or replaced it",
            code="case-not-drawn",
            hint="a case is built for a unit of the list 'final'; verify the transcript with poterne draw verify",
        )


def review(words: Words, folder: Path, told: Told, *, site_key: Path, as_json: bool) -> int:
    """Record decisions, and say what waits; 0 when nothing does.

    Raises:
        BadInput: ``case-no-name``, ``case-mask``, ``case-boxes``, ``cover-off-page``, ``case-no-image``.
        Refused: ``case-residue`` when a box was taken away under which a known value stands.
    """
    work = works.load(folder)
    keys = CampaignKeys.derive(read_kek(site_key), work.campaign)
    if told.decides:
        work = _decided(work, told)
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


def check(words: Words, folder: Path, *, site_key: Path, as_json: bool) -> int:
    """Make everything and keep nothing; 0 when the case is ready, else 1.

    Raises:
        BadInput, Refused: those of ``sampler.case``.
    """
    work = works.load(folder)
    keys = CampaignKeys.derive(read_kek(site_key), work.campaign)
    return int(not _checked(words, folder, work, keys, as_json=as_json).is_ready)


def package(words: Words, folder: Path, *, site_key: Path, out: Path, for_viewer: bool, as_json: bool) -> int:
    """Write the package; 0.

    Raises:
        BadInput, Refused: those of ``sampler.case.package``; ``case-exists``.
    """
    work = works.load(folder)
    originals = Originals(work, CampaignKeys.derive(read_kek(site_key), work.campaign))
    if out.exists():
        raise Refused(
            f"{out} is there already", code="case-exists", hint="give another name: a package is never replaced"
        )
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


def _state(words: Words, folder: Path, work: Work, keys: CampaignKeys, *, as_json: bool) -> int:
    return int(bool(_checked(words, folder, work, keys, as_json=as_json).wrong))


def _checked(words: Words, folder: Path, work: Work, keys: CampaignKeys, *, as_json: bool) -> State:
    told = _progress(words, N_("made {n} of {of}"), len(work.images))
    work, state = checked(Originals(work, keys), told=told)
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
