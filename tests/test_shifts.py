"""How far single values moved: definitions against slow twins, in NumPy and for candidates."""

from __future__ import annotations

import math

import hist
import numpy as np
import pytest
import slow_twins
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coffea_conserv import ConfigurationError, Feature
from coffea_conserv.limits.displacement import allowed, distance, pull2, shift_sums, sigma, within
from coffea_conserv.solvers.caps import Reach

LINE = hist.axis.Regular(20, -3, 3)
CIRCLE = hist.axis.Regular(16, -np.pi, np.pi, circular=True)
WHOLE = hist.axis.Integer(0, 9)

FEATURES = (
    Feature("absolute", LINE, max_shift=0.1, resolution=0.05),
    Feature("relative", LINE, max_relative_shift=0.1, relative_resolution=0.2),
    Feature("both", LINE, max_shift=0.2, max_relative_shift=0.1, resolution=0.1, relative_resolution=0.3),
    Feature("angle", CIRCLE, max_shift=0.3, resolution=0.01),
    Feature("count", WHOLE, max_shift=1),
    Feature("free", LINE),
)
VALUES = st.floats(-20, 20, width=32)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=8))
def test_all_definitions_are_those_of_the_slow_twins(pairs):
    """|Δ|, caps and (Δ/σ)² of any values, where events are judged and where candidates are made."""
    before, after = np.array(pairs, dtype=np.float32).T.copy()
    start = torch.from_numpy(np.repeat(before[:, None], len(FEATURES), axis=1))
    reach = Reach.make(start, FEATURES, 2.0)
    for j, f in enumerate(FEATURES):
        twins = [(float(b), float(a)) for b, a in zip(before, after, strict=True)]
        moved = [slow_twins.shift(*pair, f.period) for pair in twins]
        kept = [slow_twins.kept(*pair, f.max_shift, f.max_relative_shift, f.period) for pair in twins]
        noise, scale = f.resolution or 0.0, f.relative_resolution or 0.0
        pulls = [slow_twins.pull2(*pair, noise, scale, f.period) if f.resolved else 0.0 for pair in twins]
        np.testing.assert_allclose(distance(f, before, after), moved, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(within(f, before, after), kept)
        np.testing.assert_allclose(pull2(f, before, after), pulls, rtol=1e-9)
        event, feature = torch.arange(len(before)), torch.full((len(before),), j)
        found = reach.allows(event, feature, torch.from_numpy(after)).numpy()
        np.testing.assert_array_equal(found, within(f, before, after))
        cost = reach.cost(event, feature, torch.from_numpy(after))
        np.testing.assert_allclose(cost, 2 * np.array(pulls), rtol=1e-9)
    total = reach.total(torch.from_numpy(np.repeat(after[:, None], len(FEATURES), axis=1)))
    expected = 2 * sum(pull2(f, before, after) for f in FEATURES)
    np.testing.assert_allclose(total, expected, rtol=1e-9)


def test_the_shorter_way_round_counts():
    """From just below π to just above −π it is a small step; half of the way is the longest."""
    phi = FEATURES[3]
    before, after = np.float32([3.1, -3.1, 0.0, 1.0]), np.float32([-3.1, 3.1, np.pi, 1.0])
    np.testing.assert_allclose(distance(phi, before, after), [0.0832, 0.0832, np.pi, 0], atol=1e-4)
    assert within(phi, before, after).tolist() == [True, True, False, True]


def test_resolutions_add_in_quadrature():
    """As a calorimeter's constant and relative term do; none at all is no scale."""
    x = np.float32([0.0, 40.0, -40.0])
    made = Feature("e", LINE, resolution=3.0, relative_resolution=0.1)
    np.testing.assert_allclose(sigma(made, x), [3, 5, 5], rtol=1e-6)
    assert np.isinf(sigma(FEATURES[5], x)).all()
    assert allowed(Feature("e", LINE, max_relative_shift=0.5), x).tolist() == [0.0, 20.0, 20.0]
    assert np.isinf(allowed(FEATURES[5], x)).all()


@pytest.mark.parametrize("missing", [-999.0, (-999.0, math.nan)])
def test_a_missing_value_has_not_moved(missing):
    """It counts as 0 in sums, and for candidates it is neither a distance nor a cost that is no number."""
    f = Feature("x", LINE, missing=missing, max_relative_shift=0.1, resolution=0.1)
    gone = np.float32(np.ravel(missing)[-1])
    x, y = np.array([gone, 1.0], dtype=np.float32), np.array([gone, 1.05], dtype=np.float32)
    np.testing.assert_allclose(distance(f, x, y), [0, 0.05], atol=1e-6)
    sums, largest = shift_sums([f], [(x, y)], np.array([5.0, -2.0]))
    np.testing.assert_allclose(sums, [[2.0, 2 * 0.25]], rtol=1e-5)
    np.testing.assert_allclose(largest, [[0.05, 0.05]], rtol=1e-5)
    reach = Reach.make(torch.from_numpy(x[:, None]), [f], 1.0)
    np.testing.assert_allclose(reach.total(torch.from_numpy(y[:, None])), [0, 0.25], rtol=1e-5)


def test_sums_of_parts_add_up_and_the_largest_of_parts_is_that_of_the_whole():
    """Chunks compose; a move in a unit of 0 is infinite, not no number; weight 0 counts nothing."""
    rng = np.random.default_rng(0)
    before = rng.normal(size=(90, 6)).astype(np.float32)
    after = np.where(rng.random((90, 6)) < 0.5, before, rng.normal(size=(90, 6))).astype(np.float32)
    weight = rng.normal(size=90)

    def of(rows):
        columns = [(before[rows, j], after[rows, j]) for j in range(6)]
        return shift_sums(FEATURES, columns, weight[rows])

    whole, parts = of(slice(None)), [of(slice(k, k + 30)) for k in (0, 30, 60)]
    np.testing.assert_allclose(whole[0], sum(part[0] for part in parts), rtol=1e-12)
    np.testing.assert_array_equal(whole[1], np.max([part[1] for part in parts], axis=0))
    moved = np.abs(weight) @ (before != after)
    np.testing.assert_allclose(whole[0][:, 0], moved, rtol=1e-12)
    nothing = shift_sums(FEATURES, [(before[:0, j], after[:0, j]) for j in range(6)], weight[:0])
    assert not np.any(nothing)
    zero, one = np.float32([0.0, 0.0]), np.float32([0.0, 1.0])
    sums, largest = shift_sums([FEATURES[1]], [(zero, one)], np.array([1.0, 1.0]))
    assert sums.tolist() == [[1.0, math.inf]]
    assert largest.tolist() == [[1.0, math.inf]]
    assert shift_sums([FEATURES[1]], [(zero, one)], np.array([1.0, 0.0]))[0].tolist() == [[0.0, 0.0]]


def test_without_caps_and_prices_there_is_nothing_to_look_at():
    """The solvers are as if there were no such thing."""
    x = torch.zeros(3, 1)
    assert Reach.make(x, [Feature("x", LINE, resolution=0.1)], 0.0) is None
    assert Reach.make(x, [Feature("x", LINE)], 1.0) is None
    assert not Reach.make(x, [Feature("x", LINE, max_shift=1.0)], 1.0).priced


@pytest.mark.parametrize(
    ("axis", "options", "message"),
    [
        (LINE, {"max_shift": 0}, r"feature 'x': max_shift=0 must be a finite number above 0; .* frozen=True"),
        (LINE, {"max_shift": -1.0}, r"max_shift=-1\.0 must be a finite number above 0"),
        (LINE, {"max_relative_shift": math.inf}, "max_relative_shift=inf must be a finite number above 0"),
        (LINE, {"resolution": True}, "resolution=True must be a finite number above 0"),
        (LINE, {"relative_resolution": "5%"}, "relative_resolution='5%' must be a finite number above 0"),
        (
            WHOLE,
            {"max_shift": 0.5},
            r"max_shift=0\.5 lets no whole number move; use 1 or more, or frozen=True",
        ),
        (CIRCLE, {"max_relative_shift": 0.1}, r"means nothing for a periodic feature; use max_shift, in its"),
        (
            CIRCLE,
            {"relative_resolution": 0.1},
            "means nothing for a periodic feature; use resolution, in its",
        ),
        (
            hist.axis.IntCategory([0, 1, 10]),
            {"max_shift": 1},
            "max_shift=1 means nothing for categories, which have no distance; leave it out",
        ),
    ],
)
def test_sizes_that_mean_nothing_are_refused(axis, options, message):
    """With the feature, the setting and the remedy."""
    with pytest.raises(ConfigurationError, match=message):
        Feature("x", axis, **options)
