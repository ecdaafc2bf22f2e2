"""Run a solver and keep, group by group, the best iterate that is within every limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from coffea_conserv.attacks.problem import Problem
from coffea_conserv.attacks.transport import Run, State, Transport, usage

__all__ = ("Best", "solve")

_ROOM = 0.98
"""Share of each limit that an iterate may use: the judge counts in double precision."""


class Stepper(Protocol):
    """What the loop needs of a solver that is bound to a problem."""

    def step(self, state: State) -> State:
        """Make one step."""


@dataclass(frozen=True)
class Best:
    """Best iterate so far of each group.

    Parameters
    ----------
    x
        Features, shape (events, features); nominal where a group has no iterate within its limits.
    value
        Weighted mean of the objective, shape (groups,).
    found
        Step of the best iterate, shape (groups,); 0 is nominal.
    """

    x: Tensor
    value: Tensor
    found: Tensor


def solve(problem: Problem, settings: Transport, seed: int) -> Best:
    """Solve all groups of a problem together.

    Parameters
    ----------
    problem
        Events and limits.
    settings
        The solver.
    seed
        Of the random generator; the same seed gives the same answer on the same kind of device.
    """
    generator = torch.Generator(device=problem.x.device).manual_seed(seed)
    run = Run(problem, settings, generator)
    state = settings.init(problem)
    best = Best(problem.x, _value(problem, state), torch.zeros(problem.groups, dtype=torch.long))
    while not settings.done(state):
        state = run.step(state)
        best = _better(problem, state, best)
    return best


def _value(problem: Problem, state: State) -> Tensor:
    value = problem.objective.value(state.logit).double() * problem.weight
    zero = torch.zeros(problem.groups, dtype=torch.float64, device=value.device)
    total = zero.index_add(0, problem.group, problem.weight.double())
    return zero.index_add(0, problem.group, value) / total


def _better(problem: Problem, state: State, best: Best) -> Best:
    used = torch.linalg.matrix_norm(state.shift) / problem.correlation.clamp(min=1e-9)
    inside = used <= _ROOM
    if problem.tables is not None:
        inside &= (usage(problem, state) <= _ROOM).all(1)
    value = _value(problem, state)
    better = inside & (value > best.value)
    if not bool(better.any()):
        return best
    rows = better[problem.group]
    return Best(
        torch.where(rows[:, None], state.x, best.x),
        torch.where(better, value, best.value),
        torch.where(better.cpu(), state.step, best.found),
    )
