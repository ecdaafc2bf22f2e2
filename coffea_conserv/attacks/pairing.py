"""Which events may exchange which feature: disjoint pairs inside of the pools, random or of near values."""

from __future__ import annotations

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

    Parameters
    ----------
    problem
        Events and pools.
    generator
        Source of all randomness, on the device of the events.
    """

    def __init__(self, problem: Problem, generator: torch.Generator) -> None:
        self.device, self.generator = problem.x.device, generator
        count = torch.bincount(problem.pool)
        start = torch.cumsum(count, 0) - count
        free = problem.free[start]  # the same for all events of a pool
        self.choices = free.sum(1)
        self.free = torch.argsort(~free, dim=1, stable=True)  # the free features first
        half = torch.where(self.choices > 0, count // 2, 0)
        self.pool = torch.repeat_interleave(torch.arange(len(count), device=self.device), half)
        self.rank = (
            torch.arange(len(self.pool), device=self.device) - (torch.cumsum(half, 0) - half)[self.pool]
        )
        self.start, self.half = start[self.pool], half[self.pool]
        self.of_event = problem.pool
        self.order = torch.arange(len(problem.x), device=self.device)

    def random(self, step: int) -> Pairs:
        """Each pool is shuffled and cut into halves; an event of the first one meets one of the second."""
        if step % _REUSED == 0:
            self.order = torch.argsort(self.of_event + 0.999 * self._rand(len(self.order)))
        shift = (self._rand(len(self.choices))[self.pool] * self.half).long()
        a = self.order[self.start + self.rank]
        b = self.order[self.start + self.half + (self.rank + shift) % self.half]
        return Pairs(torch.stack([a, b]), self._feature(self.pool))

    def near(self, z: Tensor) -> Pairs:
        """Events with near values of one feature, another one in each pool; in random order.

        Parameters
        ----------
        z
            Features in units of their spread, shape (events, features).
        """
        pools = torch.arange(len(self.choices), device=self.device)
        feature, width = self._feature(pools), 10.0 ** (-_DECADES * self._rand(len(pools)))
        noise = torch.randn(len(z), generator=self.generator, device=self.device)
        value = z.gather(1, feature[self.of_event][:, None])[:, 0] + width[self.of_event] * noise
        # atan maps the line into an interval, so that no value reaches into the next pool
        order = torch.argsort(self.of_event + (torch.atan(value.double()) / torch.pi + 0.5) * 0.98 + 0.01)
        first = self.start + 2 * self.rank
        mixed = torch.argsort(self._rand(len(first)))
        pairs = torch.stack([order[first], order[first + 1]])
        return Pairs(pairs[:, mixed], feature[self.pool][mixed])

    def _feature(self, pool: Tensor) -> Tensor:
        """A random free feature of each of the given pools."""
        choice = (self._rand(len(pool)) * self.choices[pool]).long()
        return self.free[pool, torch.minimum(choice, (self.choices[pool] - 1).clamp(min=0))]

    def _rand(self, count: int) -> Tensor:
        return torch.rand(count, generator=self.generator, device=self.device, dtype=torch.float64)
