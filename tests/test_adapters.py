"""The attack as a systematic of coffea's events, and as a calibrator after the interface of PocketCoffea."""

from __future__ import annotations

import awkward as ak
import cloudpickle
import hist
import numpy as np
import pytest
import torch
from coffea.nanoevents import BaseSchema, NanoEventsFactory
from made_calibrators import Calibrator, Registry, Scale, driver
from made_conserv import difference
from made_nano import (
    COLUMNS,
    PT,
    WHERE,
    Schema,
    conserv,
    features,
    opened,
    regions,
    some_jets,
    weight,
    wrapped,
)
from torch import nn

from coffea_conserv import Budget, Categories, ConfigurationError, Conserv, Feature, InputError, Names
from coffea_conserv.adapters import ConservCalibrator, EventAttack, add_systematic
from coffea_conserv.solvers.transport.solver import Transport


def attack_of(made=None, **options):
    """The attack on made events."""
    settings = {"columns": COLUMNS, "select": some_jets, "regions": regions, "weight": weight}
    return EventAttack(made or conserv(), **{**settings, **options})


@pytest.fixture(scope="module")
def expected(nano_path):
    """What the attack makes of the events: columns by direction, and the sums."""
    factory, made = opened(nano_path, **WHERE)
    done = attack_of()(made)
    columns = {
        direction: {"MET.pt": ak.to_list(one.MET.pt), "Jet.pt": ak.to_list(one.Jet.pt)}
        for direction, one in done.events.items()
    }
    nominal = {"MET.pt": ak.to_list(made.MET.pt), "Jet.pt": ak.to_list(made.Jet.pt)}
    del factory
    return {**columns, "nominal": nominal}, done.sums


def test_attacked_events_are_those_of_the_wrapper(nano_path, nano, expected):
    """The same attack, bit for bit, whoever makes use of it."""
    columns, sums = expected
    seen = []

    def analysis(given):
        seen.append({"MET.pt": ak.to_list(given.MET.pt), "Jet.pt": ak.to_list(given.Jet.pt)})
        return {}

    output = wrapped(analysis).process(nano)
    assert seen == [columns["nominal"], columns["conservUp"], columns["conservDown"]]
    assert difference(output["conserv"], sums) == 0
    moved = [columns[d][c] != columns["nominal"][c] for d in ("conservUp", "conservDown") for c in columns[d]]
    assert all(moved)


# --- systematics of coffea ---------------------------------------------------------------------------------


def test_a_systematic_of_several_collections(nano, expected):
    """Up and down hold all columns of one attack together; the events stay nominal."""
    columns, sums = expected
    found = add_systematic(nano, attack_of())
    assert difference(found, sums) == 0
    assert "conserv" in nano.systematics.fields
    varied = {
        "nominal": nano,
        "conservUp": nano.systematics.conserv.up,
        "conservDown": nano.systematics.conserv.down,
    }
    for direction, one in varied.items():
        assert ak.to_list(one.MET.pt) == columns[direction]["MET.pt"]
        assert ak.to_list(one.Jet.pt) == columns[direction]["Jet.pt"]
        assert type(one) is type(nano)
        assert type(one.Jet) is type(nano.Jet)
        assert one.metadata["dataset"] == "tt"
        assert ak.array_equal(one.Muon.pt, nano.Muon.pt)
        assert ak.array_equal(one.Jet.eta, nano.Jet.eta)
    two = varied["conservUp"][ak.num(varied["conservUp"].Jet) > 1].Jet
    assert ak.all((two[:, 0] + two[:, 1]).mass >= 0)  # behaviours of jets
    assert ak.array_equal(varied["conservUp"].Muon.matched_jet.pt, nano.Muon.matched_jet.pt)  # stay nominal


def test_an_analysis_fills_its_histograms_with_the_systematic(nano, expected):
    """The loop over variations that such analyses have."""
    columns, _ = expected
    add_systematic(nano, attack_of(), name="robustness")
    filled = hist.Hist(hist.axis.StrCategory([], growth=True, name="systematic"), PT)
    for direction in ("up", "down"):
        varied = nano.systematics["robustness", direction]
        filled.fill(f"robustness_{direction}", varied.MET.pt)
    for label, direction in (("robustness_up", "conservUp"), ("robustness_down", "conservDown")):
        alone = hist.Hist(PT).fill(columns[direction]["MET.pt"])
        assert np.array_equal(filled[label, :].values(flow=True), alone.values(flow=True))


class Opposite(nn.Module):
    """Large missing momentum on one side, small on the other, is signal."""

    def forward(self, x):
        """Give logits."""
        return (x[:, 0] - 40) / 20 * torch.sign(x[:, 1])


def test_a_systematic_of_one_column(nano_path):
    """A single field of a record, and a single flat branch."""
    two = [Feature("pt", PT, low=0), Feature("phi", hist.axis.Regular(20, -4, 4), frozen=True)]
    options = {"budget": Budget(rms=0.1, correlation=0.3), "solver": Transport(steps=12)}
    made = Conserv(model=Opposite(), features=two, **options)
    everywhere = {"regions": lambda e: {"all": np.ones(len(e), bool)}, "select": None}
    found = []
    for schema, name in ((Schema, "MET.pt"), (BaseSchema, "MET_pt")):
        factory = NanoEventsFactory.from_root(
            {str(nano_path): "Events"},
            schemaclass=schema,
            metadata={"dataset": "tt", "is_data": False, **WHERE},
        )
        nano = factory.events()
        columns = {"pt": name, "phi": name.replace("pt", "phi")}
        add_systematic(nano, attack_of(made, columns=columns, **everywhere))
        place = tuple(name.split("."))
        found += [ak.to_numpy(one[place]) for one in (nano, nano.systematics.conserv.up)]
    assert np.array_equal(found[0], found[2])
    assert np.array_equal(found[1], found[3])
    assert not np.array_equal(found[0], found[1])


def test_a_systematic_reads_what_it_needs(nano_path):
    """Features, weights and regions, and not the other columns of their collections."""
    log = []
    factory = NanoEventsFactory.from_root(
        {str(nano_path): "Events"},
        schemaclass=Schema,
        mode="virtual",
        access_log=log,
        metadata={"dataset": "tt", "is_data": False, **WHERE},
    )
    nano = factory.events()
    add_systematic(nano, attack_of())
    _ = ak.to_numpy(nano.systematics.conserv.up.MET.pt)
    read = {getattr(entry, "branch", entry) for entry in log}
    assert read == {"MET_pt", "nJet", "Jet_pt", "Pileup_nPU", "genWeight"}


@pytest.mark.parametrize("count", [0, 1])
def test_a_systematic_of_few_events(nano, count):
    """None and one event: nothing moves, and there are as many."""
    some = nano[:count]
    add_systematic(some, attack_of())
    for direction in ("up", "down"):
        varied = some.systematics["conserv", direction]
        assert len(varied) == count
        assert ak.to_list(varied.Jet.pt) == ak.to_list(some.Jet.pt)


def test_real_data_get_no_systematic(nano):
    """They are in the sums, and stay what they are."""
    sums = add_systematic(nano, attack_of(data=lambda _: True))
    assert sums.real == {"tt": 1}
    assert "__systematics__" not in nano.fields


def test_systematics_that_are_refused(nano):
    """Twice the same name, and what is no NanoEvents."""
    add_systematic(nano, attack_of(conserv(budget=Budget(move=0))))
    with pytest.raises(InputError, match="have a systematic 'conserv' already; give name= another one"):
        add_systematic(nano, attack_of())
    with pytest.raises(InputError, match="Array takes no systematics; give the NanoEvents of a Runner"):
        add_systematic(ak.Array([{"x": 1}]), attack_of())


# --- calibrators -------------------------------------------------------------------------------------------


def calibrator_of(made=None, bases=(ConservCalibrator,), **options):
    """A class of one's own, that travels by value."""

    class Robustness(*bases):
        name = "conserv"
        attack = attack_of(made, **options)

    return Robustness


def columns_of(nano):
    """Values of what moves."""
    return {"MET.pt": ak.to_list(nano.MET.pt), "Jet.pt": ak.to_list(nano.Jet.pt)}


def test_a_calibrator_gives_attacked_columns(nano, expected):
    """Nominal is what it was, the variations are the attack, and the events are as before afterwards."""
    columns, sums = expected
    made = calibrator_of()
    assert made.calibrated_collections == ["MET.pt", "Jet.pt"]
    found = {}
    for label, given, sequence in driver([made], nano, {"isMC": True}):
        found[label] = columns_of(given)
        calibrators = sequence
    assert found == columns
    assert difference(calibrators[0].sums, sums) == 0
    assert conserv().result(calibrators[0].sums).verdict.passed
    assert columns_of(nano) == columns["nominal"]


def test_the_attack_comes_after_the_other_calibrators(nano_path, nano):
    """It works on calibrated values, and does nothing in the variations of others."""
    found = {}
    for label, given, sequence in driver([Scale, calibrator_of()], nano, {"isMC": True}):
        found[label], calibrators = columns_of(given), sequence
    assert list(found) == ["nominal", "scaleUp", "scaleDown", "conservUp", "conservDown"]
    factory, scaled = opened(nano_path, **WHERE)
    for label, factor in (("nominal", 1.1), ("scaleUp", 1.2), ("scaleDown", 1.0)):
        assert found[label]["MET.pt"] == ak.to_list(scaled.MET.pt * np.float32(factor))
        assert found[label]["Jet.pt"] == ak.to_list(scaled.Jet.pt)
    scaled["MET", "pt"] = scaled.MET.pt * np.float32(1.1)
    done = attack_of()(scaled)
    assert {label: columns_of(one) for label, one in done.events.items()} == {
        label: found[label] for label in done.events
    }
    assert difference(calibrators[1].sums, done.sums) == 0
    del factory


def test_both_variations_are_one_attack(nano, monkeypatch):
    """The second direction is not made anew, unless the events are others."""
    calls = []
    original = EventAttack.attacked
    monkeypatch.setattr(EventAttack, "attacked", lambda *given: calls.append(1) or original(*given))
    made = calibrator_of()(metadata={"isMC": True})
    made.initialize(nano)
    first = made.calibrate(nano, {}, "conservUp")
    made.calibrate(nano, {}, "conservDown")
    assert len(calls) == 1
    other = ak.with_field(nano, ak.with_field(nano.MET, nano.MET.pt * np.float32(2), "pt"), "MET")
    assert ak.to_list(made.calibrate(other, {}, "conservUp")["MET.pt"]) != ak.to_list(first["MET.pt"])
    assert len(calls) == 2


def test_a_calibrator_with_the_base_class_of_a_framework(nano, expected):
    """It is registered and complete, under the names of the attack, and it travels."""
    names = Names.preset("pocketcoffea", "Robust")
    made = calibrator_of(conserv(names=names), bases=(ConservCalibrator, Calibrator))
    assert Registry.known["conserv"] is made
    travelled = cloudpickle.loads(cloudpickle.dumps(made))
    assert travelled.calibrated_collections == made.calibrated_collections
    found = {label: columns_of(given) for label, given, _ in driver([travelled], nano, {"isMC": True})}
    columns, _ = expected
    assert found == {names.labels[own]: values for own, values in columns.items()}


def test_variations_that_are_not_wanted(nano):
    """Are not made: nothing is attacked."""
    found = [(label, c[0].sums) for label, _, c in driver([calibrator_of()], nano, {"isMC": True}, wanted=[])]
    assert found == [("nominal", None)]


def test_real_data_have_no_such_calibrator(nano):
    """A framework leaves it out; who does not is told."""
    assert [label for label, _, _ in driver([calibrator_of()], nano, {"isMC": False})] == ["nominal"]
    with pytest.raises(
        InputError, match="calibrator 'conserv' is for simulation; leave it out for 'tt', real"
    ):
        calibrator_of()(metadata={"isMC": False}).initialize(nano)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "conserv", "attack": conserv}, "Made.attack must be an EventAttack, got function"),
        ({"attack": attack_of()}, "Made needs a name, such as name = 'conserv'"),
        ({"attack": attack_of(), "name": ""}, "Made needs a name"),
    ],
)
def test_calibrators_that_are_refused(content, message):
    """When the class is made."""
    with pytest.raises(ConfigurationError, match=message):
        type("Made", (ConservCalibrator,), content)


def test_a_calibrator_without_an_attack():
    """Is refused when it is made."""
    with pytest.raises(
        ConfigurationError, match="ConservCalibrator says nothing about what is attacked; give"
    ):
        ConservCalibrator()


# --- what both are made of ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"made": 3}, "conserv must be a Conserv, got int"),
        ({"regions": None}, "regions= must be a function of the events, got None"),
        ({"weight": np.ones(3)}, "weight= must be a function of the events, got array"),
        ({"data": 1}, "data=1 must be the name of an entry of the metadata"),
        ({"columns": {"met": "MET.pt"}}, "not bound: jet1, jet2, nvtx"),
    ],
)
def test_attacks_that_are_refused(options, message):
    """When they are made."""
    with pytest.raises(ConfigurationError, match=message):
        attack_of(**options)


def test_regions_may_be_categories(nano, expected):
    """Functions return whatever the call takes."""

    def by_number(some):
        return Categories(ak.num(some.Jet), {"few": (1, 2), "many": (3, 4)})

    assert difference(attack_of(regions=by_number)(nano).sums, expected[1]) == 0


def test_columns_that_move():
    """Each once, without those of frozen features."""
    assert attack_of().moving == ("MET.pt", "Jet.pt")
    assert {feature.name for feature in features() if feature.frozen} == {"nvtx"}
