"""Where limits hold: masks, cuts of a selection and categories say the same."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import torch
from coffea.analysis_tools import PackedSelection
from hypothesis import given
from hypothesis import strategies as st
from slow_twins import slow_category_masks, slow_cut_masks

from coffea_conserv import Categories, Cuts, InputError
from coffea_conserv.inputs.masks import to_masks


def selection_of(columns, dtype="uint32"):
    """Make a selection of coffea."""
    made = PackedSelection(dtype=dtype)
    for name, mask in columns.items():
        made.add(name, np.asarray(mask, dtype=bool))
    return made


# --- masks -------------------------------------------------------------------------------------------------


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
        (
            {"sr": ak.Array([True, None, False])},
            r"region 'sr' has missing entries \(1 of 3 .*say with ak\.fill_none\(mask, False\) what they are",
        ),
        ({"sr": ak.Array([[True], [], [False]])}, "region 'sr' has several values per event"),
        ({"ok": [True] * 3, "sr": []}, r"region 'sr' must be a Boolean mask of the 3 events, got float64 of"),
        (np.ones(3, dtype=bool), "regions= is a ndarray; give a dict of masks, Cuts or Categories: regions"),
        ([True] * 3, "regions= is a list; give a dict of masks, Cuts or Categories"),
        (selection_of({"a": [1, 0, 1]}), r"regions= is a PackedSelection; give Cuts\(selection, …\)"),
    ],
)
def test_refused_masks(regions, message):
    """No region, and masks of another length, type or shape are refused by name."""
    with pytest.raises(InputError, match=message):
        to_masks(regions, 3)


# --- cuts --------------------------------------------------------------------------------------------------

NAMES = ("os", "low mt", "lepton")
EVENTS = st.lists(st.tuples(*[st.booleans()] * len(NAMES)), max_size=8)
WANTED = st.dictionaries(st.sampled_from(NAMES), st.booleans(), min_size=1)


@given(EVENTS, WANTED, WANTED)
def test_cuts_are_those_of_a_loop(rows, wanted, other):
    """Cuts that are passed and that are not, and cuts that do not matter."""
    columns = {name: [row[k] for row in rows] for k, name in enumerate(NAMES)}
    regions = {"a": wanted, "b": other}
    masks = to_masks(Cuts(selection_of(columns), regions), len(rows))
    assert {name: mask.tolist() for name, mask in masks.items()} == slow_cut_masks(rows, NAMES, regions)


@given(EVENTS, WANTED, WANTED)
def test_cuts_of_the_events_that_were_selected(rows, wanted, chosen):
    """A selection of all events serves a call that gets some of them, which a mask or cuts tell."""
    columns = {name: [row[k] for row in rows] for k, name in enumerate(NAMES)}
    selection = selection_of(columns)
    mask = slow_cut_masks(rows, NAMES, {"": chosen})[""]
    some = [row for row, there in zip(rows, mask, strict=True) if there]
    expected = slow_cut_masks(some, NAMES, {"a": wanted})
    for given_as in (chosen, np.array(mask, dtype=bool), ak.Array(np.array(mask, dtype=bool))):
        masks = to_masks(Cuts(selection, {"a": wanted}, chosen=given_as), len(some))
        assert {name: found.tolist() for name, found in masks.items()} == expected


@pytest.mark.parametrize("cuts", ["os", ("os",), ["os"], {"os": True}])
@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
def test_forms_of_cuts(cuts, dtype):
    """One cut may stand alone."""
    selection = selection_of({"os": [1, 0], "mt": [1, 1]}, dtype)
    assert to_masks(Cuts(selection, {"a": cuts}), 2)["a"].tolist() == [True, False]


def test_several_cuts_are_all_passed():
    """Names alone mean that they are passed."""
    selection = selection_of({"os": [1, 0, 1], "mt": [1, 1, 0]})
    assert to_masks(Cuts(selection, {"a": ("os", "mt")}), 3)["a"].tolist() == [True, False, False]


def test_the_selection_stays_as_it_is():
    """Neither its cache nor its bits are written to, and it can get further cuts."""
    selection = selection_of({"os": [1, 0, 1]})
    masks = to_masks(Cuts(selection, {"a": "os"}), 3)
    masks["a"][:] = False
    assert selection.all("os").tolist() == [True, False, True]
    selection.add("mt", np.array([False, True, True]))
    assert to_masks(Cuts(selection, {"a": ("os", "mt")}), 3)["a"].tolist() == [False, False, True]


SELECTION = selection_of({"os": [1, 0, 1], "low_mt": [1, 1, 0]})
ALL_CUTS = {"a": "os"}


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        (Cuts(SELECTION, {"a": "low_mT"}), "region 'a': the selection has no cut 'low_mT'; there are low_mt"),
        (
            Cuts(SELECTION, {"a": ("os", "x")}),
            "region 'a': the selection has no cut 'x'; there are os, low_mt",
        ),
        (Cuts(SELECTION, {"a": ()}), "region 'a': name the cuts of the selection, or a dict of cut → True"),
        (Cuts(SELECTION, {"a": {}}), "region 'a': name the cuts of the selection"),
        (Cuts(SELECTION, {"a": np.ones(3, bool)}), "region 'a': name the cuts of the selection"),
        (Cuts(SELECTION, ["os"]), r"Cuts takes a dict of region → names of cuts, got \['os'\]"),
        (Cuts(SELECTION, {}), r"regions=\{name: mask\} is needed"),
        (Cuts({"os": [1, 0, 1]}, ALL_CUTS), "Cuts takes a PackedSelection of coffea, got dict"),
        (Cuts(selection_of({"os": [1]}), ALL_CUTS), r"knows 1 events and the call gets 3; say .*chosen="),
        (Cuts(PackedSelection(), ALL_CUTS), "the selection knows 0 events and the call gets 3"),
        (
            Cuts(SELECTION, ALL_CUTS, chosen="os"),
            r"select the 3 of the call; got bool of \(3,\), which selects 2",
        ),
        (Cuts(SELECTION, ALL_CUTS, chosen="ss"), "chosen=: the selection has no cut 'ss'"),
        (Cuts(SELECTION, ALL_CUTS, chosen=np.ones(4, bool)), r"mask of the 3 events .*got bool of \(4,\)"),
        (Cuts(SELECTION, ALL_CUTS, chosen=[0, 1, 2]), r"Boolean mask of the 3 events.* got int64 of \(3,\)"),
        (Cuts(SELECTION, ALL_CUTS, chosen=ak.Array([True, None, True])), "chosen= has missing entries"),
    ],
)
def test_refused_cuts(cuts, message):
    """With what there is, or what to do."""
    with pytest.raises(InputError, match=message):
        to_masks(cuts, 3)


# --- categories --------------------------------------------------------------------------------------------


@given(
    st.lists(st.one_of(st.none(), st.integers(-2, 5)), max_size=8), st.sets(st.integers(-2, 5), min_size=1)
)
def test_categories_are_those_of_a_loop(values, codes):
    """Events of no category, of one that nobody names, and of one that several regions share."""
    regions = {"some": tuple(codes), "two": 2, "other": (2, 3)}
    expected = slow_category_masks([[] if value is None else [value] for value in values], regions)
    masks = to_masks(Categories(ak.Array(values), regions), len(values))
    assert {name: mask.tolist() for name, mask in masks.items()} == expected


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=3), max_size=6))
def test_events_may_be_in_several_categories(values):
    """Lists of texts, by the categories' own names or by others."""
    array = ak.Array([["x"], *values])[1:]
    expected = slow_category_masks(values, {"a": ("a",), "c": ("c",)})
    for regions in (["a", "c"], {"a": "a", "c": ["c"]}):
        masks = to_masks(Categories(array, regions), len(values))
        assert {name: mask.tolist() for name, mask in masks.items()} == expected


def test_names_of_categories_in_order():
    """A list names the integers from 0."""
    masks = to_masks(Categories(np.array([1, 0, -1, 2, 1]), ["zero", "one"]), 5)
    assert masks["zero"].tolist() == [False, True, False, False, False]
    assert masks["one"].tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("regions", [["a", "b"], {"a": 0, "b": 1}, {"a": "x", "b": "y"}])
@pytest.mark.parametrize("values", [[], np.array([]), ak.Array([]), ak.Array([[1]])[:0]])
def test_categories_without_events(values, regions):
    """Whatever their type."""
    masks = to_masks(Categories(values, regions), 0)
    assert {name: mask.tolist() for name, mask in masks.items()} == {"a": [], "b": []}


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (Categories([1, 2], ["a"]), "Categories has 2 events and the call 3; select the same events"),
        (Categories([1, 2, 3], "abc"), "Categories takes a list of regions or a dict .*, got 'abc'"),
        (Categories([1, 2, 3], 3), "Categories takes a list of regions or a dict"),
        (Categories([1, 2, 3], {}), r"regions=\{name: mask\} is needed"),
        (Categories([1, 2, 3], []), r"regions=\{name: mask\} is needed"),
        (Categories([1, 2, 3], {"a": "x"}), "region 'a' is the category 'x', but the categories are int64"),
        (Categories(["x", "y", "z"], {"a": 1}), "region 'a' is the category 1, but the categories are <U1"),
        (Categories([1, 2, 3], {"a": ()}), r"region 'a': name its category, .*, got \(\)"),
        (Categories([1, 2, 3], {"a": (1.5,)}), r"region 'a': name its category, .*, got \(1.5,\)"),
        (Categories([1.0, 2, 3], ["a"]), "the category must hold integers or texts, got float64"),
    ],
)
def test_refused_categories(categories, message):
    """With the offender."""
    with pytest.raises(InputError, match=message):
        to_masks(categories, 3)
