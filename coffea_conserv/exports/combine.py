"""A datacard of Combine with its ROOT file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from coffea_conserv.exports.measurement import Measurement, check_measurement, observed, plain_names
from coffea_conserv.files import replacing
from coffea_conserv.names import DATA, Names
from coffea_conserv.templates.rootfile import write_root
from coffea_conserv.templates.template import MEANING, Template
from coffea_conserv.templates.templates import Templates

__all__ = ("write_combine",)

STATISTICS = 10
"""Effective events of a bin above which its statistical error is one Gaussian nuisance (autoMCStats)."""


def write_combine(templates: Templates, measurement: Measurement, folder: str | Path) -> Path:
    """Write ``datacard.txt`` and ``combine.root`` for Combine.

    Up and Down of a process are called after its nuisance, ``region/W_conserv_WUp``, which Combine finds by
    ``$CHANNEL/$PROCESS_$SYSTEMATIC``. Names get underscores for what a datacard cannot hold. Both files are
    there as a whole or not at all, the datacard last. Other systematics of the analysis are further lines of
    the datacard.

    Parameters
    ----------
    templates
        What is fitted.
    measurement
        Signal, nuisances and data.
    folder
        Where to.

    Returns
    -------
    Path
        The datacard.

    Raises
    ------
    InputError, ConfigurationError
        With the offender and the remedy, before anything is written.
    """
    check_measurement(templates, measurement)
    folder, fitted = Path(folder), observed(templates, measurement)
    regions = plain_names(fitted.regions, "regions")
    processes = plain_names(fitted.processes, "processes")
    entries = tuple(_renamed(entry, measurement, regions, processes) for entry in fitted.entries)
    signal = [processes[name] for name in measurement.signal if name in processes]
    text = _datacard(entries, measurement, signal)
    write_root(folder / "combine.root", entries, templates.title)
    with replacing(folder / "datacard.txt") as part:
        part.write_text(text, encoding="utf-8")
    return folder / "datacard.txt"


def _renamed(
    entry: Template, measurement: Measurement, regions: dict[str, str], processes: dict[str, str]
) -> Template:
    region = regions[entry.region]
    if entry.process == DATA:
        return replace(entry, region=region)
    process = processes[entry.process]
    nuisance = measurement.nuisance(process, region)
    names = Names(up=f"{nuisance}Up", down=f"{nuisance}Down")
    return replace(entry, region=region, process=process, names=names)


def _datacard(entries: Sequence[Template], measurement: Measurement, signal: Sequence[str]) -> str:
    channels = list(dict.fromkeys(entry.region for entry in entries))
    columns = [entry for entry in entries if entry.process != DATA]
    processes = list(dict.fromkeys(entry.process for entry in columns))
    backgrounds = [process for process in processes if process not in signal]
    # Combine takes processes with numbers up to 0 for signal.
    numbers = {name: k - len(signal) + 1 for k, name in enumerate([*signal, *backgrounds])}
    nuisances = list(dict.fromkeys(measurement.nuisance(e.process, e.region) for e in columns))
    width = max(len(name) for name in (*nuisances, "observation", *channels, *processes)) + 2

    def line(*cells: object) -> str:
        return "".join(f"{cell!s:<{width}}" for cell in cells).rstrip()

    rows = [
        f"# conserv: {MEANING}",
        f"# data_obs: {'sums of nominal templates' if measurement.blind else 'data, where there are any'}",
        f"imax {len(channels)}",
        f"jmax {len(processes) - 1}",
        f"kmax {len(nuisances)}",
        "-" * width,
        "shapes * * combine.root $CHANNEL/$PROCESS $CHANNEL/$PROCESS_$SYSTEMATIC",
        "-" * width,
        line("bin", *channels),
        line("observation", *(-1 for _ in channels)),
        "-" * width,
        line("bin", "", *(entry.region for entry in columns)),
        line("process", "", *(entry.process for entry in columns)),
        line("process", "", *(numbers[entry.process] for entry in columns)),
        line("rate", "", *(-1 for _ in columns)),
        "-" * width,
    ]
    for nuisance in nuisances:
        used = ("1" if measurement.nuisance(e.process, e.region) == nuisance else "-" for e in columns)
        rows.append(line(nuisance, "shape", *used))
    rows.append(f"* autoMCStats {STATISTICS}")
    return "\n".join(rows) + "\n"
