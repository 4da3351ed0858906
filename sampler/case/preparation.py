"""A case made from its originals, and checked: what is ready, what waits, what stands in the way.

Invariants:

* values of all originals together (images, report, order, what the site adds) are looked for in everything made;
* nothing is taken for ready that a person must see first; a change of what a person saw asks again;
* an object that may not leave is left out with its reason, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from lxml import etree

from sampler.case import dose
from sampler.case.work import Image, Work
from sampler.pages import document, proposal, redaction
from sampler.pages.document import Page
from sampler.pseudonym import objects
from sampler.pseudonym.identifiers import Identifiers
from sampler.pseudonym.keys import CampaignKeys, Pseudonyms, Subject
from sampler.pseudonym.objects import Made, Seen
from sampler.pseudonym.walker import Rules
from sampler.texts import cda, request
from sampler.texts.narrative import Narrative
from sampler.texts.persons import Labels
from security.errors import BadInput, Refused
from security.parse.dicom import parse_untrusted
from security.parse.hl7 import Message, parse_message

PDF = "application/pdf"
_LEFT_OUT = frozenset({"class-not-allowed", "syntax-not-allowed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Report and request as an auditor may read them. ``pages``: of a report that is a PDF."""

    report: bytes | None = field(repr=False)
    pages: tuple[Page, ...] = field(repr=False)
    pdf: bytes = field(repr=False)
    requests: tuple[request.Request, ...]
    age: str | None


class Originals:
    """What a case is made of, read once. ``extra``: values the site knows besides; ``rules``: what it reviewed."""

    def __init__(
        self, work: Work, keys: CampaignKeys, *, extra: Identifiers | None = None, rules: Rules | None = None
    ) -> None:
        self.work = work
        self._keys = keys
        self._extra = extra or Identifiers()
        self._rules = rules
        self.subject = Subject(authority=work.authority, id=work.patient_id, other_ids=frozenset(work.other_ids))
        self.pseudonyms = Pseudonyms(keys, self.subject)

    def now(self, work: Work) -> Originals:
        """The same originals after a decision about them; what was read is not read again."""
        made = copy(self)
        made.work = work
        return made

    @cached_property
    def report(self) -> etree._Element | None:
        return cda.parse(Path(self.work.report).read_bytes()) if self.work.report else None

    @cached_property
    def order(self) -> Message | None:
        return parse_message(Path(self.work.request).read_bytes()) if self.work.request else None

    @cached_property
    def header(self) -> cda.Header | None:
        return None if self.report is None else cda.header(self.report)

    @cached_property
    def identifiers(self) -> Identifiers:
        """Every value known of all of them."""
        paths = [Path(image.path) for image in self.work.images]
        known = self._extra | objects.originals(paths, what="the case")
        known |= Identifiers.stated(ids=(self.subject.id, *self.subject.other_ids))
        if self.header is not None:
            known |= self.header.identifiers
        if self.order is not None:
            known |= request.identifiers(self.order)
        return known

    @cached_property
    def narrative(self) -> Narrative:
        return Narrative(
            self.identifiers,
            moved=lambda day: day + self.pseudonyms.shift,
            births=self.header.births if self.header else frozenset(),
            roles=self.labels.by_name(),
        )

    @cached_property
    def labels(self) -> Labels:
        return Labels(self.header.persons if self.header else ())

    @cached_property
    def _case(self) -> objects.Case:
        return objects.Case(self._keys, self.subject, self.identifiers, self._rules)

    def made(self, number: int) -> Made:
        """Object ``number`` as an auditor may have it.

        Raises:
            BadInput, Refused: as ``pseudonym.objects.Case.made``.
        """
        image = self.work.images[number - 1]
        seen = Seen(masks=image.masks) if image.seen else None
        return self._case.made(Path(image.path), what=f"image {number}", seen=seen)

    @cached_property
    def texts(self) -> Texts:
        """Report and request rewritten and searched; a PDF read.

        Raises:
            BadInput: of ``texts.cda``, ``pages.document``, ``report-unreadable`` for a body of another kind.
            Refused: ``case-residue``.
        """
        requests = (
            request.requests(self.order, self.pseudonyms, self.narrative, self.labels)
            if self.order is not None
            else ()
        )
        if self.identifiers.found_in(self.labels.left_out_of(repr([asdict(one) for one in requests]))):
            raise _residue("the request")
        if self.report is None:
            return Texts(report=None, pages=(), pdf=b"", requests=requests, age=None)
        written = cda.rewritten(self.report, self.pseudonyms, self.narrative, self.labels)
        cda.without_residue(written.document, self.identifiers, self.labels)
        pdf = _pdf_of(written)
        return Texts(
            report=written.document,
            pages=document.read(pdf) if pdf else (),
            pdf=pdf,
            requests=requests,
            age=self.header.age if self.header else None,
        )

    def proposed(self) -> tuple[proposal.Cover, ...]:
        """What to cover on the report's pages, before a person changes it."""
        return proposal.proposed(self.texts.pages, self.narrative)


def _pdf_of(written: cda.Rewritten) -> bytes:
    if written.body is None:
        return b""
    if written.body.media_type != PDF and not written.body.content.startswith(b"%PDF-"):
        raise BadInput(
            f"the report's body is {written.body.media_type[:40]}, only PDF is redacted",
            code="report-unreadable",
            hint="leave the report out and give the case its text by hand, or replace the case",
        )
    return written.body.content


def _residue(what: str) -> Refused:
    return Refused(
        f"{what} still holds a value of the original",
        code="case-residue",
        hint="the case stays at the site: have it looked at",
    )


def images(paths: Sequence[Path], *, study: str, told: Callable[[int], object]) -> tuple[Image, ...]:
    """The objects of a case as found, each with why it waits; ``told`` hears how many were looked at.

    Raises:
        BadInput: ``dicom-…``; ``case-empty``; ``case-other-study`` when one is not of ``study`` ("": any).
    """
    if not paths:
        raise BadInput("no DICOM object was given", code="case-empty", hint="give the folder of the exam's objects")
    found = []
    for number, path in enumerate(paths, start=1):
        if study and parse_untrusted(path, what=f"image {number}").get("StudyInstanceUID") != study:
            raise BadInput(
                f"image {number} is of another study than the one that was drawn",
                code="case-other-study",
                hint="give the folder of the drawn exam's objects alone",
            )
        risks = objects.waits(path, what=f"image {number}")
        found.append(Image(path=str(path.resolve()), waits=tuple(risk.name for risk in risks)))
        told(number)
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a check found. ``wrong``: what stands in the way, in words safe to show; empty when nothing does."""

    made: int
    waiting: tuple[int, ...]
    left_out: tuple[tuple[int, str], ...]
    wrong: tuple[str, ...]
    must_read: bool
    rendered_only: int
    figures: tuple[dose.Figure, ...]

    @property
    def is_ready(self) -> bool:
        return not (self.waiting or self.wrong or self.must_read) and self.made > 0


def check(originals: Originals, *, told: Callable[[int], object]) -> tuple[Work, State]:
    """Make everything and keep nothing: the work with what must be left out, and the state."""
    work = originals.work
    made = rendered = 0
    wrong: list[str] = []
    figures: list[dose.Figure] = []
    for number, image in enumerate(work.images, start=1):
        if image.left_out or image.is_waiting:
            continue
        try:
            one = originals.made(number)
        except (BadInput, Refused) as fault:
            if fault.code in _LEFT_OUT:
                work = work.without(number, fault.code)
            else:
                wrong.append(str(fault))
            continue
        finally:
            told(number)
        made += 1
        rendered += one.rendered_only
        figures += figures_of(one)
    wrong += _texts_wrong(originals)
    return work, State(
        made=made,
        waiting=work.waiting,
        left_out=tuple((n, image.left_out) for n, image in enumerate(work.images, start=1) if image.left_out),
        wrong=tuple(wrong),
        must_read=not work.is_read,
        rendered_only=rendered,
        figures=tuple(figures),
    )


def figures_of(one: Made) -> tuple[dose.Figure, ...]:
    """The figures of dose that a made object tells."""
    if one.sop_class not in dose.SR_CLASSES:
        return ()
    return dose.of_sr(parse_untrusted(one.data, what="a dose report"))


def _texts_wrong(originals: Originals) -> list[str]:
    try:
        texts = originals.texts
        redaction.within(originals.work.covers, texts.pages)
        redaction.without_residue(texts.pages, originals.work.covers, originals.identifiers)
    except (BadInput, Refused) as fault:
        return [str(fault)]
    return []
