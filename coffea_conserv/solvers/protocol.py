"""Protocol of a solver, and the loop that keeps the best iterate within every limit, group by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from coffea_conserv.solvers.constraints import Totals, used
from coffea_conserv.solvers.problem import Problem

__all__ = ("Best", "Iterate", "Solver", "Stepper", "solve")


class Iterate(Protocol):
    """What is looked at of the state of a solver, a frozen value; the rest is the solver's own."""

    @property
    def x(self) -> Tensor:
        """Features, shape (events, features)."""

    @property
    def logit(self) -> Tensor:
        """Logits of these events, shape (events,)."""

    @property
    def totals(self) -> Totals:
        """Sums over these events."""

    @property
    def step(self) -> int:
        """Number of steps done."""


S = TypeVar("S", bound=Iterate)


class Stepper(Protocol[S]):
    """A solver that is bound to a problem."""

    def init(self) -> S:
        """Start from the nominal events."""

    def step(self, state: S) -> S:
        """Make one step; the given state stays as it is."""

    def done(self, state: S) -> bool:
        """Whether no more step is worth while."""


@runtime_checkable
class Solver(Protocol):
    """Settings of a solver: a frozen value with a readable ``repr``, which goes into the configuration."""

    def bind(self, problem: Problem, seed: int) -> Stepper[Any]:
        """Prepare to solve a problem; all randomness comes from the seed."""


@dataclass(frozen=True)
class Best:
    """Best iterate so far of each group.

    Parameters
    ----------
    x
        Features, shape (events, features); nominal where a group has no iterate within its limits.
    value
        Weighted mean of the objective, less what moves cost, shape (groups,).
    found
        Step of the best iterate, shape (groups,); 0 is nominal.
    """

    x: Tensor
    value: Tensor
    found: Tensor


def solve(problem: Problem, solver: Solver, seed: int) -> Best:
    """Solve all groups of a problem together.

    Parameters
    ----------
    problem
        Events and limits.
    solver
        How to solve it.
    seed
        Of the random generator; the same seed gives the same answer on the same kind of device.
    """
    run = solver.bind(problem, seed)
    state = run.init()
    best = Best(problem.x, _value(problem, state), torch.zeros_like(problem.limits.total, dtype=torch.long))
    while not run.done(state):
        state = run.step(state)
        best = _better(problem, state, best)
    return best


def _value(problem: Problem, state: Iterate) -> Tensor:
    value = problem.objective.value(state.logit).double()
    if problem.reach is not None and problem.reach.priced:
        value = value - problem.reach.total(state.x)
    value = value * problem.weight
    zero = torch.zeros(problem.groups, dtype=torch.float64, device=value.device)
    total = zero.index_add(0, problem.group, problem.weight.double())
    return zero.index_add(0, problem.group, value) / total


def _better(problem: Problem, state: Iterate, best: Best) -> Best:
    inside = (used(problem.limits, state.totals) <= 1.0).all(1)
    value = _value(problem, state)
    better = inside & (value > best.value)
    known = state.x.device.type == "cpu"  # to ask a GPU would be to wait for it
    if known and not bool(better.any()):
        return best
    same = known and bool(better.all())
    x = state.x if same else torch.where(better[problem.group][:, None], state.x, best.x)
    return Best(x, torch.where(better, value, best.value), torch.where(better, state.step, best.found))
