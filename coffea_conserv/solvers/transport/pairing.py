"""Pairs of events that may exchange a feature: disjoint, within pools, random or of near values.

Random partners are rarely within a cap. A pool whose turn is a feature with a cap is therefore sorted by its
nominal values, with noise of about the size of the cap, and neighbours meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from coffea_conserv.solvers.caps import Reach
from coffea_conserv.solvers.problem import Problem
from coffea_conserv.solvers.transport.state import Pairs

__all__ = ("Pairing",)

_REUSED = 8
"""Steps for which one shuffle of the events serves: a random rotation makes other pairs of it each time."""

_DECADES = 1.5
"""Distances of near values: from the spread of the feature down by so many powers of ten."""

_TIGHT = (0.3, 1.0)
"""Smallest and largest noise among values with a cap, in units of the cap."""


class Choices(NamedTuple):
    """Features of each pool, those that can be chosen first, shape (pools, features), and their number."""

    free: Tensor
    number: Tensor


def _first(free: Tensor) -> Tensor:
    """Features of each pool, those of a mask of shape (pools, features) first."""
    return torch.argsort(~free, dim=1, stable=True)


@dataclass(frozen=True)
class _Tight:
    """Features with a cap, and the others.

    Parameters
    ----------
    problem, reach
        Events, and the caps of the features.
    capped
        Features with a cap, or that move together with one, shape (features,).
    by
        Feature by which events are sorted for each feature: the first one with a cap of its block.
    loose
        Features of each pool without a cap.
    """

    problem: Problem
    reach: Reach
    capped: Tensor
    by: Tensor
    loose: Choices

    @staticmethod
    def make(problem: Problem, free: Tensor) -> _Tight | None:
        """Caps of a problem; ``None`` if there is none."""
        reach = problem.reach
        if reach is None or not bool(reach.capped.any()):
            return None
        having = reach.capped[problem.block]
        by = problem.block.gather(1, having.int().argmax(1, keepdim=True))[:, 0]
        loose = free & ~having.any(1)
        return _Tight(problem, reach, having.any(1), by, Choices(_first(loose), loose.sum(1)))

    def key(self, lead: Tensor, noise: Tensor, turn: Tensor) -> Tensor:
        """Nominal value of a feature of each event, with noise in units of its cap, shape (events,).

        A circle is cut open at a place that ``turn`` names, from 0 to 1.
        """
        problem, feature, group = self.problem, self.by[lead], self.problem.group
        event, period = torch.arange(len(lead), device=lead.device), self.reach.period[feature]
        value = torch.nan_to_num(self.reach.start[event, feature].double())
        around, spread = torch.isfinite(period), problem.spread[group, feature]
        place = torch.where(
            around,
            torch.remainder(value / period + turn, 1.0) - 0.5,
            (value - problem.mean[group, feature]) / spread,
        )
        width = torch.where(self.capped[lead], self.width(lead), 0.0)
        return place + noise * width * torch.where(around, spread / period, 1.0)

    def width(self, lead: Tensor) -> Tensor:
        """Cap of a feature of each event, in units of the spread of its group, shape (events,)."""
        event, feature = torch.arange(len(lead), device=lead.device), self.by[lead]
        cap = torch.nan_to_num(self.reach.allowed(event, feature), posinf=torch.inf)
        return cap / self.problem.spread[self.problem.group, feature]


class Pairing:
    """Makes disjoint pairs of events inside of the pools of one problem.

    Pairs follow from the seed, the step and where events are: whoever asks twice gets the same answer.

    Parameters
    ----------
    problem
        Events and pools.
    seed
        Of all randomness.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        self.device, self.seed = problem.x.device, seed
        count = torch.bincount(problem.pool)
        start = torch.cumsum(count, 0) - count
        # the same for all events of a pool; features that move together are drawn by the first of them
        leads = problem.block[:, 0] == torch.arange(len(problem.block), device=self.device)
        free = problem.free[start] & leads
        self.free, self.choices = _first(free), free.sum(1)
        self.block, self.tight = problem.block, _Tight.make(problem, free)
        half = torch.where(self.choices > 0, count // 2, 0)
        self.pool = torch.repeat_interleave(torch.arange(len(count), device=self.device), half)
        self.rank = (
            torch.arange(len(self.pool), device=self.device) - (torch.cumsum(half, 0) - half)[self.pool]
        )
        self.start, self.half = start[self.pool], half[self.pool]
        self.of_event = problem.pool
        self._shuffled: tuple[int, Tensor] | None = None

    def random(self, step: int) -> Pairs:
        """Each pool is shuffled and cut into halves; an event of the first one meets one of the second.

        As often as a feature with a cap has its turn, a pool is paired for that one alone.
        """
        order, draw = self._shuffle(step // _REUSED), self.generator(step, 1)
        shift = (self._rand(draw, len(self.choices))[self.pool] * self.half).long()
        a = order[self.start + self.rank]
        b = order[self.start + self.half + (self.rank + shift) % self.half]
        event, tight = torch.stack([a, b]), self.tight
        if tight is None:
            return Pairs(event, self.block[self._feature(draw, self.pool)])
        turn = self._feature(draw, torch.arange(len(self.choices), device=self.device))
        use = tight.capped[turn][self.pool]
        feature = torch.where(use, turn[self.pool], self._feature(draw, self.pool, tight.loose))
        event = torch.where(use, self._neighbours(self._nearly(draw, tight, turn)), event)
        mixed = torch.argsort(self._rand(draw, len(use)))
        return Pairs(event[:, mixed], self.block[feature[mixed]])

    def near(self, step: int, z: Tensor) -> Pairs:
        """Events with near values of one feature, another one in each pool; in random order.

        Parameters
        ----------
        step
            Number of the step.
        z
            Features in units of their spread, shape (events, features).
        """
        draw, pools = self.generator(step, 2), torch.arange(len(self.choices), device=self.device)
        feature, width = self._feature(draw, pools), 10.0 ** (-_DECADES * self._rand(draw, len(pools)))
        lead, width = feature[self.of_event], width[self.of_event]
        if self.tight is not None:
            width = torch.minimum(width, self.tight.width(lead))
        noise = torch.randn(len(z), generator=draw, dtype=torch.float32, device=self.device)
        event = self._neighbours(z.gather(1, lead[:, None])[:, 0] + width * noise)
        mixed = torch.argsort(self._rand(draw, event.shape[1]))
        return Pairs(event[:, mixed], self.block[feature[self.pool][mixed]])

    def _nearly(self, draw: torch.Generator, tight: _Tight, turn: Tensor) -> Tensor:
        """Nominal values of the feature of each pool, with noise of about the size of its cap."""
        low, high = _TIGHT
        size = low + (high - low) * self._rand(draw, len(turn))
        noise = torch.randn(len(self.of_event), generator=draw, dtype=torch.float32, device=self.device)
        return tight.key(turn[self.of_event], size[self.of_event] * noise, self._rand(draw, 1))

    def _neighbours(self, value: Tensor) -> Tensor:
        """Pairs of events in the order of some value, shape (2, pairs)."""
        # atan maps the line into an interval, so that no value reaches into the next pool
        order = torch.argsort(self.of_event + (torch.atan(value.double()) / torch.pi + 0.5) * 0.98 + 0.01)
        first = self.start + 2 * self.rank
        return torch.stack([order[first], order[first + 1]])

    def generator(self, step: int, purpose: int) -> torch.Generator:
        """Source of the randomness of a step; different purposes get independent ones."""
        (mixed,) = np.random.SeedSequence([self.seed, step, purpose]).generate_state(1, np.uint64)
        return torch.Generator(device=self.device).manual_seed(int(mixed >> np.uint64(1)))

    def _shuffle(self, block: int) -> Tensor:
        """Random order of the events in each pool."""
        if self._shuffled is None or self._shuffled[0] != block:
            mixed = self._rand(self.generator(block, 0), len(self.of_event))
            self._shuffled = block, torch.argsort(self.of_event + 0.999 * mixed)
        return self._shuffled[1]

    def _feature(self, draw: torch.Generator, pool: Tensor, among: Choices | None = None) -> Tensor:
        """A random one of the free features of each of the given pools, or of others."""
        free, number = among or Choices(self.free, self.choices)
        choice = (self._rand(draw, len(pool)) * number[pool]).long()
        return free[pool, torch.minimum(choice, (number[pool] - 1).clamp(min=0))]

    def _rand(self, draw: torch.Generator, count: int) -> Tensor:
        return torch.rand(count, generator=draw, device=self.device, dtype=torch.float64)
