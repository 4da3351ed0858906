"""What in a French or English report could name somebody, and what stands in its place.

Two nets: the values known from the headers, images and orders of the case, whatever their case, accents and order;
then patterns, for those nobody stated: telephone, e-mail, links, numbers of the register and of the professionals'
directory, file numbers, postal addresses, persons after a title, initials. Whole dates move with the patient's.

Invariants:

* what is found is replaced, never shortened; findings that touch are one;
* nothing here is certain: a text may name somebody in a way no rule knows, so a person reads it (peer audit §8.3).

Pure. Positions are indices into the text as given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from sampler.pseudonym.identifiers import Identifiers, fold, folded_with_places


class Kind(StrEnum):
    """What was found, the more telling first: where two overlap the first stands for both."""

    NAME = "name"
    NIR = "nir"
    BIRTH = "birth"
    EMAIL = "email"
    PHONE = "phone"
    LINK = "link"
    ADDRESS = "address"
    IDENTIFIER = "identifier"
    NUMBER = "number"
    INITIALS = "initials"
    AGE = "age"
    DATE = "date"


IN_PLACE: Mapping[Kind, str] = {
    Kind.NAME: "[nom]",
    Kind.NIR: "[NIR]",
    Kind.BIRTH: "[date de naissance]",
    Kind.EMAIL: "[courriel]",
    Kind.PHONE: "[téléphone]",
    Kind.LINK: "[lien]",
    Kind.ADDRESS: "[adresse]",
    Kind.IDENTIFIER: "[identifiant]",
    Kind.NUMBER: "[numéro]",
    Kind.INITIALS: "[initiales]",
    Kind.AGE: "90 ans ou plus",
    Kind.DATE: "[date]",
}
"""French, as the reports are."""

_ORDER = {kind: number for number, kind in enumerate(Kind)}
_CAPITAL = "A-ZÀ-ÖØ-Þ"
_NAMED = rf"(?:(?:de[ ]la|de|du|des|le|la|van|von|el|ben|d’|d')[ ]?)?[{_CAPITAL}](?:[\w’'-]|\.(?=[\w-]))*"
_TOWN = rf"[{_CAPITAL}][\w’']*(?:[ -][{_CAPITAL}][\w’']*)*"
_STREET = (
    "rue|avenue|av|boulevard|bd|place|pl|chemin|allée|allee|impasse|route|quai|cours|square|passage|faubourg|villa|"
    "résidence|residence|lotissement|hameau|lieu-dit|street|road|lane"
)
_MONTHS = (
    "janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août",
    "septembre", "octobre", "novembre", "décembre",
)  # fmt: skip
_MONTH_OF = {fold(name): number for number, name in enumerate(_MONTHS, start=1)}

_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (Kind.EMAIL, re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    (Kind.LINK, re.compile(r"\b(?:https?://|ftp://|www\.)\S+", re.IGNORECASE)),
    (
        Kind.NIR,
        re.compile(
            r"(?<!\d)[1-478][ .]?\d{2}[ .]?(?:\d{2})[ .]?(?:\d{2}|2[AB])[ .]?\d{3}[ .]?\d{3}(?:[ .]?\d{2})?(?!\d)"
        ),
    ),
    (Kind.PHONE, re.compile(r"(?<![\d+])(?:(?:\+|00)33[ .]?(?:\(0\))?[ .]?|0)[1-9](?:[ .-]?\d{2}){4}(?!\d)")),
    (
        Kind.ADDRESS,
        re.compile(
            rf"(?<!\d)\d{{1,4}}(?:[ ]?(?:bis|ter|quater))?,?[ ]+(?:{_STREET})\b\.?[^\n,;:]{{2,60}}"
            rf"(?:[,\n ]*\d{{5}}[ ]+{_TOWN})?",
            re.IGNORECASE,
        ),
    ),
    (Kind.ADDRESS, re.compile(rf"(?<!\d)\d{{5}}[ ]+{_TOWN}(?:[ ](?:cedex|CEDEX)(?:[ ]\d+)?)?")),
    (
        Kind.IDENTIFIER,
        re.compile(
            r"(?:\b(?:IPP|NIP|NDA|IEP|INS|RPPS|ADELI|FINESS|NIR|accession(?: number)?)\b"
            r"|\b(?:n°|no|numéro|num|dossier|patient id)(?:[ ]+(?:de|d’|d'|du))?"
            r"(?:[ ]*(?:dossier|patient|venue|séjour|examen|demande|sécurité sociale))*)"
            r"[ ]*[:=°.]*[ ]*(?P<value>[A-Z]{0,6}[-/]?\d[\w/-]{2,})",
            re.IGNORECASE,
        ),
    ),
    (Kind.NUMBER, re.compile(r"(?<![\d.,])\d{7,}(?![\d.,]\d)")),
    (
        Kind.NAME,
        re.compile(
            rf"\b(?:[Dd]r|DR|[Dd]octeur|DOCTEUR|[Pp]r|PR|[Pp]rofesseur|[Mm]me|MME|[Mm]lle|MLLE|[Mm]onsieur|MONSIEUR|"
            rf"[Mm]adame|MADAME|M|MR|Mr|Mrs|Ms)(?:\.[ ]?|[ ])(?P<value>{_NAMED}(?:[ -]+{_NAMED}){{0,3}})"
        ),
    ),
    (
        Kind.NAME,
        re.compile(
            rf"\b(?i:nom(?:[ ](?:de[ ](?:naissance|famille|jeune[ ]fille)|d[’']usage|utilisé))?|"
            rf"prénoms?|patiente?|née?|épouse|name)[ ]*:[ ]*(?P<value>{_NAMED}(?:[ -]+{_NAMED}){{0,4}})"
        ),
    ),
    (
        Kind.BIRTH,
        re.compile(
            r"(?:née?(?:\(e\))?[ ]+le|date de naissance|DDN|birth ?date)[ ]*:?[ ]*"
            r"(?P<value>\d{1,2}(?:er)?[ /.-]+[\w.]+[ /.-]+\d{2,4})",
            re.IGNORECASE,
        ),
    ),
    (Kind.AGE, re.compile(r"(?<!\d)(?:9\d|1[0-4]\d)[ ]?ans\b(?: ou plus)?", re.IGNORECASE)),
)
_DATE = re.compile(
    r"(?<![\w/.-])(?:(?P<day>\d{1,2})(?P<sep>[/.-])(?P<month>\d{1,2})(?P=sep)(?P<year>\d{4}|\d{2})"
    r"|(?P<iso_year>(?:19|20)\d{2})-(?P<iso_month>\d{2})-(?P<iso_day>\d{2})"
    r"|(?P<said_day>\d{1,2})(?:er)?[ ](?P<said>[^\W\d_]{3,9})[ ](?P<said_year>(?:19|20)\d{2}))(?![\w/-]|\.\d)"
)
_CENTURY_FROM = 50
"""Two digits of a year from here on are of the last century."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Characters ``start`` to ``end`` of the text, and what stands in their place."""

    start: int
    end: int
    kind: Kind
    in_place: str


class Narrative:
    """Reads the texts of one case.

    ``moved``: a day as it may be told, None when it may not; ``births``: days of birth, which leave altogether;
    ``roles``: folded name part → what the person is called in this case (``médecin réalisateur 1``).
    """

    def __init__(
        self,
        identifiers: Identifiers,
        *,
        moved: Callable[[date], date | None],
        births: frozenset[date] = frozenset(),
        roles: Mapping[str, str] | None = None,
    ) -> None:
        self._identifiers = identifiers
        self._moved = moved
        self._births = births
        self._roles = dict(roles or {})
        self._initials = _initials(identifiers)

    def findings(self, text: str) -> tuple[Finding, ...]:
        """What may not stay, in order, apart from each other."""
        found = sorted(self._raw(text), key=lambda one: (one.start, -one.end))
        merged: list[Finding] = []
        for one in found:
            if merged and self._are_one(text, merged[-1], one):
                merged[-1] = self._both(text, merged[-1], one)
            else:
                merged.append(one)
        return tuple(merged)

    def tells(self, value: str) -> bool:
        """Whether a code or another short value is one of the case's own, or holds one."""
        return self._identifiers.found_in(value)

    def redacted(self, text: str) -> str:
        """The text with what was found replaced."""
        pieces: list[str] = []
        end = 0
        for one in self.findings(text):
            pieces += [text[end : one.start], one.in_place]
            end = one.end
        return "".join([*pieces, text[end:]])

    def _raw(self, text: str) -> Iterator[Finding]:
        folded, places = folded_with_places(text)
        for start, end in self._identifiers.spans(folded):
            kind = Kind.IDENTIFIER if any(letter.isdecimal() for letter in folded[start:end]) else Kind.NAME
            yield self._finding(text, places[start], places[end - 1] + 1, kind)
        for kind, pattern in _PATTERNS:
            for match in pattern.finditer(text):
                start, end = match.span("value") if "value" in pattern.groupindex else match.span()
                yield self._finding(text, start, end, kind)
        if self._initials:
            for match in self._initials.finditer(text):
                yield self._finding(text, *match.span(), Kind.INITIALS)
        yield from self._dates(text)

    def _finding(self, text: str, start: int, end: int, kind: Kind) -> Finding:
        in_place = IN_PLACE[kind]
        if kind is Kind.NAME:
            parts = re.findall(r"[^\W_]+", fold(text[start:end]))
            roles = {self._roles[part] for part in parts if part in self._roles}
            if len(roles) == 1:
                in_place = roles.pop()
        return Finding(start=start, end=end, kind=kind, in_place=in_place)

    def _dates(self, text: str) -> Iterator[Finding]:
        for match in _DATE.finditer(text):
            day = _day(match)
            if day is None:
                continue
            if day in self._births:
                yield self._finding(text, *match.span(), Kind.BIRTH)
                continue
            moved = self._moved(day)
            in_place = _written(match, moved) if moved else IN_PLACE[Kind.DATE]
            yield Finding(start=match.start(), end=match.end(), kind=Kind.DATE, in_place=in_place)

    @staticmethod
    def _are_one(text: str, before: Finding, after: Finding) -> bool:
        if after.start < before.end:
            return True
        between = text[before.end : after.start]
        return before.kind is after.kind is Kind.NAME and re.fullmatch(r"[\s^,’'-]{0,2}", between) is not None

    def _both(self, text: str, before: Finding, after: Finding) -> Finding:
        kind = min(before.kind, after.kind, key=lambda one: _ORDER[one])
        end = max(before.end, after.end)
        if kind is Kind.NAME:
            return self._finding(text, before.start, end, kind)
        chosen = before if before.kind is kind else after
        return Finding(start=before.start, end=end, kind=kind, in_place=chosen.in_place)


def _initials(identifiers: Identifiers) -> re.Pattern[str] | None:
    """Two capitals with full stops that begin two of the names: "D. P." of Dominique Pat-Trois."""
    letters = "".join(sorted({name[0].upper() for name in identifiers.names if name[0].isalpha()}))
    if not letters:
        return None
    one = rf"[{re.escape(letters)}]\.(?:-[{re.escape(letters)}]\.)?"
    return re.compile(rf"(?<![\w.]){one}[ ]?{one}(?!\w)")


def _day(match: re.Match[str]) -> date | None:
    part = match.groupdict()
    year = int(part["year"] or part["iso_year"] or part["said_year"])
    if year < 100:
        year += 1900 if year >= _CENTURY_FROM else 2000
    month = part["month"] or part["iso_month"] or _MONTH_OF.get(fold(part["said"] or ""), 0)
    try:
        return date(year, int(month), int(part["day"] or part["iso_day"] or part["said_day"]))
    except ValueError:
        return None


def _written(match: re.Match[str], day: date) -> str:
    """``day`` in the form of the date that was found."""
    part = match.groupdict()
    if part["iso_year"]:
        return day.isoformat()
    if part["said"]:
        return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"
    year = f"{day:%y}" if len(part["year"]) == 2 else f"{day:%Y}"
    return f"{day:%d}{part['sep']}{day:%m}{part['sep']}{year}"
