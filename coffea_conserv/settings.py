"""What a run was configured with, as far as its merged output needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coffea_conserv.budget import Budget
from coffea_conserv.features import Feature, Watched
from coffea_conserv.points import as_points

__all__ = ("Settings",)


@dataclass(frozen=True)
class Settings:
    """What a run was configured with, as far as its result needs it.

    Parameters
    ----------
    features, watched
        What is limited.
    budget
        The limits.
    score
        Axis of the score.
    working_point
        Score that separates the sides for the fooling ratio, or several.
    objective
        Name of what the attack moves.
    seed
        Seed of the run.
    config
        Hash of the configuration, the same as that of the sums.
    penalty
        Price of moves.
    target
        Which events are attacked.
    output
        What the model gives.
    """

    features: tuple[Feature, ...]
    watched: tuple[Watched, ...]
    budget: Budget
    score: Any
    working_point: float | Sequence[float]
    objective: str
    seed: int
    config: str
    penalty: float = 0.0
    target: str = "all"
    output: str = "logit"

    @property
    def points(self) -> tuple[float, ...]:
        """Working points, the main one first."""
        return as_points(self.working_point)

    @property
    def quantities(self) -> tuple[Feature | Watched, ...]:
        """Features, then watched quantities: the order of the correlation matrices."""
        return (*self.features, *self.watched)
