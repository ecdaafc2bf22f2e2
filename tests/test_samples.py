"""What a sample can tell: floors, share of negative weight, and columns without a correlation."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import hist
import numpy as np
import pytest
import slow_twins
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_events import made, with_budget
from made_problems import MISSING, Ring, features, made_batch
from made_results import SAMPLES, events_of, result_of
from rich.console import Console

from coffea_conserv import Band, Budget, Feature, attack
from coffea_conserv.limits.budget import Chi2
from coffea_conserv.limits.measures import (
    correlation,
    correlation_change,
    correlation_shift,
    js_distance,
    ks_distance,
    pair_sums,
    rms_deviation,
)
from coffea_conserv.limits.noise import Floors
from coffea_conserv.limits.statistics import Degenerate, degenerate
from coffea_conserv.report.console import print_report
from coffea_conserv.solvers.search.solver import Search
from coffea_conserv.solvers.transport.solver import Transport

SOLVERS = {"transport": Transport(steps=20), "search": Search(num_candidates=10, iterations=2)}


def test_floors_are_what_samples_differ_by():
    """Pairs of samples of one distribution, many times: the mean is the floor within its own error."""
    rng = np.random.default_rng(0)
    n, d, edges = 2000, 6, np.linspace(0, 1, 41)
    found = {"jsd": [], "ks": [], "rms": [], "correlation": [], "element": []}
    for _ in range(150):
        one, two = rng.random((2, n, d))
        before, after = (np.histogram(x[:, 0], edges)[0].astype(float) for x in (one, two))
        found["jsd"].append(js_distance(before, after) ** 2)
        found["rms"].append(rms_deviation(before, after) ** 2)
        found["ks"].append(
            ks_distance(*(np.histogram(x[:, 0], 400, (0, 1))[0].astype(float) for x in (one, two)))
        )
        matrices = [correlation(pair_sums(x - 0.5, np.ones((n, d), bool), np.ones(n))) for x in (one, two)]
        found["correlation"].append(correlation_shift(*matrices) ** 2)
        found["element"].append((matrices[1][0, 1] - matrices[0][0, 1]) ** 2)
        assert correlation_change(*matrices) > 0
    floors = Floors(float(n), 40, d)
    for name, values in found.items():
        mean = np.mean(values) if name == "ks" else math.sqrt(np.mean(values))
        assert getattr(floors, name) == pytest.approx(mean, rel=0.15 if name == "element" else 0.07), name


def test_floors_without_anything():
    """No events: nothing can be told apart. One feature has no correlations, one bin no deviations."""
    empty = Floors(0.0, 10, 3)
    assert {empty.jsd, empty.rms, empty.band, empty.ks, empty.correlation, empty.element} == {math.inf}
    alone = Floors(100.0, 1, 1)
    assert (alone.jsd, alone.rms, alone.correlation, alone.element) == (0.0, 0.0, 0.0, 0.0)
    assert alone.band == pytest.approx(math.sqrt(2 / 100))


FLOORS = Floors(20_000.0, 41, 9)  # r.m.s. 6.3 %, JSD 0.027, KS 0.87 %, correlation 0.028, element 0.01


@pytest.mark.parametrize(
    ("limits", "below"),
    [
        ({"rms": 0.05}, ("rms", "correlation")),
        ({"rms": 0.07, "correlation": 0.03}, ()),
        ({"rms": 0.0, "correlation": 0.0}, ()),
        ({"jsd": 0.02, "correlation": 1, "ks": 0.005}, ("jsd", "ks")),
        ({"band": {"x": 0.5, "y": 0.06}, "correlation": 1}, ("band",)),
        ({"band": Band(0.0, 0.07), "correlation": 1}, ()),
        ({"rms": 0.5, "chi2": Chi2(5.0, events=2000), "correlation": 1}, ("chi2",)),
        ({"rms": 0.5, "correlation": 1, "correlation_element": 0.009}, ("correlation_element",)),
        ({"move": 0}, ()),
    ],
)
def test_limits_below_the_floor(limits, below):
    """Named where two samples could not see a difference of their size; 0 is another matter."""
    assert Budget(**limits).below(FLOORS) == below


def test_meaning_for_a_sample():
    """The text ends with what the sample can see."""
    text = Budget(rms=0.05).meaning(events=20_000, bins=41, features=9)
    assert text.startswith(Budget(rms=0.05).meaning())
    assert text.endswith(
        "; two samples of 20,000 events differ by chance by 6.3% r.m.s. of 41 bins (distance 0.0269), 0.87% "
        "in KS, 0.0283 in the correlation matrix: more than rms, correlation allow"
    )
    assert Budget(move=0).meaning(events=10) == "no event may move"


# --- columns without a correlation -------------------------------------------------------------------------


def columns_of(**changes):
    """Statistics of columns a to d of 60 events, some of them changed; with all weights 1 if not given."""
    rng = np.random.default_rng(2)
    x, there, weight = rng.normal(size=(60, 4)), np.ones((60, 4), bool), np.ones(60)
    for name, value in changes.items():
        if name == "weight":
            weight = value
        elif value is None:
            there[:, "abcd".index(name)] = False
        else:
            x[:, "abcd".index(name)] = value(*x.T)
    return degenerate(pair_sums(x, there, weight), list("abcd"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"a": lambda *x: 3.0}, [("constant", "a")]),
        ({"a": lambda *x: 1e-3 / 3, "c": lambda *x: 7.1}, [("constant", "a"), ("constant", "c")]),
        ({"b": None}, [("missing", "b")]),
        ({"b": lambda a, *x: 2 * a - 1}, [("collinear", "ab")]),
        ({"b": lambda a, *x: -a, "d": lambda a, b, c, d: c}, [("collinear", "ab"), ("collinear", "cd")]),
        ({"d": lambda a, b, c, d: a + b}, [("collinear", "abd")]),
        ({"d": lambda a, b, c, d: a + b + c, "a": lambda *x: 1.0}, [("constant", "a")]),
        ({"d": lambda a, b, c, d: a + 0.01 * b}, [("collinear", "abd")]),
        ({"b": lambda a, b, *x: a + 1e-3 * b}, []),
        ({"weight": np.tile([1.0, -1.0], 30)}, [("weightless", name) for name in "abcd"]),
    ],
)
def test_degenerate_columns_are_found(changes, expected):
    """Constant, missing, cancelling and dependent ones, and no others."""
    assert columns_of(**changes) == tuple(Degenerate(kind, tuple(names)) for kind, names in expected)


CHANGES = {
    "constant": lambda x: np.full(len(x), 1.0),
    "missing": lambda x: np.full(len(x), MISSING),
    "pair": lambda x: 2 * x[:, 0] + 1,
    "three": lambda x: x[:, 0] + x[:, 1],
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", CHANGES)
def test_groups_with_degenerate_columns_are_attacked_and_reported(kind, solver):
    """No NaN anywhere, limits kept, constants stay constants, and the group and its features are named."""
    batch = made_batch(600)
    x, first = batch.x.copy(), batch.group == 0
    x[first, 2] = CHANGES[kind](x[first])
    budget = Budget(rms=0.05, correlation=0.05, correlation_element=0.04, ks=0.02)
    result = attack(x, Ring(), features(), budget=budget, groups=batch.group, solver=SOLVERS[solver])
    assert result.verdict.passed
    assert all(math.isfinite(limit.value) for limit in result.verdict.limits)
    expected = {
        "constant": ("constant", ("z",)),
        "missing": ("missing", ("z",)),
        "pair": ("collinear", ("x", "z")),
        "three": ("collinear", ("x", "y", "z")),
    }[kind]
    one, two = result.statistics
    assert [str(row.group) for row in result.statistics] == ["0", "1"]
    assert (one.degenerate, two.degenerate) == ((Degenerate(*expected),), ())
    if kind in ("constant", "missing"):
        np.testing.assert_array_equal(result.x[first, 2], x[first, 2])
    assert (result.x[first] != x[first]).any()


def printed(result):
    """The report as text."""
    stream = io.StringIO()
    print_report(result, Console(file=stream, width=200))
    return stream.getvalue()


def test_degenerate_columns_of_merged_samples_are_reported():
    """In the result, in the report and in JSON; what is constant in each chunk need not be so in all."""
    samples = []
    for k, sample in enumerate(SAMPLES[:3]):
        values = {v: {**c, "x": np.full_like(c["x"], 0.25 + 0.25 * k)} for v, c in sample.values.items()}
        samples.append(replace(sample, values=values))
    result = result_of(*samples, settings=with_budget(rms=0.1, correlation=0.5, watch=5.0), estimates=())
    found = {str(row.group): row.degenerate for row in result.statistics}
    assert found["W2/signal"] == (Degenerate("constant", ("x",)),)
    assert found["W1/signal"] == found["W/signal"] == ()
    assert "constant: x in W2/control, W2/signal" in printed(result)
    rows = {row["group"]: row for row in result.to_dict()["statistics"]}
    assert rows["W2/signal"]["degenerate"] == [{"kind": "constant", "features": ["x"]}]
    assert all(math.isfinite(limit.value) for limit in result.verdict.limits)


# --- sizes -------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.floats(-3, 3), min_size=120, max_size=120))
def test_sizes_are_those_of_the_events(weights):
    """Effective events and share of negative weight of a group, by plain loops."""
    batch, weight = made_batch(120, groups=1), np.array(weights)
    result = attack(batch.x, Ring(), features(), budget=Budget(move=0), weights=weight)
    row = result.statistics[0]
    size = math.fsum(abs(w) for w in weights)
    negative = math.fsum(-w for w in weights if w < 0)
    assert row.events == 120
    assert row.negative_share == pytest.approx(negative / size if size else 0.0, abs=1e-9)
    positive = weight.sum() > 0
    expected = slow_twins.effective_events(weights) if positive else 0.0
    assert row.effective_events == pytest.approx(expected, rel=1e-6)


def test_sizes_of_merged_samples():
    """Merged sums give those of all events together, in the table and in JSON, by dataset and process."""
    odd = replace(made("Z", "c:0-120", 120, seed=5), weight=np.where(np.arange(120) % 8, 0.1, -0.2))
    result = result_of(*SAMPLES[:4], odd, settings=with_budget(rms=0.05, correlation=0.5), estimates=())
    rows = {str(row.group): row for row in result.statistics}
    assert list(rows) == [
        f"{name}/{region}" for name in ("W1", "W2", "Z", "W") for region in ("control", "signal")
    ]
    _, weight = events_of(("W1", "W2"), "signal")
    assert rows["W/signal"].effective_events == pytest.approx(slow_twins.effective_events(weight))
    inside = odd.weight[odd.regions["signal"]]
    share = -inside[inside < 0].sum() / np.abs(inside).sum()
    assert rows["Z/signal"].negative_share == pytest.approx(share)
    assert rows["W/signal"].negative_share == 0.0
    assert rows["W/signal"].below == ("rms",)
    text = printed(result)
    assert "what the samples can tell" in text
    assert f"{share:.1%}" in text
    assert {row["group"]: row["negative_share"] for row in result.to_dict()["statistics"]} == {
        name: row.negative_share for name, row in rows.items()
    }


def test_bins_are_those_with_content():
    """The feature with the most bins that hold something counts."""
    x = np.tile([[0.5, 0.5], [1.5, 0.5], [2.5, 1.5]], (40, 1)).astype(np.float32)
    pair = [Feature("x", hist.axis.Regular(30, 0, 30)), Feature("y", hist.axis.Regular(2, 0, 2))]

    class Sum(torch.nn.Module):
        def forward(self, x):
            return x.sum(1)

    row = attack(x, Sum(), pair, budget=Budget(move=0)).statistics[0]
    assert row.bins == 3
    assert row.jsd == Floors(120.0, 3, 2).jsd
