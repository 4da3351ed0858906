"""Tickets, the order of each mode, and who follows a removed case (§5.4, §5.5).

Invariants:

* a ticket depends on the seed and the unit alone: another stratification keeps every relative order;
* an order holds every unit of the stratum once; its first n are selected, the rest are reserves;
* the first k of an order, ordered alone, stand in the same order (what a proof without the frame checks);
* a unit that was ever selected is never selected again.
"""

from __future__ import annotations

import hashlib
import hmac
from bisect import insort
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain

from sampler.draw import faults
from sampler.draw.canonical import labelled
from sampler.draw.protocol import Stratum
from sampler.draw.units import Unit

REASONS = (
    "IMAGES_UNAVAILABLE",
    "PATIENT_OPPOSITION",
    "LEGAL_HOLD",
    "DUPLICATE",
    "OUT_OF_SCOPE",
    "CORRUPT",
    "CONFLICT_OF_INTEREST",
)
"""Why a case may be replaced; nothing else is a reason."""
FRAME_ERRORS = frozenset({"OUT_OF_SCOPE"})
"""Reasons that say that the frame was wrong: an estimate is then one on the domain, no non-response."""
RATE_MAX = 0.10
"""The share of replaced cases above which the worst-case bound is printed."""

_BLOCK = 64  # of SHA-256
_TICKET = labelled("ticket")
_PRACTITIONER = labelled("practitioner")


def ticket(seed: bytes, unit: str) -> bytes:
    """A unit's permanent random number under this seed."""
    return hmac.digest(seed, _TICKET + unit.encode("ascii"), "sha256")


def _tickets(seed: bytes, units: Iterable[Unit]) -> Iterator[tuple[bytes, Unit]]:
    """Each unit with its ticket. Both halves of HMAC (RFC 2104 §4) begin once: that halves the time."""
    key = seed.ljust(_BLOCK, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + _TICKET)
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key))
    for one in units:
        within, around = inner.copy(), outer.copy()
        within.update(one[0].encode("ascii"))
        around.update(within.digest())
        yield around.digest(), one


def by_ticket(units: Iterable[Unit], *, seed: bytes) -> list[Unit]:
    """Units by ticket; a tie goes by unit."""
    drawn = list(_tickets(seed, units))
    drawn.sort()  # a tie falls to the next member, whose first is the unit
    return [one for _, one in drawn]


def order(units: Iterable[Unit], *, seed: bytes, stratum: Stratum) -> list[Unit]:
    """The order of one stratum's units under its mode."""
    tickets = by_ticket(units, seed=seed)
    if stratum.mode == "cap":
        return _capped(tickets, stratum.cap)
    if stratum.mode == "two_stage":
        return _two_stage(tickets, seed)
    return tickets


def first(units: Iterable[Unit], *, seed: bytes, stratum: Stratum) -> list[Unit]:
    """The first ``n`` of the order, without ordering all: nobody gives more than his ``n`` lowest tickets to them."""
    if not stratum.n:
        return []
    theirs: dict[str, list[tuple[bytes, Unit]]] = {}
    for drawn in _tickets(seed, units):
        lowest = theirs.setdefault(drawn[1][2] if stratum.cap else "", [])
        if len(lowest) < stratum.n or drawn < lowest[-1]:
            insort(lowest, drawn)
            del lowest[stratum.n :]
    kept = [one for lowest in theirs.values() for _, one in lowest]
    return order(kept, seed=seed, stratum=stratum)[: stratum.n]


def _capped(tickets: list[Unit], cap: int) -> list[Unit]:
    """Walk after walk over those who still wait, each walk with a cap raised by ``cap``.

    A unit is thus taken in the walk that its rank among its practitioner's says; inside a walk tickets decide.
    """
    ranks: Counter[str] = Counter()
    walks: list[list[Unit]] = []
    for one in tickets:
        walk, ranks[one[2]] = ranks[one[2]] // cap, ranks[one[2]] + 1
        if walk == len(walks):
            walks.append([])
        walks[walk].append(one)
    return list(chain.from_iterable(walks))


def _two_stage(tickets: list[Unit], seed: bytes) -> list[Unit]:
    """Practitioners in an order of their own; each one's first, then each one's second, and so on."""
    theirs: dict[str, deque[Unit]] = {}
    for one in tickets:
        theirs.setdefault(one.practitioner, deque()).append(one)
    turn = sorted(theirs, key=lambda p: (hmac.digest(seed, _PRACTITIONER + p.encode("ascii"), "sha256"), p))
    taken = []
    while turn:
        taken += [theirs[practitioner].popleft() for practitioner in turn]
        turn = [practitioner for practitioner in turn if theirs[practitioner]]
    return taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """One case that left, why, and who follows. ``signatures``: role → Ed25519 over what ``transcript`` says."""

    stratum: str
    out: str
    reason: str
    follows: str | None = None
    signatures: Mapping[str, bytes] = field(default_factory=dict)


def following(
    walk: Sequence[Unit], *, active: Sequence[Unit], out: Unit, ever: AbstractSet[str], stratum: Stratum
) -> Unit | None:
    """Who takes the place of ``out``; None when every unit of the stratum was selected once.

    ``walk``: the stratum by ticket, or its own order for ``two_stage``. ``active``: its cases now, ``out`` among
    them. ``ever``: every unit that was selected so far.
    """
    held = Counter(one.practitioner for one in active if one.unit != out.unit)
    free = (one for one in walk if one.unit not in ever)
    if stratum.cap == 0:
        return next(free, None)
    # The first one under the cap; where there is none, under a cap raised step by step.
    return min(free, key=lambda one: held[one.practitioner] // stratum.cap, default=None)


def check_reason(reason: str, *, where: str) -> None:
    """Raises BadInput ``E_REASON`` for a reason that is not of the closed list."""
    if reason not in REASONS:
        raise faults.refused(faults.REASON, f"{where}: the reason is none of {', '.join(REASONS)}")
