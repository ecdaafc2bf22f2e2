"""Templates in a ROOT file, as Combine and cabinetry read them, and their contents compared afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.files import replacing
from coffea_conserv.templates.template import Template

__all__ = ("NAMES_KEY", "Stored", "check_contents", "check_root", "write_root")

Floats = NDArray[np.float64]

NAMES_KEY = "names.json"
"""Text in a ROOT file whose names are others than those of the analysis: safe name → name of the analysis."""


@dataclass(frozen=True)
class Stored:
    """Histogram of a file, and what it is for a reader.

    Parameters
    ----------
    histogram
        One-dimensional :class:`hist.Hist` with ``Weight`` storage.
    text
        Variation, process and region, by the names of the analysis.
    """

    histogram: Any
    text: str


def write_root(
    path: Path,
    entries: Iterable[Template],
    title: str,
    rename: Callable[[Template], Template],
    note: str = "",
) -> Path:
    """Write templates to a ROOT file, which is there as a whole or not at all.

    It is read back before it is put in its place, and has to hold every content, variance and edge.

    Parameters
    ----------
    path
        The file; one that is there is replaced.
    entries
        What to write, as ``region/process`` and so on.
    title
        Text for the axes.
    rename
        Template of the analysis → the same under names that a ROOT file can hold.
    note
        Text to write beside them under :data:`NAMES_KEY`, if any.

    Raises
    ------
    ConfigurationError
        If two histograms would get the same name.
    InputError
        If the file does not hold what was written.
    """
    import uproot  # noqa: PLC0415 -- slow to import and used only here

    named = _named(entries, rename)
    with replacing(path) as part:
        with uproot.recreate(part) as file:
            if note:
                file[NAMES_KEY] = note
            for key, stored in named.items():
                file[key] = _th1(stored.histogram, title)
        check_root(part, named, path.name)
    return path


def check_root(path: Path, named: Mapping[str, Stored], what: str) -> None:
    """Raise unless a ROOT file holds histograms bit for bit, with variances, under- and overflow and edges.

    Parameters
    ----------
    path
        The file.
    named
        Key → what has to be there.
    what
        What the file is called in the message.

    Raises
    ------
    InputError
        With the variation, process, region and bin that differ first.
    """
    import uproot  # noqa: PLC0415 -- see write_root

    with uproot.open(path) as file:
        for key, stored in named.items():
            found = file.get(key)
            if found is None:
                msg = f"{what} has no {key}, which is {stored.text}; do not fit it"
                raise InputError(msg)
            value, variance, edges = _bins(stored.histogram)
            pairs = {"content": (found.values(flow=True), value)}
            pairs |= {"variance": (found.variances(flow=True), variance)}
            pairs |= {"lower edge": (found.axis().edges(), edges)}
            for name, (there, wanted) in pairs.items():
                first = 0 if name == "lower edge" else -1  # underflow
                check_contents(there, wanted, f"{what}: {name} of {stored.text}", first=first)


def check_contents(found: Any, wanted: Any, what: str, *, first: int = 0, rounding: float = 0.0) -> None:
    """Raise unless two arrays are the same; ``nan`` is only where it has to be.

    Parameters
    ----------
    found, wanted
        Contents, shape (bins,).
    what
        Whose contents, for the message.
    first
        Number of the first bin.
    rounding
        Largest difference, relative to the content that is wanted.

    Raises
    ------
    InputError
        With the first bin that differs.

    Examples
    --------
    >>> check_contents([1.0, 2.0], [1.0, 2.5], "nominal of W")
    Traceback (most recent call last):
    ...
    coffea_conserv.errors.InputError: nominal of W: 2.0 instead of 2.5 in bin 1 (from 0); do not fit it
    """
    there, right = np.asarray(found, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    if there.shape != right.shape:
        msg = f"{what}: {there.size} bins instead of {right.size}; do not fit it"
        raise InputError(msg)
    same = (there == right) | (np.isnan(there) & np.isnan(right))
    same |= np.abs(there - right) <= rounding * np.abs(right)
    if not same.all():
        place = int(np.argmin(same))
        values = f"{float(there[place])!r} instead of {float(right[place])!r}"
        msg = f"{what}: {values} in bin {place + first} (from 0); do not fit it"
        raise InputError(msg)


def _named(entries: Iterable[Template], rename: Callable[[Template], Template]) -> dict[str, Stored]:
    named: dict[str, Stored] = {}
    for entry in entries:
        safe = rename(entry)
        for side, (name, histogram) in zip(("nominal", "Up", "Down"), safe.histograms.items(), strict=False):
            key = f"{safe.region}/{name}"
            if key in named:
                msg = f"two histograms would be written as {key!r}; rename the process {entry.process!r}"
                raise ConfigurationError(msg)
            named[key] = Stored(histogram, f"{side} of process {entry.process!r} in region {entry.region!r}")
    return named


class _Bins(NamedTuple):
    """Contents and variances with under- and overflow, shape (bins + 2,), and edges, shape (bins + 1,)."""

    value: Floats
    variance: Floats
    edges: Floats


def _bins(histogram: Any) -> _Bins:
    """Bins of any axis of hist; circular and categorical ones need not have under- and overflow."""
    axis = histogram.axes[0]
    view = histogram.view(flow=True)
    first = 1 - int(axis.traits.underflow)
    value, variance = np.zeros((2, axis.size + 2))
    value[first : first + axis.extent] = view["value"]
    variance[first : first + axis.extent] = view["variance"]
    return _Bins(value, variance, np.asarray(axis.edges, dtype=np.float64))


def _th1(histogram: Any, title: str) -> Any:
    """Make a TH1D of any axis of hist; the writer of uproot wants under- and overflow."""
    from uproot.writing import identify  # noqa: PLC0415 -- see write_root

    value, variance, edges = _bins(histogram)
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
        identify.to_TAxis("xaxis", title, len(inside), float(edges[0]), float(edges[-1]), fXbins=edges),
    )
