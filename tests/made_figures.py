"""Figures of the made-up results, and what can be read from them."""

from __future__ import annotations

import numpy as np
import pytest
from made_results import SAMPLES, result_of

plt = pytest.importorskip("matplotlib.pyplot", reason="the extra 'plot' is not installed")
pytest.importorskip("mplhep", reason="the extra 'plot' is not installed")

from matplotlib.colors import to_rgba  # noqa: E402
from matplotlib.container import ErrorbarContainer  # noqa: E402
from matplotlib.patches import StepPatch  # noqa: E402
from matplotlib.text import Text  # noqa: E402

from coffea_conserv.plotting import (  # noqa: E402
    control_plot,
    correlation_plot,
    limits_plot,
    overview_plot,
    template_plot,
    templates_plot,
)

RESULT = result_of()
NO_DATA = result_of(*SAMPLES[:-1], estimates=())
FIGURES = {
    "control": lambda r, **o: control_plot(r, "x", "signal", **o),
    "control, score": lambda r, **o: control_plot(r, "score", "signal", **o),
    "control, log": lambda r, **o: control_plot(r, "x", "signal", log=True, **o),
    "template": lambda r, **o: template_plot(r, "W", "signal", **o),
    "templates": lambda r, **o: templates_plot(r, "signal", **o),
    "correlation": lambda r, **o: correlation_plot(r, "signal", **o),
    "correlation, process": lambda r, **o: correlation_plot(r, "signal", "W", **o),
    "limits": limits_plot,
    "overview": overview_plot,
}


def texts(figure):
    """Everything that is written in a figure."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def points(axes):
    """Positions and heights of the points with error bars."""
    return [c.lines[0].get_xydata() for c in axes.containers if isinstance(c, ErrorbarContainer)]


def steps(axes, colour):
    """Contents of the lines of a colour."""
    patches = [p for p in axes.patches if isinstance(p, StepPatch) and not p.get_fill()]
    return [p.get_data().values for p in patches if p.get_edgecolor() == to_rgba(colour)]


def pixels(figure):
    """Colours of a figure."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def nominal_of(result, name, region):
    """Nominal total of everything but data, without flow."""
    entries = result.templates(name, regions=[region]).entries
    return sum(entry.nominal.values() for entry in entries if entry.process != "data")
