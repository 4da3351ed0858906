"""Words for people: French first, English complete (gettext).

A text is written once, in English, where it is said: ``words("held exams")``, or ``N_("held")`` where it is named
and said later. Its French stands in ``gateway/locale/fr/<room>.po``; English needs no file, the text is itself. A
test fails on a text without French, on a fuzzy one and on one that nobody says any more.

Names of codes, commands, settings and DICOM or IHE terms are never translated.
"""

from __future__ import annotations

import gettext
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from functools import cache
from importlib import resources
from io import BytesIO

from babel import Locale
from babel.dates import format_datetime, format_timedelta
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

LANGUAGES = ("fr", "en")
DEFAULT = "fr"


def N_(text: str) -> str:  # noqa: N802 - the name gettext's tools look for
    """Mark a text that is said later, through ``Words``."""
    return text


def language(wanted: str | None, environ: Mapping[str, str]) -> str:
    """The language to speak: ``wanted``, else the environment's (LC_ALL, LC_MESSAGES, LANG), else French."""
    stated = next((environ[key] for key in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(key)), "")
    for candidate in (wanted or "", stated):
        if candidate[:2].lower() in LANGUAGES:
            return candidate[:2].lower()
    return DEFAULT


class Words:
    """One language. Call it with a text and the values of its ``{names}``."""

    def __init__(self, lang: str, translations: gettext.NullTranslations) -> None:
        self.lang = lang
        self._locale = Locale.parse(lang)
        self._translations = translations

    def __call__(self, text: str, /, **values: object) -> str:
        said = self._translations.gettext(text) if text else ""
        return said.format(**values) if values else said

    def count(self, one: str, many: str, number: int, /, **values: object) -> str:
        """``one`` or ``many`` by the language's plural rule; ``{n}`` is the number as people write it."""
        return self._translations.ngettext(one, many, number).format(n=self.number(number), **values)

    def number(self, value: float) -> str:
        """1 284 in French, 1,284 in English."""
        return str(format_decimal(value, locale=self._locale))

    def moment(self, at: datetime, zone: tzinfo) -> str:
        """Date and time of day in ``zone``, to the second; the first of a month is "1er" in French."""
        local = at.astimezone(zone)
        text = str(format_datetime(local, "medium", locale=self._locale))
        return f"1er{text[1:]}" if self.lang == "fr" and local.day == 1 else text

    def span(self, seconds: float) -> str:
        """A length of time, its largest unit."""
        return str(format_timedelta(timedelta(seconds=seconds), locale=self._locale))


@cache
def words(lang: str) -> Words:
    """The words of ``fr`` or ``en``."""
    if lang == "en":
        return Words("en", gettext.NullTranslations())
    whole = Catalog(locale=lang)
    for file in sorted((resources.files("gateway") / "locale" / lang).iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".po"):
            for message in read_po(BytesIO(file.read_bytes()), locale=lang):
                if message.id and not message.fuzzy:
                    whole.add(message.id, message.string)
    compiled = BytesIO()
    write_mo(compiled, whole)
    compiled.seek(0)
    return Words(lang, gettext.GNUTranslations(compiled))
