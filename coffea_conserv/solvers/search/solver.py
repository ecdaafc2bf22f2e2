"""The ``search`` solver: the procedure of arXiv 2603.13970, one event after the other.

In every iteration the sign of the gradient of the loss says for each event whether a feature is to rise or to
fall. Events that are not fooled yet are then visited in random order, feature by feature; each sees what the
earlier ones changed. Of an event's candidates those are dropped that change too much on their own, or that
would leave the limits of the sample. The cheapest that remains is taken, at a cost of
α · JSD + β · ‖ΔR‖/‖R‖ against the clean sample; where none remains the event stays.

A limit of 0 lets values move within their bins only: new values are no permutation of the old ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.solvers.constraints import Totals
from coffea_conserv.solvers.problem import Problem, standard
from coffea_conserv.solvers.search.arrays import Rules, SearchEvents, SearchOffers, SearchSums, make_bounds
from coffea_conserv.solvers.search.candidates import Column
from coffea_conserv.solvers.search.directions import by_donors, by_gradient

__all__ = ("PRESETS", "Search", "SearchRun", "Searched")

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_FULL = 0.999
"""Share of a limit of the sample that may be used: the judge sums about another origin, in other units."""

_BLOCK = 2**18
"""Candidates that are held in memory at a time."""

_GRID = 1000
"""Most points of a grid."""


@dataclass(frozen=True)
class Search:
    """Settings of the solver, under the names of the paper; its ``bins`` are those of the axes.

    Parameters
    ----------
    limit_jsd, limit_frobenius
        Largest Jensen–Shannon distance and largest relative change of the correlation matrix that a *single*
        change may make, from the sample as it is to the sample with this change. Those of the whole sample
        are the limits of the budget.
    alpha, beta
        Weights of the distance and of the change of correlations in the cost of a candidate.
    num_candidates
        Random candidates of each value, uniform between the smallest change and the edge; ``None``: a grid.
    iterations
        Number of iterations; each computes the gradient once.
    min_change
        Smallest change, in standard deviations of the feature in its group. Whole numbers move by 1 at least.
    step
        Distance of the points of the grid, in the same unit; means nothing for random candidates.
    donors
        Values of other events that are tried for every value, where the model has no gradient.

    Raises
    ------
    ConfigurationError
        With the name of the parameter, what it must be and what it is.

    Examples
    --------
    >>> Search(num_candidates=50).iterations
    10
    >>> Search.preset("loose").limit_frobenius
    0.05
    """

    limit_jsd: float = 0.01
    limit_frobenius: float = 0.05
    alpha: float = 6.0
    beta: float = 1.0
    num_candidates: int | None = 150
    iterations: int = 10
    min_change: float = 0.0
    step: float = 0.1
    donors: int = 2

    def __post_init__(self) -> None:
        for name in ("limit_jsd", "limit_frobenius", "alpha", "beta", "min_change"):
            _check(name, getattr(self, name), "a finite number from 0", fine=_is_number(getattr(self, name)))
        _check("step", self.step, "a finite number above 0", fine=_is_number(self.step) and self.step > 0)
        _check("iterations", self.iterations, "a whole number from 0", fine=_is_whole(self.iterations, 0))
        _check("donors", self.donors, "a whole number from 1", fine=_is_whole(self.donors, 1))
        few = self.num_candidates is None or _is_whole(self.num_candidates, 1)
        _check("num_candidates", self.num_candidates, "a whole number from 1, or None for a grid", fine=few)

    @staticmethod
    def preset(name: str) -> Search:
        """Parameters that the public code of the paper uses, by name, see :data:`PRESETS`."""
        if name not in PRESETS:
            msg = f"preset {name!r} of search is not known; choose one of {', '.join(PRESETS)}"
            raise ConfigurationError(msg)
        return PRESETS[name]

    def bind(self, problem: Problem, seed: int) -> SearchRun:
        """Prepare to solve a problem."""
        return SearchRun(problem, self, seed)

    def changes(self, rng: np.random.Generator, room: Floats, spread: Floats) -> Floats:
        """Wanted changes of some values, shape (events, candidates), from columns of shape (events, 1)."""
        least = self.min_change * spread
        if self.num_candidates is not None:
            drawn = 1 - rng.random((len(room), self.num_candidates))  # 0 is no change
            return np.asarray(least + drawn * (room - least))
        most = float(np.max((room - least) / (self.step * spread), initial=0.0))
        points = np.arange(min(_GRID, math.floor(most + 1e-9) + 1))
        return np.asarray(least + self.step * spread * (points + (self.min_change == 0)))


def _is_number(value: Any) -> bool:
    return (
        not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value) and float(value) >= 0
    )


def _is_whole(value: Any, least: int) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least


def _check(name: str, value: Any, wanted: str, *, fine: bool) -> None:
    if not fine:
        msg = f"search: {name} must be {wanted}, got {value!r}"
        raise ConfigurationError(msg)


PRESETS = {
    "tight": Search(limit_jsd=0.005, limit_frobenius=0.005),
    "loose": Search(limit_jsd=0.01, limit_frobenius=0.05),
}
"""Both ends of the limits of a single change in the public code; its numbers of bins are 60 and 100."""


@dataclass(frozen=True)
class Searched:
    """Where the solver is; never changed in place.

    Parameters
    ----------
    x, z
        Current features, and the same in units of the spread of their group, shape (events, features).
    logit
        Of the current events, shape (events,).
    cells
        Bins of the limited tables, shape (events, tables).
    totals
        Sums over the events.
    step
        Number of iterations done.
    """

    x: Tensor
    z: Tensor
    logit: Tensor
    cells: Tensor
    totals: Totals
    step: int


@dataclass
class _Work:
    """A state while an iteration changes it: arrays of its own on the host."""

    x: NDArray[np.float32]
    logit: Tensor
    events: SearchEvents
    sums: SearchSums


class _Candidates(NamedTuple):
    """New values of a feature for some events, which of them can be, and their derived bins.

    ``rows`` has the shape (events,), ``values`` and ``fine`` (events, candidates), ``cells`` one axis more.
    """

    rows: Integers
    feature: int
    values: NDArray[np.float32]
    fine: NDArray[np.bool_]
    cells: Integers


class SearchRun:
    """One problem while it is solved; makes an iteration at a time."""

    def __init__(self, problem: Problem, settings: Search, seed: int) -> None:
        from coffea_conserv.solvers.search import kernels  # noqa: PLC0415 -- starts a compiler

        self.kernels = kernels
        self.problem, self.settings, self.seed = problem, settings, seed % 2**63
        made = [Column.make(problem, j) for j in range(len(problem.features))]
        self.columns = {j: column for j, column in enumerate(made) if column is not None}
        self.bounds = make_bounds(problem.limits, _FULL)
        self.free, self.group = _numpy(problem.free), _numpy(problem.group)
        self.nominal = _numpy(problem.x)
        self.mean, self.spread = _numpy(problem.mean), _numpy(problem.spread)
        self.table, self.held = _numpy(problem.table), _numpy(problem.held)
        # watched quantities and the score follow the marginals and depend on all features
        self.extra = np.arange(int((self.table >= 0).sum()), len(problem.limits.kind))

    def init(self) -> Searched:
        """Start from the nominal events."""
        problem, group = self.problem, self.problem.group
        z = standard(problem.x, problem.there, problem.mean, problem.spread, group)
        logit = problem.logit(problem.x, torch.arange(len(group), device=group.device))
        return Searched(problem.x, z, logit, problem.cells, problem.totals, 0)

    def done(self, state: Searched) -> bool:
        """Whether all iterations are done, or all events are fooled."""
        return state.step >= self.settings.iterations or not self._todo(state.logit).any()

    def step(self, state: Searched) -> Searched:
        """Offer candidates to every event that is not fooled, feature by feature in random order."""
        rng = np.random.default_rng((self.seed, state.step))
        sign, work = self._orientation(state), self._work(state)
        for j in rng.permutation(list(self.columns)):
            self._sweep(work, int(j), sign[:, j], rng)
        device, sums = state.x.device, work.sums
        totals = [torch.as_tensor(part, device=device) for part in sums[:4]]
        x, z, cells = (
            torch.as_tensor(part, device=device) for part in (work.x, work.events.z, work.events.cells)
        )
        return Searched(x, z, work.logit, cells, Totals(*totals), state.step + 1)

    def _todo(self, logit: Tensor) -> NDArray[np.bool_]:
        """Events that are still to be moved; a mean score can always be better."""
        objective = self.problem.objective
        if objective.kind == "score":
            return np.ones(len(logit), dtype=np.bool_)
        return _numpy(objective.value(logit) < 1)

    def _orientation(self, state: Searched) -> NDArray[np.float32]:
        """Which way every feature lowers the loss, +1, −1 or 0, shape (events, features)."""
        if self.problem.gradient:
            return by_gradient(self.problem, state.x)
        rows = torch.as_tensor(np.flatnonzero(self._todo(state.logit)), device=state.x.device)
        rng = np.random.default_rng((self.seed, state.step, 1))
        return by_donors(self.problem, state.x, state.logit, rows, self.settings.donors, rng)

    def _work(self, state: Searched) -> _Work:
        problem = self.problem
        copies = [np.array(_numpy(part)) for part in (state.x, state.z, state.cells.long())]
        events = SearchEvents(copies[1], _numpy(problem.there), _numpy(problem.weight), self.group, copies[2])
        totals, size = state.totals, problem.limits.table.shape
        first, second, cross, content = (
            np.array(_numpy(part)) for part in (totals.first, totals.second, totals.cross, totals.content)
        )
        sums = SearchSums(
            first,
            second,
            cross,
            content,
            np.zeros(size[0]),
            np.zeros(size),
            np.zeros(size),
        )
        self.kernels.measure(self.bounds, sums, events)
        return _Work(copies[0], state.logit, events, sums)

    def _sweep(self, work: _Work, j: int, sign: NDArray[np.float32], rng: np.random.Generator) -> None:
        """Offer candidates of one feature, and look at those that moved."""
        rows = np.flatnonzero(self._todo(work.logit) & self.free[:, j] & (sign != 0))
        rows, before = rng.permutation(rows), work.x[:, j].copy()
        cells = work.events.cells.copy()
        size = max(1, _BLOCK // (self.settings.num_candidates or _GRID))
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            values, offers = self._offers(work, j, part, sign[part], rng)
            taken = self.kernels.sweep(self.bounds, work.sums, work.events, offers)
            hit = np.flatnonzero(taken >= 0)
            work.x[part[hit], j] = values[hit, taken[hit]]
        self._look(work, j, np.sort(rows[work.x[rows, j] != before[rows]]), before, cells)

    def _offers(
        self, work: _Work, j: int, rows: Integers, sign: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], SearchOffers]:
        """Candidates of some events, as values and in the terms of the compiled loop."""
        column, group = self.columns[j], self.group[rows]

        def changes(room: Floats, spread: Floats) -> Floats:
            return self.settings.changes(rng, room, spread)

        values, fine = column.draw(work.x[rows, j], self.nominal[rows, j], group, sign, changes)
        bins = column.bins(values)
        if self.held[j]:
            fine &= bins == column.bins(work.x[rows, j])[:, None]
        tables = self._tables(j)
        cells = np.zeros((*values.shape, len(tables)), dtype=np.int64)
        if self.table[j] >= 0:
            cells[..., 0] = bins
        if len(self.extra) or self.problem.valid is not None:
            candidates = _Candidates(rows, j, values, fine, cells[..., len(tables) - len(self.extra) :])
            self._derive(work, candidates)
        return values, SearchOffers(
            self._rules(j), rows, self._standard(values, group, j), fine, tables, cells
        )

    def _tables(self, j: int) -> Integers:
        """Tables in which a change of a feature can move an event, its own marginal first."""
        own = [self.table[j]] if self.table[j] >= 0 else []
        return np.array([*own, *self.extra], dtype=np.int64)

    def _rules(self, j: int) -> Rules:
        settings = self.settings
        costs = (settings.alpha, settings.beta, settings.limit_jsd, settings.limit_frobenius)
        return Rules(j, int(self.table[j]), *(float(value) for value in costs))

    def _standard(self, values: NDArray[np.float32], group: Integers, j: int) -> NDArray[np.float32]:
        """Units of the spread, rounded as everywhere else."""
        mean, spread = self.mean[group, j][:, None], self.spread[group, j][:, None]
        return np.asarray(((values.astype(np.float64) - mean) / spread).astype(np.float32))

    def _derive(self, work: _Work, offered: _Candidates) -> None:
        """Ask the user's functions, and the model where bins of the score are limited; in place."""
        rows, j, values, fine, cells = offered
        problem, (n, c) = self.problem, np.nonzero(fine)
        if not len(n):
            return
        device = problem.x.device
        candidates = work.x[rows[n]]
        candidates[:, j] = values[n, c]
        x, event = (torch.as_tensor(part, device=device) for part in (candidates, rows[n]))
        if problem.valid is not None:
            fine[n, c] = _numpy(problem.valid(x, event))
        if not len(self.extra):
            return
        logit = x.new_zeros(len(x)) if problem.limits.floor is None else problem.logit(x, event)
        fine[n, c] &= _numpy(torch.isfinite(logit))
        cells[n, c] = _numpy(problem.locate.derived(x, logit, event))

    def _look(
        self, work: _Work, j: int, rows: Integers, before: NDArray[np.float32], cells: Integers
    ) -> None:
        """Evaluate the events that moved; those without a logit go back."""
        if not len(rows):
            return
        problem = self.problem
        event = torch.as_tensor(rows, device=problem.x.device)
        logit = problem.logit(torch.as_tensor(work.x[rows], device=problem.x.device), event)
        fine = torch.isfinite(logit)
        work.logit = work.logit.index_copy(0, event[fine], logit[fine])
        back = rows[~_numpy(fine)]
        if not len(back):
            return
        tables = self._tables(j)
        work.x[back, j] = before[back]
        z = self._standard(before[back][:, None], self.group[back], j)
        old = np.ascontiguousarray(cells[back][:, None, tables])
        offers = SearchOffers(self._rules(j), back, z, np.ones(z.shape, dtype=np.bool_), tables, old)
        self.kernels.undo(self.bounds, work.sums, work.events, offers)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
