"""The ``transport`` solver: events exchange values at a price.

Two events of one pool that exchange the value of one feature leave every column a permutation of itself, so
that marginals are conserved exactly in any binning. What an exchange changes, correlations and watched
quantities, has a price, see :mod:`coffea_conserv.solvers.lagrangian`. All pairs of a step are evaluated by
one pass of the model. Then they are decided upon in a few rounds; each round sees the sums that the earlier
ones left, so that costs which cancel are found, and makes only as much as lowers the augmented Lagrangian.

With a marginal limit above 0 an event may also *copy* the value, at the price of the bins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from coffea_conserv.checks import check_whole
from coffea_conserv.models.device import BUFFER
from coffea_conserv.solvers.constraints import Prices, Totals, used
from coffea_conserv.solvers.lagrangian import Room, penalty
from coffea_conserv.solvers.problem import Problem, standard
from coffea_conserv.solvers.transport.pairing import Pairing
from coffea_conserv.solvers.transport.pricing import Quote, add, fits, quote
from coffea_conserv.solvers.transport.state import Answers, Offers, Pairs, State, picked

__all__ = ("Transport", "TransportRun")

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
    overtime
        Largest number of further steps, as a share of ``steps``, while a group that went out of its limits
        has not come back.
    buffer
        Candidates that are made and evaluated at a time, which bounds the memory; ``None``: 16,384 on a CPU,
        262,144 on a GPU.
    """

    steps: int = 150
    rounds: int = 8
    slope: tuple[float, float] = (0.1, 10.0)
    stiffness: float = 3.0
    memory: float = 0.05
    full: float = 0.95
    edge: float = 0.8
    landing: float = 0.5
    overtime: float = 1.0
    buffer: int | None = None

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, 0)
        check_whole("rounds", self.rounds, 1)

    def bind(self, problem: Problem, seed: int) -> TransportRun:
        """Prepare to solve a problem."""
        return TransportRun(problem, self, seed)

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
        prices = self.prices.joined(other.prices, lambda own, others: torch.where(mask, own, others))
        value = torch.where(groups, self.penalty, other.penalty)
        return _Point(self.totals.where(groups, other.totals), prices, value)


class TransportRun:
    """One problem while it is solved; makes a step at a time."""

    def __init__(self, problem: Problem, settings: Transport, seed: int) -> None:
        self.problem, self.settings, self.limits = problem, settings, problem.limits
        self.pairing = Pairing(problem, seed)
        usual: int = getattr(problem.logit, "batch", BUFFER[problem.x.device.type])
        self.buffer = settings.buffer or usual
        self.room = Room(problem.limits, settings.full, settings.edge)
        few = (_LARGE / problem.limits.events).clamp(min=1).sqrt()
        self.stiffness = settings.stiffness * few[:, None].expand(-1, 2)
        pairs = int(problem.limits.events.max()) // 2
        self.rounds = min(settings.rounds, max(2, pairs // _ROUND))

    def init(self) -> State:
        """Start from the nominal events."""
        problem, group = self.problem, self.problem.group
        z = standard(problem.x, problem.there, problem.mean, problem.spread, group)
        free = self.limits.free(problem.totals)
        logit = problem.logit(problem.x, torch.arange(len(group), device=group.device))
        landed = torch.zeros_like(self.limits.total, dtype=torch.bool)
        return State(problem.x, z, logit, problem.cells, problem.totals, free, self.stiffness, landed, 0)

    def done(self, state: State) -> bool:
        """Whether all steps are done, with those on top while a group has not come back into its limits."""
        late = state.step - self.settings.steps
        if late < 0 or late >= self.settings.overtime * self.settings.steps:
            return late >= 0
        return bool(state.landed.all())

    def step(self, state: State) -> State:
        """Evaluate one set of pairs, make what pays, and let prices follow."""
        landing = state.step >= self.settings.landing * self.settings.steps
        near = landing and state.step % 3 == 2  # small exchanges are the last to fit into full limits
        pairs = self.pairing.near(state.step, state.z) if near else self.pairing.random(state.step)
        answers, at = self._evaluate(state, pairs), self._at(state, state.totals)
        moved = tuple(part.clone() for part in (state.x, state.z, state.logit, state.cells))
        for part in (slice(k, None, self.rounds) for k in range(self.rounds)):
            offers = self._offers(state, pairs.part(part), answers.part(part))
            made, at = self._round(state, at, offers)
            _write(moved, offers, made)
        share = self.settings.memory
        multipliers = state.multipliers.joined(at.prices, lambda old, now: torch.lerp(old, now, share))
        x, z, logit, cells = moved
        kept = (state.stiffness, state.landed, state.step + 1)
        after = State(x, z, logit, cells, at.totals, multipliers, *kept)
        return self._landed(after) if landing else after

    def _at(self, state: State, totals: Totals) -> _Point:
        prices = self.room.prices(totals, state.multipliers, state.stiffness)
        return _Point(totals, prices, penalty(prices, state.stiffness))

    def _evaluate(self, state: State, pairs: Pairs) -> Answers:
        """Pass both events of every pair, with the values exchanged, through the model.

        Candidates are made a buffer at a time: all of them would be another copy of the sample.
        """
        problem, event = self.problem, pairs.event.reshape(-1)
        feature = pairs.feature.repeat(2, 1)
        values = state.x[pairs.event.flip(0).reshape(-1)[:, None], feature]
        found = []
        for first in range(0, max(len(event), 1), self.buffer):
            part = slice(first, first + self.buffer)
            of = event[part]
            candidates = state.x[of].scatter_(1, feature[part], values[part])
            logit = problem.logit(candidates, of)
            fine = torch.isfinite(logit)
            if problem.valid is not None:
                fine = fine & problem.valid(candidates, of)
            found.append((logit, fine, problem.locate.derived(candidates, logit, of)))
        logit, fine, derived = (torch.cat(parts) for parts in zip(*found, strict=True))
        objective, slope = problem.objective, self.settings.steepness(state.step)
        rise = objective.gain(logit, slope) - objective.gain(state.logit, slope)[event]
        if problem.reach is not None:
            old = state.x[event[:, None], feature]
            rise = rise - problem.reach.toll(event, feature, old, values)
        gain = torch.where(fine, rise.double(), -torch.inf) * problem.weight[event]
        shape = (2, len(pairs.feature), derived.shape[1])
        return Answers(logit.view(2, -1), gain.view(2, -1), derived.view(shape))

    def _offers(self, state: State, pairs: Pairs, answers: Answers) -> Offers:
        """What some of the pairs could do, with all that is needed to put a price on it."""
        problem, event = self.problem, pairs.event
        at = event[..., None], pairs.feature.expand(2, -1, -1)
        old, z = state.z[at], state.z[event]
        new = old.flip(0)
        tables = problem.locate.tables(pairs.feature)
        cells = state.cells[event[..., None], tables.expand(2, -1, -1)]
        kinds = cells.shape[-1] - answers.derived.shape[-1]
        own = cells[..., :kinds].flip(0)
        if pairs.feature.shape[1] > 1:
            z.scatter_(2, at[1], (old + new) / 2)
            again = pairs.feature == pairs.feature[:, :1]
            again[:, 0] = False  # a feature that is only repeated does not change a second time
            old = torch.where(again, new, old)
            cells[..., :kinds] = torch.where(again[:, :kinds], own, cells[..., :kinds])
        return Offers(
            pairs=pairs,
            group=problem.group[event[0]],
            weight=problem.weight[event],
            x=state.x[at].flip(0),
            z=z,
            there=None if problem.complete else problem.there[event],
            old=old,
            new=new,
            logit=answers.logit,
            tables=tables,
            cells=cells,
            moved=torch.cat([own, answers.derived], dim=2),
            gain=answers.gain,
        )

    def _round(self, state: State, at: _Point, offers: Offers) -> tuple[Tensor, _Point]:
        """Decide upon some pairs, group by group: make what pays, or the best part of it."""
        cost = quote(self.limits, at.totals, at.prices, offers, state.stiffness, exact=self.problem.exact)
        chosen = self._chosen(at.totals, offers, cost)
        net = torch.where(chosen, offers.gain - cost.linear, 0.0).sum(0)
        linear, rank, size = self._mean(offers, net), None, None
        best, value, kept = at, torch.zeros_like(at.penalty), torch.zeros_like(chosen)
        some, part = chosen, torch.ones_like(at.penalty)
        waiting = torch.ones_like(value, dtype=torch.bool)
        for _ in range(_TRIALS):
            after = self._at(state, add(at.totals, offers, some, exact=self.problem.exact))
            true = self._mean(offers, torch.where(some, offers.gain, 0.0).sum(0)) - (
                after.penalty - at.penalty
            )
            better = waiting & (true > value)
            value, best = torch.where(better, true, value), after.where(better, best)
            kept = torch.where(better[offers.group], some, kept)
            waiting = waiting & ~better & (linear > 0)
            if waiting.device.type == "cpu" and not bool(waiting.any()):  # a GPU need not be waited for
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
        copy = copy & (copy.cumsum(0) == 1)
        return exchange | fits(self.limits, totals, offers, copy)

    def _mean(self, offers: Offers, values: Tensor) -> Tensor:
        """Sums over pairs per weight of the group, shape (groups,)."""
        zero = torch.zeros_like(self.limits.total)
        return zero.index_add(0, offers.group, values) / self.limits.total

    def _landed(self, state: State) -> State:
        """Limits that are broken get stiffer, others softer down to where they started."""
        share = used(self.limits, state.totals)
        tables = share[:, 1:].amax(1) if share.shape[1] > 1 else torch.zeros_like(share[:, 0])
        broken = torch.stack([share[:, 0], tables], dim=1) > 1
        steps = max(1.0, (1 - self.settings.landing) * self.settings.steps)
        factor = torch.where(broken, _HARDER ** (1 / steps), _SOFTER ** (1 / steps))
        stiffness = torch.maximum(state.stiffness * factor, self.stiffness)
        return replace(state, stiffness=stiffness, landed=state.landed | ~broken.any(1))


def _ranked(net: Tensor, chosen: Tensor, group: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Rank of each pair in its group, the best first, and the number of chosen pairs of each group."""
    order = torch.argsort(torch.where(chosen, net, -torch.inf), descending=True, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    count = torch.bincount(group, minlength=groups)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[group[order]]
    return rank, torch.bincount(group[chosen], minlength=groups)


def _write(moved: tuple[Tensor, ...], offers: Offers, made: Tensor) -> None:
    """Write the changes that are made into features, standardised features, logits and bins, in place."""
    x, z, logit, cells = moved
    which = picked(made)
    event, real = offers.pairs.event[which], made[which]
    at = event[:, None], offers.pairs.feature[which[1]]
    x[at] = torch.where(real[:, None], offers.x[which], x[at])
    z[at] = torch.where(real[:, None], offers.new[which], z[at])
    logit[event] = torch.where(real, offers.logit[which], logit[event])
    tables = event[:, None], offers.tables[which[1]]
    cells[tables] = torch.where(real[:, None], offers.moved[which], cells[tables])
