"""Fooling ratios with their jackknife, and the coverage of a run."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_events import CONFIG, made, scored, summed

from coffea_conserv.fooling import coverage_of, fooling_of, jackknife
from coffea_conserv.sums import Sums

STRATUM = st.integers(2, 6).flatmap(
    lambda n: arrays(float, (n, 2), elements=st.floats(0.125, 8.0, allow_subnormal=False))
)


def slow_jackknife(strata):
    """Leave out one chunk after the other and divide again."""
    variance = 0.0
    for i, stratum in enumerate(strata):
        ratios = []
        for j in range(len(stratum)):
            kept = [row for a, rows in enumerate(strata) for b, row in enumerate(rows) if (a, b) != (i, j)]
            ratios.append(sum(row[1] for row in kept) / sum(row[0] for row in kept))
        mean = sum(ratios) / len(ratios)
        variance += (len(ratios) - 1) / len(ratios) * sum((r - mean) ** 2 for r in ratios)
    return math.sqrt(variance)


@given(st.lists(STRATUM, min_size=1, max_size=3))
def test_the_jackknife_leaves_out_one_chunk_at_a_time(strata):
    """The error is that of a loop which leaves out one chunk after the other."""
    assert jackknife(strata) == pytest.approx(slow_jackknife(strata), rel=1e-9, abs=1e-12)


@given(STRATUM, st.randoms())
def test_the_order_of_chunks_does_not_matter(stratum, random):
    """Chunks and datasets can come in any order."""
    shuffled = random.sample(range(len(stratum)), len(stratum))
    expected = jackknife([stratum, 2 * stratum])
    assert jackknife([2 * stratum, stratum[shuffled]]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_with_equal_denominators_it_is_the_error_of_a_mean():
    """Chunks of equal weight give the textbook error of the mean of their ratios."""
    x = np.array([0.1, 0.4, 0.35, 0.2, 0.6])
    found = jackknife([np.stack([np.ones(5), x], axis=1)])
    assert found == pytest.approx(x.std(ddof=1) / math.sqrt(5))


def test_equal_chunks_have_no_spread():
    """If every chunk says the same, the error is 0, whatever the units of the weights."""
    assert jackknife([np.full((4, 2), [10.0, 3.0])]) == pytest.approx(0, abs=1e-12)
    rows = np.array([[1.0, 0.2], [2.0, 0.9], [1.5, 0.1]])
    assert jackknife([1e6 * rows]) == pytest.approx(jackknife([rows]))


def test_no_error_without_chunks_to_leave_out():
    """One chunk, or nothing left without a chunk, gives nan; a dataset without weight is skipped."""
    rows = np.array([[1.0, 0.2], [2.0, 0.9]])
    assert math.isnan(jackknife([rows[:1]]))
    assert math.isnan(jackknife([rows, rows[:1]]))
    assert math.isnan(jackknife([np.array([[1.0, 0.2], [0.0, 0.0]])]))
    assert jackknife([rows, np.zeros((1, 2))]) == jackknife([rows])


def test_the_error_is_the_spread_of_repeated_runs():
    """Over many made-up runs the error agrees with the spread of the ratio, also for correlated events."""
    rng = np.random.default_rng(11)
    ratios, errors = [], []
    for _ in range(400):
        below = rng.gamma(20, size=12)
        rows = np.stack([below, below * rng.beta(2, 5, size=12)], axis=1)  # events of a chunk move together
        ratios.append(rows[:, 1].sum() / rows[:, 0].sum())
        errors.append(jackknife([rows]))
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(ratios), rel=0.1)


def test_known_fooling_ratio():
    """Crossers, returners, net and mean shift of four events are those counted by hand."""
    sums = summed(scored([0.1, 0.4, 0.6, 0.9], [0.1, 0.7, 0.3, 0.9], [0.1, 0.2, 0.2, 0.9], [1, 2, 4, 8]))
    up = fooling_of(sums, ("W", "dataset"), ["W"], "signal", "conservUp")
    assert (up.name, up.level, up.region, up.variation) == ("W", "dataset", "signal", "conservUp")
    assert (up.ratio, up.returned) == (pytest.approx(2 / 3), pytest.approx(4 / 12))
    assert up.net == pytest.approx((2 - 4) / 15)
    assert up.score_shift == pytest.approx((2 * 0.3 - 4 * 0.3) / 15)
    assert math.isnan(up.error)
    down = fooling_of(sums, ("W", "dataset"), ["W"], "signal", "conservDown")
    assert (down.ratio, down.returned) == (pytest.approx(4 / 12), 0)


def test_negative_weights_count_with_their_size_in_ratios_and_with_their_sign_in_net():
    """A ratio stays a share, between 0 and 1, whatever the signs; what moves between bins has a sign."""
    weight = [3, -2, 4, -1]
    sums = summed(scored([0.1, 0.4, 0.45, 0.9], [0.7, 0.7, 0.3, 0.2], [0.1, 0.2, 0.2, 0.9], weight))
    up = fooling_of(sums, ("W", "dataset"), ["W"], "signal", "conservUp")
    assert up.ratio == pytest.approx((3 + 2) / (3 + 2 + 4))
    assert up.returned == pytest.approx(1.0)
    assert up.net == pytest.approx((3 - 2 + 1) / 4)


def test_datasets_are_summed_before_dividing():
    """The ratio of a process is that of the sums, its error has one stratum for each dataset."""
    rng = np.random.default_rng(4)
    samples, rows = [], {"A": [], "B": []}
    for dataset, chunk, weight in (("A", "1", 1), ("A", "2", 1), ("B", "1", 3), ("B", "2", 3), ("B", "3", 3)):
        before, after = rng.random((2, 50))
        samples.append(scored(before, after, before, np.full(50, weight), chunk=chunk, dataset=dataset))
        start = before <= 0.5
        rows[dataset].append([weight * start.sum(), weight * (start & (after > 0.5)).sum()])
    found = fooling_of(summed(*samples), ("P", "process"), ["A", "B"], "signal", "conservUp")
    below, above = np.sum([np.sum(r, axis=0) for r in rows.values()], axis=0)
    assert found.ratio == pytest.approx(above / below)
    assert found.error == pytest.approx(slow_jackknife([np.array(r, dtype=float) for r in rows.values()]))


def test_shares_of_unattacked_and_moved_events():
    """Unattacked events are counted and weighed by |w|, moved ones counted."""
    sample = made(n=90, weight=0.5)
    idle = np.arange(90) < 9
    sample = replace(sample, unattacked={"conservUp": idle, "conservDown": ~idle})
    found = fooling_of(summed(sample), ("W", "dataset"), ["W"], "control", "conservUp")
    assert (found.unattacked_events, found.unattacked_share) == (3, pytest.approx(0.1))
    assert found.moved_share == 1


def test_nothing_gives_nan():
    """Without events no ratio is made up."""
    found = fooling_of(Sums(CONFIG), ("W", "dataset"), ["W"], "signal", "conservUp")
    for name in ("ratio", "error", "returned", "net", "score_shift", "unattacked_share", "moved_share"):
        assert math.isnan(getattr(found, name)), name
    assert found.unattacked_events == 0


def test_coverage_compares_with_what_was_asked():
    """A dataset is complete if all of its events were read, and unknown if nothing was announced."""
    sums = summed(made("W", "a:0-60", 60), made("W", "a:60-100", 40), made("Z", "b:0-30", 30))
    whole, part, unknown = (coverage_of(sums, asked) for asked in ({"W": 100, "Z": 30}, {"Z": 31}, {}))
    assert [(c.dataset, c.chunks, c.events, c.complete) for c in whole] == [
        ("W", 2, 100, True),
        ("Z", 1, 30, True),
    ]
    assert [(c.events_asked, c.complete) for c in part] == [(None, None), (31, False)]
    assert {c.complete for c in unknown} == {None}


def test_repeated_chunks_are_named():
    """A chunk that was merged twice is named; its events are read once but count twice."""
    one = made("W", "a:0-60", 60)
    sums = summed(one, made("W", "a:60-100", 40), one)
    (found,) = coverage_of(sums, {"W": 100})
    assert (found.chunks, found.events, found.repeated) == (2, 100, ("a:0-60",))
    assert found.complete is False


def test_a_dataset_that_is_missing_is_reported():
    """A dataset of which nothing was processed is there with no events."""
    (found,) = coverage_of(Sums(CONFIG), {"W": 100})
    assert (found.dataset, found.chunks, found.events, found.complete) == ("W", 0, 0, False)
