"""The call inside of a processor, with what analyses have: every form of the same events gives the same."""

from __future__ import annotations

import awkward as ak
import hist
import numpy as np
import pandas as pd
import pytest
import torch
from coffea.analysis_tools import PackedSelection, Weights
from made_conserv import MISSING, WEIGHT, call, conserv, contents, difference, events, features, regions
from made_nano import COLUMNS, opened, some_jets, write
from made_nano import conserv as nano_conserv
from made_nano import regions as nano_regions

from coffea_conserv import Budget, Callback, Categories, Cuts, Feature, InputError
from coffea_conserv.inputs.call import Selection
from coffea_conserv.wrapper.bindings import make_bindings


@pytest.fixture(scope="module")
def plain():
    """Return the attack that most tests use."""
    return conserv()


@pytest.fixture(scope="module")
def expected(plain):
    """Sums of the events as plain arrays of NumPy."""
    return call(plain, events())


# --- columns -----------------------------------------------------------------------------------------------


def without(columns, kind):
    """Columns in which what is missing has no value."""
    there = columns["y"] != MISSING
    holes = {
        "masked": lambda: np.ma.MaskedArray(np.where(there, columns["y"], 7).astype(np.float32), mask=~there),
        "None": lambda: ak.mask(ak.Array(columns["y"]), there),
        "no object": lambda: ak.firsts(ak.unflatten(columns["y"][there], there.astype(int))),
    }
    return {**columns, "y": holes[kind]()}


def structured(columns):
    """Make a structured array of NumPy."""
    table = np.zeros(len(columns["x"]), dtype=[(name, value.dtype) for name, value in columns.items()])
    for name, value in columns.items():
        table[name] = value
    return table


FORMS = {
    "NumPy": lambda c: c,
    "awkward": lambda c: {name: ak.Array(value) for name, value in c.items()},
    "torch": lambda c: {name: torch.from_numpy(value) for name, value in c.items()},
    "lists": lambda c: {name: value.tolist() for name, value in c.items()},
    "other columns beside": lambda c: {"z": ak.Array([[1]] * len(c["x"])), **c},
    "record array": ak.Array,
    "record": lambda c: ak.Record({name: ak.Array(value) for name, value in c.items()}),
    "structured array": structured,
    "table": pd.DataFrame,
    "double precision": lambda c: {name: value.astype(np.float64) for name, value in c.items()},
    "short integers": lambda c: {**c, "k": c["k"].astype(np.uint8)},
    "option type": lambda c: {name: ak.mask(ak.Array(value), value > -2000) for name, value in c.items()},
    "masked": lambda c: without(c, "masked"),
    "None": lambda c: without(c, "None"),
    "no object": lambda c: without(c, "no object"),
}


def frozen(columns):
    """The same values in buffers that nobody can write to."""
    for values in columns.values():
        values.setflags(write=False)
    return columns


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning")
@pytest.mark.parametrize("form", FORMS)
def test_the_same_events_in_every_form(plain, expected, form):
    """Bit for bit the same sums; no buffer is written to, which these would not let happen."""
    given, reference = FORMS[form](frozen(events())), events()
    assert difference(call(plain, given, regions=regions(reference)), expected) == 0
    for name in given.fields if isinstance(given, ak.Array | ak.Record) else reference:
        values = given[name]
        values = np.ma.getdata(ak.to_numpy(values)) if isinstance(values, ak.Array) else np.asarray(values)
        same = (values == reference[name]) | (reference[name] == MISSING)
        assert same.all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [0, 1])
def test_chunks_of_none_and_of_one_event(form, count):
    """Pass through in every form."""
    still = conserv(budget=Budget(move=0))
    columns = events(count)
    made = call(still, FORMS[form](columns), regions=regions(columns))
    assert difference(made, call(still, columns)) == 0


def test_tensors_of_a_device(plain, expected, device):
    """Columns, weights and masks that lie on a device, with a gradient or not."""
    columns = events()
    there = {name: torch.tensor(value, device=device) for name, value in columns.items()}
    there["x"].requires_grad_()
    masks = {name: torch.tensor(mask, device=device) for name, mask in regions(columns).items()}
    weight = torch.full((400,), WEIGHT, dtype=torch.float64, device=device)
    assert difference(call(plain, there, regions=masks, weight=weight), expected) == 0


SEEN = []


def logit(x):
    """Logit of the sum, which remembers in what type it was asked."""
    SEEN.append((x.dtype, x.flags.c_contiguous, x.shape[1]))
    return x[:, 0] + np.where(x[:, 1] == np.float32(MISSING), 0, x[:, 1]) + 0.1 * x[:, 2]


@pytest.mark.parametrize("form", ["double precision", "option type", "no object", "torch", "short integers"])
def test_the_model_gets_single_precision(form):
    """Whatever the type of the columns."""
    made = conserv(model=Callback(logit), budget=Budget(move=0))
    columns = events(50)
    SEEN.clear()
    call(made, FORMS[form](columns), regions=regions(columns))
    assert set(SEEN) == {(np.dtype(np.float32), True, 3)}


def test_histograms_are_filled_with_what_the_model_gets():
    """A value that single precision puts into another bin is in the bin of what is attacked."""
    axis = hist.axis.Regular(6, -3, 3)
    made = conserv(features=[Feature("x", axis), *features()[1:]], budget=Budget(move=0), watch=None)
    columns = {**events(40), "x": np.full(40, 1 - 1e-12)}
    found = call(made, columns, regions={"all": np.ones(40, bool)}).hists["x"][0, 0, 0, :].values()
    single, double = (
        hist.Hist(axis).fill(values).values() * WEIGHT
        for values in (columns["x"].astype(np.float32), columns["x"])
    )
    assert np.array_equal(found, single)
    assert not np.array_equal(found, double)


def test_what_is_missing_has_to_be_declared(plain):
    """An entry that is None is an error for a feature that always exists."""
    columns = {**events(), "x": ak.mask(ak.Array(events()["x"]), np.arange(400) != 7)}
    message = (
        r"column 'x' has missing entries \(1 of 400 .*declare what they become, Feature\('x', …, missing="
    )
    with pytest.raises(InputError, match=message):
        call(plain, columns)


def test_missing_entries_may_become_nan():
    """If NaN is what the feature declares."""
    nan = [features()[0], Feature("y", features()[1].axis, missing=np.nan), features()[2]]
    made = conserv(model=Callback(lambda x: x[:, 0]), features=nan, watch=None, budget=Budget(move=0))
    columns = events()
    holes = without(columns, "None")
    numbers = {**columns, "y": np.where(columns["y"] == MISSING, np.nan, columns["y"])}
    given = Selection(regions(columns), np.ones(400), dataset="toy", chunk="0")
    moved = made.moved(holes, given)
    assert np.array_equal(np.isnan(moved.nominal[:, 1]), columns["y"] == MISSING)
    assert difference(moved.sums, made.moved(numbers, given).sums) == 0


# --- NanoEvents --------------------------------------------------------------------------------------------


def columns_of(some):
    """Features as an analysis computes them from selected events."""
    return {
        "met": some.MET.pt,
        "jet1": some.Jet.pt[:, 0],
        "jet2": ak.firsts(some.Jet.pt[:, 1:]),
        "nvtx": some.Pileup.nPU,
    }


def test_columns_of_nanoevents(tmp_path):
    """Virtual columns of a file: values are those that are read by hand, and the file's are left alone."""
    path = write(tmp_path / "tt.root")
    factory, whole = opened(path, 0, 400, fileuuid="u", entrystart=0, entrystop=400)
    chosen = ak.to_numpy(some_jets(whole))
    some = whole[chosen]
    made = nano_conserv()
    given = Selection(nano_regions(some), some.genWeight, events=some)
    moved = made.moved(columns_of(some), given)
    assert {name for name, values in moved.attacked.items() if (values != moved.nominal).any()} == {
        "conservUp",
        "conservDown",
    }
    places = make_bindings(made.features, COLUMNS).read(whole, chosen, some)
    stacked = np.stack([places.values[f.name] for f in made.features], axis=1)
    assert np.array_equal(moved.nominal, stacked.astype(np.float32))
    assert list(moved.sums.chunks["tt"]) == ["u:0-400"]
    again, fresh = opened(path)
    for before, after in ((fresh.MET.pt, whole.MET.pt), (fresh.Jet.pt, whole.Jet.pt)):
        assert ak.to_buffers(before)[2].keys() == ak.to_buffers(after)[2].keys()
        assert ak.array_equal(before, after)
    assert ak.array_equal(fresh.genWeight, whole.genWeight)
    assert ak.array_equal(fresh.Pileup.nPU, whole.Pileup.nPU)
    del factory, again


# --- regions -----------------------------------------------------------------------------------------------


def packed(columns):
    """The regions as a selection of coffea."""
    made = PackedSelection()
    made.add("low", columns["k"] < 2)
    made.add("one", columns["k"] == 1)
    made.add("two", columns["k"] == 2)
    made.add("middle", (columns["k"] == 1) | (columns["k"] == 2))
    return made


CUTS = {"low": "low", "high": {"low": False}, "middle": ("middle",)}
CATEGORIES = {"low": (0, 1), "high": (2, 3), "middle": {1, 2}}
REGIONS = {
    "cuts": lambda c: Cuts(packed(c), CUTS),
    "categories": lambda c: Categories(c["k"], CATEGORIES),
    "texts": lambda c: Categories(
        np.array(list("abcd"))[c["k"]],
        {name: tuple("abcd"[k] for k in ks) for name, ks in CATEGORIES.items()},
    ),
    "several categories": lambda c: Categories(
        ak.Array([[n for n, ks in CATEGORIES.items() if k in ks] for k in c["k"]]), list(CATEGORIES)
    ),
}


@pytest.mark.parametrize("form", REGIONS)
def test_the_same_regions_in_every_form(plain, expected, form):
    """Cuts and categories are the masks that they stand for."""
    columns = events()
    assert difference(call(plain, columns, regions=REGIONS[form](columns)), expected) == 0


@pytest.mark.parametrize("form", [form for form in REGIONS if form != "several categories"])
@pytest.mark.parametrize("count", [0, 1])
def test_regions_of_few_events(form, count):
    """None and one event."""
    still = conserv(budget=Budget(move=0))
    columns = events(count)
    made = call(still, columns, regions=REGIONS[form](columns))
    assert difference(made, call(still, columns)) == 0


def test_a_selection_of_all_events_and_weights_of_all_events(plain):
    """As analyses have them: everything is defined on the chunk, and the call gets what was selected."""
    columns = events(500)
    selection = packed(columns)
    selection.add("lepton", columns["x"] > -1)
    chosen = selection.all("lepton")
    weights = Weights(500, storeIndividual=True)
    weights.add("half", np.full(500, WEIGHT))
    weights.add("pileup", np.full(500, 3.0), weightUp=np.full(500, 4.0))
    some = {name: values[chosen] for name, values in columns.items()}
    reference = call(plain, some, weight=np.full(chosen.sum(), WEIGHT))
    partial = weights.partial_weight(exclude=["pileup"])[chosen]
    for given in ("lepton", chosen, ("lepton",), {"lepton": True}):
        cuts = Cuts(selection, CUTS, chosen=given)
        assert difference(call(plain, some, regions=cuts, weight=partial), reference) == 0
    message = (
        r"the selection knows 500 events and the call gets \d+; say which of them with Cuts\(…, chosen=\)"
    )
    with pytest.raises(InputError, match=message):
        call(plain, some, regions=Cuts(selection, CUTS), weight=partial)
    message = (
        r"one value for each of the \d+ events, got shape \(500,\); select the same .*weight\(\)\[mask\]"
    )
    with pytest.raises(InputError, match=message):
        call(plain, some, weight=weights)


# --- weights and dataset -----------------------------------------------------------------------------------


def weights_of(values):
    """Weights of coffea, of one correction and a variation of it."""
    made = Weights(len(values))
    made.add("all", np.asarray(values), weightUp=2 * np.asarray(values))
    return made


WEIGHTS = {
    "Weights": weights_of,
    "single precision": lambda w: w.astype(np.float32),
    "awkward": ak.Array,
    "option type": lambda w: ak.mask(ak.Array(w), w > 0),
    "torch": torch.tensor,
    "pandas": pd.Series,
    "list": list,
}


@pytest.mark.parametrize("form", WEIGHTS)
def test_weights_in_every_form(plain, expected, form):
    """The nominal weight of each event, in double precision."""
    values = np.full(400, WEIGHT)
    assert difference(call(plain, events(), weight=WEIGHTS[form](values)), expected) == 0
    for count in (0, 1):
        few = call(plain, events(count), weight=WEIGHTS[form](values[:count]))
        assert difference(few, call(plain, events(count))) == 0


def test_sums_of_single_precision_weights_are_of_double_precision():
    """Weights of 0.1 that were rounded once are not rounded again when they are added."""
    still = conserv(budget=Budget(move=0))
    weight = np.full(400, 0.1, dtype=np.float32)
    made = contents(call(still, events(), weight=weight, regions={"all": np.ones(400, bool)}))
    assert made["counts", "toy", "all", "nominal"][1] == pytest.approx(400 * float(weight[0]), rel=1e-14)


def test_weights_that_are_missing(plain):
    """There is no weight that they could become."""
    with pytest.raises(InputError, match=r"weight has missing entries \(1 of 400 .*; fill them, or select"):
        call(plain, events(), weight=ak.mask(ak.Array(np.ones(400)), np.arange(400) != 3))
