"""Colours, sizes and frames that all pictures share."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.names import VARIATIONS
from coffea_conserv.templates.template import LABEL

try:
    import matplotlib.style
    import mplhep
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import StepPatch
    from matplotlib.ticker import (
        AutoMinorLocator,
        FixedLocator,
        FuncFormatter,
        MaxNLocator,
        NullLocator,
        ScalarFormatter,
    )
except ImportError as error:  # pragma: no cover -- the extra is installed wherever tests run
    _MSG = "pictures need matplotlib and mplhep: pip install 'coffea-conserv[plot]'"
    raise ImportError(_MSG) from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase

__all__ = (
    "ATTACKED",
    "FILLS",
    "LEGEND",
    "STATUS",
    "Box",
    "Figure",
    "Floats",
    "add_panel",
    "edges_of",
    "frame",
    "head",
    "headroom",
    "legend_above",
    "new_figure",
    "ratio",
    "ratio_panel",
    "ratio_range",
    "steps",
    "style",
    "two_panels",
)

Floats = NDArray[np.float64]

STATUS = "work in progress"
"""Text above a picture unless another one is given."""

LEGEND = f"attacked: {LABEL}"
"""Title of a legend: what the lines of :data:`ATTACKED` are."""

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
    "mathtext.fontset": "stixsans",
    "font.size": 15,
    "axes.labelsize": 15,
    "axes.linewidth": 1.2,
    "axes.titlesize": 14,
    # Numbers at ticks need no layout of formulas.
    "axes.formatter.use_mathtext": False,
    # Titles stay where they are put: to look for a free place takes longer than to draw the picture.
    "axes.titley": 1.0,
    "legend.fontsize": 12,
    "legend.title_fontsize": 12,
    "xtick.labelsize": 13,
    "ytick.labelsize": 13,
    "xtick.major.size": 7,
    "xtick.minor.size": 3.5,
    "ytick.major.size": 7,
    "ytick.minor.size": 3.5,
}

_PANELS_GAP = 0.1
"""Distance in inches between a panel and its panel for ratios."""


def style() -> AbstractContextManager[None]:
    """Hold the style of the pictures within a ``with`` block, whatever style the user has chosen."""
    styles = ["default", mplhep.style.ROOT, _SETTINGS]
    held: AbstractContextManager[None] = matplotlib.style.context(styles)
    return held


class _Figure(Figure):
    """A figure that is drawn in the style in which it was made: matplotlib looks up some of it only then."""

    def draw(self, renderer: RendererBase) -> None:
        """Draw in the style of the pictures."""
        with style():
            super().draw(renderer)


class Box(NamedTuple):
    """Place of a panel in inches from the lower left corner of its figure."""

    left: float
    bottom: float
    width: float
    height: float


def new_figure(size: tuple[float, float]) -> Figure:
    """Make a figure (width, height in inches) that can be saved but belongs to no window."""
    figure = _Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure


def add_panel(figure: Figure, box: Box) -> Axes:
    """Add a panel at left, bottom, width and height in inches.

    A place that is told needs no layout engine, which would take half of the time of a picture.
    """
    width, height = figure.get_size_inches()
    left, bottom, wide, high = box
    return figure.add_axes((left / width, bottom / height, wide / width, high / height))


def frame(axes: Axes, left: str, right: str, size: float = 14.0) -> None:
    """Write the status on the left and the place on the right above a panel."""
    axes.set_title(left, loc="left", style="italic", fontsize=size)
    axes.set_title(right, loc="right", fontsize=size)


def head(figure: Figure, label: str, what: str, *, right: str = "") -> None:
    """Write status, content and a remark along the upper edge of a figure of several panels."""
    width, height = figure.get_size_inches()
    y, side = 1 - 0.14 / height, 0.12 / width
    figure.text(side, y, label, va="top", style="italic", fontsize=14)
    figure.text(0.5, y, what, ha="center", va="top", fontsize=14, fontweight="bold")
    figure.text(1 - side, y, right, ha="right", va="top", fontsize=14)


def legend_above(figure: Figure, *, down: float, columns: int) -> None:
    """Put the legend of the fullest panel above all panels, some inches from the upper edge."""
    if figure.axes:
        found = (axes.get_legend_handles_labels() for axes in figure.axes)
        handles, texts = max(found, key=lambda pair: len(pair[0]))
        anchor = (0.5, 1 - down / figure.get_figheight())
        figure.legend(handles, texts, loc="upper center", bbox_to_anchor=anchor, title=LEGEND, ncols=columns)


def edges_of(axis: Any) -> Floats:
    """Edges to draw; the bins of an axis of integers are centred on them."""
    edges = np.asarray(axis.edges, dtype=np.float64)
    return edges if axis.traits.continuous else edges - 0.5


def two_panels(figure: Figure, box: Box, axis: Any, title: str) -> tuple[Axes, Axes]:
    """Make a panel for contents above a panel for ratios, both in a box in inches."""
    left, bottom, width, height = box
    low = 0.27 * (height - _PANELS_GAP)
    main = add_panel(figure, Box(left, bottom + low + _PANELS_GAP, width, height - low - _PANELS_GAP))
    lower = ratio_panel(figure, Box(left, bottom, width, low), axis, title)
    main.set_ylabel("Events / bin")
    main.yaxis.set_label_coords(-0.75 / width, 1.0)
    main.yaxis.set_minor_locator(AutoMinorLocator(2))
    _x_axis(main, axis, ticks=max(4, round(0.9 * width)))
    main.xaxis.set_tick_params(labelbottom=False)
    return main, lower


def ratio_panel(figure: Figure, box: Box, axis: Any, title: str) -> Axes:
    """Make a panel for ratios to nominal in a box in inches."""
    axes, width = add_panel(figure, box), box.width
    axes.set_xlabel(title)
    axes.set_ylabel("Ratio to\nnominal", loc="center", fontsize=13)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.yaxis.set_label_coords(-0.6 / width, 0.5)
    axes.yaxis.set_minor_locator(NullLocator())
    _x_axis(axes, axis, ticks=max(4, round(0.9 * width)))
    return axes


def _x_axis(axes: Axes, axis: Any, ticks: int) -> None:
    """Range and ticks of an axis of hist: whole numbers for integers, parts of π for a full turn."""
    edges = edges_of(axis)
    axes.set_xlim(edges[0], edges[-1])
    if not axis.traits.continuous:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=ticks, integer=True))
        axes.xaxis.set_minor_locator(NullLocator())
    elif axis.traits.circular and math.isclose(edges[-1] - edges[0], 2 * math.pi, rel_tol=1e-3):
        quarters = range(math.ceil(edges[0] / (math.pi / 2) - 1e-3), math.floor(edges[-1] / 1.57) + 1)
        axes.set_xticks([quarter * math.pi / 2 for quarter in quarters], [_turn(q) for q in quarters])
        axes.xaxis.set_minor_locator(AutoMinorLocator(2))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=ticks, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_minor_locator(AutoMinorLocator(2))


def _turn(quarters: int) -> str:
    """Write an angle of some quarters of π as a fraction of it."""
    if not quarters:
        return "0"
    number, half = (quarters, "/2") if quarters % 2 else (quarters // 2, "")
    factor = {1: "", -1: "−"}.get(number, str(number).replace("-", "−"))
    return f"{factor}π{half}"


def headroom(axes: Axes, low: float, high: float, *, share: float, log: bool = False) -> None:
    """Set the range so that a legend stands above everything that is drawn.

    Parameters
    ----------
    axes
        The panel.
    low, high
        Smallest and largest content; with ``log``, the smallest positive one.
    share
        Share of the height that the legend needs.
    log
        Whether the axis is logarithmic.
    """
    if log and high > 0:
        floor = 0.5 * min(max(low, 1e-3 * high), high)
        axes.set_yscale("log")
        axes.set_ylim(floor, floor * (1.3 * high / floor) ** (1 / (1 - share)))
        return
    bottom = min(0.0, 1.15 * low)
    top = max(high, 0.0)
    span = (top - bottom) or 1.0
    axes.set_ylim(bottom, bottom + 1.03 * span / (1 - share))
    power = 0 if 1e-3 <= span < 2e5 else 3 * math.floor(math.log10(span) / 3)
    # In the label of the axis it is read at once; above the axis is the status.
    axes.set_ylabel(f"$10^{{{power}}}$ events / bin" if power else "Events / bin")
    plain = ScalarFormatter(useOffset=False, useMathText=False)
    plain.set_scientific(False)
    axes.yaxis.set_major_formatter(FuncFormatter(partial(_number, unit=10.0**power)) if power else plain)


def _number(value: float, _: int | None = None, *, unit: float) -> str:
    """Write a number in some unit."""
    return format(value / unit, "g").replace("-", "−")


def steps(axes: Axes, edges: Floats, values: Floats, *, fill: bool = False, **look: Any) -> None:
    """Draw a histogram of given contents; unlike ``Axes.stairs`` without a search for the range."""
    axes.add_artist(StepPatch(values, edges, fill=fill, **{"baseline": None, **look}))


def ratio(above: Floats, below: Floats) -> Floats:
    """Ratio by bin, ``nan`` where the denominator is not positive."""
    divided: Floats = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
    return divided


def ratio_range(axes: Axes, *parts: Floats, error: Floats) -> None:
    """Choose the range of a ratio panel: all of the parts about 1, within 0 … 4.

    Parameters
    ----------
    axes
        The panel.
    parts
        Ratios that must be visible.
    error
        Relative statistical error of nominal: that of the typical bin is visible too, not that of the worst.
    """
    finite = np.concatenate([np.zeros(1), *(part[np.isfinite(part)] - 1.0 for part in parts)])
    known = error[np.isfinite(error)]
    typical = float(np.median(known)) if len(known) else 0.0
    reach = max(1.2 * float(np.abs(finite).max()), min(1.5 * typical, 1.0), 0.02)
    low, high = min(reach, 1.0), min(reach, 3.0)
    axes.set_ylim(1.0 - low, 1.0 + high)
    axes.yaxis.set_major_locator(FixedLocator(_ratio_ticks(low, high)))


def _ratio_ticks(low: float, high: float) -> list[float]:
    """At most five ticks about 1 that stay away from the edges, where the next panel has its own."""
    power = 10.0 ** (math.floor(math.log10(low + high)) - 1)
    for step in (power * part for part in (1, 2, 5, 10, 20)):
        below, above = math.floor(0.9 * low / step), math.floor(0.9 * high / step)
        if below + above <= 4:
            break
    return [1.0 + place * step for place in range(-below, above + 1)]
