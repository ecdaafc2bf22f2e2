"""How much of its limits each group uses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from coffea_conserv.plotting.style import STATUS, frame, new_figure, style
from coffea_conserv.report import usage, worst_limits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from coffea_conserv.result import Result

__all__ = ("limits_plot",)

_KEPT, _BROKEN = "#3f90da", "#bd1f01"
_LONGEST = 2.0
"""A bar ends at twice its limit; the figure beside it is exact."""


def limits_plot(result: Result, *, label: str = STATUS) -> Figure:
    """Draw value / limit of the tightest limit of every group as horizontal bars.

    Parameters
    ----------
    result
        The result of a run.
    label
        Status of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        One bar for each group; the line is the limit, and a broken limit has another colour and says so.
    """
    limits = worst_limits(result)
    shares = [usage(limit) for limit in limits]
    drawn = [min(share, _LONGEST) for share in shares]
    reach = max([1.0, *drawn])
    with style():
        figure = new_figure((10.0, 1.8 + 0.36 * max(len(limits), 2)))
        axes = figure.subplots()
        colours = [_KEPT if limit.passed else _BROKEN for limit in limits]
        axes.barh(range(len(limits)), drawn, color=colours, height=0.72)
        axes.axvline(1.0, color="black", linewidth=1.2, linestyle="--")
        for place, (limit, share) in enumerate(zip(limits, shares, strict=True)):
            used = f"{share:.0%}" if math.isfinite(share) else f"{limit.value:.3g} > {limit.limit:.3g}"
            text = f"{limit.name}, {used}" + ("" if limit.passed else ": broken")
            # Beside the panel, where neither a bar nor the line crosses it.
            axes.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=11)
        axes.set_yticks(range(len(limits)), [limit.group for limit in limits], fontsize=11)
        axes.tick_params(axis="y", which="both", left=False, right=False)
        axes.yaxis.minorticks_off()
        axes.set_ylim(max(len(limits), 1) - 0.4, -0.6)
        axes.set_xlim(0, 1.05 * reach)
        axes.set_xlabel("value / limit of the tightest limit")
        frame(axes, label, "all limits kept" if result.verdict.passed else "limits broken")
    return figure
