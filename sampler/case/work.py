"""A case in preparation: which originals it is made of, what waits for a person, what a person decided.

One folder at the site, readable by its owner alone; ``work.json`` in it names the originals by path and never leaves.
Every decision says who took it and when. What a person confirmed is undone when the case is built anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sampler.pages.document import Box
from sampler.pages.proposal import Cover
from sampler.pseudonym.masks import Mask
from security.errors import BadInput
from security.parse.json import parse_json
from security.secrets import replace_private

FILE = "work.json"
SPEC = "poterne-case/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who confirmed, and when (RFC 3339, UTC)."""

    by: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One DICOM object. ``waits``: why a person must look first (names of ``pixels.Risk``); ``left_out``: why it is
    no part of the case."""

    path: str = field(repr=False)
    waits: tuple[str, ...] = ()
    left_out: str = ""
    masks: tuple[Mask, ...] = ()
    seen: Decision | None = None

    @property
    def is_waiting(self) -> bool:
        return bool(self.waits) and self.seen is None and not self.left_out


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The whole of it.

    ``root``: of the frame whose keys the gateway keeps, "" when a file holds the site's key; ``study``: the
    one that was drawn, "" when nobody said; ``covers``: boxes of the report's pages; ``read``: that a person read
    report and request.
    """

    campaign: str
    unit: str
    authority: str = field(repr=False)
    patient_id: str = field(repr=False)
    other_ids: tuple[str, ...] = field(default=(), repr=False)
    root: str = ""
    study: str = field(default="", repr=False)
    images: tuple[Image, ...] = ()
    report: str = field(default="", repr=False)
    request: str = field(default="", repr=False)
    covers: tuple[Cover, ...] = ()
    read: Decision | None = None

    @property
    def waiting(self) -> tuple[int, ...]:
        """Numbers (from 1) of the images that wait for a person."""
        return tuple(number for number, image in enumerate(self.images, start=1) if image.is_waiting)

    @property
    def is_read(self) -> bool:
        """Whether nothing of report and request waits for a person."""
        return self.read is not None or not (self.report or self.request)

    def seen(self, number: int, decision: Decision, masks: tuple[Mask, ...]) -> Work:
        """The same with image ``number`` confirmed, under ``masks``.

        Raises:
            BadInput: ``case-no-image``.
        """
        return self._with(number, seen=decision, masks=masks)

    def without(self, number: int, reason: str) -> Work:
        """The same with image ``number`` left out, and why.

        Raises:
            BadInput: ``case-no-image``.
        """
        return self._with(number, left_out=reason)

    def image(self, number: int) -> Image:
        """Image ``number``, from 1.

        Raises:
            BadInput: ``case-no-image``.
        """
        if not 1 <= number <= len(self.images):
            raise BadInput(
                f"no image {number}: the case has {len(self.images)}",
                code="case-no-image",
                hint="see poterne case review",
            )
        return self.images[number - 1]

    def _with(self, number: int, **changes: Any) -> Work:
        images = list(self.images)
        images[number - 1] = replace(self.image(number), **changes)
        return replace(self, images=tuple(images))


def save(work: Work, folder: Path) -> None:
    """Write it, whole or not at all, mode 0600."""
    content = {"spec": SPEC, **asdict(work)}
    replace_private(folder / FILE, json.dumps(content, ensure_ascii=False, indent=1).encode())


def load(folder: Path) -> Work:
    """The work of a folder.

    Raises:
        BadInput: ``case-unreadable``.
    """
    path = folder / FILE
    try:
        content = parse_json(path.read_bytes(), what=FILE)
        return _work(content)
    except (OSError, KeyError, TypeError, ValueError, BadInput) as cause:
        raise BadInput(
            f"{folder} holds no case in preparation ({type(cause).__name__})",
            code="case-unreadable",
            hint="give the folder that poterne case build made, or build it anew",
        ) from None


def _work(content: Mapping[str, Any]) -> Work:
    if content["spec"] != SPEC:
        raise ValueError("of another form")
    return Work(
        campaign=content["campaign"],
        unit=content["unit"],
        authority=content["authority"],
        patient_id=content["patient_id"],
        other_ids=tuple(content["other_ids"]),
        root=content["root"],
        study=content["study"],
        images=tuple(_image(one) for one in content["images"]),
        report=content["report"],
        request=content["request"],
        covers=covers_of(content["covers"]),
        read=_decision(content["read"]),
    )


def covers_of(found: Iterable[Mapping[str, Any]]) -> tuple[Cover, ...]:
    """Boxes as ``work.json`` and a person's edited list state them.

    Raises:
        KeyError, TypeError, ValueError: the form is another.
    """
    return tuple(
        Cover(
            page=int(one["page"]),
            box=Box(**{side: int(one["box"][side]) for side in ("left", "top", "right", "bottom")}),
            why=str(one.get("why", "person")),
            in_place=str(one.get("in_place", "")),
        )
        for one in found
    )


def _image(one: Mapping[str, Any]) -> Image:
    return Image(
        path=one["path"],
        waits=tuple(one["waits"]),
        left_out=one["left_out"],
        masks=tuple(Mask(**mask) for mask in one["masks"]),
        seen=_decision(one["seen"]),
    )


def _decision(one: Mapping[str, Any] | None) -> Decision | None:
    return Decision(by=one["by"], at=one["at"]) if one else None
