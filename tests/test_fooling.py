"""Fooling ratios with their jackknife, and their spread over seeds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_events import CONFIG, SETTINGS, made, scored, summed
from made_results import SAMPLES, result_of

from coffea_conserv.errors import InputError
from coffea_conserv.group import Group
from coffea_conserv.limits.budget import Budget
from coffea_conserv.results.fooling import fooling_of, jackknife
from coffea_conserv.results.seeds import seed_spread
from coffea_conserv.sums.sums import FOOLING, Sums

STRATUM = st.integers(2, 6).flatmap(
    lambda n: arrays(float, (n, 2), elements=st.floats(0.125, 8.0, allow_subnormal=False))
)


def slow_jackknife(strata):
    """Leave out one block after the other and divide again."""
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
def test_the_jackknife_leaves_out_one_block_at_a_time(strata):
    """The error is that of a loop which leaves out one block after the other."""
    assert jackknife(strata) == pytest.approx(slow_jackknife(strata), rel=1e-9, abs=1e-12)


@given(STRATUM, st.randoms())
def test_the_order_of_blocks_does_not_matter(stratum, random):
    """Blocks and datasets can come in any order."""
    shuffled = random.sample(range(len(stratum)), len(stratum))
    expected = jackknife([stratum, 2 * stratum])
    assert jackknife([2 * stratum, stratum[shuffled]]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_with_equal_denominators_it_is_the_error_of_a_mean():
    """Blocks of equal weight give the textbook error of the mean of their ratios."""
    x = np.array([0.1, 0.4, 0.35, 0.2, 0.6])
    found = jackknife([np.stack([np.ones(5), x], axis=1)])
    assert found == pytest.approx(x.std(ddof=1) / math.sqrt(5))


def test_equal_chunks_have_no_spread():
    """If every block says the same, the error is 0, whatever the units of the weights."""
    assert jackknife([np.full((4, 2), [10.0, 3.0])]) == pytest.approx(0, abs=1e-12)
    rows = np.array([[1.0, 0.2], [2.0, 0.9], [1.5, 0.1]])
    assert jackknife([1e6 * rows]) == pytest.approx(jackknife([rows]))


def test_no_error_without_blocks_to_leave_out():
    """One block, or nothing left without a block, gives nan; a dataset without weight is skipped."""
    rows = np.array([[1.0, 0.2], [2.0, 0.9]])
    assert math.isnan(jackknife([rows[:1]]))
    assert math.isnan(jackknife([rows, rows[:1]]))
    assert math.isnan(jackknife([np.array([[1.0, 0.2], [0.0, 0.0]])]))
    assert jackknife([rows, np.zeros((1, 2))]) == jackknife([rows])


def test_no_error_without_a_ratio():
    """Where nothing is on the side attacked there is neither a ratio nor an error of 0."""
    assert math.isnan(jackknife([np.zeros((4, 2))]))
    assert math.isnan(jackknife([]))
    found = fooling_of(
        summed(scored([0.7, 0.8], [0.9, 0.9], [0.6, 0.6])),
        Group("W", "dataset", "signal", "conservUp"),
        ["W"],
    )
    assert math.isnan(found.ratio)
    assert math.isnan(found.error)


def test_rounding_is_no_ratio():
    """Sums of weights that leave a rounding error without a block count as nothing."""
    rows = np.array([[0.1 + 0.2, 0.1], [1e-17, 0.0]])
    assert math.isnan(jackknife([rows]))


def test_the_error_is_the_spread_of_repeated_runs():
    """Over many made-up runs the error agrees with the spread of the ratio, also for correlated events."""
    rng = np.random.default_rng(11)
    ratios, errors = [], []
    for _ in range(400):
        below = rng.gamma(20, size=12)
        rows = np.stack([below, below * rng.beta(2, 5, size=12)], axis=1)
        ratios.append(rows[:, 1].sum() / rows[:, 0].sum())
        errors.append(jackknife([rows]))
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(ratios), rel=0.1)


def test_known_fooling_ratio():
    """Crossers, returners, net and mean shift of four events are those counted by hand."""
    sums = summed(scored([0.1, 0.4, 0.6, 0.9], [0.1, 0.7, 0.3, 0.9], [0.1, 0.2, 0.2, 0.9], [1, 2, 4, 8]))
    up = fooling_of(sums, Group("W", "dataset", "signal", "conservUp"), ["W"])
    assert (up.name, up.level, up.region, up.variation) == ("W", "dataset", "signal", "conservUp")
    assert (up.ratio, up.returned) == (pytest.approx(2 / 3), pytest.approx(4 / 12))
    assert up.net == pytest.approx((2 - 4) / 15)
    assert up.score_shift == pytest.approx((2 * 0.3 - 4 * 0.3) / 15)
    down = fooling_of(sums, Group("W", "dataset", "signal", "conservDown"), ["W"])
    assert (down.ratio, down.returned) == (pytest.approx(4 / 12), 0)


def test_negative_weights_count_with_their_size_in_ratios_and_with_their_sign_in_net():
    """A ratio stays a share, between 0 and 1, whatever the signs; what moves between bins has a sign."""
    weight = [3, -2, 4, -1]
    sums = summed(scored([0.1, 0.4, 0.45, 0.9], [0.7, 0.7, 0.3, 0.2], [0.1, 0.2, 0.2, 0.9], weight))
    up = fooling_of(sums, Group("W", "dataset", "signal", "conservUp"), ["W"])
    assert up.ratio == pytest.approx((3 + 2) / (3 + 2 + 4))
    assert up.returned == pytest.approx(1.0)
    assert up.net == pytest.approx((3 - 2 + 1) / 4)


def test_one_large_chunk_has_an_error():
    """The error of independent events is binomial, in one chunk as in ten, whatever the order of merging."""
    rng = np.random.default_rng(8)
    samples = []
    for part in range(10):
        before, fooled = rng.random((2, 400))
        after = np.where(fooled < 0.3, 0.9, before)
        sample = scored(before, after, before, chunk=str(part))
        x = rng.random(400)
        samples.append(replace(sample, values={v: {**c, "x": x} for v, c in sample.values.items()}))
    one, ten, back = (
        fooling_of(summed(*some), Group("W", "dataset", "signal", "conservUp"), ["W"])
        for some in (samples[:1], samples, samples[::-1])
    )
    for found, events in ((one, 200), (ten, 2000)):
        expected = math.sqrt(found.ratio * (1 - found.ratio) / events)
        assert found.error == pytest.approx(expected, rel=0.4)
    assert back.error == pytest.approx(ten.error, rel=1e-9)


def test_datasets_are_summed_before_dividing():
    """The ratio of a process is that of the sums, its error has one stratum for each dataset."""
    rng = np.random.default_rng(4)
    samples = []
    for dataset, chunk, weight in (("A", "1", 1), ("A", "2", 1), ("B", "1", 3), ("B", "2", 3), ("B", "3", 3)):
        before, after = rng.random((2, 50))
        samples.append(scored(before, after, before, np.full(50, weight), chunk=chunk, dataset=dataset))
    sums = summed(*samples)
    found = fooling_of(sums, Group("P", "process", "signal", "conservUp"), ["A", "B"])
    columns = [FOOLING.index(name) for name in ("start", "crossed")]
    strata = [sums.fooling[dataset, "signal", "conservUp"][0][:, columns] for dataset in "AB"]
    below, above = sum(stratum.sum(axis=0) for stratum in strata)
    assert found.ratio == pytest.approx(above / below)
    assert found.error == pytest.approx(slow_jackknife(strata))


def test_shares_of_unattacked_and_moved_events():
    """Unattacked events are counted and weighed by |w|, moved ones counted."""
    sample = made(n=90, weight=0.5)
    idle = np.arange(90) < 9
    sample = replace(sample, unattacked={"conservUp": idle, "conservDown": ~idle})
    found = fooling_of(summed(sample), Group("W", "dataset", "control", "conservUp"), ["W"])
    assert (found.unattacked_events, found.unattacked_share) == (3, pytest.approx(0.1))
    assert found.moved_share == 1


def test_nothing_gives_nan():
    """Without events no ratio is made up."""
    found = fooling_of(Sums(CONFIG), Group("W", "dataset", "signal", "conservUp"), ["W"])
    for name in ("ratio", "error", "returned", "net", "score_shift", "unattacked_share", "moved_share"):
        assert math.isnan(getattr(found, name)), name
    assert found.unattacked_events == 0


def seeded(seed, strength):
    """Result of a run with some seed in which the scores move by some strength."""
    samples = [
        made("W", "a:0-200", 200, seed=1, strength=strength),
        made("Z", "b:0-90", 90, strength=strength),
    ]
    return result_of(*samples, settings=replace(SETTINGS, seed=seed), processes={}, estimates=())


def test_the_spread_over_seeds_is_that_of_the_runs():
    """Mean and standard deviation over the runs, for every row of the fooling ratios."""
    results = [seeded(seed, strength) for seed, strength in ((1, 0.1), (2, 0.2), (3, 0.15))]
    found = seed_spread(results)
    assert len(found) == len(results[0].fooling)
    for row, *rows in zip(found, *(result.fooling for result in results), strict=True):
        assert {r.group for r in rows} == {row.group}
        assert row.ratio == pytest.approx(np.mean([r.ratio for r in rows]))
        assert row.ratio_spread == pytest.approx(np.std([r.ratio for r in rows], ddof=1))
        assert row.score_shift == pytest.approx(np.mean([r.score_shift for r in rows]))
        assert row.score_shift_spread == pytest.approx(np.std([r.score_shift for r in rows], ddof=1))


def test_results_that_have_no_spread_are_refused():
    """One result, equal seeds, other settings and other groups are told apart."""
    one, two = seeded(1, 0.1), seeded(2, 0.2)
    with pytest.raises(InputError, match=r"two or more different seeds, got \[1\]"):
        seed_spread([one])
    with pytest.raises(InputError, match=r"two or more different seeds, got \[1, 1\]"):
        seed_spread([one, one])
    other = replace(two, settings=replace(two.settings, budget=Budget(jsd=0.2)))
    with pytest.raises(InputError, match="differ in more than their seed; run with the same budget"):
        seed_spread([one, other])
    with pytest.raises(InputError, match="different groups; give the same processes and totals"):
        seed_spread([one, replace(result_of(*SAMPLES), settings=two.settings)])
