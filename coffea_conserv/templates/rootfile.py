"""Templates in a ROOT file, as Combine and cabinetry read them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.files import replacing
from coffea_conserv.templates.template import Template

__all__ = ("write_root",)


def write_root(path: Path, entries: Iterable[Template], title: str) -> Path:
    """Write templates to a ROOT file, which is there as a whole or not at all.

    Parameters
    ----------
    path
        The file; one that is there is replaced.
    entries
        What to write, as ``region/process`` and so on.
    title
        Text for the axes.

    Raises
    ------
    ConfigurationError
        If a name cannot be used in a ROOT file, or two histograms would get the same one.
    """
    import uproot  # noqa: PLC0415 -- slow to import and used only here

    named = _named(entries)
    with replacing(path) as part, uproot.recreate(part) as file:
        for key, histogram in named.items():
            file[key] = _th1(histogram, title)
    return path


def _named(entries: Iterable[Template]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for entry in entries:
        for name in (entry.process, entry.region):
            if not name or any(character in name for character in "/;:"):
                msg = f"{name!r} cannot be a name in a ROOT file; rename it without '/', ';' and ':'"
                raise ConfigurationError(msg)
        for name, histogram in entry.histograms.items():
            key = f"{entry.region}/{name}"
            if key in named:
                msg = f"two histograms would be written as {key!r}; rename the process {entry.process!r}"
                raise ConfigurationError(msg)
            named[key] = histogram
    return named


def _th1(histogram: Any, title: str) -> Any:
    """Make a TH1D of any axis of hist.

    The writer of uproot wants under- and overflow, which circular and categorical axes need not have.
    """
    from uproot.writing import identify  # noqa: PLC0415 -- see write_root

    axis = histogram.axes[0]
    view = histogram.view(flow=True)
    first = 1 - int(axis.traits.underflow)
    value, variance = np.zeros((2, axis.size + 2))
    value[first : first + axis.extent] = view["value"]
    variance[first : first + axis.extent] = view["variance"]
    edges = np.asarray(axis.edges, dtype=np.float64)
    inside, centres = value[1:-1], (edges[1:] + edges[:-1]) / 2
    total = float(variance.sum())
    return identify.to_TH1x(
        None,  # the name is that of the key
        histogram.label or title,
        value,
        float(value.sum()) ** 2 / total if total > 0 else 0.0,  # entries: the effective number of events
        float(inside.sum()),
        float(variance[1:-1].sum()),
        float((inside * centres).sum()),
        float((inside * centres**2).sum()),
        variance,
        identify.to_TAxis("xaxis", title, axis.size, float(edges[0]), float(edges[-1]), fXbins=edges),
    )
