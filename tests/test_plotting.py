"""Pictures of distributions: what is drawn, and that matplotlib is left as it was."""

from __future__ import annotations

import math
from dataclasses import replace

import hist
import numpy as np
import pytest
from made_events import FEATURES, SETTINGS, WATCHED, made, scored
from made_figures import FIGURES, NO_DATA, RESULT, nominal_of, pixels, plt, points, steps, texts
from made_results import SAMPLES, result_of
from matplotlib import get_backend, rc_context, rcParams
from matplotlib.colors import to_rgba
from matplotlib.patches import StepPatch

from coffea_conserv.errors import InputError
from coffea_conserv.plotting import control_plot, template_plot, templates_plot
from coffea_conserv.plotting.style import ATTACKED, LEGEND, STATUS, Box, new_figure, ratio, two_panels
from coffea_conserv.results.making import make_result
from coffea_conserv.sums.sums import Sums, fill_sums
from coffea_conserv.templates.template import LABEL


@pytest.mark.parametrize("kind", FIGURES)
def test_every_picture_says_what_it_shows(kind):
    """The meaning of the attacked lines and the status are written in every picture."""
    figure = FIGURES[kind](RESULT, label="my status")
    assert any(LABEL in text for text in texts(figure))
    assert "my status" in texts(figure)
    assert STATUS in texts(FIGURES[kind](RESULT))


@pytest.mark.parametrize("kind", FIGURES)
def test_matplotlib_is_left_as_it_was(kind, tmp_path):
    """Settings are the same before and after drawing and saving, and no figure is open in pyplot."""
    backend = get_backend()
    before = rcParams.copy()
    FIGURES[kind](RESULT).savefig(tmp_path / "a.png")
    assert rcParams == before
    assert get_backend() == backend
    assert plt.get_fignums() == []


@pytest.mark.parametrize("kind", FIGURES)
def test_the_style_of_the_user_changes_no_picture(kind):
    """A picture looks the same whatever style the user has chosen, also if it is saved within it."""
    expected = pixels(FIGURES[kind](RESULT))
    with plt.style.context("dark_background"), rc_context({"xtick.minor.visible": False, "font.size": 5}):
        figure = FIGURES[kind](RESULT)
        drawn = pixels(figure)
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("kind", FIGURES)
@pytest.mark.parametrize("scale", [1.0, 3e3, 1e7])
def test_nothing_is_written_outside_of_the_picture(kind, scale):
    """Every text and panel lies within the figure, also with large numbers."""
    figure = FIGURES[kind](result_of(*(replace(s, weight=scale * s.weight) for s in SAMPLES)))
    figure.canvas.draw()
    box = figure.get_tightbbox(figure.canvas.get_renderer())  # in inches, of what is drawn
    width, height = figure.get_size_inches()
    assert box.x0 > -0.01
    assert box.y0 > -0.01
    assert box.x1 < width + 0.01
    assert box.y1 < height + 0.01


def test_a_control_plot_has_two_panels_with_labels():
    """Contents above, ratio below; title, region, processes and lines are named."""
    main, lower = control_plot(RESULT, "x", "signal").axes
    assert main.get_ylabel() == "Events / bin"
    assert lower.get_ylabel() == "Ratio to\nnominal"
    assert lower.get_xlabel() == "Momentum [GeV]"
    assert (main.get_title("left"), main.get_title("right")) == (STATUS, "signal")
    legend = main.get_legend()
    assert legend.get_title().get_text() == LEGEND
    named = [text.get_text() for text in legend.get_texts()]
    assert named[0] == "data"
    assert set(named[1:4]) == {"QCD", "W", "Z"}
    assert named[4:] == ["nominal, stat. error", *(look["label"] for look in ATTACKED.values())]
    assert main.get_xlim() == lower.get_xlim() == (0, 1)


def test_the_processes_are_stacked_to_the_total():
    """Fills lie on each other, the largest on top, and end at the nominal total."""
    main, _ = control_plot(RESULT, "x", "signal").axes
    fills = [p for p in main.patches if isinstance(p, StepPatch) and p.get_fill()][:3]
    base = np.zeros(10)
    sums = []
    for fill in fills:
        np.testing.assert_allclose(fill.get_data().baseline, base)
        sums.append((fill.get_data().values - base).sum())
        base = fill.get_data().values
    np.testing.assert_allclose(base, nominal_of(RESULT, "x", "signal"))
    assert sums == sorted(sums)


@pytest.mark.parametrize("name", ["x", "total", "score"])
def test_lines_are_the_attacked_totals(name):
    """Lines above are the attacked totals, below their ratio to the nominal one."""
    main, lower = control_plot(RESULT, name, "signal").axes
    entries = RESULT.templates(name, regions=["signal"]).entries
    nominal = nominal_of(RESULT, name, "signal")
    for attribute, look in zip(("up", "down"), ATTACKED.values(), strict=True):
        total = sum(getattr(entry, attribute).values() for entry in entries if entry.process != "data")
        np.testing.assert_allclose(steps(main, look["color"])[0], total)
        np.testing.assert_allclose(steps(lower, look["color"])[0], ratio(total, nominal))


def test_data_are_points_with_their_errors():
    """Points above are the contents of data, below their ratio to the nominal total."""
    main, lower = control_plot(RESULT, "x", "signal").axes
    data = RESULT.templates("x").get("data", "signal").nominal
    (above,), (below,) = points(main), points(lower)
    np.testing.assert_allclose(above[:, 0], data.axes[0].centers)
    np.testing.assert_allclose(above[:, 1], data.values())
    np.testing.assert_allclose(below[:, 1], data.values() / nominal_of(RESULT, "x", "signal"))


def test_data_are_drawn_only_where_there_are_some():
    """No point without data, none in a region that data were not filled in, none in an empty bin."""
    for panel in control_plot(NO_DATA, "x", "signal").axes:
        assert points(panel) == []
    assert "data" not in texts(control_plot(NO_DATA, "x", "signal"))
    blinded = replace(SAMPLES[-1], regions={"control": SAMPLES[-1].regions["control"]})
    result = result_of(*SAMPLES[:-1], blinded)
    assert points(control_plot(result, "x", "signal").axes[0]) == []
    assert len(points(control_plot(result, "x", "control").axes[0])) == 1
    few = replace(scored([0.1, 0.9], [0.1], [0.1], dataset="Mu"), real=True)
    few = replace(few, values={"nominal": few.values["nominal"]}, unattacked={})
    (found,) = points(
        control_plot(result_of(SAMPLES[4], few, processes={}, estimates=()), "score", "signal").axes[0]
    )
    np.testing.assert_allclose(found, [[0.125, 1], [0.875, 1]])


def test_data_are_not_compared_with_a_total_that_lacks_an_estimate():
    """In the control region of an estimate data stand above, and below it says why they are left out."""
    main, lower = control_plot(RESULT, "x", "control").axes
    assert len(points(main)) == 1
    assert points(lower) == []
    assert [text.get_text() for text in lower.texts] == ["no estimate of QCD here"]
    _, lower = control_plot(RESULT, "x", "signal").axes
    assert len(points(lower)) == 1
    assert not [text for text in lower.texts if text.get_text()]


def test_data_beyond_the_ratio_panel_are_marked():
    """Where data are far above simulation a triangle stands at the upper edge."""
    data = replace(SAMPLES[-1], weight=np.full(300, 50.0))
    _, lower = control_plot(result_of(*SAMPLES[:-1], data, estimates=()), "x", "signal").axes
    (marks,) = [line for line in lower.lines if line.get_marker() == "^"]
    assert len(marks.get_xdata()) == 10
    assert marks.get_ydata() == pytest.approx(1 + 0.92 * (lower.get_ylim()[1] - 1))


def test_an_axis_of_integers_has_its_bins_on_the_numbers():
    """Edges lie half way between the numbers and ticks on them; angles have parts of π."""
    whole, turn = (
        hist.axis.Integer(0, 5, label="jets"),
        hist.axis.Regular(8, -math.pi, math.pi, circular=True, label=r"$\phi$"),
    )
    panels = []
    for axis in (whole, turn):
        main, lower = two_panels(new_figure((8, 8)), Box(1, 1, 6, 6), axis, axis.label)
        main.figure.canvas.draw()
        panels.append(lower)
    assert panels[0].get_xlim() == (-0.5, 4.5)
    assert [tick for tick in panels[0].get_xticks() if tick >= 0][:3] == [0, 1, 2]
    assert [label.get_text() for label in panels[1].get_xticklabels()] == ["−π", "−π/2", "0", "π/2", "π"]
    zero = hist.axis.Regular(8, 0, 2 * math.pi, circular=True)
    _, lower = two_panels(new_figure((8, 8)), Box(1, 1, 6, 6), zero, "")
    assert [label.get_text() for label in lower.get_xticklabels()] == ["0", "π/2", "π", "3π/2", "2π"]


def test_integers_of_a_run_are_drawn_on_the_numbers():
    """Data of an integer feature are points above the numbers."""
    features = (replace(FEATURES[0], axis=hist.axis.Integer(0, 3)), FEATURES[1])
    settings = replace(SETTINGS, features=features, watched=WATCHED)
    sample = made(n=90)
    whole = np.arange(90) % 3
    values = {v: {**c, "x": whole} for v, c in sample.values.items()}
    data = replace(sample, dataset="Mu", real=True, values={"nominal": values["nominal"]}, unattacked={})
    sums = Sums(SETTINGS.config)
    for one in (replace(sample, values=values), data):
        sums = sums + fill_sums(SETTINGS.config, one, settings.quantities, SETTINGS.score)
    (found,) = points(control_plot(make_result(sums, settings), "x", "control").axes[0])
    np.testing.assert_allclose(found, [[0, 30]])


def test_a_template_plot_has_two_panels():
    """Nominal and attacked templates above, their ratios with the paired error below."""
    figure = template_plot(RESULT, "W", "signal")
    main, lower = figure.axes
    assert main.get_title("right") == "W, signal"
    assert main.get_legend().get_title().get_text() == LEGEND
    assert lower.get_xlabel() == "Score"
    entry = RESULT.templates().get("W", "signal")
    nominal = entry.nominal.values()
    for (variation, look), template in zip(ATTACKED.items(), (entry.up, entry.down), strict=True):
        np.testing.assert_allclose(steps(main, look["color"])[0], template.values())
        bands = [
            p.get_data()
            for p in lower.patches
            if p.get_fill() and p.get_facecolor()[:3] == to_rgba(look["color"])[:3]
        ]
        (band,) = bands
        error = RESULT.paired_error("W", "signal", variation) / nominal
        np.testing.assert_allclose((band.values - band.baseline) / 2, error)
        np.testing.assert_allclose((band.values + band.baseline) / 2, template.values() / nominal)


def test_other_quantities_have_no_paired_error():
    """The paired error is that of the score: other quantities have the statistical error only."""
    _, lower = template_plot(RESULT, "W", "signal", "x").axes
    assert len([p for p in lower.patches if p.get_fill()]) == 1
    assert lower.get_xlabel() == "Momentum [GeV]"


def test_templates_of_a_region_stand_beside_each_other():
    """Two panels for each process with content in the region, estimates among them, data not."""
    for region, names in (("signal", ["W", "Z", "QCD"]), ("control", ["W", "Z"])):
        figure = templates_plot(RESULT, region)
        assert len(figure.axes) == 2 * len(names)
        assert [axes.get_title("right") for axes in figure.axes[::2]] == names
        assert region in texts(figure)
        assert len(figure.legends) == 1
    elsewhere = replace(SAMPLES[4], regions={"control": SAMPLES[4].regions["control"]})
    result = result_of(*SAMPLES[:4], elsewhere, estimates=())
    assert [axes.get_title("right") for axes in templates_plot(result, "signal").axes[::2]] == ["W"]


@pytest.mark.parametrize(
    ("process", "region", "message"),
    [
        (
            "data",
            "signal",
            "data are never attacked; the templates of region 'signal' are those of W, Z, QCD",
        ),
        ("QCD", "control", "there is no 'QCD' in 'control'; the templates .* are those of W, Z"),
        ("no", "signal", "there is no 'no' in 'signal'"),
        ("W", "no", "there is no region no"),
    ],
)
def test_what_has_no_template_is_refused(process, region, message):
    """The error names what there is."""
    with pytest.raises(InputError, match=message):
        template_plot(RESULT, process, region)


def test_a_logarithmic_axis_shows_the_smallest_content():
    """With log=True the axis is logarithmic, with room above the largest content."""
    main, _ = control_plot(RESULT, "x", "signal", log=True).axes
    assert main.get_yscale() == "log"
    bottom, top = main.get_ylim()
    assert bottom > 0
    assert top > 2 * nominal_of(RESULT, "x", "signal").max()
