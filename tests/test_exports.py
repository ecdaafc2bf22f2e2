"""Exports, each read back by the program it is for."""

from __future__ import annotations

import hashlib
import json
import socket
import sys
import warnings
from dataclasses import replace

import cabinetry
import correctionlib
import hist
import numpy as np
import pyhf
import pytest
import uproot
import yaml
from made_results import SAMPLES, events_of, result_of
from made_templates import looked_up, parsed, templates_of

from coffea_conserv import Names, Treatment
from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.exports import (
    Measurement,
    check_measurement,
    fit_impact,
    make_weights,
    make_workspace,
    write_cabinetry,
    write_combine,
    write_weights,
)
from coffea_conserv.exports.measurement import observed
from coffea_conserv.templates.template import MEANING
from coffea_conserv.templates.templates import Templates

RESULT = result_of()
TEMPLATES = RESULT.templates()
MEASUREMENT = Measurement(signal="Z")


@pytest.fixture(autouse=True)
def _alone():
    """No export uses the network; warnings of the fit tools are not ours."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
        yield


# --------------------------------------------------------------------------------------------- Combine


@pytest.mark.parametrize("nuisances", ["process", "region", "one"])
def test_the_datacard_says_what_the_root_file_holds(tmp_path, nuisances):
    """Every histogram that Combine would look up by the patterns is there, with the right contents."""
    card = parsed(write_combine(TEMPLATES, Measurement(signal="Z", nuisances=nuisances), tmp_path))
    used = sum(cell == "1" for _, cells in card["nuisances"].values() for cell in cells)
    assert card["counts"] == [2, 2, len(card["nuisances"])]
    assert card["channels"] == ["control", "signal"]
    assert list(zip(card["bins"], card["processes"], strict=True)) == [
        *(("control", name) for name in "WZ"),
        *(("signal", name) for name in ("W", "Z", "QCD")),
    ]
    assert used == len(card["bins"])
    assert card["rates"] == ["-1"] * len(card["bins"])
    assert dict(_pairs(card, "processes", "numbers")) == {"Z": 0, "W": 1, "QCD": 2}
    assert card["others"] == [["*", "autoMCStats", "10"]]
    with uproot.open(tmp_path / card["file"]) as file:
        for name, (kind, cells) in card["nuisances"].items():
            assert kind == "shape"
            for region, process, cell in zip(card["bins"], card["processes"], cells, strict=True):
                plain, varied = (looked_up(text, region, process, name) for text in card["patterns"])
                entry = TEMPLATES.get(process, region)
                np.testing.assert_array_equal(file[plain].values(), entry.nominal.values())
                np.testing.assert_array_equal(file[plain].variances(), entry.nominal.variances())
                if cell == "1":
                    np.testing.assert_array_equal(file[f"{varied}Up"].values(), entry.up.values())
                    np.testing.assert_array_equal(file[f"{varied}Down"].values(), entry.down.values())
                else:
                    assert cell == "-"
        for region in card["channels"]:
            total = sum(TEMPLATES.get(p, r).nominal.values() for r, p in _pairs(card) if r == region)
            np.testing.assert_allclose(file[f"{region}/data_obs"].values(), total)
    assert f"# conserv: {MEANING}" in (tmp_path / "datacard.txt").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["combine.root", "datacard.txt", "names.json"]


def _pairs(card, one="bins", two="processes"):
    return zip(card[one], card[two], strict=True)


def test_data_stand_in_the_datacard_when_asked(tmp_path):
    """Without blinding data_obs are data."""
    write_combine(TEMPLATES, Measurement(signal="Z", blind=False), tmp_path)
    with uproot.open(tmp_path / "combine.root") as file:
        for region in ("control", "signal"):
            data = TEMPLATES.get("data", region).nominal.values()
            np.testing.assert_array_equal(file[f"{region}/data_obs"].values(), data)


def test_names_that_a_datacard_cannot_hold_get_underscores(tmp_path):
    """Regions and processes with spaces are renamed; of two that become the same one stays, or none."""
    odd = templates_of(("my signal", [1, 2], [2, 1], [1, 2]), ("W+jets", [5, 5], [6, 4], [4, 6]))
    odd = replace(odd, entries=tuple(replace(entry, region="no jets") for entry in odd.entries))
    card = parsed(write_combine(odd, Measurement(signal="my signal"), tmp_path))
    assert (set(card["bins"]), set(card["processes"])) == ({"no_jets"}, {"my_signal", "W_jets"})
    assert set(card["nuisances"]) == {"conserv_my_signal", "conserv_W_jets"}
    same = templates_of(*((name, [1], [1], [1]) for name in ("a b", "a-b", "c", "c_", "c-")))
    processes = parsed(write_combine(same, Measurement(signal="a b"), tmp_path / "same"))["processes"]
    one, two, three = (hashlib.sha256(name.encode()).hexdigest()[:8] for name in ("a b", "a-b", "c-"))
    assert processes == [f"a_b_{one}", f"a_b_{two}", "c", "c_", f"c__{three}"]


def test_a_process_without_events_has_no_column(tmp_path):
    """Combine refuses empty templates: they are left out, and reported."""
    some = templates_of(("S", [1, 2], [2, 1], [1, 2]), ("B", [5, 5], [6, 4], [4, 6]), ("E", *[[0, 0]] * 3))
    assert parsed(write_combine(some, Measurement(signal="S"), tmp_path))["processes"] == ["S", "B"]
    none = templates_of(("S", [0, 0], [0, 0], [0, 0]), ("E", *[[0, 0]] * 3))
    with pytest.raises(InputError, match="region 'SR' has no events of any process; leave it out"):
        write_combine(none, Measurement(signal="S"), tmp_path)


# ------------------------------------------------------------------------------------ cabinetry and pyhf


@pytest.mark.parametrize("names", [Names(), Names.preset("columnflow")])
def test_cabinetry_builds_a_workspace_of_its_configuration(tmp_path, names):
    """The file on disk makes the workspace that is made in memory, whatever variations are called."""
    entries = tuple(replace(entry, names=names) for entry in TEMPLATES.entries)
    templates = replace(TEMPLATES, entries=entries)
    config = cabinetry.configuration.load(write_cabinetry(templates, MEASUREMENT, tmp_path))
    assert yaml.safe_load((tmp_path / "cabinetry.yml").read_text()) == config
    cabinetry.templates.collect(config, method="uproot")
    assert cabinetry.workspace.build(config) == make_workspace(templates, MEASUREMENT)


@pytest.mark.parametrize(
    ("nuisances", "names"),
    [
        ("process", {"conserv_W", "conserv_Z", "conserv_QCD"}),
        ("one", {"conserv"}),
        (
            "region",
            {f"conserv_{p}_{r}" for p in "WZ" for r in ("control", "signal")} | {"conserv_QCD_signal"},
        ),
    ],
)
def test_the_workspace_expects_the_templates(nuisances, names):
    """At 0, +1 and −1 of all nuisances the model of pyhf expects nominal, Up and Down."""
    spec = make_workspace(TEMPLATES, Measurement(signal="Z", nuisances=nuisances))
    pyhf.schema.validate(spec, "workspace.json")
    model = pyhf.Workspace(spec).model()
    assert {name for name in model.config.par_names if name.startswith("conserv")} == names
    kinds = {m["type"] for c in spec["channels"] for s in c["samples"] for m in s["modifiers"]}
    assert kinds == {"histosys", "normsys", "staterror", "normfactor"}
    values = dict(zip(model.config.par_names, model.config.suggested_init(), strict=True))
    for side, which in ((0, "nominal"), (1, "up"), (-1, "down")):
        values |= dict.fromkeys(names, float(side))
        expected = model.expected_actualdata([values[name] for name in model.config.par_names])
        simulated = [entry for entry in TEMPLATES.entries if entry.up is not None]
        total = [
            sum(getattr(entry, which).values() for entry in simulated if entry.region == region)
            for region in model.config.channels
        ]
        np.testing.assert_allclose(expected, np.concatenate(total), rtol=1e-9)


def test_a_normalisation_shifts_the_signal_strength_as_it_must():
    """One bin, no statistical errors: δ of a background B adds B·δ/S to the error of μ."""
    signal, background = 1000.0, 10_000.0
    templates = templates_of(
        ("S", [signal], [signal], [signal]), ("B", [background], [background * 1.1], [background * 0.9])
    )
    found = fit_impact(templates, Measurement(signal="S"))
    assert found.value == pytest.approx(1, abs=1e-4)
    assert found.error_without == pytest.approx(np.sqrt(signal + background) / signal, rel=0.02)
    assert found.systematic_error == pytest.approx(0.1 * background / signal, rel=0.05)
    (first, *_) = found.nuisances
    assert (first.name, found.ranking[0]) == ("conserv_B", first)
    assert abs(first.up) == pytest.approx(1, rel=0.1)
    assert first.pull == pytest.approx(0, abs=1e-3)
    assert "conserv_B: pull" in str(found)
    assert "rank 1 of" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["systematic_error"] == found.systematic_error


def test_templates_without_effect_add_nothing():
    """Up and Down equal to nominal: the error of the signal strength stays."""
    same = ([4.0, 9.0], [4.0, 9.0], [4.0, 9.0])
    found = fit_impact(templates_of(("S", *same), ("B", *([50.0, 20.0],) * 3)), Measurement(signal="S"))
    assert found.error == pytest.approx(found.error_without, rel=1e-3)


def test_the_impact_falls_with_the_scale():
    """Half of the shift adds about half of the error."""
    templates = templates_of(("S", *([10.0, 40.0],) * 3), ("B", [90.0, 30.0], [80.0, 40.0], [95.0, 25.0]))
    whole, half = (
        fit_impact(templates.treated(Treatment(scale=scale)), Measurement(signal="S")).systematic_error
        for scale in (1.0, 0.5)
    )
    assert 0.3 * whole < half < 0.8 * whole


# ---------------------------------------------------------------------------------------- correctionlib


def test_weights_close():
    """Nominal events with the weights of their score have the attacked templates."""
    made = correctionlib.CorrectionSet.from_string(make_weights(TEMPLATES).model_dump_json())["conserv"]
    for process, datasets in {"W": ("W1", "W2"), "Z": ("Z",)}.items():
        for region in ("control", "signal"):
            values, weight = events_of(datasets, region, SAMPLES)
            score = values["nominal"]["score"]
            for direction, template in zip(
                ("nominal", "up", "down"), _three(TEMPLATES.get(process, region)), strict=True
            ):
                factor = made.evaluate(process, region, direction, score)
                histogram = hist.Hist(RESULT.axis("score"), storage=hist.storage.Weight())
                histogram.fill(score, weight=weight * factor)
                np.testing.assert_allclose(histogram.values(), template.values(), rtol=1e-9, atol=1e-12)


def _three(entry):
    return entry.nominal, entry.up, entry.down


def test_weights_outside_of_the_axis_and_in_empty_bins(tmp_path):
    """Beyond the ends the weight is that of the last bin; where nominal is empty it is 1."""
    templates = templates_of(("B", [4, 0, 2], [2, 3, 3], [4, 0, 2]))
    path = write_weights(templates, tmp_path / "weights.json", name="robustness")
    made = correctionlib.CorrectionSet.from_file(str(path))["robustness"]
    found = [made.evaluate("B", "SR", "up", value) for value in (-1.0, 0.1, 0.5, 0.9, 2.0)]
    assert found == [0.5, 0.5, 1.0, 1.5, 1.5]
    assert MEANING in made.description
    with pytest.raises(IndexError):
        made.evaluate("C", "SR", "up", 0.5)
    with pytest.raises(InputError, match="there is no simulated process to make weights of"):
        make_weights(Templates("score", "Score", ()))


# ------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"signal": ()}, r"signal=\(\) must be the name of a process, or a list of such"),
        ({"signal": "Z", "nuisances": "all"}, "nuisances='all' is none of 'process', 'region', 'one'"),
        ({"signal": "Z", "poi": "r mu"}, "poi='r mu' must be a name of letters, digits and underscores"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    """Each error names the argument and what it may be."""
    with pytest.raises(ConfigurationError, match=message):
        Measurement(**options)


def test_what_no_fit_can_do_is_refused(tmp_path):
    """Unknown signal, nothing but signal, entries that are not finite, different bins, negative sums."""
    good = templates_of(("S", *([1, 2],) * 3), ("B", *([5, 5],) * 3))
    with pytest.raises(InputError, match="signal: there is no process VBF; there are S, B"):
        check_measurement(good, Measurement(signal="VBF"))
    with pytest.raises(InputError, match="signal: all processes are signal; leave out"):
        check_measurement(good, Measurement(signal=["S", "B"]))
    bad = templates_of(("S", *([1, 2],) * 3), ("B", [5, 5], [5, np.nan], [5, 5]))
    for export in (write_combine, write_cabinetry):
        with pytest.raises(InputError, match="SR/B_conservUp has entries that are not finite"):
            export(bad, Measurement(signal="S"), tmp_path)
    assert not list(tmp_path.iterdir())
    for side in ("up", "down"):
        one = replace(good, entries=(replace(good.entries[0], **{side: None}), good.entries[1]))
        with pytest.raises(InputError, match=f"SR/S has no {side.title()}; take nominal for it, or a mirror"):
            write_combine(one, Measurement(signal="S"), tmp_path)
    bins = templates_of(("S", *([1, 2],) * 3), ("B", *([5],) * 3))
    with pytest.raises(InputError, match="the bins of region 'SR' are not the same for all processes"):
        check_measurement(bins, Measurement(signal="S"))
    negative = templates_of(("S", *([1, 2],) * 3), ("B", *([-5, 9],) * 3))
    with pytest.raises(InputError, match=r"region 'SR' is not positive in bin\(s\) 0, which no fit"):
        fit_impact(negative, Measurement(signal="S"))


def test_bins_with_signal_only_are_found_with_a_remedy():
    """What Combine's own check complains about is reported, each with what to do."""
    templates = templates_of(("S", *([1, 2],) * 3), ("B", *([0, 5],) * 3))
    (found,) = check_measurement(templates, Measurement(signal="S"))
    assert (found.kind, found.region, found.bins) == ("no background", "SR", (0,))
    assert found.remedy == "merge bins: a fit of a signal without background there is unstable"


def test_what_is_fitted_in_the_place_of_data():
    """Blind, or without data: the sum of nominal templates; else data."""
    for blind in (True, False):
        fitted = observed(TEMPLATES, Measurement(signal="Z", blind=blind))
        for region in fitted.regions:
            total = sum(fitted.get(p, region).nominal.values() for p in ("W", "Z"))
            total = total + (fitted.get("QCD", region).nominal.values() if region == "signal" else 0)
            data = TEMPLATES.get("data", region).nominal.values()
            np.testing.assert_allclose(fitted.get("data", region).nominal.values(), total if blind else data)


@pytest.mark.parametrize("package", ["cabinetry", "yaml", "correctionlib"])
def test_what_is_not_installed_is_named(package, tmp_path, monkeypatch):
    """Without the package the error says how to install it, and nothing is written."""
    monkeypatch.setitem(sys.modules, package, None)
    call = {
        "cabinetry": lambda: make_workspace(TEMPLATES, MEASUREMENT),
        "yaml": lambda: write_cabinetry(TEMPLATES, MEASUREMENT, tmp_path),
        "correctionlib": lambda: write_weights(TEMPLATES, tmp_path / "w.json"),
    }[package]
    with pytest.raises(ConfigurationError, match=r"pip install 'coffea-conserv\[fit\]'"):
        call()
    assert not list(tmp_path.iterdir())
