"""Settings of an attack: options, what each of them may be, and the task that is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.features.feature import Feature
from coffea_conserv.limits.budget import Budget
from coffea_conserv.models.device import check_device
from coffea_conserv.solvers.protocol import Solver
from coffea_conserv.solvers.search.candidates import check_single
from coffea_conserv.solvers.search.solver import Search

__all__ = ("DIRECTIONS", "OBJECTIVES", "TARGETS", "check_moves", "check_settings", "short")


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
