"""Problems for the solver: a few hundred events with everything that can make trouble."""

from __future__ import annotations

from dataclasses import replace

import hist
import numpy as np
import torch

from coffea_conserv.attacks.batch import Batch
from coffea_conserv.attacks.negative_weights import by_sign
from coffea_conserv.attacks.setup import Chosen, make_problem
from coffea_conserv.attacks.task import Task
from coffea_conserv.features.feature import Feature, make_watched
from coffea_conserv.limits.budget import Budget
from coffea_conserv.solvers.constraints import Totals
from coffea_conserv.solvers.problem import sum_moments
from coffea_conserv.solvers.transport.solver import Transport

CPU = torch.device("cpu")
MISSING = -999.0


class Ring(torch.nn.Module):
    """More like signal near the origin of the first two features; a third one helps a little."""

    def forward(self, x):
        """Logits, shape (events,)."""
        third = torch.where(x[:, 2] > MISSING, x[:, 2], torch.zeros_like(x[:, 2]))
        return 1.5 - x[:, 0] ** 2 - x[:, 1] ** 2 + 0.2 * third


def features():
    """Two continuous features, one that can be missing, an integer, and a frozen one."""
    axis = hist.axis.Regular(24, -3, 3)
    return (
        Feature("x", axis),
        Feature("y", axis),
        Feature("z", hist.axis.Regular(20, -3, 3), missing=MISSING),
        Feature("n", hist.axis.Integer(0, 8)),
        Feature("f", hist.axis.Regular(10, -3, 3), frozen=True),
    )


def radius(columns):
    """Watched quantity."""
    return torch.hypot(columns["x"], columns["y"])


def watched(features_):
    """The watched quantity in the form of a task."""
    return make_watched({"r": (radius, hist.axis.Regular(20, 0, 4))}, features_)


def made_batch(events=600, *, groups=2, weights="equal", seed=0):
    """Correlated events; every third lacks feature z.

    ``weights``: ``equal``, ``two`` (two values), ``varying`` or ``signed``.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(events, 5))
    x[:, 1] = 0.5 * x[:, 0] + 0.9 * x[:, 1]
    x[:, 2] = 0.4 * x[:, 1] + x[:, 2]
    x[:, 3] = np.clip(np.round(2 + x[:, 0] + rng.normal(size=events)), 0, 7)
    x[rng.uniform(size=events) < 0.33, 2] = MISSING
    weight = {
        "equal": np.ones(events),
        "two": np.where(rng.uniform(size=events) < 0.5, 1.0, 3.0),
        "varying": rng.lognormal(0, 0.5, events),
        "signed": np.where(rng.uniform(size=events) < 0.15, -1.0, 1.0),
    }[weights]
    group = rng.integers(0, groups, events)
    return Batch(x.astype(np.float32), weight, group.astype(np.int64))


def made_task(budget=None, **options):
    """Features, watched quantity and limits; other fields of the task as options."""
    f = features()
    base = Task(
        f,
        watched(f),
        budget or Budget(rms=0.0, correlation=0.05, watch=0.2),
        objective="score",
        solver=Transport(),
    )
    return replace(base, **options)


def made_problem(batch=None, task=None, *, direction="signal", model=None, code=None, floor=None):
    """The problem of a batch, with groups split by the sign of the weight; ``code`` names other groups."""
    batch, task = batch or made_batch(), task or made_task()
    code = by_sign(batch.group, batch.weight) if code is None else code
    group = np.where(code >= 0, np.unique(code, return_inverse=True)[1].reshape(-1) - (code.min() < 0), -1)
    movable = np.ones(len(code), dtype=bool)
    return make_problem(batch, task, Chosen(group, movable), [model or Ring()], direction, CPU, floor=floor)


def recomputed(problem, z, cells):
    """Sums from all events."""
    _, first, second, cross = sum_moments(z, problem.there, problem.weight, problem.group)
    groups, tables = problem.groups, cells.shape[1]
    content = np.zeros((groups, tables, problem.limits.reference.shape[-1]))
    for i, row in enumerate(cells.tolist()):
        for q, cell in enumerate(row):
            content[int(problem.group[i]), q, cell] += float(problem.weight[i])
    return Totals(first, second, cross, torch.tensor(content))


def assert_same_sums(found, expected, weight):
    """Equal where they mean something: means of pairs of features, and contents."""
    off = ~torch.eye(weight.shape[1], dtype=torch.bool)
    n = weight.clamp(min=1.0)
    for name in ("first", "second", "cross"):
        one, two = ((getattr(sums, name) / n)[:, off] for sums in (found, expected))
        torch.testing.assert_close(one, two, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.content, expected.content, rtol=0, atol=1e-9)
