"""Correlation matrices: nominal, attacked and their difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coffea_conserv.plotting.style import STATUS, Floats, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coffea_conserv.result import Result

__all__ = ("correlation_plot",)

_MOST_WRITTEN = 12
"""Largest number of quantities for which the entries are written into the cells."""


def correlation_plot(
    result: Result, process: str, region: str, variation: str = "conservUp", *, label: str = STATUS
) -> Figure:
    """Draw the correlation matrices of a process: nominal, attacked and their difference.

    Parameters
    ----------
    result
        The result of a run.
    process, region, variation
        Which matrices.
    label
        Status of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        Three panels. The difference has a colour scale of its own, symmetric about 0, in units of 0.001.
    """
    nominal, attacked = (result.correlation(process, region, v) for v in ("nominal", variation))
    difference = 1000 * (attacked - nominal)
    largest = float(np.abs(difference).max()) or 1.0
    count = len(nominal)
    side = max(3.4, 0.46 * count)
    with style():
        figure = new_figure((3 * side + 3.2, side + 1.3))
        panels = figure.subplots(1, 3)
        names = result.quantities
        first = _draw(panels[0], nominal, ("nominal", 1.0, ".2f"), names)
        _draw(panels[1], attacked, (variation, 1.0, ".2f"), names)
        last = _draw(panels[2], difference, (f"{variation} − nominal", largest, ".1f"), names)
        for panel in panels[1:]:
            panel.set_yticklabels([])
        figure.colorbar(
            first, ax=list(panels[:2]), label="linear correlation", pad=0.02, aspect=28, shrink=0.86
        )
        figure.colorbar(last, ax=panels[2], label="difference / 0.001", pad=0.03, aspect=28, shrink=0.86)
        figure.suptitle(f"{label}    {process}, {region}", x=0.01, ha="left", fontsize=14, style="italic")
    return figure


def _draw(axes: Axes, matrix: Floats, what: tuple[str, float, str], names: tuple[str, ...]) -> Any:
    title, reach, form = what
    image = axes.imshow(matrix, cmap="RdBu_r", vmin=-reach, vmax=reach)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90)
    axes.set_yticks(places, names)
    axes.tick_params(which="both", top=False, right=False, left=False, bottom=False, labelsize=12)
    axes.minorticks_off()
    axes.set_title(title)
    if len(names) <= _MOST_WRITTEN:
        for (row, column), entry in np.ndenumerate(matrix):
            colour = "white" if abs(entry) > 0.6 * reach else "black"
            # Rounding first: no cell says "-0.0".
            text = format(round(float(entry), int(form[1])) + 0.0, form)
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8.5)
    return image
