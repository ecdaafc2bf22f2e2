"""Tests of the example's event generation: reproducible, cached, normalised, with a known detector."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from itertools import pairwise

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory

from coffea_conserv import ConfigurationError
from example_analysis import cache, detector, generate, pythia
from example_analysis.generate import GenerationConfig

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of SWIG on newer Pythons
    for extra in ("pythia8mc", "fastjet"):
        pytest.importorskip(extra, reason=f"{extra} of the extra 'generate' is not installed")

EVENTS = {"ttbar": 300, "WW": 300, "data": 200}
SHARE = 0.2


class QuietSchema(NanoAODSchema):
    """NanoAOD without the warnings for collections that the files do not have."""

    warn_missing_crossrefs = False


def config_in(folder, **changes):
    """Return a small configuration."""
    values = {"events": EVENTS, "jobs": 1, "negative_share": SHARE} | changes
    return GenerationConfig(out=folder, **values)


def read(fileset, name):
    """Return all columns of a dataset."""
    ((path, tree),) = fileset[name]["files"].items()
    with uproot.open(f"{path}:{tree}") as events:
        return events.arrays()


def identity(fileset, name):
    """Return what coffea tells the file of a dataset by."""
    (path,) = fileset[name]["files"]
    with uproot.open(path) as file:
        return file.file.uuid


def same(first, second):
    """Tell whether two sets of columns are equal to the last bit."""
    return first.fields == second.fields and all(
        ak.array_equal(first[name], second[name], equal_nan=True) for name in first.fields
    )


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Generate once: the configuration and its fileset."""
    config = config_in(tmp_path_factory.mktemp("generated"))
    return config, generate.generate(config, progress=False)


def test_events_do_not_depend_on_the_number_of_jobs(generated, tmp_path):
    """Two processes give the arrays that one gives from the same seed."""
    config, fileset = generated
    other = generate.generate(dataclasses.replace(config, out=tmp_path, jobs=2), progress=False)
    assert list(other) == list(fileset) == ["ttbar", "WW", "data"]
    for name in fileset:
        assert same(read(fileset, name), read(other, name)), name
        assert fileset[name]["metadata"] == other[name]["metadata"]
        assert identity(fileset, name) == identity(other, name)  # seeds of attacks come from it
    assert len({identity(fileset, name) for name in fileset}) == 3
    seeded = dataclasses.replace(config, seed=config.seed + 1)
    assert generate._identity(seeded, "WW") != generate._identity(config, "WW")


def test_another_seed_or_batch_gives_other_events():
    """The seed of a batch comes from the configuration's seed and from the batch."""
    task = generate.Task("WW", 0, 0, 50, seed=1, negative_share=0.1, mpi=False)
    met = [
        generate.run_task(one)["MET_pt"]
        for one in (task, task, dataclasses.replace(task, seed=2), dataclasses.replace(task, index=2))
    ]
    assert ak.array_equal(met[0], met[1])
    assert not ak.array_equal(met[0], met[2])
    assert not ak.array_equal(met[0], met[3])


@pytest.mark.parametrize("name", EVENTS)
def test_files_open_as_nanoaod(generated, name):
    """Virtual NanoEvents have sorted jets, matching counts, finite values and unique event numbers."""
    _, fileset = generated
    events = NanoEventsFactory.from_root(
        fileset[name]["files"], schemaclass=QuietSchema, mode="virtual"
    ).events()
    raw = read(fileset, name)
    assert len(events) == len(raw) == EVENTS[name]
    assert len(set(events.event.to_list())) == EVENTS[name]
    assert ("genWeight" in events.fields) == (name != "data")
    for collection in ("Jet", "Muon", "Electron"):
        pt = events[collection].pt
        assert ak.all(pt[:, 1:] <= pt[:, :-1])
        assert ak.num(pt).to_list() == raw[f"n{collection}"].to_list()
    for branch in raw.fields:
        assert np.all(np.isfinite(ak.to_numpy(ak.ravel(raw[branch])).astype(float))), branch
    assert "float32" in str(events.Jet.btagDeepFlavB.type)
    assert {"pfRelIso04_all"} <= set(events.Muon.fields)
    assert {"pfRelIso03_all"} <= set(events.Electron.fields)
    assert ak.all(events.Jet.hadronFlavour == 0) == (name == "data")


def test_metadata_normalise_the_simulation_to_the_pseudo_data(generated):
    """Weights of all simulated events add up to the number of pseudo-data events."""
    config, fileset = generated
    expected = 0.0
    negative = 0
    for name in ("ttbar", "WW"):
        metadata = fileset[name]["metadata"]
        weight = ak.to_numpy(read(fileset, name).genWeight).astype(np.float64)
        assert metadata["sumw"] == pytest.approx(weight.sum(), rel=1e-12)
        assert np.sum(np.abs(weight)) ** 2 / np.sum(weight**2) > 0.5 * len(weight)
        assert len(np.unique(np.abs(weight))) > 0.9 * len(weight)
        expected += np.sum(weight) * metadata["xsec"] * metadata["lumi"] / metadata["sumw"]
        negative += np.sum(weight < 0)
    total = EVENTS["ttbar"] + EVENTS["WW"]
    assert expected == pytest.approx(EVENTS["data"])
    assert abs(negative - SHARE * total) < 4 * np.sqrt(SHARE * (1 - SHARE) * total)
    assert fileset["data"]["metadata"]["is_data"]
    assert not fileset["WW"]["metadata"]["is_data"]
    assert cache.read(config.out) == fileset
    stored = json.loads((config.out / cache.FILESET).read_text())
    assert {name: list(entry["files"]) for name, entry in stored.items()} == {
        name: [f"{name}.root"] for name in fileset
    }


def test_signs_keep_the_expected_sum():
    """Signed weights have the magnitude 1 / (1 - 2P) and, on average, the sum of the unsigned ones."""
    weight = generate.signed(np.ones(100_000), 0.1, np.random.default_rng(1))
    assert np.unique(np.round(weight, 12)).tolist() == [-1.25, 1.25]
    assert weight.mean() == pytest.approx(1.0, abs=4 * 1.25 * 0.6 / np.sqrt(100_000))
    assert generate.signed(np.ones(3), 0.0, np.random.default_rng(1)).tolist() == [1, 1, 1]


def test_pseudo_data_has_another_jet_scale_and_shower(monkeypatch):
    """Batches of pseudo-data mix both processes with the other setting, simulation has the default one."""
    seen = []

    def generator(setting, events):
        seen.append((setting.process, events, setting.wimpy, setting.biased))
        yield events

    def response(chunk, scale, rng):
        seen.append(scale)
        raise InterruptedError

    monkeypatch.setattr(generate, "particles", generator)
    monkeypatch.setattr(generate, "reconstruct", response)
    for name in ("ttbar", "data"):
        with pytest.raises(InterruptedError):
            generate.run_task(generate.Task(name, 0, 0, 100, seed=1, negative_share=0.1, mpi=False))
    assert seen == [("ttbar", 100, False, True), 1.0, ("ttbar", 89, True, False), 0.97]
    assert "SpaceShower:pTmaxMatch=1" in pythia.Setting("WW", 1, 1, False, True, False).commands()


def test_tasks_cover_all_events_once():
    """Batches join without gap, in an even number; data has the ratio of the cross sections."""
    found = generate.tasks(GenerationConfig(out="unused", events={"data": 18_001, "WW": 1}))
    data = [task for task in found if task.dataset == "data"]
    assert [data[0].first, data[-1].stop, len(data)] == [0, 18_001, 10]
    assert all(before.stop == after.first for before, after in pairwise(data))
    ttbar = sum(task.shares()["ttbar"] for task in data)
    assert ttbar == round(18_001 * pythia.XSEC["ttbar"] / sum(pythia.XSEC.values()))
    assert [task.shares() for task in found if task.dataset == "WW"] == [{"WW": 1}]


def test_same_configuration_is_reused(generated, monkeypatch):
    """A second call touches no file and asks no generator, even if Pythia is gone."""
    config, fileset = generated
    before = {path: path.stat().st_mtime_ns for path in config.out.iterdir()}
    monkeypatch.setitem(sys.modules, "pythia8mc", None)
    assert generate.generate(dataclasses.replace(config, jobs=7), progress=False) == fileset
    assert {path: path.stat().st_mtime_ns for path in config.out.iterdir()} == before


def test_another_configuration_regenerates(tmp_path):
    """A changed seed and a damaged file are noticed; the manifest follows."""
    config = config_in(tmp_path, events={"WW": 20})
    first = read(generate.generate(config, progress=False), "WW")
    changed = dataclasses.replace(config, seed=2)
    second = read(generate.generate(changed, progress=False), "WW")
    assert not same(first, second)
    assert cache.load(tmp_path, config.physics) is None
    (tmp_path / "WW.root").write_bytes(b"half")
    assert cache.load(tmp_path, changed.physics) is None
    assert same(read(generate.generate(changed, progress=False), "WW"), second)
    content = bytearray((tmp_path / "WW.root").read_bytes())
    content[len(content) // 2] ^= 255  # as long as it was
    (tmp_path / "WW.root").write_bytes(bytes(content))
    assert cache.load(tmp_path, changed.physics) is None
    assert same(read(generate.generate(changed, progress=False), "WW"), second)


def test_interrupted_generation_does_not_look_finished(tmp_path, monkeypatch):
    """A failure in a later batch leaves no manifest and no half file, and keeps an older complete set."""
    config = config_in(tmp_path, events={"WW": 20})
    work = generate.run_task

    def failing(task):
        if task.index == 1:
            raise InterruptedError
        return work(task)

    monkeypatch.setattr(generate, "run_task", failing)
    with pytest.raises(InterruptedError):
        generate.generate(config, progress=False)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(generate, "run_task", work)
    fileset = generate.generate(config, progress=False)
    monkeypatch.setattr(generate, "run_task", failing)
    with pytest.raises(InterruptedError):
        generate.generate(dataclasses.replace(config, seed=2), progress=False)
    assert cache.load(tmp_path, config.physics) == fileset


def test_unreadable_manifest_is_ignored(tmp_path, caplog):
    """A manifest that is no JSON counts as none, with a warning."""
    (tmp_path / cache.MANIFEST).write_text("{")
    assert cache.load(tmp_path, {}) is None
    assert "generated again" in caplog.text


def test_moved_folder_is_still_valid(generated, tmp_path):
    """The fileset has the present place of the files."""
    config, _ = generated
    for path in config.out.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    moved = generate.generate(dataclasses.replace(config, out=tmp_path), progress=False)
    assert list(moved["WW"]["files"]) == [str((tmp_path / "WW.root").resolve())]
    assert cache.read(tmp_path) == moved


def test_a_fileset_of_absolute_paths_is_made_again(generated, tmp_path):
    """What an earlier version left in a copied folder would read the original: generate mends it."""
    config, fileset = generated
    for path in config.out.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / cache.FILESET).write_text(json.dumps(fileset))
    with pytest.raises(ConfigurationError, match=f"outside of its folder: {config.out}/.*; make it again"):
        cache.read(tmp_path)
    generate.generate(dataclasses.replace(config, out=tmp_path), progress=False)
    assert all(
        str(tmp_path.resolve()) in path for entry in cache.read(tmp_path).values() for path in entry["files"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"events": {"ttbar": 0}}, "0 events asked of 'ttbar'"),
        ({"events": {}}, "no events asked"),
        ({"events": {"ZZ": 5}}, "unknown process 'ZZ' in events: choose from ttbar, WW, data"),
        ({"negative_share": 0.5}, "negative_share is 0.5"),
        ({"jobs": 0}, "jobs is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_configuration_is_refused(tmp_path, change, message):
    """Each mistake is named when the configuration is made."""
    with pytest.raises(ValueError, match=message):
        config_in(tmp_path, **change)


@pytest.mark.parametrize("module", ["pythia8mc", "fastjet"])
def test_missing_module_names_the_extra(tmp_path, monkeypatch, module):
    """Without the optional libraries the message says what to install, before any process starts."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module} is needed .*coffea-conserv\[generate\]"):
        generate.generate(config_in(tmp_path), progress=False)
    with pytest.raises(ImportError, match=module):
        pythia.require(module)


def test_refused_setting_is_named():
    """Pythia goes on after a wrong setting; the example does not."""
    with pytest.raises(ValueError, match="refuses the setting 'Top:nonsense=on'"):
        pythia.configure(("Print:quiet=on", "Top:nonsense=on"))


@pytest.mark.parametrize("process", pythia.XSEC)
def test_cross_sections_agree_with_the_generator(process):
    """The constants are twice the estimate for one charge, within its uncertainty."""
    setting = pythia.Setting(process, 1, 5, biased=False, wimpy=False, mpi=False)
    generator = pythia.configure((*setting.commands(), "PartonLevel:all=off"))
    for _ in range(4000):
        generator.next()
    info = generator.infoPython()
    picobarn = 2e9
    assert abs(picobarn * info.sigmaGen() - pythia.XSEC[process]) < 4 * picobarn * info.sigmaErr()


def test_hadron_flavour_reads_identity_codes():
    """B and c hadrons, excited ones included; neither diquarks, quarks nor light hadrons."""
    codes = np.array([511, 5122, 541, 553, 421, 10411, 443, 4122, 5101, 4203, 5, 211, 2212, 22, 11])
    assert pythia.hadron_flavour(codes).tolist() == [5] * 4 + [4] * 4 + [0] * 7


def test_resolutions_have_known_values():
    """Each formula at a momentum where it can be worked out by hand."""
    assert detector.jet_resolution(100.0) == pytest.approx(np.sqrt(0.0009 + 0.0064 + 0.0016))
    assert detector.muon_resolution(100.0) == pytest.approx(0.02)
    assert detector.electron_resolution(100.0) == pytest.approx(np.sqrt(1e-4 + 4.9e-5))
    assert detector.MUON.resolution(50.0) == detector.muon_resolution(50.0)
    assert detector.ELECTRON.resolution(50.0) == detector.electron_resolution(50.0)


def event(*rows):
    """Return particles of one event from rows (id, pt, eta, phi), massless."""
    columns = np.array(rows, dtype=float).reshape(-1, 4).T
    identity, pt, eta, phi = columns
    fields = {"id": identity.astype(np.int32), "pt": pt, "eta": eta, "phi": phi}
    fields |= {
        "px": pt * np.cos(phi),
        "py": pt * np.sin(phi),
        "pz": pt * np.sinh(eta),
        "E": pt * np.cosh(eta),
    }
    visible = ak.unflatten(ak.zip(fields), [len(pt)])
    empty = ak.unflatten(
        ak.zip({"flavour": np.zeros(0, np.int32), "eta": np.zeros(0), "phi": np.zeros(0)}), [0]
    )
    return pythia.Particles(visible, empty, np.ones(1))


@pytest.fixture
def perfect(monkeypatch):
    """Make a detector without smearing, noise or losses."""
    monkeypatch.setattr(detector, "jet_resolution", lambda pt: 0 * pt)
    monkeypatch.setattr(detector, "muon_resolution", lambda pt: 0 * pt)
    monkeypatch.setattr(detector, "soft_noise", lambda total, rng: (0 * total, 0 * total))
    monkeypatch.setattr(detector, "MUON", dataclasses.replace(detector.MUON, efficiency=1.0))


def test_missing_momentum_balances_everything_visible(perfect):
    """Two jets, an isolated muon and a soft photon: objects are themselves and MET is minus their sum."""
    rows = (
        (22, 100.0, 0.0, 0.0),
        (22, 60.0, 1.0, np.pi / 2),
        (-13, 40.0, -1.0, np.pi),
        (22, 2.0, 2.0, -np.pi / 2),
    )
    found = detector.reconstruct(event(*rows), 1.0, np.random.default_rng(1))
    assert found["Jet"].pt.to_list() == [pytest.approx([100.0, 60.0])]
    assert found["Muon"].pt.to_list() == [pytest.approx([40.0])]
    assert found["Muon"].charge.to_list() == [[1]]
    assert found["Muon"].pfRelIso04_all.to_list() == [pytest.approx([0.0], abs=1e-12)]
    assert found["MET_pt"] == pytest.approx(np.hypot(60.0, 58.0))
    assert found["MET_phi"] == pytest.approx(np.arctan2(-58.0, -60.0))


def test_jet_scale_multiplies_jets_and_reaches_the_missing_momentum(perfect):
    """A scale of 0.97 takes 3 % from the jets, and MET sees it."""
    rows = ((22, 100.0, 0.0, 0.0), (22, 100.0, 0.5, np.pi / 2))
    found = detector.reconstruct(event(*rows), 0.97, np.random.default_rng(1))
    assert found["Jet"].pt.to_list() == [pytest.approx([97.0, 97.0])]
    assert found["MET_pt"] == pytest.approx(97.0 * np.sqrt(2))


def test_response_of_nothing_is_nothing():
    """An event without particles has no objects; only the noise of the soft term is missing momentum."""
    found = detector.reconstruct(event(), 1.0, np.random.default_rng(1))
    assert [len(found[name][0]) for name in ("Jet", "Muon", "Electron")] == [0, 0, 0]
    assert 0 < found["MET_pt"][0] < 10


def test_isolation_adds_neighbours_but_not_the_lepton():
    """A 10 GeV neighbour at distance 0.35 across the phi boundary counts in a cone of 0.4, not of 0.3."""
    visible = event((13, 50.0, 0.0, np.pi - 0.1), (22, 10.0, 0.0, -np.pi + 0.25), (22, 9.0, 3.0, 0.0)).visible
    assert detector.isolation(visible[:, :1], visible, 0.4).to_list() == [pytest.approx([0.2])]
    assert detector.isolation(visible[:, :1], visible, 0.3).to_list() == [pytest.approx([0.0])]


def test_jet_flavour_prefers_b():
    """A b hadron in the cone wins over a c hadron; far hadrons do not count."""
    jet = ak.Array([[{"pt": 50.0, "eta": 0.0, "phi": 0.0}, {"pt": 40.0, "eta": 2.0, "phi": 0.0}], []])
    hadrons = ak.Array(
        [[{"flavour": 4, "eta": 0.1, "phi": 0.0}, {"flavour": 5, "eta": 0.0, "phi": 0.2}], []],
    )
    assert detector.flavours(jet, hadrons).to_list() == [[5, 0], []]
    assert detector.flavours(jet, hadrons[:, :1]).to_list() == [[4, 0], []]


def test_tag_scores_separate_flavours():
    """Shares above a score of 0.3 are those of the documented Beta distributions."""
    flavour = np.repeat(np.array([5, 4, 0], dtype=np.int32), 20_000)
    score = detector.tag_scores(flavour, np.random.default_rng(1))
    shares = [np.mean(score[flavour == code] > 0.3) for code in (5, 4, 0)]
    assert shares == pytest.approx([0.980, 0.703, 0.086], abs=0.015)
    assert 0 <= score.min() <= score.max() <= 1
