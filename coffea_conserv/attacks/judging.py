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
from coffea_conserv.samples import Statistics, statistics_of
from coffea_conserv.shifts import Shift, make_shifts, shift_sums
from coffea_conserv.verdict import Contents, Limit, judge

__all__ = ("judge_groups", "measure_shifts", "measure_statistics")

Scores = NDArray[np.float32]
Column = NDArray[Any]

_ROWS = 2**14


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
    stacks = [_columns(batch, task, features) for features in (batch.x, x)]
    limits: list[Limit] = []
    for value in np.unique(batch.group[batch.group >= 0]):
        inside = batch.group == value
        columns = [[column[inside] for column in stack] for stack in stacks]
        contents = _contents(quantities, batch.weight[inside], columns)
        if contents.sum_w > 0:
            limits.extend(judge(str(value), contents, task.budget, task.features, task.watched))
            if scores is not None and (batch.weight[inside] < 0).any():
                pair = (counted(s[inside], batch.weight[inside], task.score_edges) for s in scores)
                limits.append(Limit("score", str(value), lacking(*pair), 0.0, "negative"))
    return tuple(limits)


def _columns(batch: Batch, task: Task, x: NDArray[np.float32]) -> list[Column]:
    """Features and watched quantities of all events, each of shape (events,)."""
    return [*x.T, *watched_values(batch, task, x).values()]


def measure_statistics(batch: Batch, task: Task) -> tuple[Statistics, ...]:
    """Say what the nominal sample of every group can tell."""
    columns, made = list(batch.x.T), []
    for value in np.unique(batch.group[batch.group >= 0]):
        inside = batch.group == value
        mine = [column[inside] for column in columns]
        contents = _contents(task.features, batch.weight[inside], [mine, mine])
        made.append(statistics_of(str(value), contents, task.budget, task.features))
    return tuple(made)


def measure_shifts(batch: Batch, task: Task, x: NDArray[np.float32]) -> tuple[Shift, ...]:
    """Say how far the values of every feature moved in every group."""
    made: list[Shift] = []
    for value in np.unique(batch.group[batch.group >= 0]):
        rows = np.flatnonzero(batch.group == value)
        columns = [(batch.x[rows, j], x[rows, j]) for j in range(len(task.features))]
        weight = batch.weight[rows]
        sums = shift_sums(task.features, columns, weight)
        made.extend(make_shifts(str(value), task.features, sums, float(np.abs(weight).sum())))
    return tuple(made)


def _contents(
    quantities: Sequence[Feature | Watched], weight: NDArray[np.float64], stacks: list[list[Column]]
) -> Contents:
    histograms = {}
    for j, q in enumerate(quantities):
        pair = []
        for columns in stacks:
            there = present(q, columns[j])
            index = flow_index(q.axis, columns[j][there])
            pair.append(np.bincount(index, weight[there], q.axis.extent).astype(np.float64))
        histograms[q.name] = (pair[0], pair[1])
    sums = [_sums(quantities, columns, weight) for columns in stacks]
    net, absolute, squares = (float(total.sum()) for total in (weight, np.abs(weight), weight**2))
    largest = _largest(quantities, stacks, weight)
    return Contents(histograms, sums[0], sums[1], len(weight), net, absolute, squares, largest)


def _largest(
    quantities: Sequence[Feature | Watched], stacks: list[list[Column]], weight: NDArray[np.float64]
) -> dict[str, tuple[float, float]]:
    """Largest |Δ| of features with a cap, in their unit and as a share of the nominal value."""
    pairs = zip(quantities, *stacks, strict=True)
    capped = [(q, (old, new)) for q, old, new in pairs if isinstance(q, Feature) and q.capped]
    _, largest = shift_sums([q for q, _ in capped], [columns for _, columns in capped], weight)
    return {q.name: (float(row[0]), float(row[1])) for (q, _), row in zip(capped, largest, strict=True)}


def _sums(
    quantities: Sequence[Feature | Watched], columns: list[Column], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Moments about the centres of the axes; only some rows at a time are in double precision."""
    origin, unit = np.array([scale(q.axis) for q in quantities]).T
    total = np.zeros((4, len(quantities), len(quantities)))
    for first in range(0, len(weight), _ROWS):
        part = slice(first, first + _ROWS)
        some = [column[part] for column in columns]
        there = np.stack([present(q, column) for q, column in zip(quantities, some, strict=True)], axis=1)
        values = np.where(there, np.stack(some, axis=1), origin)
        total += pair_sums((values - origin) / unit, there, weight[part])
    return total
