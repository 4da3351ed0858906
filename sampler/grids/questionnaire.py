"""A grid as FHIR R4 Questionnaire, the answers of one case as QuestionnaireResponse.

Invariants:

* the linkId of an item is its code; comment, reason and evidence stand below it under ``<code>.comment`` and so on;
* French is the text, English its translation (the FHIR extension ``translation``);
* a response names the pseudonymised case and nothing of a patient: it has no subject.

Form only: no profile of a network is claimed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sampler.grids.answers import Answer
from sampler.grids.grid import Grid, Item, Level

Json = dict[str, Any]

SYSTEM = "urn:poterne:peer-audit"
_TRANSLATION = "http://hl7.org/fhir/StructureDefinition/translation"
_ANSWERS: Mapping[str, tuple[str, str]] = {
    "C": ("conforme", "conformant"),
    "NC": ("non conforme", "non-conformant"),
    "NA": ("sans objet", "not applicable"),
    "NE": ("non évalué", "not evaluated"),
}
_REASONS: Mapping[str, tuple[str, str]] = {
    "MODALITY": ("la modalité ne s'y prête pas", "not of this modality"),
    "CONTEXT": ("le contexte ne s'y prête pas", "not in this context"),
    "NOT_REQUESTED": ("n'était pas demandé", "was not requested"),
    "OTHER": ("autre raison", "other reason"),
}
_PARTS: Mapping[str, tuple[str, str]] = {
    "reason": ("Raison", "Reason"),
    "comment": ("Commentaire", "Comment"),
    "evidence": ("Preuve", "Evidence"),
}


def canonical_of(grid: Grid, level: Level) -> str:
    """The canonical URL of the Questionnaire, with its version."""
    return f"{SYSTEM}:{grid.code.lower()}:{level}|{grid.version}"


def questionnaire_of(grid: Grid, level: Level) -> Json:
    """The items of cases, or those of the service, by section."""
    url, _, version = canonical_of(grid, level).partition("|")
    sections: dict[str, list[Item]] = {}
    for item in grid.of_level(level):
        sections.setdefault(item.section, []).append(item)
    return {
        "resourceType": "Questionnaire",
        "url": url,
        "version": version,
        "name": f"{grid.code}_{level}".replace("-", "_"),
        "title": grid.title["fr"],
        "_title": _translated(grid.title["en"]),
        "status": "draft",
        "language": "fr",
        "description": grid.status["fr"],
        "_description": _translated(grid.status["en"]),
        "item": [
            {"linkId": section, "text": section, "type": "group", "item": [_question(one) for one in items]}
            for section, items in sections.items()
        ],
    }


def response_of(
    grid: Grid, level: Level, answers: Sequence[Answer], *, case: str, auditor: str, authored: datetime
) -> Json:
    """The submitted answers of one case, or of the service. ``case``, ``auditor``: pseudonyms."""
    given = {one.item: one for one in answers}
    sections: dict[str, list[Json]] = {}
    for item in grid.of_level(level):
        if item.code in given:
            sections.setdefault(item.section, []).append(_answered(item, given[item.code]))
    return {
        "resourceType": "QuestionnaireResponse",
        "identifier": {"system": f"{SYSTEM}:case", "value": case},
        "questionnaire": canonical_of(grid, level),
        "status": "completed",
        "language": "fr",
        "authored": authored.isoformat(timespec="seconds"),
        "author": {"identifier": {"system": f"{SYSTEM}:auditor", "value": auditor}},
        "item": [{"linkId": section, "item": items} for section, items in sections.items()],
    }


def _question(item: Item) -> Json:
    return {
        "linkId": item.code,
        "prefix": item.code,
        "text": item.text["fr"],
        "_text": _translated(item.text["en"]),
        "type": "choice",
        "required": item.is_mandatory,
        "answerOption": [_option("answer", code, said) for code, said in _ANSWERS.items()],
        "item": [
            _part(item, "reason") | {"type": "choice", "answerOption": _options("na-reason", _REASONS)},
            _part(item, "comment") | {"type": "text"},
            _part(item, "evidence") | {"type": "string", "repeats": True},
        ],
    }


def _part(item: Item, name: str) -> Json:
    french, english = _PARTS[name]
    return {"linkId": f"{item.code}.{name}", "text": french, "_text": _translated(english)}


def _answered(item: Item, answer: Answer) -> Json:
    below: list[Json] = []
    if answer.reason:
        coding = _option("na-reason", answer.reason, _REASONS[answer.reason])
        below.append({"linkId": f"{item.code}.reason", "answer": [coding]})
    if answer.comment:
        below.append({"linkId": f"{item.code}.comment", "answer": [{"valueString": answer.comment}]})
    if answer.evidence:
        told = [{"valueString": one} for one in answer.evidence]
        below.append({"linkId": f"{item.code}.evidence", "answer": told})
    verdict = _option("answer", answer.verdict, _ANSWERS[answer.verdict])
    if below:  # R4: items below an answer stand inside of it
        verdict["item"] = below
    return {"linkId": item.code, "text": item.text["fr"], "answer": [verdict]}


def _options(system: str, said: Mapping[str, tuple[str, str]]) -> list[Json]:
    return [_option(system, code, both) for code, both in said.items()]


def _option(system: str, code: str, said: tuple[str, str]) -> Json:
    french, english = said
    coding: Json = {"system": f"{SYSTEM}:{system}", "code": code, "display": french}
    return {"valueCoding": coding | {"_display": _translated(english)}}


def _translated(english: str) -> Json:
    parts: Iterable[Json] = ({"url": "lang", "valueCode": "en"}, {"url": "content", "valueString": english})
    return {"extension": [{"url": _TRANSLATION, "extension": list(parts)}]}
