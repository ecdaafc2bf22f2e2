"""Names of regions, processes and nuisances in fits: whatever they are, numbers are those of plain names."""

from __future__ import annotations

import json
import random
import re
import socket
import warnings
from dataclasses import replace
from functools import cache

import cabinetry
import correctionlib
import numpy as np
import pyhf
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as some
from made_events import made
from made_results import result_of
from made_templates import filled, looked_up, parsed
from typer.testing import CliRunner

from coffea_conserv import Names
from coffea_conserv.cli.app import app
from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.exports import (
    Measurement,
    fit_impact,
    fit_names,
    make_workspace,
    naming,
    write_cabinetry,
    write_combine,
    write_weights,
    write_workspace,
)
from coffea_conserv.plotting import impact_plot
from coffea_conserv.report import tables
from coffea_conserv.templates import SafeNames, rootfile, safe_names
from coffea_conserv.templates.naming import LONGEST
from coffea_conserv.templates.template import Template
from coffea_conserv.templates.templates import Templates

SAFE = re.compile(rf"[A-Za-z][A-Za-z0-9_]{{0,{LONGEST - 1}}}")
LONG = "a long name, " * 25

HOSTILE = {
    "dots": (("ggH_M125.5", "W", "Z"), ("SR.mu", "SR.el")),
    "a suffix": (("ggH.npz", "W.root", "W.root.1"), ("a.b.c", "a.b.d")),
    "blanks and hyphens": (("S B", "S-B", "S_B"), ("SR mu", "SR-mu")),
    "slashes and colons": (("a/b", "a:b", "a;1"), ("CR/1", "CR:1")),
    "unicode": (("H→ττ", "tt̄", "tt"), ("µµ", "éé")),
    "300 characters": ((LONG + "S", LONG + "B", LONG + "C"), (LONG + "1", LONG + "2")),
    "leading digits": (("2HDM", "4top", "4-top"), ("1l", "_1l")),
    "signs": (("$S$", "{RegionPath}", "%s*?[b]"), ("{0}", "# a\nimax 7")),
    "upper and lower case": (("S", "s", "W"), ("SR", "sr")),
    "names of tools": (("data_obs", "bin", "shape"), ("process", "*")),
    "names that end like others": (("W", "W_conservUp", "W_modified"), ("SR", "SR_bonly")),
    "names that are joined to others": (("W", "W_c", "b_W"), ("c_tag", "tag", "SR")),
    "regions that are joined": (("b_W", "W"), ("SR", "SR_b")),
    "an empty one": (("S", "", " "), ("", " ")),
}
PLAIN = ("first", "second", "third", "fourth")


def hostile(first, *others):
    """All names with one kind of nuisances, and those that matter most with others."""
    most = ("dots", "names that are joined to others")
    chosen = [(name, first) for name in HOSTILE] + [(name, kind) for kind in others for name in most]
    cases = [pytest.param(HOSTILE[name], kind, id=f"{name}-{kind}") for name, kind in chosen]
    return pytest.mark.parametrize(("names", "nuisances"), cases)


@pytest.fixture(autouse=True)
def _alone():
    """No export uses the network; warnings of the fit tools are not ours."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
        yield


def templates_named(processes, regions):
    """Templates with contents that no two of them share; the first process is the signal."""
    rng = np.random.default_rng(3)
    entries = []
    for region in regions:
        for k, process in enumerate(processes):
            nominal = rng.uniform(40, 60, 2) * (1 if k == 0 else 10)
            up, down = (nominal * (1 + sign * rng.uniform(0.05, 0.15, 2)) for sign in (1, -1))
            entries.append(Template(process, region, *(filled(*h) for h in (nominal, up, down))))
    return Templates("score", "Score", tuple(entries))


def plain(processes, regions):
    """The same templates under names that hurt nobody, in the same order."""
    return templates_named(PLAIN[: len(processes)], [f"region{k}" for k in range(len(regions))])


@cache
def plain_fit(processes, regions, nuisances):
    """Fit of as many processes and regions under names that hurt nobody."""
    return fit_impact(plain(range(processes), range(regions)), measured(PLAIN, nuisances))


def measured(processes, nuisances):
    """A blind fit of the first process."""
    return Measurement(signal=processes[0], nuisances=nuisances)


# --------------------------------------------------------------------------------------------- the fits


@hostile("process", "region")
def test_a_fit_has_the_numbers_of_plain_names(names, nuisances):
    """A blind fit measures 1, and all errors, pulls and impacts are those of the same templates."""
    found = fit_impact(templates_named(*names), measured(names[0], nuisances))
    right = plain_fit(*map(len, names), nuisances)
    assert found.value == pytest.approx(1, abs=1e-3)
    assert found.error == pytest.approx(right.error, rel=1e-3)
    assert found.error_without == pytest.approx(right.error_without, rel=1e-3)
    assert found.notes == right.notes == ()
    assert len(found.nuisances) == len(right.nuisances)
    expected = {measured(names[0], nuisances).nuisance(p, r) for p in names[0] for r in names[1]}
    shown = [row.name for row in found.nuisances]
    assert len(set(shown)) == len(shown)  # a reader can tell them apart
    if len(expected) == len(shown):
        assert set(shown) == expected
    # nuisance by nuisance: those of plain names are in the order of the same templates
    pairs = zip(
        fit_names(templates_named(*names), measured(names[0], nuisances)).nuisances.values(),
        fit_names(plain(*names), measured(PLAIN, nuisances)).nuisances.values(),
        strict=True,
    )
    rows, others = ({row.name: row for row in one.nuisances} for one in (found, right))
    for name, other in pairs:
        assert rows[name].constraint == pytest.approx(others[other].constraint, rel=1e-3)
        assert rows[name].up == pytest.approx(others[other].up, abs=0.15 * right.error)


@hostile("region", "process", "one")
def test_every_file_holds_every_template(names, nuisances, tmp_path):
    """Combine, cabinetry, pyhf and correctionlib find each content of each process and region."""
    templates, measurement = templates_named(*names), measured(names[0], nuisances)
    card = parsed(write_combine(templates, measurement, tmp_path))
    config = cabinetry.configuration.load(write_cabinetry(templates, measurement, tmp_path))
    spec = json.loads(write_workspace(templates, measurement, tmp_path).read_text())
    weights = correctionlib.CorrectionSet.from_file(str(write_weights(templates, tmp_path / "w.json")))[
        "conserv"
    ]
    cabinetry.templates.collect(config, method="uproot")
    assert cabinetry.workspace.build(config) == spec
    pyhf.schema.validate(spec, "workspace.json")
    mapped = json.loads((tmp_path / "names.json").read_text(encoding="utf-8"))
    assert set(mapped["processes"].values()) == set(names[0])
    assert set(mapped["regions"].values()) == set(names[1])
    for safe in (*mapped["processes"], *mapped["regions"], *card["bins"], *card["processes"]):
        assert SAFE.fullmatch(safe), safe
    assert len(set(zip(card["bins"], card["processes"], strict=True))) == len(templates.entries)
    assert card["counts"] == [len(names[1]), len(names[0]) - 1, len(card["nuisances"])]
    samples = {(c["name"], s["name"]): s for c in spec["channels"] for s in c["samples"]}
    with uproot.open(tmp_path / card["file"]) as file:
        for k, (region, process) in enumerate(zip(card["bins"], card["processes"], strict=True)):
            entry = templates.get(mapped["processes"][process], mapped["regions"][region])
            (used,) = [name for name, (_, cells) in card["nuisances"].items() if cells[k] == "1"]
            for side, histogram in (("", entry.nominal), ("Up", entry.up), ("Down", entry.down)):
                pattern = card["patterns"][1 if side else 0]
                read = file[looked_up(pattern, region, process, used) + side]
                np.testing.assert_array_equal(read.values(flow=True), histogram.values(flow=True))
                np.testing.assert_array_equal(read.variances(flow=True), histogram.variances(flow=True))
            sample = samples[region, process]
            assert sample["data"] == entry.nominal.values().tolist()
            data = {one["type"]: one for one in sample["modifiers"]}
            assert data["normsys"]["name"] == data["histosys"]["name"] == used
            assert ("normfactor" in data) == (entry.process == names[0][0])
            for side, histogram in (("hi", entry.up), ("lo", entry.down)):
                product = data["normsys"]["data"][side] * np.array(data["histosys"]["data"][f"{side}_data"])
                np.testing.assert_allclose(product, histogram.values(), rtol=1e-12)
            middle = entry.nominal.axes[0].centers
            for direction, histogram in (("up", entry.up), ("down", entry.down)):
                found = weights.evaluate(entry.process, entry.region, direction, middle)
                np.testing.assert_allclose(found * entry.nominal.values(), histogram.values(), rtol=1e-12)


@pytest.mark.parametrize("names", list(HOSTILE.values()), ids=list(HOSTILE))
def test_templates_in_a_root_file_say_their_names(names, tmp_path):
    """The file holds every template under a name that every tool reads, and what that is in the analysis."""
    templates = templates_named(*names)
    with uproot.open(templates.to_root(tmp_path / "templates.root")) as file:
        mapped = json.loads(file["names.json"])
        keys = set(file.keys(cycle=False, recursive=True, filter_classname="TH1D"))
        assert len(keys) == 3 * len(templates.entries)
        for region, its in mapped["regions"].items():
            for process, original in mapped["processes"].items():
                read = file[f"{region}/{process}"].values()
                np.testing.assert_array_equal(read, templates.get(original, its).nominal.values())


# ------------------------------------------------------------------------------------ the command line


def renamed(regions, processes):
    """A result with three processes in two regions, all under given names."""
    samples = [
        replace(
            sample,
            regions=dict(zip(regions, sample.regions.values(), strict=True)),
        )
        for sample in (
            made("d0", "a:0-300", 300, seed=1, weight=0.1),
            made("d1", "b:0-900", 900, seed=2, weight=0.5),
            made("d2", "c:0-600", 600, seed=3, weight=0.7),
        )
    ]
    return result_of(*samples, processes={p: [f"d{k}"] for k, p in enumerate(processes)}, estimates=())


def exported(folder, result, *arguments):
    """Folder of files of ``coffea-conserv export``, and what it printed."""
    folder.mkdir()
    result.save(folder / "result.coffea")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["export", str(folder), *arguments])
    assert done.exit_code == 0, done.output
    return folder / "fit", done.output


@pytest.mark.parametrize(
    ("processes", "regions", "nuisances"),
    [
        (("ggH_M125.5", "W+jets", "W jets"), ("SR.mu", "SR.el"), "process"),
        (("$H$", "[/red]", "2 t"), ("SR mu", "SR-mu"), "one"),
        (("W", "W_c", "W/c"), ("c_tag", "tag"), "region"),
    ],
)
def test_the_command_line_exports_whatever_names(processes, regions, nuisances, tmp_path):
    """The signal strength is 1, its error that of plain names; what is read has the names of the analysis."""
    told = ("--nuisances", nuisances, "--merge", "4")
    out, text = exported(tmp_path / "a", renamed(regions, processes), "--signal", processes[0], *told)
    other, _ = exported(tmp_path / "b", renamed(["one", "two"], PLAIN[:3]), "--signal", PLAIN[0], *told)
    found, right = (json.loads((path / "impact.json").read_text()) for path in (out, other))
    assert found["value"] == pytest.approx(1, abs=1e-3)
    assert found["error"] == pytest.approx(right["error"], rel=2e-3)
    assert found["error_without"] == pytest.approx(right["error_without"], rel=2e-3)
    assert len(found["ranking"]) == len(right["ranking"])
    names = json.loads((out / "names.json").read_text(encoding="utf-8"))
    assert set(names["regions"].values()) == set(regions)
    assert set(names["nuisances"].values()) == {
        r["name"] for r in found["ranking"] if r["kind"] == "systematic"
    }
    for shown in names["nuisances"].values():
        assert f"{shown}: pull" in text
    statistical = {row["name"] for row in found["ranking"] if row["kind"] == "statistical"}
    assert statistical == {f"staterror_{region}[0]" for region in regions}
    for file in ("templates.root", "combine.root", "cabinetry.root"):
        with uproot.open(out / file) as opened:
            assert all(
                SAFE.fullmatch(key)
                for key in opened.keys(cycle=False, recursive=False)
                if key != "names.json"
            )
    comments = [
        line for line in (out / "datacard.txt").read_text().splitlines() if " in the analysis" in line
    ]
    changed = {s: n for kind in names.values() for s, n in kind.items() if s != n}
    assert {
        line.split()[2]: json.loads(line.split(" is ")[1].removesuffix(" in the analysis"))
        for line in comments
    } == changed


def test_files_of_plain_names_are_as_they_were(tmp_path):
    """Names that are safe already stay, in every file; no comment says anything about them."""
    templates = plain(*HOSTILE["dots"])
    names = safe_names(templates.entries)
    assert not names.changed
    write_combine(templates, Measurement(signal="first"), tmp_path)
    write_cabinetry(templates, Measurement(signal="first"), tmp_path)
    assert "in the analysis" not in (tmp_path / "datacard.txt").read_text()
    assert (tmp_path / "cabinetry.yml").read_text().startswith("General:")
    with uproot.open(templates.to_root(tmp_path / "t.root")) as file:
        assert set(file.keys(cycle=False, recursive=False)) == {"region0", "region1"}


# ------------------------------------------------------------------------- nuisances and signal strength


def test_nuisances_of_different_templates_are_never_one(tmp_path):
    """W in c_tag and W_c in tag: two nuisances, two constraints, a configuration that loads."""
    templates, measurement = templates_named(("S", "W", "W_c"), ("c_tag", "tag")), measured(("S",), "region")
    assert measurement.nuisance("W", "c_tag") == measurement.nuisance("W_c", "tag")  # to a reader
    names = fit_names(templates, measurement)
    assert len(names.nuisances) == 6
    assert {"conserv_'W'_'c_tag'", "conserv_'W_c'_'tag'", "conserv_W_tag"} <= set(names.nuisances.values())
    config = cabinetry.configuration.load(write_cabinetry(templates, measurement, tmp_path))
    assert len({entry["Name"] for entry in config["Systematics"]}) == 6
    found = fit_impact(templates, measurement)
    right = fit_impact(plain(("S", "W", "W_c"), ("c_tag", "tag")), measured(PLAIN, "region"))
    assert found.error == pytest.approx(right.error, rel=1e-3)
    by_name = {row.name: row.constraint for row in found.nuisances}
    theirs = {row.name: row.constraint for row in right.nuisances}
    assert by_name["conserv_'W'_'c_tag'"] == pytest.approx(theirs["conserv_second_region0"], rel=1e-3)
    assert by_name["conserv_'W_c'_'tag'"] == pytest.approx(theirs["conserv_third_region1"], rel=1e-3)


@pytest.mark.parametrize("poi", ["conserv_S", "staterror_SR"])
def test_a_signal_strength_is_no_nuisance(poi):
    """A name that a nuisance has would make one parameter of both."""
    templates = templates_named(("S", "B"), ("SR",))
    with pytest.raises(ConfigurationError, match=f"poi='{poi}' is the name of a nuisance too"):
        fit_impact(templates, Measurement(signal="S", poi=poi))


def test_nuisances_of_the_analysis_are_not_those_of_the_attack():
    """A systematic that was added as conservative_jes stays in the fit without the attack, with its error."""
    signal, background = 1000.0, 10_000.0
    triple = [filled(h, variance=1e-6) for h in (background, 1.1 * background, 0.9 * background)]
    entries = (Template("S", "SR", *[filled(signal, variance=1e-6)] * 3), Template("B", "SR", *triple))
    templates, measurement = Templates("score", "Score", entries), Measurement(signal="S")
    spec = make_workspace(templates, measurement)
    (sample,) = [s for s in spec["channels"][0]["samples"] if s["name"] == "B"]
    data = {"hi": 1.05, "lo": 0.95}
    sample["modifiers"].append({"name": "conservative_jes", "type": "normsys", "data": data})
    found = fit_impact(templates, measurement, workspace=spec)
    statistics = np.sqrt(signal + background) / signal
    assert found.error_without == pytest.approx(np.hypot(statistics, 0.05 * background / signal), rel=0.02)
    assert found.systematic_error == pytest.approx(0.1 * background / signal, rel=0.05)
    assert {row.name for row in found.nuisances} == {"conserv_S", "conserv_B"}
    assert {row.kind for row in found.ranking if row.name == "conservative_jes"} == {"other"}


def test_a_workspace_of_another_measurement_is_refused():
    """Without the nuisances of the templates there is nothing to measure them by."""
    templates = templates_named(("S", "B"), ("SR",))
    spec = make_workspace(templates, Measurement(signal="S", nuisances="one"))
    with pytest.raises(InputError, match="the workspace has no parameter conserv_S, conserv_B; make it of"):
        fit_impact(templates, Measurement(signal="S"), workspace=spec)


# -------------------------------------------------------------------------------------- what is wrong is seen


def untouched(entries):
    """Names as they are, as if fit tools could hold them."""
    listed = list(entries)
    regions, processes = ({getattr(e, n): getattr(e, n) for e in listed} for n in ("region", "process"))
    return SafeNames(regions, processes, {"conservUp": "conservUp", "conservDown": "conservDown"})


@pytest.mark.parametrize(
    "names", [HOSTILE[n] for n in ("dots", "blanks and hyphens")], ids=["dots", "blanks"]
)
def test_templates_that_a_tool_mixes_up_are_refused(names, monkeypatch, tmp_path):
    """With names that cabinetry writes over each other no workspace comes out, and the error says which."""
    monkeypatch.setattr(naming, "safe_names", untouched)
    templates, measurement = templates_named(*names), measured(names[0], "process")
    for export in (make_workspace, lambda *given: write_cabinetry(*given, tmp_path)):
        with pytest.raises(
            InputError, match=r"of process '.*' in region '.*' in the workspace: .* in bin \d"
        ):
            export(templates, measurement)
    assert not (tmp_path / "cabinetry.yml").exists()


def test_a_root_file_that_is_not_what_was_written_is_refused(monkeypatch, tmp_path):
    """A content that is off by one rounding names process, region and bin; the old file stays."""
    templates, th1 = templates_named(("S", "B"), ("SR.1",)), rootfile._th1
    path = templates.to_root(tmp_path / "t.root")
    before = path.read_bytes()
    calls = []

    def spoiled(histogram, title):
        calls.append(title)
        if len(calls) == 5:  # Up of B
            histogram = histogram.copy()
            histogram.view()["value"][1] = np.nextafter(histogram.view()["value"][1], np.inf)
        return th1(histogram, title)

    monkeypatch.setattr(rootfile, "_th1", spoiled)
    message = r"t.root: content of Up of process 'B' in region 'SR.1': .* in bin 1 \(from 0\); do not fit"
    with pytest.raises(InputError, match=message):
        templates.to_root(path)
    assert path.read_bytes() == before


def test_a_datacard_that_refers_to_something_else_is_refused(monkeypatch, tmp_path):
    """Two regions whose columns are exchanged: the error names the first template that is another."""
    templates, combine = templates_named(("S", "B"), ("SR.1", "SR.2")), naming.FitNames.combine
    swapped = {"SR.1": "SR.2", "SR.2": "SR.1"}

    def exchanged(names, entry, measurement):
        return combine(names, replace(entry, region=swapped[entry.region]), measurement)

    monkeypatch.setattr(naming.FitNames, "combine", exchanged)
    with pytest.raises(InputError, match=r"combine.root: content of nominal of process 'S' in region 'SR.1'"):
        write_combine(templates, Measurement(signal="S"), tmp_path)
    assert not (tmp_path / "datacard.txt").exists()


def test_a_process_without_yield_is_refused_before_anything_is_written(tmp_path):
    """HistFactory has norm and shape: a template without one has no shape either."""
    entries = [
        Template("S", "SR", *[filled(1, 2)] * 3),
        Template("B", "SR", filled(9, 9), filled(9, 9), filled(0, 0)),
    ]
    templates = Templates("score", "Score", tuple(entries))
    with pytest.raises(
        InputError, match="SR/B has yields of 18, Up 18 and Down 0, which no fit can interpolate"
    ):
        write_cabinetry(templates, Measurement(signal="S"), tmp_path)
    none = replace(
        templates, entries=(Template("S", "SR", *[filled(0, 0)] * 3), replace(entries[1], down=filled(9, 9)))
    )
    with pytest.raises(InputError, match="no region has events of the signal S; run with more of them"):
        write_cabinetry(none, Measurement(signal="S"), tmp_path)  # no sample means all of them to cabinetry
    assert not list(tmp_path.iterdir())


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    """JSON has none, and correctionlib would read another number."""
    entry = Template("B", "SR", filled(1, 2), filled(1, np.inf), filled(1, 2))
    with pytest.raises(InputError, match=r"weight up of process 'B' in region 'SR', bin 1 \(from 0\) is inf"):
        write_weights(Templates("score", "Score", (entry,)), tmp_path / "w.json")
    assert not list(tmp_path.iterdir())


def test_an_axis_without_end_keeps_its_weights(tmp_path):
    """The middle of a bin up to infinity is none: its weight is compared far outside."""
    import hist  # noqa: PLC0415

    def made_of(*contents):
        made = hist.Hist(
            hist.axis.Variable([-np.inf, 0, np.inf], name="score"), storage=hist.storage.Weight()
        )
        made.view()["value"] = contents
        return made

    entry = Template("B", "SR", made_of(2, 4), made_of(3, 3), made_of(1, 5))
    path = write_weights(Templates("score", "Score", (entry,)), tmp_path / "w.json")
    found = correctionlib.CorrectionSet.from_file(str(path))["conserv"]
    assert [found.evaluate("B", "SR", "up", value) for value in (-1e9, 1e9)] == [1.5, 0.75]


def test_histograms_of_an_earlier_export_are_not_used(tmp_path):
    """What cabinetry kept, smoothed or not, is of the old templates: nothing is built of it."""
    measurement = Measurement(signal="S")
    config = cabinetry.configuration.load(
        write_cabinetry(templates_named("SB", ("SR",)), measurement, tmp_path)
    )
    cabinetry.templates.collect(config, method="uproot")
    cabinetry.templates.postprocess(config)
    assert len(list((tmp_path / "histograms").glob("*_modified.npz"))) == 7
    other = templates_named(("S", "B", "C"), ("SR",))
    other = replace(other, entries=tuple(e for e in other.entries if e.process != "B"))
    config = cabinetry.configuration.load(write_cabinetry(other, measurement, tmp_path))
    with pytest.raises(FileNotFoundError):
        cabinetry.workspace.build(config)
    cabinetry.templates.collect(config, method="uproot")
    assert cabinetry.workspace.build(config) == make_workspace(other, measurement)


@pytest.mark.parametrize("quantity", ["direction", "region", "process"])
def test_weights_of_a_quantity_called_like_another_input(quantity, tmp_path):
    """Inputs are found by their names: that of the quantity is another one then."""
    templates = replace(templates_named("SB", ("SR",)), quantity=quantity)
    path = write_weights(templates, tmp_path / "w.json")
    found = correctionlib.CorrectionSet.from_file(str(path))["conserv"]
    assert [one.name for one in found.inputs] == ["process", "region", "direction", f"nominal_{quantity}"]
    entry = templates.get("B", "SR")
    factor = found.evaluate("B", "SR", "up", entry.nominal.axes[0].centers)
    np.testing.assert_allclose(factor * entry.nominal.values(), entry.up.values(), rtol=1e-12)


# ----------------------------------------------------------------------------------------- readers and names


def test_a_reader_sees_the_names_of_the_analysis():
    """Table and picture of an impact; a dollar is no formula, and a long name has an end."""
    long = "q" * 300
    found = fit_impact(templates_named(("S.1", "a$b$\\frac{", long), ("SR.mu",)), Measurement(signal="S.1"))
    shown = {"conserv_S.1", "conserv_a$b$\\frac{", f"conserv_{long}"}
    assert {row["nuisance"] for row in tables.impact_table(found).values()} == shown
    figure = impact_plot(found)
    figure.canvas.draw()  # which fails where a formula is none
    ticks = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert any("conserv_a\\$b\\$\\frac{" in text for text in ticks)
    assert max(map(len, ticks)) < 60
    assert any("staterror_SR.mu[1]" in text for text in ticks)


def test_variations_of_any_name_are_found(tmp_path):
    """Names of variations that a ROOT file cannot hold, and different ones in two regions."""
    templates = templates_named(("S", "B"), ("SR", "CR"))
    for pair in ((Names(up="a/b", down="a b"),) * 2, (Names(up="x", down="y"), Names(up="y", down="x"))):
        entries = tuple(replace(e, names=pair[e.region == "CR"]) for e in templates.entries)
        odd = replace(templates, entries=entries)
        spec = make_workspace(odd, Measurement(signal="S"))
        assert spec == make_workspace(templates, Measurement(signal="S"))
        path = odd.to_root(tmp_path / "t.root")
        with uproot.open(path) as file:
            assert len(file.keys(recursive=True, filter_classname="TH1D")) == 12


words = some.text(some.characters(codec="utf-8"), max_size=70) | some.sampled_from(
    [
        "SR",
        "sr",
        "SR.mu",
        "SR_mu",
        "SR mu",
        "mu_W",
        "W",
        "W_c",
        "c_tag",
        "tag",
        "data",
        "data_obs",
        "W_modified",
    ]
)


@settings(deadline=None, max_examples=200)
@given(
    some.lists(words, min_size=1, max_size=5, unique=True),
    some.lists(words.filter(lambda name: name != "data"), min_size=1, max_size=5, unique=True),
    some.randoms(use_true_random=False),
)
def test_safe_names_are_safe_and_different(regions, processes, rng):
    """Letters, digits and underscores; none twice; the same in any order; and safe ones are their own."""
    entries = [Template(process, region, None) for region in regions for process in processes]
    names = safe_names(entries)
    for given_names in (names.regions, names.processes):
        assert all(SAFE.fullmatch(safe) for safe in given_names.values())
        folded = [safe.casefold() for safe in given_names.values()]
        assert len(set(folded)) == len(folded)
    for join in ("{p}_{r}", "{r}_{p}"):
        joined = [
            join.format(p=names.processes[e.process], r=names.regions[e.region]).casefold() for e in entries
        ]
        assert len(set(joined)) == len(joined)
    shuffled = list(entries)
    random.Random(rng.random()).shuffle(shuffled)  # noqa: S311
    other = safe_names(shuffled)
    assert (other.regions, other.processes) == (names.regions, names.processes)
    alone = safe_names([Template(names.processes[processes[0]], names.regions[regions[0]], None)])
    assert list(alone.processes.values()) == list(alone.processes)
    assert list(alone.regions.values()) == list(alone.regions)


def test_a_greek_letter_is_called_by_its_name():
    """What is left of a name can be read."""
    names = safe_names([Template(name, "µ-channel", None) for name in ("Z→ττ", "Δφ", "tt̄", "W+jets", "4top")])
    assert list(names.processes.values()) == ["Z_tautau", "Deltaphi", "tt", "W_jets", "p4top"]
    assert names.regions == {"µ-channel": "mu_channel"}
