"""Templates of a fit: nominal, Up and Down of every process and region, and how they are written."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hist import Hist, storage
from numpy.typing import NDArray

from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.groups import DATA
from coffea_conserv.names import VARIATIONS, Names
from coffea_conserv.sanity import TemplateWarning, check_objective, check_template

if TYPE_CHECKING:
    from coffea_conserv.result import Result

__all__ = ("LABEL", "MEANING", "Template", "Templates", "make_templates", "replacing")

Floats = NDArray[np.float64]

LABEL = "largest shift found within the limits"
"""What the attacked templates are, for pictures and titles. Goes wherever they go."""

MEANING = f"{LABEL} (a lower estimate of the worst case, not a 1 sigma, not a bound)"
"""The same in full."""

DATA_NAME = "data_obs"
"""Name of data in a ROOT file, as fit tools expect it."""


@dataclass(frozen=True)
class Template:
    """Histograms of one process in one region.

    Parameters
    ----------
    process, region
        Which.
    nominal, up, down
        One-dimensional :class:`hist.Hist` with ``Weight`` storage. Data have no ``up`` and ``down``, whose
        ``label`` says what they are.
    names
        What the attacked ones are called in a ROOT file.
    """

    process: str
    region: str
    nominal: Any
    up: Any = None
    down: Any = None
    names: Names = field(default_factory=Names)

    @property
    def histograms(self) -> dict[str, Any]:
        """Name in a ROOT file → histogram."""
        if self.process == DATA:
            return {DATA_NAME: self.nominal}
        up, down = (f"{self.process}_{label}" for label in (self.names.up, self.names.down))
        return {self.process: self.nominal, up: self.up, down: self.down}


@dataclass(frozen=True)
class Templates:
    """Templates of one quantity.

    Up and Down are the largest shift found within the limits: a lower estimate of the worst case, not a
    1 sigma, not a bound.

    Parameters
    ----------
    quantity, title
        What was filled, and its text for an axis.
    entries
        One for each process and region; an estimate is in its regions only, data where they were filled.
    warnings
        What a fit would stumble over, see :mod:`coffea_conserv.sanity`. The templates are written all the
        same.
    """

    quantity: str
    title: str
    entries: tuple[Template, ...]
    warnings: tuple[TemplateWarning, ...] = ()

    def get(self, process: str, region: str) -> Template:
        """Template of a process in a region.

        Raises
        ------
        InputError
            If there is none.
        """
        for entry in self.entries:
            if (entry.process, entry.region) == (process, region):
                return entry
        known = ", ".join(f"{entry.region}/{entry.process}" for entry in self.entries)
        msg = f"there is no template of process {process!r} in region {region!r}; there are {known or 'none'}"
        raise InputError(msg)

    def relative(self, process: str, region: str) -> tuple[Floats, Floats]:
        """Up/nominal and Down/nominal, shape (bins,) each; ``nan`` where nominal is empty.

        Raises
        ------
        InputError
            If there is no such template, or if it is that of data.
        """
        entry = self.get(process, region)
        if entry.up is None:
            msg = "data have no attacked templates; ask for a simulated process"
            raise InputError(msg)
        nominal = np.asarray(entry.nominal.values())
        up, down = (
            np.divide(varied.values(), nominal, out=np.full(nominal.shape, np.nan), where=nominal != 0)
            for varied in (entry.up, entry.down)
        )
        return up, down

    def to_root(self, path: str | Path) -> Path:
        """Write all templates to a ROOT file.

        ``region/process``, ``region/process_conservUp``, ``region/process_conservDown`` and
        ``region/data_obs``, with sums of squared weights, under- and overflow. :class:`~coffea_conserv.Names`
        may call the variations differently. The title of the attacked ones says what they are. The file is
        there as a whole or not at all.

        Parameters
        ----------
        path
            The file to write; one that is there is replaced.

        Raises
        ------
        ConfigurationError
            If a name cannot be used in a ROOT file, or two histograms would get the same one.
        """
        import uproot  # noqa: PLC0415 -- slow to import and used only here

        named = self._named()
        with replacing(Path(path)) as part, uproot.recreate(part) as file:
            for key, histogram in named.items():
                file[key] = _th1(histogram, self.title)
        return Path(path)

    def _named(self) -> dict[str, Any]:
        named: dict[str, Any] = {}
        for entry in self.entries:
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


def make_templates(result: Result, quantity: str, regions: Sequence[str] | None = None) -> Templates:
    """Make the templates of one quantity.

    Parameters
    ----------
    result
        The result of a run.
    quantity
        Feature, watched quantity or ``score``.
    regions
        Which regions; all if not given. Control regions of an estimate can be left out here.

    Raises
    ------
    InputError
        If there is no such quantity or region.
    """
    unknown = sorted(set(regions or ()) - set(result.regions))
    if unknown:
        msg = f"there is no region {', '.join(unknown)}; there are {', '.join(result.regions)}"
        raise InputError(msg)
    chosen = result.regions if regions is None else tuple(regions)
    filled, title = result.hist(quantity, regions=chosen), result.title(quantity)
    names = result.settings.names
    entries = []
    for region in chosen:
        for process in result.process_names:
            if process in result.simulation or result.has(process, region):
                variations = VARIATIONS[:1] if process == DATA else VARIATIONS
                made = {
                    part: _slice(filled, (process, region, names.labels[v]), title)
                    for part, v in zip(("nominal", "up", "down"), variations, strict=False)
                }
                entries.append(Template(process, region, **made, names=names))
    found = [warning for entry in entries if entry.up is not None for warning in _warnings(entry)]
    step = check_objective(result.settings.objective) if quantity == "score" else ()
    return Templates(quantity, title, tuple(entries), (*step, *found))


def _warnings(entry: Template) -> tuple[TemplateWarning, ...]:
    nominal, up, down = (np.asarray(one.values()) for one in (entry.nominal, entry.up, entry.down))
    labels = (entry.names.up, entry.names.down)
    return check_template((entry.process, entry.region), nominal, up, down, labels)


def _slice(filled: Any, key: tuple[str, str, str], title: str) -> Any:
    """One-dimensional copy with a labelled axis."""
    axis = copy.copy(filled.axes[3])
    axis.label = title
    label = None if key[2] == filled.axes[2].value(0) else LABEL
    made: Any = Hist(axis, storage=storage.Weight(), label=label)
    position = tuple(list(filled.axes[i]).index(label) for i, label in enumerate(key))
    made.view(flow=True)[...] = filled.view(flow=True)[position]
    return made


def _th1(histogram: Any, title: str) -> Any:
    """Make a TH1D of any axis of hist.

    The writer of uproot wants under- and overflow, which circular and categorical axes need not have.
    """
    from uproot.writing import identify  # noqa: PLC0415 -- see to_root

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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, and put it in place of ``path`` if that succeeds.

    A reader sees the old file or the whole new one, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
