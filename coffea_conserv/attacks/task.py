"""Task of an attack: what is attacked, and how far it may move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.features.feature import Feature, Watched
from coffea_conserv.features.working_point import as_points
from coffea_conserv.limits.budget import Budget
from coffea_conserv.solvers.protocol import Solver

__all__ = ("Task",)


@dataclass(frozen=True)
class Task:
    """What is attacked and how far it may move.

    Parameters
    ----------
    features, watched
        Columns of ``x``, and quantities derived from them.
    budget
        The limits.
    objective
        ``score`` or ``cross``.
    working_point
        Score in 0 … 1, or several of them.
    valid
        Torch function of a dict name → tensor (events,); returns booleans.
    solver
        Settings of the solver.
    penalty
        λ: what (Δ/σ)² = 1 of a feature with a resolution costs, in units of the gain of an event.
    composes
        ``True``: limits are to hold also for every union of groups, so that the correlation limit is taken
        relative to the smallest norm that a correlation matrix can have.
    score_edges
        Bins of the score, from 0 to 1. Where weights have both signs, none of them may fall below zero.
    """

    features: tuple[Feature, ...]
    watched: tuple[Watched, ...]
    budget: Budget
    objective: str = "score"
    working_point: float | tuple[float, ...] = 0.5
    valid: Callable[[dict[str, Tensor]], Tensor] | None = None
    solver: Solver = field(kw_only=True)
    penalty: float = 0.0
    composes: bool = False
    score_edges: NDArray[np.float64] = field(default_factory=lambda: np.linspace(0, 1, 21))

    @property
    def points(self) -> tuple[float, ...]:
        """Working points, the main one first."""
        return as_points(self.working_point)
