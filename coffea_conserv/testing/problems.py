"""Small problems with everything in them that can make trouble for a solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import hist
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.attacks.batch import Batch
from coffea_conserv.attacks.engine import propose, signed_scores
from coffea_conserv.attacks.judging import judge_groups
from coffea_conserv.attacks.task import Task
from coffea_conserv.features.feature import Feature, make_watched
from coffea_conserv.limits.budget import Budget
from coffea_conserv.limits.verdict import Limit
from coffea_conserv.solvers.problem import Problem
from coffea_conserv.solvers.protocol import Solver, solve
from coffea_conserv.solvers.transport.solver import Transport

__all__ = (
    "CPU",
    "EXACT",
    "MISSING",
    "OPEN",
    "WIDE",
    "Case",
    "Ring",
    "made_batch",
    "made_case",
    "made_features",
    "nailed_case",
    "odd_cases",
)

CPU = torch.device("cpu")
MISSING = -999.0

EXACT = Budget(rms=0.0, correlation=0.05, watch=0.2)
WIDE = Budget(rms=0.3, correlation=0.3, watch=1.0)
OPEN = Budget(rms=1.0, correlation=3.0, watch=10.0)

_WEIGHTS: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "equal": lambda _, events: np.ones(events),
    "two": lambda rng, events: np.where(rng.uniform(size=events) < 0.5, 1.0, 3.0),
    "varying": lambda rng, events: rng.lognormal(0, 0.5, events),
    "signed": lambda rng, events: np.where(rng.uniform(size=events) < 0.15, -1.0, 1.0),
    "extreme": lambda rng, events: 10.0 ** rng.uniform(-6, 6, events),
}


class _Constant(torch.nn.Module):
    """Has one answer for everything."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (events,)."""
        return 0.0 * x[:, 0]


class _Stairs(torch.nn.Module):
    """Has no gradient that would help."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (events,)."""
        return torch.floor(x[:, 0] * x[:, 1])


class _Hole(torch.nn.Module):
    """Is not defined where y is above 1.5."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (events,)."""
        return torch.where(x[:, 1] > 1.5, torch.nan, x[:, 0] - x[:, 1] ** 2)


class Ring(torch.nn.Module):
    """More like signal near the origin of the first two features; a third one helps a little."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (events,)."""
        third = torch.where(x[:, 2] > MISSING, x[:, 2], torch.zeros_like(x[:, 2]))
        return 1.5 - x[:, 0] ** 2 - x[:, 1] ** 2 + 0.2 * third


def made_features(**options: Any) -> tuple[Feature, ...]:
    """Two continuous features, one that can be missing, an integer, and a frozen one, different everywhere.

    Parameters
    ----------
    **options
        Of the first feature.
    """
    axis = hist.axis.Regular(24, -3, 3)
    return (
        Feature("x", axis, **options),
        Feature("y", axis),
        Feature("z", hist.axis.Regular(20, -3, 3), missing=MISSING),
        Feature("n", hist.axis.Integer(0, 8)),
        Feature("f", hist.axis.Regular(10, -3, 3), frozen=True),
    )


def made_batch(events: int = 400, *, groups: int = 2, weights: str = "equal", seed: int = 0) -> Batch:
    """Correlated events; every third lacks feature z.

    Parameters
    ----------
    events, groups, seed
        How many, and of what.
    weights
        ``equal``, ``two`` (two values), ``varying``, ``signed`` or ``extreme`` (twelve orders of magnitude).
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(events, 5))
    x[:, 1] = 0.5 * x[:, 0] + 0.9 * x[:, 1]
    x[:, 2] = 0.4 * x[:, 1] + x[:, 2]
    x[:, 3] = np.clip(np.round(2 + x[:, 0] + rng.normal(size=events)), 0, 7)
    x[rng.uniform(size=events) < 0.33, 2] = MISSING
    weight = _WEIGHTS[weights](rng, events)
    return Batch(x.astype(np.float32), weight, rng.integers(0, groups, events).astype(np.int64))


def _radius(columns: dict[str, Tensor]) -> Tensor:
    return torch.hypot(columns["x"], columns["y"])


@dataclass(frozen=True)
class Case:
    """Events, what is asked for, and a model.

    Parameters
    ----------
    batch, task
        As an engine gets them.
    model
        The classifier.
    direction
        ``signal`` or ``background``.
    """

    batch: Batch
    task: Task
    model: Any = field(default_factory=Ring)
    direction: str = "signal"

    def proposed(self, move: Callable[[Problem], Tensor]) -> NDArray[np.float32]:
        """Features as somebody moves them, shape (events, features); nobody has judged the sample."""
        return propose(self.batch, self.task, [self.model], self.direction, CPU, move).x

    def problems(self) -> list[Problem]:
        """What a solver gets: one problem, or one for each sign of the weights."""
        found: list[Problem] = []

        def keep(problem: Problem) -> Tensor:
            found.append(problem)
            return problem.x

        self.proposed(keep)
        return found

    def solved(self, solver: Solver, seed: int = 1) -> NDArray[np.float32]:
        """Features with the best iterates that a solver believes to be within the limits."""
        return self.proposed(lambda problem: solve(problem, solver, seed).x)

    def judged(self, x: NDArray[np.float32]) -> tuple[Limit, ...]:
        """Every limit in every group."""
        return judge_groups(self.batch, self.task, x, signed_scores(self.batch, x, [self.model], CPU))


def made_case(
    budget: Budget = EXACT,
    *,
    events: int = 400,
    weights: str = "equal",
    objective: str = "score",
    features: tuple[Feature, ...] | None = None,
    valid: Callable[[dict[str, Tensor]], Tensor] | None = None,
) -> Case:
    """Make a case with a watched radius; the arguments are those of :func:`made_batch` and of a task."""
    features = features or made_features()
    watched = make_watched({"r": (_radius, hist.axis.Regular(20, 0, 4))}, features)
    task = Task(features, watched, budget, objective=objective, valid=valid, solver=Transport())
    return Case(made_batch(events, weights=weights), task)


def nailed_case() -> Case:
    """Events of which each is possible as it is and in no other way."""
    case = made_case(OPEN, events=200, valid=_as_it_was)
    names = [feature.name for feature in case.task.features]
    context = {f"{name}0": case.batch.x[:, j].copy() for j, name in enumerate(names)}
    return replace(case, batch=replace(case.batch, context=context))


def _as_it_was(columns: dict[str, Tensor]) -> Tensor:
    return torch.stack([columns[name] == columns[f"{name}0"] for name in "xyznf"]).all(0)


def odd_cases() -> dict[str, Case]:
    """Samples and models that give a solver little to hold on to, by name."""
    case = made_case(Budget(rms=0.05, correlation=0.05, watch=0.2), events=160)
    batch, one = case.batch, hist.axis.Regular(1, -100, 100)
    alike, ties = np.repeat(batch.x[:1], len(batch.x), axis=0), batch.x.copy()
    ties[:, :3] = np.sign(ties[:, :3])
    wide = tuple(Feature(f.name, one, missing=f.missing, frozen=f.frozen) for f in case.task.features)
    weight = made_batch(len(batch.x), weights="extreme").weight
    defined = batch.x[:, 1] <= 1.5
    inside = Batch(batch.x[defined], batch.weight[defined], batch.group[defined])
    return {
        "identical events": replace(case, batch=replace(batch, x=alike)),
        "two values": replace(case, batch=replace(batch, x=ties)),
        "one bin": replace(case, task=replace(case.task, features=wide)),
        "weights from 1e-6 to 1e6": replace(case, batch=replace(batch, weight=weight)),
        "a constant model": replace(case, model=_Constant()),
        "a model of steps": replace(case, model=_Stairs()),
        "a model that is not defined everywhere": replace(case, batch=inside, model=_Hole()),
    }
