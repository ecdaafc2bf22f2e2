"""Tests of the training: weights, AUC, reproducibility, and what the classifiers reach."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch
import uproot

from example_analysis import train as training
from example_analysis.inputs import read_fileset
from example_analysis.train import (
    ANALYSES,
    Sample,
    Settings,
    auc,
    read_events,
    train,
    training_weights,
)
from processors import ttbar_ww, ttbar_ww_inputs


def toy_files(folder, events=600):
    """Write NanoAOD-like files in which signal has harder jets, with one negative weight in ten."""
    random = np.random.default_rng(5)
    files = {}
    for process, scale in (("ttbar", 60.0), ("WW", 25.0), ("data", 40.0)):
        pt = (25 + random.exponential(scale, (events, 3))).astype(np.float32)
        angles = {
            name: random.uniform(-w, w, (events, 3)).astype(np.float32)
            for name, w in (("eta", 2), ("phi", 3))
        }
        score = random.uniform(0, 1, (events, 3)).astype(np.float32)
        jets = {"pt": pt, **angles, "mass": pt * 0, "btagDeepFlavB": score}
        lepton = {name: random.uniform(-2, 2, (events, 1)).astype(np.float32) for name in ("eta", "phi")}
        lepton |= {"pt": np.full((events, 1), 40, np.float32), "mass": lepton["eta"] * 0}
        lepton |= {"charge": np.ones((events, 1), np.int32)}
        nobody = {name: values[:, :0] for name, values in lepton.items()}
        tree = {
            "Jet": jagged(jets),
            "Muon": jagged(lepton | {"pfRelIso04_all": lepton["eta"] * 0}),
            "Electron": jagged(nobody | {"pfRelIso03_all": nobody["eta"]}),
            "MET_pt": random.uniform(0, 80, events).astype(np.float32),
            "MET_phi": random.uniform(-3, 3, events).astype(np.float32),
            "run": np.ones(events, np.uint32),
            "luminosityBlock": np.ones(events, np.uint32),
            "event": np.arange(events, dtype=np.uint64),
        }
        if process != "data":
            tree["genWeight"] = np.where(np.arange(events) % 10, 1.0, -1.0).astype(np.float32)
        path = folder / f"{process}.root"
        with uproot.recreate(path) as file:
            types = {name: v.type.content if isinstance(v, ak.Array) else v.dtype for name, v in tree.items()}
            file.mktree("Events", types)
            file["Events"].extend(tree)
        metadata = {"is_data": process == "data", "process": process, "xsec": 1.0, "lumi": 1.0, "sumw": 100.0}
        files[process] = {"files": {path.name: "Events"}, "metadata": metadata}
    (folder / "fileset.json").write_text(json.dumps(files))
    return read_fileset("ttbar_ww", folder)


def jagged(fields):
    """Zip arrays of shape (events, n) into lists of records."""
    return ak.zip({name: ak.from_regular(ak.Array(values)) for name, values in fields.items()})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Fileset of the toy files."""
    return toy_files(tmp_path_factory.mktemp("toy"))


def test_auc_of_known_scores():
    """Perfect order gives 1, no order ½, reversed order 0; weights count pairs."""
    signal = np.array([True, True, False, False])
    ones = np.ones(4)
    assert auc(np.array([3.0, 4.0, 1.0, 2.0]), signal, ones) == 1
    assert auc(np.zeros(4), signal, ones) == 0.5
    assert auc(np.array([1.0, 2.0, 3.0, 4.0]), signal, ones) == 0
    assert auc(np.array([3.0, 1.0, 2.0, 0.0]), signal, np.array([3.0, 1.0, 1.0, 1.0])) == 7 / 8


def test_training_weights_are_balanced_and_not_negative():
    """Signal and background have the same sum, the mean is 1, and no weight exceeds the clip."""
    weight = np.array([1.0, -1.0, 1.0, 1000.0, *[1.0] * 96])
    signal = np.arange(100) < 2
    sample = Sample(np.zeros((100, 1), np.float32), signal, weight, np.zeros(100, np.int64))
    weights = training_weights(sample, clip=5)
    assert (weights > 0).all()
    assert weights.mean() == pytest.approx(1)
    assert weights[signal].sum() == pytest.approx(weights[~signal].sum(), rel=1e-5)
    mean = np.abs(weight[2:]).mean()
    assert weights[3] / weights[4] == pytest.approx(5 * mean)


def test_events_do_not_depend_on_the_chunks(files):
    """Any chunk size gives the same events in the same order, without real data."""
    whole, parts = (read_events(ANALYSES["ttbar_ww"], files, chunksize) for chunksize in (100_000, 170))
    for name in ("x", "signal", "weight", "fold"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    assert len(whole.x) <= 1200
    assert (whole.weight < 0).any()


def test_signal_and_background_are_both_needed(files):
    """The message says which processes were found."""
    with pytest.raises(ValueError, match=r"signal \('ttbar',\) and background.*\['WW'\]"):
        read_events(ANALYSES["ttbar_ww"], {"WW": files["WW"]})


def test_training_twice_gives_the_same_models(files, tmp_path):
    """The same seed gives the same logits, another one does not; threads are put back."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    analysis, settings = ANALYSES["ttbar_ww"], Settings(epochs=3)
    first, second = (train(analysis, files, tmp_path / name, settings) for name in ("a", "b"))
    other = train(analysis, files, tmp_path / "c", Settings(epochs=3, seed=2))
    assert first.auc == second.auc != other.auc
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    x = torch.from_numpy(read_events(analysis, files).x)
    logits = [torch.export.load(result.models[1]).module()(x) for result in (first, second, other)]
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_model_is_judged_on_its_own_fold(files, tmp_path):
    """The AUC that is written is that of model k on fold k, with the signed weights."""
    analysis = ANALYSES["ttbar_ww"]
    result = train(analysis, files, tmp_path, Settings(epochs=3))
    sample = read_events(analysis, files)
    for fold, path in enumerate(result.models):
        own = sample.take(sample.fold == fold)
        score = torch.export.load(path).module()(torch.from_numpy(own.x)).detach().numpy()
        assert auc(score, own.signal, own.weight) == pytest.approx(result.auc[fold], abs=1e-6)
    summary = json.loads((tmp_path / "training.json").read_text())
    assert summary["auc"] == list(result.auc)
    assert sum(summary["events_in_fold"]["signal"]) == sample.signal.sum()
    assert summary["settings"]["seed"] == 1


def test_command_line(files, tmp_path, capsys):
    """The command line trains, writes, and prints the AUC of each model."""
    folder = Path(next(iter(files["WW"]["files"]))).parent
    training.main(["ttbar_ww", str(folder), str(tmp_path), "--epochs", "1"])
    assert capsys.readouterr().out.count("AUC") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model_fold0.pt2",
        "model_fold1.pt2",
        "training.json",
    ]


def test_missing_files_are_named(tmp_path):
    """Without files the message says how to make them."""
    with pytest.raises(
        FileNotFoundError, match=r"\(fileset\.json\); first do: python -m example_analysis gen"
    ):
        read_fileset("ttbar_ww", tmp_path)


@pytest.mark.data
@pytest.mark.slow
def test_higgs_classifier_on_the_real_files(higgs_training):
    """Higgs against all backgrounds is above 0.90 with one vote per event.

    With the weights of the analysis it is a little below: Z → ττ has 44 % of the weight of the background,
    and ggH against it reaches 0.83 (W + jets: 0.95). Larger and several networks, dropout, and more derived
    quantities end at 0.898 too, on 3,500 simulated Z bosons to learn from; tau isolation would add 0.003.
    """
    assert min(higgs_training.auc_unweighted) >= 0.94
    assert min(higgs_training.auc) > 0.89


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Folder of generated events: the one that EXAMPLE_DATA names, else a small set made now."""
    if os.environ.get("EXAMPLE_DATA"):
        return Path(os.environ["EXAMPLE_DATA"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of SWIG on newer Pythons
        for extra in ("pythia8mc", "fastjet"):
            pytest.importorskip(extra, reason=f"{extra} of the extra 'generate' is not installed")
    from example_analysis import generate  # noqa: PLC0415 - needs the optional generator

    folder = tmp_path_factory.mktemp("events")
    events = {"ttbar": 4000, "WW": 8000, "data": 100}
    generate.generate(generate.GenerationConfig(out=folder, events=events, jobs=1), progress=False)
    return folder


@pytest.mark.slow
def test_top_classifier_on_generated_events(generated, tmp_path):
    """Semileptonic ttbar against WW is an easy task, mostly because of the b scores."""
    result = train(ANALYSES["ttbar_ww"], read_fileset("ttbar_ww", generated), tmp_path / "models")
    assert min(result.auc) > 0.90


@pytest.mark.slow
def test_generated_events_are_valid(generated):
    """Every selected event satisfies what an attacked event has to satisfy."""
    sample = read_events(ANALYSES["ttbar_ww"], read_fileset("ttbar_ww", generated))
    x = {name: torch.from_numpy(column) for name, column in zip(ttbar_ww.COLUMNS, sample.x.T, strict=True)}
    x |= {f"jet{k}_tagged": x[f"jet{k}_btag"] > ttbar_ww.B_TAG for k in ttbar_ww.JETS}
    assert ttbar_ww_inputs.valid(x | {"jet5_pt": torch.zeros(len(sample.x))}).all()
    for function, axis in ttbar_ww_inputs.watch().values():
        value = function(x).numpy()
        assert ((value >= axis.edges[0]) & (value < axis.edges[-1])).mean() > 0.97
