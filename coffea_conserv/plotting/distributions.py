"""Distributions with a ratio panel: data against simulation, and attacked against nominal templates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patheffects import Stroke, withStroke

from coffea_conserv.errors import InputError
from coffea_conserv.names import DATA
from coffea_conserv.plotting.contents import Filling, contents
from coffea_conserv.plotting.style import (
    ATTACKED,
    FILLS,
    LEGEND,
    STATUS,
    Box,
    Floats,
    frame,
    head,
    headroom,
    legend_above,
    new_figure,
    ratio,
    ratio_range,
    steps,
    style,
    two_panels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coffea_conserv.results.result import Result

__all__ = ("control_plot", "draw_ratios", "template_plot", "templates_plot")

_BAND = {"color": "#555555", "alpha": 0.35, "linewidth": 0}
_STAT = "nominal, stat. error"


def control_plot(
    result: Result, quantity: str, region: str, *, log: bool = False, label: str = STATUS
) -> Figure:
    """Draw data and stacked simulation of a region, with the attacked totals.

    Parameters
    ----------
    result
        The result of a run.
    quantity
        Feature, watched quantity or ``score``.
    region
        Which region. Where there are no data, points are left out.
    log
        Whether the contents are on a logarithmic axis.
    label
        Status of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        Filling above; below, data and attacked totals over the nominal total with its statistical error.
        Under- and overflow are not shown. Where an estimate is not made, as in its own control region, data
        are shown above only: their ratio to an incomplete total says nothing.
    """
    filled = contents(result, quantity, region)
    with style():
        figure = new_figure((8.0, 7.6))
        main, lower = two_panels(figure, Box(1.15, 0.72, 6.6, 6.48), filled.axis, filled.title)
        order = _draw_stack(main, result, filled)
        _draw_totals(main, filled)
        _draw_data(main, filled)
        draw_ratios(lower, filled, filled.names, data=True)
        rows = _legend(main, order)
        drawn = np.concatenate([*_tops(filled), *filled.value.values()])
        low = float(drawn[drawn > 0].min(initial=np.inf)) if log else float(drawn.min())
        headroom(main, low, float(drawn.max()), share=0.05 + 0.055 * rows, log=log)
        frame(main, label, region)
    return figure


def _tops(filled: Filling) -> list[Floats]:
    """Upper ends of everything that is drawn."""
    names = filled.names
    tops = [filled.total(names, variation) for variation in ("nominal", *ATTACKED)]
    tops[0] = tops[0] + filled.error(names, "nominal")
    return tops if filled.data is None else [*tops, filled.data[0] + filled.data[1]]


def _draw_stack(axes: Axes, result: Result, filled: Filling) -> list[str]:
    """Draw the processes on each other, the largest on top; return their names from below."""
    order = sorted(filled.names, key=lambda name: float(filled.value[name, "nominal"].sum()))
    colours = dict(zip(result.process_names, FILLS * len(result.process_names), strict=False))
    base = np.zeros(len(filled.edges) - 1)
    for name in order:
        top = base + filled.value[name, "nominal"]
        steps(axes, filled.edges, top, baseline=base, fill=True, color=colours[name], linewidth=0, label=name)
        base = top
    return order


def _draw_totals(axes: Axes, filled: Filling) -> None:
    """Draw nominal with its statistical error and the attacked totals."""
    nominal, error = filled.total(filled.names, "nominal"), filled.error(filled.names, "nominal")
    _band(axes, filled.edges, nominal, error, label=_STAT)
    steps(axes, filled.edges, nominal, color="black", linewidth=1.0)
    for variation, look in ATTACKED.items():
        _line(axes, filled.edges, filled.total(filled.names, variation), look)


def _draw_data(axes: Axes, filled: Filling) -> None:
    """Draw data with their statistical errors; bins without data have no point."""
    if filled.data is not None:
        _points(axes, filled.edges, *filled.data, label="data")


def _points(axes: Axes, edges: Floats, values: Floats, errors: Floats, **look: Any) -> None:
    centres, there = (edges[1:] + edges[:-1]) / 2, errors > 0
    style_of = {"fmt": "o", "color": "black", "markersize": 4.0, "elinewidth": 1.2, **look}
    axes.errorbar(centres[there], values[there], yerr=errors[there], **style_of)


def draw_ratios(
    axes: Axes,
    filled: Filling,
    names: tuple[str, ...],
    *,
    data: bool = False,
    named: bool = False,
    paired: dict[str, Floats] | None = None,
) -> None:
    """Draw attacked over nominal, with the statistical error of nominal, and choose the range.

    Parameters
    ----------
    axes
        The panel.
    filled
        What is drawn.
    names
        Processes to sum.
    data
        Whether to draw data over nominal, where there are data and the total is complete.
    named
        Whether everything gets a name for a legend.
    paired
        Variation → error of attacked − nominal, drawn as a band.
    """
    nominal = filled.total(names, "nominal")
    points = filled.data if data and not filled.lacking else None
    error = ratio(filled.error(names, "nominal"), nominal)
    parts = []
    # A bin with hardly any events must not set the range of all others.
    sure = error < 0.5
    _band(axes, filled.edges, ratio(nominal, nominal), error, label=_STAT if named else None)
    for variation, look in ATTACKED.items():
        quotient = ratio(filled.total(names, variation), nominal)
        parts.append(quotient[sure])
        if paired is not None:
            spread = ratio(paired[variation], nominal)
            _band(axes, filled.edges, quotient, spread, color=look["color"])
            parts += [(quotient - spread)[sure], (quotient + spread)[sure]]
        _line(axes, filled.edges, quotient, look if named else {**look, "label": None})
    if points is not None:
        quotient, spread = (ratio(part, nominal) for part in points)
        _points(axes, filled.edges, quotient, spread, markersize=3.5, label="data" if named else None)
        parts.append(quotient[(spread > 0) & (spread < 0.3)])
    ratio_range(axes, *parts, error=error)
    if points is not None:
        _mark_above(axes, filled.edges, quotient)
    elif data and filled.remark:
        text: dict[str, Any] = {"ha": "center", "va": "top", "style": "italic", "fontsize": 11}
        text["path_effects"] = [withStroke(linewidth=3, foreground="white")]
        axes.text(0.5, 0.95, filled.remark, transform=axes.transAxes, **text)


def _mark_above(axes: Axes, edges: Floats, quotient: Floats) -> None:
    """Mark by a triangle where a point is above the panel, so that it is not taken for an empty bin."""
    top = axes.get_ylim()[1]
    centres = (edges[1:] + edges[:-1]) / 2
    above = np.nan_to_num(quotient) > top
    if above.any():
        height = np.full(int(above.sum()), top - 0.04 * (top - axes.get_ylim()[0]))
        axes.plot(centres[above], height, "^", color="black", markersize=5, clip_on=False)


def template_plot(
    result: Result, process: str, region: str, quantity: str = "score", *, label: str = STATUS
) -> Figure:
    """Draw the nominal and attacked templates of a process with their errors.

    Parameters
    ----------
    result
        The result of a run.
    process, region, quantity
        Which template.
    label
        Status of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        Templates with statistical errors above, ratios to nominal below. The bands on the ratios of the
        score are the error of the difference, in which events that stay in their bin cancel; they are left
        out for a score of more than 20 bins.

    Raises
    ------
    InputError
        If there is no such template, or if it is that of data.
    """
    filled = contents(result, quantity, region)
    _check_attacked(filled, process, region)
    with style():
        figure = new_figure((8.0, 7.6))
        main, lower = two_panels(figure, Box(1.15, 0.72, 6.6, 6.48), filled.axis, filled.title)
        _draw_template(
            result, main, lower, filled, process=process, region=region, quantity=quantity, share=0.25
        )
        main.legend(loc="upper right", title=LEGEND)
        frame(main, label, f"{process}, {region}")
    return figure


def _check_attacked(filled: Filling, process: str, region: str) -> None:
    if process not in filled.names:
        what = "data are never attacked" if process == DATA else f"there is no {process!r} in {region!r}"
        msg = f"{what}; the templates of region {region!r} are those of {', '.join(filled.names) or 'none'}"
        raise InputError(msg)


def templates_plot(result: Result, region: str, quantity: str = "score", *, label: str = STATUS) -> Figure:
    """Draw the nominal and attacked templates of all processes of a region beside each other.

    Parameters
    ----------
    result
        The result of a run.
    region, quantity
        Which templates.
    label
        Status of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        For each process with content the two panels of :func:`template_plot`.
    """
    filled = contents(result, quantity, region)
    names = tuple(name for name in filled.names if filled.value[name, "nominal"].any())
    columns = min(3, max(len(names), 2))
    rows = max(1, math.ceil(len(names) / columns))
    wide, high = 5.6, 5.0
    with style():
        figure = new_figure((columns * wide, rows * high + 1.0))
        for position, name in enumerate(names):
            row, column = divmod(position, columns)
            box = Box(column * wide + 1.15, (rows - 1 - row) * high + 0.75, wide - 1.4, high - 1.15)
            main, lower = two_panels(figure, box, filled.axis, filled.title)
            _draw_template(
                result, main, lower, filled, process=name, region=region, quantity=quantity, share=0.04
            )
            frame(main, "", name)
        head(figure, label, region)
        legend_above(figure, down=0.35, columns=3)
    return figure


def _draw_template(
    result: Result,
    main: Axes,
    lower: Axes,
    filled: Filling,
    *,
    process: str,
    region: str,
    quantity: str,
    share: float,
) -> None:
    """Draw the templates of one process into two panels; a share of the upper one is left for a legend."""
    names, edges = (process,), filled.edges
    tops, bottoms = [], []
    for variation in ("nominal", *ATTACKED):
        value, error = filled.total(names, variation), filled.error(names, variation)
        tops.append(value + error)
        bottoms.append(value - error)
        if variation == "nominal":
            _band(main, edges, value, error, label=_STAT)
            steps(main, edges, value, color="black", linewidth=1.2)
        else:
            _line(main, edges, value, ATTACKED[variation])
    paired = None
    if quantity == "score" and result.paired_axis.size == filled.axis.size:
        paired = {variation: result.paired_error(process, region, variation) for variation in ATTACKED}
    draw_ratios(lower, filled, names, paired=paired)
    headroom(main, float(np.min(bottoms)), float(np.max(tops)), share=share)


def _line(axes: Axes, edges: Floats, values: Floats, look: dict[str, Any]) -> None:
    # A white rim keeps the line visible on every fill.
    rim: list[Stroke] = [withStroke(linewidth=3.4, foreground="white")]
    steps(axes, edges, values, linewidth=1.8, path_effects=rim, **look)


def _band(axes: Axes, edges: Floats, centre: Floats, error: Floats, **look: Any) -> None:
    steps(axes, edges, centre + error, baseline=centre - error, fill=True, **{**_BAND, **look})


def _legend(axes: Axes, order: list[str]) -> int:
    """Legend in two columns: data, then processes from the largest, then lines. Return its rows."""
    handles, labels = axes.get_legend_handles_labels()
    ranks = {"data": -1, **{name: position for position, name in enumerate(reversed(order))}}
    pairs = sorted(zip(handles, labels, strict=True), key=lambda pair: ranks.get(pair[1], len(ranks)))
    axes.legend(*zip(*pairs, strict=True), loc="upper right", ncols=2, columnspacing=1.2, title=LEGEND)
    return 1 + math.ceil(len(pairs) / 2)
