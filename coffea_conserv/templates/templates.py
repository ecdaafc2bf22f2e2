"""Templates of a fit: nominal, Up and Down of every process and region."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hist import Hist, storage
from numpy.typing import NDArray

from coffea_conserv.errors import InputError
from coffea_conserv.names import VARIATIONS
from coffea_conserv.sums.groups import DATA
from coffea_conserv.templates.checks import TemplateWarning, check_objective, check_template
from coffea_conserv.templates.template import LABEL, RobustnessSystematic, Template, relative
from coffea_conserv.templates.treatment import Treatment, treat

if TYPE_CHECKING:
    from coffea_conserv.results.result import Result

__all__ = ("Templates", "check_templates", "make_templates")

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
        from coffea_conserv.templates.rootfile import write_root  # noqa: PLC0415 -- workers do not need it

        return write_root(Path(path), self.entries, self.title)


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
    paired = quantity == "score" and result.paired_axis is result.axis("score")
    entries = []
    for region in chosen:
        for process in result.process_names:
            if process in result.simulation or result.has(process, region):
                variations = VARIATIONS[:1] if process == DATA else VARIATIONS
                made = {
                    part: _slice(filled, (process, region, names.labels[v]), title)
                    for part, v in zip(("nominal", "up", "down"), variations, strict=False)
                }
                pair = _paired(result, process, region) if paired and process != DATA else None
                entries.append(Template(process, region, **made, names=names, paired=pair))
    step = check_objective(result.settings.objective) if quantity == "score" else ()
    point = result.settings.points[0]
    return Templates(quantity, title, tuple(entries), (*step, *check_templates(entries)), point)


def _paired(result: Result, process: str, region: str) -> tuple[Floats, Floats]:
    """Σ w² of nominal × attacked bin in both directions, with under- and overflow of any axis."""
    traits = result.paired_axis.traits
    sides = (1 - int(traits.underflow), 1 - int(traits.overflow))
    up, down = (np.pad(result.paired_squares(process, region, v), sides) for v in VARIATIONS[1:])
    return up, down


def check_templates(entries: Sequence[Template]) -> tuple[TemplateWarning, ...]:
    """Warnings of templates, see :func:`coffea_conserv.templates.checks.check_template`."""
    return tuple(found for entry in entries if entry.up is not None for found in _warnings(entry))


def _warnings(entry: Template) -> Iterator[TemplateWarning]:
    nominal, up, down = (np.asarray(one.values()) for one in (entry.nominal, entry.up, entry.down))
    labels = (entry.names.up, entry.names.down)
    yield from check_template((entry.process, entry.region), nominal, up, down, labels)


def _slice(filled: Any, key: tuple[str, str, str], title: str) -> Any:
    """One-dimensional copy with a labelled axis."""
    axis = copy.copy(filled.axes[3])
    axis.label = title
    label = None if key[2] == filled.axes[2].value(0) else LABEL
    made: Any = Hist(axis, storage=storage.Weight(), label=label)
    position = tuple(list(filled.axes[i]).index(label) for i, label in enumerate(key))
    made.view(flow=True)[...] = filled.view(flow=True)[position]
    return made
