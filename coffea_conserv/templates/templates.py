"""Templates of a fit: nominal, Up and Down of every process and region."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hist import Hist, storage
from numpy.typing import NDArray

from coffea_conserv.errors import InputError
from coffea_conserv.names import DATA, VARIATIONS, Names
from coffea_conserv.templates.checks import TemplateWarning, check_objective, check_template
from coffea_conserv.templates.naming import safe_names
from coffea_conserv.templates.rootfile import write_root
from coffea_conserv.templates.template import LABEL, RobustnessSystematic, Template, relative
from coffea_conserv.templates.treatment import Treatment, treat

__all__ = ("Filled", "Templates", "check_templates", "make_templates")

Floats = NDArray[np.float64]


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
        What a fit would stumble over, see :mod:`coffea_conserv.templates.checks`, and what was clipped or
        pruned. The templates are written all the same.
    working_point
        Score above which an event counts as signal.
    """

    quantity: str
    title: str
    entries: tuple[Template, ...]
    warnings: tuple[TemplateWarning, ...] = ()
    working_point: float = 0.5

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions, in the order of the entries."""
        return tuple(dict.fromkeys(entry.region for entry in self.entries))

    @property
    def processes(self) -> tuple[str, ...]:
        """Processes without data, in the order of the entries."""
        return tuple(dict.fromkeys(entry.process for entry in self.entries if entry.up is not None))

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
        return relative(self._simulated(process, region))

    def systematic(self, process: str, region: str) -> RobustnessSystematic:
        """The systematic of a process in a region, which says what it is when it is printed.

        Raises
        ------
        InputError
            If there is no such template, or if it is that of data.
        """
        return RobustnessSystematic(self._simulated(process, region), self.quantity, self.working_point)

    def _simulated(self, process: str, region: str) -> Template:
        entry = self.get(process, region)
        if entry.up is None:
            msg = "data have no attacked templates; ask for a simulated process"
            raise InputError(msg)
        return entry

    def treated(self, treatment: Treatment) -> Templates:
        """Merge bins, smooth, take one side or mirror it, part shape and norm, scale and prune.

        Parameters
        ----------
        treatment
            What is done.

        Returns
        -------
        Templates
            New ones, with the warnings that hold for them and those of what was clipped or pruned.

        Raises
        ------
        InputError
            If bins cannot be merged so, or shape and norm cannot be parted.
        """
        entries, notes = treat(self.entries, treatment)
        steps = tuple(warning for warning in self.warnings if warning.kind == "step")
        return replace(self, entries=entries, warnings=(*steps, *notes, *check_templates(entries)))

    def _repr_html_(self) -> str:
        made = (self.systematic(e.process, e.region) for e in self.entries if e.up is not None)
        return "".join(one._repr_html_() for one in made)

    def to_root(self, path: str | Path) -> Path:
        """Write all templates to a ROOT file.

        ``region/process``, ``region/process_conservUp``, ``region/process_conservDown`` and
        ``region/data_obs``, with sums of squared weights, under- and overflow. :class:`~coffea_conserv.Names`
        may call the variations differently. The title of the attacked ones says what they are. Names that
        fit tools cannot hold are replaced as :func:`~coffea_conserv.templates.safe_names` does, and the file
        holds them as the text ``names.json``. It is read back, and there as a whole or not at all.

        Parameters
        ----------
        path
            The file to write; one that is there is replaced.

        Raises
        ------
        ConfigurationError
            If two histograms would get the same name.
        InputError
            If the file does not hold what was written.
        """
        names = safe_names(self.entries)
        note = json.dumps(names.to_dict(), ensure_ascii=False) if names.changed else ""
        return write_root(Path(path), self.entries, self.title, names.template, note)


@dataclass(frozen=True)
class Filled:
    """Histogram of one quantity, and what templates need beside it.

    Parameters
    ----------
    quantity, title
        What was filled, and its text for an axis.
    histogram
        Axes process, region, variation and the quantity, with ``Weight`` storage.
    groups
        Process and region of each template.
    names
        Names of the variations.
    paired
        Process and region → Σ w² of nominal × attacked bin, up and down, with under- and overflow of any
        axis; empty where the quantity is not binned as they are.
    """

    quantity: str
    title: str
    histogram: Any
    groups: Sequence[tuple[str, str]]
    names: Names
    paired: Mapping[tuple[str, str], tuple[Floats, Floats]]


def make_templates(filled: Filled, *, objective: str, working_point: float) -> Templates:
    """Make the templates of one quantity.

    Parameters
    ----------
    filled
        The histogram.
    objective
        What the attack moved: templates of the score may have a step.
    working_point
        Score above which an event counts as signal.
    """
    entries = []
    for process, region in filled.groups:
        variations = VARIATIONS[:1] if process == DATA else VARIATIONS
        made = {
            part: _slice(filled, process, region, filled.names.labels[v])
            for part, v in zip(("nominal", "up", "down"), variations, strict=False)
        }
        paired = filled.paired.get((process, region))
        entries.append(Template(process, region, **made, names=filled.names, paired=paired))
    step = check_objective(objective) if filled.quantity == "score" else ()
    warnings = (*step, *check_templates(entries))
    return Templates(filled.quantity, filled.title, tuple(entries), warnings, working_point)


def check_templates(entries: Sequence[Template]) -> tuple[TemplateWarning, ...]:
    """Warnings of templates, see :func:`coffea_conserv.templates.checks.check_template`."""
    return tuple(found for entry in entries if entry.up is not None for found in _warnings(entry))


def _warnings(entry: Template) -> Iterator[TemplateWarning]:
    nominal, up, down = (np.asarray(one.values()) for one in (entry.nominal, entry.up, entry.down))
    labels = (entry.names.up, entry.names.down)
    yield from check_template(entry.process, entry.region, nominal, up, down, labels)


def _slice(filled: Filled, process: str, region: str, variation: str) -> Any:
    """One-dimensional copy with a labelled axis."""
    histogram = filled.histogram
    axis = copy.copy(histogram.axes[3])
    axis.label = filled.title
    label = None if variation == histogram.axes[2].value(0) else LABEL
    made: Any = Hist(axis, storage=storage.Weight(), label=label)
    position = tuple(list(histogram.axes[i]).index(key) for i, key in enumerate((process, region, variation)))
    made.view(flow=True)[...] = histogram.view(flow=True)[position]
    return made
