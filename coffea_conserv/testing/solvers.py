"""The suite: every check by name, and all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coffea_conserv.errors import FAILURES
from coffea_conserv.solvers.protocol import Solver
from coffea_conserv.testing import samples, states

__all__ = ("CHECKS", "Check", "check_solver")

Check = Callable[[Any], None]
"""Gets the settings of a solver and raises an ``AssertionError`` that says what is wrong."""

CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        states.settings_are_values,
        states.it_starts_from_nominal,
        states.it_ends,
        states.states_are_values,
        states.steps_are_functions,
        states.sums_are_those_of_the_events,
        samples.events_stay_possible,
        samples.caps_are_kept,
        samples.limits_are_kept,
        samples.what_cannot_move_stays,
        samples.groups_are_respected,
        samples.the_seed_decides,
        samples.globals_stay,
        samples.it_moves_events,
        samples.larger_budgets_fool_no_less,
        samples.odd_samples_do_no_harm,
    )
}
"""Checks by name; the docstring of each says what it demands."""


def check_solver(solver: Solver) -> None:
    """Check that a solver keeps every rule of the protocol, under the judge, also for odd samples.

    Parameters
    ----------
    solver
        Settings of the solver, as for :func:`coffea_conserv.attack`. Some ten steps are enough: the samples
        hold some hundred events.

    Raises
    ------
    AssertionError
        With every check that failed and what it found.

    Examples
    --------
    >>> from coffea_conserv.solvers.transport.solver import Transport
    >>> check_solver(Transport(steps=12))
    """
    wrong = []
    for name, check in CHECKS.items():
        try:
            check(solver)
        except FAILURES as error:  # whatever a solver of somebody else does
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            wrong.append(f"- {name}: {kind}{error}")
    if wrong:
        msg = f"{solver!r} breaks {len(wrong)} of {len(CHECKS)} rules\n" + "\n".join(wrong)
        raise AssertionError(msg)
