"""From rows to the frame: who is in, who is out and why, and the links that stay at the site (peer-audit §5.1, §8.5).

Invariants:

* rows in = units + exclusions: nothing is left out without being counted under its reason;
* a patient who objects is out before anything is committed, whatever else holds;
* a unit without a stated practitioner is in, under one pseudonym for all of them, and counted;
* the frame names exams and professionals by keyed pseudonyms alone; what turns them back is in ``links`` and
  ``practitioners``, which the caller seals;
* equal rows under equal keys give an equal frame, in whatever order they come.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sampler.draw.canonical import labelled
from sampler.draw.protocol import Protocol
from sampler.draw.units import Frame, Unit, commit
from sampler.frame.rows import Exclusion, PerformedExam, Request, Standing
from sampler.frame.strata import merged, rules_of, stratum_of

Source = Literal["PERFORMED", "REQUESTED"]
_UNIT = labelled("unit")
_PRACTITIONER = labelled("practitioner-id")
_UNSTATED = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A frame and its account. ``merged``: small stratum → where its units went. ``unstated``: units whose
    practitioner nobody states.

    For the site alone: ``links`` unit → study, or key of the request; ``practitioners`` pseudonym → local identifier;
    ``left_out`` study → why, for the counts.
    """

    source: Source
    frame: Frame
    exclusions: Mapping[Exclusion, int]
    merged: Mapping[str, str]
    unstated: int
    links: Mapping[str, str] = field(repr=False)
    practitioners: Mapping[str, str] = field(repr=False)
    left_out: Mapping[str, Exclusion] = field(repr=False)


def unit_id(key: bytes, name: str) -> str:
    """The pseudonym of an exam (by StudyInstanceUID) or of a request within a campaign."""
    return hmac.digest(key, _UNIT + name.encode(), "sha256").hex()[:32]


def practitioner_id(key: bytes, local_id: str) -> str:
    """The pseudonym of a professional within a campaign."""
    return "p" + hmac.digest(key, _PRACTITIONER + local_id.encode(), "sha256").hex()[:12]


def performed(exams: Iterable[PerformedExam], protocol: Protocol, key: bytes) -> Built:
    """The frame of performed exams. ``key``: K_campaign.

    Raises:
        BadInput: ``frame-protocol``, ``frame-small``, ``E_EMPTY_FRAME``, ``E_DUPLICATE_UNIT``.
    """
    building = _Building("PERFORMED", protocol, key)
    for one in exams:
        building.take(
            one.study,
            study=one.study,
            practitioner=one.practitioner,
            stratum=building.stratum(one.modality, one.site, ""),
            excluded=_excluded(one),
        )
    return building.built()


def requested(requests: Iterable[Request], protocol: Protocol, key: bytes) -> Built:
    """The frame of requests, also of those refused, cancelled, substituted or never performed. Raises as above."""
    building = _Building("REQUESTED", protocol, key)
    for one in requests:
        building.take(
            f"request/{one.key}",
            study=one.study,
            practitioner=one.practitioner,
            stratum=building.stratum(one.modality, one.site, one.state),
            excluded=Exclusion.PATIENT_OBJECTION if one.opposes else None,
        )
    return building.built()


def _excluded(one: PerformedExam) -> Exclusion | None:
    if one.opposes:
        return Exclusion.PATIENT_OBJECTION
    if one.is_trial:
        return Exclusion.TRIAL
    return {Standing.HELD: Exclusion.REPORT_HELD, Standing.WITHDRAWN: Exclusion.REPORT_WITHDRAWN}.get(one.standing)


class _Building:
    """A frame under way."""

    def __init__(self, source: Source, protocol: Protocol, key: bytes) -> None:
        self._source: Source = source
        self._rules = rules_of(protocol)
        self._key = key
        self._strata: dict[tuple[str, str, str], str] = {}
        self._people: dict[str, str] = {}
        self._rows: list[Unit] = []
        self._links: dict[str, str] = {}
        self._left_out: dict[str, Exclusion] = {}
        self._exclusions: Counter[Exclusion] = Counter()

    def stratum(self, modality: str, site: str, state: str) -> str:
        """The stratum of such a row, "" for none; a frame has few kinds of rows."""
        kind = (modality, site, state)
        found = self._strata.get(kind)
        if found is None:
            found = self._strata[kind] = stratum_of(self._rules, modality=modality, site=site, state=state)
        return found

    def take(self, name: str, *, study: str, practitioner: str, stratum: str, excluded: Exclusion | None) -> None:
        """One row: in, or out under its reason."""
        if excluded is None and not stratum:
            excluded = Exclusion.NO_STRATUM
        if excluded is not None:
            self._exclusions[excluded] += 1
            if study:
                self._left_out[study] = excluded
            return
        pseudonym = self._people.get(practitioner)
        if pseudonym is None:
            pseudonym = self._people[practitioner] = practitioner_id(self._key, practitioner)
        unit = unit_id(self._key, name)
        self._rows.append(Unit(unit, stratum, pseudonym))
        self._links[unit] = name

    def built(self) -> Built:
        """The frame, small strata merged."""
        into = merged(Counter(one[1] for one in self._rows), self._rules)
        rows: Sequence[Unit] = self._rows
        if into:
            rows = [one._replace(stratum=into[one[1]]) if one[1] in into else one for one in rows]
        unstated = self._people.get(_UNSTATED)
        return Built(
            source=self._source,
            frame=commit(rows),
            exclusions=dict(sorted(self._exclusions.items())),
            merged=into,
            unstated=sum(one[2] == unstated for one in rows) if unstated else 0,
            links=self._links,
            practitioners={pseudonym: local for local, pseudonym in self._people.items()},
            left_out=self._left_out,
        )
