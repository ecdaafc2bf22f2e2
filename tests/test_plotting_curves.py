"""The picture of fooling ratios against a limit."""

from __future__ import annotations

import hist
import numpy as np
import pytest
import torch
from made_figures import plt, texts

from coffea_conserv import Budget, Feature, InputError, fooling_curve
from coffea_conserv.plotting import curve_plot
from coffea_conserv.solvers.transport.solver import Transport

LIMITS = (0.0, 0.05)


class Ring(torch.nn.Module):
    """Fires within a circle."""

    def forward(self, x):
        """Logits, shape (events,)."""
        return 1 - (x**2).sum(1)


@pytest.fixture(scope="module")
def curve():
    """Two nested budgets."""
    x = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
    features = [Feature(name, hist.axis.Regular(30, -3, 3)) for name in "xy"]
    budgets = [Budget(rms=limit) for limit in LIMITS]
    return fooling_curve(x, Ring(), features, budgets=budgets, solver=Transport(steps=20), seed=1)


def test_lines_are_the_ratios(curve):
    """Points are the fooling ratios at the limits, within a band of their binomial errors."""
    figure = curve_plot({"ring": curve, "again": curve}, LIMITS, "r.m.s. of the bins", label="my status")
    axes = figure.axes[0]
    ratios = [found.fooling_ratio for found in curve]
    first, second = axes.lines
    for line in (first, second):
        np.testing.assert_allclose(line.get_xydata(), np.stack([LIMITS, ratios], axis=1))
    assert first.get_color() != second.get_color()
    assert first.get_marker() != second.get_marker()
    band = axes.collections[0].get_paths()[0].vertices
    error = np.sqrt(ratios[1] * (1 - ratios[1]) / 1000)
    assert band[:, 1].max() == pytest.approx(ratios[1] + error)
    assert {"ring", "again", "r.m.s. of the bins", "my status", "5%"} <= set(texts(figure))
    assert plt.get_fignums() == []


def test_a_logarithmic_axis(curve):
    """Small limits are apart."""
    axes = curve_plot({"ring": curve}, (0.002, 0.1), "correlations", log=True).axes[0]
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.002", "0.1"]


def test_errors(curve):
    """Slips are named."""
    with pytest.raises(InputError, match=r"one result for each of the 3 limits: ring$"):
        curve_plot({"ring": curve}, (0.0, 0.1, 0.2), "")
    with pytest.raises(InputError, match="none given"):
        curve_plot({}, LIMITS, "")
    with pytest.raises(InputError, match=r"no place for the limit 0; leave log= out"):
        curve_plot({"ring": curve}, LIMITS, "", log=True)
