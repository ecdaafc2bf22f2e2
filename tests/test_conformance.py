"""The conformance suite: all solvers keep it, one from the docs too, and every broken rule is found."""

from __future__ import annotations

import re
import sys
import types
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_problems import assert_same_sums, made_batch, made_problem, made_task, recomputed
from test_transport import BUDGETS

from coffea_conserv.solvers.constraints import Totals
from coffea_conserv.solvers.problem import recount
from coffea_conserv.solvers.search.solver import Search
from coffea_conserv.solvers.transport.solver import Transport
from coffea_conserv.testing import CHECKS, check_solver

PAGE = (Path(__file__).parents[1] / "docs" / "solvers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(
    r"<!-- example: tests/test_conformance.py runs this -->\n```python\n(.*?)```", PAGE, re.DOTALL
)


def page():
    """Module that the blocks of the page make; states are pickled, so it must be importable."""
    module = types.ModuleType("page_of_solvers")
    sys.modules[module.__name__] = module
    exec(compile(BLOCKS[0], "solvers.md", "exec"), vars(module))  # noqa: S102 -- our own page
    return module


PAGES = page()
GREEDY = PAGES.Greedy(steps=15)
SOLVERS = {
    "transport": Transport(steps=15),
    "search": Search(num_candidates=10, iterations=2),
    "third": GREEDY,
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_keep_every_rule(name, check):
    """Both solvers of the package and the one of the page."""
    check(SOLVERS[name])


def test_the_page_runs_and_says_which_rules_there_are():
    """The second block of the page; every check has a sentence."""
    exec(compile(BLOCKS[1], "solvers.md", "exec"), vars(PAGES))  # noqa: S102 -- our own page
    assert len(BLOCKS) == 2
    assert all(check.__doc__.strip().endswith(".") for check in CHECKS.values())


@pytest.mark.parametrize("weights", ["equal", "two", "varying", "signed"])
@pytest.mark.parametrize("name", ["exact", "band"])
def test_sums_that_are_counted_anew_are_those_of_plain_loops(name, weights):
    """Of nominal events they are those of the problem, of others what loops over events give."""
    _, problem = made_problem(made_batch(300, weights=weights), made_task(BUDGETS[name]))
    events = torch.arange(len(problem.x))
    found = recount(problem, problem.x, problem.logit(problem.x, events))
    assert_same_sums(found, problem.totals, problem.limits.weight)
    run = Transport(steps=10).bind(problem, 1)
    state = run.step(run.step(run.init()))
    expected = recomputed(problem, state.z, state.cells)
    assert_same_sums(recount(problem, state.x, state.logit), expected, problem.limits.weight)


# --- solvers that break one rule each ----------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """The third solver with something wrong, as a function of its run, the state before and the one after."""

    how: str
    steps: int = 15

    def bind(self, problem, seed):
        """Prepare to solve a problem."""
        return BrokenRun(GREEDY.bind(problem, seed), self)


class BrokenRun:
    """A run that is made wrong in one way."""

    def __init__(self, run, settings):
        self.run, self.settings, self.calls = run, settings, 0
        self.problem = run.problem

    def init(self):
        """Start, not always from nominal."""
        state = self.run.init()
        if self.settings.how == "starts elsewhere":
            return self.run.step(state)
        return Writable(state.x, state.logit, state.totals, 0) if self.settings.how == "writable" else state

    def done(self, state):
        """End, or not."""
        return self.settings.how != "endless" and state.step >= self.settings.steps

    def step(self, state):
        """Step, and do something wrong."""
        self.calls += 1
        return WRONG[self.settings.how](self, state)


@dataclass
class Writable:
    """A state that is no value."""

    x: torch.Tensor
    logit: torch.Tensor
    totals: Totals
    step: int


def stepped(run, state):
    """Step as the third solver does."""
    return run.run.step(state)


def moved(column, new, *, true_sums=True):
    """Give some events of one column other values, with logits and sums that are true, or not."""

    def step(run, state):
        after, problem = run.run.step(state), run.problem
        x = after.x.clone()
        x[:, column] = new(x[:, column], problem)
        logit = problem.logit(x, torch.arange(len(x)))
        totals = recount(problem, x, logit) if true_sums else after.totals
        return replace(after, x=x, logit=logit, totals=totals)

    return step


def some(column, problem, value):
    """Present values, every seventh of them another one."""
    turn = torch.arange(len(column)) % 7 == 0
    return torch.where(turn & (column > -900), value, column)


def in_place(run, state):
    """Write into the state."""
    state.x[:5, 0] += 0.0625
    return run.run.step(state)


def in_problem(run, state):
    """Write into the problem."""
    run.problem.weight[:] *= 1.125
    return run.run.step(state)


def hidden(run, state):
    """Draw from a generator that is not part of the state."""
    after = run.run.step(replace(state, step=1000 * run.calls))
    return replace(after, step=state.step + 1)


def global_draw(run, state):
    """Draw from the generator of everybody."""
    after = run.run.step(replace(state, step=int(torch.randint(10**6, ()))))
    return replace(after, step=state.step + 1)


def loud(run, state):
    """Change a setting of everybody."""
    np.random.rand()  # noqa: NPY002 -- that is what is wrong
    return run.run.step(state)


def idle(run, state):
    """Do nothing."""
    return replace(state, step=state.step + 1)


def skipping(run, state):
    """Count wrongly."""
    return replace(run.run.step(state), step=state.step + 2)


def wrong_logit(run, state):
    """Give logits of other events."""
    after = run.run.step(state)
    return replace(after, logit=after.logit + 0.01)


def double(run, state):
    """Give features of another type."""
    after = run.run.step(replace(state, x=state.x.float()))
    return replace(after, x=after.x.double())


def unasked(run, state):
    """Ask neither for valid events nor for caps."""
    free, many = replace(run.problem, valid=None, reach=None), replace(run.run.settings, share=0.5)
    return replace(run.run, problem=free, settings=many).step(state)


def nan_values(run, state):
    """Let events go where the model is not defined, and say that they are fine."""
    after = run.run.step(state)
    x = after.x.clone()
    x[::7, 1] = torch.nan
    return replace(after, x=x)


WRONG = {
    "starts elsewhere": stepped,
    "writable": lambda run, state: Writable(**vars(run.run.step(state))),
    "endless": idle,
    "writes into the state": in_place,
    "writes into the problem": in_problem,
    "hidden generator": hidden,
    "global generator": global_draw,
    "loud": loud,
    "idle": idle,
    "counts wrongly": skipping,
    "wrong logits": wrong_logit,
    "another type": double,
    "asks for nothing": unasked,
    "not a number": nan_values,
    "wrong sums": moved(0, lambda c, p: some(c, p, 0.5), true_sums=False),
    "moves frozen": moved(4, lambda c, p: torch.flip(c, [0])),
    "moves missing": moved(2, lambda c, p: torch.where(c < -900, 0.0, c)),
    "makes missing": moved(2, lambda c, p: some(c, p, -999.0)),
    "fractions": moved(3, lambda c, p: some(c, p, 1.5)),
    "out of range": moved(0, lambda c, p: some(c, p, 2.5)),
    "moves immovable": moved(0, lambda c, p: torch.where(p.free[:, 0], c, 0.5)),
}

CAUGHT = [
    ("starts elsewhere", "it_starts_from_nominal", r"init\(\).x are not the nominal events"),
    ("writable", "states_are_values", r"a state can be written to; make it a frozen dataclass"),
    ("endless", "it_ends", r"not done after 10000 steps; done\(state\) has to become true"),
    ("writes into the state", "states_are_values", r"step\(\) changes the state that it starts from"),
    ("writes into the problem", "states_are_values", r"step\(\) changes the problem in place"),
    ("hidden generator", "steps_are_functions", r"step \d made again in the same run gives another state"),
    ("global generator", "the_seed_decides", r"the same seed gives other events"),
    ("loud", "globals_stay", r"changes the generator of NumPy, which others use"),
    ("idle", "it_moves_events", r"objective 'score', direction 'signal': nothing is gained"),
    ("counts wrongly", "it_ends", r"step\(\) counts from 0 to 2"),
    ("wrong logits", "sums_are_those_of_the_events", r"logits of step 1 are not .* by 0.01"),
    (
        "another type",
        "sums_are_those_of_the_events",
        r"x of step 1 is torch.float64 .*torch.float32 .* needed",
    ),
    ("wrong sums", "sums_are_those_of_the_events", r"totals of step 1 are not .* is off by .*recount"),
    (
        "wrong sums",
        "limits_are_kept",
        r"equal weights: \w.* of group \d is .* and totals said that it is kept",
    ),
    ("asks for nothing", "events_stay_possible", r"makes \d+ events impossible; ask problem.valid"),
    ("asks for nothing", "what_cannot_move_stays", r"events move although no candidate is valid"),
    ("asks for nothing", "caps_are_kept", r"moves \d+ values farther than their cap; see problem.reach"),
    ("not a number", "events_stay_possible", r"makes feature 'y' NaN or infinite"),
    ("moves frozen", "events_stay_possible", r"moves the frozen feature 'f', or changes the order of events"),
    ("moves missing", "events_stay_possible", r"moves missing values; see problem.there"),
    ("makes missing", "events_stay_possible", r"makes values of feature 'z' missing"),
    ("fractions", "events_stay_possible", r"makes whole numbers of feature 'n' fractional"),
    ("out of range", "events_stay_possible", r"moves feature 'x' out of its range -1.5 … 1.5"),
    ("moves immovable", "events_stay_possible", r"moves values of x that may not move; see problem.free"),
]


@pytest.mark.parametrize(("how", "check", "message"), CAUGHT, ids=[f"{how}: {c}" for how, c, _ in CAUGHT])
def test_every_broken_rule_is_found(how, check, message):
    """A solver that breaks one rule fails the check of this rule, with what to do."""
    with pytest.raises(AssertionError, match=message):
        CHECKS[check](Broken(how))


def test_all_that_is_wrong_is_told_at_once():
    """The whole suite names every broken rule, and what the solver raised itself."""
    with pytest.raises(AssertionError, match=r"breaks \d+ of 16 rules\n(.*\n)*- it_moves_events: objective"):
        check_solver(Broken("idle", steps=1))
    with pytest.raises(AssertionError, match=r"- it_ends: KeyError: 'unheard of'"):
        check_solver(Broken("unheard of", steps=1))


@dataclass(frozen=True)
class Secretive(Broken):
    """A setting that its text does not show."""

    secret: float = field(default=1.0, repr=False)


class Forgetful:
    """Settings that change when they are used, and get lost on the way."""

    __slots__ = ("steps",)

    def __init__(self, steps):
        self.steps = steps

    def __repr__(self):
        return f"Forgetful({self.steps})"

    def bind(self, problem, seed):
        """Prepare to solve a problem, and count."""
        self.steps += 1
        return GREEDY.bind(problem, seed)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (Secretive("idle"), r"repr and fingerprint do not both show the setting 'secret'"),
        (Forgetful(3), r"binding changes the settings to Forgetful\(4\)"),
    ],
)
def test_settings_that_are_no_values(solver, message):
    """They could not be part of a configuration."""
    with pytest.raises(AssertionError, match=message):
        CHECKS["settings_are_values"](solver)
