"""Chebyshev's one-sided bound for linear models: attained by two values, never exceeded by an attack."""

from __future__ import annotations

import hist
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coffea_conserv import Budget, ConfigurationError, Feature, InputError, attack
from coffea_conserv.solvers.transport.solver import Transport
from coffea_conserv.studies.bounds import cantelli, linear_bound


@given(share=st.floats(0.001, 0.999), low=st.floats(-5, 0), high=st.floats(0.1, 5))
def test_two_values_attain_it(share, low, high):
    """Two values of which the upper one is the threshold."""
    mean = share * high + (1 - share) * low
    deviation = np.sqrt(share * (1 - share)) * (high - low)
    assert cantelli((high - mean) / deviation) == pytest.approx(share, rel=1e-9)


@given(values=st.lists(st.floats(-10, 10), min_size=2, max_size=30), threshold=st.floats(-10, 10))
def test_no_sample_exceeds_it(values, threshold):
    """Of any sample."""
    values = np.array(values)
    if values.std() > 1e-6:
        assert (values >= threshold).mean() <= cantelli((threshold - values.mean()) / values.std()) + 1e-9


@pytest.fixture(scope="module")
def correlated():
    """Four correlated Gaussian features, and a linear model that all events are below of."""
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(12_000, 4)) @ (np.eye(4) + 0.4 * rng.normal(size=(4, 4)))).astype(np.float32)
    slope = torch.tensor([1.0, -0.5, 0.8, 0.3])

    def model(x):
        return x @ slope - 2.0

    return x[model(torch.from_numpy(x)).numpy() < 0][:6000], model


class _Linear(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        """Logits, shape (events,)."""
        return self.function(x)


@pytest.mark.parametrize("limit", [0.006, 0.1])
def test_an_attack_stays_below(correlated, limit):
    """On a linear model, and not far below: the bound is about something."""
    x, model = correlated
    features = [Feature(f"x{j}", hist.axis.Regular(50, -4, 4)) for j in range(4)]
    bound = linear_bound(x, model, correlation=limit)
    assert bound.r2 == pytest.approx(1.0)
    budget = Budget(rms=0.0, correlation=limit)
    found = attack(x, _Linear(model), features, budget=budget, objective="cross", solver=Transport(steps=80))
    assert found.verdict.passed
    assert 0.4 * bound.share < found.fooling_ratio <= bound.share


def test_a_larger_limit_allows_more(correlated):
    """And the variance that the correlation limit allows is the worst case of a quadratic form."""
    x, model = correlated
    z = (x - x.mean(0)) / x.std(0)
    r = np.corrcoef(z.T)
    slope = np.array([1.0, -0.5, 0.8, 0.3]) * x.std(0)
    outer = np.outer(slope, slope)
    np.fill_diagonal(outer, 0.0)
    worst = 0.05 * np.linalg.norm(r) * outer / np.linalg.norm(outer)  # ‖worst‖ uses the limit up
    spread = np.sqrt(slope @ (r + worst) @ slope)
    bound = linear_bound(x, model, correlation=0.05)
    gap = -float(model(torch.from_numpy(x)).mean())
    assert bound.distance == pytest.approx(gap / spread, rel=1e-4)
    shares = [linear_bound(x, model, correlation=c).share for c in (0.0, 0.006, 0.05, 0.5)]
    assert shares == sorted(shares)


def test_directions_mirror(correlated):
    """Toward background is toward signal of the model turned round."""
    x, model = correlated
    up = linear_bound(x, model, working_point=0.8)
    down = linear_bound(x, lambda x: -model(x), working_point=0.2, direction="background")
    assert up == down
    assert linear_bound(x, model, direction="background").share == 1.0


def test_what_is_not_linear_is_told():
    """A ring is not linear at all; a constant is, and never crosses."""
    x = np.random.default_rng(0).normal(size=(3000, 2))
    assert linear_bound(x, lambda x: 1 - (x**2).sum(1)).r2 < 0.05
    constant = linear_bound(x, lambda x: torch.full((len(x),), -1.0))
    assert (constant.share, constant.r2) == (0.0, 1.0)
    for direction in ("signal", "background"):
        at_the_point = linear_bound(x, lambda x: torch.zeros(len(x)), direction=direction)
        assert (at_the_point.share, at_the_point.distance) == (0.0, np.inf)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.ones((2, 3))}, InputError, r"more events than features, got shape \(2, 3\)"),
        ({"x": np.full((9, 3), np.nan)}, InputError, "finite numbers"),
        (
            {"x": "events"},
            InputError,
            r"x must hold finite numbers, shape \(events, features\), got 'events'",
        ),
        ({"model": lambda x: x[:, 0] * torch.nan}, InputError, "one finite logit for each of the 9 events"),
        ({"model": lambda x: x}, InputError, "one finite logit for each of the 9 events"),
        ({"correlation": -1.0}, ConfigurationError, r"correlation=-1.0 must be a number ≥ 0"),
        ({"working_point": 1.0}, ConfigurationError, r"working_point=1.0 must be between 0 and 1"),
        ({"direction": "up"}, ConfigurationError, "direction"),
    ],
)
def test_errors(change, error, message):
    """Slips are named."""
    x = np.random.default_rng(0).normal(size=(9, 3))
    given = {"x": x, "model": lambda x: x[:, 0], **change}
    with pytest.raises(error, match=message):
        linear_bound(given.pop("x"), given.pop("model"), **given)
