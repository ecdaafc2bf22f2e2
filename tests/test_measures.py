"""Measures against slow twins, identities and known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slow_twins
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from coffea_conserv.limits.measures import (
    RMS_PER_JSD,
    band_deviation,
    correlation,
    correlation_shift,
    effective_events,
    js_distance,
    jsd_floor,
    pair_sums,
    rms_deviation,
)

few = settings(max_examples=60, deadline=None, derandomize=True, database=None)
content = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))
net_content = st.one_of(content, st.floats(-10.0, -1e-3))
TWINS = {
    js_distance: slow_twins.js_distance,
    rms_deviation: slow_twins.rms_deviation,
    band_deviation: slow_twins.band_deviation,
}
MEASURES = tuple(TWINS)


@st.composite
def two_histograms(draw, entry=content):
    """Draw two histograms with the same number of bins."""
    bins = draw(st.integers(1, 12))
    return tuple(np.array(draw(st.lists(entry, min_size=bins, max_size=bins))) for _ in range(2))


def events(seed, n=60, columns=4, *, negative=0.0, missing=0.2):
    """Correlated columns with missing values, and weights of which a share is negative."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, columns)) @ rng.normal(size=(columns, columns)) + rng.normal(size=columns)
    there = rng.random((n, columns)) >= missing
    weight = rng.lognormal(0, 0.5, n) * np.where(rng.random(n) < negative, -1, 1)
    return z, there, weight


# --- marginals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", MEASURES)
@few
@given(pair=two_histograms(net_content))
def test_marginal_measures_equal_their_slow_twins(measure, pair):
    """Fast and slow forms agree, with empty and with negative bins."""
    fast, slow = measure(*pair), TWINS[measure](*pair)
    assert fast**2 == pytest.approx(slow**2, rel=1e-9, abs=2e-14)


@pytest.mark.parametrize("measure", MEASURES)
@few
@given(pair=two_histograms(net_content), scale=st.floats(1e-6, 1e6))
def test_the_same_shape_is_exactly_zero(measure, pair, scale):
    """Nothing moved, or everything scaled, is a distance of exactly 0 and not √ of a rounding."""
    assert measure(pair[0], pair[0]) == 0.0
    assert measure(pair[0], scale * pair[0]) == 0.0


@few
@given(pair=two_histograms())
def test_js_distance_is_a_symmetric_number_up_to_one(pair):
    """The distance is in 0 … 1 and does not depend on which sample is which."""
    distance = js_distance(*pair)
    assert 0 <= distance <= 1
    assert distance == pytest.approx(js_distance(*pair[::-1]), abs=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
@few
@given(pair=two_histograms(net_content), random=st.randoms(use_true_random=False))
def test_the_order_of_bins_does_not_matter(measure, pair, random):
    """Any order of the bins gives the same value to rounding."""
    order = random.sample(range(len(pair[0])), len(pair[0]))
    shuffled = measure(pair[0][order], pair[1][order])
    assert shuffled**2 == pytest.approx(measure(*pair) ** 2, rel=1e-9, abs=2e-14)


@few
@given(bins=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=30), cut=st.integers(1, 29))
def test_disjoint_samples_have_distance_one(bins, cut):
    """Samples that share no bin are as far apart as possible."""
    assume(cut < len(bins))
    below = np.arange(len(bins)) < cut
    filled = np.array(bins)
    assert js_distance(np.where(below, filled, 0), np.where(below, 0, filled)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("seed", [939, 1850, 2345])
def test_rounding_does_not_take_the_distance_above_one(seed):
    """Disjoint bins whose shares add up to slightly more than 1 are no further apart than 1."""
    filled, below = np.random.default_rng(seed).lognormal(0, 3, 300), np.arange(300) < 150
    assert js_distance(np.where(below, filled, 0), np.where(below, 0, filled)) == 1


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    "pair", [([], []), ([0, 0], [0, 0]), ([0, 0], [1, 2]), ([1, 2], [0, 0]), ([-1, -2], [1, 2])]
)
def test_an_empty_sample_has_no_distance(measure, pair):
    """Where there is nothing to compare the value is 0, without a warning."""
    assert measure(*(np.array(h, dtype=float) for h in pair)) == 0.0


@pytest.mark.parametrize(("deviation", "distance"), [(0.05, 0.021), (0.10, 0.042)])
def test_rms_deviation_in_units_of_the_distance(deviation, distance):
    """An r.m.s. deviation of 5 % is a Jensen–Shannon distance of 0.021, and 10 % of 0.042."""
    nominal = np.full(50, 100.0)
    attacked = nominal * (1 + deviation * np.where(np.arange(50) % 2, 1, -1))
    assert rms_deviation(nominal, attacked) == pytest.approx(deviation, rel=1e-12)
    assert band_deviation(nominal, attacked) == pytest.approx(deviation, rel=1e-12)
    assert js_distance(nominal, attacked) == pytest.approx(distance, rel=0.015)
    assert js_distance(nominal, attacked) == pytest.approx(deviation / RMS_PER_JSD, rel=2e-3)


def test_rms_weights_bins_by_their_content_and_band_does_not():
    """A large deviation of a small bin is small for the r.m.s. and large for the band."""
    nominal, attacked = np.array([99.0, 1.0]), np.array([98.0, 2.0])
    assert band_deviation(nominal, attacked) == pytest.approx(1.0)
    assert rms_deviation(nominal, attacked) == pytest.approx(math.sqrt(0.01**2 / 0.99 + 0.01**2 / 0.01))


@pytest.mark.parametrize("measure", [rms_deviation, band_deviation])
def test_a_relative_deviation_of_nothing_is_infinite(measure):
    """An empty bin that fills breaks any relative limit; the distance stays finite."""
    nominal, attacked = np.array([10.0, 0.0]), np.array([9.0, 1.0])
    assert measure(nominal, attacked) == math.inf
    assert 0 < js_distance(nominal, attacked) < 1


@pytest.mark.parametrize("measure", MEASURES)
def test_negative_bins_stay_outside(measure):
    """A bin whose nominal net content is negative changes nothing, whatever becomes of it."""
    nominal, attacked = np.array([10.0, 20.0, 5.0]), np.array([11.0, 19.0, 5.0])
    expected = measure(nominal, attacked)
    for after in (-3.0, -2.0, 0.0, 4.0):
        assert measure(np.append(nominal, -3.0), np.append(attacked, after)) == expected


@pytest.mark.parametrize("measure", MEASURES)
def test_a_bin_that_turns_negative_is_as_bad_as_one_that_is_emptied(measure):
    """A limit cannot be evaded by making the net content of a bin negative."""
    nominal = np.array([10.0, 20.0, 5.0])
    emptied = measure(nominal, np.array([12.0, 23.0, 0.0]))
    assert measure(nominal, np.array([12.0, 23.0, -1e-9])) == emptied
    assert measure(nominal, np.array([12.0, 23.0, -4.0])) == emptied > 0


@few
@given(data=st.data(), bins=st.integers(2, 8), chunks=st.integers(2, 4))
def test_merging_chunks_never_increases_the_distance(data, bins, chunks):
    """The divergence is jointly convex: merged ≤ the weighted mean of the chunks, which keep their yields."""
    entries = st.lists(st.floats(0.01, 100), min_size=bins, max_size=bins)
    nominal, attacked = (
        np.array([data.draw(entries) for _ in range(chunks)]),
        np.array([data.draw(entries) for _ in range(chunks)]),
    )
    attacked *= nominal.sum(axis=1, keepdims=True) / attacked.sum(axis=1, keepdims=True)
    share = nominal.sum(axis=1) / nominal.sum()
    single = [js_distance(p, q) ** 2 for p, q in zip(nominal, attacked, strict=True)]
    assert js_distance(nominal.sum(axis=0), attacked.sum(axis=0)) ** 2 <= share @ single + 1e-12


@few
@given(data=st.data(), bins=st.integers(2, 8), limit=st.floats(0.001, 0.5))
def test_a_band_composes(data, bins, limit):
    """Chunks within a band of every bin, each with its yield kept, merge to a sample within the band."""
    total = np.zeros((2, bins))
    for _ in range(3):
        nominal = np.array(data.draw(st.lists(st.floats(0.01, 100), min_size=bins, max_size=bins)))
        tilt = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=bins, max_size=bins)))
        tilt -= (nominal @ tilt) / nominal.sum()
        total += nominal, nominal * (1 + limit * tilt / max(np.abs(tilt).max(), 1.0))
    assert band_deviation(*total) <= limit * (1 + 1e-9)


# --- statistical floor -------------------------------------------------------------------------------------


def test_floor_known_answer():
    """50 bins at 5,000 against 5,000 events differ by 0.059 by chance."""
    assert jsd_floor(50, 5000) == pytest.approx(0.059, abs=5e-4)
    assert jsd_floor(50, 5000, 5000) == jsd_floor(50, 5000)


@pytest.mark.parametrize(("first", "second"), [(5000, 5000), (2000, 20000)])
def test_floor_is_what_a_simulation_finds(first, second):
    """The mean squared distance of independent samples of one distribution is the squared floor."""
    rng = np.random.default_rng(11)
    shape = rng.dirichlet(np.full(30, 5.0))
    squares = [
        js_distance(rng.multinomial(first, shape).astype(float), rng.multinomial(second, shape).astype(float))
        ** 2
        for _ in range(400)
    ]
    assert np.mean(squares) == pytest.approx(jsd_floor(30, first, second) ** 2, rel=0.05)


def test_floor_of_weighted_events_needs_the_effective_number():
    """With weights that do not depend on the bin, n is (Σw)²/Σw²."""
    rng = np.random.default_rng(12)
    squares, floors = [], []
    for _ in range(300):
        histograms, effective = [], []
        for _ in range(2):
            weight = rng.lognormal(0, 0.7, 3000)
            histograms.append(np.bincount(rng.integers(0, 20, 3000), weight, 20))
            effective.append(effective_events(weight.sum(), (weight**2).sum()))
        squares.append(js_distance(*histograms) ** 2)
        floors.append(jsd_floor(20, *effective) ** 2)
    assert np.mean(squares) == pytest.approx(np.mean(floors), rel=0.05)


def test_floor_without_events_or_bins():
    """Without events everything can happen by chance, with a single bin nothing can."""
    assert jsd_floor(10, 0) == jsd_floor(10, 100, 0) == math.inf
    assert jsd_floor(1, 100) == jsd_floor(0, 100) == 0.0


def test_effective_events():
    """Equal weights count fully, one that dominates counts as one event, weights that cancel as none."""
    for weight in ([0.3] * 10, [1e6, 1.0, 1.0], [1.0, -1.0], [1.0, 2.0, -0.5], []):
        found = effective_events(sum(weight), sum(w**2 for w in weight))
        assert found == pytest.approx(slow_twins.effective_events(weight))
    assert effective_events(3.0, 0.9) == pytest.approx(10)
    assert effective_events(0.0, 0.0) == 0.0


# --- correlations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("negative", [0.0, 0.2])
def test_correlation_equals_its_slow_twin(seed, negative):
    """Weighted, pairwise-complete correlations agree with two passes over the events of each pair."""
    z, there, weight = events(seed, negative=negative)
    slow = slow_twins.pearson(z.T, there.T, weight)
    np.testing.assert_allclose(correlation(pair_sums(z, there, weight)), slow, rtol=1e-9, atol=1e-10)


def test_correlation_equals_that_of_numpy():
    """With everything present the matrix is that of numpy with weights."""
    z, there, weight = events(1, n=500, missing=0.0)
    covariance = np.cov(z.T, aweights=weight)
    scale = np.sqrt(np.diag(covariance))
    expected = covariance / np.outer(scale, scale)
    np.testing.assert_allclose(correlation(pair_sums(z, there, weight)), expected, rtol=1e-10)


def test_pair_sums_are_what_they_say():
    """Sums of w, w·z_j, w·z_j² and w·z_j·z_k run over the events in which both are present."""
    z = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 7.0]])
    there = np.array([[True, True], [True, False], [True, True]])
    sums = pair_sums(z, there, np.array([1.0, 10.0, -2.0]))
    assert sums[:, 0, 0].tolist() == [9, 21, 41, 41]
    assert sums[:, 0, 1].tolist() == [-1, -9, -49, 2 - 70]
    assert sums[:, 1, 0].tolist() == [-1, -12, 4 - 98, 2 - 70]
    assert sums[:, 1, 1].tolist() == [-1, -12, 4 - 98, 4 - 98]


@pytest.mark.parametrize("cuts", [[30], [1, 59], [10, 10, 45]])
def test_pair_sums_of_parts_add_up(cuts):
    """Chunks, among them empty ones, add up to the whole."""
    z, there, weight = events(2)
    whole = pair_sums(z, there, weight)
    parts = zip(*(np.split(array, cuts) for array in (z, there, weight)), strict=True)
    np.testing.assert_allclose(sum(pair_sums(*part) for part in parts), whole, rtol=1e-12, atol=1e-12)


def test_the_order_of_events_and_of_quantities_does_not_matter():
    """Events in any order give the same matrix, quantities in any order the same matrix reordered."""
    z, there, weight = events(3)
    whole = correlation(pair_sums(z, there, weight))
    rows, columns = np.random.default_rng(0).permutation(len(z)), [2, 0, 3, 1]
    shuffled = correlation(pair_sums(z[rows], there[rows], weight[rows]))
    np.testing.assert_allclose(shuffled, whole, rtol=1e-10)
    turned = correlation(pair_sums(z[:, columns], there[:, columns], weight))
    np.testing.assert_allclose(turned, whole[np.ix_(columns, columns)], rtol=1e-10)


def test_units_and_origin_do_not_matter():
    """A correlation is that of any linear function of the quantities, with the sign of its slope."""
    z, there, weight = events(4)
    slope, offset = np.array([2.0, -0.5, 10.0, 1.0]), np.array([1.0, 3.0, -4.0, 0.0])
    expected = correlation(pair_sums(z, there, weight)) * np.outer(np.sign(slope), np.sign(slope))
    np.testing.assert_allclose(correlation(pair_sums(slope * z + offset, there, weight)), expected, rtol=1e-9)


@pytest.mark.parametrize("constant", [0.0, 0.1, 123.456, -1e5])
def test_a_constant_has_no_correlation(constant):
    """A column without spread has correlation 0 with everything, never NaN, and 1 with itself."""
    z, there, weight = events(5)
    z[:, 1] = constant
    matrix = correlation(pair_sums(z, there, weight))
    assert matrix[1].tolist() == matrix[:, 1].tolist() == [0, 1, 0, 0]
    assert matrix[0, 2] != 0


def test_a_column_that_is_constant_where_the_other_is_present():
    """Spread counts in the events that both have, not in all."""
    z, there, weight = events(6, missing=0.0)
    z[:30, 1] = 2.0
    there[30:, 0] = False
    matrix = correlation(pair_sums(z, there, weight))
    assert matrix[0, 1] == matrix[1, 0] == 0
    assert matrix[1, 2] != 0


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_events_have_no_correlation(n):
    """No event or a single one gives the unit matrix without a warning."""
    z, there, weight = (array[:n] for array in events(7))
    assert correlation(pair_sums(z, there, weight)).tolist() == np.eye(4).tolist()


def test_missing_columns_and_weights_that_cancel_have_no_correlation():
    """An absent column, or a net weight that is not positive, gives 0 and no NaN."""
    z, there, weight = events(8)
    there[:, 3] = False
    z[:, 3] = np.nan
    matrix = correlation(pair_sums(z, there, weight))
    assert matrix[3].tolist() == [0, 0, 0, 1]
    assert np.isfinite(matrix).all()
    assert correlation(pair_sums(z, there, -weight)).tolist() == np.eye(4).tolist()


def test_perfect_correlation():
    """Columns that are linear in one another have correlation ±1."""
    z = np.random.default_rng(1).normal(size=(50, 1)) * [1.0, 2.0, -3.0] + [0.0, 1.0, 2.0]
    matrix = correlation(pair_sums(z, np.ones_like(z, dtype=bool), np.ones(50)))
    np.testing.assert_allclose(matrix, [[1, 1, -1], [1, 1, -1], [-1, -1, 1]], rtol=1e-12)


def test_correlation_shift_equals_its_slow_twin():
    """The relative Frobenius norm agrees with a sum over the entries."""
    before, after = (correlation(pair_sums(*events(seed))) for seed in (1, 2))
    found = correlation_shift(before, after)
    assert found == pytest.approx(slow_twins.correlation_shift(before, after), rel=1e-12)


def test_correlation_shift_known_answers():
    """No-op and rounding are exactly 0, and a known change is a known number."""
    matrix = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert correlation_shift(matrix, matrix) == 0.0
    assert correlation_shift(matrix, matrix * (1 + 1e-15)) == 0.0
    assert correlation_shift(np.eye(2), matrix) == pytest.approx(0.5)
    assert correlation_shift(np.zeros((0, 0)), np.zeros((0, 0))) == 0.0


def test_the_same_events_in_another_order_do_not_shift():
    """Order, that is rounding, is no shift; one moved event is."""
    z, there, weight = events(9)
    rows = np.random.default_rng(0).permutation(len(z))
    before = correlation(pair_sums(z, there, weight))
    assert correlation_shift(before, correlation(pair_sums(z[rows], there[rows], weight[rows]))) == 0.0
    z[0, there[0]] += 1
    assert correlation_shift(before, correlation(pair_sums(z, there, weight))) > 0


@pytest.mark.parametrize("seed", range(3))
def test_correlation_entries_compose_where_marginals_are_kept(seed):
    """An entry of the merged matrix moves by no more than the largest move in any chunk."""
    rng = np.random.default_rng(seed)
    chunks = [rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3)) + 3 * rng.normal(size=3) for _ in range(3)]
    moved = []
    for chunk in chunks:
        other = chunk.copy()
        some = rng.choice(200, 40, replace=False)
        other[some, 0] = chunk[rng.permutation(some), 0]
        moved.append(other)

    def matrix(z):
        return correlation(pair_sums(z, np.ones_like(z, dtype=bool), np.ones(len(z))))

    single = [np.abs(matrix(b) - matrix(a)) for a, b in zip(chunks, moved, strict=True)]
    merged = np.abs(matrix(np.concatenate(moved)) - matrix(np.concatenate(chunks)))
    assert (merged <= np.max(single, axis=0) + 1e-12).all()
