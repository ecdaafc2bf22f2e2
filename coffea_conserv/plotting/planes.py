"""Two quantities in a plane, before and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from coffea_conserv.errors import InputError
from coffea_conserv.plotting.style import STATUS, Box, Floats, add_panel, head, new_figure, style
from coffea_conserv.templates.template import LABEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ("plane_plot",)

_SIDE, _GAP = 4.0, 0.35


def plane_plot(
    before: Floats,
    after: Floats,
    axes: tuple[Any, Any],
    *,
    score: Callable[[Floats], Floats] | None = None,
    working_point: float = 0.5,
    label: str = STATUS,
) -> Figure:
    """Draw the density of events in two quantities, nominal, attacked, and what the attack changes.

    Parameters
    ----------
    before, after
        Values of the same events, shape (events, 2).
    axes
        Axes of :mod:`hist` of the two quantities, whose labels are written.
    score
        Function of a matrix (points, 2) that gives scores, for models of these two features: the line where
        the score is the working point is drawn.
    working_point
        See ``score``.
    label
        Status of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        Three panels. Marginals of both are the projections of what is drawn, so that equal marginals with
        another plane are what the attack lives on.

    Raises
    ------
    InputError
        If shapes are not (events, 2) and the same.
    """
    if before.ndim != 2 or before.shape[1] != 2 or before.shape != after.shape:
        msg = f"before and after must have one shape (events, 2), got {before.shape} and {after.shape}"
        raise InputError(msg)
    edges = [np.asarray(axis.edges, dtype=np.float64) for axis in axes]
    one, two = (np.histogram2d(x[:, 0], x[:, 1], bins=edges)[0] for x in (before, after))
    reach = float(np.abs(two - one).max()) or 1.0
    top = float(max(one.max(), two.max())) or 1.0
    panels = (("nominal", one, "Greys", (0.0, top)), ("attacked", two, "Greys", (0.0, top)))
    with style():
        figure = new_figure((3 * (_SIDE + _GAP) + 1.9, _SIDE + 1.5))
        for k, (name, content, colours, limits) in enumerate(
            (*panels, ("attacked − nominal", two - one, "RdBu_r", (-reach, reach)))
        ):
            panel = add_panel(figure, Box(0.85 + k * (_SIDE + _GAP), 0.75, _SIDE, _SIDE))
            mesh = panel.pcolormesh(
                edges[0], edges[1], content.T, cmap=colours, vmin=limits[0], vmax=limits[1], rasterized=True
            )
            panel.set_title(name, fontsize=13)
            panel.set_xlabel(axes[0].label or axes[0].name, fontsize=13)
            panel.set_ylabel(axes[1].label or axes[1].name if k == 0 else "", fontsize=13)
            if k:
                panel.tick_params(axis="y", labelleft=False)
            if score is not None:
                _boundary(panel, edges, score, working_point)
        left = 0.85 + 3 * (_SIDE + _GAP) - 0.1
        figure.colorbar(mesh, cax=add_panel(figure, Box(left, 0.75, 0.18, _SIDE)), label="events / bin")
        head(figure, label, "", right=f"attacked: {LABEL}")
    return figure


def _boundary(panel: Axes, edges: list[Floats], score: Callable[[Floats], Floats], point: float) -> None:
    """Draw the line where the score is the working point."""
    grids = np.meshgrid(*(np.linspace(one[0], one[-1], 200) for one in edges), indexing="ij")
    values = np.asarray(score(np.stack([grid.ravel() for grid in grids], axis=1)))
    panel.contour(*grids, values.reshape(grids[0].shape), levels=[point], colors="#ff7f0e", linewidths=1.6)
