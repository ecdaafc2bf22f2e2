"""Columns of an analysis become NumPy copies, and what cannot become one is refused."""

from __future__ import annotations

import math

import awkward as ak
import hist
import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coffea_conserv import Feature
from coffea_conserv.errors import InputError
from coffea_conserv.features.feature import present
from coffea_conserv.inputs.columns import to_categories, to_columns, to_numpy

VALUES = [1.5, -2.0, 3.25]


class DaskArray:
    """Something that looks like an array of dask-awkward, which need not be installed."""

    ndim = 1


DaskArray.__module__ = "dask_awkward.lib.core"


class OnGpu:
    """Something that looks like an array of CuPy: NumPy cannot read it, and ``get`` copies it to the host."""

    __cuda_array_interface__ = ()

    def get(self):
        """Copy to the host."""
        return np.array(VALUES)

    def __array__(self, dtype=None, copy=None):
        raise TypeError


class Tensor:
    """A tensor on a device: only a copy on the host has values."""

    def __init__(self, where="cuda"):
        self.where = where

    def detach(self):
        """Leave the graph."""
        return self

    def cpu(self):
        """Copy to the host."""
        return Tensor("cpu")

    def numpy(self):
        """Values on the host."""
        if self.where != "cpu":
            raise TypeError
        return np.array(VALUES)


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
    "pandas that may be missing": pd.Series(VALUES, dtype="Float64"),
    "awkward, masked": ak.mask(ak.Array(VALUES), [True] * 3),
    "field of a record": ak.Record({"x": VALUES})["x"],
    "CuPy": OnGpu(),
    "tensor on a device": Tensor(),
    "tensor in half precision": torch.tensor(VALUES, dtype=torch.float64).to(torch.bfloat16).double(),
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


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64", "uint8", "bool"])
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
        r"x has missing entries \(1 of 2 are None or masked\); fill them, or select them away",
    ),
    "all none": (ak.Array([None, None]), r"x has missing entries \(2 of 2 "),
    "no object": (ak.firsts(ak.Array([[1.0], []])), r"x has missing entries \(1 of 2 "),
    "masked": (masked(VALUES, [0, 1, 0]), r"x has missing entries \(1 of 3 "),
    "all masked": (masked(VALUES, mask=True), r"x has missing entries \(3 of 3 "),
    "lists": ([[1.0], [2.0, 3.0]], "x has several values per event; pick one"),
    "typetracer": (
        ak.to_backend(ak.Array(VALUES), "typetracer"),
        "x is a typetracer, which has no values; coffea's trace goes on with arrays of 0 and of 1 event",
    ),
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
    "array of dask": (
        type("Array", (), {"__module__": "dask.array.core"})(),
        "x is a dask array; run the processor with coffea's Runner",
    ),
}


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_columns(values, message):
    """What is not one number per event is refused by name, with the remedy."""
    with pytest.raises(InputError, match=message):
        to_numpy("x", values)


def test_a_tensor_of_a_type_that_numpy_does_not_have():
    """Half precision of a model's kind becomes single precision."""
    column = to_numpy("x", torch.tensor(VALUES, dtype=torch.bfloat16))
    assert column.dtype == np.float32
    assert column.tolist() == VALUES


# --- missing entries ---------------------------------------------------------------------------------------

TYPES = ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool"]


@given(
    st.lists(st.tuples(st.integers(0, 1), st.booleans()), max_size=6),
    st.sampled_from(TYPES),
    st.sampled_from([-999.0, -999.9, -1.0, 0.5, 1e6, math.nan]),
)
def test_missing_entries_become_what_is_declared(entries, dtype, absent):
    """Whatever the type can hold: the feature finds them again, and all others are what they were."""
    values = np.array([value for value, _ in entries], dtype=dtype)
    mask = np.array([missing for _, missing in entries], dtype=bool)
    feature = Feature("x", hist.axis.Regular(10, 0, 1), missing=absent)
    for made in (masked(values, mask), ak.mask(ak.Array(values), ~mask)):
        column = to_columns({"x": made}, [feature])["x"].astype(np.float32)
        assert np.array_equal(present(feature, column), ~mask)
        assert np.array_equal(column[~mask], values[~mask].astype(np.float32))


@pytest.mark.parametrize("dtype", TYPES)
def test_columns_without_missing_entries_keep_their_type(dtype):
    """Option type alone makes nothing larger; single precision stays so with missing entries too."""
    values = np.array([0, 1, 1]).astype(dtype)
    column = to_numpy("x", ak.mask(ak.Array(values), [True] * 3), absent=-1.0)
    assert column.dtype == values.dtype
    holes = to_numpy("x", ak.mask(ak.Array(values), [True, False, True]), absent=-1.0)
    assert holes.dtype == (np.float64 if dtype in ("float64", "int32", "int64") else np.float32)
    assert holes.tolist() == [0, -1, 1]


def test_the_first_of_several_missing_values_is_taken():
    """As the order of the declaration says."""
    axis = hist.axis.Regular(10, 0, 1)
    for missing, found in (((-999.0, -1.0), -999.0), ((-1.0, math.nan), -1.0)):
        feature = Feature("x", axis, missing=missing)
        assert to_columns({"x": ak.Array([0.5, None])}, [feature])["x"].tolist() == [0.5, found]


def test_the_columns_of_the_events_stay_as_they_are():
    """What is filled is the copy."""
    values = np.array(VALUES)
    holes = masked(values, [0, 1, 0])
    assert to_numpy("x", holes, absent=-9.0).tolist() == [1.5, -9.0, 3.25]
    assert values.tolist() == VALUES
    assert holes.mask.tolist() == [False, True, False]


# --- several columns ---------------------------------------------------------------------------------------


def named(*names):
    """Features of some names."""
    return [Feature(name, hist.axis.Regular(10, 0, 1)) for name in names]


STRUCTURED = np.array([(v, v) for v in VALUES], dtype=[("y", "f8"), ("x", "f8")])
TABLES = {
    "dict": {"y": np.array(VALUES), "x": ak.Array(VALUES), "jagged": ak.Array([[1], [], []])},
    "record array": ak.Array({"y": VALUES, "x": VALUES, "jagged": [[1], [], []]}),
    "record": ak.Record({"y": VALUES, "x": VALUES, "jagged": [[1], [], []]}),
    "structured array": STRUCTURED,
    "structured array with a mask": masked(STRUCTURED, mask=False),
    "recarray": STRUCTURED.view(np.recarray),
    "data frame": pd.DataFrame({"y": VALUES, "x": VALUES}),
    "table of Arrow": pyarrow.table({"y": VALUES, "x": VALUES}),
    "batch of Arrow": pyarrow.RecordBatch.from_pydict({"y": VALUES, "x": VALUES}),
}


@pytest.mark.parametrize("columns", TABLES.values(), ids=TABLES)
def test_named_columns(columns):
    """The columns that are asked for are copied in that order; the others may be anything."""
    made = to_columns(columns, named("x", "y"))
    assert list(made) == ["x", "y"]
    made["x"][:] = 7
    assert made["y"].tolist() == VALUES
    assert to_columns(columns, named("x"))["x"].tolist() == VALUES


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("table", TABLES)
def test_tables_of_few_events(table, count):
    """None and one event of each kind."""
    whole = TABLES[table]
    if isinstance(whole, dict):
        some = {name: values[:count] for name, values in whole.items()}
    elif isinstance(whole, ak.Record):
        some = ak.Record({name: whole[name][:count] for name in whole.fields})
    else:
        some = whole[:count]
    assert to_columns(some, named("x", "y"))["y"].tolist() == VALUES[:count]


def test_columns_that_are_not_there():
    """Absent columns are named together with those that are there."""
    with pytest.raises(InputError, match=r"missing column\(s\) b, c; given are a, x"):
        to_columns({"x": VALUES, "a": VALUES}, named("b", "x", "c"))
    with pytest.raises(InputError, match=r"missing column\(s\) b; given are x"):
        to_columns(ak.Array({"x": VALUES}), named("b"))
    with pytest.raises(InputError, match=r"missing column\(s\) b; given are none"):
        to_columns({}, named("b"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (np.ones(3), "columns need names: give a dict or a record array, got an array of float64"),
        (ak.Array(VALUES), "columns need names: .* got Array"),
        ([VALUES], "columns need names: .* got list"),
        (None, "columns need names: .* got NoneType"),
        (DaskArray(), "columns= is a dask-awkward array; run the processor with coffea's Runner"),
        (ak.to_backend(ak.Array({"x": VALUES}), "typetracer"), "columns= is a typetracer"),
    ],
)
def test_columns_without_names(columns, message):
    """What has no names, or no values yet, is told."""
    with pytest.raises(InputError, match=message):
        to_columns(columns, named("x"))


def test_a_refused_column_is_named():
    """The message says which column it is about, and what to do."""
    with pytest.raises(InputError, match="column 'jets' has several values per event"):
        to_columns({"jets": ak.Array([[1.0], []])}, named("jets"))
    message = r"column 'jet' has missing entries .*declare what they become, Feature\('jet', …, missing=-999"
    with pytest.raises(InputError, match=message):
        to_columns({"jet": ak.Array([1.0, None])}, named("jet"))


# --- categories --------------------------------------------------------------------------------------------

CATEGORIES = {
    "integers": (np.array([2, 0, 1]), [(0, 2), (1, 0), (2, 1)]),
    "short integers": (np.array([2, 0, 1], dtype=np.uint8), [(0, 2), (1, 0), (2, 1)]),
    "awkward": (ak.Array([2, None, 1]), [(0, 2), (2, 1)]),
    "masked": (masked([2, 0, 1], [0, 1, 0]), [(0, 2), (2, 1)]),
    "torch": (torch.tensor([2, 0, 1]), [(0, 2), (1, 0), (2, 1)]),
    "texts": (np.array(["a", "b", "a"]), [(0, "a"), (1, "b"), (2, "a")]),
    "list": (["a", "b", "a"], [(0, "a"), (1, "b"), (2, "a")]),
    "awkward texts": (ak.Array(["a", None, "bb"]), [(0, "a"), (2, "bb")]),
    "objects": (pd.Series(["a", "b", "a"], dtype="category"), [(0, "a"), (1, "b"), (2, "a")]),
    "several": (ak.Array([[2, 0], [], [1]]), [(0, 2), (0, 0), (2, 1)]),
    "several or none": (ak.Array([[2, 0], None, [1]]), [(0, 2), (0, 0), (2, 1)]),
    "several, one missing": (ak.Array([[2, None], [], [1]]), [(0, 2), (2, 1)]),
    "several texts": (ak.Array([["a", "b"], [], ["b"]]), [(0, "a"), (0, "b"), (2, "b")]),
    "no event": (np.array([]), []),
    "no event of several": (ak.Array([[1]])[:0], []),
}


@pytest.mark.parametrize(("values", "pairs"), CATEGORIES.values(), ids=CATEGORIES)
def test_categories_of_events(values, pairs):
    """Every event with every category that it has."""
    event, category = to_categories("x", values)
    assert list(zip(event.tolist(), category.tolist(), strict=True)) == pairs


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1.0, 2.0]), "x must hold integers or texts, got float64"),
        (np.array([True, False]), "x must hold integers or texts, got bool"),
        (np.array([1, None]), "x must hold integers or texts, got object"),
        (np.ones((2, 2), dtype=int), "x needs one category per event, or an awkward list of them"),
        (ak.Array([[[1]]]), "x has several values per event"),
        (ak.Array([{"a": 1}]), "x is a record of a"),
        (STRUCTURED, "x needs one category per event"),
        (DaskArray(), "x is a dask-awkward array"),
        (ak.to_backend(ak.Array([[1]]), "typetracer"), "x is a typetracer"),
    ],
)
def test_refused_categories(values, message):
    """What is no category."""
    with pytest.raises(InputError, match=message):
        to_categories("x", values)
