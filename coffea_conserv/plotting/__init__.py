"""Pictures of a result, as functions that return a figure; only :func:`save_all` writes files.

Nothing here changes the state of matplotlib: styles hold within a function, and no figure is registered with
``pyplot``, so that none stays open.
"""

from __future__ import annotations

from coffea_conserv.plotting.curves import curve_plot
from coffea_conserv.plotting.distributions import control_plot, template_plot, templates_plot
from coffea_conserv.plotting.evidence import detectability_plot, impact_plot
from coffea_conserv.plotting.files import save_all
from coffea_conserv.plotting.heatmaps import limits_plot
from coffea_conserv.plotting.matrices import correlation_plot
from coffea_conserv.plotting.overview import overview_plot
from coffea_conserv.plotting.planes import plane_plot

__all__ = (
    "control_plot",
    "correlation_plot",
    "curve_plot",
    "detectability_plot",
    "impact_plot",
    "limits_plot",
    "overview_plot",
    "plane_plot",
    "save_all",
    "template_plot",
    "templates_plot",
)
