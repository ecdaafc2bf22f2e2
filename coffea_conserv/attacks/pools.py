"""Attacked events of a batch in the order of the solver's problem: groups, and pools that may exchange."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.attacks.batch import Batch
from coffea_conserv.attacks.task import Task
from coffea_conserv.features.binning import flow_index
from coffea_conserv.features.feature import present

__all__ = ("PooledSample", "may_copy")

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

MOST_STRATA = 100
SMALLEST_STRATUM = 50


def may_copy(task: Task) -> bool:
    """Whether some marginal may change."""
    return any(task.budget.marginal(f.name) > 0 for f in task.features if not f.frozen)


@dataclass(frozen=True)
class PooledSample:
    """Attacked events of a batch in the order of the problem.

    Parameters
    ----------
    rows
        Their index in the batch.
    there
        Which features are present, shape (events, features).
    group, pool
        Both ascend.
    relative
        |weight| in units of its mean in the group.
    average
        Mean |weight| of each group.
    even
        Whether all weights of every pool are equal.
    """

    rows: Integers
    there: Booleans
    group: Integers
    pool: Integers
    relative: Floats
    average: Floats
    even: bool

    @staticmethod
    def make(batch: Batch, task: Task, group: Integers, movable: Booleans) -> PooledSample:
        """Sort the events of groups that are not −1; immovable events have pools of their own."""
        there = np.stack([present(f, batch.x[:, j]) for j, f in enumerate(task.features)], axis=1)
        pool = _pools(batch, group, there, movable)
        rows = np.flatnonzero(group >= 0)
        rows = rows[np.argsort(pool[rows], kind="stable")]
        weight = np.abs(batch.weight[rows])
        average = np.bincount(group[rows], weight) / np.bincount(group[rows])
        pool = np.unique(pool[rows], return_inverse=True)[1].reshape(-1).astype(np.int64)
        low, high = np.full(pool[-1] + 1, np.inf), np.zeros(pool[-1] + 1)
        np.minimum.at(low, pool, weight)
        np.maximum.at(high, pool, weight)
        even = bool(np.all(high <= low * (1 + 1e-6)))
        return PooledSample(
            rows, there[rows], group[rows], pool, weight / average[group[rows]], average, even
        )

    def marginals(self, task: Task) -> list[int]:
        """Features whose marginal can change, so that it needs a table."""
        if self.even and not may_copy(task):
            return []
        return [j for j, feature in enumerate(task.features) if not feature.frozen]

    def bins(self, batch: Batch, task: Task) -> Iterator[Integers]:
        """Bins of these features, −1 where missing, shape (events,) each."""
        for j in self.marginals(task):
            index = np.full(len(self.rows), -1, dtype=np.int64)
            there = self.there[:, j]
            index[there] = flow_index(task.features[j].axis, batch.x[self.rows[there], j])
            yield index


def _pools(batch: Batch, group: Integers, there: Booleans, movable: Booleans) -> Integers:
    """Events of one group, weight stratum and pattern of missing values; the immovable ones apart.

    Pools ascend with the group.
    """
    pattern = np.zeros(len(group), dtype=np.int64)
    for column in (*there.T, movable):
        if not column.all() and column.any():
            pattern = _codes(pattern * 2 + column)
    stratum = np.zeros(len(group), dtype=np.int64)
    for inside in _members(group):
        stratum[inside] = _strata(np.abs(batch.weight[inside]))
    return _codes((group * (int(pattern.max()) + 1) + pattern) * (int(stratum.max()) + 1) + stratum)


def _codes(keys: Integers) -> Integers:
    """Numbers 0 … n − 1 for integers, in their order."""
    return np.asarray(np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64))


def _members(group: Integers) -> list[Integers]:
    """Indices of the events of each group that is not −1, by one sort instead of a search for each."""
    order = np.argsort(group, kind="stable")
    order = order[np.searchsorted(group[order], 0) :]
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(order) else []


def _strata(weight: Floats) -> Integers:
    """Strata of nearly equal weight: one per value where there are few values, else quantiles."""
    if weight.max() <= weight.min() * (1 + 1e-9):  # the usual case needs no sort
        return np.zeros(len(weight), dtype=np.int64)
    values, index = np.unique(np.round(weight / weight.mean(), 6), return_inverse=True)
    if len(values) <= MOST_STRATA:
        return np.asarray(index.reshape(-1).astype(np.int64))
    count = int(np.clip(len(weight) // SMALLEST_STRATUM, 1, MOST_STRATA))
    order = np.empty(len(weight), dtype=np.int64)
    order[np.argsort(weight, kind="stable")] = np.arange(len(weight))
    return order * count // len(weight)
