"""Weights of both signs: each is attacked by itself, and the net score must not fall below zero.

A template is the difference of two histograms. Where the events of positive weight leave a bin of the score
and those of negative weight do not, the difference is negative: no process looks like that, and no fit can
use it. The events of negative weight move first. Those of positive weight, which are more, then have to leave
enough in every bin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.attacks.batch import Batch

__all__ = ("by_sign", "counted", "floors", "lacking", "parts")

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_FOLLOW = 0.5
"""Share of the usual ratio of positive to negative weight that is aimed at in a bin. With 1 both signs would
have to move alike; with 0 a bin could be emptied to nothing, and merged chunks fluctuate below."""

_ROUNDING = 1e-9
"""Negative content, in units of the net sum, that is rounding."""


def by_sign(group: Integers, weight: Floats) -> Integers:
    """Groups split by the sign of the weight: even for positive ones, −1 for events in none."""
    return np.asarray(np.where(group >= 0, group * 2 + (weight < 0), -1), dtype=np.int64)


def parts(code: Integers) -> list[Integers]:
    """Groups to be attacked one after the other, numbered 0 … n − 1; −1 for all others.

    Parameters
    ----------
    code
        Groups by sign, −1 if not attacked, shape (events,).

    Returns
    -------
    list
        Groups of negative weight, if there are any, then those of positive weight.
    """
    found = []
    for sign in (1, 0):
        inside = (code >= 0) & (code % 2 == sign)
        if inside.any():
            part = np.full(len(code), -1, dtype=np.int64)
            part[inside] = np.unique(code[inside], return_inverse=True)[1].reshape(-1)
            found.append(part)
    return found


def counted(score: NDArray[np.float32], weight: Floats, edges: Floats) -> Floats:
    """Sums of weights in the bins of the score, shape (bins,)."""
    index = np.searchsorted(edges, score.astype(np.float64), side="right") - 1
    last = len(edges) - 2
    return np.bincount(np.clip(index, 0, last), weight, last + 1).astype(np.float64)


def floors(
    batch: Batch, part: Integers, scores: tuple[NDArray[np.float32], NDArray[np.float32]], edges: Floats
) -> Floats | None:
    """Content that groups of positive weight must keep in the bins of the score.

    Parameters
    ----------
    batch
        Nominal events.
    part
        Groups of positive weight, −1 for all other events.
    scores
        Nominal, and after events of negative weight have moved; shape (events,) each.
    edges
        Bins of the score.

    Returns
    -------
    array or None
        What must stay, and what is aimed at, shape (groups, 2, bins); ``None`` without negative weights. A
        bin that is below zero to begin with may stay so.
    """
    negative = batch.weight < 0
    if not (negative & (batch.group >= 0)).any():
        return None
    found = np.zeros((int(part.max()) + 1, 2, len(edges) - 1))
    atoms = batch.group[np.unique(part, return_index=True)[1][int(part.min() < 0) :]]
    for floor, atom in zip(found, atoms, strict=True):
        mine, other = (batch.group == atom) & ~negative, (batch.group == atom) & negative
        there = counted(scores[0][mine], batch.weight[mine], edges)
        before, after = (counted(s[other], -batch.weight[other], edges) for s in scores)
        ratio = batch.weight[mine].sum() / max(before.sum(), 1e-300)
        for row, follow in zip(floor, (1.0, 1 + _FOLLOW * (min(ratio, 1e6) - 1)), strict=True):
            row[:] = np.maximum(follow * after - np.maximum(follow * before - there, 0), 0)
        floor[1] = floor.max(axis=0)
    return found


def lacking(nominal: Floats, attacked: Floats) -> float:
    """Content below zero, beyond what is so nominally, in units of the net sum.

    Examples
    --------
    >>> import numpy as np
    >>> round(lacking(np.array([5.0, -1.0, 6.0]), np.array([-2.0, -1.0, 13.0])), 6)
    0.2
    """
    share = float(np.maximum(np.minimum(nominal, 0) - attacked, 0).sum() / nominal.sum())
    return share if share > _ROUNDING else 0.0
