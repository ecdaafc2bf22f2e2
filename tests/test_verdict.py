"""Limits with value and slack, and the judge against a slow twin."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import hist
import numpy as np
import pytest
import slow_twins

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.features.binning import flow_index, scale
from coffea_conserv.features.feature import Feature, Watched, present
from coffea_conserv.group import Group
from coffea_conserv.limits.budget import Budget
from coffea_conserv.limits.judge import FLOOR_SHARE, judge, judge_many, marginal_limit
from coffea_conserv.limits.measures import effective_events, jsd_floor, pair_sums
from coffea_conserv.limits.verdict import Contents, Limit, Verdict

FEATURES = (
    Feature("x", hist.axis.Regular(10, -5, 5)),
    Feature("y", hist.axis.Variable([-1, 0, 0.5, 2]), missing=-999.0),
    Feature("z", hist.axis.Regular(5, -3, 3), frozen=True),
)
WATCHED = (Watched("sum", lambda columns: columns["x"] + columns["y"], hist.axis.Regular(6, -3, 3)),)
QUANTITIES = (*FEATURES, *WATCHED)


def sample(seed=1, n=200, *, spread=0.0, negative=0.0):
    """Events before and after some values of x and y were exchanged, with their weights."""
    rng = np.random.default_rng(seed)
    x, y, z = rng.normal(size=(3, n))
    y = y + 0.5 * x
    y[rng.random(n) < 0.1] = -999.0
    before = {"x": x, "y": y, "z": z}
    after = {name: column.copy() for name, column in before.items()}
    some = rng.choice(n, n // 4, replace=False)
    after["x"][some] = x[rng.permutation(some)]
    after["x"][:5] += 0.3
    there = np.flatnonzero(y != -999.0)[:20]
    after["y"][there] = y[there[::-1]]
    for columns in (before, after):
        columns["sum"] = np.where(columns["y"] == -999.0, np.nan, columns["x"] + columns["y"])
    weight = rng.lognormal(0, spread, n) * np.where(rng.random(n) < negative, -1.0, 1.0)
    return before, after, weight


def contents(before, after, weight):
    """Sum the events of one group as the package does."""
    histograms, sums = {}, []
    for q in QUANTITIES:
        pair = []
        for columns in (before, after):
            there = present(q, columns[q.name])
            index = flow_index(q.axis, columns[q.name][there])
            pair.append(np.bincount(index, weight[there], q.axis.extent))
        histograms[q.name] = tuple(pair)
    for columns in (before, after):
        there = np.stack([present(q, columns[q.name]) for q in QUANTITIES], axis=1)
        origin, unit = np.array([scale(q.axis) for q in QUANTITIES]).T
        z = (np.stack([columns[q.name] for q in QUANTITIES], axis=1) - origin) / unit
        sums.append(pair_sums(z, there, weight))
    total = (weight.sum(), np.abs(weight).sum(), (weight**2).sum())
    return Contents(histograms, sums[0], sums[1], len(weight), *(float(value) for value in total))


def slow_values(before, after, weight, measure):
    """Judge the events themselves: loops over events, bins and pairs."""
    values, matrices = {}, []
    for q in QUANTITIES:
        pair = []
        for columns in (before, after):
            there = [i for i, v in enumerate(columns[q.name]) if v != -999.0 and not math.isnan(v)]
            pair.append(slow_twins.histogram(columns[q.name][there], weight[there], q.axis.edges))
        watched = isinstance(q, Watched)
        twin = slow_twins.js_distance if watched else getattr(slow_twins, measure)
        values[f"watched {q.name}" if watched else f"marginal {q.name}"] = twin(*pair)
    for columns in (before, after):
        names = [f.name for f in FEATURES]
        there = [[v != -999.0 for v in columns[name]] for name in names]
        matrices.append(slow_twins.pearson([columns[name] for name in names], there, weight))
    values["correlation"] = slow_twins.correlation_shift(*matrices)
    return values


WHERE = Group("W", "dataset", "signal", "conservUp")


# --- one limit ---------------------------------------------------------------------------------------------


def limit(value, allowed, name="correlation"):
    """Make a limit of a group."""
    return Limit(name, WHERE, value, allowed, "frobenius")


@pytest.mark.parametrize(
    ("value", "allowed", "passed", "used"),
    [
        (0.004, 0.006, True, 2 / 3),
        (0.006, 0.006, True, 1.0),
        (0.006 * (1 + 1e-12), 0.006, True, 1.0),
        (0.006 * (1 + 1e-6), 0.006, False, 1.0),
        (0.012, 0.006, False, 2.0),
        (0.0, 0.0, True, 0.0),
        (1e-7, 0.0, False, math.inf),
        (math.inf, 0.05, False, math.inf),
    ],
)
def test_a_limit_has_value_and_slack(value, allowed, passed, used):
    """A limit is kept up to rounding, its slack is the room left, and of 0 nothing can be used."""
    found = limit(value, allowed)
    assert found.passed is passed
    assert found.slack == allowed - value
    assert found.used == pytest.approx(used, rel=1e-5)


def test_what_is_not_a_number_is_not_kept():
    """A value that could not be measured does not pass."""
    assert not limit(math.nan, 0.1).passed
    assert not limit(math.nan, 0.0).passed


# --- several limits ----------------------------------------------------------------------------------------


def test_verdict():
    """A verdict passes if every limit does, and names those that do not."""
    kept, broken = limit(0.004, 0.006, "a"), limit(0.02, 0.01, "b")
    assert Verdict((kept,)).passed
    assert Verdict((kept,)).broken == ()
    verdict = Verdict((kept, broken, kept))
    assert not verdict.passed
    assert verdict.broken == (broken,)


def test_tightest_is_relative_to_the_limit():
    """The tightest limit is the one of which the largest share is used, not the one with the least room."""
    wide, narrow = limit(0.5, 1.0, "wide"), limit(0.0001, 0.01, "narrow")
    assert narrow.slack < wide.slack
    assert Verdict((narrow, wide)).tightest is wide
    assert Verdict(()).tightest is None
    assert not Verdict(()).passed  # nothing was judged


def test_a_broken_limit_of_zero_is_the_tightest():
    """However small the value: a limit of 0 is broken, and no kept limit hides it."""
    broken, kept, idle = limit(1e-5, 0.0, "broken"), limit(0.9, 1.0, "kept"), limit(0.0, 0.0, "idle")
    for limits in ((broken, kept, idle), (idle, kept, broken)):
        assert Verdict(limits).tightest is broken
    assert Verdict((idle, kept)).tightest is kept


def test_verdict_as_plain_values():
    """The verdict can be written as JSON, with value, slack and outcome of each limit."""
    plain = json.loads(json.dumps(Verdict((limit(0.25, 0.5), limit(1.0, 0.5))).to_dict()))
    assert plain["passed"] is False
    assert plain["limits"][0] == {
        "name": "correlation",
        "group": "W/signal/conservUp",
        "where": {"name": "W", "level": "dataset", "region": "signal", "variation": "conservUp"},
        "value": 0.25,
        "limit": 0.5,
        "measure": "frobenius",
        "slack": 0.25,
        "passed": True,
    }
    assert [entry["passed"] for entry in plain["limits"]] == [True, False]


# --- what 0 means ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("negative", [0.0, 0.3])
def test_equal_weights(negative):
    """Weights are equal up to their sign, and to no more than rounding."""
    assert contents(*sample(negative=negative)).equal_weights
    assert not contents(*sample(spread=0.1, negative=negative)).equal_weights


@pytest.mark.parametrize(
    ("budget", "measure", "allowed"),
    [
        (Budget(rms=0.05), "rms", 0.05),
        (Budget(jsd=0.02), "jsd", 0.02),
        (Budget(band={"x": 0.1, "y": 0.2}), "band", 0.1),
        (Budget(rms=0.05, move=0), "jsd", 0.0),
        (Budget(move=0), "jsd", 0.0),
    ],
)
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_a_limit_above_zero_is_itself(budget, measure, allowed, spread):
    """A marginal limit is what was given whatever the weights; where nothing may move it is 0."""
    assert marginal_limit(budget, FEATURES[0], contents(*sample(spread=spread))) == (measure, allowed)


@pytest.mark.parametrize("budget", [Budget(rms=0), Budget(band=0), Budget(jsd=0), Budget(band={"x": 0})])
def test_zero_is_exact_for_equal_weights(budget):
    """With equal weights a limit of 0 is 0, judged as a distance."""
    assert marginal_limit(budget, FEATURES[0], contents(*sample())) == ("jsd", 0.0)
    assert marginal_limit(budget, FEATURES[0], contents(*sample(negative=0.2))) == ("jsd", 0.0)


@pytest.mark.parametrize("budget", [Budget(rms=0), Budget(band=0), Budget(jsd=0)])
@pytest.mark.parametrize("negative", [0.0, 0.2])
def test_zero_is_a_tenth_of_the_floor_for_varying_weights(budget, negative):
    """With varying weights 0 means a tenth of what two samples of this size differ by chance."""
    before, after, weight = sample(spread=0.5, negative=negative)
    group = contents(before, after, weight)
    content = slow_twins.histogram(before["x"], weight, FEATURES[0].axis.edges)
    bins = sum(value > 0 for value in content)
    effective = slow_twins.effective_events(weight)
    floor = math.sqrt((bins - 1) / (8 * math.log(2)) * 2 / effective)
    measure, allowed = marginal_limit(budget, FEATURES[0], group)
    assert (measure, FLOOR_SHARE) == ("jsd", 0.1)
    assert allowed == pytest.approx(0.1 * floor, rel=1e-12)
    assert floor == pytest.approx(jsd_floor(bins, effective_events(group.sum_w, group.sum_w2)), rel=1e-12)


def test_zero_without_effective_events():
    """Weights that cancel, or no events, leave no floor to speak of: 0 is 0."""
    empty = np.zeros(10)
    sums = np.zeros((4, 4, 4))
    cancelling = Contents({"x": (empty, empty)}, sums, sums, 3, 0.0, 4.0, 6.0)
    nothing = Contents({"x": (empty, empty)}, sums, sums, 0, 0.0, 0.0, 0.0)
    for group in (cancelling, nothing):
        assert marginal_limit(Budget(jsd=0), FEATURES[0], group) == ("jsd", 0.0)


def test_a_feature_without_band_is_an_error():
    """A dict of bands that lacks a feature is refused by name; what is frozen needs none."""
    with pytest.raises(ConfigurationError, match="band= has no entry for feature 'z'"):
        marginal_limit(Budget(band={"x": 0.1}), replace(FEATURES[2], frozen=False), contents(*sample()))
    assert marginal_limit(Budget(band={"x": 0.1}), FEATURES[2], contents(*sample())) == ("jsd", 0.0)


# --- judge -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "measure"),
    [
        (Budget(rms=0.05, correlation=0.1, watch=0.2), "rms_deviation"),
        (Budget(band=0.5), "band_deviation"),
        (Budget(jsd=0.02), "js_distance"),
        (Budget(rms=0), "js_distance"),
    ],
)
@pytest.mark.parametrize("negative", [0.0, 0.1])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_judge_equals_its_slow_twin(budget, measure, negative, seed):
    """Values from histograms and sums are those from loops over the events."""
    events = sample(seed, spread=0.5, negative=negative)
    limits = judge(WHERE, contents(*events), budget, FEATURES, WATCHED)
    expected = slow_values(*events, measure)
    assert [found.name for found in limits] == list(expected)
    for found in limits:
        assert found.value == pytest.approx(expected[found.name], rel=1e-9, abs=1e-7)
        assert found.group == WHERE
    assert (
        limits[0].measure
        == limits[1].measure
        == {"rms_deviation": "rms", "band_deviation": "band"}.get(measure, "jsd")
    )
    assert [found.measure for found in limits[3:]] == ["jsd", "frobenius"]
    assert limits[3].limit == pytest.approx(budget.watch / math.sqrt(8 * math.log(2)))
    assert limits[4].limit == budget.correlation
    assert limits[2].value == 0.0


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("negative", [0.0, 0.2])
@pytest.mark.parametrize("budget", [Budget(jsd=0, correlation=0, watch=0), Budget(move=0)])
def test_nothing_moved_is_exactly_zero(spread, negative, budget):
    """No-op: every value is exactly 0 and passes even where all limits are 0."""
    before, _, weight = sample(spread=spread, negative=negative)
    limits = judge(Group("all"), contents(before, before, weight), budget, FEATURES, WATCHED)
    assert [found.value for found in limits] == [0.0] * 5
    assert Verdict(limits).passed


def test_frozen_means_that_every_limit_is_zero():
    """With move=0 other limits are of no use."""
    budget = Budget(band=0.9, correlation=9.0, watch=9.0, move=0)
    limits = judge(Group("all"), contents(*sample()), budget, FEATURES, WATCHED)
    assert [found.limit for found in limits] == [0.0] * 5
    assert not Verdict(limits).passed


def test_a_permutation_keeps_marginals_and_not_correlations():
    """Exchanged values are invisible to every marginal of equal weights, and seen by the correlation."""
    before, _, weight = sample()
    after = {**before, "x": before["x"][::-1].copy()}
    limits = judge(Group("all"), contents(before, after, weight), Budget(jsd=0), FEATURES)
    assert [found.value for found in limits[:3]] == [0.0] * 3
    assert [found.name for found in Verdict(limits).broken] == ["correlation"]


def test_watched_quantities_do_not_count_in_the_correlation():
    """The limit is on the features: a watched quantity that changes leaves it alone."""
    before, _, weight = sample()
    after = {**before, "sum": -before["sum"]}
    limits = {
        found.name: found.value
        for found in judge(Group("all"), contents(before, after, weight), Budget(jsd=0), FEATURES, WATCHED)
    }
    assert limits["watched sum"] > 0
    assert limits["correlation"] == 0.0


def test_the_order_of_events_does_not_matter():
    """Events in another order are judged alike."""
    before, after, weight = sample(spread=0.5)
    order = np.random.default_rng(0).permutation(len(weight))
    shuffled = [{name: column[order] for name, column in columns.items()} for columns in (before, after)]
    one = judge(Group("all"), contents(before, after, weight), Budget(rms=0.1), FEATURES, WATCHED)
    other = judge(Group("all"), contents(*shuffled, weight[order]), Budget(rms=0.1), FEATURES, WATCHED)
    for a, b in zip(one, other, strict=True):
        assert a.value == pytest.approx(b.value, rel=1e-9)


def test_many_groups_are_judged_as_each_of_them_is():
    """Equal and unequal weights side by side: one floor of the sample does not become that of another."""
    groups = {
        Group("even"): contents(*sample()),
        Group("spread"): contents(*sample(spread=0.5)),
        Group("signed"): contents(*sample(negative=0.2)),
    }
    for budget in (Budget(jsd=0), Budget(rms=0.1, ks=0.02, correlation_element=0.0), Budget(move=0)):
        alone = [judge(name, own, budget, FEATURES, WATCHED) for name, own in groups.items()]
        assert judge_many(groups, budget, FEATURES, WATCHED) == tuple(row for rows in alone for row in rows)
    assert judge_many({}, Budget(jsd=0), FEATURES) == ()
    allowed = {
        row.name: row.limit
        for row in judge(Group("even"), groups[Group("even")], Budget(jsd=0, correlation=0), FEATURES)
    }
    assert allowed["correlation"] == 1e-6
