"""Samples made to break things; every verdict is made again by slow twins (see conftest)."""

from __future__ import annotations

import hist
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coffea_conserv import Budget, Feature, attack
from coffea_conserv.solvers.search.solver import Search
from coffea_conserv.solvers.transport.solver import Transport

AXIS = hist.axis.Regular(8, -4, 4)
SOLVERS = {"transport": Transport(steps=6), "search": Search(num_candidates=4, iterations=1)}
BUDGETS = [
    Budget(rms=0.0, correlation=0.1),
    Budget(rms=0.2, correlation=0.1),
    Budget(band=0.3, correlation=0.3),
    Budget(jsd=0.1, correlation=0.1, ks=0.05),
]


class Slope(torch.nn.Module):
    """More like signal where x and y agree; jumps."""

    def forward(self, x):
        """Logits, shape (events,)."""
        z = torch.where(x[:, 2] > -900, x[:, 2], torch.zeros_like(x[:, 2]))
        return x[:, 0] * x[:, 1] + 0.1 * x[:, 0] + torch.floor(z) - 0.5


class Product(torch.nn.Module):
    """More like signal where x and y agree."""

    def forward(self, x):
        """Logits, shape (events,)."""
        return x[:, 0] * x[:, 1] - 0.5


FEATURES = (Feature("x", AXIS), Feature("y", AXIS), Feature("z", AXIS, missing=-999.0))


@st.composite
def samples(draw):
    """Few different values, so that ties and duplicates abound; weights of some orders of magnitude."""
    events = draw(st.integers(0, 90))
    seed = draw(st.integers(0, 2**16))
    values = draw(st.integers(1, 6))
    rng = np.random.default_rng(seed)
    x = rng.integers(-values, values + 1, (events, 3)) / np.float32(2)
    x[rng.uniform(size=events) < draw(st.sampled_from([0.0, 0.4, 1.0])), 2] = -999.0
    kind = draw(st.sampled_from(["one", "two", "wide", "signed", "zero"]))
    weight = {
        "one": np.ones(events),
        "two": rng.choice([1.0, 2.5], events),
        "wide": 10.0 ** rng.uniform(-6, 6, events),
        "signed": rng.choice([1.0, 1.0, 1.0, -1.0], events),
        "zero": rng.choice([0.0, 1.0], events),
    }[kind]
    group = rng.integers(-1, draw(st.integers(1, 3)), events)
    return x.astype(np.float32), weight, group


@settings(max_examples=40, deadline=None)
@given(
    samples(), st.sampled_from(BUDGETS), st.sampled_from(sorted(SOLVERS)), st.sampled_from(["score", "cross"])
)
def test_no_sample_breaks_a_limit(sample, budget, solver, objective):
    """Ties, duplicates, missing values, tiny groups, weights of all kinds: limits are kept, values stay."""
    x, weight, group = sample
    options = {"weights": weight, "groups": group, "objective": objective}
    result = attack(x, Slope(), FEATURES, budget=budget, solver=SOLVERS[solver], **options)
    assert not result.verdict.broken
    assert np.isfinite(result.score).all()
    assert 0 <= result.fooling_ratio <= 1
    np.testing.assert_array_equal(result.x[weight == 0], x[weight == 0])
    np.testing.assert_array_equal(result.x[:, 2] == -999, x[:, 2] == -999)


def test_two_events_stay(recwarn):
    """They are fewer than what can be attacked, and say so."""
    x = np.array([[-1, 1, 0], [1, -1, 0]], dtype=np.float32)
    result = attack(x, Slope(), FEATURES, budget=BUDGETS[0], groups=[0, 1])
    np.testing.assert_array_equal(result.x, x)
    assert result.unattacked.all()
    assert not recwarn.list


def test_groups_may_have_any_number():
    """Of a billion groups only those count that have events, with weights of both signs too."""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(600, 3)).astype(np.float32), rng.choice([1.0, 1.0, 1.0, -1.0], 600)
    small = rng.integers(-1, 3, 600)
    large = np.where(small < 0, -1, small * 2_000_000_000 + 7)
    options = {"weights": weight, "budget": Budget(rms=0.1, correlation=0.2), "solver": SOLVERS["transport"]}
    one, two = (attack(x, Slope(), FEATURES, groups=groups, **options) for groups in (small, large))
    np.testing.assert_array_equal(one.x, two.x)
    assert (one.x != x).any()
    assert {str(limit.group) for limit in two.verdict.limits} == {"7", "2000000007", "4000000007"}


@pytest.mark.parametrize("rms", [0.0, 0.05])
def test_a_million_duplicates_of_a_value(rms):
    """A spike of equal values beside a few others: nothing is lost, no limit breaks, others still move."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1_002_000, 2)).astype(np.float32)
    x[:1_000_000, 0] = 0.25
    options = {"budget": Budget(rms=rms, correlation=0.05), "solver": Transport(steps=2)}
    result = attack(x, Product(), FEATURES[:2], **options)
    assert result.verdict.passed
    assert np.isin(result.x, x).all()
    if rms == 0:
        np.testing.assert_array_equal(np.sort(result.x, axis=0), np.sort(x, axis=0))
    assert (result.x[:, 0] != x[:, 0]).any()
    assert result.fooling_ratio > 0
