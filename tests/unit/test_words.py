"""Every text for people has its French, and every French text has somebody who says it."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from babel.messages.catalog import Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import gateway
from gateway.i18n import LANGUAGES, words
from gateway.manifests.forms import RULES, TARGETS
from gateway.web import vocabulary
from gateway.web.console.pages import DONE
from indexer import advice, decision, release, timeline
from sampler.report import texts as report_texts

GATEWAY = Path(gateway.__file__).parent
FRENCH = GATEWAY / "locale" / "fr"
SAYING = {"_", "N_", "said", "words"}
TEMPLATES = [("**/templates/**.html", "jinja2")]
BELOW = {
    *timeline.MISSING.values(),
    *(text for _, text in timeline._FAMILIES),
    *release.WHY_NOT.values(),
    *(row.words for row in decision.TABLE),
    advice.REFUSED,
    release._ABSENCE,
    *report_texts.every(),
    *(text for rule in RULES.values() for text in (rule.says, rule.remedy)),
    *(why for target in TARGETS for why in (*target.loses.values(), *target.narrows.values())),
}
"""Texts for people that are said below the gateway, in plain English."""

Text = str | tuple[str, str]


def _said() -> dict[Text, str]:
    """Every text said in the gateway → where."""
    found: dict[Text, str] = {}
    keywords = {**dict.fromkeys(SAYING), "count": (1, 2)}
    options = {TEMPLATES[0][0]: {"silent": "false"}}
    for file, line, message, *_ in extract_from_dir(GATEWAY, TEMPLATES, options, keywords=keywords):
        found.setdefault(message if isinstance(message, str) else tuple(message), f"{file}:{line}")
    for path in GATEWAY.rglob("*.py"):
        for line, text in _in_code(ast.parse(path.read_text(encoding="utf-8"))):
            found.setdefault(text, f"{path.relative_to(GATEWAY)}:{line}")
    return found


def _in_code(tree: ast.AST) -> Iterator[tuple[int, Text]]:
    """Texts in calls, f-strings included (babel's own reader does not look into those)."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        texts = [arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        if name in SAYING and texts and texts[0] not in LANGUAGES:
            yield node.lineno, texts[0]
        elif name == "count" and len(texts) == 2:
            yield node.lineno, (texts[0], texts[1])


def _entries() -> Iterator[tuple[str, Message]]:
    for file in sorted(FRENCH.glob("*.po")):
        for message in read_po(BytesIO(file.read_bytes()), locale="fr", abort_invalid=True):
            if message.id:
                yield file.name, message


SAID = _said()
ENTRIES = list(_entries())
FILES = sorted(file.name for file in FRENCH.glob("*.po"))


def _forms(message: Message) -> list[str]:
    return list(message.string) if isinstance(message.string, list | tuple) else [message.string]


def _fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_texts_are_found_in_code_and_in_templates():
    places = {place.partition(":")[0].rpartition(".")[2] for place in SAID.values()}
    assert places == {"py", "html"}
    assert len(SAID) > 150


def test_every_text_has_its_french():
    french = {entry.id for _, entry in ENTRIES}
    assert {text: SAID.get(text, "below the gateway") for text in (SAID.keys() | BELOW) - french} == {}


def test_no_french_is_left_of_a_text_that_nobody_says():
    silent = {(file, entry.id) for file, entry in ENTRIES if entry.id not in SAID and entry.id not in BELOW}
    assert silent == set()


def test_no_text_has_two_different_french_texts():
    seen: dict[Text, object] = {}
    for _, entry in ENTRIES:
        assert seen.setdefault(entry.id, entry.string) == entry.string, entry.id


def test_french_is_complete_and_sure():
    assert [entry.id for _, entry in ENTRIES if entry.fuzzy or not all(_forms(entry))] == []


def test_a_french_text_names_the_same_values():
    for file, entry in ENTRIES:
        wanted = _fields(entry.id if isinstance(entry.id, str) else entry.id[1])
        for form in _forms(entry):
            assert _fields(form) == wanted, (file, entry.id)


@pytest.mark.parametrize("name", FILES)
def test_each_file_says_its_language_and_rule_of_plurals(name):
    catalog = read_po(BytesIO((FRENCH / name).read_bytes()))
    assert str(catalog.locale) == "fr"
    assert catalog.num_plurals == 2
    assert catalog.charset.lower() == "utf-8"


def test_french_keeps_its_typography():
    """No ASCII blank before : ; ? ! and », none after «; quotation marks and apostrophes are French ones."""
    wrong = re.compile(r"[ ][:;?!»](?:\s|$)|«[ ]|\w[;?!](?:\s|$)|\w:\s|[A-Za-zÀ-ÿ]'[A-Za-zÀ-ÿ]|\.\.\.")
    found = [(file, form) for file, entry in ENTRIES for form in _forms(entry) if wrong.search(form)]
    assert found == []


def test_every_state_has_a_word_and_a_shape():
    assert set(vocabulary.STATES) == set(timeline.ExamState)
    shapes = [word.shape for word in vocabulary.STATES.values()]
    assert len(set(shapes)) == len(shapes)


def test_every_reason_that_lacks_something_has_a_short_name():
    assert set(timeline.MISSING) - set(vocabulary.REASONS) == set()


def test_every_code_that_a_person_may_accept_is_explained():
    assert set(release.RELEASABLE) - set(vocabulary.REASONS) == set()
    assert {name for name in release.FIELDS if vocabulary.field(name, words("fr")) == name} <= {"INS"}


def test_a_code_nobody_named_is_shown_as_it_is():
    said = words("fr")
    assert vocabulary.reason("strange-code", said) == "strange-code"
    assert vocabulary.reason("index-strange-code", said) == "l’index a répondu strange-code"
    assert vocabulary.step("unheard-of", said) == "unheard-of"
    assert vocabulary.source("report 12", said) == "Compte rendu 12"
    assert vocabulary.source("HL7 of report 12", said) == "Message (HL7) du compte rendu 12"


def test_both_languages_say_what_was_done():
    for text in DONE.values():
        assert words("en")(text) == text
        assert words("fr")(text) != text


def test_the_first_of_a_month_is_written_as_in_french():
    zone = ZoneInfo("Europe/Paris")
    first, last = datetime(2026, 2, 28, 23, 30, tzinfo=UTC), datetime(2026, 2, 28, 22, 30, tzinfo=UTC)
    assert words("fr").moment(first, zone) == "1er mars 2026, 00:30:00"
    assert words("fr").moment(last, zone).startswith("28 févr. 2026")
    assert words("en").moment(first, zone).startswith("Mar 1, 2026")
    assert words("fr").moment(datetime(2026, 3, 11, tzinfo=UTC), zone).startswith("11 mars")
