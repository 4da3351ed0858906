"""What a reader of a transcript must weigh and no arithmetic decides.

Invariants: a note is a code of ``NOTES``; it depends on the transcripts alone; what speaks against a party is noted
rather than refused, so that a voided or a clumsy draw stays visible instead of being made again in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sampler.draw.protocol import protocol_of
from sampler.draw.seed import AHEAD, beacon_of
from sampler.draw.selection import FRAME_ERRORS, RATE_MAX
from sampler.draw.transcript import moment, replacement_of
from security.errors import BadInput
from security.parse.json import member

NOTES = (
    "BEACON_ABSENT",
    "BEACON_UNSIGNED",
    "BEACON_EARLY",
    "LATE_REVEAL",
    "CHAIN_NOT_SHOWN",
    "OTHER_CAMPAIGN",
    "TWO_VOIDED",
    "STRATUM_NOT_DRAWN",
    "REPLACEMENTS_UNSIGNED",
    "REPLACEMENT_RATE",
    "FRAME_ERRORS",
    "VOIDED",
)
REVEAL_WITHIN = timedelta(hours=24)


def notes_of(body: Mapping[str, Any], previous: Sequence[Any] = ()) -> list[str]:
    """What holds, of ``NOTES``. A body that has not its form gives none: its steps fail.

    ``previous``: the transcripts of the draws before that were shown, newest first.
    """
    try:
        found = {*_beacon(body), *_chain(body, previous), *_replacements(body)}
        late = moment(str(body.get("revealed_at"))) - moment(str(body.get("committed_at"))) > REVEAL_WITHIN
        named = {one.id for one in protocol_of(body.get("protocol")).strata}
        strata = member(member(body, "frame", dict, what="body"), "strata", dict, what="frame")
    except BadInput:
        return []
    if late:
        found.add("LATE_REVEAL")
    if strata.keys() - named:
        found.add("STRATUM_NOT_DRAWN")
    return [one for one in NOTES if one in found]


def _beacon(body: Mapping[str, Any]) -> Iterable[str]:
    beacon = beacon_of(body.get("beacon"))
    if beacon is None:
        if "voided" not in body:
            yield "BEACON_ABSENT"
        return
    if not beacon.is_signed:
        yield "BEACON_UNSIGNED"
    comes_at = beacon.comes_at()
    if comes_at and comes_at < moment(str(body.get("committed_at"))) + AHEAD:
        yield "BEACON_EARLY"


def _chain(body: Mapping[str, Any], previous: Sequence[Any]) -> Iterable[str]:
    bodies = [body, *(member(one, "body", dict, what="previous transcript") for one in previous)]
    if "voided" in body:
        yield "VOIDED"
    if member(bodies[-1], "draw_no", int, what="body") > 1:
        yield "CHAIN_NOT_SHOWN"
    if any(one.get("campaign") != body.get("campaign") for one in bodies):
        yield "OTHER_CAMPAIGN"
    voided = [str(one["voided"].get("by")) for one in bodies if isinstance(one.get("voided"), dict)]
    if len(set(voided)) < len(voided):
        yield "TWO_VOIDED"


def _replacements(body: Mapping[str, Any]) -> Iterable[str]:
    stated = member(body, "replacements", list, what="body")
    wishes = [replacement_of(one, f"replacement {number}") for number, one in enumerate(stated, start=1)]
    selected = member(body, "selected", dict, what="body").values()
    if any(not one.signatures for one in wishes):
        yield "REPLACEMENTS_UNSIGNED"
    if len(wishes) > RATE_MAX * sum(len(cases) for cases in selected if isinstance(cases, list)):
        yield "REPLACEMENT_RATE"
    if any(one.reason in FRAME_ERRORS for one in wishes):
        yield "FRAME_ERRORS"
