"""The price of moves: what is dearer moves less."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import slow_twins
import torch
from made_problems import Ring, made_batch, made_problem, made_task
from test_attack import PAIR, donut
from test_caps import FEATURES, LINE, OPEN, SOLVERS, Pull, sample

from coffea_conserv import Budget, ConfigurationError, Feature, attack
from coffea_conserv.solvers.caps import Reach
from coffea_conserv.solvers.protocol import solve
from coffea_conserv.solvers.transport.solver import Transport


def test_a_penalty_of_zero_changes_nothing():
    """A resolution alone is for the report: every bit is as without one."""
    x = sample(500)[:, :5]
    plain = FEATURES[:5]
    known = tuple(replace(f, resolution=0.1) for f in plain)

    class Part(Pull):
        def forward(self, x):
            return super().forward(torch.nn.functional.pad(x, (0, 3)))

    for solver in SOLVERS.values():
        one, two = (attack(x, Part(), f, budget=OPEN, solver=solver, seed=2) for f in (plain, known))
        np.testing.assert_array_equal(one.x, two.x)
        moved = [s.pull2 for s in two.shifts]
        for j, (f, pull) in enumerate(zip(known, moved, strict=True)):
            pairs = zip(x[:, j], two.x[:, j], strict=True)
            expected = np.mean([slow_twins.pull2(a, b, 0.1, period=f.period) for a, b in pairs])
            assert pull == pytest.approx(expected, rel=1e-9)
            assert pull > 0


def test_the_dearer_moves_are_the_smaller_they_get():
    """In units of the resolution, along a scan of the price; what costs more than it can gain is not made."""
    model, x = donut()
    x, budget = x[:2000], Budget(rms=0.05, correlation=0.02)
    features = [replace(f, resolution=0.2) for f in PAIR]
    found = [
        attack(x, model, features, budget=budget, solver=SOLVERS["transport"], penalty=penalty, seed=1)
        for penalty in (0.0, 0.01, 0.1, 1e4)
    ]
    pulls = [sum(s.pull2 for s in result.shifts) for result in found]
    assert pulls[0] > 5 * pulls[1] > 5**2 * pulls[2] > pulls[3]
    assert found[1].fooling_ratio > 0.8 * found[0].fooling_ratio  # the dear moves were not needed
    assert found[0].fooling_ratio > found[2].fooling_ratio
    assert not any(result.verdict.broken for result in found)
    assert [result.verdict.idle for result in found] == [False, False, False, True]
    assert {limit.name for limit in found[1].verdict.limits} == {"marginal x", "marginal y", "correlation"}
    assert found[3].fooling_ratio < 0.02


def test_what_moves_together_is_priced_and_capped_together():
    """The toll of a pair is the sum over its members, each counted once, infinite if one leaves its cap."""
    features = (Feature("a", LINE, resolution=0.5, max_shift=1.0), Feature("b", LINE, resolution=2.0))
    start = torch.tensor([[0.0, 0.0]] * 4)
    reach = Reach.make(start, features, 3.0)
    feature = torch.tensor([[0, 1], [0, 0], [0, 1], [1, 1]])
    old, new = torch.zeros(4, 2), torch.tensor([[0.5, 1.0], [0.5, 0.5], [1.5, 1.0], [1.0, 1.0]])
    event = torch.arange(4)
    expected = [3 * (1 + 0.25), 3.0, math.inf, 0.75]
    assert reach.toll(event, feature, old, new).tolist() == expected
    assert reach.toll(event[:2], feature[:2], new[:2], old[:2]).tolist() == [-3.75, -3.0]


def test_the_best_iterate_is_best_after_its_price():
    """The value by which iterates are ranked is the mean gain less λ times the mean of (Δ/σ)²."""
    task = made_task(penalty=0.05)
    task = replace(task, features=tuple(replace(f, resolution=0.5) for f in task.features))
    _, problem = made_problem(made_batch(600), task)
    best = solve(problem, Transport(steps=20), 1)
    gain = torch.sigmoid(Ring()(best.x)).double()
    pulls = [
        sum(slow_twins.pull2(a, b, 0.5) for a, b, there in zip(*row, strict=True) if there)
        for row in zip(problem.x.tolist(), best.x.tolist(), problem.there.tolist(), strict=True)
    ]
    for group in range(problem.groups):
        of = problem.group == group
        expected = gain[of].mean() - 0.05 * torch.tensor(pulls)[of].double().mean()
        assert float(best.value[group]) == pytest.approx(float(expected), abs=1e-6)
        assert (best.x[of] != problem.x[of]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": -1.0}, r"penalty=-1\.0 must be a finite number from 0, the price of a move by one"),
        ({"penalty": math.nan}, "penalty=nan must be a finite number from 0"),
        ({"penalty": "much"}, "penalty='much' must be a finite number from 0"),
        ({"penalty": 0.1, "solver": "search"}, r"penalty=0\.1: search does not weigh moves; use solver='tr"),
        ({"penalty": True}, "penalty=True must be a finite number from 0"),
        (
            {"penalty": 0.1},
            r"penalty=0\.1 is a price .* no feature that may move has one; give resolution= or",
        ),
    ],
)
def test_prices_that_mean_nothing_are_refused(options, message):
    """Before anything is evaluated."""
    with pytest.raises(ConfigurationError, match=message):
        attack(sample(50), None, FEATURES, budget=OPEN, **options)
