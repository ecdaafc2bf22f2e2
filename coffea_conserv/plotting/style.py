"""Colours, sizes and frames that all pictures share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.sums import VARIATIONS

try:
    import matplotlib.style
    import mplhep
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError as error:  # pragma: no cover -- the extra is installed wherever tests run
    _MSG = "pictures need matplotlib and mplhep: pip install 'coffea-conserv[plot]'"
    raise ImportError(_MSG) from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ("ATTACKED", "FILLS", "STATUS", "Floats", "frame", "new_figure", "ratio", "style", "two_panels")

Floats = NDArray[np.float64]

STATUS = "work in progress"
"""Text above a picture unless another one is given."""

FILLS = (
    "#3f90da",
    "#ffa90e",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
    "#bd1f01",
)
"""Colours of processes: M. A. Petroff, arXiv 2107.02270, distinct for all kinds of colour vision."""

ATTACKED: dict[str, dict[str, Any]] = {
    VARIATIONS[1]: {"color": "#b00020", "linestyle": "-", "label": "conservUp (toward signal)"},
    VARIATIONS[2]: {
        "color": "#0b2a6b",
        "linestyle": (0, (4, 1.5)),
        "label": "conservDown (toward background)",
    },
}
"""How attacked templates are drawn: they differ in colour and in line style."""

_SETTINGS = {
    # Explicit families: a glyph that the first one lacks is taken from the second.
    "font.family": ["TeX Gyre Heros", "DejaVu Sans"],
    # A custom set would be looked up when a figure is saved, outside of the style.
    "mathtext.fontset": "stixsans",
    "font.size": 15,
    "axes.labelsize": 15,
    "axes.linewidth": 1.2,
    "axes.titlesize": 14,
    "legend.fontsize": 12,
    "xtick.labelsize": 13,
    "ytick.labelsize": 13,
    "xtick.major.size": 7,
    "xtick.minor.size": 3.5,
    "ytick.major.size": 7,
    "ytick.minor.size": 3.5,
}


def style() -> AbstractContextManager[None]:
    """Hold the style of the pictures within a ``with`` block."""
    held: AbstractContextManager[None] = matplotlib.style.context([mplhep.style.ROOT, _SETTINGS])
    return held


def new_figure(size: tuple[float, float]) -> Figure:
    """Make a figure (width, height in inches) that can be saved but belongs to no window."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def frame(axes: Axes, left: str, right: str) -> None:
    """Write the status on the left and the place on the right above a panel."""
    axes.set_title(left, loc="left", style="italic")
    axes.set_title(right, loc="right")


def two_panels(title: str, edges: Floats) -> tuple[Figure, Axes, Axes]:
    """Make a panel for contents above a panel for ratios."""
    figure = new_figure((8.0, 7.6))
    main, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1.15]})
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(hspace=0.0, h_pad=0.03)  # type: ignore[call-arg]
    main.set_ylabel("Events")
    main.set_xlim(edges[0], edges[-1])
    lower.set_xlabel(title)
    lower.axhline(1.0, color="black", linewidth=0.8)
    lower.yaxis.set_major_locator(MaxNLocator(nbins=4, prune="both"))
    return figure, main, lower


def headroom(axes: Axes, low: float, high: float, *, rows: int, log: bool = False) -> None:
    """Set the range so that a legend of some rows stands above everything that is drawn.

    Parameters
    ----------
    axes
        The panel.
    low, high
        Smallest and largest content; with ``log``, the smallest positive one.
    rows
        Rows of the legend.
    log
        Whether the axis is logarithmic.
    """
    share = 0.04 + 0.062 * rows
    if log and high > 0:
        floor = 0.5 * min(max(low, 1e-3 * high), high)
        axes.set_yscale("log")
        axes.set_ylim(floor, floor * (1.3 * high / floor) ** (1 / (1 - share)))
        return
    bottom = min(0.0, 1.15 * low)
    top = max(high, 0.0)
    span = (top - bottom) or 1.0
    axes.set_ylim(bottom, bottom + 1.03 * span / (1 - share))
    axes.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=True)
    # The power of ten would stand where the status is.
    axes.yaxis.get_offset_text().set_x(-0.11)


def ratio(above: Floats, below: Floats) -> Floats:
    """Ratio by bin, ``nan`` where the denominator is not positive."""
    divided: Floats = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
    return divided


def ratio_range(axes: Axes, *parts: Floats) -> None:
    """Centre a ratio panel on 1 and make everything visible up to a deviation of 100 %."""
    finite = np.concatenate([np.abs(part[np.isfinite(part)] - 1.0) for part in parts] or [np.zeros(1)])
    reach = min(max(1.25 * float(finite.max(initial=0.0)), 0.02), 1.0)
    axes.set_ylim(1.0 - reach, 1.0 + reach)
