"""Limits of the solver: the same measures as the judge's, and prices that are derivatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import slow_twins
import torch

from coffea_conserv.limits.measures import RMS_PER_JSD, correlation, pair_sums
from coffea_conserv.solvers.constraints import (
    BAND,
    JSD,
    RMS,
    Limits,
    Prices,
    Totals,
    correlations,
    defined,
    used,
)
from coffea_conserv.solvers.lagrangian import Room, penalty
from coffea_conserv.solvers.problem import sum_moments


def events(seed, *, groups=3, count=120, features=4):
    """Standardised events with missing values, weights and groups."""
    rng = np.random.default_rng(seed)
    group = np.sort(rng.integers(0, groups, count))
    there = rng.uniform(size=(count, features)) < 0.8
    z = np.where(there, rng.normal(size=(count, features)) @ rng.normal(size=(features, features)), 0.0)
    return z, there, rng.lognormal(0, 0.4, count), group


def totals_of(z, there, weight, group, content):
    """Sums of NumPy arrays."""
    tensors = (torch.tensor(part) for part in (z, there, weight, group))
    n, first, second, cross = sum_moments(*tensors)
    return n, Totals(first, second, cross, content)


def made_limits(seed, kinds=(RMS, JSD, BAND), bins=7):
    """Limits of three groups, and sums that are a little away from nominal."""
    rng = np.random.default_rng(seed)
    z, there, weight, group = events(seed)
    reference = torch.tensor(rng.uniform(5, 60, (3, len(kinds), bins)))
    n, nominal = totals_of(z, there, weight, group, reference)
    good = defined(nominal, n)
    moved = np.where(there, z + 0.1 * rng.normal(size=z.shape), 0.0)
    content = reference * torch.tensor(rng.uniform(0.8, 1.25, reference.shape))
    content = content * reference[..., :-1].sum(-1, keepdim=True) / content[..., :-1].sum(-1, keepdim=True)
    _, now = totals_of(moved, there, weight, group, content)
    limits = Limits(
        n,
        correlations(nominal, n, good),
        good,
        torch.full((3,), 0.02, dtype=torch.float64),
        nominal,
        None,
        reference,
        torch.full((3, len(kinds)), 0.05, dtype=torch.float64),
        torch.tensor(kinds),
        torch.bincount(torch.tensor(group)).double(),
        torch.bincount(torch.tensor(group), torch.tensor(weight)),
    )
    return limits, nominal, now, (z, moved, there, weight, group)


@pytest.mark.parametrize("seed", range(4))
def test_correlations_are_those_of_the_measures_and_of_the_slow_twin(seed):
    """One definition: sums by group, pairwise complete, weighted."""
    z, there, weight, group = events(seed)
    n, sums = totals_of(z, there, weight, group, torch.zeros(3, 0, 1))
    found = correlations(sums, n, defined(sums, n)).numpy()
    for g in range(3):
        of = group == g
        fast = correlation(pair_sums(z[of], there[of], weight[of]))
        np.testing.assert_allclose(found[g] + np.eye(4), fast, atol=1e-12)
        twin = slow_twins.pearson(z[of].T, there[of].T, weight[of])
        np.testing.assert_allclose(found[g] + np.eye(4), twin, atol=1e-9)


def test_a_constant_or_absent_feature_has_no_correlation():
    """Neither NaN nor a price comes from a column without spread."""
    z, there, weight, group = events(0)
    z[:, 0], there[:, 1], z[:, 1] = 0.0, False, 0.0
    n, sums = totals_of(z, there, weight, group, torch.zeros(3, 0, 1))
    found = correlations(sums, n, defined(sums, n))
    assert torch.isfinite(found).all()
    assert not found[:, :2].any()
    assert not found[:, :, :2].any()


@pytest.mark.parametrize("seed", range(6))
def test_used_shares_are_the_measures_over_the_limits(seed):
    """The solver's own check agrees with the judge's measures to rounding."""
    limits, nominal, now, (z, moved, there, weight, group) = made_limits(seed)
    found = used(limits, now).numpy()
    measures = (slow_twins.rms_deviation, slow_twins.js_distance, slow_twins.band_deviation)
    for g in range(3):
        of = group == g
        before, after = (slow_twins.pearson(v[of].T, there[of].T, weight[of]) for v in (z, moved))
        change = np.linalg.norm(np.array(after) - np.array(before))
        assert found[g, 0] == pytest.approx(change / 0.02, rel=1e-9)
        for q, measure in enumerate(measures):
            value = measure(limits.reference[g, q, :-1].tolist(), now.content[g, q, :-1].tolist())
            unit = RMS_PER_JSD if q == JSD else 1.0
            assert found[g, 1 + q] == pytest.approx(unit * value / 0.05, rel=1e-9)
    assert not used(limits, nominal).any()


@pytest.mark.parametrize("seed", range(3))
def test_the_scale_of_a_bin_gives_the_measure_exactly(seed):
    """Σ deviation² / scale / size is the square of r.m.s. deviation and distance, also far away."""
    limits, _, now, _ = made_limits(seed, kinds=(RMS, JSD))
    reference = limits.reference.clone()
    reference[0, :, 2] = 0.0
    limits, now = replace(limits, reference=reference), replace(now, content=now.content.clone())
    now.content[1, 1, 3] = 0.0
    now.content[0, 0, 2] = 0.0  # the r.m.s. of a bin that fills is infinite
    now.content[..., :-1] *= limits.sizes() / now.content[..., :-1].sum(-1, keepdim=True)
    deviation = (now.content - reference)[..., :-1]
    squares = (deviation**2 / (limits.scale(now.content)[..., :-1] * limits.sizes())).sum(-1)
    torch.testing.assert_close(squares.sqrt(), used(limits, now)[:, 1:] * 0.05, rtol=1e-6, atol=1e-9)


def room_and_stiffness(limits):
    """A share of the limits, and what they are held with."""
    return Room(limits, 0.9, 0.8), torch.tensor([[3.0, 5.0]], dtype=torch.float64).expand(3, 2)


@pytest.mark.parametrize("kind", [RMS, BAND])
def test_prices_of_tables_are_the_derivative_of_the_penalty(kind):
    """Moving a little content between bins raises the penalty by the difference of their prices."""
    limits, _, now, _ = made_limits(1, kinds=(kind,))
    room, rho = room_and_stiffness(limits)
    rng = np.random.default_rng(5)
    start = Prices(torch.zeros(3, 4, 4).double(), torch.tensor(rng.normal(size=(3, 1, 7))))
    prices = room.prices(now, start, rho)
    step = 1e-6
    for cell in range(6):
        content = now.content.clone()
        content[:, 0, cell] += step
        moved = room.prices(replace(now, content=content), start, rho)
        slope = (penalty(moved, rho) - penalty(prices, rho)) / step
        unit = torch.sqrt(limits.scale(now.content) * limits.sizes())
        torch.testing.assert_close(slope, (prices.tables / unit)[:, 0, cell], rtol=1e-3, atol=1e-6)


def test_nothing_has_a_price_inside_of_the_limits():
    """At nominal, and while less than the aimed-at share is used, the penalty is exactly 0."""
    limits, nominal, now, _ = made_limits(2)
    wide = replace(limits, correlation=limits.correlation * 1e3, table=limits.table * 1e3)
    room, rho = room_and_stiffness(wide)
    zero = Prices(torch.zeros(3, 4, 4).double(), torch.zeros_like(limits.reference))
    for sums in (nominal, now):
        assert not penalty(room.prices(sums, zero, rho), rho).any()
    assert (penalty(room_and_stiffness(limits)[0].prices(now, zero, rho), rho) > 0).all()


def test_means_drift_only_where_they_are_asked_for():
    """The change of means stands in further columns, weighted; without it there are correlations only."""
    limits, nominal, now, _ = made_limits(3)
    with_means = replace(limits, drift=torch.full((4,), 0.5).double())
    plain, extended = limits.shift(now), with_means.shift(now)
    assert plain.shape == (3, 4, 4)
    assert extended.shape == (3, 4, 12)
    torch.testing.assert_close(extended[..., :4], plain)
    first = (now.first - nominal.first) / limits.weight
    torch.testing.assert_close(extended[..., 4:8], 0.5 * np.sqrt(2) * first)
    assert not with_means.shift(nominal).any()
