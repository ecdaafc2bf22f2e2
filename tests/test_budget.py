"""Budgets: what they allow, what they refuse, and what they say."""

from __future__ import annotations

import math
import pickle
from dataclasses import FrozenInstanceError, replace

import hist
import numpy as np
import pytest

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.features.feature import Feature
from coffea_conserv.limits.budget import Budget
from coffea_conserv.limits.measures import js_distance


@pytest.mark.parametrize(
    ("budget", "kind", "limit"),
    [
        (Budget(rms=0.05), "rms", 0.05),
        (Budget(band=0.1), "band", 0.1),
        (Budget(band={"x": 0.2, "y": 0.3}), "band", 0.2),
        (Budget(jsd=0.0), "jsd", 0.0),
        (Budget(rms=0, move=0), "rms", 0.0),
        (Budget(move=0), "jsd", 0.0),
        (Budget(rms=np.float32(0.25)), "rms", 0.25),
    ],
)
def test_the_given_limit_is_the_limit(budget, kind, limit):
    """The measure is the one that was given, and a feature gets its number."""
    assert budget.kind == kind
    assert budget.marginal("x") == limit
    assert type(budget.marginal("x")) is float


def test_other_limits_have_defaults():
    """Correlations and watched quantities are limited without being asked for, and events may move."""
    budget = Budget(rms=0.05)
    assert (budget.correlation, budget.watch, budget.frozen) == (0.006, 0.05, False)


def test_only_move_0_freezes():
    """Limits of 0 still allow an attack; move=0 does not."""
    assert not Budget(jsd=0, correlation=0, watch=0).frozen
    assert Budget(move=0).frozen
    assert Budget(rms=0.05, move=0).frozen


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "none"),
        ({"rms": 0.05, "jsd": 0.02}, r"rms=0\.05, jsd=0\.02"),
        ({"rms": 0.0, "band": 0.1, "jsd": 0.02}, r"rms=0\.0, band=0\.1, jsd=0\.02"),
        ({"rms": 0.05, "jsd": 0.02, "move": 0}, r"rms=0\.05, jsd=0\.02"),
    ],
)
def test_exactly_one_marginal_limit(given, named):
    """None or several limits on the marginals are refused, and the message says which there are."""
    with pytest.raises(ConfigurationError, match=rf"^give exactly one of rms=, band=, jsd=, got {named}$"):
        Budget(**given)


@pytest.mark.parametrize("name", ["rms", "band", "jsd", "correlation", "watch"])
@pytest.mark.parametrize("value", [-0.01, math.nan, math.inf, -math.inf, "5%"])
def test_limits_are_finite_and_not_negative(name, value):
    """A limit that is no number ≥ 0 is refused by its name."""
    given = {"rms": 0.05, name: value} if name in {"correlation", "watch"} else {name: value}
    with pytest.raises(ConfigurationError, match=rf"^{name}={value} must be a finite number ≥ 0$"):
        Budget(**given)


@pytest.mark.parametrize("name", ["correlation", "watch"])
@pytest.mark.parametrize("value", [None, {"x": 0.1}])
def test_a_limit_cannot_be_left_out(name, value):
    """None is no way to say "no limit", and a dict no way to give one for each feature."""
    with pytest.raises(ConfigurationError, match=rf"^{name}=.* must be a finite number ≥ 0$"):
        Budget(rms=0.05, **{name: value})


@pytest.mark.parametrize("given", [{"rms": 5}, {"band": 1.5}, {"band": {"x": 10}}, {"jsd": 2}])
def test_percentages_are_fractions(given):
    """A limit above 1 is a percentage by mistake."""
    with pytest.raises(ConfigurationError, match=r"=\d.* is a fraction, so that 5 % is 0.05; jsd=1 leaves"):
        Budget(**given)


@pytest.mark.parametrize("value", [1, 0.5, -1, "no", True])
@pytest.mark.parametrize("marginal", [{"rms": 0.05}, {}])
def test_move_has_no_other_value(value, marginal):
    """Only move=0 exists."""
    with pytest.raises(ConfigurationError, match=rf"only value there is, got move={value}"):
        Budget(**marginal, move=value)


def declared(*names, bins=4):
    """Features that may move."""
    return [Feature(name, hist.axis.Regular(bins, 0, 1)) for name in names]


def test_bands_by_feature_name_the_features_that_may_move():
    """A feature too much is a misspelt one."""
    budget = Budget(band={"x": 0.1, "y": 0.2})
    budget.check_features(declared("x", "y"))
    with pytest.raises(ConfigurationError, match=r"band= has entries for y, .* those are x"):
        budget.check_features(declared("x"))
    with pytest.raises(ConfigurationError, match=r"band= has no entry for feature 'z'"):
        budget.check_features(declared("x", "y", "z"))
    Budget(rms=0.1).check_features(declared("x"))


def test_band_by_feature():
    """A dict of bands needs an entry for every feature that is asked for."""
    budget = Budget(band={"y": 0.3, "x": 0.0})
    assert (budget.marginal("x"), budget.marginal("y")) == (0.0, 0.3)
    with pytest.raises(ConfigurationError, match=r"band= has no entry for feature 'z'; it has x, y"):
        budget.marginal("z")
    with pytest.raises(ConfigurationError, match=r"band\['y'\]=-1 must be a finite number ≥ 0"):
        Budget(band={"x": 0.1, "y": -1})
    with pytest.raises(ConfigurationError, match=r"band=\{\} limits no feature"):
        Budget(band={})


def test_watched_quantities_are_limited_as_a_distance():
    """A deviation of the size of the limit has the distance of the limit."""
    nominal = np.full(40, 50.0)
    attacked = nominal * (1 + 0.05 * np.where(np.arange(40) % 2, 1, -1))
    assert Budget(rms=0.05, watch=0.05).watch_distance == pytest.approx(
        js_distance(nominal, attacked), rel=2e-3
    )
    assert Budget(rms=0.05, watch=0).watch_distance == 0.0


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (Budget(move=0), "no event may move"),
        (Budget(rms=0.05), "r.m.s. of the bins within 5.0% (Jensen-Shannon distance about 0.0212)"),
        (Budget(band=0.1), "every bin within 10.0% (Jensen-Shannon distance about 0.0425)"),
        (Budget(band={"x": 0.1, "y": 0.02}), "bins within 2.0% … 10.0% by feature"),
        (Budget(jsd=0.06), "Jensen-Shannon distance ≤ 0.06, about 14.1% r.m.s. per bin"),
        (
            Budget(rms=0),
            "marginals exactly as nominal (a tenth of the statistical floor where weights vary)",
        ),
    ],
)
def test_meaning(budget, text):
    """Limits are said in the analyst's terms, the other limits after them."""
    said = budget.meaning()
    assert said.startswith(text)
    if not budget.frozen:
        assert said.endswith("; correlation matrix within 0.006; watched within 5.0% r.m.s.")


def test_a_budget_is_a_value():
    """It cannot change, travels by pickle, and equal limits are equal."""
    budget = Budget(band={"x": 0.1}, correlation=0.01)
    with pytest.raises(FrozenInstanceError):
        budget.correlation = 1.0
    assert pickle.loads(pickle.dumps(budget)) == budget  # noqa: S301 -- written above
    assert replace(budget, correlation=0.02) == Budget(band={"x": 0.1}, correlation=0.02)
    assert hash(Budget(rms=0.05)) == hash(Budget(rms=0.05))
