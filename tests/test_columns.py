"""Columns of an analysis become NumPy copies, and what cannot become one is refused."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pandas as pd
import pytest
import torch

from coffea_conserv.columns import to_columns, to_masks, to_numpy
from coffea_conserv.errors import InputError

VALUES = [1.5, -2.0, 3.25]


class DaskArray:
    """Something that looks like an array of dask-awkward, which need not be installed."""

    ndim = 1


DaskArray.__module__ = "dask_awkward.lib.core"


def masked(values, mask):
    """Make a masked array."""
    return np.ma.MaskedArray(values, mask=mask)


KINDS = {
    "numpy": np.array(VALUES),
    "view": np.array([*VALUES, 9.0])[:3],
    "strided": np.repeat(VALUES, 2)[::2],
    "awkward": ak.Array(VALUES),
    "awkward, option type": ak.Array([*VALUES, None])[:3],
    "awkward, first of a list": ak.firsts(ak.Array([[1.5, 7.0], [-2.0], [3.25]])),
    "awkward, field": ak.Array([{"pt": value} for value in VALUES]).pt,
    "awkward, indexed": ak.Array([3.25, 1.5, -2.0])[[1, 2, 0]],
    "torch": torch.tensor(VALUES, dtype=torch.float64),
    "torch with gradient": torch.tensor(VALUES, dtype=torch.float64, requires_grad=True),
    "nothing masked": masked(VALUES, mask=False),
    "list": VALUES,
    "pandas": pd.Series(VALUES),
}


@pytest.mark.parametrize("values", KINDS.values(), ids=KINDS)
def test_one_value_per_event(values):
    """Every kind of column becomes a plain array with the same values."""
    column = to_numpy("x", values)
    assert type(column) is np.ndarray
    assert column.dtype == np.float64
    assert column.tolist() == VALUES


@pytest.mark.parametrize("values", KINDS.values(), ids=KINDS)
def test_a_column_is_a_copy(values):
    """Writing into the copy never writes into the buffers of the events."""
    column = to_numpy("x", values)
    column[:] = 7
    assert to_numpy("x", values).tolist() == VALUES


def test_a_copy_of_a_read_only_array_can_be_written():
    """Buffers that cannot be written give columns that can."""
    values = np.array(VALUES)
    values.setflags(write=False)
    assert to_numpy("x", values).flags.writeable
    assert to_numpy("x", ak.Array(values)).flags.writeable


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
def test_the_type_is_kept(dtype):
    """Precision and integers stay what they are, from whatever kind of array."""
    values = np.array([0, 1, 1]).astype(dtype)
    for made in (values, ak.Array(values), torch.tensor(values), masked(values, mask=False)):
        assert to_numpy("x", made).dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    "values", [np.zeros(0), ak.Array([]), ak.Array([1.0])[:0], torch.zeros(0), [], masked([], mask=False)]
)
def test_no_event(values):
    """No event gives an empty column."""
    assert to_numpy("x", values).shape == (0,)


REFUSED = {
    "jagged": (
        ak.Array([[1.0], [2.0, 3.0]]),
        r"x has several values per event \(2 \* var \* float64\).*firsts",
    ),
    "regular": (ak.to_regular(ak.Array([[1], [2]])), r"x has several values per event \(2 \* 1 \* int64\)"),
    "jagged or not": (ak.Array([1.0, [2.0]]), "x has several values per event"),
    "record": (ak.Array([{"pt": 1.0, "eta": 2.0}]), "x is a record of pt, eta; pick one of them"),
    "none": (
        ak.Array([1.0, None]),
        r"x has missing entries; fill them with a number that Feature\(missing=…\)",
    ),
    "all none": (ak.Array([None, None]), "x has missing entries"),
    "no object": (ak.firsts(ak.Array([[1.0], []])), "x has missing entries"),
    "masked": (masked(VALUES, [0, 1, 0]), r"x has masked entries; fill them with a number that Feature\("),
    "all masked": (masked(VALUES, mask=True), "x has masked entries"),
    "matrix": (np.zeros((3, 2)), r"x needs one value per event, got shape \(3, 2\)"),
    "tensor": (torch.zeros(3, 1), r"x needs one value per event, got shape \(3, 1\)"),
    "number": (1.0, r"x needs one value per event, got shape \(\)"),
    "nothing": (None, r"x needs one value per event, got shape \(\)"),
    "words": (np.array(["a", "b"]), "x must hold numbers, got <U1"),
    "awkward words": (ak.Array(["a", "b"]), "x must hold numbers, got <U1"),
    "objects": (np.array([1.0, None]), "x must hold numbers, got object"),
    "structured": (np.zeros(2, dtype=[("pt", "f8")]), "x must hold numbers, got"),
    "complex": (np.zeros(2, dtype=complex), "x must hold numbers, got complex128"),
    "dask": (DaskArray(), "x is a dask-awkward array; run the processor with coffea's Runner"),
}


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_columns(values, message):
    """What is not one number per event is refused by name, with the remedy."""
    with pytest.raises(InputError, match=message):
        to_numpy("x", values)


# --- several columns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "columns",
    [
        {"y": np.array(VALUES), "x": ak.Array(VALUES), "jagged": ak.Array([[1], [], []])},
        ak.Array({"y": VALUES, "x": VALUES, "jagged": [[1], [], []]}),
        pd.DataFrame({"y": VALUES, "x": VALUES}),
    ],
    ids=["dict", "record array", "data frame"],
)
def test_named_columns(columns):
    """The columns that are asked for are copied in that order; the others may be anything."""
    made = to_columns(columns, ["x", "y"])
    assert list(made) == ["x", "y"]
    made["x"][:] = 7
    assert made["y"].tolist() == VALUES
    assert to_columns(columns, ["x"])["x"].tolist() == VALUES


def test_columns_that_are_not_there():
    """Absent columns are named together with those that are there."""
    with pytest.raises(InputError, match=r"missing column\(s\) b, c; given are a, x"):
        to_columns({"x": VALUES, "a": VALUES}, ["b", "x", "c"])
    with pytest.raises(InputError, match=r"missing column\(s\) b; given are x"):
        to_columns(ak.Array({"x": VALUES}), ["b"])
    with pytest.raises(InputError, match=r"missing column\(s\) b; given are none"):
        to_columns({}, ["b"])


def test_a_refused_column_is_named():
    """The message says which column it is about."""
    with pytest.raises(InputError, match="column 'jets' has several values per event"):
        to_columns({"jets": ak.Array([[1.0], []])}, ["jets"])


# --- regions -----------------------------------------------------------------------------------------------


def test_masks():
    """Masks of any kind of array become Boolean copies in their order."""
    given = np.array([True, False, True])
    masks = to_masks({"b": given, "a": ak.Array(given), "c": torch.tensor(given), "d": given.tolist()}, 3)
    assert list(masks) == ["b", "a", "c", "d"]
    assert all(mask.dtype == np.bool_ and mask.tolist() == [True, False, True] for mask in masks.values())
    masks["b"][:] = False
    assert given.any()


def test_masks_without_events():
    """Without events an empty list is a mask, whatever its type."""
    masks = to_masks({"all": [], "some": ak.Array([])}, 0)
    assert all(mask.dtype == np.bool_ and mask.shape == (0,) for mask in masks.values())


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        (None, r"regions=\{name: mask\} is needed.*regions=\{'all': …\} for one"),
        ({}, r"regions=\{name: mask\} is needed"),
        ({"sr": [True]}, r"region 'sr' must be a Boolean mask of the 3 events, got bool of \(1,\)"),
        ({"sr": [1, 0, 1]}, r"region 'sr' must be a Boolean mask of the 3 events, got int64 of \(3,\)"),
        ({"sr": [1.0, 0.0, 1.0]}, r"region 'sr' must be a Boolean mask.*got float64 of \(3,\)"),
        ({"sr": np.ones((3, 1), dtype=bool)}, r"region 'sr' needs one value per event, got shape \(3, 1\)"),
        ({"sr": ak.Array([True, None, False])}, "region 'sr' has missing entries"),
        ({"sr": ak.Array([[True], [], [False]])}, "region 'sr' has several values per event"),
        ({"ok": [True] * 3, "sr": []}, r"region 'sr' must be a Boolean mask of the 3 events, got float64 of"),
    ],
)
def test_refused_masks(regions, message):
    """No region, and masks of another length, type or shape are refused by name."""
    with pytest.raises(InputError, match=message):
        to_masks(regions, 3)
