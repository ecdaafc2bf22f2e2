"""The linear programme over a grid: answers that are known, and slips that are named."""

from __future__ import annotations

import hist
import numpy as np
import pytest
import torch

from coffea_conserv import ConfigurationError, Feature, InputError
from coffea_conserv.studies.bounds import fooling_bound

AXIS = hist.axis.Regular(30, -3, 3)
PAIR = (Feature("x", AXIS), Feature("y", AXIS))


def stripe(x):
    """More like signal where x and y agree."""
    return 0.5 - (x[:, 0] - x[:, 1]).abs()


def outside(events=4000):
    """Two independent Gaussians outside of the stripe."""
    x = np.random.default_rng(0).normal(size=(events, 2)).astype(np.float32)
    return x[stripe(torch.from_numpy(x)).numpy() < 0]


def test_a_model_of_one_feature_cannot_be_fooled():
    """No event is above 1, and with the marginal exact none will be."""
    x = np.random.default_rng(1).uniform(-3, 1, (5000, 2))
    assert fooling_bound(x, lambda x: x[:, 0] - 1.0, PAIR, cells=30).outer == 0.0


def test_a_constant_feature_has_no_correlation_to_keep():
    """Nothing can be fooled where only one feature may be exchanged, and nothing is NaN."""
    x = outside()
    x[:, 1] = 5.0
    bound = fooling_bound(x, stripe, (PAIR[0], Feature("y", hist.axis.Regular(10, 4, 6))), cells=60)
    assert (bound.inner, bound.outer) == (0.0, 0.0)


def test_exact_pairs():
    """Four points of a square, half of the mass on each diagonal: exchanging y turns one into the other."""
    x = np.array([[-1.0, 1.0], [1.0, -1.0]] * 50)
    axis = hist.axis.Regular(2, -2, 2)

    def same_sign(x):
        return torch.where(x[:, 0] * x[:, 1] > 0, 1.0, -1.0)

    pair = (Feature("x", axis), Feature("y", axis))
    half = fooling_bound(x, same_sign, pair, correlation=1.0, cells=2)
    # r goes from −1 to −1 + 2 f for a fooled share f, and ‖R‖ = 2 for r = −1: f = 2 · 0.25 / (2 √2)
    some = fooling_bound(x, same_sign, pair, correlation=0.25, cells=2)
    assert some.outer == pytest.approx(0.25 * 2 / np.sqrt(2) / 2, rel=1e-6)
    assert half.outer == pytest.approx(np.sqrt(2) / 2, rel=1e-6)


def test_a_larger_limit_allows_more():
    """On marginals and on the correlation; the inner programme stays below the outer one."""
    x = outside()
    by_correlation = [fooling_bound(x, stripe, PAIR, correlation=c, cells=60) for c in (0.0, 0.02, 0.1)]
    by_band = [fooling_bound(x, stripe, PAIR, band=b, cells=60) for b in (0.0, 0.05, 0.2)]
    for bounds in (by_correlation, by_band):
        for side in ("inner", "outer"):
            values = [getattr(bound, side) for bound in bounds]
            assert values == sorted(values)
        assert all(bound.inner <= bound.outer for bound in bounds)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"x": np.zeros((5, 3))},
            InputError,
            r"models of two features only, got 2 features and x of shape \(5, 3\)",
        ),
        ({"x": np.zeros((1, 2))}, InputError, r"x of shape \(1, 2\)"),
        ({"x": np.full((9, 2), np.inf)}, InputError, r"finite numbers, .* got shape \(9, 2\)"),
        ({"x": "events"}, InputError, "x must hold finite numbers"),
        ({"model": lambda x: x[:, 0] * torch.nan}, InputError, "one finite logit for each of the"),
        ({"model": lambda x: -stripe(x)}, InputError, r"events are across working_point=0.5 already; leave"),
        ({"band": -0.1}, ConfigurationError, r"band=-0.1 must be a number ≥ 0"),
        ({"band": float("nan")}, ConfigurationError, r"band=nan must be a number ≥ 0"),
        ({"correlation": "0.1"}, ConfigurationError, r"correlation='0.1' must be a number ≥ 0"),
        ({"cells": 0}, ConfigurationError, r"cells=0 must be a number ≥ 1"),
        ({"working_point": 0.0}, ConfigurationError, r"working_point=0.0 must be between 0 and 1"),
        ({"direction": "up"}, ConfigurationError, "direction"),
    ],
)
def test_errors(change, error, message):
    """Slips are named with the remedy."""
    given = {"x": outside(300), "model": stripe, **change}
    with pytest.raises(error, match=message):
        fooling_bound(given.pop("x"), given.pop("model"), PAIR, **given)
