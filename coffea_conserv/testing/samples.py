"""Checks of what a solver makes of whole samples."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coffea_conserv.attacks.batch import scores
from coffea_conserv.attacks.engine import SMALLEST_GROUP, perturb
from coffea_conserv.features.feature import Feature, present
from coffea_conserv.limits.budget import Budget, Chi2
from coffea_conserv.limits.displacement import within
from coffea_conserv.solvers.problem import Problem
from coffea_conserv.solvers.protocol import Solver, solve
from coffea_conserv.studies.curve import fooling_curve
from coffea_conserv.testing.problems import (
    CPU,
    EXACT,
    OPEN,
    WIDE,
    Ring,
    made_batch,
    made_case,
    made_features,
    nailed_case,
    odd_cases,
)
from coffea_conserv.testing.states import Bounded, demand, walk

__all__ = (
    "caps_are_kept",
    "events_stay_possible",
    "globals_stay",
    "groups_are_respected",
    "it_moves_events",
    "larger_budgets_fool_no_less",
    "limits_are_kept",
    "odd_samples_do_no_harm",
    "the_seed_decides",
    "what_cannot_move_stays",
)

_LIMITS = {
    "exact marginals, equal weights": (EXACT, "equal"),
    "exact marginals, varying weights": (EXACT, "varying"),
    "exact marginals, no change of correlations": (Budget(rms=0.0, correlation=0.0, watch=0.2), "equal"),
    "r.m.s. of bins, varying weights": (Budget(rms=0.05, correlation=0.02, watch=0.2), "varying"),
    "band, two weights": (Budget(band=0.1, correlation=0.02, watch=0.2), "two"),
    "cumulative distributions, χ², single correlations": (
        Budget(rms=0.1, ks=0.02, chi2=Chi2(20.0, 4000), correlation=0.1, correlation_element=0.02, watch=0.2),
        "equal",
    ),
    "Jensen–Shannon distance, weights of both signs": (
        Budget(jsd=0.03, correlation=0.05, watch=0.2),
        "signed",
    ),
}

_MANY = 15
"""Steps whose events are looked at one by one."""


def limits_are_kept(solver: Solver) -> None:
    """What a solver takes to be within the limits is so for the judge, before any group is put back."""
    for name, (budget, weights) in _LIMITS.items():
        for case in (made_case(budget, weights=weights, objective=kind) for kind in ("score", "cross")):
            broken = [limit for limit in case.judged(case.solved(Bounded(solver))) if not limit.passed]
            if broken:
                worst = max(broken, key=lambda limit: limit.used)
                msg = (
                    f"{name}: {worst.name} of group {worst.group} is {worst.value:g}, the limit is "
                    f"{worst.limit:g}, and totals said that it is kept"
                )
                raise AssertionError(msg)


def events_stay_possible(solver: Solver) -> None:
    """Frozen, missing and immovable values stay; whole numbers stay whole; ranges and ``valid`` hold."""
    features = made_features(low=-1.5, high=1.5)
    case = made_case(OPEN, features=features, valid=lambda columns: columns["y"] <= columns["x"] + 1.0)
    for problem, _, states in walk(solver, case, _MANY):
        for state in states:
            _possible(problem, state)


def _possible(problem: Problem, state: Any) -> None:
    """Raise unless every value of a state may be where it is."""
    moved, where = state.x != problem.x, f"step {state.step}"
    demand(not moved[~problem.there].any(), f"{where} moves missing values; see problem.there")
    for j, feature in enumerate(problem.features):
        _values(feature, state.x[:, j][moved[:, j]].numpy(), where)
    stuck = (moved & ~problem.free).any(dim=0).nonzero()[:, 0].tolist()
    which = ", ".join(problem.features[j].name for j in stuck)
    demand(not stuck, f"{where} moves values of {which} that may not move; see problem.free")
    some = moved.any(dim=1).nonzero()[:, 0]
    if problem.valid is not None and len(some):
        fine = problem.valid(state.x[some], some)
        demand(fine.all(), f"{where} makes {int((~fine).sum())} events impossible; ask problem.valid")


def _values(feature: Feature, new: NDArray[np.float32], where: str) -> None:
    """Raise unless new values of a feature are possible."""
    what = f"feature {feature.name!r}"
    demand(
        not (feature.frozen and len(new)), f"{where} moves the frozen {what}, or changes the order of events"
    )
    demand(np.isfinite(new).all(), f"{where} makes {what} NaN or infinite")
    demand(present(feature, new).all(), f"{where} makes values of {what} missing")
    whole = feature.axis.traits.continuous or (new == np.floor(new)).all()
    demand(whole, f"{where} makes whole numbers of {what} fractional")
    low = -np.inf if feature.low is None else feature.low
    high = np.inf if feature.high is None else feature.high
    inside = ((new >= low) & (new <= high)).all()
    demand(inside, f"{where} moves {what} out of its range {low:g} … {high:g}")


def caps_are_kept(solver: Solver) -> None:
    """No value moves farther than ``max_shift`` and ``max_relative_shift`` allow, in any iterate."""
    for features in (made_features(max_shift=0.4), made_features(max_relative_shift=0.3)):
        case = made_case(OPEN, features=features)
        for problem, _, states in walk(solver, case, _MANY):
            before = problem.x[:, 0].numpy()
            for state in states:
                far = ~within(features[0], before, state.x[:, 0].numpy())
                msg = f"step {state.step} moves {far.sum()} values farther than their cap; see problem.reach"
                demand(not far.any(), msg)


def the_seed_decides(solver: Solver) -> None:
    """The same seed gives the same events, bit by bit, whatever was drawn elsewhere in between."""
    case = made_case(WIDE, events=200)
    with torch.random.fork_rng(devices=[]):
        kept = np.random.get_state(), random.getstate()  # noqa: NPY002 -- the global ones must not matter
        answers = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            answers.append(case.solved(Bounded(solver), seed=5))
        np.random.set_state(kept[0])  # noqa: NPY002
        random.setstate(kept[1])
    same = np.array_equal(answers[0], answers[1])
    demand(same, "the same seed gives other events; let all randomness come from the seed of bind()")


def globals_stay(solver: Solver) -> None:
    """Generators, threads, gradients and the default type of torch and NumPy are left as they were."""
    before = _globals()
    made_case(WIDE, events=200).solved(Bounded(solver))
    changed = [name for name, value in _globals().items() if value != before[name]]
    demand(not changed, f"changes {', '.join(changed)}, which others use")


def _globals() -> dict[str, Any]:
    return {
        "the generator of torch": bytes(torch.get_rng_state().numpy()),
        "the generator of NumPy": repr(np.random.get_state()),  # noqa: NPY002
        "the generator of random": random.getstate(),
        "the number of threads": torch.get_num_threads(),
        "the default type": torch.get_default_dtype(),
        "whether gradients are computed": torch.is_grad_enabled(),
        "what NumPy does about errors": np.geterr(),
    }


def what_cannot_move_stays(solver: Solver) -> None:
    """Nothing moves where every feature is frozen, no event may move, or ``Budget(move=0)`` forbids it."""
    frozen = tuple(replace(feature, frozen=True) for feature in made_features())
    cases = {
        "every feature is frozen": made_case(WIDE, events=200, features=frozen),
        "no candidate is valid": nailed_case(),
    }
    for name, case in cases.items():
        for problem in case.problems():
            moved = solve(problem, Bounded(solver), 1).x
            demand(torch.equal(moved, problem.x), f"events move although {name}")
    case = made_case(Budget(move=0), events=200)
    task = replace(case.task, solver=Bounded(solver))
    same = np.array_equal(perturb(case.batch, task, [Ring()], "signal", 1, CPU).x, case.batch.x)
    demand(same, "events move although Budget(move=0) forbids it")


def groups_are_respected(solver: Solver) -> None:
    """Small groups and events in none stay nominal."""
    case = made_case(WIDE)
    group = case.batch.group.copy()
    group[::9] = -1
    group[np.flatnonzero(group == 1)[SMALLEST_GROUP - 1 :]] = -1
    batch = replace(case.batch, group=group)
    outcome = perturb(batch, replace(case.task, solver=Bounded(solver)), [Ring()], "signal", 1, CPU)
    moved = (outcome.x != batch.x).any(axis=1)
    demand(not moved[group < 0].any(), "events in no group move")
    demand(not moved[group == 1].any(), "events of a group that is too small move")
    demand(outcome.unattacked[group == 1].all(), "a group that is too small does not count as unattacked")


def it_moves_events(solver: Solver) -> None:
    """Within wide limits the score moves to where it is to move, and events cross the working point."""
    for kind in ("score", "cross"):
        for direction, sign in (("signal", 1.0), ("background", -1.0)):
            case = replace(made_case(WIDE, objective=kind), direction=direction)
            x = case.solved(Bounded(solver))
            before, after = (
                sign * (scores(case.batch, [Ring()], part, CPU) - 0.5) for part in (case.batch.x, x)
            )
            rise = (after - before).mean() if kind == "score" else ((after > 0).mean() - (before > 0).mean())
            msg = f"objective {kind!r}, direction {direction!r}: nothing is gained within wide limits"
            demand(rise > 0, msg)


def larger_budgets_fool_no_less(solver: Solver) -> None:
    """A curve over nested budgets does not fall, and keeps every limit."""
    batch, features = made_batch(), made_features()
    budgets = [Budget(move=0), Budget(rms=0.02, correlation=0.05), Budget(rms=0.2, correlation=0.2)]
    found = fooling_curve(
        batch.x, Ring(), features, budgets=budgets, groups=batch.group, solver=Bounded(solver), device="cpu"
    )
    ratios = [result.fooling_ratio for result in found]
    demand(all(np.diff(ratios) >= 0), f"fooling ratios {ratios} of nested budgets fall")
    demand(not any(result.verdict.broken for result in found), "a limit of a nested budget is broken")


def odd_samples_do_no_harm(solver: Solver) -> None:
    """Identical events, one bin, ties, extreme weights, constant, stepped and undefined models."""
    for name, case in odd_cases().items():
        x = case.solved(Bounded(solver))
        demand(np.isfinite(x).all(), f"{name}: features are NaN or infinite")
        fine = np.isfinite(scores(case.batch, [case.model], x, CPU)).all()
        demand(fine, f"{name}: events end where the model is not defined")
        broken = [limit.name for limit in case.judged(x) if not limit.passed]
        demand(not broken, f"{name}: {', '.join(broken)} not kept, and totals said that they are")
