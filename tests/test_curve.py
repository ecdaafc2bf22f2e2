"""Nested budgets: larger limits never fool less, each point is judged against its own limits."""

from __future__ import annotations

import hist
import numpy as np
import pytest
from made_problems import Ring, features, made_batch

from coffea_conserv import Budget, ConfigurationError, Feature, attack
from coffea_conserv.solvers.transport.solver import Transport
from coffea_conserv.studies.curve import fooling_curve

FEW = Transport(steps=15)


@pytest.mark.parametrize("objective", ["cross", "score"])
@pytest.mark.parametrize("direction", ["signal", "background"])
def test_larger_limits_never_fool_less(objective, direction):
    """Also where single attacks do: few steps, several groups, weights of both signs."""
    batch = made_batch(1200, groups=3, weights="signed")
    budgets = [Budget(rms=rms, correlation=c) for rms in (0.0, 0.02, 0.05) for c in (0.05, 0.05)]
    budgets = [Budget(move=0), *budgets, Budget(rms=0.2, correlation=0.4, watch=0.9)]
    found = fooling_curve(
        batch.x,
        Ring(),
        features(),
        budgets=budgets,
        weights=batch.weight,
        groups=batch.group,
        objective=objective,
        direction=direction,
        solver=FEW,
    )
    assert all(result.verdict.passed for result in found)
    size, sign = np.abs(batch.weight), 1 if direction == "signal" else -1
    values = [
        result.fooling_ratio if objective == "cross" else sign * np.average(result.score, weights=size)
        for result in found
    ]
    assert (np.diff(values) >= -1e-9).all()
    assert values[-1] > values[0] + 0.01
    np.testing.assert_array_equal(found[0].x, batch.x)
    limits = {limit.limit for limit in found[-1].verdict.limits if limit.name == "correlation"}
    assert limits == {0.4}


def test_a_point_is_the_attack_where_that_is_better():
    """The first point is the attack itself."""
    x = made_batch(800).x
    budgets = [Budget(rms=0.02, correlation=0.05), Budget(rms=0.1, correlation=0.1)]
    first, second = fooling_curve(x, Ring(), features(), budgets=budgets, solver=FEW, seed=3)
    alone = [attack(x, Ring(), features(), budget=budget, solver=FEW, seed=3) for budget in budgets]
    np.testing.assert_array_equal(first.x, alone[0].x)
    assert second.fooling_ratio >= max(result.fooling_ratio for result in alone)
    if alone[1].fooling_ratio > alone[0].fooling_ratio:
        np.testing.assert_array_equal(second.x, alone[1].x)


def test_each_group_takes_its_better_outcome():
    """Events without a group stay nominal."""
    batch = made_batch(900, groups=2)
    group = np.where(np.arange(900) % 10 == 0, -1, batch.group)
    budgets = [Budget(rms=0.05, correlation=c) for c in (0.05, 0.1)]
    small, large = fooling_curve(batch.x, Ring(), features(), budgets=budgets, groups=group, solver=FEW)
    for k in range(2):
        assert large.fooled[group == k].sum() >= small.fooled[group == k].sum()
    np.testing.assert_array_equal(large.x[group < 0], batch.x[group < 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": []}, r"budgets is empty; give limits from small to large"),
        ({"budgets": [0.1]}, r"budgets must hold Budget\(...\), got 0.1"),
        ({"budgets": [Budget(rms=0.1), Budget(rms=0.05)]}, r"does not contain Budget\(rms=0.1.*sort budgets"),
        ({"budgets": [Budget(rms=0.1), Budget(band=0.2)]}, r"Budget\(rms=None, band=0.2.* does not contain"),
        ({"budgets": [Budget(rms=0.1, watch=0.3), Budget(rms=0.2)]}, r"does not contain"),
        ({"budgets": [Budget(rms=0.1), Budget(move=0)]}, r"does not contain"),
        ({"speed": 1}, r"fooling_curve\(\) does not know speed; it takes the arguments of attack"),
    ],
)
def test_budgets_that_are_not_nested(change, message):
    """The offender is named before anything is attacked."""
    arguments = {"budgets": [Budget(rms=0.05)], **change}
    with pytest.raises(ConfigurationError, match=message):
        fooling_curve(made_batch(100).x, Ring(), features(), **arguments)


def test_bands_by_feature_are_compared_by_feature():
    """One narrower band is enough for a budget not to contain another."""
    axis = hist.axis.Regular(20, -3, 3)
    pair = [Feature("x", axis), Feature("y", axis)]
    budgets = [Budget(band={"x": 0.1, "y": 0.2}), Budget(band={"x": 0.2, "y": 0.1})]
    with pytest.raises(ConfigurationError, match="does not contain"):
        fooling_curve(made_batch(100).x[:, :2], Ring(), pair, budgets=budgets)
