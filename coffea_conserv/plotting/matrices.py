"""Correlation matrices: nominal, what the attack changes, and what data differ by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coffea_conserv.limits.measures import correlation_shift
from coffea_conserv.names import DATA
from coffea_conserv.plotting.style import ATTACKED, STATUS, Box, Floats, add_panel, head, new_figure, style
from coffea_conserv.templates.template import LABEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coffea_conserv.results.result import Result

__all__ = ("correlation_plot",)

_MOST_WRITTEN = 12
"""Largest number of quantities for which the entries are written into the cells."""


@dataclass(frozen=True)
class _Panel:
    """A matrix, its title, the end of its colour scale, and the unit in which it is shown."""

    matrix: Floats
    title: str
    reach: float
    unit: str
    digits: int


def correlation_plot(
    result: Result, region: str, process: str | None = None, *, label: str = STATUS
) -> Figure:
    """Draw the linear correlations in a region and how much both attacks change them.

    Parameters
    ----------
    result
        The result of a run.
    region
        Which region.
    process
        Which process. If not given, all simulation and estimates together; where there are data, another
        panel shows by how much they differ from it, as a yardstick.
    label
        Status of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        Nominal matrix and differences to it, features first, then watched quantities. The attacks share a
        colour scale, symmetric about 0, in units of 0.001; data have their own.
    """
    panels = _panels(result, region, process)
    names = [_symbol(result.title(name)) for name in result.quantities]
    side = min(max(3.6, 0.3 * len(names)), 7.0)
    edge, gap, bar = 0.3 + 0.08 * max(_letters(name) for name in names), 0.25, 0.95
    bars = [position != 1 for position in range(len(panels))]  # the attacks share the second one's
    width = edge + sum(side + (bar + gap if shown else gap) for shown in bars) + 0.1
    with style():
        figure = new_figure((width, edge + side + 1.2))
        left = edge
        for position, (panel, shown) in enumerate(zip(panels, bars, strict=True)):
            axes = add_panel(figure, Box(left, edge, side, side))
            image = _draw(axes, panel, names, first=position == 0)
            left += side + gap
            if shown:
                scale = add_panel(figure, Box(left - 0.13, edge, 0.18, side))
                figure.colorbar(image, cax=scale, label=panel.unit)
                scale.yaxis.label.set_fontsize(13)
                left += bar
        head(figure, label, f"{process or 'all simulation'}, {region}", right=f"attacked: {LABEL}")
    return figure


def _panels(result: Result, region: str, process: str | None) -> list[_Panel]:
    """Nominal matrix, then differences to it: both attacks, and data where there are some."""
    nominal = result.correlation(process, region, "nominal")
    panels = [_Panel(nominal, "nominal", 1.0, "linear correlation", 2)]
    attacked = {variation: result.correlation(process, region, variation) for variation in ATTACKED}
    reach = 1000 * max(float(np.abs(matrix - nominal).max(initial=0.0)) for matrix in attacked.values())
    for variation, matrix in attacked.items():
        shift = correlation_shift(nominal, matrix)
        title = f"{variation} − nominal\n‖ΔR‖/‖R‖ = {shift:.2g}"
        panels.append(_Panel(1000 * (matrix - nominal), title, reach or 1.0, "difference / 0.001", 1))
    if process is None and result.has(DATA, region) and not result.hidden("score", region).any():
        difference = result.correlation(DATA, region, "nominal") - nominal
        shift = correlation_shift(nominal, nominal + difference)
        title = f"data − nominal\n‖ΔR‖/‖R‖ = {shift:.2g}"
        panels.append(_Panel(difference, title, float(np.abs(difference).max()) or 1.0, "difference", 3))
    return panels


def _symbol(title: str) -> str:
    """Title without its unit."""
    return re.sub(r"\s*\[[^\]]*\]\s*$", "", title)


def _letters(name: str) -> int:
    """About how many letters a name has that may hold formulas."""
    return len(re.sub(r"\\[A-Za-z]+", "x", name).translate(str.maketrans("", "", "${}^_")))


def _draw(axes: Axes, panel: _Panel, names: list[str], *, first: bool) -> Any:
    image = axes.imshow(panel.matrix, cmap="RdBu_r", vmin=-panel.reach, vmax=panel.reach)
    places = range(len(names))
    size = min(11.0, 52 * axes.bbox.height / axes.figure.dpi / len(names))
    axes.set_xticks(places, names, rotation=90)
    axes.set_yticks(places, names if first else [""] * len(names))
    axes.tick_params(which="both", top=False, right=False, left=False, bottom=False, labelsize=size)
    axes.minorticks_off()
    axes.set_title(panel.title, fontsize=13)
    if len(names) <= _MOST_WRITTEN:
        for (row, column), entry in np.ndenumerate(panel.matrix):
            colour = "white" if abs(entry) > 0.6 * panel.reach else "black"
            # Rounding first: no cell says "-0.0".
            text = format(round(float(entry), panel.digits) + 0.0, f".{panel.digits}f")
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8.5)
    return image
