"""Laws of the accumulator, and known answers of what a chunk leaves behind."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import replace

import hist
import numpy as np
import pytest
from made_events import CONFIG, QUANTITIES, SCORE, made, scored, summed

from coffea_conserv.errors import MergeError
from coffea_conserv.limits.measures import correlation
from coffea_conserv.limits.verdict import REASONS
from coffea_conserv.sums.sums import BLOCKS, COUNTS, FOOLING, Sums, score_axis

NAMES = ("moments", "paired", "counts", "fooling", "shifts", "largest")


def assert_same(left, right, rtol=1e-12):
    """Compare everything in two sums, whatever the order of their categories."""
    for name in NAMES:
        assert getattr(left, name).keys() == getattr(right, name).keys()
        for key, value in getattr(left, name).items():
            np.testing.assert_allclose(value, getattr(right, name)[key], rtol=rtol, atol=1e-12)
    assert left.real == right.real
    assert {d: {c: v.tolist() for c, v in chunks.items()} for d, chunks in left.chunks.items()} == {
        d: {c: v.tolist() for c, v in chunks.items()} for d, chunks in right.chunks.items()
    }
    for name, one in left.hists.items():
        other = right.hists[name]
        for dataset, region in itertools.product(one.axes[0], one.axes[1]):
            for variation in one.axes[2]:
                cells = [h[dataset, region, variation, :].view(flow=True) for h in (one, other)]
                np.testing.assert_allclose(cells[0]["value"], cells[1]["value"], rtol=rtol, atol=1e-12)
                np.testing.assert_allclose(cells[0]["variance"], cells[1]["variance"], rtol=rtol, atol=1e-12)


CHUNKS = (
    made("W", "f:0-100", seed=1, weight=0.3),
    made("W", "f:100-200", seed=2, weight=0.7),
    made("Z", "g:0-60", 60, seed=3, weight=-0.2),
    made("Mu", "d:0-50", 50, seed=4, real=True),
)


def test_an_empty_value_is_neutral():
    """Adding an empty value on either side changes nothing."""
    one = summed(CHUNKS[0])
    assert_same(Sums(CONFIG) + one, one, rtol=0)
    assert_same(one + Sums(CONFIG), one, rtol=0)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[1::5])
def test_the_order_of_merging_does_not_matter(order):
    """Any order gives the same sums to rounding."""
    assert_same(summed(*(CHUNKS[i] for i in order)), summed(*CHUNKS))


def test_merging_is_associative():
    """Merging in pairs is merging one by one."""
    a, b, c, d = (summed(chunk) for chunk in CHUNKS)
    assert_same((a + b) + (c + d), ((a + b) + c) + d)
    assert_same(a + (b + (c + d)), ((a + b) + c) + d)


def test_operands_stay_unchanged():
    """A merge leaves both of its operands as they were, and they can be used again."""
    a, b = summed(CHUNKS[0]), summed(CHUNKS[1])
    before = copy.deepcopy(a), copy.deepcopy(b)
    _ = a + b
    assert_same(a, before[0], rtol=0)
    assert_same(b, before[1], rtol=0)
    assert_same(a + b, summed(CHUNKS[0], CHUNKS[1]))


def test_parts_add_up_to_the_whole():
    """Two halves of a chunk leave the same sums as the chunk, apart from the chunks themselves."""
    whole = CHUNKS[0]
    halves = []
    for part in (slice(0, 37), slice(37, None)):
        values = {v: {name: column[part] for name, column in c.items()} for v, c in whole.values.items()}
        regions = {name: mask[part] for name, mask in whole.regions.items()}
        idle = {v: mask[part] for v, mask in whole.unattacked.items()}
        weight = whole.weight[part]
        halves.append(replace(whole, weight=weight, regions=regions, values=values, unattacked=idle))
    merged, once = summed(*halves), summed(whole)
    assert_same(replace(merged, chunks={}), replace(once, chunks={}, real={"W": 0}))


def test_plain_pickle_gives_the_same_value():
    """The value travels by plain pickle, without the functions of the configuration."""
    total = summed(*CHUNKS)
    assert_same(pickle.loads(pickle.dumps(total)), total, rtol=0)  # noqa: S301 -- written above


def test_other_configurations_are_refused():
    """Outputs of two configurations cannot be merged, and both are named."""
    with pytest.raises(MergeError, match=r"config-1 and config-2.*same features, budget, model and seed"):
        summed(CHUNKS[0]) + summed(CHUNKS[1], config="config-2")


def test_other_types_are_refused():
    """Something else cannot be added."""
    with pytest.raises(TypeError):
        summed(CHUNKS[0]) + 1


def test_histograms_are_those_of_numpy():
    """Weighted contents and variances are those of numpy, missing values left out."""
    sample = CHUNKS[0]
    filled = summed(sample).hists["y"]["W", "signal", "conservUp", :]
    mask = sample.regions["signal"] & (sample.values["nominal"]["y"] != -999.0)
    column = sample.values["conservUp"]["y"][mask]
    expected, _ = np.histogram(column, filled.axes[0].edges, weights=sample.weight[mask])
    np.testing.assert_allclose(filled.values(), expected, rtol=1e-12)
    np.testing.assert_allclose(filled.variances(), expected * 0.3, rtol=1e-12)
    assert filled.sum(flow=True).value == pytest.approx(0.3 * mask.sum())


def test_moments_give_the_correlation_of_numpy():
    """The correlation of pairs that are both present is that of numpy."""
    sample = CHUNKS[0]
    moments = summed(sample).moments["W", "signal", "nominal"]
    columns = sample.values["nominal"]
    mask = sample.regions["signal"] & (columns["y"] != -999.0)
    expected = np.corrcoef([columns[q.name][mask].astype(float) for q in QUANTITIES])
    np.testing.assert_allclose(correlation(moments)[1:, 1:], expected[1:, 1:], rtol=1e-9)
    assert correlation(moments)[0, 1] == pytest.approx(expected[0, 1], rel=1e-9)


def test_paired_sums_hold_both_histograms():
    """Rows of the paired sums are the nominal histogram of the score, columns the attacked one."""
    total = summed(*CHUNKS)
    for (dataset, region, variation), pair in total.paired.items():
        filled = total.hists["score"]
        nominal = filled[dataset, region, "nominal", :].view(flow=True)
        attacked = filled[dataset, region, variation, :].view(flow=True)
        np.testing.assert_allclose(pair[0].sum(axis=1), nominal["value"], atol=1e-12)
        np.testing.assert_allclose(pair[0].sum(axis=0), attacked["value"], atol=1e-12)
        np.testing.assert_allclose(pair[1].sum(axis=1), nominal["variance"], atol=1e-12)


def test_counts_of_a_chunk():
    """Events, weights, events that moved and events that could not be attacked are counted."""
    sample = made(n=90, weight=-0.5)
    idle = np.arange(90) < 9
    sample = replace(sample, unattacked={"conservUp": idle, "conservDown": ~idle})
    counts = summed(sample).counts
    found = dict(zip(COUNTS, counts["W", "control", "conservUp"], strict=True))
    assert found == {
        "events": 30,
        "sum_w": -15,
        "sum_abs_w": 15,
        "sum_w2": 7.5,
        "unattacked_events": 3,
        "unattacked_abs_w": 1.5,
        "moved_events": 30,
        **dict.fromkeys(REASONS, 0),
        REASONS[0]: 1.5,
    }
    nominal = dict(zip(COUNTS, counts["W", "control", "nominal"], strict=True))
    assert (nominal["moved_events"], nominal["unattacked_events"]) == (0, 0)


def test_missing_values_that_stay_do_not_count_as_moved():
    """NaN before and after is no move."""
    sample = scored([0.2, 0.4], [0.3, 0.4], [0.1, 0.4])
    for columns in sample.values.values():
        columns["total"][:] = np.nan
    assert summed(sample).counts["W", "signal", "conservUp"][COUNTS.index("moved_events")] == 0


def test_crossings_are_counted_in_the_direction_of_the_attack():
    """Up counts what rises through the working point, Down what falls, each with what comes back."""
    sample = scored([0.1, 0.4, 0.6, 0.9], [0.1, 0.7, 0.3, 0.9], [0.1, 0.7, 0.3, 0.9], [1, 2, 4, 8])
    found = summed(sample).fooling
    up, down = (
        dict(zip(FOOLING, found["W", "signal", variation][0].sum(axis=0), strict=True))
        for variation in ("conservUp", "conservDown")
    )
    assert (up["start"], up["crossed"], up["other"], up["returned"]) == (3, 2, 12, 4)
    assert (down["start"], down["crossed"], down["other"], down["returned"]) == (12, 4, 3, 2)
    assert up["score"] - up["score_nominal"] == pytest.approx(2 * 0.3 - 4 * 0.3)


def test_blocks_do_not_depend_on_chunks_and_share_the_events():
    """The sums by block are as large for ten chunks as for one, and every block gets its share of events."""
    whole = summed(made(n=4000)).fooling["W", "signal", "conservUp"][0]
    many = summed(*(made(chunk=str(seed), seed=seed) for seed in range(10))).fooling[
        "W", "signal", "conservUp"
    ][0]
    assert whole.shape == many.shape == (BLOCKS, len(FOOLING))
    events = whole[:, FOOLING.index("sum_w")]
    assert events.sum() == pytest.approx(2666)
    assert np.abs(events - events.mean()).max() < 5 * np.sqrt(events.mean())


def test_real_data_are_nominal_only():
    """Real data leave no attacked variation behind."""
    total = summed(CHUNKS[3])
    assert {variation for _, _, variation in total.counts} == {"nominal"}
    assert not total.paired
    assert not total.fooling
    assert total.real == {"Mu": 1}


def test_a_fine_score_axis_is_replaced_for_paired_sums():
    """The paired sums have at most 20 bins."""
    assert score_axis(SCORE) is SCORE
    fine = score_axis(hist.axis.Regular(200, 0, 1))
    assert (fine.size, fine.edges[0], fine.edges[-1]) == (20, 0, 1)
