"""Descriptions and findings written by people, without what could name anybody (PS3.15 E.3.3, E.3.4, E.3.5).

Invariants:

* only known words stay: what is not in ``words.txt`` or in the site's own list is left out and shown as ``[...]``,
  so the reader sees that something stood there;
* a value of the originals never stays, though it be a known word;
* a whole date of day, month and year moves with the patient's dates; any other long run of digits, a year included,
  is left out.

Leaves to others: reports in CDA, HL7 and PDF, which a person reads before they leave.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from functools import cache
from importlib.resources import files

from sampler.pseudonym.identifiers import Identifiers, fold, folded_with_places

ELISION = "[...]"
DIGITS_MAX = 6  # of numbers side by side: 512 512 stays, a telephone number does not
_MONTHS = (
    "janvier january jan janv",
    "fevrier february feb fev",
    "mars march mar",
    "avril april apr avr",
    "mai may",
    "juin june jun",
    "juillet july jul juil",
    "aout august aug",
    "septembre september sep sept",
    "octobre october oct",
    "novembre november nov",
    "decembre december dec",
)
_MONTH_NUMBER = {name: number for number, names in enumerate(_MONTHS, start=1) for name in names.split()}
_DATES = re.compile(
    r"(?<![\w.])(?:"
    r"(?P<day>\d{1,2})(?P<sep>[/.-])(?P<month>\d{1,2})(?P=sep)(?P<year>(?:19|20)\d{2})"
    r"|(?P<iso_year>(?:19|20)\d{2})(?P<iso_sep>-?)(?P<iso_month>\d{2})(?P=iso_sep)(?P<iso_day>\d{2})"
    r"|(?P<said_day>\d{1,2})(?:er)? (?P<said>[^\W\d_]{3,9})\.? (?P<said_year>(?:19|20)\d{2})"
    r")(?![\w])"
)
_TOKEN = re.compile(r"[^\W_]+|\s+|.", re.DOTALL)
_PIECES = re.compile(r"\d+|\D+")
_PLAIN = frozenset(".,;:()/+-%=<>*'\"!?&#_[]²³°µ±")
_ADDRESSES = re.compile(r"\S+@\S+|\b(?:https?|ftp|www)\S+", re.IGNORECASE)
_SHORT_DATES = re.compile(r"(?<!\d)\d{1,2}([/.-])\d{1,2}\1\d{2}(?!\d)")  # of a century that nobody knows
_SPELLED = re.compile(r"(?:(?<![^\W_])[^\W\d_](?![^\W_])[\W_]*){4,}")  # single letters in a row spell a name
_GAP = re.compile(r"\[\.\.\.\](?:[\s.,;:()/+\-%=<>*'\"!?&#_]*\[\.\.\.\])+")


@cache
def vocabulary() -> frozenset[str]:
    """The words of ``words.txt``, folded."""
    lines = files("sampler.pseudonym").joinpath("words.txt").read_text("utf-8").splitlines()
    return frozenset(fold(word) for line in lines if not line.startswith("#") for word in re.split(r"[\s-]+", line))


class Cleaner:
    """Cleans the texts of one case. ``moved``: a day as it may be told; ``own_words``: the site's, reviewed."""

    def __init__(
        self,
        identifiers: Identifiers,
        moved: Callable[[date], date | None],
        *,
        own_words: frozenset[str] = frozenset(),
    ) -> None:
        self._identifiers = identifiers
        self._moved = moved
        self._words = vocabulary() | {fold(word) for word in own_words}
        self._known: dict[str, str] = {}
        self._freed: dict[str, str] = {}

    def clean(self, text: str) -> str:
        """The text with only known words, numbers, punctuation and moved dates; "" when no word of it stays."""
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self._cleaned(text)
        return known

    def is_term(self, value: str) -> bool:
        """Whether a coded value is made of words of the list alone: it says nothing about anybody."""
        return all(part in self._words for part in re.findall(r"[^\W_]+", fold(value)))

    def without_identifiers(self, text: str) -> str:
        """The text with the originals' values left out and everything else as it was."""
        freed = self._freed.get(text)
        if freed is None:
            freed = self._freed[text] = self._without(text)
        return freed

    def _without(self, text: str) -> str:
        folded, places = folded_with_places(text)
        hidden = sorted((places[start], places[end - 1] + 1) for start, end in self._identifiers.spans(folded))
        if not hidden:
            return text
        pieces: list[str] = []
        end = 0
        for start, stop in hidden:
            if start >= end:
                pieces += [text[end:start], ELISION]
            end = max(end, stop)
        return _GAP.sub(ELISION, "".join([*pieces, text[end:]]))

    def _cleaned(self, text: str) -> str:
        plain = self.without_identifiers(_SHORT_DATES.sub(ELISION, _ADDRESSES.sub(ELISION, text)))
        clean = _SPELLED.sub(ELISION, "".join(self._pieces(plain)))
        return _GAP.sub(ELISION, clean).strip() if re.search(r"\w", clean) else ""

    def _pieces(self, text: str) -> Iterator[str]:
        end = 0
        for match in _DATES.finditer(text):
            yield from self._between(text[end : match.start()])
            yield self._date(match)
            end = match.end()
        yield from self._between(text[end:])

    def _date(self, match: re.Match[str]) -> str:
        part = match.groupdict()
        month = part["month"] or part["iso_month"] or _MONTH_NUMBER.get(fold(part["said"] or ""))
        year = part["year"] or part["iso_year"] or part["said_year"]
        day = part["day"] or part["iso_day"] or part["said_day"]
        try:
            moved = self._moved(date(int(year), int(month or 0), int(day)))
        except ValueError:
            moved = None
        if moved is None:
            return ELISION
        if part["iso_year"]:
            return moved.strftime(f"%Y{part['iso_sep']}%m{part['iso_sep']}%d")
        return moved.strftime(f"%d{part['sep'] or '/'}%m{part['sep'] or '/'}%Y")

    def _between(self, text: str) -> Iterator[str]:
        """Words and numbers one by one; numbers side by side are judged together."""
        run: list[str] = []
        for token in _split(text):
            if token.isdecimal() or (run and not re.search(r"[^\W_]", token) and token != ELISION):
                run.append(token)
                continue
            yield from _numbers(run)
            run = []
            yield self._word(token)
        yield from _numbers(run)

    def _word(self, token: str) -> str:
        if token == ELISION:
            return token
        if not re.search(r"[^\W_]", token):
            return _between_words(token)
        folded = fold(token)
        if folded in self._words:
            return token
        pieces = _PIECES.findall(folded)
        short = sum(len(piece) for piece in pieces if piece.isdecimal()) <= 3
        if len(pieces) > 1 and short and all(p.isdecimal() or len(p) == 1 or p in self._words for p in pieces):
            return token
        return ELISION


def _split(text: str) -> Iterator[str]:
    for number, part in enumerate(text.split(ELISION)):
        if number:
            yield ELISION
        yield from _TOKEN.findall(part)


def _numbers(run: list[str]) -> Iterator[str]:
    tail: list[str] = []
    while run and not run[-1].isdecimal():
        tail.insert(0, run.pop())
    numbers = [token for token in run if token.isdecimal()]
    if sum(map(len, numbers)) > DIGITS_MAX or any(_is_long(number) for number in numbers):
        yield ELISION
    else:
        yield from map(_between_words, run)
    yield from map(_between_words, tail)


def _between_words(token: str) -> str:
    """A number, a blank or a sign as it may stand; a blank for any other sign, so that no word grows."""
    if token.isspace():
        return "\n" if "\n" in token else " "
    return token if token.isdecimal() or token in _PLAIN else " "


def _is_long(number: str) -> bool:
    return len(number) > 4 or (len(number) == 4 and 1900 <= int(number) <= 2099)
