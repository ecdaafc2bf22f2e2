"""The nearest histogram that limits allow, against a general optimiser and what makes a projection."""

from __future__ import annotations

import hist
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from coffea_conserv import Band, Budget, Chi2, ConfigurationError, Feature, InputError, allowed
from coffea_conserv.group import Group
from coffea_conserv.limits.judge import judge
from coffea_conserv.limits.measures import (
    band_deviation,
    band_share,
    chi2,
    js_distance,
    ks_distance,
    pair_sums,
    rms_deviation,
)
from coffea_conserv.limits.verdict import Contents

BINS = 6
STRAIGHT = Feature("x", hist.axis.Regular(BINS - 2, 0, 1))
ROUND = Feature("phi", hist.axis.Regular(BINS - 1, 0, 1, circular=True))
SIDES = Band(low=[0.0, 0.1, 0.2, 0.05, 1.0, 0.3], high=[0.2, 0.0, 0.1, 0.4, 0.3, 0.1])
BUDGETS = [
    Budget(rms=0.07),
    Budget(band=0.06),
    Budget(band=SIDES),
    Budget(jsd=0.03),
    Budget(rms=0.2, ks=0.02),
    Budget(band=SIDES, chi2=Chi2(8.0, events=2000), ks=0.03),
    Budget(jsd=0.1, chi2=Chi2(8.0, events=2000)),
]

content = st.just(0.0) | st.floats(1e-6, 1e6)
histograms = st.lists(content, min_size=BINS, max_size=BINS).filter(any)


def kept(nominal, found, feature, budget):
    """Every limit on the marginal, by the judge of everything else."""
    sums = pair_sums(np.zeros((1, 1)), np.ones((1, 1), bool), np.ones(1))
    contents = Contents({feature.name: (nominal, found)}, sums, sums, 100.0, 100.0, 100.0, 100.0)
    return [limit for limit in judge(Group("g"), contents, budget, [feature]) if limit.used > 1 + 1e-9]


@pytest.mark.parametrize("feature", [STRAIGHT, ROUND], ids=lambda f: f.name)
@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@settings(max_examples=40, deadline=None)
@given(nominal=histograms, wanted=histograms)
@example(nominal=[0.0, 49209.0, 0.0, 0.0, 0.0, 1e-06], wanted=[0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
def test_what_makes_a_projection(feature, budget, nominal, wanted):
    """Inside of every limit, with the same sum, itself if projected again, and never farther than nominal."""
    nominal, wanted = np.array(nominal), np.array(wanted)
    found = allowed(nominal, wanted, feature, budget)
    assert found.sum() == pytest.approx(nominal.sum(), rel=1e-9)
    assert (found >= -1e-12 * nominal.sum()).all()
    found = np.maximum(found, 0.0)
    assert kept(nominal, found, feature, budget) == []
    np.testing.assert_allclose(
        allowed(nominal, found, feature, budget), found, rtol=1e-7, atol=1e-9 * nominal.sum()
    )


@pytest.mark.parametrize("budget", BUDGETS[:3], ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_no_other_one_is_nearer(budget, seed):
    """A general optimiser finds the same histogram, for the kinds that promise the nearest one."""
    rng = np.random.default_rng(seed)
    p, w = (part / part.sum() for part in rng.uniform(0.5, 2.0, (2, BINS)))
    sides = budget.sides("x", STRAIGHT.axis)
    if sides is None:
        sides = np.full((2, BINS), budget.marginal("x") if budget.band else 1.0)
    limits = [{"type": "eq", "fun": lambda q: q.sum() - 1}]
    if budget.rms:
        limits.append({"type": "ineq", "fun": lambda q: budget.rms**2 - ((q - p) ** 2 / p).sum()})
    slow = minimize(
        lambda q: ((q - w) ** 2 / p).sum(),
        p,
        bounds=np.stack([p * (1 - sides[0]), p * (1 + sides[1])], axis=1),
        constraints=limits,
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(allowed(p, w, STRAIGHT, budget), slow.x, atol=2e-6)


@pytest.mark.parametrize(
    ("budget", "measure", "limit"),
    [
        (Budget(rms=0.05), rms_deviation, 0.05),
        (Budget(band=0.05), band_deviation, 0.05),
        (Budget(band=SIDES), lambda p, q: band_share(p, q, SIDES.over("x", STRAIGHT.axis)), 1.0),
        (Budget(jsd=0.02), js_distance, 0.02),
        (Budget(jsd=1.0, ks=0.02), ks_distance, 0.02),
        (Budget(rms=1.0, chi2=Chi2(5.0, events=1000)), lambda p, q: chi2(p, q, 1000), 5.0),
    ],
    ids=["rms", "band", "sides", "jsd", "ks", "chi2"],
)
def test_limits_are_used_up(budget, measure, limit):
    """A wanted histogram far away comes to the edge of what is allowed."""
    nominal, wanted = np.array([10.0, 20, 30, 20, 10, 5]), np.array([30.0, 2, 10, 20, 30, 8])
    assert measure(nominal, allowed(nominal, wanted, STRAIGHT, budget)) == pytest.approx(limit, rel=1e-6)


def test_what_is_inside_stays():
    """Nothing is changed that the limits allow, and nothing is allowed by limits of 0."""
    nominal = np.array([10.0, 20, 30, 20, 10, 10])
    wanted = nominal * [1.01, 0.99, 1.0, 1.0, 1.01, 1.0]
    np.testing.assert_allclose(allowed(nominal, wanted, STRAIGHT, Budget(rms=0.05)), wanted, rtol=1e-12)
    for budget in (Budget(rms=0.0), Budget(band=0.0), Budget(jsd=0.0), Budget(move=0)):
        np.testing.assert_allclose(allowed(nominal, wanted, STRAIGHT, budget), nominal, rtol=1e-12)


def test_empty_bins():
    """An empty bin stays empty, unless the limit is a Jensen–Shannon distance."""
    nominal, wanted = np.array([50.0, 50, 0, 0, 0, 0]), np.array([40.0, 40, 20, 0, 0, 0])
    assert allowed(nominal, wanted, STRAIGHT, Budget(rms=0.05))[2] == 0
    assert allowed(nominal, wanted, STRAIGHT, Budget(jsd=0.05))[2] > 0
    both = allowed(nominal, wanted, STRAIGHT, Budget(jsd=0.05, chi2=Chi2(1.0, events=10)))
    assert both[2] == 0


def test_histograms_of_hist():
    """A histogram with flow bins is taken like its contents."""
    feature = Feature("x", hist.axis.Regular(4, 0, 1))
    rng = np.random.default_rng(0)
    one, two = (hist.Hist(feature.axis).fill(rng.normal(mean, 0.3, 1000)) for mean in (0.5, 0.6))
    found = allowed(one, two, feature, Budget(band=0.1))
    assert found.shape == (6,)
    plain = allowed(one.values(flow=True), two.values(flow=True), feature, Budget(band=0.1))
    np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize(
    ("nominal", "wanted", "error", "message"),
    [
        (np.ones(4), np.ones(BINS), InputError, r"nominal has 4 bins; the axis of 'x' has 6 bins"),
        (np.ones(BINS), np.zeros(BINS), InputError, r"wanted is empty"),
        (np.ones(BINS), -np.ones(BINS), ConfigurationError, r"wanted has -1 in bin 0; contents must be"),
        (np.ones(BINS), np.full(BINS, np.nan), ConfigurationError, r"wanted has nan in bin 0"),
        ("a", np.ones(BINS), ConfigurationError, r"nominal must be a histogram or an array .* got 'a'"),
    ],
)
def test_errors(nominal, wanted, error, message):
    """Slips are named."""
    with pytest.raises(error, match=r"^allowed\(\): " + message):
        allowed(nominal, wanted, STRAIGHT, Budget(rms=0.1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("x", Budget(rms=0.1)), r"feature must be a Feature\(…\), got 'x'"),
        ((STRAIGHT, 0.1), r"budget must be a Budget\(…\), got 0.1"),
    ],
)
def test_what_is_no_feature_or_budget_is_named(given, message):
    """Before anything is made of it."""
    with pytest.raises(ConfigurationError, match=r"^allowed\(\): " + message):
        allowed(np.ones(BINS), np.ones(BINS), *given)
