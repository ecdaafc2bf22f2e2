"""Distributions with a ratio panel: data against simulation, and attacked against nominal templates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mplhep
import numpy as np
from matplotlib.patheffects import Stroke, withStroke

from coffea_conserv.groups import DATA
from coffea_conserv.plotting.style import (
    ATTACKED,
    FILLS,
    STATUS,
    Floats,
    frame,
    headroom,
    ratio,
    ratio_range,
    style,
    two_panels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from coffea_conserv.result import Result

__all__ = ("control_plot", "template_plot")

_BAND = {"color": "#555555", "alpha": 0.35, "linewidth": 0}


@dataclass(frozen=True)
class _Contents:
    """Contents and variances by process and variation, without flow bins."""

    edges: Floats
    value: dict[tuple[str, str], Floats]
    variance: dict[tuple[str, str], Floats]

    def total(self, names: tuple[str, ...], variation: str) -> Floats:
        total: Floats = np.sum([self.value[name, variation] for name in names], axis=0)
        return total

    def error(self, names: tuple[str, ...], variation: str) -> Floats:
        error: Floats = np.sqrt(np.sum([self.variance[name, variation] for name in names], axis=0))
        return error


def _contents(result: Result, quantity: str, region: str) -> _Contents:
    value, variance = {}, {}
    entries = result.templates(quantity, regions=[region]).entries
    for entry in entries:
        for variation, histogram in zip(("nominal", *ATTACKED), _triple(entry), strict=True):
            if histogram is not None:
                value[entry.process, variation] = np.asarray(histogram.values(), dtype=np.float64)
                variance[entry.process, variation] = np.asarray(histogram.variances(), dtype=np.float64)
    return _Contents(np.asarray(result.axis(quantity).edges, dtype=np.float64), value, variance)


def _triple(entry: Any) -> tuple[Any, Any, Any]:
    return entry.nominal, entry.up, entry.down


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
        Which region. Without data, points are left out.
    log
        Whether the contents are on a logarithmic axis.
    label
        Status of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        Contents above; below, data and attacked totals over the nominal total with its statistical error.
        Under- and overflow are not shown.
    """
    filled = _contents(result, quantity, region)
    names = tuple(name for name, variation in filled.value if variation == "nominal" and name != DATA)
    with style():
        figure, main, lower = two_panels(result.title(quantity), filled.edges)
        order = sorted(names, key=lambda name: float(filled.value[name, "nominal"].sum()))
        colours = dict(zip(result.process_names, FILLS * len(result.process_names), strict=False))
        stack = [filled.value[name, "nominal"] for name in order]
        mplhep.histplot(
            stack,
            bins=filled.edges,
            stack=True,
            histtype="fill",
            label=order,
            color=[colours[name] for name in order],
            ax=main,
            flow="none",
        )
        totals = _draw_totals(main, lower, filled, names)
        quotient = _draw_data(main, lower, filled, totals["nominal"])
        _legend(main, order)
        rows = math.ceil(len(main.get_legend_handles_labels()[1]) / 2)
        drawn = np.concatenate([*totals.values(), *filled.value.values()])
        low = float(drawn[drawn > 0].min(initial=np.inf)) if log else float(drawn.min())
        headroom(main, low, float(drawn.max()), rows=rows, log=log)
        ratio_range(lower, quotient, *(ratio(total, totals["nominal"]) for total in totals.values()))
        lower.set_ylabel("Ratio to\nnominal", loc="center")
        frame(main, label, region)
        figure.align_ylabels([main, lower])
    return figure


def _draw_totals(main: Axes, lower: Axes, filled: _Contents, names: tuple[str, ...]) -> dict[str, Floats]:
    """Draw nominal with its statistical error and the attacked totals; return all three."""
    nominal, error = filled.total(names, "nominal"), filled.error(names, "nominal")
    totals = {"nominal": nominal}
    _band(main, filled.edges, nominal, error, label="nominal, stat. error")
    _band(lower, filled.edges, ratio(nominal, nominal), ratio(error, nominal))
    main.stairs(nominal, filled.edges, color="black", linewidth=1.0, baseline=None)
    for variation, look in ATTACKED.items():
        totals[variation] = filled.total(names, variation)
        _line(main, filled.edges, totals[variation], look)
        _line(lower, filled.edges, ratio(totals[variation], nominal), {**look, "label": None})
    return totals


def _draw_data(main: Axes, lower: Axes, filled: _Contents, nominal: Floats) -> Floats:
    """Draw data with their statistical errors and return the ratios that the panel must show."""
    if (DATA, "nominal") not in filled.value:
        return np.ones(1)
    data, error = filled.value[DATA, "nominal"], np.sqrt(filled.variance[DATA, "nominal"])
    look = {"histtype": "errorbar", "color": "black", "markersize": 7, "flow": "none"}
    mplhep.histplot(data, bins=filled.edges, yerr=error, label="data", ax=main, **look)
    centres = (filled.edges[1:] + filled.edges[:-1]) / 2
    quotient, spread = ratio(data, nominal), ratio(error, nominal)
    lower.errorbar(centres, quotient, yerr=spread, fmt="o", color="black", markersize=3.5)
    # A bin with hardly any data must not set the range of all others.
    return np.where((spread > 0) & (spread < 0.3), quotient, np.nan)


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
    """
    filled = _contents(result, quantity, region)
    value = {v: filled.total((process,), v) for v in ("nominal", *ATTACKED)}
    error = {v: filled.error((process,), v) for v in ("nominal", *ATTACKED)}
    edges, nominal = filled.edges, value["nominal"]
    paired = quantity == "score" and result.paired_axis.size == len(nominal)
    with style():
        figure, main, lower = two_panels(result.title(quantity), edges)
        _band(main, edges, nominal, error["nominal"], label="nominal, stat. error")
        _band(lower, edges, ratio(nominal, nominal), ratio(error["nominal"], nominal))
        main.stairs(nominal, edges, color="black", linewidth=1.2, baseline=None)
        parts = []
        for position, (variation, look) in enumerate(ATTACKED.items()):
            _line(main, edges, value[variation], look)
            place = edges[:-1] + (0.4 + 0.2 * position) * np.diff(edges)
            bars = {"fmt": "none", "ecolor": look["color"], "elinewidth": 1.2}
            main.errorbar(place, value[variation], yerr=error[variation], **bars)
            quotient = ratio(value[variation], nominal)
            _line(lower, edges, quotient, {**look, "label": None})
            parts.append(quotient)
            if paired:
                spread = ratio(result.paired_error(process, region, variation), nominal)
                _band(lower, edges, quotient, spread, color=look["color"])
                parts += [quotient - spread, quotient + spread]
        main.legend(loc="upper right", reverse=False)
        tops = [value[v] + error[v] for v in value]
        bottoms = [value[v] - error[v] for v in value]
        headroom(main, float(np.min(bottoms)), float(np.max(tops)), rows=3)
        ratio_range(lower, *parts)
        lower.set_ylabel("Ratio to\nnominal", loc="center")
        frame(main, label, f"{process}, {region}")
        figure.align_ylabels([main, lower])
    return figure


def _line(axes: Axes, edges: Floats, values: Floats, look: dict[str, Any]) -> None:
    # A white rim keeps the line visible on every fill.
    rim: list[Stroke] = [withStroke(linewidth=3.4, foreground="white")]
    axes.stairs(values, edges, baseline=None, linewidth=1.8, path_effects=rim, **look)


def _band(axes: Axes, edges: Floats, centre: Floats, error: Floats, **look: Any) -> None:
    axes.stairs(centre + error, edges, baseline=centre - error, fill=True, **{**_BAND, **look})


def _legend(axes: Axes, order: list[str]) -> None:
    """Legend in two columns: data, then processes from the largest, then lines."""
    handles, labels = axes.get_legend_handles_labels()
    ranks = {"data": -1, **{name: position for position, name in enumerate(reversed(order))}}
    pairs = sorted(zip(handles, labels, strict=True), key=lambda pair: ranks.get(pair[1], len(ranks)))
    axes.legend(*zip(*pairs, strict=True), loc="upper right", ncols=2, columnspacing=1.2)
