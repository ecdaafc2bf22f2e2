"""Features and watched quantities: names, axes, missing values, and the matrix of a model."""

from __future__ import annotations

import math
import pickle

import boost_histogram as bh
import hist
import numpy as np
import pytest

from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.features.binning import fillable, flow_index, scale
from coffea_conserv.features.feature import Feature, Watched, check_features, make_watched, present
from coffea_conserv.features.matrix import feature_matrix

AXIS = hist.axis.Regular(10, 0, 1)
AXES = {
    "regular": hist.axis.Regular(10, -1, 3),
    "variable": hist.axis.Variable([0, 0.1, 1, 7]),
    "logarithmic": hist.axis.Regular(8, 1, 100, transform=hist.axis.transform.log),
    "circular": hist.axis.Regular(8, -math.pi, math.pi, circular=True),
    "integer": hist.axis.Integer(0, 5),
    "circular integer": hist.axis.Integer(0, 4, circular=True),
    "categories": hist.axis.IntCategory([0, 1, 10, 11]),
    "boolean": hist.axis.Boolean(),
}


def total(columns):
    """Sum two columns, as a watched quantity does."""
    return columns["x"] + columns["y"]


# --- declarations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ({}, "x"),
        ({"unit": "GeV"}, "x [GeV]"),
        ({"label": "Momentum", "unit": "GeV"}, "Momentum [GeV]"),
        ({"axis": hist.axis.Regular(2, 0, 1, label="$p_T$"), "unit": "GeV"}, "$p_T$ [GeV]"),
        ({"axis": hist.axis.Regular(2, 0, 1, label="$p_T$ [GeV]"), "unit": "GeV"}, "$p_T$ [GeV]"),
        ({"axis": hist.axis.Regular(2, 0, 1, label="$p_T$"), "label": "Momentum"}, "Momentum"),
    ],
)
def test_title(given, title):
    """The title is the label, else that of the axis, else the name, with the unit once."""
    assert Feature("x", **{"axis": AXIS, **given}).title == title


def test_categories_cannot_be_watched():
    """A computed quantity needs bins with an order."""
    with pytest.raises(
        ConfigurationError, match=r"watch\['c'\]: categories have no order; use hist.axis.Regular"
    ):
        Watched("c", total, AXES["categories"])


def test_title_of_a_watched_quantity():
    """A watched quantity is called by the label of its axis or by its name."""
    assert Watched("mjj", total, AXIS).title == "mjj"
    assert Watched("mjj", total, hist.axis.Regular(2, 0, 1, label="mass [GeV]")).title == "mass [GeV]"


@pytest.mark.parametrize(
    ("missing", "values"),
    [
        (None, ()),
        (-999, (-999.0,)),
        (-999.0, (-999.0,)),
        ((-999, -1), (-999.0, -1.0)),
        ([0], (0.0,)),
        ([], ()),
    ],
)
def test_missing_values(missing, values):
    """One value, several or none mean "no such object"."""
    assert Feature("x", AXIS, missing=missing).missing_values == values


def test_missing_not_a_number():
    """NaN can mean "no such object", and always does so for a watched quantity."""
    assert all(math.isnan(v) for v in Feature("x", AXIS, missing=math.nan).missing_values)
    assert all(math.isnan(v) for v in Watched("m", total, AXIS).missing_values)


@pytest.mark.parametrize("make", [lambda axis: Feature("x", axis), lambda axis: Watched("x", total, axis)])
@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ([0, 1, 2], r"'x': the axis must be one of hist\.axis, got \[0, 1, 2\]"),
        (bh.axis.Regular(2, 0, 1), r"'x': the axis must be one of hist\.axis, got Regular"),
        (hist.axis.Regular(2, 0, 1, growth=True), "'x': a growing axis has no fixed bins"),
        (hist.axis.Variable([0, 1, math.inf]), r"'x': edges must be finite, got \[ *0\. +1\. +inf\]"),
        (hist.axis.Regular(2, 0, 1, flow=False), "'x': Regular.* has no bin for every number"),
        (hist.axis.Regular(2, 0, 1, underflow=False), "'x': Regular.* has no bin for every number"),
        (hist.axis.Variable([0, 1, 2], overflow=False), "'x': Variable.* has no bin for every number"),
        (hist.axis.Integer(0, 3, flow=False), "'x': Integer.* has no bin for every number"),
        (hist.axis.IntCategory([1, 2], overflow=False), "'x': IntCategory.* has no bin for every number"),
        (hist.axis.StrCategory(["a", "b"]), "'x': StrCategory.* has no bin for every number"),
    ],
)
def test_axes_without_fixed_bins_for_every_number_are_refused(make, axis, message):
    """A value that has no bin could move unseen."""
    with pytest.raises(ConfigurationError, match=message):
        make(axis)


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_other_axes_are_accepted(axis):
    """Every axis with a bin for every number can be used, by watched quantities too if bins have an order."""
    assert Feature("x", axis).axis is axis
    if axis.traits.ordered:
        assert Watched("x", total, axis).axis is axis


def test_refused_declarations():
    """A name, an order of the range and a function are needed."""
    with pytest.raises(ConfigurationError, match="a feature needs a name"):
        Feature("", AXIS)
    for low, high in ((1, 1), (2, 1), (math.nan, 1)):
        with pytest.raises(ConfigurationError, match=rf"feature 'x': low={low} must be below high={high}"):
            Feature("x", AXIS, low=low, high=high)
    with pytest.raises(
        ConfigurationError, match=r"watch\['m'\]: a function of the features is needed, got 3"
    ):
        Watched("m", 3, AXIS)


def test_half_open_ranges_are_possible():
    """A range can be bounded on one side only."""
    assert Feature("x", AXIS, low=0).high is None
    assert Feature("x", AXIS, high=0).low is None


def test_features_are_values():
    """They travel by plain pickle and stay equal."""
    feature = Feature("x", AXIS, unit="GeV", missing=(-999.0, -1.0), low=0)
    assert pickle.loads(pickle.dumps(feature)) == feature  # noqa: S301 -- written above


def test_check_features():
    """A list of features becomes a tuple in its order."""
    one, two = Feature("x", AXIS), Feature("y", AXIS)
    assert check_features([two, one]) == (two, one)
    assert check_features(iter([one])) == (one,)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([], "at least one feature is needed"),
        ([Feature("x", AXIS), "y"], "features must be a list of Feature, got 'y'"),
        ("xy", "features must be a list of Feature, got 'x'"),
        (
            [Feature(name, AXIS) for name in "zxyxzz"],
            "feature names must differ, x, z is there more than once",
        ),
        ([Feature("score", AXIS)], "a feature cannot be called 'score'"),
    ],
)
def test_refused_lists_of_features(features, message):
    """Nothing, something else, a double name and the name of the output are refused."""
    with pytest.raises(ConfigurationError, match=message):
        check_features(features)


def test_make_watched():
    """A dict of pairs becomes watched quantities in its order; none is none."""
    made = make_watched({"b": (total, AXIS), "a": (total, AXIS)}, [Feature("x", AXIS)])
    assert [w.name for w in made] == ["b", "a"]
    assert make_watched(None, []) == make_watched({}, []) == ()


@pytest.mark.parametrize(
    ("watch", "message"),
    [
        ({"x": (total, AXIS)}, r"watch\['x'\]: this name belongs to a feature or to the score already"),
        ({"score": (total, AXIS)}, r"watch\['score'\]: this name belongs to a feature or to the score"),
        ({"m": total}, r"watch\['m'\] must be a pair \(torch function, hist axis\), got <function total"),
        ({"m": (total,)}, r"watch\['m'\] must be a pair"),
        ({"m": [total, AXIS]}, r"watch\['m'\] must be a pair"),
        ({"m": (AXIS, total)}, r"'m': the axis must be one of hist\.axis, got <function total"),
        ({"m": (None, AXIS)}, r"watch\['m'\]: a function of the features is needed, got None"),
    ],
)
def test_refused_watched_quantities(watch, message):
    """Taken names and entries that are no pair of function and axis are refused."""
    with pytest.raises(ConfigurationError, match=message):
        make_watched(watch, [Feature("x", AXIS)])


# --- bins --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_bins_are_those_of_a_histogram(axis):
    """Counting bins with flow is filling a histogram, at the edges and far outside as well."""
    low, high = axis.edges[0], axis.edges[-1]
    values = np.concatenate(
        [
            np.linspace(low, high, 400),
            axis.edges,
            np.nextafter(axis.edges, -np.inf),
            [low - 5, high + 5, 10, -1e6],
        ]
    ).astype(np.float32)
    values = np.append(values, np.float32(np.inf)) if axis.traits.continuous else np.round(values)
    filled = hist.Hist(axis)
    filled.fill(fillable(axis, values))
    counted = np.bincount(flow_index(axis, values), minlength=axis.extent)
    assert counted.tolist() == filled.view(flow=True).tolist()


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_every_value_has_a_bin(axis):
    """NaN, infinity and huge values have a bin like everything else, without a warning."""
    values = np.array([np.nan, np.inf, -np.inf, 3e9, -3e9, 1e38], dtype=np.float32)
    index = flow_index(axis, values)
    assert index.dtype == np.int64
    assert index.min() >= 0
    assert index.max() < axis.extent
    assert flow_index(axis, values[:0]).shape == (0,)


def test_known_bins():
    """Underflow comes first, lower edges belong to their bin, upper ones to the next."""
    assert flow_index(AXES["variable"], np.array([-1, 0, 0.1, 0.5, 7, 8.0])).tolist() == [0, 1, 2, 2, 4, 4]
    assert flow_index(AXES["integer"], np.array([-1, 0, 4, 5.0])).tolist() == [0, 1, 5, 6]
    assert flow_index(AXES["categories"], np.array([11, 0, 2, 10.0])).tolist() == [3, 0, 4, 2]
    assert flow_index(AXES["boolean"], np.array([0, 1.0])).tolist() == [0, 1]


def test_a_circular_axis_wraps():
    """Values that differ by a full turn are in one bin."""
    values = np.linspace(-3, 3, 50)
    for turn in (-2, 1):
        moved = values + turn * 2 * math.pi
        assert flow_index(AXES["circular"], moved).tolist() == flow_index(AXES["circular"], values).tolist()


def test_scale():
    """Origin and unit are the centre of an axis and half of its width."""
    assert scale(AXES["regular"]) == (1.0, 2.0)
    assert scale(AXES["variable"]) == (3.5, 3.5)


# --- missing values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_present(dtype):
    """Missing values are found in either precision, and nothing else is."""
    values = np.array([-999.9, 0.0, np.nan, 1.0, -999.0], dtype=dtype)
    there = present(Feature("x", AXIS, missing=(-999.9, math.nan)), values)
    assert there.tolist() == [False, True, False, True, True]
    assert present(Feature("x", AXIS), values).all()
    assert present(Watched("m", total, AXIS), values).tolist() == [True, True, False, True, True]


# --- matrix ------------------------------------------------------------------------------------------------

FEATURES = (Feature("x", AXIS), Feature("n", hist.axis.Integer(0, 9), missing=-999), Feature("y", AXIS))


def columns(**changed):
    """Three columns in another order than the features, with a column that nobody asked for."""
    made = {"y": np.array([0.1, 0.2]), "x": np.array([1.0, 2.0]), "n": np.array([3, -999]), "z": np.ones(7)}
    return {**made, **changed}


def test_matrix():
    """Columns come in the order of the features, in single precision."""
    matrix = feature_matrix(columns(), FEATURES)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, np.array([[1, 3, 0.1], [2, -999, 0.2]], dtype=np.float32))


def test_matrix_is_a_copy():
    """Writing into the matrix leaves the columns alone, in single precision as well."""
    given = {name: np.array([1.0, 2.0], dtype=np.float32) for name in ("x", "y", "n")}
    matrix = feature_matrix(given, FEATURES)
    matrix[:] = 7
    assert all(column.tolist() == [1, 2] for column in given.values())


def test_matrix_without_events():
    """No event gives a matrix with no row."""
    assert feature_matrix({name: np.zeros(0) for name in "xny"}, FEATURES).shape == (0, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"missing column\(s\) x, n, y; given are none"),
        ({"y": [1.0], "b": [1], "a": [1]}, r"missing column\(s\) x, n; given are a, b, y"),
        (
            columns(y=np.zeros(3)),
            r"one value per selected event, got shapes \{'x': \(2,\), 'n': \(2,\), 'y': \(3,\)\}",
        ),
        ({name: np.zeros((2, 2)) for name in "xny"}, r"one value per selected event, got shapes"),
        (dict.fromkeys("xny", 1.0), r"one value per selected event, got shapes \{'x': \(\)"),
        (
            columns(x=[math.nan, 1], y=[math.inf, -math.inf]),
            r"NaN or infinity in x \(1 events\), y \(2 events\); select these events away or declare them",
        ),
        (columns(x=[1e300, 1]), r"NaN or infinity in x \(1 events\)"),
        (
            columns(n=[0.5, -999]),
            r"1 values of n are not integers, but its axis is one of integers; use hist\.axis\.Regular",
        ),
    ],
)
def test_refused_columns(given, message):
    """Absent, misshapen, not finite and not integer columns are refused by name."""
    with pytest.raises(InputError, match=message):
        feature_matrix(given, FEATURES)


def test_declared_missing_values_are_allowed():
    """NaN and infinity are allowed where ``missing`` names them, on an axis of integers as well."""
    features = (
        Feature("x", AXIS, missing=(math.nan, math.inf)),
        Feature("n", hist.axis.Integer(0, 3), missing=math.nan),
    )
    matrix = feature_matrix({"x": [math.nan, math.inf], "n": [math.nan, 1]}, features)
    np.testing.assert_array_equal(matrix, [[math.nan, math.nan], [math.inf, 1]])
    with pytest.raises(InputError, match=r"NaN or infinity in x \(1 events\)"):
        feature_matrix({"x": [-math.inf, 0], "n": [1, 1]}, features)
