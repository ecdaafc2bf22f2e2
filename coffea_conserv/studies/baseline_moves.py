"""Moves of the baselines: at random, by shuffling, and along the gradient.

Each function gets a problem and returns features of its events. Nobody has judged them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coffea_conserv.features.feature import Feature
from coffea_conserv.models.network import slopes
from coffea_conserv.solvers.constraints import Limits, Totals, used
from coffea_conserv.solvers.problem import Problem
from coffea_conserv.solvers.transport.pricing import add
from coffea_conserv.solvers.transport.solver import Transport, TransportRun, _Point
from coffea_conserv.solvers.transport.state import Offers, State

__all__ = ("Push", "random_moves", "shuffled", "stepped")

_PARTS = (1.0, 0.3, 0.1, 0.03, 0.01)
"""Shares of the random pairs of a round that are tried, until a group is inside of its limits."""

_INSIDE, _FULL = 0.999, 0.99
"""Share of a limit that may be used, as the judge is more precise, and from which on it is used up."""

_ROUNDING = 3e-7
"""What single precision may add to |Δ|, in units of the value and of |Δ| itself."""

_CHUNK = 16384
"""Events whose gradients are held at a time."""


def random_moves(problem: Problem, steps: int, seed: int) -> Tensor:
    """Exchange values of random pairs until a limit is used up in every group, or all steps are done.

    Proposals are those of the ``transport`` solver, copies included where marginals may change. No one asks
    the model which of them are good, nor what they cost.

    Parameters
    ----------
    problem
        Events and limits.
    steps
        Largest number of steps; each offers one exchange to every event.
    seed
        Of the random generator.
    """
    run = _Unguided(problem, Transport(steps=steps), seed)
    state = run.init()
    while not run.done(state):
        state = run.step(state)
    return state.x


class _Unguided(TransportRun):
    """Steps of ``transport`` without a price: whatever is inside of the limits is made."""

    def __init__(self, problem: Problem, settings: Transport, seed: int) -> None:
        super().__init__(problem, settings, seed)
        self.generator = torch.Generator(device=problem.x.device).manual_seed(seed)

    def done(self, state: State) -> bool:
        """Whether all steps are done, or a limit is used up in every group."""
        share, _ = _shares(self.limits, state.totals)
        return super().done(state) or bool((share >= _FULL).all())

    def _round(self, state: State, at: _Point, offers: Offers) -> tuple[Tensor, _Point]:
        """Make the largest random part of the pairs that leaves a group inside of its limits."""
        chosen, best = self._drawn(offers), at
        kept, waiting = torch.zeros_like(chosen), torch.ones_like(self.limits.total, dtype=torch.bool)
        for part in _PARTS:
            some = chosen & (self._rand(len(offers.group)) < part)
            after = self._at(state, add(at.totals, offers, some, exact=self.problem.exact))
            share, floor = _shares(self.limits, after.totals)
            inside = waiting & floor & (share <= _INSIDE)
            kept = torch.where(inside[offers.group], some, kept)
            best, waiting = after.where(inside, best), waiting & ~inside
            if not bool(waiting.any()):
                break
        return kept, best

    def _drawn(self, offers: Offers) -> Tensor:
        """Which events of each pair take the value of the other, shape (2, pairs)."""
        fine = torch.isfinite(offers.gain)
        if not self.problem.copies:
            return fine.all(0).expand(2, -1)
        copy = self._rand(len(offers.group)) < 0.5
        other = fine[1] & fine[0] & ~copy
        return torch.stack([fine[0] & (copy | other), other])

    def _rand(self, count: int) -> Tensor:
        return torch.rand(count, generator=self.generator, dtype=torch.float32, device=self.problem.x.device)


def _shares(limits: Limits, totals: Totals) -> tuple[Tensor, Tensor]:
    """Largest share of a limit that is used, and whether floors hold, shape (groups,) each."""
    share = used(limits, totals)
    if limits.floor is None:
        return share.amax(1), torch.ones_like(limits.total, dtype=torch.bool)
    return share[:, :-1].amax(1), share[:, -1] <= 1.0


def shuffled(problem: Problem, tries: int, seed: int) -> Tensor:
    """Shuffle features among events until they fool; what does not fool is put back.

    In each try the events that are not yet across meet in random pairs, inside of pools of equal weight, and
    exchange the values of a random subset of their features. The pair stays so if one of them crosses.

    Parameters
    ----------
    problem
        Events; its limits play no part.
    tries
        Largest number of shuffles that an event sees.
    seed
        Of the random generator.
    """
    generator = torch.Generator(device=problem.x.device).manual_seed(seed)
    x = problem.x.clone()
    short = ~_across(problem, problem.logit(x, _events(x)))
    for _ in range(tries):
        pairs = _pairs(problem, short.nonzero()[:, 0], generator)
        if not pairs.shape[1]:
            break
        mask = _subsets(problem.free[pairs[0]], generator)[:, problem.block[:, 0]]
        mask = mask & _near_enough(problem, x[pairs].flip(0), pairs)[:, problem.block].all(2)
        candidates = torch.where(mask, x[pairs].flip(0), x[pairs])
        logit = problem.logit(candidates.flatten(0, 1), pairs.flatten())
        fine = _fine(problem, candidates.flatten(0, 1), logit, pairs.flatten()).view(2, -1)
        across = _across(problem, logit).view(2, -1)
        made = fine.all(0) & across.any(0)
        x[pairs[:, made]] = candidates[:, made]
        short[pairs[:, made]] = ~across[:, made]
    return x


def _pairs(problem: Problem, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Random disjoint pairs of the given events inside of the pools, shape (2, pairs)."""
    pool = problem.pool[rows]  # ascends
    count = torch.bincount(pool)
    mixed = torch.rand(len(rows), generator=generator, device=rows.device, dtype=torch.float64)
    order = rows[torch.argsort(pool + 0.999 * mixed)]
    rank = torch.arange(len(rows), device=rows.device) - (count.cumsum(0) - count)[pool]
    first = ((rank % 2 == 0) & (rank + 1 < count[pool])).nonzero()[:, 0]
    return torch.stack([order[first], order[first + 1]])


def _subsets(free: Tensor, generator: torch.Generator) -> Tensor:
    """Random subsets of the free features, of any size, shape (pairs, features)."""
    size = torch.rand((len(free), 1), generator=generator, dtype=torch.float32, device=free.device)
    return free & (
        torch.rand(free.shape, generator=generator, dtype=torch.float32, device=free.device) < size
    )


def _near_enough(problem: Problem, x: Tensor, pairs: Tensor) -> Tensor:
    """Values that both events of a pair may exchange within their caps, shape (pairs, features)."""
    if problem.reach is None:
        return torch.ones_like(x[0], dtype=torch.bool)
    feature = torch.arange(x.shape[2], device=x.device).expand(x.shape)
    return problem.reach.allows(pairs[..., None].expand(x.shape), feature, x).all(0)


@dataclass(frozen=True)
class Push:
    """Steps along the gradient.

    Parameters
    ----------
    size
        Largest |Δ| of every value, in units of the spread of its feature in the group.
    step
        Length of one step, in the same units.
    steps
        Number of steps.
    """

    size: float
    step: float
    steps: int


def stepped(problem: Problem, features: Sequence[Feature], push: Push) -> Tensor:
    """Move every event that is not yet across by steps along the sign of the gradient of its logit.

    A value stops at the cap of its feature. Of the steps of an event the one with the largest logit in the
    direction of the attack stays, among those that make a possible event; if there is none, the event is
    nominal.

    Parameters
    ----------
    problem
        Events; its limits play no part.
    features
        Their columns.
    push
        How far.
    """
    x, physical = problem.x.clone(), _Physical(features, problem.x.device)
    short = ~_across(problem, problem.logit(x, _events(x)))
    for rows in torch.split(short.nonzero()[:, 0], _CHUNK):
        x[rows] = _climbed(problem, physical, rows, push)
    return x


def _climbed(problem: Problem, physical: _Physical, rows: Tensor, push: Push) -> Tensor:
    start, sign = problem.x[rows], problem.objective.sign
    spread = problem.spread[problem.group[rows]].float()
    free = problem.free[rows] & physical.ordered
    cap = physical.cap(problem, rows)
    moved, best, delta = start, start, torch.zeros_like(start)
    top = torch.full_like(start[:, 0], -torch.inf)
    for _ in range(push.steps):
        slope = sign * _gradient(problem, moved, rows).sign()
        delta = (delta / spread + push.step * slope).clamp(-push.size, push.size) * spread
        delta = torch.minimum(torch.maximum(delta, -cap), cap)
        # what does not move keeps its value to the last bit, even outside of the range
        moved = torch.where(free & (delta != 0), physical(start + delta), start)
        logit = problem.logit(moved, rows)
        better = _fine(problem, moved, logit, rows) & (sign * logit > top)
        best, top = torch.where(better[:, None], moved, best), torch.where(better, sign * logit, top)
    return best


def _gradient(problem: Problem, x: Tensor, rows: Tensor) -> Tensor:
    """Gradient of the logit of each event, 0 where it is not a number."""
    gradient = slopes(problem.logit, x, rows, [feature.name for feature in problem.features])
    return torch.zeros_like(x) if gradient is None else torch.nan_to_num(gradient)


class _Physical:
    """Brings values to where a feature can be: whole numbers, the period of an angle, the physical range."""

    def __init__(self, features: Sequence[Feature], device: torch.device) -> None:
        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        traits = [feature.axis.traits for feature in features]
        self.ordered = (
            column([float(t.ordered) for t in traits]) > 0
        )  # a step between categories means nothing
        self.whole = column([float(not t.continuous) for t in traits]) > 0
        self.circular = column([float(t.circular) for t in traits]) > 0
        self.start = column([float(f.axis.edges[0]) for f in features])
        self.end = column([float(f.axis.edges[-1]) for f in features])
        low = column([-torch.inf if f.low is None else float(f.low) for f in features])
        high = column([torch.inf if f.high is None else float(f.high) for f in features])
        self.low = torch.where(self.whole, torch.ceil(low), low)
        self.high = torch.where(self.whole, torch.floor(high), high)

    def __call__(self, x: Tensor) -> Tensor:
        x = torch.where(self.whole, torch.round(x), x)
        wrapped = self.start + torch.remainder(x - self.start, self.end - self.start)
        wrapped = torch.where(wrapped >= self.end, self.start, wrapped)  # rounding may reach the end
        x = torch.where(self.circular, wrapped, x)
        return torch.minimum(torch.maximum(x, self.low), self.high)

    def cap(self, problem: Problem, rows: Tensor) -> Tensor:
        """Largest |Δ| of the values of some events, with room for rounding, shape (events, features)."""
        start, reach = problem.x[rows], problem.reach
        if reach is None:
            return torch.full_like(start, torch.inf)
        feature = torch.arange(start.shape[1], device=rows.device).expand(start.shape)
        event = rows[:, None].expand(start.shape)
        cap, size = reach.allowed(event, feature), start.double().abs()
        size = torch.where(self.circular, reach.period, size)
        rounded = torch.where(torch.isfinite(cap), cap - _ROUNDING * (size + cap), cap).clamp(min=0)
        return torch.where(self.whole, torch.floor(cap), rounded).float()


def _events(x: Tensor) -> Tensor:
    return torch.arange(len(x), device=x.device)


def _across(problem: Problem, logit: Tensor) -> Tensor:
    """Whether events are across every working point, in the direction of the attack."""
    return problem.objective.sign * (logit - problem.objective.last) > 0


def _fine(problem: Problem, x: Tensor, logit: Tensor, event: Tensor) -> Tensor:
    """Whether candidates are possible events with a logit."""
    fine = torch.isfinite(logit)
    return fine if problem.valid is None else fine & problem.valid(x, event)
