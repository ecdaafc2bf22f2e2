"""The judge of a batch: every limit in every group, on the features that are returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.attacks.batch import Batch, Task, watched_values
from coffea_conserv.attacks.signs import counted, lacking
from coffea_conserv.features import Feature, Watched, flow_index, present, scale
from coffea_conserv.measures import pair_sums
from coffea_conserv.verdict import Contents, Limit, judge

__all__ = ("judge_groups",)

Scores = NDArray[np.float32]


def _standard(
    quantities: Sequence[Feature | Watched], x: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Columns about the centre of their axes, and which values are there."""
    there = np.stack([present(q, x[:, j]) for j, q in enumerate(quantities)], axis=1)
    origin, unit = np.array([scale(q.axis) for q in quantities]).T
    return (np.where(there, x, origin) - origin) / unit, there


def judge_groups(
    batch: Batch, task: Task, x: NDArray[np.float32], scores: tuple[Scores, Scores] | None = None
) -> tuple[Limit, ...]:
    """Judge attacked features against the budget in every group, in double precision.

    Parameters
    ----------
    batch, task
        Nominal events and settings. Groups are those of the batch, both signs of the weight together.
    x
        Attacked features, shape (events, features).
    scores
        Nominal and attacked scores, shape (events,) each. Where they are given, no bin of the score may fall
        below zero in groups with weights of both signs.
    """
    quantities: tuple[Feature | Watched, ...] = (*task.features, *task.watched)
    stacks = []
    for features in (batch.x, x):
        watched = watched_values(batch, task, features) if task.watched else {}
        stacks.append(np.column_stack([features, *watched.values()]).astype(np.float64))
    limits: list[Limit] = []
    for value in np.unique(batch.group[batch.group >= 0]):
        inside = batch.group == value
        contents = _contents(quantities, batch.weight[inside], [stack[inside] for stack in stacks])
        if contents.sum_w > 0:
            limits.extend(judge(str(value), contents, task.budget, task.features, task.watched))
            if scores is not None and (batch.weight[inside] < 0).any():
                pair = (counted(s[inside], batch.weight[inside], task.score_edges) for s in scores)
                limits.append(Limit("score", str(value), lacking(*pair), 0.0, "negative"))
    return tuple(limits)


def _contents(
    quantities: Sequence[Feature | Watched], weight: NDArray[np.float64], stacks: list[NDArray[np.float64]]
) -> Contents:
    histograms = {}
    for j, q in enumerate(quantities):
        pair = []
        for stack in stacks:
            there = present(q, stack[:, j].astype(np.float32))
            index = flow_index(q.axis, stack[there, j])
            pair.append(np.bincount(index, weight[there], q.axis.extent).astype(np.float64))
        histograms[q.name] = (pair[0], pair[1])
    sums = [pair_sums(*_standard(quantities, stack), weight) for stack in stacks]
    total = (weight.sum(), np.abs(weight).sum(), (weight**2).sum())
    return Contents(histograms, sums[0], sums[1], len(weight), *(float(value) for value in total))
