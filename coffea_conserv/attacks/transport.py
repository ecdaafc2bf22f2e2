"""The ``transport`` solver: events exchange values at a price.

Two events of one pool that exchange the value of one feature leave every column a permutation of itself, so
that marginals are conserved exactly in any binning. What an exchange changes, correlations and watched
quantities, has a price, see :mod:`coffea_conserv.attacks.limits`. All pairs of a step are evaluated by one
pass of the model. Then they are decided upon in a few rounds; each round sees the sums that the earlier ones
left, so that costs which cancel are found, and makes only as much as lowers the augmented Lagrangian.

With a marginal limit above 0 an event may also *copy* the value, at the price of the bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from coffea_conserv.attacks.limits import Prices, Room, Totals, penalty, used
from coffea_conserv.attacks.pairing import Pairing
from coffea_conserv.attacks.pricing import Quote, add, fits, quote
from coffea_conserv.attacks.problem import Problem, standard
from coffea_conserv.attacks.state import Offers, Pairs, State

__all__ = ("Run", "Transport")

_THRESHOLD = 1e-6
"""Net gain, in units of a whole event, below which nothing is moved."""

_ROUND = 100
"""Pairs of one group for which a round of their own is worth its time."""

_TRIALS = 3
"""How often a round is tried with fewer changes, where all together would not pay."""

_HARDER, _SOFTER = 300.0, 0.02
"""By what the stiffness of a limit changes in the end if it was broken all the time, or kept."""

_LARGE = 20_000
"""Events of a group from which on the noise of random changes is small against the usual limits."""


@dataclass(frozen=True)
class Transport:
    """Settings of the solver.

    Parameters
    ----------
    steps
        Number of steps; each evaluates the model once for every event.
    rounds
        Rounds in which the pairs of a step are decided upon; fewer if there are few pairs.
    slope
        Slope of the gain of events that have not crossed the working point, at first and at last.
    stiffness
        Stiffness ρ of all limits; more for groups of few events, whose sums fluctuate.
    memory
        Share of the price that goes into the multipliers in every step.
    full, edge
        Share of each limit that is aimed at, and the same for single bins of a band.
    landing
        Share of the steps after which limits that are still broken get stiffer in every step.
    """

    steps: int = 150
    rounds: int = 8
    slope: tuple[float, float] = (0.1, 10.0)
    stiffness: float = 3.0
    memory: float = 0.05
    full: float = 0.95
    edge: float = 0.8
    landing: float = 0.5

    def bind(self, problem: Problem, seed: int) -> Run:
        """Prepare to solve a problem."""
        return Run(problem, self, seed)

    def steepness(self, step: int) -> float:
        """Slope of the gain at a step."""
        first, last = self.slope
        return float(first * (last / first) ** min(1.0, step / max(0.8 * self.steps, 1)))


@dataclass(frozen=True)
class _Point:
    """Sums with their prices and the penalty, shape (groups,)."""

    totals: Totals
    prices: Prices
    penalty: Tensor

    def where(self, groups: Tensor, other: _Point) -> _Point:
        """Own values of the groups of a mask, those of another point for the rest."""
        mask = groups[:, None, None]
        prices = Prices(
            torch.where(mask, self.prices.correlation, other.prices.correlation),
            torch.where(mask, self.prices.tables, other.prices.tables),
        )
        value = torch.where(groups, self.penalty, other.penalty)
        return _Point(self.totals.where(groups, other.totals), prices, value)


class Run:
    """One problem while it is solved; makes a step at a time."""

    def __init__(self, problem: Problem, settings: Transport, seed: int) -> None:
        self.problem, self.settings, self.limits = problem, settings, problem.limits
        generator = torch.Generator(device=problem.x.device).manual_seed(seed)
        self.pairing = Pairing(problem, generator)
        self.room = Room(problem.limits, settings.full, settings.edge)
        few = (_LARGE / problem.limits.events).clamp(min=1).sqrt()
        self.stiffness = settings.stiffness * few[:, None].expand(-1, 2)
        pairs = int(problem.limits.events.max()) // 2
        self.rounds = min(settings.rounds, max(2, pairs // _ROUND))

    def init(self) -> State:
        """Start from the nominal events."""
        problem, group = self.problem, self.problem.group
        z = standard(problem.x, problem.there, problem.mean[group], problem.spread[group])
        free = Prices(
            torch.zeros_like(self.limits.shift(problem.totals)), torch.zeros_like(self.limits.reference)
        )
        logit = problem.logit(problem.x, torch.arange(len(group), device=group.device))
        return State(problem.x, z, logit, problem.cells, problem.totals, free, self.stiffness, 0)

    def done(self, state: State) -> bool:
        """Whether all steps are done."""
        return state.step >= self.settings.steps

    def step(self, state: State) -> State:
        """Evaluate one set of pairs, make what pays, and let prices follow."""
        landing = state.step >= self.settings.landing * self.settings.steps
        near = landing and state.step % 3 == 2  # small exchanges are the last to fit into full limits
        pairs = self.pairing.near(state.z) if near else self.pairing.random(state.step)
        offers = self._offers(state, pairs)
        made = torch.zeros_like(pairs.event, dtype=torch.bool)
        at = self._at(state, state.totals)
        for part in (slice(k, None, self.rounds) for k in range(self.rounds)):
            made[:, part], at = self._round(state, at, offers.part(part))
        multipliers = _mixed(state.multipliers, at.prices, self.settings.memory)
        stiffness = self._stiffer(state, at.totals) if landing else state.stiffness
        return _follow(state, offers, made, (at.totals, multipliers, stiffness))

    def _at(self, state: State, totals: Totals) -> _Point:
        prices = self.room.prices(totals, state.multipliers, state.stiffness)
        return _Point(totals, prices, penalty(prices, state.stiffness))

    def _offers(self, state: State, pairs: Pairs) -> Offers:
        """Pass both events of every pair, with the value exchanged, through the model."""
        problem, event = self.problem, pairs.event
        at = event, pairs.feature.expand(2, -1)
        x, flat = state.x[at].flip(0), event.reshape(-1)
        candidates = state.x[flat].scatter_(1, pairs.feature.repeat(2)[:, None], x.reshape(-1, 1))
        logit = problem.logit(candidates, flat)
        slope, weight = self.settings.steepness(state.step), problem.weight[event]
        gain = problem.objective.gain(logit, slope) - problem.objective.gain(state.logit[flat], slope)
        fine = torch.isfinite(logit)
        if problem.valid is not None:
            fine = fine & problem.valid(candidates, flat)
        gain = torch.where(fine, gain.double(), -torch.inf).view(2, -1) * weight
        cells, old = state.cells[event], state.z[at]
        moved = problem.locate(candidates, logit, cells, pairs) if cells.shape[-1] else cells
        there, group = problem.there[event], problem.group[event[0]]
        return Offers(
            pairs,
            group,
            weight,
            x,
            state.z[event],
            there,
            old,
            old.flip(0),
            logit.view(2, -1),
            cells,
            moved,
            gain,
        )

    def _round(self, state: State, at: _Point, offers: Offers) -> tuple[Tensor, _Point]:
        """Decide upon some pairs, group by group: make what pays, or the best part of it."""
        cost = quote(self.limits, at.totals, at.prices, offers, state.stiffness, exact=self.problem.exact)
        chosen = self._chosen(at.totals, offers, cost)
        net = torch.where(chosen, offers.gain - cost.linear, 0.0).sum(0)
        linear, rank, size = self._mean(offers, net), None, None
        best, value, kept = at, torch.zeros_like(at.penalty), torch.zeros_like(chosen)
        some, part = chosen, torch.ones_like(at.penalty)
        for _ in range(_TRIALS):
            after = self._at(state, add(at.totals, offers, some, exact=self.problem.exact))
            true = self._mean(offers, torch.where(some, offers.gain, 0.0).sum(0)) - (
                after.penalty - at.penalty
            )
            better = true > value
            value, best = torch.where(better, true, value), after.where(better, best)
            kept = torch.where(better[offers.group], some, kept)
            if bool((better | (linear <= 0)).all()):
                break
            if rank is None or size is None:
                rank, size = _ranked(net, chosen.any(0), offers.group, len(part))
            # value(part) = linear · part − curved · part², with its largest value at linear / (2 curved)
            part = part * (linear / (2 * (linear - true)).clamp(min=1e-300)).clamp(0.01, 0.5)
            some = chosen & (rank < torch.ceil(part * size)[offers.group])
            linear = self._mean(offers, torch.where(some.any(0), net, 0.0))
        return kept, best

    def _chosen(self, totals: Totals, offers: Offers, cost: Quote) -> Tensor:
        """Which events change if each pair is looked at alone, shape (2, pairs)."""
        net = offers.gain - cost.linear
        both = net.sum(0) - cost.exchange
        if not self.problem.copies:
            return (both > _THRESHOLD).expand(2, -1)
        alone = net - cost.single
        exchange = (both > _THRESHOLD) & (both >= alone.amax(0))
        copy = (alone > _THRESHOLD) & (alone == alone.amax(0)) & ~exchange
        copy = copy & (copy.cumsum(0) == 1) & (self.problem.table[offers.pairs.feature] >= 0)
        return exchange | fits(self.limits, totals, offers, copy, self.problem.table)

    def _mean(self, offers: Offers, values: Tensor) -> Tensor:
        """Sums over pairs per weight of the group, shape (groups,)."""
        zero = torch.zeros_like(self.limits.total)
        return zero.index_add(0, offers.group, values) / self.limits.total

    def _stiffer(self, state: State, totals: Totals) -> Tensor:
        """Limits that are broken get stiffer, others softer down to where they started."""
        share = used(self.limits, totals)
        tables = share[:, 1:].amax(1) if share.shape[1] > 1 else torch.zeros_like(share[:, 0])
        broken = torch.stack([share[:, 0], tables], dim=1) > 1
        steps = max(1.0, (1 - self.settings.landing) * self.settings.steps)
        factor = torch.where(broken, _HARDER ** (1 / steps), _SOFTER ** (1 / steps))
        return torch.maximum(state.stiffness * factor, self.stiffness)


def _ranked(net: Tensor, chosen: Tensor, group: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Rank of each pair in its group, the best first, and the number of chosen pairs of each group."""
    order = torch.argsort(torch.where(chosen, net, -torch.inf), descending=True, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    count = torch.bincount(group, minlength=groups)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[group[order]]
    return rank, torch.bincount(group[chosen], minlength=groups)


def _mixed(before: Prices, now: Prices, share: float) -> Prices:
    """Multipliers that remember."""
    return Prices(
        torch.lerp(before.correlation, now.correlation, share), torch.lerp(before.tables, now.tables, share)
    )


def _follow(state: State, offers: Offers, made: Tensor, sums: tuple[Totals, Prices, Tensor]) -> State:
    """State after the changes that were made."""
    which = made.nonzero(as_tuple=True)
    event, feature = offers.pairs.event[which], offers.pairs.feature[which[1]]
    x, z, logit, cells = state.x.clone(), state.z.clone(), state.logit.clone(), state.cells.clone()
    x[event, feature], z[event, feature] = offers.x[which], offers.new[which]
    logit[event], cells[event] = offers.logit[which], offers.moved[which]
    return State(x, z, logit, cells, *sums, state.step + 1)
