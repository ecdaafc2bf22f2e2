"""Pictures of the evidence: how many events a validation needs, and what a fit makes of the systematic."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from coffea_conserv.errors import InputError
from coffea_conserv.plotting.style import (
    ATTACKED,
    STATUS,
    Box,
    add_panel,
    frame,
    head,
    legend_above,
    new_figure,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coffea_conserv.evidence.checks import Detected
    from coffea_conserv.exports.impact import FitImpact

__all__ = ("detectability_plot", "impact_plot")

FEWEST, MOST = 5.0, 1e7
"""Range of the axis of events: fewer are drawn at its lower end, more at its upper one."""

_ROW = 0.3
"""Inches that a row takes."""

_NOTE, _NOTE_WIDTH = 0.2, 118
"""Inches that a line of a note takes, and its characters."""

_NAME_WIDTH = 36
"""Characters of a name that have room beside the panels."""


def detectability_plot(rows: Sequence[Detected], *, label: str = STATUS) -> Figure:
    """Draw how many events of data each test needs to see the attacks.

    Parameters
    ----------
    rows
        What :class:`coffea_conserv.evidence.Evidence` holds as ``detected``.
    label
        Status of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each region; a mark where half of the experiments reject at 95 %. An arrow stands for more
        than 10⁷ events, or never. The line is the effective number of simulated events of the region.

    Raises
    ------
    InputError
        If there is nothing to draw.
    """
    if not rows:
        msg = "there is no test to draw: no region has events enough"
        raise InputError(msg)
    regions = list(dict.fromkeys(row.region for row in rows))
    tests = list(dict.fromkeys(row.test for row in rows))
    columns = min(2, len(regions))
    lines = math.ceil(len(regions) / columns)
    wide, high = 7.2, _ROW * len(tests) + 1.3
    with style():
        figure = new_figure((columns * wide, lines * high + 0.9))
        for position, region in enumerate(regions):
            line, column = divmod(position, columns)
            left, bottom = column * wide + 2.9, (lines - 1 - line) * high + 0.75
            axes = add_panel(figure, Box(left, bottom, wide - 3.1, _ROW * len(tests)))
            _draw_tests(axes, [row for row in rows if row.region == region], tests)
            frame(axes, "", region)
        head(figure, label, "events that a test needs to see the attack (95 %)")
        legend_above(figure, down=0.35, columns=3)
    return figure


def _draw_tests(axes: Axes, rows: Sequence[Detected], tests: Sequence[str]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(FEWEST / 1.6, MOST * 1.6)
    axes.set_ylim(len(tests) - 0.5, -0.5)
    axes.set_yticks(range(len(tests)), tests, fontsize=12)
    axes.tick_params(axis="y", which="both", left=False, right=False)
    axes.set_xlabel("events of data", fontsize=13)
    axes.grid(visible=True, axis="x", alpha=0.3)
    axes.axvline(
        min(max(rows[0].there, FEWEST), MOST), color="#555555", linewidth=1.2, label="simulated events"
    )
    marks = dict(zip(ATTACKED, (("o", -0.14), ("s", 0.14)), strict=True))
    for variation, look in ATTACKED.items():
        marker, shift = marks[variation]
        chosen = [row for row in rows if row.variation == variation]
        places = np.array([tests.index(row.test) + shift for row in chosen])
        events = np.array([row.events for row in chosen])
        seen = events <= MOST
        text = {"color": look["color"], "linestyle": "none"}
        axes.plot(np.maximum(events[seen], FEWEST), places[seen], marker, label=look["label"], **text)
        axes.plot(np.full((~seen).sum(), MOST), places[~seen], ">", markersize=8, fillstyle="none", **text)


def impact_plot(impact: FitImpact, *, most: int = 20, label: str = STATUS) -> Figure:
    """Draw pulls of the nuisances and their impacts on the signal strength, the largest first.

    Parameters
    ----------
    impact
        What :func:`coffea_conserv.exports.fit_impact` found.
    most
        Number of nuisances at most; those of the systematic are always among them.
    label
        Status of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        Impacts as bars, those of the systematic in colour; pulls and constraints beside them. Where there is
        no number it says so, and below why.
    """
    ranked = list(impact.ranking)
    chosen = [row for k, row in enumerate(ranked) if k < most or row in impact.nuisances]
    height = _ROW * max(len(chosen), 1)
    places = np.arange(len(chosen))
    notes = [line for note in impact.notes for line in textwrap.wrap(f"WARNING: {note}", _NOTE_WIDTH)]
    below = _NOTE * len(notes)
    with style():
        figure = new_figure((10.4, height + 1.45 + below))
        bars, pulls = (
            add_panel(figure, Box(left, 0.75 + below, wide, height))
            for left, wide in ((3.0, 4.2), (7.5, 2.7))
        )
        text = _literal("\n".join(notes))
        figure.text(0.012, 0.1 / figure.get_figheight(), text, color="#b00020", fontsize=11, va="bottom")
        for axes in (bars, pulls):
            axes.set_ylim(len(chosen) - 0.5, -0.5)
            axes.tick_params(axis="y", which="both", left=False, right=False)
        names = [f"{ranked.index(row) + 1}  {_literal(_elided(row.name))}" for row in chosen]
        bars.set_yticks(places, names, fontsize=11)
        pulls.set_yticks(places, [""] * len(chosen))
        for name, shift, colour in (("up", -0.17, "#b00020"), ("down", 0.17, "#0b2a6b")):
            changes = [getattr(row, name) for row in chosen]
            shade = [1.0 if row in impact.nuisances else 0.25 for row in chosen]
            drawn = bars.barh(
                places + shift, changes, 0.32, color=colour, label=f"{impact.poi}: nuisance {name}"
            )
            for bar, alpha in zip(drawn, shade, strict=True):
                bar.set_alpha(alpha)
            for place, change in zip(places, changes, strict=True):
                if math.isnan(change):
                    bars.text(0, place + shift, f" no number {name}", color=colour, fontsize=8, va="center")
        bars.axvline(0, color="black", linewidth=0.8)
        bars.set_xlabel(f"change of {impact.poi}", fontsize=13)
        bars.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize=11)
        # statistical errors of bins are factors about 1, all others are 0 with a width of 1
        base = np.array([1.0 if row.kind == "statistical" else 0.0 for row in chosen])
        values, errors = (np.array([getattr(row, n) for row in chosen]) for n in ("pull", "constraint"))
        pulls.errorbar(values - base, places, xerr=errors, fmt="o", color="black", markersize=4)
        pulls.axvspan(-1, 1, color="#dddddd", zorder=0)
        pulls.set_xlim(-2.2, 2.2)
        pulls.set_xlabel("pull", fontsize=13)
        head(figure, label, f"{impact.poi} = {impact.text}, {impact.text_without} without")
    return figure


def _elided(name: str) -> str:
    """Name that has room beside the panels."""
    half = _NAME_WIDTH // 2
    return name if len(name) <= _NAME_WIDTH else f"{name[:half]}…{name[-half:]}"


def _literal(text: str) -> str:
    """Text in which a dollar is a dollar, and not the beginning of a formula."""
    return text.replace("$", r"\$")
