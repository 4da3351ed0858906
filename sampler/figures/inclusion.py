"""How probable it was that a case was drawn (peer audit §6.5).

Invariants:

* the probabilities of a stratum add up to its number of drawn cases;
* ``cap`` holds for a cap of 1 that was never raised; for any other ``replayed`` counts, and says how unsure it is;
* of two cases of one practitioner neither was likelier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from security.errors import BadInput

REPLAYS = 20_000
_STEP = 0.05
_BATCH = 1 << 20  # tickets drawn at once: 8 MiB each array


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion:
    """By practitioner, in the order asked: the probability of one case of theirs. ``simulation_error``: the standard
    error of it, 0 where it was computed."""

    case: tuple[float, ...]
    simulation_error: tuple[float, ...]


def plain(size: int, n: int) -> Fraction:
    """The probability of each of N units when n are drawn plainly."""
    _checked([size], n)
    return Fraction(n, size)


def cap(sizes: Sequence[int], n: int) -> Inclusion:
    """Cases drawn one for each practitioner, in the order of their lowest tickets.

    Practitioners then appear as in successive sampling proportional to their number of cases:
    π = ∫ N e^(−Nt) P(at most n−1 others before t) dt, by the trapezoid rule over ln t, which converges geometrically
    here (to ten digits of the exact integral of the polynomial, which a test has).

    Raises:
        BadInput: ``bad-inclusion``; ``cap-raised`` n above the number of practitioners.
    """
    _checked(sizes, n)
    if n > len(sizes):
        raise BadInput(
            f"{n} cases of {len(sizes)} practitioners: the cap of one was raised",
            code="cap-raised",
            hint="compute the probabilities by replays",
        )
    logs = np.arange(np.log(1e-14 / max(sizes)), np.log(60 / min(sizes)), _STEP)
    at = np.exp(logs)
    nobody = np.zeros((n, at.size))  # P(exactly k others before t), k < n
    nobody[0] = 1.0
    by_size = dict(_practitioners(sorted(Counter(sizes).items()), nobody, at))
    return Inclusion(case=tuple(by_size[size] / size for size in sizes), simulation_error=(0.0,) * len(sizes))


def _practitioners(
    group: list[tuple[int, int]], earlier: NDArray[np.float64], at: NDArray[np.float64]
) -> Iterator[tuple[int, float]]:
    """The π of a practitioner of each size of ``group`` (size, how many); ``earlier``: of everybody outside of it.

    Each half is done with the other one counted in: every practitioner is multiplied log2(sizes) times, not once for
    each size."""
    if len(group) == 1:
        size, many = group[0]
        others = _with(earlier, [(size, many - 1)], at)
        density = size * at * np.exp(-size * at) * others.sum(axis=0)
        yield size, min(1.0, float(density.sum()) * _STEP)
        return
    half = len(group) // 2
    for mine, theirs in ((group[:half], group[half:]), (group[half:], group[:half])):
        yield from _practitioners(mine, _with(earlier, theirs, at), at)


def _with(earlier: NDArray[np.float64], group: list[tuple[int, int]], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same with a group counted in (Poisson-binomial recursion)."""
    counted = earlier.copy()
    for size, many in group:
        came = -np.expm1(-size * at)
        for _ in range(many):
            counted[1:] = counted[1:] * (1 - came) + counted[:-1] * came
            counted[0] *= 1 - came
    return counted


def two_stage(sizes: Sequence[int], n: int) -> Inclusion:
    """Practitioners drawn plainly, then a case of each: n/P/N_p.

    Raises:
        BadInput: ``bad-inclusion``; ``cap-raised`` n above the number of practitioners.
    """
    _checked(sizes, n)
    if n > len(sizes):
        raise BadInput(
            f"{n} cases of {len(sizes)} practitioners: a second round was needed",
            code="cap-raised",
            hint="compute the probabilities by replays",
        )
    return Inclusion(case=tuple(n / len(sizes) / size for size in sizes), simulation_error=(0.0,) * len(sizes))


def replayed(
    sizes: Sequence[int], n: int, *, limit: int, is_two_stage: bool = False, replays: int = REPLAYS, seed: int = 1
) -> Inclusion:
    """The probabilities by drawing again with other seeds: ``limit`` cases of a practitioner in each round.

    Raises:
        BadInput: ``bad-inclusion``.
    """
    _checked(sizes, n)
    if limit < 1 or replays < 2:
        raise BadInput(f"cap {limit}, {replays} replays", code="bad-inclusion", hint="a cap of 1 or more, 2 replays")
    owner = np.repeat(np.arange(len(sizes)), sizes)
    start = np.repeat(np.cumsum(sizes) - np.asarray(sizes), sizes)
    generator = np.random.Generator(np.random.PCG64(seed))
    total, squares = np.zeros(len(sizes)), np.zeros(len(sizes))
    left = replays
    while left:
        many = min(left, max(1, _BATCH // owner.size))
        drawn = _draws(generator, owner, start, n, limit=limit, is_two_stage=is_two_stage, many=many)
        total += drawn.sum(axis=0)
        squares += (drawn.astype(np.float64) ** 2).sum(axis=0)
        left -= many
    mean = total / replays
    error = np.sqrt(np.maximum(squares / replays - mean**2, 0) / (replays - 1))
    return Inclusion(
        case=tuple((mean / sizes).tolist()), simulation_error=tuple((error / np.asarray(sizes)).tolist())
    )


def _draws(
    generator: np.random.Generator,
    owner: NDArray[np.int64],
    start: NDArray[np.int64],
    n: int,
    *,
    limit: int,
    is_two_stage: bool,
    many: int,
) -> NDArray[np.int64]:
    """How many cases of each practitioner each of ``many`` draws takes.

    Walking the order and raising the cap is sorting by (round, ticket): a practitioner's k-th ticket is of round
    (k−1)//cap; in two stages the practitioner's own ticket stands in place of the case's."""
    tickets = generator.random((many, owner.size))
    by_owner = np.lexsort((tickets, np.broadcast_to(owner, tickets.shape)), axis=-1)
    tickets = np.take_along_axis(tickets, by_owner, axis=-1)  # each practitioner's tickets, rising
    rounds = (np.arange(owner.size) - start) // (1 if is_two_stage else limit)
    if is_two_stage:
        tickets = generator.random((many, int(owner[-1]) + 1))[:, owner]
    order = np.lexsort((tickets, np.broadcast_to(rounds, tickets.shape)), axis=-1)[:, :n]
    practitioners = int(owner[-1]) + 1
    flat = owner[order] + practitioners * np.arange(many)[:, None]
    return np.bincount(flat.ravel(), minlength=many * practitioners).reshape(many, practitioners)


def _checked(sizes: Sequence[int], n: int) -> None:
    if not sizes or min(sizes) < 1 or not 1 <= n <= sum(sizes):
        raise BadInput(
            f"{n} cases of {len(sizes)} practitioners",
            code="bad-inclusion",
            hint="1 ≤ n ≤ the stratum's size, and no practitioner without a case",
        )
