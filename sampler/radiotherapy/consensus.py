"""One contour out of many: by majority, or by STAPLE, which weighs each drawer by how far the others bear him out.

Pure. Masks have one shape; (drawers, slices, rows, columns) together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sampler.radiotherapy.lattice import Mask, Points


def majority(masks: Sequence[Mask]) -> Mask:
    """What more than half of the drawers include. Raises ValueError without any."""
    if not masks:
        raise ValueError("a majority of nobody")
    most: Mask = 2 * np.asarray(masks).sum(axis=0, dtype=np.int32) > len(masks)
    return most


@dataclass(frozen=True, slots=True, kw_only=True)
class Staple:
    """The estimate: where a voxel is inside with probability 0.5 or more, and how good each drawer is.

    ``sensitivity`` and ``specificity`` are per drawer, shares of 1.
    """

    mask: Mask
    sensitivity: tuple[float, ...]
    specificity: tuple[float, ...]


def staple(masks: Sequence[Mask], *, rounds: int = 100, settled: float = 1e-7) -> Staple:
    """Simultaneous truth and performance level estimation (Warfield, Zou, Wells, IEEE TMI 2004, 23:903).

    Binary; the prior is the mean share of voxels drawn, over the smallest box that holds every drawing and one voxel
    around it, so that the image's empty rest does not count. Stops when no figure moves by ``settled``.

    Raises:
        ValueError: no mask, or nobody drew anything.
    """
    if not masks or not np.any(masks):
        raise ValueError("a consensus of nothing")
    drawn = np.any(masks, axis=0)
    box = tuple(
        slice(max(0, int(where.min()) - 1), int(where.max()) + 2) for where in np.nonzero(drawn)
    )  # one voxel around
    votes = np.array([mask[box].ravel() for mask in masks])
    prior = votes.mean()
    sensitivity = np.full(len(masks), 0.99)
    specificity = np.full(len(masks), 0.99)
    for _ in range(rounds):
        inside = _inside(votes, prior, sensitivity, specificity)
        before = np.concatenate([sensitivity, specificity])
        sensitivity = votes @ inside / inside.sum()
        specificity = (~votes) @ (1 - inside) / (1 - inside).sum()
        if np.abs(np.concatenate([sensitivity, specificity]) - before).max() < settled:
            break
    mask = np.zeros(drawn.shape, dtype=bool)
    mask[box] = (_inside(votes, prior, sensitivity, specificity) >= 0.5).reshape(drawn[box].shape)
    return Staple(mask=mask, sensitivity=tuple(sensitivity.tolist()), specificity=tuple(specificity.tolist()))


def _inside(votes: Mask, prior: float, sensitivity: Points, specificity: Points) -> Points:
    """The probability that each voxel is inside, given the votes (E-step); computed in logarithms."""
    tiny = np.finfo(float).tiny
    good, bad = np.log(np.maximum(sensitivity, tiny)), np.log(np.maximum(1 - sensitivity, tiny))
    fair, false = np.log(np.maximum(specificity, tiny)), np.log(np.maximum(1 - specificity, tiny))
    yes = np.log(prior) + good @ votes + bad @ ~votes
    no = np.log1p(-prior) + false @ votes + fair @ ~votes
    inside: Points = 1 / (1 + np.exp(np.clip(no - yes, -700, 700)))
    return inside
