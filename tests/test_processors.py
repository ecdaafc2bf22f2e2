"""Tests of the two example analyses: selection, regions, validity, agreement with real files."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import ClassVar

import awkward as ak
import numpy as np
import pytest
import torch
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner

from processors import htautau, htautau_inputs, ttbar_ww, ttbar_ww_inputs


class Recorder:
    """Stands in for the attack and keeps what it is called with.

    On the class, because the runner works with an unpickled copy of the processor.
    """

    calls: ClassVar[list] = []

    def __init__(self):
        Recorder.calls = []

    def __call__(self, columns, **extra):
        """Keep one call."""
        Recorder.calls.append((columns, extra))
        return {"chunks": 1}


def run(files, processor, schema, chunksize=1000):
    """Run a processor over a fileset in this process."""
    runner = Runner(IterativeExecutor(status=False), schema=schema, chunksize=chunksize)
    return runner(files, processor, treename="Events")


def skim(folder, events, charge=-1):
    """Write a flat skim file with one event of each given (muon, MET, jet b score) triple."""
    columns = {"njets": 2, "q_1": 1, "q_2": charge, "m_2": 1.0, "pt_2": 30.0, "eta_2": 0.5, "phi_2": 3.0}
    columns |= {"eta_1": -0.5, "phi_1": 0.0, "phi_met": math.pi, "jm_1": 5.0, "jm_2": 5.0, "weight": 0.5}
    columns |= {"jpt_1": 60.0, "jeta_1": 2.0, "jphi_1": 1.0, "jpt_2": 40.0, "jeta_2": 0.6, "jphi_2": 3.05}
    columns |= dict.fromkeys(("mt_1", "mt_2", "m_vis", "pt_vis"), 50.0)
    table = {
        name: np.full(len(events), value, dtype=np.int32 if isinstance(value, int) else np.float32)
        for name, value in columns.items()
    }
    for index, name in enumerate(("pt_1", "pt_met", "jbtag_1")):
        table[name] = np.array([event[index] for event in events], dtype=np.float32)
    path = folder / "skim.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: values.dtype for name, values in table.items()})
        file["Events"].extend(table)
    metadata = {"is_data": False, "process": "W", "scale": 0.1}
    return {"W": {"files": {str(path): "Events"}, "metadata": metadata}}


def nanoaod(folder, events):
    """Write a NanoAOD-like file; each event is (muon pts, electron pts, jets as (pt, eta, b score))."""
    muons, electrons, jets = ([event[k] for event in events] for k in range(3))

    def leptons(pts, isolation):
        pt = ak.values_astype(ak.Array([*pts, [1.0]])[:-1], np.float32)
        fields = {
            "pt": pt,
            "eta": pt * 0,
            "phi": pt * 0,
            "mass": pt * 0,
            "charge": ak.values_astype(pt * 0, np.int32),
        }
        return ak.zip(fields | {isolation: pt * 0})

    values = ak.Array([*jets, [(1.0, 1.0, 1.0)]])[:-1]
    pt, eta, score = (ak.values_astype(values[k], np.float32) for k in "012")
    fields = {"pt": pt, "eta": eta, "phi": pt * 0 + np.float32(2), "mass": pt * 0, "btagDeepFlavB": score}
    n = len(events)
    tree = {
        "Muon": leptons(muons, "pfRelIso04_all"),
        "Electron": leptons(electrons, "pfRelIso03_all"),
        "Jet": ak.zip(fields),
        "MET_pt": np.full(n, 40, np.float32),
        "MET_phi": np.full(n, 1, np.float32),
        "run": np.ones(n, np.uint32),
        "luminosityBlock": np.ones(n, np.uint32),
        "event": np.arange(n, dtype=np.uint64),
        "genWeight": np.where(np.arange(n) % 2, -2.0, 2.0).astype(np.float32),
    }
    path = folder / "nano.root"
    with uproot.recreate(path) as file:
        types = {name: v.type.content if isinstance(v, ak.Array) else v.dtype for name, v in tree.items()}
        file.mktree("Events", types)
        file["Events"].extend(tree)
    metadata = {"is_data": False, "process": "ttbar", "xsec": 100.0, "lumi": 10.0, "sumw": 500.0}
    return {"ttbar": {"files": {str(path): "Events"}, "metadata": metadata}}


@pytest.fixture(scope="module")
def data_folder():
    """Folder of the real files."""
    folder = os.environ.get("COFFEA_CONSERV_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("COFFEA_CONSERV_DATA does not name a folder of real files")
    return Path(folder)


@pytest.fixture(scope="module")
def htautau_output(data_folder):
    """Plain analysis of the real files, without the larger ones."""
    return run(htautau.fileset(data_folder, larger=False), htautau.HiggsToTauTau(), BaseSchema, 100_000)


def total(output, region, name="njets"):
    """Real data, simulation and QCD estimate of a region by bin, with underflow and overflow."""
    histogram = output["histograms"][name]
    parts = {
        process: histogram[{"process": process, "region": region}].values(flow=True)
        for process in histogram.axes["process"]
    }
    data = parts.pop("data")
    return data, sum(parts.values()), htautau.qcd_estimate(histogram, region).values(flow=True)


# --- H → ττ -----------------------------------------------------------------------------------------------


def test_fileset_names_what_is_missing(tmp_path):
    """The message names the file and where it is to be had."""
    with pytest.raises(FileNotFoundError, match=r"TTbarSkim\.root.*opendata\.cern\.ch/record/12350"):
        htautau.fileset(tmp_path)


def test_fileset_never_adds_a_subset_to_its_larger_file(tmp_path):
    """Where a larger file exists it replaces the small one at a tenth of the weight."""
    (tmp_path / "htautau" / "full").mkdir(parents=True)
    for sample in htautau.SAMPLES.values():
        (tmp_path / "htautau" / f"{sample.file}.root").touch()
    (tmp_path / "htautau" / "full" / "W1JetsToLNuSkim.root").touch()
    files = htautau.fileset(tmp_path)
    assert [Path(path).parent.name for path in files["W1"]["files"]] == ["full"]
    assert files["W1"]["metadata"]["scale"] == 0.1
    assert files["W2"]["metadata"]["scale"] == 1.0
    assert files == htautau.fileset(tmp_path / "htautau")
    assert htautau.fileset(tmp_path, larger=False)["W1"]["metadata"]["scale"] == 1.0


EVENTS = [(20.0, 10.0, 0.1), (30.0, 20.0, 0.1), (40.0, 60.0, 0.1), (40.0, 60.0, 0.9)]
"""m_T = 28, 49, 98 and 98 GeV; the last one with a b jet."""


def test_regions_by_transverse_mass_and_charge(tmp_path):
    """Each event lands in the regions that its m_T, b score and charges say."""
    output = run(skim(tmp_path, EVENTS), htautau.HiggsToTauTau(), BaseSchema)
    expected = {"inclusive": 4, "signal": 1, "wjets": 2, "ttbar": 1}
    assert output["cutflow"]["W"] == expected | {f"{name}_ss": 0 for name in expected}
    same = run(skim(tmp_path, EVENTS, charge=1), htautau.HiggsToTauTau(), BaseSchema)
    assert same["cutflow"]["W"]["wjets_ss"] == 2
    assert output["histograms"]["pt_1"][{"process": "W", "region": "wjets"}].sum().value == pytest.approx(0.1)


def test_context_holds_the_band_of_the_region(tmp_path):
    """An event may move inside its m_T band only, and a jet that is the tau is missing."""
    recorder = Recorder()
    output = run(skim(tmp_path, EVENTS), htautau.HiggsToTauTau(recorder), BaseSchema)
    ((columns, extra),) = recorder.calls
    assert output["conserv"] == {"chunks": 1}
    assert extra["context"]["mt_low"].tolist() == [0, 30, 70, 70]
    assert extra["context"]["mt_high"].tolist() == [30, 70, math.inf, math.inf]
    assert (columns["jpt_2"] == -999).all()
    assert (columns["jpt_1"] == 60).all()
    assert set(extra["regions"]) == {r + s for r in ("signal", "wjets", "ttbar") for s in ("", "_ss")}
    np.testing.assert_allclose(extra["weight"], 0.05)


def test_valid_forbids_what_leaves_the_selection(tmp_path):
    """Unmoved events are valid; leaving the m_T band, the threshold or the tau's distance is not."""
    recorder = Recorder()
    run(skim(tmp_path, EVENTS), htautau.HiggsToTauTau(recorder), BaseSchema)
    ((columns, extra),) = recorder.calls
    x = {name: torch.tensor(value) for name, value in {**columns, **extra["context"]}.items()}
    assert htautau_inputs.valid(x).all()
    assert htautau_inputs.valid(x | {"pt_met": x["pt_met"] * 1.2}).tolist() == [False, True, True, True]
    assert not htautau_inputs.valid(x | {"pt_1": torch.full((4,), 16.0)}).any()
    assert not htautau_inputs.valid(x | {"eta_2": x["eta_1"], "phi_2": x["phi_1"]}).any()
    assert not htautau_inputs.valid(x | {"jpt_1": torch.full((4,), 20.0)}).any()


@pytest.mark.parametrize("count", [0, 1])
def test_short_skims(tmp_path, count):
    """A chunk of no or one event passes through the whole processor."""
    recorder = Recorder()
    output = run(skim(tmp_path, EVENTS[:count]), htautau.HiggsToTauTau(recorder), BaseSchema)
    if count:
        assert output["cutflow"]["W"]["signal"] == 1
    assert recorder.calls
    assert all(len(columns["pt_1"]) == count for columns, _ in recorder.calls)


@pytest.mark.data
def test_control_regions_of_the_real_files(htautau_output):
    """Data over simulation is what the skims give: 0.98, 220/263, and with QCD 1.02 and 1.06."""
    data, simulation, _ = total(htautau_output, "wjets")
    assert data.sum() == 4134
    assert simulation.sum() == pytest.approx(4212, abs=1)
    data, simulation, _ = total(htautau_output, "ttbar")
    assert data.sum() == 220
    assert simulation.sum() == pytest.approx(263, abs=1)
    for region, ratio in (("inclusive", 1.02), ("signal", 1.06)):
        data, simulation, qcd = total(htautau_output, region)
        assert data.sum() / (simulation.sum() + qcd.sum()) == pytest.approx(ratio, abs=0.005)


@pytest.mark.data
def test_jet_multiplicity_is_mismodelled(htautau_output):
    """The W region shows the known trend of data over simulation with the number of jets."""
    data, simulation, _ = total(htautau_output, "wjets")
    data, simulation = data[1:-1], simulation[1:-1]  # 0 … 7 jets
    ratio = [*(data[:5] / simulation[:5]), data[5:].sum() / simulation[5:].sum()]
    assert ratio == pytest.approx([1.27, 1.00, 0.82, 0.67, 0.48, 0.26], abs=0.006)


@pytest.mark.data
@pytest.mark.parametrize("file", ["TTbarSkim", "Run2012B_TauPlusXSkim"])
def test_derived_quantities_equal_the_branches(data_folder, file):
    """The torch functions give the derived branches of the real files."""
    path = next(data_folder.rglob(f"{file}.root"))
    names = (*htautau.COLUMNS, "jm_1", "jm_2", "mt_1", "mt_2", "m_vis", "pt_vis", "mjj")
    branches = uproot.open(path)["Events"].arrays(names, library="np")
    x = {name: torch.tensor(branches[name].astype(np.float32)) for name in names}
    for name, (function, _) in htautau_inputs.watch().items():
        value = function(x)
        defined = torch.isfinite(value)
        assert torch.equal(defined, x[name] > -900)
        torch.testing.assert_close(value[defined], x[name][defined], rtol=2e-5, atol=3e-3)


@pytest.mark.data
def test_real_events_are_valid_and_in_range(data_folder):
    """Every event of the real files satisfies what an attacked event has to satisfy."""
    recorder = Recorder()
    files = {
        name: entry for name, entry in htautau.fileset(data_folder).items() if name in ("TT", "DY", "W2")
    }
    run(files, htautau.HiggsToTauTau(recorder), BaseSchema, 100_000)
    for columns, extra in recorder.calls:
        x = {name: torch.tensor(value) for name, value in {**columns, **extra["context"]}.items()}
        assert htautau_inputs.valid(x).all()
        assert extra["fold"].mean() == pytest.approx(0.5, abs=0.05)


# --- ttbar / WW -------------------------------------------------------------------------------------------

TAGGED, LIGHT = (50.0, 1.0, 0.9), (40.0, -1.0, 0.1)
NANO = [
    ([30.0], [], [LIGHT, TAGGED, (60.0, 0.0, 0.8)]),  # two tags, three jets, not ordered
    ([], [30.0], [(60.0, 0.5, 0.1), LIGHT]),  # no tag
    ([30.0], [30.0], [TAGGED, LIGHT]),  # two leptons
    ([20.0], [], [TAGGED, LIGHT]),  # soft lepton
    ([30.0], [], [TAGGED, (20.0, 0.0, 0.9)]),  # one jet
    ([30.0], [], [TAGGED, LIGHT]),  # one tag: in no region
]


def test_lepton_and_jet_selection(tmp_path):
    """The cutflow of hand-made events is what their comments say; weights keep their sign."""
    output = run(nanoaod(tmp_path, NANO), ttbar_ww.LeptonJets(), ttbar_ww.QuietNanoAODSchema)
    expected = {"all": 6, "one lepton": 4, "two jets": 3, "tt_2b": 1, "ww_0b": 1}
    assert output["cutflow"]["ttbar"] == expected
    histogram = output["histograms"]["njets"]
    assert histogram[{"process": "ttbar", "region": "tt_2b"}].sum().value == pytest.approx(2 * 100 * 10 / 500)
    assert histogram[{"process": "ttbar", "region": "ww_0b"}].sum().value == pytest.approx(-4)


def test_jets_are_ordered_and_padded(tmp_path):
    """Jets come ordered by transverse momentum; absent ones are marked; regions do not overlap."""
    recorder = Recorder()
    run(nanoaod(tmp_path, NANO), ttbar_ww.LeptonJets(recorder), ttbar_ww.QuietNanoAODSchema)
    ((columns, extra),) = recorder.calls
    assert tuple(columns) == ttbar_ww.COLUMNS
    assert columns["jet1_pt"].tolist() == [60, 60, 50]
    assert columns["jet3_pt"].tolist() == [40, -999, -999]
    assert columns["jet4_btag"].tolist() == [-999, -999, -999]
    assert columns["nbtags"].tolist() == [2, 0, 1]
    assert extra["regions"]["tt_2b"].tolist() == [True, False, False]
    assert extra["regions"]["ww_0b"].tolist() == [False, True, False]


def test_a_jet_on_the_lepton_is_not_a_jet(tmp_path):
    """Jets within ΔR < 0.4 of the lepton do not count."""
    files = nanoaod(tmp_path, [([30.0], [], [TAGGED, LIGHT])])
    path = next(iter(files["ttbar"]["files"]))
    tree = uproot.open(path)["Events"].arrays(library="ak")
    moved = {name: tree[name] for name in tree.fields if not name.startswith(("n", "Jet_"))}
    jets = {name: tree[f"Jet_{name}"] for name in ("pt", "eta", "mass", "btagDeepFlavB")}
    grouped = {key: {} for key in ("Muon", "Electron")}
    for name in list(moved):
        group, _, field = name.partition("_")
        if group in grouped:
            grouped[group][field] = moved.pop(name)
    moved |= {group: ak.zip(fields) for group, fields in grouped.items()}
    moved["Jet"] = ak.zip(jets | {"phi": jets["pt"] * 0, "eta": jets["eta"] * np.float32(0.1)})
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: value.type.content for name, value in moved.items()})
        file["Events"].extend(moved)
    output = run(files, ttbar_ww.LeptonJets(), ttbar_ww.QuietNanoAODSchema)
    assert output["cutflow"]["ttbar"]["two jets"] == 0


@pytest.mark.parametrize("count", [0, 1])
def test_short_nanoaod_files(tmp_path, count):
    """A chunk of no or one event passes through the whole processor."""
    recorder = Recorder()
    output = run(nanoaod(tmp_path, NANO[:count]), ttbar_ww.LeptonJets(recorder), ttbar_ww.QuietNanoAODSchema)
    if count:
        assert output["cutflow"]["ttbar"]["tt_2b"] == 1
    for columns, extra in recorder.calls:
        assert all(value.shape == (count,) for value in {**columns, **extra["context"]}.values())


def test_valid_keeps_tags_order_and_thresholds(tmp_path):
    """Unmoved events are valid; a changed tag, a changed order or a soft jet is not."""
    recorder = Recorder()
    run(nanoaod(tmp_path, NANO), ttbar_ww.LeptonJets(recorder), ttbar_ww.QuietNanoAODSchema)
    ((columns, extra),) = recorder.calls
    x = {name: torch.tensor(value) for name, value in {**columns, **extra["context"]}.items()}
    valid = ttbar_ww_inputs.valid
    assert valid(x).all()
    assert not valid(x | {"jet1_btag": 1 - x["jet1_btag"]}).any()
    assert valid(x | {"jet1_btag": torch.where(x["jet1_btag"] > 0.3, 0.4, 0.2)}).all()
    assert not valid(x | {"jet1_pt": x["jet2_pt"] - 1}).any()
    assert not valid(x | {"jet2_pt": torch.full((3,), 24.0)}).any()
    assert not valid(x | {"lep_eta": x["jet1_eta"], "lep_phi": x["jet1_phi"]}).any()
    assert valid(x | {"jet5_pt": torch.full((3,), 30.0)}).tolist() == [True, True, True]


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:Branch Photon_:RuntimeWarning")
def test_true_nanoaod_files_are_read(data_folder):
    """A true CMS file passes through the processor."""
    path = next(data_folder.rglob("*NanoAODv5_sample*.root"), None)
    if path is None:
        pytest.skip("no NanoAODv5_sample in COFFEA_CONSERV_DATA")
    metadata = {"is_data": False, "process": "ttbar", "xsec": 1.0, "lumi": 1.0, "sumw": 1.0}
    files = {"ttbar": {"files": {str(path): "Events"}, "metadata": metadata}}
    output = run(files, ttbar_ww.LeptonJets(), ttbar_ww.QuietNanoAODSchema)
    assert output["cutflow"]["ttbar"]["two jets"] > 50
