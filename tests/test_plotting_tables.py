"""Pictures of correlations, limits and of the whole result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_events import SETTINGS, made, with_budget
from made_figures import FIGURES, NO_DATA, RESULT, pixels, points, texts
from made_results import result_of

from coffea_conserv.names import VARIATIONS
from coffea_conserv.plotting import correlation_plot, limits_plot, overview_plot
from coffea_conserv.plotting.style import ATTACKED
from coffea_conserv.results.making import make_result
from coffea_conserv.sums.sums import Sums


def test_correlations_of_a_process():
    """Nominal matrix and both differences in units of 0.001, with one scale for the attacks."""
    figure = correlation_plot(RESULT, "signal", "W")
    nominal, up, down = (axes for axes in figure.axes if axes.images)
    assert len(figure.axes) == 5  # and two colour bars
    matrices = [RESULT.correlation("W", "signal", variation) for variation in VARIATIONS]
    np.testing.assert_allclose(nominal.images[0].get_array(), matrices[0])
    for axes, matrix in ((up, matrices[1]), (down, matrices[2])):
        np.testing.assert_allclose(axes.images[0].get_array(), 1000 * (matrix - matrices[0]))
    assert nominal.images[0].get_clim() == (-1, 1)
    low, high = up.images[0].get_clim()
    assert low == -high
    assert down.images[0].get_clim() == (low, high)
    assert high == pytest.approx(max(np.abs(a.images[0].get_array()).max() for a in (up, down)))
    assert "W, signal" in texts(figure)


def test_correlations_name_the_quantities_once():
    """The first panel has names on both sides, without units; entries are written into the cells."""
    nominal, up, *_ = (axes for axes in correlation_plot(RESULT, "signal", "W").axes if axes.images)
    assert [label.get_text() for label in nominal.get_yticklabels()] == ["Momentum", "y", "total"]
    assert [label.get_text() for label in up.get_yticklabels()] == ["", "", ""]
    assert [label.get_text() for label in up.get_xticklabels()] == ["Momentum", "y", "total"]
    matrix = RESULT.correlation("W", "signal", "nominal")
    assert [text.get_text() for text in nominal.texts] == [f"{entry + 0:.2f}" for entry in matrix.ravel()]


def test_correlations_of_everything_have_data_as_yardstick():
    """Without a process, data − simulation is another panel, where there are data."""
    panels = [axes for axes in correlation_plot(RESULT, "signal").axes if axes.images]
    difference = RESULT.correlation("data", "signal", "nominal") - RESULT.correlation(
        None, "signal", "nominal"
    )
    np.testing.assert_allclose(panels[3].images[0].get_array(), difference)
    assert "data − nominal" in panels[3].get_title()
    assert len([axes for axes in correlation_plot(NO_DATA, "signal").axes if axes.images]) == 3


def test_limits_are_a_table_for_each_direction():
    """A cell for each dataset, process and region gives the used share and the limit."""
    figure = limits_plot(RESULT)
    assert [axes.get_title() for axes in figure.axes] == [look["label"] for look in ATTACKED.values()]
    up = figure.axes[0]
    assert [label.get_text() for label in up.get_yticklabels()] == ["W1", "W2", "Z", "W"]
    assert [label.get_text() for label in up.get_xticklabels()] == ["control", "signal"]
    assert len(up.texts) == 8
    assert all("%" in text.get_text() for text in up.texts)
    assert f"{len(RESULT.verdict.limits)} limits kept" in texts(figure)


def test_broken_limits_are_red():
    """The number of broken limits is written, and their cells have another colour."""
    result = result_of(settings=with_budget(jsd=0.0, correlation=0.0, watch=0.0))
    figure = limits_plot(result)
    assert result.verdict.summary in texts(figure)
    image = figure.axes[0].images[0].get_array()
    assert {tuple(cell) for row in image for cell in row} == {(0.74, 0.12, 0.0, 1.0)}
    assert "> 0\ntotal" in figure.axes[0].texts[0].get_text()
    assert any(result.verdict.summary in text for text in texts(overview_plot(result)))


def test_names_with_slashes_find_their_cell():
    """A dataset or region whose name holds a slash is not taken for another one."""
    sample = made("A/signal", "f")
    masks = {"signal": sample.regions["signal"], "b/signal": sample.regions["control"]}
    result = result_of(replace(sample, regions=masks), processes={}, estimates=())
    axes = limits_plot(result).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A/signal"]
    assert len(axes.texts) == 2


def test_the_overview_shows_every_region():
    """A ratio panel for each region, and the fooling ratios of every group with their errors."""
    figure = overview_plot(RESULT)
    assert len(figure.axes) == 2 + 2
    assert [axes.get_title("right") for axes in figure.axes[:2]] == ["control", "signal"]
    # Data of the control region are the estimate itself.
    assert [len(points(axes)) for axes in figure.axes[:2]] == [0, 1]
    assert "no estimate of QCD here" in texts(figure)
    assert "data" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert "no estimate of QCD here" not in texts(overview_plot(NO_DATA))
    row = next(row for row in RESULT.fooling if (row.name, row.region) == ("W1", "control"))
    assert f"{row.ratio:.1%}\n± {row.error:.1%}" in [text.get_text() for text in figure.axes[2].texts]
    assert f"{len(RESULT.verdict.limits)} limits kept" in texts(figure)
    assert points(overview_plot(NO_DATA).axes[0]) == []


@pytest.mark.parametrize("kind", ["overview", "limits"])
def test_an_empty_result_can_be_drawn(kind):
    """Without any region the pictures of the whole are empty, not an error."""
    assert pixels(FIGURES[kind](make_result(Sums(SETTINGS.config), SETTINGS))).any()
