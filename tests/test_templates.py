"""Templates, their ROOT file, and what fit tools make of it."""

from __future__ import annotations

import itertools
import json
import re
import socket
import warnings
from dataclasses import replace

import hist
import numpy as np
import pytest
import uproot
from made_events import SETTINGS, made, scored
from made_results import SAMPLES, result_of

from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.features.feature import Feature
from coffea_conserv.files import replacing
from coffea_conserv.names import VARIATIONS
from coffea_conserv.results.making import make_result
from coffea_conserv.results.result import Settings
from coffea_conserv.sums.sums import Sums, fill_sums
from coffea_conserv.templates.template import LABEL, Template
from coffea_conserv.templates.templates import Templates

RESULT = result_of()
TEMPLATES = RESULT.templates()
KEYS = {
    *(f"{r}/{p}{s}" for r in ("control", "signal") for p in "WZ" for s in ("", "_conservUp", "_conservDown")),
    *(f"signal/QCD{s}" for s in ("", "_conservUp", "_conservDown")),
    "control/data_obs",
    "signal/data_obs",
}
AXES = {
    "regular": hist.axis.Regular(5, 0, 1),
    "variable": hist.axis.Variable([0, 0.1, 0.4, 1]),
    "circular": hist.axis.Regular(6, -np.pi, np.pi, circular=True),
    "integer": hist.axis.Integer(0, 4),
    "no flow": hist.axis.Regular(5, 0, 1, underflow=False, overflow=False),
    "overflow only": hist.axis.Regular(5, 0, 1, underflow=False),
    "integer without flow": hist.axis.Integer(0, 4, underflow=False, overflow=False),
}


def with_flow(histogram):
    """Contents and variances with under- and overflow, 0 where the axis has none."""
    axis, view = histogram.axes[0], histogram.view(flow=True)
    sides = (1 - axis.traits.underflow, 1 - axis.traits.overflow)
    return tuple(np.pad(np.asarray(view[name]), sides) for name in ("value", "variance"))


def filled(axis, seed=1):
    """A weighted histogram with events outside of its range, of both signs."""
    rng = np.random.default_rng(seed)
    made_of = hist.Hist(axis, storage=hist.storage.Weight())
    values = rng.normal(0.5, 1.5, 200)
    values = values if axis.traits.continuous else values.astype(int)
    return made_of.fill(values, weight=rng.normal(1.0, 0.5, 200))


def test_every_process_has_three_templates_and_data_one():
    """Entries come by region, then process; data have no attacked templates."""
    found = [(entry.region, entry.process) for entry in TEMPLATES.entries]
    assert found == [
        ("control", "W"),
        ("control", "Z"),
        ("control", "data"),
        ("signal", "W"),
        ("signal", "Z"),
        ("signal", "QCD"),
        ("signal", "data"),
    ]
    for entry in TEMPLATES.entries:
        assert (entry.up is None) == (entry.down is None) == (entry.process == "data")
    assert (TEMPLATES.quantity, TEMPLATES.title) == ("score", "Score")


@pytest.mark.parametrize("name", ["x", "y", "total", "score"])
def test_templates_are_slices_of_the_histogram(name):
    """Nominal, Up and Down are the histogram of the process, with flow, and know what they are."""
    whole = RESULT.hist(name)
    for entry in RESULT.templates(name).entries:
        for variation, template in zip(VARIATIONS, (entry.nominal, entry.up, entry.down), strict=True):
            if template is None:
                continue
            cell = whole[entry.process, entry.region, variation, :]
            np.testing.assert_array_equal(template.view(flow=True), cell.view(flow=True))
            assert template.axes[0].label == RESULT.title(name)
            assert template.label == (None if variation == "nominal" else LABEL)


def test_regions_are_in_the_order_that_was_asked():
    """Some regions can be left out or re-ordered."""
    chosen = RESULT.templates("score", regions=["signal", "control"])
    assert [entry.region for entry in chosen.entries][::4] == ["signal", "control"]
    assert {entry.region for entry in RESULT.templates(regions=["signal"]).entries} == {"signal"}


def test_relative_templates_are_quotients():
    """Up / nominal and Down / nominal, nan where nominal is empty."""
    sample = scored([0.1, 0.1, 0.6], [0.3, 0.1, 0.9], [0.1, 0.1, 0.1], [1, 3, 2])
    up, down = result_of(sample, processes={}, estimates=()).templates().relative("W", "signal")
    np.testing.assert_allclose(up, [3 / 4, np.nan, 0, np.nan])
    np.testing.assert_allclose(down, [6 / 4, np.nan, 0, np.nan])


def test_what_is_not_there_is_refused():
    """An unknown template, or one of data, is an error that lists what there is."""
    with pytest.raises(
        InputError, match=r"process 'QCD' in region 'control'; there are control/W, control/Z"
    ):
        TEMPLATES.get("QCD", "control")
    with pytest.raises(InputError, match="there are none"):
        Templates("score", "Score", ()).get("W", "signal")
    with pytest.raises(InputError, match="data have no attacked templates"):
        TEMPLATES.relative("data", "signal")


def test_the_layout_of_the_root_file(tmp_path):
    """Names are region/process, with conservUp and conservDown, and region/data_obs."""
    path = TEMPLATES.to_root(str(tmp_path / "new" / "templates.root"))
    assert path == tmp_path / "new" / "templates.root"
    with uproot.open(path) as file:
        assert set(file.keys(cycle=False, recursive=True, filter_classname="TH1D")) == KEYS
    assert [entry.name for entry in path.parent.iterdir()] == ["templates.root"]


@pytest.mark.parametrize("name", ["x", "y", "total", "score"])
def test_the_root_file_reads_back_equal(tmp_path, name):
    """Contents, variances, flow, edges and titles of every histogram are those of the templates."""
    templates = RESULT.templates(name)
    with uproot.open(templates.to_root(tmp_path / "templates.root")) as file:
        for entry in templates.entries:
            for key, template in entry.histograms.items():
                read = file[f"{entry.region}/{key}"]
                value, variance = with_flow(template)
                np.testing.assert_array_equal(read.values(flow=True), value)
                np.testing.assert_array_equal(read.variances(flow=True), variance)
                np.testing.assert_array_equal(read.axis().edges(), template.axes[0].edges)
                assert read.name == key
                assert read.axis().member("fTitle") == templates.title
                assert read.title == (LABEL if "conserv" in key else templates.title)


@pytest.mark.parametrize("kind", AXES)
def test_every_kind_of_axis_is_written(tmp_path, kind):
    """Contents, variances and flow of any axis of hist come back, with negative weights too."""
    triple = [filled(AXES[kind], seed) for seed in range(3)]
    templates = Templates("q", "quantity", (Template("W", "signal", *triple),))
    with uproot.open(templates.to_root(tmp_path / "templates.root")) as file:
        for suffix, template in zip(("", "_conservUp", "_conservDown"), triple, strict=True):
            read = file[f"signal/W{suffix}"]
            value, variance = with_flow(template)
            np.testing.assert_array_equal(read.values(flow=True), value)
            np.testing.assert_array_equal(read.variances(flow=True), variance)
            np.testing.assert_array_equal(read.axis().edges(), template.axes[0].edges)
            total = variance.sum()
            assert read.member("fEntries") == pytest.approx(value.sum() ** 2 / total)
            centres = template.axes[0].centers
            assert read.member("fTsumw") == pytest.approx(value[1:-1].sum())
            assert read.member("fTsumw2") == pytest.approx(variance[1:-1].sum())
            assert read.member("fTsumwx") == pytest.approx((value[1:-1] * centres).sum())
            assert read.member("fTsumwx2") == pytest.approx((value[1:-1] * centres**2).sum())


def test_features_with_any_axis_travel_through_a_run(tmp_path):
    """Circular, integer and variable features keep their bins from the events to the ROOT file."""
    axes = [AXES[kind] for kind in ("circular", "integer", "variable")]
    features = tuple(Feature(f"q{i}", axis, label=f"$q_{i}$", unit="GeV") for i, axis in enumerate(axes))
    rng = np.random.default_rng(5)
    sample = made(n=120)
    columns = {"q0": rng.uniform(-6, 6, 120), "q1": rng.integers(-1, 6, 120), "q2": rng.random(120) * 1.3}
    values = {v: {**columns, "score": c["score"]} for v, c in sample.values.items()}
    settings = Settings(features, (), SETTINGS.budget, SETTINGS.score, 0.5, "score", 1, "c")
    sums = fill_sums("c", replace(sample, values=values), features, SETTINGS.score)
    result = make_result(sums, settings)
    for name, column in columns.items():
        expected = hist.Hist(result.axis(name), storage=hist.storage.Weight())
        expected.fill(column[sample.regions["signal"]])
        with uproot.open(result.templates(name).to_root(tmp_path / f"{name}.root")) as file:
            np.testing.assert_array_equal(file["signal/W"].values(flow=True), with_flow(expected)[0])
            assert file["signal/W"].axis().member("fTitle") == f"$q_{name[1]}$ [GeV]"


@pytest.mark.parametrize("name", ["a/b", "a;1", "a:b", ""])
def test_names_that_root_cannot_hold_are_replaced(tmp_path, name):
    """A name with a separator, or none, is another one in the file, which says what it was."""
    nominal = filled(AXES["regular"])
    for kind, entry in (
        ("processes", Template(name, "signal", nominal)),
        ("regions", Template("W", name, nominal)),
    ):
        templates = Templates("q", "q", (replace(entry, up=nominal, down=nominal),))
        with uproot.open(templates.to_root(tmp_path / "t.root")) as file:
            ((safe, its),) = json.loads(file["names.json"])[kind].items()
            assert its == name
            key = f"signal/{safe}" if kind == "processes" else f"{safe}/W"
            np.testing.assert_array_equal(file[key].values(flow=True), with_flow(nominal)[0])


def test_two_histograms_of_one_name_are_refused(tmp_path):
    """The same process twice is an error that names the process to rename."""
    nominal = filled(AXES["regular"])
    entries = tuple(Template("W", "signal", nominal, nominal, nominal) for _ in range(2))
    with pytest.raises(ConfigurationError, match=r"two histograms .*; rename the process 'W'"):
        Templates("q", "q", entries).to_root(tmp_path / "t.root")


@pytest.mark.parametrize("processes", [("W", "W_conservUp"), ("data", "data_obs")])
def test_processes_called_like_histograms_of_others_are_renamed(tmp_path, processes):
    """All of their histograms are there."""
    nominal = filled(AXES["regular"])
    entries = tuple(
        Template(process, "signal", nominal, *([nominal] * 2 if process != "data" else []))
        for process in processes
    )
    with uproot.open(Templates("q", "q", entries).to_root(tmp_path / "t.root")) as file:
        count = len(file.keys(recursive=True, filter_classname="TH1D"))
    assert count == sum(len(entry.histograms) for entry in entries)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    """If writing stops half way, the old file stays whole and no part is left behind."""
    path = tmp_path / "templates.root"
    path.write_text("old")
    bad = Template("W", "signal", filled(AXES["regular"]), "no histogram", "no histogram")
    with pytest.raises(AttributeError):
        Templates("q", "q", (bad,)).to_root(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["templates.root"]


def test_a_file_is_replaced_in_one_step(tmp_path):
    """Until the end a reader sees the old file; the part has the ending of the file and is hidden."""
    path = tmp_path / "a.root"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.parent == path.parent
        assert re.fullmatch(r"\.a\.\w+\.root", part.name)
        with replacing(path) as other:  # of another machine, whose process may have the same number
            other.write_text("newer")
            assert other != part
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.root"]


def configuration(folder):
    """Configuration of cabinetry for the file: one nuisance for each process, called conserv."""
    samples = [{"Name": name, "SamplePath": name} for name in ("W", "Z")]
    samples.append({"Name": "QCD", "SamplePath": "QCD", "Regions": "signal"})
    samples.append({"Name": "data", "SamplePath": "data_obs", "Data": True})
    shift = {"Type": "NormPlusShape"}
    return {
        "General": {
            "Measurement": "conserv",
            "POI": "mu",
            "InputPath": f"{folder}/templates.root:{{RegionPath}}/{{SamplePath}}{{VariationPath}}",
            "HistogramFolder": f"{folder}/histograms",
            "VariationPath": "",
        },
        "Regions": [{"Name": name, "RegionPath": name} for name in ("control", "signal")],
        "Samples": samples,
        "NormFactors": [{"Name": "mu", "Samples": "Z", "Nominal": 1, "Bounds": [0, 5]}],
        "Systematics": [
            {
                "Name": f"conserv_{name}",
                "Samples": name,
                "Up": {"VariationPath": "_conservUp"},
                "Down": {"VariationPath": "_conservDown"},
                **shift,
            }
            for name in ("W", "Z", "QCD")
        ],
    }


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Workspace that cabinetry builds from the ROOT file, without a network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the fit tools are not ours
        cabinetry = pytest.importorskip("cabinetry")
        folder = tmp_path_factory.mktemp("fit")
        TEMPLATES.to_root(folder / "templates.root")
        config = configuration(folder)
        cabinetry.configuration.validate(config)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
            cabinetry.templates.collect(config, method="uproot")
            return cabinetry.workspace.build(config)


def sample_of(workspace, process, region):
    """Sample of a workspace."""
    channel = next(channel for channel in workspace["channels"] if channel["name"] == region)
    return next(sample for sample in channel["samples"] if sample["name"] == process)


def modifier(sample, kind):
    """Data of the only modifier of a kind."""
    (found,) = [m for m in sample["modifiers"] if m["type"] == kind]
    return found["name"], found["data"]


def test_cabinetry_reads_the_nominal_templates(workspace):
    """Yields, statistical errors and observations of the workspace are those of the templates."""
    for entry in TEMPLATES.entries:
        if entry.process == "data":
            (observed,) = [o for o in workspace["observations"] if o["name"] == entry.region]
            np.testing.assert_allclose(observed["data"], entry.nominal.values())
            continue
        sample = sample_of(workspace, entry.process, entry.region)
        np.testing.assert_allclose(sample["data"], entry.nominal.values())
        np.testing.assert_allclose(modifier(sample, "staterror")[1], np.sqrt(entry.nominal.variances()))
    names = {c["name"]: [s["name"] for s in c["samples"]] for c in workspace["channels"]}
    assert names == {"control": ["W", "Z"], "signal": ["W", "Z", "QCD"]}


def test_cabinetry_reads_the_attacked_templates(workspace):
    """Norm and shape of the modifiers together are conservUp and conservDown, bin by bin."""
    for entry in TEMPLATES.entries:
        if entry.process == "data":
            continue
        sample = sample_of(workspace, entry.process, entry.region)
        (name, norm), (other, shape) = (modifier(sample, kind) for kind in ("normsys", "histosys"))
        assert name == other == f"conserv_{entry.process}"
        for side, template in (("hi", entry.up), ("lo", entry.down)):
            np.testing.assert_allclose(
                np.asarray(shape[f"{side}_data"]) * norm[side], template.values(), rtol=1e-9, atol=1e-12
            )
            nominal, varied = entry.nominal.values().sum(), template.values().sum()
            assert norm[side] == pytest.approx(varied / nominal)


def test_the_workspace_fits_the_schema_and_makes_a_model(workspace):
    """The schema of pyhf accepts it without a network, and the model expects the templates."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
        pyhf = pytest.importorskip("pyhf")
        model = pyhf.Workspace(workspace).model()  # validates
        values = dict(zip(model.config.par_names, model.config.suggested_init(), strict=True))
        for side, attribute in ((0, "nominal"), (1, "up"), (-1, "down")):
            for name in ("W", "Z", "QCD"):
                values[f"conserv_{name}"] = float(side)
            expected = model.expected_actualdata([values[name] for name in model.config.par_names])
            total = [
                sum(
                    getattr(entry, attribute).values()
                    for entry in TEMPLATES.entries
                    if entry.region == region and entry.process != "data"
                )
                for region in model.config.channels
            ]
            np.testing.assert_allclose(expected, np.concatenate(total), rtol=1e-9)


def test_an_empty_run_writes_an_empty_file(tmp_path):
    """No templates are a ROOT file without histograms."""
    result = make_result(Sums("config-1"), SETTINGS)
    with uproot.open(result.templates().to_root(tmp_path / "t.root")) as file:
        assert file.keys() == []


def test_templates_of_merged_chunks_are_those_of_their_order(tmp_path):
    """The file does not depend on the order of merging, apart from rounding."""
    other = result_of(*reversed(SAMPLES)).templates()
    for one, two in zip(TEMPLATES.entries, other.entries, strict=True):
        for a, b in itertools.zip_longest(one.histograms.values(), two.histograms.values()):
            np.testing.assert_allclose(a.values(flow=True), b.values(flow=True), atol=1e-12)
