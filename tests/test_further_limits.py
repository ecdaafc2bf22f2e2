"""Bands by bin and side, KS, χ² and single correlations: measures, budgets, and the judge of merged sums."""

from __future__ import annotations

import math
from dataclasses import replace

import hist
import numpy as np
import pytest
import slow_twins
from hypothesis import given, settings
from hypothesis import strategies as st
from made_events import FEATURES, with_budget
from made_results import events_of, result_of

from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.features.feature import Feature
from coffea_conserv.fingerprint import fingerprint
from coffea_conserv.limits.band import Band
from coffea_conserv.limits.budget import Budget, Chi2
from coffea_conserv.limits.measures import (
    band_share,
    chi2,
    correlation_change,
    ks_distance,
    rms_deviation,
)
from coffea_conserv.results.seeds import seed_spread

REST = {"correlation": 0.02, "watch": 0.2}
STEEP = Band(np.linspace(0.02, 0.2, 26), np.linspace(0.2, 0.02, 26))
BUDGETS = {
    "ks": Budget(rms=0.1, ks=0.006, **REST),
    "chi2": Budget(jsd=0.05, chi2=Chi2(2.0, events=1250), **REST),
    "sides": Budget(band={"x": Band(0.05, 0.2), "y": STEEP, "z": 0.1, "n": Band(0.0, 0.2)}, **REST),
    "element": Budget(rms=0.05, correlation=1.0, correlation_element=0.015, watch=0.2),
    "all": Budget(
        band=Band(0.2, 0.3), ks=0.01, chi2=Chi2(5.0, events=1250), correlation_element=0.02, **REST
    ),
}
contents = st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=2, max_size=8)


# --- measures ----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(contents, st.booleans())
def test_measures_are_their_slow_twins(rows, circular):
    """Cumulative differences, of arcs too, χ² and shares of single bins."""
    before, after = np.array(rows).T
    sides = np.stack([np.linspace(0, 0.5, len(rows)), np.linspace(0.3, 0, len(rows))])
    found = ks_distance(before, after, circular=circular)
    assert found == pytest.approx(slow_twins.ks_distance(before, after, circular=circular), abs=1.1e-7)
    assert chi2(before, after, 30.0) == pytest.approx(slow_twins.chi2(before, after, 30), rel=1e-9, abs=1e-9)
    expected = slow_twins.band_share(before, after, sides)
    assert band_share(before, after, sides) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(contents, st.integers(0, 7))
def test_what_goes_round_has_no_beginning(rows, first):
    """The measure of a circle is that of the bins counted from anywhere, and no less than the linear one."""
    before, after = np.array(rows).T
    found = ks_distance(before, after, circular=True)
    rolled = ks_distance(np.roll(before, first), np.roll(after, first), circular=True)
    assert rolled == pytest.approx(found, abs=1.1e-7)
    assert ks_distance(before, after) <= found + 1e-12


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.floats(1, 50)] * 4), min_size=2, max_size=6), st.floats(0.1, 10))
def test_merged_chunks_keep_what_each_keeps(rows, weight):
    """KS, χ² at declared events and shares of bands of a sum are no more than the largest of the parts.

    Each part keeps its own total, as an attack does.
    """
    parts = np.array(rows).T.reshape(2, 2, -1)
    parts[:, 1] *= (parts[:, 0].sum(-1) / parts[:, 1].sum(-1))[:, None]
    parts[1] *= weight
    merged = parts.sum(0)
    sides = np.full((2, parts.shape[-1]), 0.3)
    for measure in (
        ks_distance,
        lambda p, q: ks_distance(p, q, circular=True),
        lambda p, q: chi2(p, q, 1000.0),
        lambda p, q: band_share(p, q, sides),
    ):
        assert measure(*merged) <= max(measure(*part) for part in parts) * (1 + 1e-9) + 1e-9


def test_no_op_and_empty():
    """Nothing changed is exactly 0; where nothing is there is nothing to compare; a bin that fills is ∞."""
    p, none = np.array([1.0, 2.0, 0.0]), np.zeros(3)
    sides = np.zeros((2, 3))
    assert ks_distance(p, 3 * p) == chi2(p, 3 * p, 1e9) == band_share(p, 3 * p, sides) == 0.0
    assert ks_distance(none, p) == chi2(none, p, 9.0) == band_share(none, p, sides) == 0.0
    assert chi2(p, p[::-1], 5.0) == band_share(p, p[::-1], sides) == math.inf
    assert band_share(p, np.array([2.0, 1.0, 0.0]), np.array([[0.6] * 3, [0.0] * 3])) == math.inf
    moved = np.array([1.1, 2.0, 0.0])
    assert chi2(p, moved, 7.0) == 7.0 * rms_deviation(p, moved) ** 2 > 0
    matrix = np.array([[1.0, 0.2], [0.2, 1.0]])
    assert correlation_change(matrix, matrix) == 0.0
    assert correlation_change(matrix, matrix + 0.125) == slow_twins.correlation_change(matrix, matrix + 0.125)


# --- budget ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ks": 0}, r"ks=0 would keep marginals as they are, which is rms=0; give a number above 0"),
        ({"ks": -0.1}, r"ks=-0.1 must be a finite number ≥ 0"),
        ({"ks": 5}, r"ks=5 is a fraction"),
        (
            {"chi2": 20.0},
            r"chi2=20.0 must be Chi2\(limit, events=…\): a χ² means nothing without a sample size",
        ),
        ({"correlation_element": math.nan}, r"correlation_element=nan must be a finite number ≥ 0"),
    ],
)
def test_limits_that_mean_nothing(options, message):
    """Each names itself."""
    with pytest.raises(ConfigurationError, match="^" + message):
        Budget(rms=0.05, **options)


@pytest.mark.parametrize("change", [{"limit": 0}, {"limit": True}, {"events": -1}, {"events": math.inf}])
def test_a_chi2_needs_two_numbers(change):
    """Above 0, and finite."""
    name, value = next(iter(change.items()))
    with pytest.raises(ConfigurationError, match=rf"^Chi2\(\): {name}={value} must be a finite"):
        Chi2(**{"limit": 20.0, "events": 1000, **change})


def test_every_limit_counts_in_the_hash_of_a_configuration():
    """Two budgets that differ in one of them are two configurations."""
    more = [
        {},
        {"ks": 0.01},
        {"ks": 0.02},
        {"chi2": Chi2(20.0, 100)},
        {"chi2": Chi2(20.0, 101)},
        {"correlation_element": 0.01},
    ]
    assert len({fingerprint(Budget(rms=0.05, **options)) for options in more}) == len(more)


@pytest.mark.parametrize(
    ("large", "small", "inside"),
    [
        ({"rms": 0.1}, {"rms": 0.1, "ks": 0.01}, True),
        ({"rms": 0.1, "ks": 0.01}, {"rms": 0.1}, False),
        ({"rms": 0.1, "ks": 0.02}, {"rms": 0.1, "ks": 0.01}, True),
        ({"rms": 0.1, "chi2": Chi2(4.0, 100)}, {"rms": 0.1, "chi2": Chi2(8.0, 200)}, True),
        ({"rms": 0.1, "chi2": Chi2(4.0, 100)}, {"rms": 0.1, "chi2": Chi2(8.0, 199)}, False),
        ({"rms": 0.1, "correlation_element": 0.1}, {"rms": 0.1}, False),
        ({"band": Band(0.1, 0.2)}, {"band": 0.1}, True),
        ({"band": Band(0.1, 0.2)}, {"band": 0.15}, False),
        ({"band": {"x": Band([0.1] * 4, 0.2)}}, {"band": {"x": Band([0.1, 0.1, 0.2, 0.1], 0.1)}}, False),
        ({"rms": 0.1, "ks": 0.01}, {"move": 0}, True),
        ({"move": 0}, {"rms": 0.1}, False),
    ],
)
def test_what_contains_what(large, small, inside):
    """Every limit is compared, bin by bin where there are limits by bin."""
    features = [Feature("x", hist.axis.Regular(4, 0, 1))]
    assert Budget(**large).contains(Budget(**small), features) is inside


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (BUDGETS["ks"], "; cumulative distributions within 0.60%; correlation matrix within 0.02; watched"),
        (BUDGETS["chi2"], "; χ² ≤ 2 at 1,250 events, 4.0% r.m.s. of the bins; correlation"),
        (BUDGETS["sides"], "bins within 10.0% … 20.0% by feature, by bin and side where declared; corr"),
        (BUDGETS["element"], "correlation matrix within 1, no element by more than 0.015; watched"),
        (BUDGETS["all"], "every bin within −20.0% … +30.0% at most; cumulative"),
    ],
)
def test_meaning(budget, text):
    """All limits are said in words."""
    assert text in budget.meaning()


# --- merged samples ----------------------------------------------------------------------------------------


def test_merged_sums_are_judged_against_further_limits():
    """Values of a process are the measures of all of its events; the report and JSON can hold them."""
    band = {"x": Band(np.linspace(0.1, 0.4, 10), 0.3), "y": 0.2}
    further = {"ks": 0.1, "chi2": Chi2(5.0, events=1000), "correlation_element": 0.3}
    result = result_of(settings=with_budget(band=band, **further, correlation=0.5, watch=5.0))
    limits = {
        limit.name: limit for limit in result.verdict.limits if str(limit.group) == "W/signal/conservUp"
    }
    values, weight = events_of(("W1", "W2"), "signal")
    edges = FEATURES[0].axis.edges
    pair = [slow_twins.histogram(values[v]["x"], weight, edges) for v in ("nominal", "conservUp")]
    twin = slow_twins.ks_distance(*pair)
    assert limits["ks x"].value == pytest.approx(twin, abs=1e-7)
    assert limits["chi2 x"].value == pytest.approx(slow_twins.chi2(*pair, 1000), abs=1e-9)
    sides = result.settings.budget.sides("x", FEATURES[0].axis)
    assert limits["marginal x"].value == pytest.approx(slow_twins.band_share(*pair, sides), abs=1e-6)
    assert (limits["marginal x"].measure, limits["marginal x"].limit) == ("worst bin", 1.0)
    matrices = (result.correlation("W", "signal", v)[:2, :2] for v in ("nominal", "conservUp"))
    assert limits["correlation element"].value == slow_twins.correlation_change(*matrices) > 0
    plain = result.to_dict()["settings"]["budget"]
    assert plain["chi2"] == {"limit": 5.0, "events": 1000}
    assert plain["band"]["x"]["high"] == 0.3
    assert len(plain["band"]["x"]["low"]) == 10


def test_seeds_are_compared_within_one_budget():
    """Two bands that read alike are two budgets."""
    one, two = (
        result_of(settings=replace(with_budget(band=band), seed=seed))
        for seed, band in ((1, Band([0.1, 0.2] * 5, 0.3)), (2, Band([0.2, 0.1] * 5, 0.3)))
    )
    assert one.settings.budget.meaning() == two.settings.budget.meaning()
    with pytest.raises(InputError, match="differ in more than their seed"):
        seed_spread([one, two])
