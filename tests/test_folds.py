"""Folds of events by a hash of their values."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coffea_conserv.errors import InputError
from coffea_conserv.features.folds import fold_index

few = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def test_known_folds():
    """The folds of some events never change: models that are trained on them are kept."""
    assert fold_index(np.arange(12), folds=3).tolist() == [1, 2, 1, 0, 1, 2, 2, 0, 1, 1, 1, 0]
    assert fold_index(np.arange(8) / 4, np.arange(8)).tolist() == [1, 1, 0, 0, 0, 0, 0, 1]


def test_the_hash_is_splitmix64():
    """The hash equals a twin in Python's unbounded integers, mixed value by value."""

    def mix(state):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    floats, integers = [0.1, -7.25, 3e8, 0.0], [5, -1, 2**40, 0]
    bits = [struct.unpack("<I", struct.pack("<f", value))[0] for value in floats]
    slow = [mix(mix(bit) ^ (value % 2**64)) % 5 for bit, value in zip(bits, integers, strict=True)]
    assert fold_index(floats, integers, folds=5).tolist() == slow


@few
@given(
    columns=st.integers(1, 3).flatmap(
        lambda n: st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * n), max_size=40)
    ),
    folds=st.integers(1, 7),
    random=st.randoms(use_true_random=False),
)
def test_a_fold_belongs_to_the_event(columns, folds, random):
    """Neither the order of the events nor the chunk that an event is in changes its fold."""
    table = np.array(columns or np.zeros((0, 1)), dtype=np.float64)
    whole = fold_index(*table.T, folds=folds)
    order = random.sample(range(len(table)), len(table))
    assert fold_index(*table[order].T, folds=folds).tolist() == whole[order].tolist()
    cut = len(table) // 3
    parts = [fold_index(*part.T, folds=folds) for part in (table[:cut], table[cut:])]
    assert np.concatenate(parts).tolist() == whole.tolist()


@pytest.mark.parametrize("folds", [1, 2, 3, 5])
def test_folds_are_equally_large(folds):
    """Event numbers in a row, and continuous quantities, spread evenly."""
    rng = np.random.default_rng(1)
    for column in (np.arange(60_000), rng.exponential(40, 60_000), 1000 * np.arange(60_000)):
        counts = np.bincount(fold_index(column, folds=folds), minlength=folds)
        assert len(counts) == folds
        np.testing.assert_allclose(counts, 60_000 / folds, atol=5 * np.sqrt(60_000 / folds))


def test_folds_do_not_depend_on_the_size_of_the_type():
    """What is read in another precision or width, or in another order of bytes, is in the same fold."""
    integers = np.arange(200)
    for dtype in (np.int16, np.int32, np.uint32, np.uint64, ">i4", ">i8"):
        assert fold_index(integers.astype(dtype)).tolist() == fold_index(integers).tolist()
    floats = np.random.default_rng(2).normal(size=200).astype(np.float32)
    for dtype in (np.float64, ">f4", ">f8"):
        assert fold_index(floats.astype(dtype)).tolist() == fold_index(floats).tolist()


def test_minus_zero_is_zero():
    """−0 and 0 are one value."""
    column = np.tile([0.0, 1.0], 20)
    other = np.where(column == 0, -0.0, column)
    assert fold_index(column, folds=7).tolist() == fold_index(other, folds=7).tolist()


def test_large_event_numbers():
    """64-bit event numbers that differ in their last digit are told apart."""
    column = 2**63 + np.arange(1000, dtype=np.uint64)
    assert 400 < fold_index(column).sum() < 600


def test_every_column_counts():
    """A further column gives other folds, and so do exchanged columns."""
    a, b = np.random.default_rng(3).normal(size=(2, 2000))
    folds = [fold_index(*columns) for columns in ((a,), (b,), (a, b), (b, a))]
    for i, one in enumerate(folds):
        for other in folds[:i]:
            assert 0.4 < np.mean(one == other) < 0.6


def test_shape_and_type():
    """One integer per event in 0 … folds − 1; none for no event; lists and views are fine."""
    fold = fold_index([1.5, 2.5, 3.5], [1, 2, 3], folds=4)
    assert fold.dtype == np.int64
    assert fold.shape == (3,)
    assert fold_index(np.zeros(0)).shape == (0,)
    column = np.arange(10.0)
    assert fold_index(column[::2]).tolist() == fold_index(column[::2].copy()).tolist()
    assert not fold_index(column, folds=1).any()


def test_columns_stay_unchanged():
    """The columns are only read."""
    column = np.array([0.0, -0.0, 1.0], dtype=np.float32)
    column.setflags(write=False)
    fold_index(column, column)
    assert np.signbit(column[1])


@pytest.mark.parametrize(
    ("columns", "folds", "message"),
    [
        ([np.arange(3)], 0, "folds must be at least 1, got 0"),
        ([np.arange(3)], -2, "folds must be at least 1, got -2"),
        ([], 2, "fold_index needs at least one column"),
        ([np.arange(3), np.arange(4)], 2, r"columns of one length.*got shapes \[\(3,\), \(4,\)\]"),
        ([np.zeros((3, 2))], 2, r"columns of one length and one dimension.*got shapes \[\(3, 2\)\]"),
        ([1.0], 2, r"columns of one length and one dimension.*got shapes \[\(\)\]"),
    ],
)
def test_refused(columns, folds, message):
    """No fold, no column, and columns of different or no length are refused."""
    with pytest.raises(InputError, match=message):
        fold_index(*columns, folds=folds)
