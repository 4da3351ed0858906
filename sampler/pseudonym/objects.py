"""One DICOM object of a case: read, walked, its pixels seen to, written anew, searched for what stayed.

Invariants:

* an object of another patient, of a class or syntax that is not allowed, or at risk and not seen by a person never
  comes out;
* what comes out was searched for every value of all the case's originals, its own included;
* pixels that no mask touches are the same bytes, but for comments inside compressed frames, which no decoder reads.

Leaves to others: which objects make a case, who may confirm, where the result is kept and for how long.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.uid import UID

from sampler.pseudonym import classes, codestream, identifiers, masks, pixels, reading, writing
from sampler.pseudonym.identifiers import Identifiers
from sampler.pseudonym.keys import CampaignKeys, Pseudonyms, Subject, age_at
from sampler.pseudonym.masks import Mask, Masked
from sampler.pseudonym.pixels import Risk
from sampler.pseudonym.reading import Level
from sampler.pseudonym.residue import Search
from sampler.pseudonym.walker import EXTENDED_OFFSETS, PATIENT_AGE, PATIENT_ID, Rules, Traces, Walker, set_anew
from sampler.pseudonym.words import Cleaner
from sampler.pseudonym.writing import Element
from security.errors import BadInput, Refused
from security.parse import pixels as parse_pixels
from security.parse.dicom import parse_untrusted

_SUFFIXES = " .1 .1.99 .2 .5 .4.50 .4.51 .4.57 .4.70 .4.80 .4.81 .4.90 .4.91 .4.201 .4.202 .4.203"
SYNTAXES = frozenset(f"1.2.840.10008.1.2{suffix}" for suffix in _SUFFIXES.split(" "))
"""Transfer syntaxes whose frames are looked into; video is none."""
_RLE = "1.2.840.10008.1.2.5"
_PIXEL_DATA = 0x7FE00010
_HOW = "Poterne, PS3.15 E.1 and the options coded here\\of the device: manufacturer, model, software version kept"
_HANDLED = "a person handles this object; it is no part of an automatic case"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A person at the site looked at the pixels: they are fit as they are, or under these masks."""

    masks: tuple[Mask, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A pseudonymous object. At the site stay: its file if ``rendered_only``, and ``roi_names`` (new → original)."""

    data: bytes = field(repr=False)
    sop_class: str
    sop_instance: str
    series: str
    study: str
    kind: classes.Kind
    methods: tuple[str, ...]
    rendered_only: bool
    removed: int
    roi_names: dict[str, str] = field(repr=False)


class Case:
    """The objects of one drawn exam under one campaign. ``originals``: what is known of all of them beforehand."""

    def __init__(
        self, keys: CampaignKeys, subject: Subject, originals: Identifiers, rules: Rules | None = None
    ) -> None:
        self._pseudonyms = Pseudonyms(keys, subject)
        self._subject = subject
        self._originals = originals | Identifiers.stated(ids=(subject.id, *subject.other_ids))
        self._rules = Rules() if rules is None else rules

    @cached_property
    def _shared(self) -> tuple[Walker, Search]:
        return self._for(self._originals)

    def _for(self, originals: Identifiers) -> tuple[Walker, Search]:
        cleaner = Cleaner(originals, self._moved, own_words=self._rules.words)
        moved = [day for one in originals.days if (day := self._moved(one))]
        return Walker(self._pseudonyms, cleaner, originals, self._rules), Search(originals, moved)

    def _moved(self, day: date) -> date | None:
        try:
            return day + self._pseudonyms.shift
        except OverflowError:
            return None

    def made(self, source: bytes | Path, *, what: str, seen: Seen | None = None) -> Made:
        """The object as an auditor may have it.

        Raises:
            BadInput: ``dicom-…``, ``pixels-…``, ``codestream-odd``, ``mask-…``, ``pseudonym-unwritable``.
            Refused: ``class-not-allowed``, ``syntax-not-allowed``, ``other-patient``, ``pixels-unseen``,
                ``residue-found``.
        """
        original = parse_untrusted(source, stop_before_pixels=False, what=what)
        level = reading.level_of(original)
        sop_class, syntax = level.raw_text(0x00080016), str(original.file_meta.TransferSyntaxUID)
        kind = _allowed(sop_class, syntax, what)
        self._same_patient(level, what)
        risks = pixels.risks(level, sop_class=sop_class)
        if risks and seen is None:
            raise Refused(
                f"{what}: {'; '.join(risk.value for risk in risks)}",
                code="pixels-unseen",
                hint="the case waits until a person at the site looks at this image and confirms or masks it",
            )
        own = identifiers.collected(level)
        walker, search = self._shared if self._originals.cover(own) else self._for(self._originals | own)
        traces = Traces()
        elements = {element.tag: element for element in walker.walked(level, sop_class=sop_class, traces=traces)}
        face = pixels.shows_face(level, sop_class=sop_class)
        _set_age(level, elements)
        syntax = _set_pixels(original, elements, syntax, seen, what)
        methods = _methods(traces, masked=bool(seen and seen.masks))
        _set_told(elements, methods, image_seen=seen is not None and kind is classes.Kind.IMAGE)
        instance = _uid(elements, 0x00080018, what)
        data = _written(elements, sop_class, instance, syntax, what)
        search.require_none(data, what=what)
        return Made(
            data=data,
            sop_class=sop_class,
            sop_instance=instance,
            series=_uid(elements, 0x0020000E, what),
            study=_uid(elements, 0x0020000D, what),
            kind=kind,
            methods=tuple(code for code, _ in methods),
            rendered_only=face,
            removed=traces.removed,
            roi_names=traces.roi_names,
        )

    def _same_patient(self, level: Level, what: str) -> None:
        held = level.held.get(PATIENT_ID)
        stated = reading.text_of(held, level.charset).value if held is not None else ""
        if stated and stated not in {self._subject.id, *self._subject.other_ids}:
            raise Refused(
                f"{what}: its PatientID is none of the patient's whose exam was drawn",
                code="other-patient",
                hint="the images are of two patients, or an identifier of one is missing: a person compares them",
            )


def originals(sources: Sequence[bytes | Path], *, what: str) -> Identifiers:
    """What all objects of a case state, gathered before the first is made (pixels are not read).

    Raises:
        BadInput: ``dicom-…``.
    """
    return Identifiers.united(
        identifiers.collected(reading.level_of(parse_untrusted(source, what=f"{what}, object {number}")))
        for number, source in enumerate(sources, start=1)
    )


def waits(source: bytes | Path, *, what: str) -> tuple[Risk, ...]:
    """Why a person must look at this object's pixels first; empty when nothing asks for it.

    Raises:
        BadInput: ``dicom-…``.
    """
    level = reading.level_of(parse_untrusted(source, what=what))
    return pixels.risks(level, sop_class=level.raw_text(0x00080016))


def _allowed(sop_class: str, syntax: str, what: str) -> classes.Kind:
    kind = classes.KINDS.get(sop_class)
    if kind is None:
        known = UID(sop_class).name if identifiers.registered(sop_class) else "a class we do not know"
        raise Refused(f"{what}: {known} does not leave the site", code="class-not-allowed", hint=_HANDLED)
    if syntax not in SYNTAXES:
        raise Refused(
            f"{what}: its transfer syntax is not one whose frames we look into",
            code="syntax-not-allowed",
            hint=_HANDLED,
        )
    return kind


def _set_age(level: Level, elements: dict[int, Element]) -> None:
    """The age that the birth date told, where the object does not state one: the birth date goes."""
    if PATIENT_AGE in elements and elements[PATIENT_AGE].data.strip():
        return
    age = age_at(level.raw_text(0x00100030), level.raw_text(0x00080020))
    if age is not None:
        elements[PATIENT_AGE] = Element(PATIENT_AGE, "AS", writing.padded(age, "AS"))


def _set_pixels(original: Dataset, elements: dict[int, Element], syntax: str, seen: Seen | None, what: str) -> str:
    """Masks, else comments taken out of compressed frames; the transfer syntax that the object has afterwards."""
    if seen is not None and seen.masks:
        return _set_masked(elements, masks.masked(original, seen.masks, what=what))
    element = elements.get(_PIXEL_DATA)
    if element is None or syntax == _RLE:
        return syntax
    if not UID(syntax).is_encapsulated:
        elements[_PIXEL_DATA] = replace(element, data=_without_tail(element.data, original, what))
        return syntax
    frames = parse_pixels.frames_of(element.data, parse_pixels.shape_of(original, what=what), what=what)
    clean = [codestream.without_comments(frame, what=what) for frame in frames]
    if clean != frames:
        elements[_PIXEL_DATA] = replace(element, data=parse_pixels.encapsulated(clean))
        _drop(elements, EXTENDED_OFFSETS)
    return syntax


def _without_tail(data: bytes, original: Dataset, what: str) -> bytes:
    """Native pixels without bytes behind the last one, where anything could stand (PS3.5 8.1.1: padded to even)."""
    shape = parse_pixels.shape_of(original, what=what)
    bits = shape.rows * shape.columns * shape.samples * shape.frames * shape.allocated
    return data[: (bits + 15) // 16 * 2]


def _set_masked(elements: dict[int, Element], result: Masked) -> str:
    elements[_PIXEL_DATA] = replace(elements[_PIXEL_DATA], data=result.data)
    if result.encapsulated:
        elements[0x00280004] = Element(0x00280004, "CS", writing.padded(result.photometric, "CS"))
        if result.samples > 1:
            elements[0x00280006] = Element(0x00280006, "US", bytes([result.planar, 0]))
        _drop(elements, EXTENDED_OFFSETS)
    return result.transfer_syntax


def _drop(elements: dict[int, Element], tags: frozenset[int]) -> None:
    for tag in tags:
        elements.pop(tag, None)


def _methods(traces: Traces, *, masked: bool) -> tuple[tuple[str, str], ...]:
    """The options that were really applied (CID 7050)."""
    return tuple(
        (code, meaning)
        for code, meaning, applied in (
            ("113100", "Basic Application Confidentiality Profile", True),
            ("113101", "Clean Pixel Data Option", masked),
            ("113103", "Clean Graphics Option", bool(traces.graphics or traces.overlays)),
            ("113104", "Clean Structured Content Option", bool(traces.structured)),
            ("113105", "Clean Descriptors Option", bool(traces.texts)),
            ("113107", "Retain Longitudinal Temporal Information Modified Dates Option", True),
            ("113108", "Retain Patient Characteristics Option", True),
            ("113111", "Retain Safe Private Option", bool(traces.private_kept)),
        )
        if applied
    )


def _set_told(elements: dict[int, Element], methods: tuple[tuple[str, str], ...], *, image_seen: bool) -> None:
    elements.update({element.tag: element for element in set_anew(methods, how=_HOW)})
    if image_seen:
        elements[0x00280301] = Element(0x00280301, "CS", b"NO")


def _written(elements: dict[int, Element], sop_class: str, instance: str, syntax: str, what: str) -> bytes:
    try:
        return writing.part10(
            [elements[tag] for tag in sorted(elements)],
            sop_class=sop_class,
            sop_instance=instance,
            transfer_syntax=syntax,
        )
    except struct.error:
        raise BadInput(
            f"{what}: a value is too long for its VR once it is pseudonymous",
            code="pseudonym-unwritable",
            hint=_HANDLED,
        ) from None


def _uid(elements: dict[int, Element], tag: int, what: str) -> str:
    element = elements.get(tag)
    value = element.data.decode("ascii").rstrip("\0") if element is not None else ""
    if not value:
        raise BadInput(
            f"{what}: no {keyword_for_tag(tag)}",
            code="dicom-malformed",
            hint="the sender must export the object again",
        )
    return value
