"""Numbers by group and region as tables of colours: used limits and fooling ratios."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps

from coffea_conserv.group import Group
from coffea_conserv.limits.verdict import share_text, worst_limits
from coffea_conserv.plotting.style import ATTACKED, STATUS, Box, add_panel, head, new_figure, style
from coffea_conserv.templates.template import LABEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coffea_conserv.results.result import Result

__all__ = ("Cells", "fooling_cells", "limit_cells", "limits_plot")

_CELL = (1.3, 0.52)
"""Smallest width, and height of a cell in inches."""

_LETTER = 0.105
"""Width in inches of a letter in the names of rows and columns."""

_WIDEST = 3.1
"""Width in inches that the title of a table needs."""

_GAP = 0.3
"""Inches between both tables."""


@dataclass(frozen=True)
class Cells:
    """Cells of a table for each direction of the attack.

    Parameters
    ----------
    columns
        Regions.
    cells
        How dark the cell of each group is, 0 … 1 and above 1 for an alarm, and its text.
    """

    columns: tuple[str, ...]
    cells: Mapping[Group, tuple[float, str]]

    @property
    def rows(self) -> list[str]:
        """Names of the rows in their order."""
        return list(dict.fromkeys(group.name for group in self.cells))

    @property
    def margin(self) -> float:
        """Inches that the names of the rows need."""
        return 0.4 + _LETTER * max((len(row) for row in self.rows), default=4)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of one table in inches."""
        wide = max([_CELL[0], *(0.2 + _LETTER * len(name) for name in self.columns)])
        return max(wide * len(self.columns), _WIDEST), _CELL[1] * max(len(self.rows), 1)

    @property
    def width(self) -> float:
        """Inches that both tables need."""
        return self.margin + 2 * self.size[0] + _GAP + 0.15

    def draw(self, figure: Figure, bottom: float) -> None:
        """Draw both tables beside each other in the middle, their lower edge at some height in inches."""
        wide, high = self.size
        left = self.margin + (figure.get_figwidth() - self.width) / 2
        for position, variation in enumerate(ATTACKED):
            axes = add_panel(figure, Box(left + position * (wide + _GAP), bottom, wide, high))
            self._fill(axes, variation)
            names = self.rows if position == 0 else [""] * len(self.rows)
            axes.set_yticks(range(len(self.rows)), names)
            axes.set_xticks(range(len(self.columns)), self.columns)
            axes.tick_params(which="both", top=False, right=False, left=False, bottom=False, labelsize=12)
            axes.minorticks_off()
            axes.set_title(ATTACKED[variation]["label"], fontsize=13, color=ATTACKED[variation]["color"])

    def _fill(self, axes: Axes, variation: str) -> None:
        grid = np.full((max(len(self.rows), 1), max(len(self.columns), 1)), np.nan)
        for group, (dark, text) in self.cells.items():
            if group.variation == variation and group.region in self.columns:
                row, column = self.rows.index(group.name), self.columns.index(group.region)
                grid[row, column] = dark
                colour = "white" if dark > 0.6 else "black"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=10)
        shown = colormaps["Blues"](np.nan_to_num(0.85 * np.clip(grid, 0, 1)))
        shown[np.isnan(grid)] = (0.94, 0.94, 0.94, 1.0)
        shown[grid > 1] = (0.74, 0.12, 0.0, 1.0)
        axes.imshow(shown, aspect="auto")
        for place in range(1, grid.shape[0]):
            axes.axhline(place - 0.5, color="white", linewidth=2)
        for place in range(1, grid.shape[1]):
            axes.axvline(place - 0.5, color="white", linewidth=2)


def limit_cells(result: Result) -> Cells:
    """Share of the tightest limit that each group uses, and which one it is."""
    cells = {}
    whole = {one.group for one in result.verdict.unattacked if one.wholly}
    for limit in worst_limits(result.verdict):
        if limit.group in whole:
            cells[limit.group] = (0.0, "not\nattacked")
            continue
        share = limit.used
        used = share_text(share) if math.isfinite(share) else f"{limit.value:.2g} > 0"
        name = limit.name.removeprefix("marginal ").removeprefix("watched ")
        text = f"{used}\n{name}" if share > 0 else used
        cells[limit.group] = (min(share, 1.0) if limit.passed else 2.0, text)
    return Cells(result.regions, cells)


def fooling_cells(result: Result) -> Cells:
    """Fooling ratio of each group at the main working point, with its error; coloured by the largest."""
    rows = [row for row in result.fooling if row.working_point == result.settings.points[0]]
    largest = max((row.ratio for row in rows if row.ratio > 0), default=1.0)
    cells = {}
    for row in rows:
        if math.isfinite(row.ratio):
            error = f"\n± {row.error:.1%}" if math.isfinite(row.error) else ""
            share = min(max(row.ratio / largest, 0.0), 1.0)
            cells[row.group] = (share, f"{row.ratio:.1%}{error}")
    return Cells(result.regions, cells)


def limits_plot(result: Result, *, label: str = STATUS) -> Figure:
    """Draw value / limit of the tightest limit of every group as a table of colours.

    Parameters
    ----------
    result
        The result of a run.
    label
        Status of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        For each direction a panel with a row for each dataset and process and a column for each region. A
        cell gives the share of the limit that is used and which one it is; broken limits are red.
    """
    table = limit_cells(result)
    verdict = result.verdict.summary.split(":")[0]
    with style():
        figure = new_figure((max(table.width, 9.0), table.size[1] + 1.9))
        table.draw(figure, 0.9)
        head(figure, label, "used share of the tightest limit", right=verdict)
        figure.text(0.5, 0.15 / figure.get_figheight(), f"attacked: {LABEL}", ha="center", fontsize=12)
    return figure
