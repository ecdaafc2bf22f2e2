"""The call inside a processor: what can be given, what comes back, and that it adds up in any order."""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle
from dataclasses import fields
from types import SimpleNamespace

import awkward as ak
import cloudpickle
import hist
import numpy as np
import pytest
import torch
from made_conserv import WEIGHT, call, conserv, contents, difference, events, near, regions

from coffea_conserv import Budget, Conserv, MergeError, Sums

ATTACKED = ("conservUp", "conservDown")


@pytest.fixture(scope="module")
def plain():
    """Return the attack that most tests use."""
    return conserv()


@pytest.fixture(scope="module")
def parts(plain):
    """Outputs of four chunks of two datasets, the third of real data."""
    made = [call(plain, events(seed=s), chunk=f"f:{s}", dataset="WZ"[s % 2]) for s in range(4)]
    return [*made, call(plain, events(seed=9), dataset="data", data=True, weight=None)]


# --- what can be given -------------------------------------------------------------------------------------


def test_what_is_given_stays_as_it_is(plain):
    """No buffer of columns, weights, masks, folds or context is written to."""
    columns = {"x": ak.Array(events()["x"]), "y": torch.tensor(events()["y"]), "k": events()["k"]}
    given = {"weight": np.full(400, WEIGHT), "regions": regions(columns), "context": {"limit": np.ones(400)}}
    given["fold"] = np.arange(400) % 2
    before = copy.deepcopy((columns, given))
    call(plain, columns, **given)
    for now, then in zip((columns, given), before, strict=True):
        assert np.array_equal(_flat(now), _flat(then))


def _flat(values):
    if isinstance(values, dict):
        return np.concatenate([_flat(value) for value in values.values()])
    return np.asarray(values, dtype=float)


def test_dataset_and_chunk_come_from_the_events(plain):
    """The metadata of coffea say which chunk it is and how many events were read; explicit names win."""
    metadata = {"dataset": "W", "fileuuid": "ab-12", "entrystart": 100, "entrystop": 700}
    given = SimpleNamespace(metadata=metadata)
    made = call(plain, events(), events=given, dataset=None, chunk=None)
    ((name, read),) = made.chunks["W"].items()
    assert name == "ab-12:100-700"
    assert read.tolist() == [600, 1]
    made = call(plain, events(), events=given, dataset="V", chunk="mine")
    assert made.chunks["V"]["mine"].tolist() == [600, 1]
    made = call(plain, events())
    assert made.chunks["toy"]["file:0-400"].tolist() == [400, 1]


def test_a_selection_of_events_keeps_the_identity(plain):
    """Masked events of awkward still say where they come from."""
    metadata = {"dataset": "W", "fileuuid": "u", "entrystart": 0, "entrystop": 800}
    nano = ak.with_parameter(ak.zip(events(800)), "metadata", metadata)
    nano = SimpleNamespace(metadata=nano[nano.k >= 0].layout.purelist_parameter("metadata"))
    assert list(call(plain, events(), events=nano, dataset=None, chunk=None).chunks["W"]) == ["u:0-800"]


def test_folds_route_events_to_their_models():
    """With the same model twice folds do not matter; with another one they do."""
    columns, fold = events(), np.arange(400) % 2
    single, twice = conserv(), conserv(model=[conserv().handles[0]] * 2)
    first, second = (call(made, columns, fold=fold) for made in (single, twice))
    key = ("hist", "score", "toy", "low", "nominal")
    assert np.array_equal(contents(first)[key], contents(second)[key])
    assert first.config != second.config


# --- what comes back ---------------------------------------------------------------------------------------


def test_nominal_histograms_are_those_of_the_columns(plain):
    """Weights, regions, missing values and flow are those of a histogram that is filled by hand."""
    columns = events()
    made = call(plain, columns)
    for name, axis in {f.name: f.axis for f in plain.features}.items():
        for region, mask in regions(columns).items():
            use = mask & (columns[name] != -999)
            expected = hist.Hist(axis, storage=hist.storage.Weight()).fill(columns[name][use], weight=WEIGHT)
            found = made.hists[name][{"dataset": "toy", "region": region, "variation": "nominal"}]
            assert np.array_equal(found.values(flow=True), expected.values(flow=True))
            assert np.array_equal(found.variances(flow=True), expected.variances(flow=True))


def test_the_limits_are_kept_and_something_moves(plain, parts):
    """The verdict of the merged sample passes, scores go up and down, and yields stay."""
    result = plain.result(sum(parts[1:], parts[0]))
    assert result.verdict.passed
    for fooling in result.fooling:
        assert fooling.moved_share > 0.1
        assert np.sign(fooling.score_shift) == (1 if fooling.variation == "conservUp" else -1)
    scores = result.hist("score")
    yields = scores.values(flow=True)[:3].sum(axis=-1)
    assert np.allclose(yields[:2, :, 1:], yields[:2, :, :1], rtol=1e-12)


def test_overlapping_regions_add_up(plain):
    """Limits hold in each region and events are counted in every region that they are in."""
    columns = events()
    made = call(plain, columns)
    k = columns["k"]
    events_in = {region: made.counts["toy", region, "nominal"][0] for region in ("low", "high", "middle")}
    assert events_in == {"low": (k < 2).sum(), "high": (k >= 2).sum(), "middle": ((k == 1) | (k == 2)).sum()}
    everything = call(plain, columns, regions={**regions(columns), "all": k >= 0})
    both = contents(everything)
    for variation in ("nominal", *ATTACKED):
        halves = [both["hist", "x", "toy", region, variation] for region in ("low", "high")]
        assert np.allclose(both["hist", "x", "toy", "all", variation], sum(halves), rtol=1e-12)
    assert plain.result(everything).verdict.passed


def test_events_in_no_region_are_left_alone(plain):
    """What nobody checks is neither attacked nor counted."""
    columns = events()
    only = {"low": regions(columns)["low"]}
    inside = {name: value[only["low"]] for name, value in columns.items()}
    without = call(
        plain, inside, regions={"low": np.ones(len(inside["x"]), bool)}, weight=np.full(len(inside["x"]), 0.5)
    )
    assert difference(call(plain, columns, regions=only), without) == 0


def test_real_data_are_filled_and_not_attacked(plain):
    """There is nothing but nominal, each event with weight 1, with or without weight=."""
    columns = events()
    made = call(plain, columns, weight=None, data=True)
    assert {key[2] for key in made.counts} == {"nominal"}
    assert not made.paired
    assert not made.fooling
    assert made.real == {"toy": 1}
    assert {key[-1] for key in contents(made)} == {"nominal"}
    assert made.counts["toy", "low", "nominal"][1] == regions(columns)["low"].sum()
    assert difference(call(plain, columns, weight=np.ones(400), data=True), made) == 0


def test_nothing_may_move():
    """With Budget(move=0) Up and Down are nominal exactly, in every number."""
    still = conserv(budget=Budget(move=0))
    for columns in (events(), events(0), events(1)):
        made = contents(call(still, columns, weight=np.full(len(columns["x"]), -WEIGHT)))
        for key, value in made.items():
            if key[0] == "hist" and key[-1] != "nominal":
                assert np.array_equal(value, made[(*key[:-1], "nominal")])
            if key[0] == "counts":
                assert value[-3:].tolist() == [0, 0, 0]
    result = still.result(call(still, events()))
    assert result.verdict.passed
    assert all(f.moved_share == 0 and f.ratio == 0 and f.score_shift == 0 for f in result.fooling)


@pytest.mark.parametrize("signs", [[1.0], [1.0, 1.0, 1.0, -1.0]])
def test_marginals_are_exact_at_limit_0(signs):
    """With weights of one size every bin of every marginal is that of nominal, whatever their signs."""
    exact = conserv(budget=Budget(rms=0.0, correlation=0.02), valid=near)
    sums = call(exact, events(), weight=np.tile(signs, 400 // len(signs)))
    made = contents(sums)
    for name, region, variation in itertools.product("xyk", ("low", "high", "middle"), ATTACKED):
        assert np.array_equal(*(made["hist", name, "toy", region, v] for v in ("nominal", variation)))
    result = exact.result(sums)
    assert result.verdict.passed
    marginals = [limit for limit in result.verdict.limits if limit.name.startswith("marginal ")]
    assert len(marginals) == 3 * 3 * 2
    assert all(limit.value == 0 for limit in marginals)
    assert all(fooling.moved_share > 0.05 for fooling in result.fooling)


# --- small chunks ------------------------------------------------------------------------------------------


def test_an_empty_chunk_changes_nothing(plain, parts):
    """A chunk in which nothing was selected adds its name and its events read, and nothing else."""
    total = sum(parts[1:], parts[0])
    metadata = {"dataset": "W", "fileuuid": "e", "entrystart": 0, "entrystop": 50}
    nano = SimpleNamespace(metadata=metadata)
    empty = call(plain, events(0), events=nano, dataset=None, chunk=None)
    assert not contents(empty)
    for merged in (empty + total, total + empty):
        assert difference(merged, total) == 0
        assert merged.chunks["W"]["e:0-50"].tolist() == [50, 1]
        assert plain.result(merged).verdict.passed
    assert plain.result(empty + empty).verdict.limits == ()


def test_empty_columns_of_any_type(plain):
    """Empty masks and columns need not be of the right type."""
    nothing = {name: np.array([]) for name in "xyk"}
    made = call(plain, nothing, regions={"low": np.array([])}, weight=[])
    assert not contents(made)
    lists = {name: ak.Array([]) for name in "xyk"}
    assert not contents(call(plain, lists, regions={"low": ak.Array([])}, weight=ak.Array([])))


def test_an_empty_region_changes_nothing(plain):
    """A mask that selects nothing makes no difference to the others."""
    columns = events()
    with_empty = {**regions(columns), "none": np.zeros(400, dtype=bool)}
    assert difference(call(plain, columns, regions=with_empty), call(plain, columns)) == 0
    nowhere = call(plain, columns, regions={"none": np.zeros(400, dtype=bool)})
    assert not contents(nowhere)


@pytest.mark.parametrize("count", [1, 2, 19])
def test_a_chunk_of_few_events_stays_nominal(plain, count):
    """A chunk that is too small is filled, unattacked in both directions, and merges with the rest."""
    columns = events(count)
    small = call(plain, columns, chunk="small")
    for key, value in contents(small).items():
        if key[0] == "hist":
            assert np.array_equal(value, contents(small)[(*key[:-1], "nominal")])
    for variation in ATTACKED:
        unattacked = sum(small.counts["toy", region, variation][4] for region in ("low", "high"))
        assert unattacked == count
    large = call(plain, events(seed=3), chunk="large")
    merged, apart = contents(small + large), (contents(small), contents(large))
    for key, value in merged.items():
        if key[0] == "hist":
            assert np.allclose(value, sum(part.get(key, 0) for part in apart), rtol=1e-12)


# --- adding up ---------------------------------------------------------------------------------------------


def test_the_order_of_merging_does_not_matter(parts):
    """Any order and any nesting give the same numbers to 1e-12."""
    reference = sum(parts[1:], parts[0])
    for order in itertools.permutations(parts):
        assert difference(sum(order[1:], order[0]), reference) < 1e-12
    a, b, c, d, e = parts
    assert difference((a + b) + ((c + d) + e), reference) < 1e-12
    assert difference(reference + Sums(reference.config), reference) == 0


def test_adding_leaves_the_parts_as_they_are(parts):
    """Coffea may add to what it was given: the operands do not change."""
    before = [contents(copy.deepcopy(part)) for part in parts[:2]]
    _ = parts[0] + parts[1]
    _ = parts[0] + parts[0]
    for part, held in zip(parts, before, strict=False):
        assert contents(part).keys() == held.keys()
        assert all(np.array_equal(value, held[key]) for key, value in contents(part).items())


def test_a_chunk_that_is_merged_twice_is_noticed(plain, parts):
    """The coverage names it."""
    result = plain.result(parts[0] + parts[0] + parts[1], asked={"W": 400, "Z": 400})
    found = {coverage.dataset: coverage for coverage in result.coverage}
    assert found["W"].repeated == ("f:0",)
    assert not found["W"].complete
    assert found["Z"].complete


def test_two_budgets_in_one_processor(parts):
    """Each attack has its output; they cannot be mixed up."""
    tight = conserv(budget=Budget(rms=0.05))
    made = call(tight, events(seed=0), chunk="f:0", dataset="W")
    first, second = contents(parts[0]), contents(made)
    scores = [key for key in second if key[:2] == ("hist", "score")]
    same = {key: np.array_equal(first[key], second[key]) for key in scores}
    assert all(same[key] for key in scores if key[-1] == "nominal")
    assert not all(same.values())
    with pytest.raises(MergeError, match=f"{tight.config}.*same features, budget, model and seed"):
        _ = parts[0] + made


def test_the_same_seed_and_chunk_give_the_same_events(plain, parts):
    """A retried chunk, in whatever copy of the processor, gives identical numbers; what differs does not."""
    travelled = pickle.loads(cloudpickle.dumps(plain))  # noqa: S301 -- written here
    columns = events(seed=0)
    for made in (plain, travelled, conserv()):
        again = call(made, columns, chunk="f:0", dataset="W")
        assert difference(again, parts[0]) == 0
    others = [
        call(plain, columns, chunk="f:1", dataset="W"),
        call(plain, columns, chunk="f:0", dataset="V"),
        call(conserv(seed=2), columns, chunk="f:0", dataset="W"),
    ]
    first = contents(parts[0])
    for other in others:
        made = {(*key[:2], *key[3:]): value for key, value in contents(other).items() if key[0] == "hist"}
        held = {(*key[:2], *key[3:]): value for key, value in first.items() if key[0] == "hist"}
        same = {key: np.array_equal(value, held[key]) for key, value in made.items()}
        assert all(same[key] for key in same if key[-1] == "nominal")
        assert not all(same.values())


# --- how it travels ----------------------------------------------------------------------------------------


def leaves(value):
    """All values in nested mappings, without keys."""
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    return [value]


def test_outputs_are_numbers_arrays_and_histograms(parts):
    """Coffea would concatenate text and lists: there are none, and a plain pickle is enough."""
    for part in parts:
        values = [
            leaf
            for field in fields(part)
            if field.name != "config"
            for leaf in leaves(getattr(part, field.name))
        ]
        assert {type(value) for value in values} <= {int, float, np.ndarray, hist.Hist}
        assert all(value.dtype == np.float64 for value in values if isinstance(value, np.ndarray))
        travelled = pickle.loads(pickle.dumps(part))  # noqa: S301 -- written here
        assert difference(travelled, part) == 0
        assert travelled.config == part.config


def test_the_size_of_an_output_does_not_depend_on_the_events(plain):
    """Three regions of a small attack are below 120 kB a chunk, for 40 events or 4000."""
    sizes = [len(pickle.dumps(call(plain, events(count), chunk="c" * 40))) for count in (40, 4000)]
    assert max(sizes) < 120_000
    assert max(sizes) - min(sizes) < 0.02 * max(sizes)


def test_the_attack_does_not_grow_with_use():
    """What is sent to the workers is as small after use as before, and little more than its models."""
    made = conserv()
    before = cloudpickle.dumps(made)
    for seed in range(3):
        call(made, events(seed=seed))
    assert len(cloudpickle.dumps(made)) == len(before)
    assert len(before) < len(made.handles[0].payload) + 12_000


def test_the_docstring_shows_the_call():
    """Every keyword of the call is described."""
    for name in ("columns", "regions", "weight", "events", "data", "fold", "context", "dataset, chunk"):
        assert f"\n{name}\n" in inspect.getdoc(Conserv.__call__)
