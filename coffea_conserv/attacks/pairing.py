"""Which events may exchange which feature: disjoint pairs inside of the pools, random or of near values."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from coffea_conserv.attacks.problem import Problem
from coffea_conserv.attacks.state import Pairs

__all__ = ("Pairing",)

_REUSED = 8
"""Steps for which one shuffle of the events serves: a random rotation makes other pairs of it each time."""

_DECADES = 1.5
"""Distances of near values: from the spread of the feature down by so many powers of ten."""


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
        self.choices = free.sum(1)
        self.free = torch.argsort(~free, dim=1, stable=True)  # the free features first
        self.block = problem.block
        half = torch.where(self.choices > 0, count // 2, 0)
        self.pool = torch.repeat_interleave(torch.arange(len(count), device=self.device), half)
        self.rank = (
            torch.arange(len(self.pool), device=self.device) - (torch.cumsum(half, 0) - half)[self.pool]
        )
        self.start, self.half = start[self.pool], half[self.pool]
        self.of_event = problem.pool
        self._shuffled: tuple[int, Tensor] | None = None

    def random(self, step: int) -> Pairs:
        """Each pool is shuffled and cut into halves; an event of the first one meets one of the second."""
        order, draw = self._shuffle(step // _REUSED), self.generator(step, 1)
        shift = (self._rand(draw, len(self.choices))[self.pool] * self.half).long()
        a = order[self.start + self.rank]
        b = order[self.start + self.half + (self.rank + shift) % self.half]
        return Pairs(torch.stack([a, b]), self.block[self._feature(draw, self.pool)])

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
        noise = torch.randn(len(z), generator=draw, device=self.device)
        value = z.gather(1, feature[self.of_event][:, None])[:, 0] + width[self.of_event] * noise
        # atan maps the line into an interval, so that no value reaches into the next pool
        order = torch.argsort(self.of_event + (torch.atan(value.double()) / torch.pi + 0.5) * 0.98 + 0.01)
        first = self.start + 2 * self.rank
        mixed = torch.argsort(self._rand(draw, len(first)))
        pairs = torch.stack([order[first], order[first + 1]])
        return Pairs(pairs[:, mixed], self.block[feature[self.pool][mixed]])

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

    def _feature(self, draw: torch.Generator, pool: Tensor) -> Tensor:
        """A random free feature of each of the given pools."""
        choice = (self._rand(draw, len(pool)) * self.choices[pool]).long()
        return self.free[pool, torch.minimum(choice, (self.choices[pool] - 1).clamp(min=0))]

    def _rand(self, draw: torch.Generator, count: int) -> Tensor:
        return torch.rand(count, generator=draw, device=self.device, dtype=torch.float64)
