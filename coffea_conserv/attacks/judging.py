"""The judge of a batch: every limit in every group, on the features that are returned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.attacks.batch import Batch, ScorePair
from coffea_conserv.attacks.functions import watched_values
from coffea_conserv.attacks.negative_weights import lacking, score_bins
from coffea_conserv.attacks.task import Task
from coffea_conserv.features.binning import flow_index, scale
from coffea_conserv.features.feature import Feature, Watched, present
from coffea_conserv.group import Group
from coffea_conserv.limits.displacement import Moves, Pair, Shift, grouped_sums, make_shifts
from coffea_conserv.limits.judge import judge_many
from coffea_conserv.limits.measures import pair_sums
from coffea_conserv.limits.statistics import Statistics, statistics_of
from coffea_conserv.limits.verdict import REASONS, Contents, Limit, Unattacked

__all__ = ("judge_groups", "list_unattacked", "measure_shifts", "measure_statistics")

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Column = NDArray[Any]
Quantities = Sequence[Feature | Watched]

_ROWS = 2**14


@dataclass(frozen=True)
class _Grouped:
    """Events in groups, one group after the other: looked at all together, however many groups there are.

    Parameters
    ----------
    names
        The groups.
    rows
        Places of the events in the batch, shape (events,).
    group
        Their groups, from 0 and rising, same shape.
    first
        Where each group begins, and the end, shape (groups + 1,).
    weight
        Shape (events,).
    """

    names: tuple[Group, ...]
    rows: Integers
    group: Integers
    first: Integers
    weight: Floats

    @classmethod
    def of(cls, batch: Batch) -> _Grouped:
        """Sort the events of a batch once."""
        inside = np.flatnonzero(batch.group >= 0)
        rows = inside[np.argsort(batch.group[inside], kind="stable")]
        names, first, group = np.unique(batch.group[rows], return_index=True, return_inverse=True)
        ends = np.append(first, len(rows)).astype(np.int64)
        weight = batch.weight[rows]
        numbers = tuple(Group(str(name)) for name in names.tolist())
        return cls(numbers, rows, group.reshape(-1).astype(np.int64), ends, weight)

    def sums(self, value: Floats) -> Floats:
        """Sums of each group of something that each event has, shape (groups,)."""
        return np.bincount(self.group, value, len(self.names)).astype(np.float64)

    def histograms(
        self, index: Integers, bins: int, *, weight: Floats | None = None, group: Integers | None = None
    ) -> Floats:
        """Histograms of each group from bins of events, of all of them or of some with their groups."""
        weight = self.weight if weight is None else weight
        group = self.group if group is None else group
        content = np.bincount(group * bins + index, weight, len(self.names) * bins)
        return content.astype(np.float64).reshape(-1, bins)

    def parts(self) -> Iterator[tuple[slice, list[tuple[int, slice]]]]:
        """Some events at a time, and which of them belong to which group."""
        for begin in range(0, len(self.rows), _ROWS):
            end = min(begin + _ROWS, len(self.rows))
            low, high = int(self.group[begin]), int(self.group[end - 1])
            edges = np.clip(self.first[low : high + 2], begin, end) - begin
            own = [(low + k, slice(a, b)) for k, (a, b) in enumerate(pairwise(edges))]
            yield slice(begin, end), own


def judge_groups(
    batch: Batch, task: Task, x: NDArray[np.float32], scores: ScorePair | None = None
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
    grouped = _Grouped.of(batch)
    quantities: Quantities = (*task.features, *task.watched)
    stacks = [_columns(batch, task, features) for features in (batch.x, x)]
    contents = _contents(quantities, grouped, stacks)
    judged = {name: own for name, own in contents.items() if own.sum_w > 0}
    limits = judge_many(judged, task.budget, task.features, task.watched)
    if scores is None or not limits:
        return limits
    below, each = _below(grouped, task, scores), len(limits) // len(judged)
    found: list[Limit] = []
    for place, name in enumerate(judged):
        found.extend(limits[place * each : (place + 1) * each])
        if name in below:
            found.append(Limit("score", name, below[name], 0.0, "negative"))
    return tuple(found)


def _below(grouped: _Grouped, task: Task, scores: ScorePair) -> dict[Group, float]:
    """What bins of the score lack, in groups with negative weights and a positive sum of them."""
    bins = len(task.score_edges) - 1
    index = [score_bins(score[grouped.rows], task.score_edges) for score in scores]
    before, after = (grouped.histograms(i, bins) for i in index)
    signed = (grouped.sums((grouped.weight < 0).astype(np.float64)) > 0) & (grouped.sums(grouped.weight) > 0)
    return {grouped.names[g]: lacking(before[g], after[g]) for g in np.flatnonzero(signed).tolist()}


def _columns(batch: Batch, task: Task, x: NDArray[np.float32]) -> list[Column]:
    """Features and watched quantities of all events, each of shape (events,)."""
    return [*x.T, *watched_values(batch, task, x).values()]


def measure_statistics(batch: Batch, task: Task) -> tuple[Statistics, ...]:
    """Say what the nominal sample of every group can tell."""
    contents = _contents(task.features, _Grouped.of(batch), [list(batch.x.T)])
    return statistics_of(contents, task.budget, task.features)


def list_unattacked(batch: Batch, reason: NDArray[np.int8]) -> tuple[Unattacked, ...]:
    """Groups of which some events stayed nominal, and why."""
    grouped = _Grouped.of(batch)
    size, why = np.abs(grouped.weight), reason[grouped.rows]
    total = grouped.sums(size)
    events = grouped.sums((why > 0).astype(np.float64))
    parts = [grouped.sums(size * (why == k)) for k in range(1, len(REASONS) + 1)]
    return tuple(
        Unattacked(name, int(events[g]), *_shares([part[g] for part in parts], total[g]))
        for g, name in enumerate(grouped.names)
        if events[g]
    )


def _shares(parts: Sequence[float], total: float) -> tuple[float, dict[str, float]]:
    """Share of a total that some parts have together, and each of them by its reason."""
    shares = [float(part / total) if total > 0 else 0.0 for part in parts]
    return sum(shares), dict(zip(REASONS, shares, strict=True))


def measure_shifts(batch: Batch, task: Task, x: NDArray[np.float32]) -> tuple[Shift, ...]:
    """Say how far the values of every feature moved in every group."""
    grouped = _Grouped.of(batch)
    pairs = (Pair(batch.x[grouped.rows, j], x[grouped.rows, j]) for j in range(len(task.features)))
    count = len(grouped.names)
    sums, largest = grouped_sums(task.features, pairs, grouped.weight, grouped.group, count)
    total = grouped.sums(np.abs(grouped.weight)).tolist()
    made: list[Shift] = []
    for g, name in enumerate(grouped.names):
        made.extend(make_shifts(name, task.features, Moves(sums[g], largest[g]), total[g]))
    return tuple(made)


def _contents(quantities: Quantities, grouped: _Grouped, stacks: list[list[Column]]) -> dict[Group, Contents]:
    """What the judge needs of each group; one stack of columns is nominal and attacked."""
    histograms = {}
    for j, q in enumerate(quantities):
        pair = [_histogram(q, grouped, columns[j]) for columns in stacks]
        histograms[q.name] = (pair[0], pair[-1])
    moments = [_moments(quantities, grouped, columns) for columns in stacks]
    weight = grouped.weight
    parts = (np.ones(len(weight)), weight, np.abs(weight), weight**2)
    events, net, absolute, squares = (grouped.sums(part).tolist() for part in parts)
    largest = _largest(quantities, grouped, stacks)
    made = {}
    for g, name in enumerate(grouped.names):
        own = {quantity: (before[g], after[g]) for quantity, (before, after) in histograms.items()}
        farthest = {quantity: (float(row[g, 0]), float(row[g, 1])) for quantity, row in largest.items()}
        sizes = events[g], net[g], absolute[g], squares[g]
        made[name] = Contents(own, moments[0][g], moments[-1][g], *sizes, farthest)
    return made


def _histogram(quantity: Feature | Watched, grouped: _Grouped, column: Column) -> Floats:
    """Sums of weights in the bins of each group, shape (groups, bins)."""
    values = column[grouped.rows]
    there = present(quantity, values)
    index = flow_index(quantity.axis, values[there])
    weight, group = grouped.weight[there], grouped.group[there]
    return grouped.histograms(index, quantity.axis.extent, weight=weight, group=group)


def _largest(quantities: Quantities, grouped: _Grouped, stacks: list[list[Column]]) -> dict[str, Floats]:
    """Largest |Δ| of features with a cap, in their unit and as a share of the value, shape (groups, 2)."""
    capped = [(j, q) for j, q in enumerate(quantities) if isinstance(q, Feature) and q.capped]
    pairs = (Pair(stacks[0][j][grouped.rows], stacks[-1][j][grouped.rows]) for j, _ in capped)
    count = len(grouped.names)
    _, largest = grouped_sums([q for _, q in capped], pairs, grouped.weight, grouped.group, count)
    return {q.name: largest[:, place] for place, (_, q) in enumerate(capped)}


def _moments(quantities: Quantities, grouped: _Grouped, columns: list[Column]) -> Floats:
    """Moments about the centres of the axes; only some rows at a time are in double precision."""
    origin, unit = np.array([scale(q.axis) for q in quantities]).T
    total = np.zeros((len(grouped.names), 4, len(quantities), len(quantities)))
    for part, groups in grouped.parts():
        some = [column[grouped.rows[part]] for column in columns]
        there = np.stack([present(q, column) for q, column in zip(quantities, some, strict=True)], axis=1)
        values = (np.where(there, np.stack(some, axis=1), origin) - origin) / unit
        weight = grouped.weight[part]
        for g, own in groups:
            total[g] += pair_sums(values[own], there[own], weight[own])
    return total
