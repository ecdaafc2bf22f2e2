"""Settings of an attack: options, what each of them may be, and the task that is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.features.feature import Feature, Watched
from coffea_conserv.features.working_point import as_points
from coffea_conserv.limits.budget import Budget
from coffea_conserv.models.device import check_device
from coffea_conserv.solvers.protocol import Solver
from coffea_conserv.solvers.search.candidates import check_single
from coffea_conserv.solvers.search.solver import Search
from coffea_conserv.solvers.transport.solver import Transport

__all__ = ("DIRECTIONS", "OBJECTIVES", "TARGETS", "Task", "check_moves", "check_settings", "short")


DIRECTIONS = ("signal", "background")
OBJECTIVES = ("score", "cross")
TARGETS = ("all", "correct")


def short(score: NDArray[np.float32], point: float, direction: str) -> NDArray[np.bool_]:
    """Events that are not on the side of the working point that the attack moves to."""
    sign = 1.0 if direction == "signal" else -1.0
    return np.asarray(sign * (score - point) <= 0)


def check_settings(budget: Any, seed: Any, device: Any) -> None:
    """Check what has a type and no check of its own."""
    msg = ""
    if not isinstance(budget, Budget):
        msg = f"budget must be a Budget, such as Budget(rms=0.05), got {budget!r}"
    elif isinstance(seed, bool) or not isinstance(seed, Integral):
        msg = f"seed must be an integer, got {seed!r}"
    if msg:
        raise ConfigurationError(msg)
    check_device(device)


def check_moves(penalty: Any, features: Sequence[Feature], solver: Solver) -> None:
    """Raise unless the solver can move the features, and a price on moves is a number with a meaning."""
    number = isinstance(penalty, Real) and not isinstance(penalty, bool)
    if not (number and math.isfinite(penalty) and penalty >= 0):
        msg = f"penalty={penalty!r} must be a finite number from 0, the price of a move by one resolution"
        raise ConfigurationError(msg)
    if isinstance(solver, Search):
        check_single(features)
    if penalty > 0 and isinstance(solver, Search):
        msg = f"penalty={penalty}: search does not weigh moves; use solver='transport', or max_shift="
        raise ConfigurationError(msg)
    if penalty > 0 and not any(feature.resolved and not feature.frozen for feature in features):
        msg = (
            f"penalty={penalty} is a price for moves in units of the resolution, but no feature that may "
            "move has one; give resolution= or relative_resolution= to some"
        )
        raise ConfigurationError(msg)


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
    solver: Solver = field(default_factory=Transport)
    penalty: float = 0.0
    composes: bool = False
    score_edges: NDArray[np.float64] = field(default_factory=lambda: np.linspace(0, 1, 21))

    @property
    def points(self) -> tuple[float, ...]:
        """Working points, the main one first."""
        return as_points(self.working_point)
