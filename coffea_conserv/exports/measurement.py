"""Measurement with templates: which processes are signal, which data, which nuisances."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from coffea_conserv.checks import as_flag
from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.names import DATA
from coffea_conserv.templates.checks import TemplateWarning
from coffea_conserv.templates.template import Template
from coffea_conserv.templates.templates import Templates

__all__ = ("Measurement", "check_measurement", "observed", "of_region")

NUISANCES = ("process", "region", "one")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A fit of a signal strength with the templates.

    Parameters
    ----------
    signal
        Processes that the signal strength scales, or one.
    nuisances
        ``process``: one for each process, ``conserv_<process>``, the same in all regions. ``region``: one for
        each process in each region, ``conserv_<process>_<region>``. ``one``: ``conserv``, the same for all,
        which is right if the classifier errs in the same way for all of them.
    blind
        Whether the sum of nominal templates stands in the place of data. It does so in any case in regions
        without data.
    poi
        Name of the signal strength.

    Raises
    ------
    ConfigurationError
        If one of them is something else.

    Examples
    --------
    >>> Measurement(signal="VBF").nuisance("W", "signal")
    'conserv_W'
    """

    signal: Sequence[str]
    nuisances: str = "process"
    blind: bool = True
    poi: str = "mu"

    def __post_init__(self) -> None:
        given: Any = self
        signal: tuple[Any, ...] = (self.signal,) if isinstance(self.signal, str) else tuple(self.signal)
        if not signal or not all(isinstance(name, str) and name for name in signal):
            msg = f"signal={self.signal!r} must be the name of a process, or a list of such"
            raise ConfigurationError(msg)
        object.__setattr__(self, "blind", as_flag("blind", self.blind))
        if self.nuisances not in NUISANCES:
            msg = f"nuisances={self.nuisances!r} is none of {', '.join(map(repr, NUISANCES))}"
            raise ConfigurationError(msg)
        if not isinstance(given.poi, str) or not re.fullmatch(r"[A-Za-z]\w*", given.poi):
            msg = f"poi={self.poi!r} must be a name of letters, digits and underscores"
            raise ConfigurationError(msg)
        object.__setattr__(self, "signal", signal)

    def nuisance(self, process: str, region: str) -> str:
        """Name of the nuisance of a process in a region."""
        return self.joined(self.parts(process, region))

    def parts(self, process: str, region: str) -> tuple[str, ...]:
        """Return what tells the nuisance of a process in a region from others."""
        return {"process": (process,), "region": (process, region), "one": ()}[self.nuisances]

    @staticmethod
    def joined(parts: Sequence[str]) -> str:
        """Name of a nuisance from what tells it from others."""
        return "_".join(("conserv", *parts))


def check_measurement(templates: Templates, measurement: Measurement) -> tuple[TemplateWarning, ...]:
    """Find what a fit would stumble over, and refuse what no fit can do.

    Parameters
    ----------
    templates
        Templates of all processes.
    measurement
        What is measured.

    Returns
    -------
    tuple of TemplateWarning
        Those of the templates, and bins with signal and no background; each with its ``remedy``.

    Raises
    ------
    InputError
        If a signal is no process, all processes are signal, a template has entries that are not finite, or
        the bins of a region are not the same for all.
    """
    for entry in templates.entries:
        _check_entry(entry)
    processes = templates.processes
    unknown = [name for name in measurement.signal if name not in processes]
    msg = ""
    if unknown:
        msg = f"signal: there is no process {', '.join(unknown)}; there are {', '.join(processes) or 'none'}"
    elif set(processes) == set(measurement.signal):
        msg = "signal: all processes are signal; leave out those that are background"
    if msg:
        raise InputError(msg)
    for region in templates.regions:
        shared = {tuple(entry.nominal.axes[0].edges) for entry in of_region(templates, region)}
        if len(shared) > 1:
            msg = f"the bins of region {region!r} are not the same for all processes; treat them alike"
            raise InputError(msg)
    lonely = [
        TemplateWarning("", region, "no background", "there is signal and no background", bins)
        for region in templates.regions
        if (bins := _lonely(templates, measurement, region))
    ]
    return (*templates.warnings, *lonely)


def of_region(templates: Templates, region: str) -> list[Template]:
    """Templates of a region, those of data too."""
    return [entry for entry in templates.entries if entry.region == region]


def _check_entry(entry: Template) -> None:
    if entry.process != DATA and (entry.up is None or entry.down is None):
        absent = "Up" if entry.up is None else "Down"
        msg = f"{entry.region}/{entry.process} has no {absent}; take nominal for it, or a mirror image"
        raise InputError(msg)
    for name, histogram in entry.histograms.items():
        view = histogram.view(flow=True)
        if not np.isfinite(view["value"]).all() or not np.isfinite(view["variance"]).all():
            msg = f"{entry.region}/{name} has entries that are not finite; look at the weights of events"
            raise InputError(msg)


def _lonely(templates: Templates, measurement: Measurement, region: str) -> tuple[int, ...]:
    """Bins of a region that have signal and no background."""
    sums: dict[bool, Any] = {True: 0.0, False: 0.0}
    for entry in of_region(templates, region):
        if entry.up is not None:
            sums[entry.process in measurement.signal] += np.asarray(entry.nominal.values())
    return tuple(int(place) for place in np.flatnonzero((sums[True] > 0) & (sums[False] <= 0)))


def observed(templates: Templates, measurement: Measurement) -> Templates:
    """Templates with observations in every region: data, or the sum of nominal templates in their place.

    Templates without any event are left out: fit tools take them for a mistake.
    """
    entries: list[Template] = []
    for region in templates.regions:
        there = of_region(templates, region)
        simulated = [entry for entry in there if entry.up is not None and _filled(entry)]
        data = [entry for entry in there if entry.process == DATA and entry.nominal.values().any()]
        if not simulated:
            msg = f"region {region!r} has no events of any process; leave it out with regions="
            raise InputError(msg)
        if measurement.blind or not data:
            total = simulated[0].nominal.copy()
            for entry in simulated[1:]:
                total += entry.nominal
            total.label = "sum of nominal templates in the place of data"
            data = [Template(DATA, region, total)]
        entries += [*simulated, *data]
    if not any(entry.process in measurement.signal for entry in entries):
        msg = f"no region has events of the signal {', '.join(measurement.signal)}; run with more of them"
        raise InputError(msg)
    return replace(templates, entries=tuple(entries))


def _filled(entry: Template) -> bool:
    return any(bool(h.values().any()) for h in (entry.nominal, entry.up, entry.down))
