"""The picture to look at first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from coffea_conserv.plotting.contents import contents
from coffea_conserv.plotting.distributions import draw_ratios
from coffea_conserv.plotting.heatmaps import fooling_cells
from coffea_conserv.plotting.style import (
    STATUS,
    Box,
    frame,
    head,
    legend_above,
    new_figure,
    ratio_panel,
    style,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from coffea_conserv.results.result import Result

__all__ = ("overview_plot",)

_PANEL = (5.0, 3.3)
"""Width and height in inches that a region takes."""


def overview_plot(result: Result, *, label: str = STATUS) -> Figure:
    """Draw the whole effect on one page: the score, attacked over nominal, and the fooling ratios.

    Parameters
    ----------
    result
        The result of a run.
    label
        Status of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        For each region the ratio of the attacked to the nominal score of all simulation, with data where
        there are some and the estimates are made; below, the fooling ratio of each dataset and process in
        each region.
    """
    table = fooling_cells(result)
    columns = max(1, min(len(result.regions), max(3, int(table.width // _PANEL[0]))))
    rows = math.ceil(len(result.regions) / columns)
    wide, high = max(_PANEL[0], table.width / columns), _PANEL[1]
    tables = table.size[1] + 1.6
    top, names = (1.25, 4) if columns * wide > 11 else (1.5, 2)
    with style():
        figure = new_figure((columns * wide, tables + rows * high + top))
        for position, region in enumerate(result.regions):
            row, column = divmod(position, columns)
            bottom = tables + (rows - 1 - row) * high
            filled = contents(result, "score", region)
            box = Box(column * wide + 1.05, bottom + 0.8, wide - 1.25, high - 1.2)
            axes = ratio_panel(figure, box, filled.axis, filled.title)
            draw_ratios(axes, filled, filled.names, data=True, named=True)
            frame(axes, "", region)
        table.draw(figure, 0.55)
        figure.text(0.5, (tables - 0.6) / figure.get_figheight(), _crossing(result), ha="center")
        verdict = result.verdict.summary.split(":")[0]
        head(figure, label, "score and fooling ratio", right=verdict)
        legend_above(figure, down=0.4, columns=names)
    return figure


def _crossing(result: Result) -> str:
    point = result.settings.points[0]
    return f"fooling ratio: weight that crosses the score {point:g} over the weight on the side attacked"
