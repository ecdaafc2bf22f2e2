"""Solvers by name, and the settings of one as given by the user."""

from __future__ import annotations

from typing import Any

from coffea_conserv.checks import check_choice
from coffea_conserv.errors import ConfigurationError
from coffea_conserv.solvers.protocol import Solver
from coffea_conserv.solvers.search.solver import Search
from coffea_conserv.solvers.transport.solver import Transport

__all__ = ("SOLVERS", "named_solver")


SOLVERS: dict[str, Solver] = {"transport": Transport(), "search": Search()}
"""Solvers by name."""


def named_solver(solver: Any) -> Solver:
    """Settings of a solver that is given by name or by its settings."""
    if isinstance(solver, str):
        check_choice("solver", solver, tuple(SOLVERS))
        return SOLVERS[solver]
    if isinstance(solver, type) or not isinstance(solver, Solver):
        msg = f"solver must be a name or the settings of one, got {solver!r}"
        raise ConfigurationError(msg)
    if type(solver).__repr__ is object.__repr__:  # it would be another one in every process
        msg = f"the repr of solver {solver!r} must show its settings; make it a frozen dataclass"
        raise ConfigurationError(msg)
    return solver
