"""Commitments, beacon and seed (§5.3): what no party alone chooses or foresees.

Invariants:

* the seed binds the frame's root, the protocol's hash, the number of the draw and every contribution;
* a contribution is 32 bytes; the auditor and the site always give one;
* a beacon with its signature is checked; one typed in without is taken as it is, which ``notes`` tells.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sampler.draw import faults
from sampler.draw.canonical import labelled
from sampler.draw.protocol import HASH_HEX

ROLES = ("auditor", "site", "commission")
NEEDED = frozenset({"auditor", "site"})
_HEX = re.compile(r"([0-9a-fA-F]{2})+")
AHEAD = timedelta(minutes=10)
"""How long after the last commitment the beacon's round must come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """When the rounds of a drand chain come. ``genesis``: round 1, seconds since 1970."""

    genesis: int
    period_s: int

    def at(self, number: int) -> datetime:
        """When that round comes."""
        return datetime.fromtimestamp(self.genesis, UTC) + timedelta(seconds=self.period_s * (number - 1))


CHAINS = {
    "8990e7a9aaed2ffed73dbd7092123d6f289930540d7651336225dc172e51b2ce": Chain(genesis=1595431050, period_s=30),
    "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971": Chain(genesis=1692803367, period_s=3),
}
"""drand's default chain and quicknet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beacon:
    """One round of a public source of randomness. ``stated``: as it was given, for the transcript."""

    stated: Mapping[str, Any]
    round: int
    randomness: bytes
    is_signed: bool

    def comes_at(self) -> datetime | None:
        """When the round came; None for a chain that is not stated or not known."""
        chain = CHAINS.get(str(self.stated.get("chain")))
        return chain.at(self.round) if chain and self.round < 2**40 else None


def commitment(role: str, value: bytes) -> bytes:
    """What a role publishes before anybody reveals."""
    return hashlib.sha256(labelled("commit") + role.encode("ascii") + b"\x00" + value).digest()


def check_commitment(role: str, stated: bytes, revealed: bytes) -> None:
    """Raises BadInput ``E_COMMIT_MISMATCH`` when what a role revealed is not what it had committed to."""
    if commitment(role, revealed) != stated:
        raise faults.refused(faults.COMMIT_MISMATCH, f"{role}: what was revealed is not what was committed to")


def contributions_of(stated: Any, *, what: str = "contributions", is_whole: bool = True) -> dict[str, bytes]:
    """Role → 32 bytes. ``is_whole``: the auditor and the site must be there.

    Raises:
        BadInput: ``E_CONTRIBUTION`` a role is unknown or missing, or a value has not 64 hexadecimal digits.
    """
    if not isinstance(stated, dict):
        raise faults.refused(faults.CONTRIBUTION, f"{what}: no object of roles")
    for role, value in stated.items():
        if role not in ROLES:
            raise faults.refused(faults.CONTRIBUTION, f"{what}: a role is none of {', '.join(ROLES)}")
        if not isinstance(value, str) or not HASH_HEX.fullmatch(value):
            raise faults.refused(faults.CONTRIBUTION, f"{what}: {role} has not 64 hexadecimal digits")
    if is_whole and not stated.keys() >= NEEDED:
        raise faults.refused(faults.CONTRIBUTION, f"{what}: {min(NEEDED - stated.keys())} is missing")
    return {role: bytes.fromhex(value) for role, value in stated.items()}


def beacon_of(stated: Any) -> Beacon | None:
    """The beacon that a JSON object states. Raises BadInput ``E_BEACON`` when it contradicts itself."""
    if stated is None:
        return None
    if not isinstance(stated, dict):
        raise faults.refused(faults.BEACON, "beacon: no object")
    number, randomness = stated.get("round"), stated.get("randomness")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise faults.refused(faults.BEACON, "beacon: round is no number from 1")
    if not isinstance(randomness, str) or not HASH_HEX.fullmatch(randomness):
        raise faults.refused(faults.BEACON, "beacon: randomness has not 64 hexadecimal digits")
    signature = stated.get("signature")
    if signature is not None and _sha256_of_hex(signature) != randomness:
        raise faults.refused(faults.BEACON, "beacon: randomness is not the SHA-256 of the signature")
    return Beacon(
        stated=stated, round=number, randomness=bytes.fromhex(randomness), is_signed=isinstance(signature, str)
    )


def seed_of(
    *, root: bytes, protocol_hash: bytes, draw_no: int, contributions: Mapping[str, bytes], randomness: bytes | None
) -> bytes:
    """The seed: SHA-256 over all that the draw stands on, roles in alphabetical order.

    ``randomness``: that of the beacon, which counts as one role more.
    """
    given = dict(contributions) | ({"beacon": randomness} if randomness else {})
    message = labelled("seed") + root + protocol_hash + draw_no.to_bytes(4, "big")
    for role, value in sorted(given.items()):
        message += _counted(role.encode("ascii")) + _counted(value)
    return hashlib.sha256(message).digest()


def _counted(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def _sha256_of_hex(text: Any) -> str | None:
    if not isinstance(text, str) or not _HEX.fullmatch(text):
        return None
    return hashlib.sha256(bytes.fromhex(text)).hexdigest()
