"""The fooling ratio against a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import PercentFormatter

from coffea_conserv.errors import InputError
from coffea_conserv.plotting.style import FILLS, STATUS, Box, Floats, add_panel, frame, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coffea_conserv.attacks.api import Attacked

__all__ = ("curve_plot",)

_MARKERS = "osD^vP"


def curve_plot(
    curves: Mapping[str, Sequence[Attacked]],
    limits: Sequence[float],
    title: str,
    *,
    log: bool = False,
    weights: Floats | None = None,
    label: str = STATUS,
) -> Figure:
    """Draw fooling ratios against a limit, or changes of the yield above the working point.

    Parameters
    ----------
    curves
        Name → what :func:`coffea_conserv.fooling_curve` found, one for each limit.
    limits
        The limits, shape (limits,).
    title
        What is limited, in words: the title of the axis.
    log
        Logarithmic axis, for limits that are all above 0.
    weights
        Weights of the events, shape (events,): then the relative change of the yield above the working point
        is drawn.
    label
        Status of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        One line for each curve. The band is the statistical error for the attack as it is: √(f (1 − f) / n)
        of a share f of n effective events, or √Σ w² of the events that cross over the yield.

    Raises
    ------
    InputError
        If there is no curve, one has another number of points, or a limit of 0 has no place on the axis.
    """
    x = np.asarray(limits, dtype=np.float64)
    wrong = [name for name, curve in curves.items() if len(curve) != len(x)]
    if not curves or wrong:
        msg = (
            f"curves must hold one result for each of the {len(x)} limits: {', '.join(wrong) or 'none given'}"
        )
        raise InputError(msg)
    if log and not (x > 0).all():
        msg = f"a logarithmic axis has no place for the limit {x.min():g}; leave log= out"
        raise InputError(msg)
    with style():
        figure = new_figure((6.4, 5.2))
        axes = add_panel(figure, Box(0.95, 0.85, 5.25, 3.95))
        marks = zip(curves.items(), cycle(FILLS), cycle(_MARKERS), strict=False)
        for (name, curve), colour, marker in marks:
            values = (_ratio(found) if weights is None else _change(found, weights) for found in curve)
            ratio, error = np.array(list(values)).T
            axes.fill_between(x, ratio - error, ratio + error, color=colour, alpha=0.25, linewidth=0)
            axes.plot(x, ratio, marker=marker, color=colour, linewidth=1.8, label=name)
        _dress(axes, x, title, log=log)
        if weights is not None:
            axes.set_ylim(auto=True)
            axes.autoscale(axis="y")
            axes.set_ylabel("change of the yield above the working point", fontsize=13)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        frame(axes, label, "")
    return figure


def _ratio(found: Attacked) -> tuple[float, float]:
    """Fooling ratio and its error."""
    ratio = found.fooling_ratio
    events = sum(group.effective_events for group in found.statistics)
    return ratio, float(np.sqrt(ratio * (1 - ratio) / events)) if events else float("nan")


def _change(found: Attacked, weights: Floats) -> tuple[float, float]:
    """Relative change of the yield above the (first) working point, and its error."""
    point = found.crossings[0].working_point
    before, after = found.score_nominal > point, found.score > point
    total = float(weights[before].sum())
    error = float(np.sqrt((weights[before != after] ** 2).sum()))
    return (float(weights[after].sum()) / total - 1, error / total) if total else (np.nan, np.nan)


def _dress(axes: Axes, x: Floats, title: str, *, log: bool) -> None:
    axes.set_xlabel(title, fontsize=13)
    axes.set_ylabel("Fooling ratio (share that crosses)")
    axes.set_ylim(0.0, 1.0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    if log:
        axes.set_xscale("log")
        axes.set_xticks(x, [f"{limit:g}" for limit in x])
        axes.minorticks_off()
    else:
        axes.set_xticks(x, [f"{limit:.0%}" for limit in x])
