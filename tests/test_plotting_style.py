"""Ranges and ticks of the panels."""

from __future__ import annotations

import numpy as np
import pytest

from coffea_conserv.plotting.style import headroom, new_figure, ratio, ratio_range


@pytest.mark.parametrize("reach", [0.003, 0.02, 0.11, 0.4, 0.8, 1.7, 40])
def test_the_range_of_ratios(reach):
    """It holds what must be visible within 0 … 4, about 1, with ticks away from the edges."""
    axes = new_figure((4, 4)).subplots()
    ratio_range(axes, np.array([1 - reach / 2, 1 + reach, np.nan]), error=np.array([0.001, np.nan]))
    low, high = axes.get_ylim()
    assert high >= min(1 + reach, 4)
    assert low <= max(1 - reach, 0)
    assert (low >= 0, high <= 4, high - 1 >= 0.02) == (True, True, True)
    ticks = axes.get_yticks()
    assert 1.0 in ticks
    assert 3 <= len(ticks) <= 5
    assert min(ticks) >= low
    assert max(ticks) <= high - 0.05 * (high - low) / 2


def test_the_range_of_ratios_without_anything():
    """Nothing to show leaves a small range about 1."""
    axes = new_figure((4, 4)).subplots()
    ratio_range(axes, error=np.array([]))
    assert axes.get_ylim() == pytest.approx((0.98, 1.02))


@pytest.mark.parametrize(("low", "high"), [(0, 10), (-3, 10), (0, 0), (-2, -1)])
def test_there_is_room_for_the_legend(low, high):
    """Contents end below the share of the legend, and 0 is always visible."""
    axes = new_figure((4, 4)).subplots()
    headroom(axes, low, high, share=0.3)
    bottom, top = axes.get_ylim()
    assert bottom <= min(low, 0)
    assert max(high, 0) <= bottom + 0.7 * (top - bottom)


@pytest.mark.parametrize(
    ("high", "label", "tick"),
    [
        (12, "Events / bin", "10"),
        (1.2e5, "Events / bin", "100000"),
        (1.2e6, "$10^{6}$ events / bin", "1"),
        (3.3e5, "$10^{3}$ events / bin", "300"),
        (2e-5, "$10^{-6}$ events / bin", "20"),
    ],
)
def test_large_and_small_numbers_have_their_power_in_the_label(high, label, tick):
    """No power of ten stands above the axis, where the status is."""
    axes = new_figure((4, 4)).subplots()
    headroom(axes, 0, high, share=0.3)
    axes.figure.canvas.draw()
    assert axes.get_ylabel() == label
    assert tick in [text.get_text() for text in axes.get_yticklabels()]
    assert axes.yaxis.get_offset_text().get_text() == ""


def test_ratios_need_a_positive_denominator():
    """Elsewhere they are nan."""
    np.testing.assert_array_equal(ratio(np.array([1.0, 1, 1]), np.array([2.0, 0, -1])), [0.5, np.nan, np.nan])
