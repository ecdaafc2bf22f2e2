"""Comparison of what was written for fits with the templates of the analysis, content by content."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coffea_conserv.errors import InputError, of_extra
from coffea_conserv.exports.measurement import Measurement
from coffea_conserv.exports.naming import FitNames
from coffea_conserv.names import DATA
from coffea_conserv.templates.rootfile import Stored, check_contents, check_root
from coffea_conserv.templates.template import Template
from coffea_conserv.templates.templates import Templates

__all__ = ("built", "check_datacard", "check_workspace")

ROUNDING = 1e-12
"""Largest relative difference of what is a quotient or a root in a workspace: errors, Up and Down."""


def check_datacard(path: Path, fitted: Templates, measurement: Measurement, names: FitNames) -> None:
    """Raise unless a datacard, read by its syntax, refers to every template of a fit and to nothing else.

    Parameters
    ----------
    path
        The datacard, beside the ROOT file that it names.
    fitted
        What is fitted, under the names of the analysis.
    measurement
        Nuisances.
    names
        Names in the files.

    Raises
    ------
    InputError
        With process, region and bin.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line.strip() and line[0] not in "#-"]
    channels, bins = (row[1:] for row in rows if row[0] == "bin")
    processes, _ = (row[1:] for row in rows if row[0] == "process")
    ((_, _, _, root, nominal, varied),) = (row for row in rows if row[0] == "shapes")
    columns = [f"{region}/{process}" for region, process in zip(bins, processes, strict=True)]
    nuisances = {row[0]: row[2:] for row in rows if row[1] == "shape" and row[0] != "process"}
    wanted: dict[str, Stored] = {}
    for entry in fitted.entries:
        safe = names.templates.template(entry)
        what = f"process {entry.process!r} in region {entry.region!r}"
        if entry.process == DATA:
            wanted[_key(nominal, safe.region, "data_obs")] = Stored(entry.nominal, what)
            continue
        column = f"{safe.region}/{safe.process}"
        used = [
            [name for name, cells in nuisances.items() if cells[place] == "1"]
            for place, other in enumerate(columns)
            if other == column
        ]
        expected = measurement.nuisance(safe.process, safe.region)
        if used != [[expected]]:
            msg = f"the datacard has {what} in no column with its nuisance alone; do not fit it, report it"
            raise InputError(msg)
        wanted[_key(nominal, safe.region, safe.process)] = Stored(entry.nominal, f"nominal of {what}")
        for side, histogram in (("Up", entry.up), ("Down", entry.down)):
            key = _key(varied, safe.region, safe.process, expected) + side
            wanted[key] = Stored(histogram, f"{side} of {what}")
    if len(columns) + len(channels) != len(fitted.entries) or len(wanted) != 3 * len(columns) + len(channels):
        msg = "the datacard has templates that share a name; do not fit it, report it"
        raise InputError(msg)
    check_root(path.parent / root, wanted, root)


def _key(pattern: str, channel: str, process: str, systematic: str = "") -> str:
    """Key of a histogram as Combine finds it."""
    parts = {"$CHANNEL": channel, "$PROCESS": process, "$SYSTEMATIC": systematic}
    for name, text in parts.items():
        pattern = pattern.replace(name, text)
    return pattern


def built(config: Mapping[str, Any]) -> dict[str, Any]:
    """Build the workspace of a configuration of cabinetry, whose histograms go to a folder that is removed.

    Parameters
    ----------
    config
        The configuration.

    Raises
    ------
    ConfigurationError
        If cabinetry is not there.
    """
    with of_extra():
        import cabinetry  # noqa: PLC0415 -- slow to import
    with tempfile.TemporaryDirectory() as folder:
        own = copy.deepcopy(dict(config))
        own["General"]["HistogramFolder"] = str(Path(folder) / "histograms")
        cabinetry.templates.collect(own, method="uproot")
        made: dict[str, Any] = cabinetry.workspace.build(own)
    return made


def check_workspace(
    spec: Mapping[str, Any], fitted: Templates, measurement: Measurement, names: FitNames
) -> None:
    """Raise unless a workspace of pyhf holds every template: nominal and data bit for bit, the rest to 10⁻¹².

    Parameters
    ----------
    spec
        The workspace.
    fitted
        What is fitted, under the names of the analysis.
    measurement
        Nuisances and signal.
    names
        Names in the workspace.

    Raises
    ------
    InputError
        With process, region and bin.
    """
    data = {one["name"]: one["data"] for one in spec["observations"]}
    samples = {
        (channel["name"], sample["name"]): sample
        for channel in spec["channels"]
        for sample in channel["samples"]
    }
    count = len(spec["observations"]) + sum(len(channel["samples"]) for channel in spec["channels"])
    if count != len(fitted.entries) or len(data) + len(samples) != count:
        msg = f"the workspace has {count} templates, not {len(fitted.entries)}; do not fit it, report it"
        raise InputError(msg)
    for entry in fitted.entries:
        safe = names.templates.template(entry)
        what = f"of process {entry.process!r} in region {entry.region!r} in the workspace"
        if entry.process == DATA:
            check_contents(
                data[safe.region], entry.nominal.values(), f"data in region {entry.region!r} in the workspace"
            )
            continue
        sample = samples[safe.region, safe.process]
        check_contents(sample["data"], entry.nominal.values(), f"nominal {what}")
        signal = any(m["type"] == "normfactor" and m["name"] == measurement.poi for m in sample["modifiers"])
        nuisance = measurement.nuisance(safe.process, safe.region)
        shifts = {m["name"] for m in sample["modifiers"] if m["type"] in ("normsys", "histosys")}
        if signal != (entry.process in measurement.signal) or shifts != {nuisance}:
            msg = f"signal strength or nuisance {what} is that of another; do not fit it, report it"
            raise InputError(msg)
        for name, found, wanted in _derived(sample, entry):
            check_contents(found, wanted, f"{name} {what}", rounding=ROUNDING)


def _derived(sample: Mapping[str, Any], entry: Template) -> Iterator[tuple[str, Any, Any]]:
    """Name, what is in a sample, and what has to be: statistical errors, Up and Down from norm and shape."""
    found = {modifier["type"]: modifier["data"] for modifier in sample["modifiers"]}
    yield "error", found["staterror"], np.sqrt(entry.nominal.variances())
    for name, side, histogram in (("Up", "hi", entry.up), ("Down", "lo", entry.down)):
        shape = found["histosys"][f"{side}_data"] if "histosys" in found else sample["data"]
        yield name, np.asarray(shape) * found["normsys"][side], histogram.values()
