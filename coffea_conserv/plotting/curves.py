"""The fooling ratio against a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from coffea_conserv.errors import InputError
from coffea_conserv.plotting.style import FILLS, STATUS, Floats, add_panel, frame, new_figure, style

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
    label: str = STATUS,
) -> Figure:
    """Draw fooling ratios against a limit.

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
    label
        Status of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        One line for each curve; the band is the statistical error √(f (1 − f) / n) of a share f of n
        effective events, for the attack as it is.

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
        axes = add_panel(figure, (0.95, 0.85, 5.25, 3.95))
        marks = zip(curves.items(), cycle(FILLS), cycle(_MARKERS), strict=False)
        for (name, curve), colour, marker in marks:
            ratio, error = np.array([_ratio(found) for found in curve]).T
            axes.fill_between(x, ratio - error, ratio + error, color=colour, alpha=0.25, linewidth=0)
            axes.plot(x, ratio, marker=marker, color=colour, linewidth=1.8, label=name)
        _dress(axes, x, title, log=log)
        frame(axes, label, "")
    return figure


def _ratio(found: Attacked) -> tuple[float, float]:
    """Fooling ratio and its error."""
    ratio = found.fooling_ratio
    events = sum(group.effective_events for group in found.statistics)
    return ratio, float(np.sqrt(ratio * (1 - ratio) / events)) if events else float("nan")


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
