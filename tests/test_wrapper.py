"""An unmodified analysis with an attack around it: what it sees, and what comes back."""

from __future__ import annotations

import pickle

import awkward as ak
import cloudpickle
import hist
import numpy as np
import pytest
from coffea.nanoevents.trace import trace
from coffea.processor import FuturesExecutor, IterativeExecutor, Runner, accumulate
from made_nano import (
    COLUMNS,
    WHERE,
    Analysis,
    Schema,
    Sum,
    conserv,
    cuts,
    opened,
    regions,
    some_jets,
    wrapped,
    write,
)

from coffea_conserv import Budget, Conserv, Feature, InputError, Names
from coffea_conserv.inputs.call import Selection
from coffea_conserv.wrapper import Bound, ConservProcessor, copies, migrations, variation_of
from coffea_conserv.wrapper.bindings import make_bindings
from coffea_conserv.wrapper.copies import Copy

UP, DOWN = "conservUp", "conservDown"


class Spy:
    """An analysis that keeps what it was given."""

    def __init__(self):
        self.seen = []

    def __call__(self, events):
        """Keep the events and return next to nothing."""
        self.seen.append(events)
        return {"events": len(events)}


def seen(nano, **options):
    """Events of the three runs of an analysis."""
    spy = Spy()
    wrapped(spy, **options).process(nano)
    return spy.seen


def same(a, b):
    """Whether two outputs are the same, bit by bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, hist.Hist):
        return a == b
    return bool(a == b)


def columns_of(nano):
    """All columns of the collections that are written to or referred to."""
    return {
        f"{name}.{field}": nano[name][field].to_list()
        for name in ("Jet", "Muon", "MET")
        for field in nano[name].fields
    }


def test_nominal_is_the_analysis_alone(nano, nano_path):
    """Whatever it writes into its events: histograms, tables and sets are what they would be without."""
    _, alone = opened(nano_path, **WHERE)
    output = wrapped().process(nano)
    found = variation_of({k: v for k, v in output.items() if not k.startswith("conserv")}, "nominal")
    assert same(found, Analysis().process(alone))
    assert type(found["cutflow"]["tt"]) is type(
        Analysis().process(opened(nano_path, **WHERE)[1])["cutflow"]["tt"]
    )
    untouched = columns_of(opened(nano_path, **WHERE)[1])
    assert columns_of(nano) == untouched


def test_nothing_moved_is_nothing_changed(nano):
    """With move=0 the three variations are the same bits."""
    output = wrapped(attack=conserv(budget=Budget(move=0))).process(nano)
    nominal = variation_of(output["histograms"], "nominal")
    for variation in (UP, DOWN):
        assert same(variation_of(output["histograms"], variation), nominal)
        assert output["cutflow"]["tt"]["hard"][variation] == output["cutflow"]["tt"]["hard"]["nominal"]


def test_only_the_bound_values_of_moved_events_change(nano):
    """Counts, order and all other columns stay; new values are those of the call in a processor."""
    nominal, up, down = seen(nano)
    chosen = ak.to_numpy(some_jets(nominal))
    some = nominal[chosen]
    jets = ak.fill_none(ak.pad_none(some.Jet.pt, 2), -1.0)
    values = {"met": some.MET.pt, "jet1": jets[:, 0], "jet2": jets[:, 1], "nvtx": some.Pileup.nPU}
    call = {"weight": some.genWeight, "regions": regions(some), "events": nominal}
    moved = conserv().moved(values, Selection(**call))
    before = columns_of(nominal)
    for variation, after in ((UP, up), (DOWN, down)):
        expected = moved.attacked[variation]
        np.testing.assert_array_equal(ak.to_numpy(after.MET.pt)[chosen], expected[:, 0])
        got = ak.to_numpy(ak.fill_none(ak.pad_none(after.Jet.pt[chosen], 2, clip=True), -1.0))
        np.testing.assert_array_equal(got, expected[:, 1:3])
        changed = {name for name, column in columns_of(after).items() if column != before[name]}
        assert changed == {"MET.pt", "Jet.pt"}
        assert after.Jet.pt[~chosen].to_list() == nominal.Jet.pt[~chosen].to_list()
        assert after.Jet.pt[:, 2:].to_list() == nominal.Jet.pt[:, 2:].to_list()
        assert (ak.to_numpy(after.MET.pt)[~chosen] == ak.to_numpy(nominal.MET.pt)[~chosen]).all()
        assert (ak.to_numpy(after.MET.pt) != ak.to_numpy(nominal.MET.pt)).any()


def referred(nano):
    """Momenta of the jets of muons, by reference and by index."""
    muons = nano.Muon[nano.Muon.jetIdx >= 0]
    return ak.flatten(muons.matched_jet.pt), ak.flatten(nano.Jet.pt[muons.jetIdx])


def test_cross_references_lead_to_attacked_objects(nano):
    """In every variation, after a mask, and for what an analysis writes."""
    nominal, up, _ = seen(nano)
    for one in (nominal, up, up[some_jets(up)]):
        by_reference, by_index = referred(one)
        assert by_reference.to_list() == by_index.to_list()
    assert referred(up)[0].to_list() != referred(nominal)[0].to_list()
    copied = Copy(nano)
    copied.events["Jet", "pt"] = copied.events.Jet.pt * 3
    by_reference, by_index = referred(copied.events)
    assert by_reference.to_list() == by_index.to_list()
    assert referred(nano)[0].to_list() == referred(nominal)[0].to_list()


def test_objects_are_put_in_order_where_they_moved(nano):
    """Others keep their order; fields stay together, and cross-references still find their jet."""
    _, plain, _ = seen(nano)
    nominal, up, down = seen(nano, order={"Jet": "pt"})
    moved = ak.any(plain.Jet.pt != nominal.Jet.pt, axis=1)
    assert ak.any(moved)
    assert not ak.all(ak.is_none(plain.Jet.pt[:, 1:2]))
    for after in (up, down):
        pt = after.Jet.pt
        assert ak.all(pt[:, :-1] >= pt[:, 1:])
    assert ak.any(plain.Jet.pt[:, :-1] < plain.Jet.pt[:, 1:])  # without order= some are not
    rows = [
        {tuple(row) for row in zip(*(ak.flatten(e.Jet[n]) for n in ("pt", "eta")), strict=True)}
        for e in (plain, up)
    ]
    assert rows[0] == rows[1]
    assert up.Jet.pt[~moved].to_list() == nominal.Jet.pt[~moved].to_list()
    assert ak.flatten(up.Muon.matched_jet.pt).to_list() == ak.flatten(plain.Muon.matched_jet.pt).to_list()


def test_who_changes_sides_is_counted(nano):
    """Weights of events that pass a cut before and after, from the events themselves."""
    spy = Spy()
    output = wrapped(spy).process(nano)
    nominal, up, _ = (one[some_jets(one)] for one in spy.seen)
    before, after, w = (ak.to_numpy(v) for v in (nominal.MET.pt > 30, up.MET.pt > 30, nominal.genWeight))
    w = w.astype(float)
    (found,) = (m for m in migrations(output["conserv_migration"]) if (m.cut, m.variation) == ("hard", UP))
    assert found.nominal == w[before].sum()
    assert found.left == w[before & ~after].sum()
    assert found.entered == w[~before & after].sum() > 0
    assert found.change == pytest.approx(w[after].sum() / w[before].sum() - 1)
    still = [m for m in migrations(output["conserv_migration"]) if m.cut in {"few", "many", "select"}]
    assert len(still) == 6
    assert not any(m.left or m.entered for m in still)


@pytest.fixture(scope="module")
def fileset(tmp_path_factory):
    """Two simulated datasets, one in two files, and real data."""
    folder = tmp_path_factory.mktemp("files")
    sets = {"tt": (1, 2), "ww": (3,), "run": (4,)}
    return {
        name: {
            "files": {str(write(folder / f"{name}{k}.root", 300, k)): "Events" for k in seeds},
            "metadata": {"is_data": name == "run"},
        }
        for name, seeds in sets.items()
    }


def run(fileset, processor, executor=None, **options):
    """Run a processor on all files."""
    executor = executor or IterativeExecutor(status=False)
    runner = Runner(executor, schema=Schema, chunksize=170, savemetrics=True, **options)
    return runner(fileset, processor)


def test_a_run_gives_every_variation_what_postprocess_expects(fileset):
    """Merged histograms have an axis, tables are by variation, and real data are nominal only."""
    output, _ = run(fileset, wrapped())
    alone, _ = run(fileset, Analysis())
    mine = {k: v for k, v in output.items() if not k.startswith("conserv")}
    assert same(variation_of(mine, "nominal"), alone)
    assert list(output["histograms"]["ht"].axes[0]) == ["nominal", UP, DOWN]
    up = variation_of(mine, UP)
    assert set(up["share"]) == set(up["cutflow"]) == {"tt", "ww"}
    assert up["share"]["tt"] == up["cutflow"]["tt"]["hard"] / up["cutflow"]["tt"]["all"]
    assert output["histograms"]["ht"][{"variation": UP, "dataset": "run"}].sum(flow=True).value == 0
    result = conserv().result(output["conserv"])
    assert result.verdict.passed
    assert {m.dataset for m in migrations(output["conserv_migration"])} == {"tt", "ww"}


def test_executors_agree(fileset):
    """Other processes return the same, and all of it is pickled plainly."""
    here, _ = run(fileset, wrapped())
    there, _ = run(fileset, wrapped(), FuturesExecutor(workers=1, status=False))
    assert pickle.loads(pickle.dumps(there)).keys() == here.keys()  # noqa: S301 -- our own bytes
    keys = ("cutflow", "share", "files")
    assert same({k: here[k] for k in keys}, {k: there[k] for k in keys})
    for name, expected in here["histograms"].items():
        np.testing.assert_allclose(there["histograms"][name].values(), expected.values(), rtol=1e-12)


def test_no_branch_is_read_twice(fileset):
    """The wrapped analysis reads what the analysis and the bindings need, and nothing again."""
    _, alone = run(fileset, Analysis())
    _, once = run(fileset, wrapped(attack=conserv(budget=Budget(move=0))))
    _, whole = run(fileset, wrapped())
    assert whole["bytesread"] == once["bytesread"]
    assert set(whole["columns"]) - set(alone["columns"]) <= {"Pileup_nPU-data"}
    extra = 4 * 1200 if set(whole["columns"]) - set(alone["columns"]) else 0
    assert whole["bytesread"] <= alone["bytesread"] + extra + 4096


def test_columns_can_be_traced(nano):
    """Chunks without events, and with one, pass through; coffea finds what is needed beforehand."""
    with pytest.warns(RuntimeWarning, match="typetracer"):  # torch wants numbers; empty events will do
        found = trace(wrapped().process, nano)
    assert {"MET_pt", "Jet_pt"} <= {name.split("-")[0] for name in found}
    for count in (0, 1):
        output = wrapped().process(nano[:count])
        assert output["cutflow"]["tt"]["all"]["nominal"] <= count


def test_chunks_add_up_in_any_order(nano_path):
    """What is joined and merged is what is merged and joined."""
    processor = wrapped(attack=conserv(budget=Budget(move=0)))

    def output(first, last):
        factory, events = opened(nano_path, first, last, **{**WHERE, "entrystart": first, "entrystop": last})
        found = processor.process(events)
        del found["conserv"], factory
        return found

    parts = [output(0, 150), output(150, 210), output(210, 400)]
    for order in ((0, 1, 2), (2, 0, 1)):
        assert same(accumulate([parts[k] for k in order]), output(0, 400))


def test_parts_of_what_was_read_keep_their_references(nano, caplog):
    """They lead to nominal objects, because those of the part have other positions; that is said."""
    copies._unreferred.cache_clear()  # it is said once per process
    some = nano[nano.MET.pt > 50]
    _, up, _ = seen(some)
    assert referred(up)[0].to_list() == referred(some)[0].to_list() != referred(up)[1].to_list()
    assert "show nominal values in the attacked events too" in caplog.text


def test_position_may_depend_on_the_event(nano):
    """The hardest jet of positive eta, where there is one."""

    def central(some):
        good = some.Jet.eta > 0
        return ak.where(ak.any(good, axis=1), ak.argmax(ak.where(good, some.Jet.pt, -1), axis=1), -1)

    columns = {**COLUMNS, "jet1": Bound("Jet.pt", central), "jet2": lambda some: ak.num(some.Jet)}
    made = [
        Feature("met", hist.axis.Regular(20, 0, 300)),
        Feature("jet1", hist.axis.Regular(20, 0, 300), missing=-1.0),
    ]
    made += [
        Feature("jet2", hist.axis.Integer(0, 9), frozen=True),
        Feature("nvtx", hist.axis.Integer(0, 60), frozen=True),
    ]

    attack = Conserv(model=Sum(), features=made, budget=Budget(rms=0.3, correlation=0.3), seed=1)
    nominal, up, _ = seen(nano, attack=attack, columns=columns)
    moved = up.Jet.pt != nominal.Jet.pt
    assert ak.any(moved)
    assert ak.all(nominal.Jet.eta[moved] > 0)
    assert ak.all(ak.sum(moved, axis=1) <= 1)


def test_columns_of_other_types_keep_them(nano):
    """Whole numbers stay whole, double precision stays double, and values that stay keep their bits."""
    wide = ak.with_field(
        nano,
        ak.with_field(nano.MET, ak.values_astype(nano.MET.pt, "float64") + 1e-12, "pt"),
        "MET",
    )
    axis = hist.axis.Regular(20, 0, 300)
    features = [Feature("met", axis), Feature("n", hist.axis.Integer(0, 60))]
    bindings = make_bindings(features, {"met": "MET.pt", "n": "Pileup.nPU"})
    places = bindings.read(wide, np.ones(len(wide), dtype=bool), wide)
    before = np.stack([places.values["met"], places.values["n"]], axis=1).astype(np.float32)
    after = before.copy()
    after[:5] = after[5:10]
    new, _ = bindings.written(wide, places, before, after)
    assert ak.to_numpy(new.MET.pt).dtype == np.float64
    assert ak.to_numpy(new.Pileup.nPU).dtype == np.int32
    assert (ak.to_numpy(new.MET.pt)[5:] == ak.to_numpy(wide.MET.pt)[5:]).all()
    assert ak.to_numpy(new.Pileup.nPU)[:5].tolist() == ak.to_numpy(wide.Pileup.nPU)[5:10].tolist()
    after[0, 1] = 3.5
    with pytest.raises(InputError, match="feature 'n' moved to a value that its column of int32 cannot hold"):
        bindings.written(wide, places, before, after)


def test_labels_follow_the_conventions_of_the_analysis(nano):
    """Names of the axis and of its categories can be chosen."""
    names = Names(variation="systematic", nominal="Nominal", up="CONSERV_up", down="CONSERV_down")
    made = wrapped(attack=conserv(names=names))
    output = made.process(nano)
    assert output["histograms"]["ht"].axes.name == ("systematic", "dataset", "ht")
    assert list(output["histograms"]["ht"].axes[0]) == ["Nominal", "CONSERV_up", "CONSERV_down"]
    assert set(output["cutflow"]["tt"]["all"]) == {"Nominal", "CONSERV_up", "CONSERV_down"}
    assert set(made.postprocess(output)["share"]["tt"]) == {"Nominal", "CONSERV_up", "CONSERV_down"}
    assert made.conserv.result(output["conserv"]).hist("met").axes[2].name == "systematic"


def test_the_processor_travels():
    """With functions of a notebook, too."""
    made = wrapped(cuts=lambda events: {"soft": ~cuts(events)["hard"]})
    again = cloudpickle.loads(cloudpickle.dumps(made))
    assert isinstance(again, ConservProcessor)
    assert again.conserv.config == made.conserv.config
