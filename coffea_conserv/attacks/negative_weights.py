"""Weights of both signs: each is attacked by itself, and the net score must not fall below zero.

A template is the difference of two histograms. Where the events of positive weight leave a bin of the score
and those of negative weight do not, the difference is negative: no process looks like that, and no fit can
use it. The events of negative weight move first. Those of positive weight, which are more, then have to leave
enough in every bin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.attacks.batch import Batch, ScorePair

__all__ = ("by_sign", "floors", "lacking", "parts", "score_bins")

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


def score_bins(score: NDArray[np.float32], edges: Floats) -> Integers:
    """Bin of the score of each event, shape (events,)."""
    index = np.searchsorted(edges, score.astype(np.float64), side="right") - 1
    return np.clip(index, 0, len(edges) - 2).astype(np.int64)


def floors(batch: Batch, part: Integers, scores: ScorePair, edges: Floats) -> Floats | None:
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
    groups, bins = int(part.max()) + 1, len(edges) - 1
    some = np.unique(part, return_index=True)[1][int(part.min() < 0) :]
    place = np.full(int(batch.group.max()) + 1, -1, dtype=np.int64)  # of the groups of the batch in the part
    place[batch.group[some]] = np.arange(groups)
    group = np.where(batch.group >= 0, place[batch.group], -1)

    def content(score: NDArray[np.float32], sign: int) -> Floats:
        rows = np.flatnonzero((group >= 0) & (negative == (sign < 0)))
        index = group[rows] * bins + score_bins(score[rows], edges)
        found = np.bincount(index, sign * batch.weight[rows], groups * bins).astype(np.float64)
        return found.reshape(groups, bins)

    there, before, after = (
        content(scores.nominal, 1),
        content(scores.nominal, -1),
        content(scores.attacked, -1),
    )
    ratio = there.sum(axis=1) / np.maximum(before.sum(axis=1), 1e-300)
    found = np.zeros((groups, 2, bins))
    for row, follow in enumerate((np.ones(groups), 1 + _FOLLOW * (np.minimum(ratio, 1e6) - 1))):
        more = follow[:, None]
        found[:, row] = np.maximum(more * after - np.maximum(more * before - there, 0), 0)
    found[:, 1] = found.max(axis=1)
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
