"""``poterne manifest check``: one document held against the rules of its form and profile, without any network."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer

from gateway.faults import told
from gateway.i18n import Words
from gateway.manifests import documents, forms
from gateway.manifests.forms import RULES, Target
from indexer.reading import Deviation, Profile
from indexer.rules import Rule
from indexer.rules.manifest import PROFILE
from security.errors import BadInput

_SEVERITIES: Final = ("error", "warning", "note")
_MARKS: Final = {"error": "✗", "warning": "!", "note": "·"}
_PLACES_MAX = 5
"""Places shown of one rule; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One departure with its rule."""

    rule: Rule
    where: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``target``: what the document is, None when it is refused; ``refusal``: why it is no document at all."""

    target: Target | None
    findings: tuple[Finding, ...]
    refusal: BadInput | None = None

    @property
    def is_clean(self) -> bool:
        """No error; warnings and notes may be there."""
        return self.refusal is None and all(one.rule.severity != "error" for one in self.findings)


def run(path: Path, words: Words, *, profile: Profile | None, as_json: bool) -> int:
    """Print what is out of rule; 0 when no error is, 1 otherwise.

    Raises:
        Refused: ``file-unreadable``.
    """
    verdict = check(path, profile=profile)
    if as_json:
        typer.echo(json.dumps(facts(path, verdict, words), ensure_ascii=False))
    else:
        for line in text(verdict, words):
            typer.echo(line)
    return 0 if verdict.is_clean else 1


def check(path: Path, *, profile: Profile | None = None) -> Verdict:
    """What is to be said of one file.

    Raises:
        Refused: ``file-unreadable``.
    """
    try:
        return judge(documents.load(path), profile=profile)
    except BadInput as fault:
        return Verdict(target=None, findings=(), refusal=fault)


def judge(data: bytes, *, profile: Profile | None = None) -> Verdict:
    """What is to be said of these bytes. ``profile``: the one expected; another is a finding.

    Raises:
        BadInput: they are no document at all: ``manifest-form``, ``dicom-…``, ``json-…``.
    """
    forms.form_of(data)
    target = _target(data)
    deviations = list(forms.check(data, profile=profile))
    if profile is not None and target is not None and target.profile != profile:
        deviations.insert(0, Deviation(rule=PROFILE.id, where="", detail=f"{target.profile}, not {profile}"))
    findings = [Finding(rule=RULES[one.rule], where=one.where, detail=one.detail) for one in deviations]
    findings.sort(key=lambda one: _SEVERITIES.index(one.rule.severity))
    return Verdict(target=target, findings=tuple(findings))


def _target(data: bytes) -> Target | None:
    """What the document is, None when a reader refuses it."""
    try:
        reading = forms.read(data)
    except BadInput as fault:
        if fault.code not in RULES:
            raise
        return None
    return Target(form=reading.form, profile=reading.profile, codes=reading.codes or "DCM")


def facts(path: Path, verdict: Verdict, words: Words) -> dict[str, Any]:
    """The verdict for programs; texts in the language of the person."""
    target, refusal = verdict.target, verdict.refusal
    counts = Counter[str](one.rule.severity for one in verdict.findings)
    return {
        "file": str(path),
        "form": target.form if target else None,
        "profile": target.profile if target else None,
        "codes": target.codes if target and (target.form, target.profile) == ("kos", "mado") else None,
        "clean": verdict.is_clean,
        "refused": {"code": refusal.code, "said": told(refusal, words)} if refusal else None,
        "counts": {severity: counts[severity] for severity in _SEVERITIES},
        "findings": [
            {
                "rule": one.rule.id,
                "severity": one.rule.severity,
                "clause": one.rule.clause,
                "where": one.where,
                "detail": one.detail,
                "says": words(one.rule.says),
                "remedy": words(one.rule.remedy),
            }
            for one in verdict.findings
        ],
    }


def text(verdict: Verdict, words: Words) -> Iterator[str]:
    """The verdict for people."""
    if verdict.refusal is not None:
        yield words("Refused: this is no manifest document.")
        yield told(verdict.refusal, words)
        return
    by_rule: dict[str, list[Finding]] = {}
    for one in verdict.findings:
        by_rule.setdefault(one.rule.id, []).append(one)
    for name, found in by_rule.items():
        yield f"{_MARKS[found[0].rule.severity]} {name}"
        yield from rule_text(found[0].rule, words)
        for one in found[:_PLACES_MAX]:
            yield f"    {one.where or '/'}" + (f" ({one.detail})" if one.detail else "")
        if len(found) > _PLACES_MAX:
            yield words("    … and {n} more: --json lists them all", n=words.number(len(found) - _PLACES_MAX))
    counts = Counter[str](one.rule.severity for one in verdict.findings)
    errors, warnings, notes = (counts[severity] for severity in _SEVERITIES)
    said = ", ".join(
        (
            words.count("{n} error", "{n} errors", errors),
            words.count("{n} warning", "{n} warnings", warnings),
            words.count("{n} note", "{n} notes", notes),
        )
    )
    what = verdict.target or words("refused")
    yield words("{what}: {said}", what=what, said=said)
    if verdict.is_clean:
        yield words("No rule that Poterne knows is broken. That is a check, not a certification.")


def rule_text(rule: Rule, words: Words) -> Iterator[str]:
    """What must hold, where that is written, and what to do."""
    yield words("    must hold: {says} ({clause})", says=words(rule.says), clause=rule.clause)
    yield words("    to do: {remedy}", remedy=words(rule.remedy))
