"""Bounds of parameters in fits: they give way, or there is no number, and everybody says so."""

from __future__ import annotations

import copy
import json
import math
import socket
import warnings
from dataclasses import replace
from types import SimpleNamespace

import cabinetry
import numpy as np
import pytest
from made_events import made
from made_results import result_of
from made_templates import filled, templates_of
from typer.testing import CliRunner

from coffea_conserv.cli.app import app
from coffea_conserv.exports import (
    Measurement,
    cabinetry_config,
    fit_impact,
    fitting,
    make_workspace,
    write_cabinetry,
    write_combine,
)
from coffea_conserv.exports.fitting import Fit, Found, NoMinimumError, Parameter
from coffea_conserv.exports.impact import FitImpact
from coffea_conserv.exports.naming import fit_names
from coffea_conserv.exports.profiles import Profile, profile
from coffea_conserv.exports.ranking import Nuisance, ranked
from coffea_conserv.plotting import impact_plot
from coffea_conserv.report import tables
from coffea_conserv.templates.templates import Templates

EXACT = 1e-12
"""Variance of templates as a share of their content: no statistical error of their own."""

SIGNAL, BACKGROUND = 10.0, 67_590.0
SIGMA = 26.0
"""√(S + B) / S of 10 and 67 590 events."""

MEASUREMENT = Measurement(signal="S")


@pytest.fixture(autouse=True)
def _alone():
    """No export uses the network; warnings of the fit tools are not ours."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
        yield


def search(shift=0.0, **options):
    """One bin with a small signal on a large background that the attack changes by a share."""
    background = [[BACKGROUND * (1 + sign * shift)] for sign in (0, 1, -1)]
    return templates_of(("S", *[[SIGNAL]] * 3), ("B", *background), share=EXACT, **options)


# --------------------------------------------------------------------------------- bounds that give way


@pytest.mark.parametrize("shift", [0.0, 0.001, 0.01])
def test_the_error_of_a_weak_search_is_that_of_its_background(shift):
    """σ(μ) = √(S + B)/S = 26, and a background that changes by δ adds δB/S: 0, 6.76 and 67.6."""
    found = fit_impact(search(shift), MEASUREMENT)
    assert found.value == pytest.approx(1, abs=0.01 * SIGMA)
    assert found.error_without == pytest.approx(SIGMA, rel=0.002)
    assert found.error == pytest.approx(np.hypot(SIGMA, shift * BACKGROUND / SIGNAL), rel=0.005)
    assert found.systematic_error == pytest.approx(shift * BACKGROUND / SIGNAL, rel=0.01, abs=0.3)
    assert found.notes == ()


def test_bounds_of_a_workspace_give_way_too():
    """±20 as older files have them, or narrower ones: the same numbers."""
    spec = make_workspace(search(0.001), MEASUREMENT)
    for given in ([-20, 20], [0, 2], [0.9, 1.1]):
        own = copy.deepcopy(spec)
        (poi,) = [p for p in own["measurements"][0]["config"]["parameters"] if p["name"] == "mu"]
        poi["bounds"] = [given]
        found = fit_impact(search(0.001), MEASUREMENT, workspace=own)
        assert found.error_without == pytest.approx(SIGMA, rel=0.002)
        assert found.systematic_error == pytest.approx(6.759, rel=0.02)
        (first, *_) = found.nuisances
        assert (first.name, max(abs(first.up), abs(first.down))) == (
            "conserv_B",
            pytest.approx(6.76, rel=0.05),
        )


def test_a_signal_strength_far_from_one_is_found():
    """600 events on a background of 100 with one of signal: 500 ± √600."""
    given = templates_of(("S", *[[1.0]] * 3), ("B", *[[100.0]] * 3), share=EXACT, data=[600.0])
    found = fit_impact(given, replace(MEASUREMENT, blind=False))
    assert found.value == pytest.approx(500, abs=0.02 * math.sqrt(600))
    assert found.error == pytest.approx(math.sqrt(600), rel=0.005)
    assert found.notes == ()


def test_fit_tools_get_bounds_that_are_wide_enough(tmp_path):
    """The fit of cabinetry finds 26 with our file; Combine is told of the range; small errors keep ±20."""
    config = cabinetry.configuration.load(write_cabinetry(search(), MEASUREMENT, tmp_path))
    (low, high) = config["NormFactors"][0]["Bounds"]
    assert low < 1 - 5 * SIGMA
    assert high > 1 + 5 * SIGMA
    cabinetry.templates.collect(config, method="uproot")
    model, data = cabinetry.model_utils.model_and_data(cabinetry.workspace.build(config))
    own = cabinetry.fit.fit(model, data, minos="mu").minos_uncertainty["mu"]
    assert np.mean(np.abs(own)) == pytest.approx(SIGMA, rel=0.002)
    card = write_combine(search(), MEASUREMENT, tmp_path).read_text()
    assert f"combine --rMin {low} --rMax {high}" in card
    strong = templates_of(("S", *[[1000.0]] * 3), ("B", *[[10_000.0]] * 3))
    assert cabinetry_config(strong, MEASUREMENT, tmp_path)["NormFactors"][0]["Bounds"] == [-20, 20]
    assert "--rMin" not in write_combine(strong, MEASUREMENT, tmp_path).read_text()


def weak_result():
    """A signal of 6 events on 20 000 of background, in two regions of which one bin each is fitted."""
    return result_of(
        made("H", "a:0-120", 120, seed=1, weight=0.05),
        made("B", "b:0-20000", 20_000, seed=2),
        processes={},
        estimates=(),
    )


def test_the_command_line_measures_a_weak_signal(tmp_path):
    """Bins of n events with the variance 2n, that of data and of simulation: 1/σ² = Σ s²/2n."""
    weak_result().save(tmp_path / "result.coffea")
    done = exported(tmp_path)
    assert "WARNING" not in done.output
    found = json.loads((tmp_path / "fit" / "impact.json").read_text())
    bins = [(2.0, 2 * 6667), (4.0, 2 * 13333)]
    right = sum(s**2 / n for s, n in bins) ** -0.5
    assert right == pytest.approx(100 / 3, abs=0.01)
    assert found["value"] == pytest.approx(1, abs=0.01 * right)
    assert found["error_without"] == pytest.approx(right, rel=0.01)
    # Up loses a tenth of the background over the edge of the axis, Down nothing: a kink
    assert 0.45 * 325 < found["systematic_error"] < 0.65 * 325
    assert found["notes"] == []


def exported(folder, *arguments):
    """Run ``coffea-conserv export`` of one bin for each region."""
    told = ["export", str(folder), "--signal", "H", "--merge", "4", *arguments]
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, told)
    assert done.exit_code == 0, done.output
    return done


# ---------------------------------------------------------------------- no number from what ended at a bound


@pytest.fixture
def stiff(monkeypatch):
    """Bounds that do not give way."""
    monkeypatch.setattr(fitting, "WIDEST", 0.0)


def narrow(templates, bounds=(-20, 20)):
    """Workspace with other bounds of the signal strength."""
    spec = make_workspace(templates, MEASUREMENT)
    spec["measurements"][0]["config"]["parameters"][0]["bounds"] = [list(bounds)]
    return spec


@pytest.mark.usefixtures("stiff")
def test_an_error_that_ended_at_a_bound_is_none():
    """Where bounds do not give way there is a value and no error, and both numbers say why."""
    found = fit_impact(search(0.001), MEASUREMENT, workspace=narrow(search(0.001)))
    assert found.value == pytest.approx(1, abs=0.01 * SIGMA)
    assert math.isnan(found.error)
    assert math.isnan(found.error_without)
    assert math.isnan(found.systematic_error)
    ends = "no error, lower error ended at the bound -20, upper error ended at the bound 20"
    assert found.notes == (f"mu: {ends}", f"mu without the systematic: {ends}")
    lines = str(found).splitlines()
    assert re_spaces(lines[0]) == (
        "mu = 1.000 ± unknown with and 1.000 ± unknown without the systematic; what it adds is not known "
        "(fit to sum of nominal templates)"
    )
    assert lines[1:3] == [f"WARNING: {note}" for note in found.notes]


def re_spaces(text):
    """Text with a signal strength of 1, however it was rounded."""
    return text.replace("0.999", "1.000").replace("1.001", "1.000")


@pytest.mark.usefixtures("stiff")
def test_everybody_says_that_there_is_no_number(tmp_path):
    """JSON, table, headline and picture of what has no error."""
    found = fit_impact(search(0.001), MEASUREMENT, workspace=narrow(search(0.001)))
    content = found.to_dict()
    text = json.dumps(content, allow_nan=False)
    assert (content["error"], content["systematic_error"], content["notes"][0][:3]) == (None, None, "mu:")
    again = FitImpact.from_dict(json.loads(text))
    assert again.to_dict() == content
    assert (math.isnan(again.error), again.notes, str(again)) == (True, found.notes, str(found))
    note = tables.impact_table(found).note
    assert "± unknown with" in note
    assert "WARNING: mu: no error, lower error ended at the bound -20" in note
    figure = impact_plot(found)
    figure.canvas.draw()
    drawn = [one.get_text() for one in figure.texts]
    assert any("WARNING: mu: no error" in one for one in drawn)
    assert any("± unknown, 1" in one for one in drawn)


@pytest.mark.usefixtures("stiff")
def test_the_command_line_says_that_there_is_no_number(tmp_path, monkeypatch):
    """A line that begins with WARNING, null in the file, and the same on the page."""
    weak_result().save(tmp_path / "result.coffea")
    monkeypatch.setattr("coffea_conserv.exports.histfactory.bounds", lambda *_: (-20, 20))
    done = exported(tmp_path)
    assert "WARNING: mu: no error, lower error ended at the bound -20" in done.output
    assert "± 20" not in done.output
    assert json.loads((tmp_path / "fit" / "impact.json").read_text())["error"] is None
    CliRunner().invoke(app, ["report", str(tmp_path)])
    page = (tmp_path / "report.html").read_text()
    assert "WARNING: mu: no error, lower error ended at the bound -20" in page


@pytest.mark.usefixtures("stiff")
def test_a_value_that_ended_at_a_bound_is_none():
    """500 within ±20: no value, no error and no impact of anything."""
    given = templates_of(("S", *[[1.0]] * 3), ("B", *[[100.0]] * 3), share=EXACT, data=[600.0])
    blind = replace(MEASUREMENT, blind=False)
    spec = make_workspace(given, blind)
    spec["measurements"][0]["config"]["parameters"][0]["bounds"] = [[-20, 20]]
    found = fit_impact(given, blind, workspace=spec)
    assert all(math.isnan(x) for x in (found.value, found.error, found.value_without, found.error_without))
    assert found.notes[0] == "mu: no value, ended at the bound 20"
    assert "mu = no value with and no value without" in str(found)
    assert all(math.isnan(row.up) and math.isnan(row.impact) for row in found.ranking)


def pulled(data):
    """A background whose nuisance data pull: in the second bin 100 ± 100 events for each σ."""
    entries = (
        ("S", *[[50.0, 0.0]] * 3),
        ("B", [1000.0, 10_000.0], [1000.0, 10_100.0], [1000.0, 9900.0]),
    )
    return fit_impact(
        templates_of(*entries, share=EXACT, data=[1050.0, data]), replace(MEASUREMENT, blind=False)
    )


def test_a_nuisance_that_ended_at_its_bound_has_no_pull():
    """2000 events too many would pull by 10 σ, which ends at 5: no pull, no constraint and no impact."""
    found = pulled(12_000.0)
    (row,) = [row for row in found.nuisances if row.name == "conserv_B"]
    assert all(math.isnan(x) for x in (row.pull, row.constraint, row.up, row.down, row.impact))
    assert "conserv_B: no value, ended at the bound 5" in found.notes
    assert "conserv_B: pull unknown ± unknown, changes mu by unknown and unknown" in str(found)
    assert found.ranking[-1] == row  # behind those whose impact is known
    assert FitImpact.from_dict(json.loads(json.dumps(found.to_dict()))).to_dict() == found.to_dict()
    table = {r["nuisance"]: r for r in tables.impact_table(found).values()}
    assert table["conserv_B"]["pull"] is None
    figure = impact_plot(found)
    assert any(" no number up" in text.get_text() for text in figure.axes[0].texts)


def test_a_nuisance_whose_error_ends_at_its_bound_has_no_constraint():
    """Pulled by 4.7 with an error of 0.7: the value is one, the error is not."""
    found = pulled(10_940.0)
    (row,) = [row for row in found.nuisances if row.name == "conserv_B"]
    assert row.pull == pytest.approx(4.7, abs=0.2)
    assert math.isnan(row.constraint)
    assert [n for n in found.notes if n.startswith("conserv_B: no error, upper error ended at the bound 5")]


def test_what_pulls_less_has_all_numbers():
    """By 2 σ: 400 events of 10 000, half of which are the nuisance; the error is 1/√2."""
    found = pulled(10_400.0)
    (row,) = [row for row in found.nuisances if row.name == "conserv_B"]
    assert row.pull == pytest.approx(2.0, abs=0.1)
    assert row.constraint == pytest.approx(1 / math.sqrt(2), rel=0.03)
    assert found.notes == ()


def test_a_likelihood_that_does_not_change_has_no_signal_strength():
    """No event where the signal is, and next to no background: any μ below 0 is as good."""
    given = templates_of(("S", *[[5.0, 0.0]] * 3), ("B", *[[0.5, 100.0]] * 3), share=EXACT, data=[0.0, 100.0])
    found = fit_impact(given, replace(MEASUREMENT, blind=False))
    assert math.isnan(found.error)
    assert math.isnan(found.value)
    assert found.notes[0] == "mu: no value, the likelihood hardly changes with it"
    assert "mu = no value with and no value without the systematic" in str(found)


def test_bins_of_few_events_are_not_moved_below_nothing():
    """A statistical error of 150 %: down there is nothing to move to, and no impact is made up."""
    entries = (("S", *[[20.0, 0.0]] * 3), ("B", *[[100.0, 0.2]] * 3))
    made_of = templates_of(*entries, share=EXACT)
    (signal, background) = made_of.entries
    wide = filled(100.0, 0.2, variance=[1e-6, 0.3**2])
    rough = replace(background, nominal=wide, up=wide, down=wide)
    found = fit_impact(Templates("score", "Score", (signal, rough)), MEASUREMENT)
    (row,) = [row for row in found.ranking if row.name == "staterror_SR[1]"]
    assert row.constraint > 1
    assert math.isnan(row.down)
    assert "staterror_SR[1]: no impact on the side on which the error passes the bound" in found.notes
    assert row.impact == pytest.approx(abs(row.up))


# ---------------------------------------------------------------------------------------- fits that fail


class Fits:
    """Minimisers that converge with one setting only, or never."""

    def __init__(self, works, *, covariance=True):
        self.works, self.covariance, self.tried = works, covariance, []

    def __call__(self, model, data, *, start, bounds, fixed, errors, **setting):
        """Minimise, and note with what."""
        self.tried.append(setting)
        if setting != self.works:
            raise NoMinimumError
        return SimpleNamespace(
            values=[start[0], 1.3],
            errors=[0.5, 0.2],
            fixed=list(fixed),
            merrors={},
            params=[SimpleNamespace(merror=None)] * 2,
            covariance=Covariance() if self.covariance else None,
        )


class Covariance(np.ndarray):
    """Of two parameters with a correlation of 0.4."""

    def __new__(cls):
        """Make it."""
        return np.array([[0.25, 0.04], [0.04, 0.04]]).view(cls)

    def correlation(self):
        """Correlations."""
        return np.array([[1, 0.4], [0.4, 1]])


def two(fits):
    """A fit of a nuisance and a signal strength."""
    config = SimpleNamespace(
        par_names=["conserv_B", "mu"],
        suggested_bounds=lambda: [(-5, 5), (-20, 20)],
        suggested_fixed=lambda: [False] * 2,
        suggested_init=lambda: [0.0, 1.0],
    )
    return Fit(SimpleNamespace(config=config), None, "mu", fits)


def test_a_fit_that_does_not_converge_is_tried_in_other_ways():
    """One after the other; at last the error of the fit."""
    for works, count in (({}, 1), ({"strategy": 0}, 2), ({"tolerance": 1.0}, 4)):
        fits = Fits(works)
        assert two(fits).run().parameters["mu"].value == 1.3
        assert len(fits.tried) == count
    with pytest.raises(NoMinimumError, match="no setting of Minuit finds a minimum"):
        two(Fits(None)).run()


def test_a_fit_without_covariance_has_no_errors():
    """Second derivatives that are none are tried again, and then make no number."""
    fits = Fits({"strategy": 0}, covariance=False)
    found = two(fits).run().parameters["conserv_B"]
    assert len(fits.tried) == 4
    assert math.isnan(found.error)
    assert found.note == "no error, second derivatives have no covariance"


def test_an_impact_without_a_fit_is_that_of_the_covariance():
    """ρ σ_μ, up and down, with a note that names the nuisance; with a fit it is the difference."""
    parameters = {"conserv_B": Parameter(0.0, 0.5, 0.4), "mu": Parameter(1.0, 0.2, 1.0)}
    found = Found(parameters, ((-5, 5), (-20, 20)), near=False)
    names = fit_names(search(), MEASUREMENT)
    ranking = ranked(two(Fits(None)), found, names)
    (row,) = ranking.rows
    assert (row.up, row.down) == pytest.approx((0.08, -0.08))
    assert ranking.notes == (
        "conserv_B: impact to first order only, no fit converges where the nuisance is moved by its error",
    )
    (row,) = ranked(two(Fits({})), found, names).rows
    assert (row.up, row.down) == pytest.approx((0.3, 0.3))


# ------------------------------------------------------------------------------------------- profiles


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_a_kink_in_the_likelihood_does_not_stop_its_profile(share):
    """A background that only falls, by δ: up √(σ² + (δB/S)²), as far as a Gaussian goes; down σ at least.

    MINOS follows the wrong side of the kink, and called 18 valid for 326 in such a fit.
    """
    signal, background = 6.0, 20_000.0
    shifted = [[background], [background * (1 - share)], [background]]
    given = templates_of(("S", *[[signal]] * 3), ("B", *shifted), share=EXACT)
    model, data = cabinetry.model_utils.model_and_data(make_workspace(given, MEASUREMENT))
    found = fit_impact(given, MEASUREMENT)
    lower, upper = (scanned(model, data, sign) for sign in (-1, 1))
    assert upper == pytest.approx(
        np.hypot(math.sqrt(background) / signal, share * background / signal), rel=0.1
    )
    assert found.error == pytest.approx((lower + upper) / 2, rel=0.03)


def scanned(model, data, sign):
    """Distance at which 2 Δ log L is 1, from a fine grid of the nuisance and nothing of Minuit."""
    names = model.config.par_names
    values = np.array(model.config.suggested_init())
    steps = np.linspace(-2, 2, 801)

    def lowest(mu):
        best = math.inf
        for step in steps:
            values[names.index("mu")], values[names.index("conserv_B")] = mu, step
            best = min(best, -2 * float(model.logpdf(values, data)[0]))
        return best

    zero, low, high = lowest(1.0), 0.0, 500.0
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (middle, high) if lowest(1 + sign * middle) - zero < 1 else (low, middle)
    return high


@pytest.mark.parametrize(
    ("rise", "guess", "ends"),
    [
        (lambda x: x**2, (-1.0, 1.0), (-1.0, 1.0, True, False, False)),
        (lambda x: x**2 / 4 if x > 0 else 4 * x**2, (-3.0, 0.1), (-0.5, 2.0, True, False, False)),
        (lambda x: x**2 / 400, (-1.0, 1.0), (-10.0, 10.0, True, True, True)),
        (lambda x: max(x, 0.0) ** 2, (-1.0, 1.0), (-10.0, 1.0, True, True, False)),
        (lambda x: x**2 if x < 0 else math.nan, (-1.0, 1.0), (-1.0, math.nan, False, False, False)),
        (lambda x: x**2 if x < 0 else -x, (-1.0, 1.0), (-1.0, math.nan, False, False, False)),
        (lambda x: 0.0 if abs(x) < 5 else 50.0, (-1.0, 1.0), (math.nan, math.nan, False, False, False)),
    ],
)
def test_ends_of_a_profile(rise, guess, ends):
    """Right, too near, too far, beyond the bound, without a fit, with another minimum, and with a step."""
    found = profile(rise, guess, (-10.0, 10.0))
    names = ("lower", "upper", "is_valid", "at_lower_limit", "at_upper_limit")
    for name, end in zip(names, ends, strict=True):
        assert getattr(found, name) == pytest.approx(end, rel=0.02, nan_ok=True), name


@pytest.mark.parametrize(
    ("found", "error", "note"),
    [
        ((-2.0, 4.0, True, False, False), 3.0, ""),
        (
            (-21.0, 4.0, True, True, False),
            math.nan,
            "no error, lower error ended at the bound -20, upper error +4",
        ),
        (
            (-2.0, 18.99, True, False, False),
            math.nan,
            "no error, upper error ended at the bound 20, lower error -2",
        ),
        (
            (-2.0, 1e13, True, False, False),
            math.nan,
            "no error, upper error ended at the bound 20, lower error -2",
        ),
        (
            (-2.0, 4.0, False, False, False),
            2.5,
            "error from second derivatives, its profile did not converge",
        ),
        (
            (-2.0, math.nan, False, False, False),
            2.5,
            "error from second derivatives, its profile did not converge",
        ),
    ],
)
def test_sides_of_a_profile(found, error, note):
    """What stopped at a bound is no error, and what could not be followed has that of second derivatives."""
    made_of = fitting._profiled(1.0, 2.5, Profile(*found), (-20.0, 20.0))
    assert (made_of.error, made_of.note) == (pytest.approx(error, nan_ok=True), note)


def test_a_nuisance_without_impact_is_the_last():
    """The larger of what is known counts."""
    row = Nuisance("a", 0.0, 1.0, math.nan, -0.5, "other")
    assert row.impact == 0.5
    assert math.isnan(replace(row, down=math.nan).impact)
