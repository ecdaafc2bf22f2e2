"""Problem of a solver: events, groups, limits and the model, as tensors on one device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.features.binning import flow_index
from coffea_conserv.features.feature import Feature
from coffea_conserv.features.working_point import logit_of
from coffea_conserv.solvers.caps import Reach
from coffea_conserv.solvers.constraints import Limits, Totals

__all__ = ("Objective", "Problem", "centre", "recount", "standard", "sum_moments")

Evaluate = Callable[[Tensor, Tensor], Tensor]
Floats = NDArray[np.float64]


_ROWS = 2**14


class Locate(Protocol):
    """Bins of candidates in the limited tables."""

    def tables(self, feature: Tensor) -> Tensor:
        """Tables in which something changes with features of shape (pairs, members), (pairs, columns)."""

    def derived(self, x: Tensor, logit: Tensor, event: Tensor) -> Tensor:
        """Bins in the last of these columns, for candidates of given events, (candidates, derived)."""


@dataclass(frozen=True)
class Objective:
    """What is made as large as possible: the weighted mean of the gain over all events.

    Parameters
    ----------
    kind
        ``score``: the score itself; ``cross``: crossing the working point.
    sign
        +1 toward signal, −1 toward background.
    offsets
        Logits of the working points. With several an event gains the share of them that it has crossed.
    """

    kind: str
    sign: float
    offsets: tuple[float, ...]

    @staticmethod
    def make(kind: str, direction: str, points: Sequence[float]) -> Objective:
        """Objective of a direction, with working points as scores."""
        offsets = tuple(logit_of(point) for point in points)
        return Objective(kind, 1.0 if direction == "signal" else -1.0, offsets)

    @property
    def last(self) -> float:
        """Logit of the working point that an event crosses last."""
        return max(self.offsets) if self.sign > 0 else min(self.offsets)

    def gain(self, logit: Tensor, slope: float) -> Tensor:
        """Gain per event, in 0 … 1.

        For crossings it falls off exponentially before the working point and is flat behind it: an event that
        is deep on the other side has wasted values that others need.
        """
        if self.kind == "score":
            return torch.sigmoid(self.sign * logit)
        return _mean([torch.exp((slope * self.sign * (logit - at)).clamp(max=0)) for at in self.offsets])

    def value(self, logit: Tensor) -> Tensor:
        """Count what the iterate is ranked by: the score, or the share of working points that are crossed."""
        if self.kind == "score":
            return torch.sigmoid(self.sign * logit)
        return _mean([(self.sign * (logit - at) > 0).to(logit.dtype) for at in self.offsets])


def _mean(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts).mean(0)


@dataclass(frozen=True)
class Problem:
    """Events sorted by group and pool, and what limits them.

    Exchanges happen inside a *pool*: events of one group, of nearly equal weight, with the same values
    missing and the same values free, so that an exchange conserves every marginal.

    Parameters
    ----------
    x
        Nominal features, shape (events, features), float32.
    there
        Which values are present, shape (events, features).
    free
        Which values may move, same shape.
    weight
        Absolute weights in units of their mean in the group, shape (events,), float64.
    group, pool
        Index per event; both ascend.
    mean, spread
        Of the present values of each group, shape (groups, features), float64.
    logit
        Model: ``logit(x, event) -> (events,)`` for candidates of the events with the given index.
    valid
        Which candidates are possible events, same call; ``None`` if all are.
    cells
        Bins of the limited tables, shape (events, tables); the last bin means "not there".
    locate
        Finds tables in which a feature is counted, and bins of what is derived from it.
    block
        Features that move together, as by :func:`coffea_conserv.features.feature.blocks`, shape (features,
        members).
    table
        Table of the marginal of each feature, −1 where there is none, shape (features,).
    limits, totals
        What must be kept, and the nominal sums.
    copies
        Whether marginals may change, so that values can be copied as well as exchanged.
    exact
        Whether exchanges keep every sum of a single feature: all weights of a pool are equal, no copies.
    objective
        What is made large.
    features
        Declarations of the columns, with the axes that bin new values.
    held
        Features whose marginal must stay exactly as it is, shape (features,).
    reach
        How far values may go, and what that costs; ``None`` if far and for nothing.
    gradient
        Whether the model has one.
    """

    x: Tensor
    there: Tensor
    free: Tensor
    weight: Tensor
    group: Tensor
    pool: Tensor
    mean: Tensor
    spread: Tensor
    logit: Evaluate
    valid: Evaluate | None
    cells: Tensor
    locate: Locate
    block: Tensor
    table: Tensor
    limits: Limits
    totals: Totals
    copies: bool
    exact: bool
    objective: Objective
    features: tuple[Feature, ...]
    held: Tensor
    reach: Reach | None = None
    gradient: bool = True

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.limits.total)

    @functools.cached_property
    def complete(self) -> bool:
        """Whether no value is missing."""
        return bool(self.there.all())


def standard(x: Tensor, there: Tensor, mean: Tensor, spread: Tensor, group: Tensor) -> Tensor:
    """Features in units of the spread of their group, 0 where missing, float32.

    Parameters
    ----------
    x, there
        Features, and which are present, shape (events, features).
    mean, spread
        Of the groups, shape (groups, features), float64.
    group
        Shape (events,).
    """
    z = torch.empty_like(x)
    for part in _parts(len(x)):
        of = group[part]
        # not a product with the mask: a missing value may be NaN
        z[part] = torch.where(there[part], (x[part].double() - mean[of]) / spread[of], 0.0).float()
    return z


def _parts(count: int) -> list[slice]:
    """Rows that are in double precision at a time, so that the sample need not be."""
    return [slice(first, first + _ROWS) for first in range(0, count, _ROWS)]


def sum_moments(z: Tensor, there: Tensor, weight: Tensor, group: Tensor) -> list[Tensor]:
    """Four sums of each group as in :func:`coffea_conserv.limits.measures.pair_sums`, (groups, d, d) each."""
    count = torch.bincount(group).tolist()
    sums = []
    for members in zip(*(torch.split(tensor, count) for tensor in (z, there, weight)), strict=True):
        parts = [_moments(*(tensor[part] for tensor in members)) for part in _parts(len(members[0]))]
        sums.append(torch.stack(parts).sum(0))
    return list(torch.stack(sums, dim=1).unbind(0))


def _moments(z: Tensor, there: Tensor, weight: Tensor) -> Tensor:
    values, present = z.double(), there.double()
    weighted, heavy = weight[:, None] * present, weight[:, None] * values
    mixed = (present.T @ weighted, values.T @ weighted, (values * values).T @ weighted, values.T @ heavy)
    return torch.stack(mixed)


def centre(
    x: NDArray[Any], there: NDArray[np.bool_], weight: Floats, group: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Weighted mean and spread of the present values of each group, shape (groups, features).

    A feature without spread has spread 1.
    """
    groups, d = int(group.max()) + 1, x.shape[1]
    mean, spread = np.zeros((groups, d)), np.ones((groups, d))
    for j in range(d):
        m = there[:, j]
        total = np.maximum(np.bincount(group[m], weight[m], groups), 1e-300)
        values = x[m, j].astype(np.float64)
        mean[:, j] = np.bincount(group[m], weight[m] * values, groups) / total
        square = np.bincount(group[m], weight[m] * (values - mean[group[m], j]) ** 2, groups) / total
        scale = np.maximum(mean[:, j] ** 2, 1e-300)
        spread[:, j] = np.sqrt(np.where(square > 1e-12 * scale, square, 1.0))
    return mean, spread


def recount(problem: Problem, x: Tensor, logit: Tensor) -> Totals:
    """Sums over events with given features, as the limits see them.

    Parameters
    ----------
    problem
        Whose events.
    x, logit
        Features and their logits, shape (events, features) and (events,).

    Returns
    -------
    Totals
        Equal to ``problem.totals`` for the nominal events.
    """
    z = standard(x, problem.there, problem.mean, problem.spread, problem.group)
    _, first, second, cross = sum_moments(z, problem.there, problem.weight, problem.group)
    shape = problem.limits.reference.shape
    cells = _cells(problem, x, logit)
    content = torch.zeros(shape, dtype=torch.float64, device=x.device)
    if cells.shape[1]:
        tables = torch.arange(shape[1], device=x.device)
        place = (problem.group[:, None] * shape[1] + tables) * shape[2] + cells
        weight = problem.weight[:, None].expand(place.shape)
        content.view(-1).index_add_(0, place.reshape(-1), weight.reshape(-1))
    return Totals(first, second, cross, content)


def _cells(problem: Problem, x: Tensor, logit: Tensor) -> Tensor:
    """Bins of all limited tables, the last one where a value is not there, shape (events, tables)."""
    last = problem.limits.reference.shape[2] - 1
    columns = []
    for j in (problem.table >= 0).nonzero()[:, 0].tolist():  # tables of marginals follow the features
        there = problem.there[:, j].cpu().numpy()
        index = np.full(len(x), last, dtype=np.int64)
        index[there] = flow_index(problem.features[j].axis, x[:, j].cpu().numpy()[there])
        columns.append(torch.as_tensor(index, device=x.device))
    event = torch.arange(len(x), device=x.device)
    return torch.cat([*(c[:, None] for c in columns), problem.locate.derived(x, logit, event).long()], dim=1)
