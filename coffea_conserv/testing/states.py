"""Checks of settings and states, one step at a time."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from coffea_conserv.attacks.registry import named_solver
from coffea_conserv.fingerprint import fingerprint
from coffea_conserv.solvers.constraints import Totals
from coffea_conserv.solvers.problem import Problem, recount
from coffea_conserv.solvers.protocol import Solver, Stepper
from coffea_conserv.testing.problems import WIDE, Case, made_case

__all__ = (
    "Bounded",
    "demand",
    "it_ends",
    "it_starts_from_nominal",
    "settings_are_values",
    "states_are_values",
    "steps_are_functions",
    "sums_are_those_of_the_events",
    "walk",
)

_MOST = 10_000
"""Steps after which a solver is taken to be endless."""

_FEW = 4
"""Steps that are looked at one by one."""

_ROUNDING = 1e-6


def demand(fine: Any, msg: str) -> None:
    """Raise an ``AssertionError`` unless something is true."""
    if not bool(fine):
        raise AssertionError(msg)


@dataclass(frozen=True)
class Bounded:
    """A solver that is stopped if it never ends.

    Parameters
    ----------
    solver
        Which one.
    """

    solver: Solver

    def bind(self, problem: Problem, seed: int) -> BoundedRun:
        """Prepare to solve a problem."""
        return BoundedRun(self.solver.bind(problem, seed))


class BoundedRun:
    """A run that counts its steps."""

    def __init__(self, run: Stepper[Any]) -> None:
        self.run, self.steps = run, 0

    def init(self) -> Any:
        """Start from the nominal events."""
        return self.run.init()

    def done(self, state: Any) -> bool:
        """Whether no more step is worth while."""
        return self.run.done(state)

    def step(self, state: Any) -> Any:
        """Make one step, unless there were too many."""
        self.steps += 1
        demand(self.steps <= _MOST, f"not done after {_MOST} steps; done(state) has to become true")
        return self.run.step(state)


Walk = tuple[Problem, Stepper[Any], list[Any]]


def walk(solver: Solver, case: Case, most: int = _FEW) -> list[Walk]:
    """First states of every problem of a case, with the problem and its run."""
    found: list[Walk] = []
    for problem in case.problems():
        run = solver.bind(problem, 1)
        states = [run.init()]
        while len(states) <= most and not run.done(states[-1]):
            states.append(run.step(states[-1]))
        found.append((problem, run, states))
    return found


def _seen(state: Any) -> str:
    """Hash of all that can be seen of a state."""
    return fingerprint(state.x, state.logit, state.totals, state.step, state)


def _tensors(problem: Problem) -> str:
    """Hash of what a problem consists of."""
    parts = [getattr(problem, part.name) for part in fields(problem)]
    return fingerprint([part for part in parts if isinstance(part, Tensor)], problem.totals, problem.limits)


def settings_are_values(solver: Solver) -> None:
    """Settings travel, and their text and hash show every one of them; using them changes nothing."""
    named_solver(solver)
    before = repr(solver), fingerprint(solver)
    sent = pickle.dumps(solver)
    for how, twin in (("pickle", pickle.loads(sent)), ("deepcopy", copy.deepcopy(solver))):  # noqa: S301
        same = (repr(twin), fingerprint(twin)) == before
        demand(same, f"after {how} the settings are {twin!r}")
    given: Any = solver
    if is_dataclass(given):
        for part in fields(given):
            twin = copy.copy(solver)
            object.__setattr__(twin, part.name, ("changed",))
            shown = repr(twin) != before[0] and fingerprint(twin) != before[1]
            demand(shown, f"repr and fingerprint do not both show the setting {part.name!r}")
    walk(solver, made_case(), 1)
    demand((repr(solver), fingerprint(solver)) == before, f"binding changes the settings to {solver!r}")


def it_starts_from_nominal(solver: Solver) -> None:
    """The first state holds the nominal events, their logits and sums, as step 0."""
    for problem, _, (state, *_) in walk(solver, made_case(), 0):
        demand(torch.equal(state.x, problem.x), "init().x are not the nominal events")
        demand(state.step == 0, f"init().step is {state.step}, not 0")
        _same_sums(problem, state.totals, problem.totals, "init().totals are not those of the nominal events")


def it_ends(solver: Solver) -> None:
    """``done`` becomes true, and every step counts as one."""
    for problem in made_case(events=120).problems():
        run = Bounded(solver).bind(problem, 1)
        state = run.init()
        while not run.done(state):
            last, state = state, run.step(state)
            demand(state.step == last.step + 1, f"step() counts from {last.step} to {state.step}")


def states_are_values(solver: Solver) -> None:
    """A step changes neither the state that it starts from nor the problem, and nobody else can."""
    for problem, run, states in walk(solver, made_case(WIDE, weights="varying")):
        before, start = _tensors(problem), [_seen(state) for state in states]
        for state in states[:-1]:
            run.step(state)
        demand([_seen(state) for state in states] == start, "step() changes the state that it starts from")
        demand(_tensors(problem) == before, "step() changes the problem in place")
        demand(_is_frozen(states[0]), "a state can be written to; make it a frozen dataclass")


def _is_frozen(state: Any) -> bool:
    try:
        state.step = state.step
    except (AttributeError, TypeError):
        return True
    return False


def steps_are_functions(solver: Solver) -> None:
    """The same state gives the same next one: again, after others, in another run, after a pickle."""
    for problem, run, states in walk(solver, made_case(WIDE, weights="varying")):
        other = solver.bind(problem, 1)
        for state, after in pairwise(states):
            arrived = pickle.loads(pickle.dumps(state))  # noqa: S301 -- written here
            for where, again in (("the same run", run.step(state)), ("another run", other.step(arrived))):
                msg = (
                    f"step {after.step} made again in {where} gives another state; "
                    "let all randomness come from the seed and state.step"
                )
                demand(_seen(again) == _seen(after), msg)


def sums_are_those_of_the_events(solver: Solver) -> None:
    """Logits and totals of every iterate are those of its features, whose shape and type stay."""
    cases = [made_case(), *(made_case(WIDE, weights=weights) for weights in ("equal", "varying", "signed"))]
    for problem, _, states in (found for case in cases for found in walk(solver, case)):
        events = torch.arange(len(problem.x))
        for state in states:
            kinds = [f"{x.dtype} {tuple(x.shape)}" for x in (state.x, problem.x)]
            demand(kinds[0] == kinds[1], f"x of step {state.step} is {kinds[0]}; {kinds[1]} is needed")
            logit = problem.logit(state.x, events)
            away = float((state.logit - logit).abs().max())
            demand(away <= 1e-4, f"logits of step {state.step} are not those of its events, by {away:g}")
            where = f"totals of step {state.step} are not those of its events"
            _same_sums(problem, state.totals, recount(problem, state.x, logit), where)


def _same_sums(problem: Problem, found: Totals, expected: Totals, where: str) -> None:
    """Raise unless sums agree where the limits look at them, in units of the weight of the group."""
    limits, total = problem.limits, problem.limits.total[:, None, None]
    for part in ("first", "second", "cross", "content"):
        away = (getattr(found, part) - getattr(expected, part)).abs() / total
        if part != "content":
            away = away[limits.good]
        worst = float(away.max()) if away.numel() else 0.0
        msg = f"{where}: {part} is off by {worst:g} per weight; recount(problem, x, logit) makes them anew"
        demand(worst <= _ROUNDING, msg)
