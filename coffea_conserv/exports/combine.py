"""A datacard of Combine with its ROOT file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from coffea_conserv.exports.expected import LARGEST, bounds
from coffea_conserv.exports.measurement import Measurement, check_measurement, observed
from coffea_conserv.exports.naming import FitNames, fit_names, write_names
from coffea_conserv.exports.verification import check_datacard
from coffea_conserv.files import replacing
from coffea_conserv.names import DATA
from coffea_conserv.templates.rootfile import write_root
from coffea_conserv.templates.template import MEANING
from coffea_conserv.templates.templates import Templates

__all__ = ("write_combine",)

ROOT_FILE = "combine.root"

STATISTICS = 10
"""Effective events of a bin above which its statistical error is one Gaussian nuisance (autoMCStats)."""


def write_combine(templates: Templates, measurement: Measurement, folder: str | Path) -> Path:
    """Write ``datacard.txt`` and ``combine.root`` for Combine.

    Up and Down of a process are called after its nuisance, ``region/W_conserv_WUp``, which Combine finds by
    ``$CHANNEL/$PROCESS_$SYSTEMATIC``. Names that Combine cannot hold are replaced; ``names.json`` and
    comments of the datacard say by what. Files are there as a whole or not at all, the datacard last, after
    all that it refers to was read back and compared with the templates. Other systematics of the analysis are
    further lines of the datacard.

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
        With the offender and the remedy, before anything is written; or if a file does not hold the
        templates.
    """
    check_measurement(templates, measurement)
    names = fit_names(templates, measurement)
    folder, fitted = Path(folder), observed(templates, measurement)
    renamed = partial(names.combine, measurement=measurement)
    write_root(folder / ROOT_FILE, fitted.entries, templates.title, renamed)
    write_names(names, folder)
    with replacing(folder / "datacard.txt") as part:
        part.write_text(_datacard(fitted, measurement, names), encoding="ascii")
        check_datacard(part, fitted, measurement, names)
    return folder / "datacard.txt"


def _datacard(fitted: Templates, measurement: Measurement, names: FitNames) -> str:
    entries = [names.combine(entry, measurement) for entry in fitted.entries]
    safe = names.templates.processes
    signal = [safe[name] for name in measurement.signal if name in fitted.processes]
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
        *(f"# {line}" for line in (*names.lines(), *_range(fitted, measurement))),
        f"imax {len(channels)}",
        f"jmax {len(processes) - 1}",
        f"kmax {len(nuisances)}",
        "-" * width,
        f"shapes * * {ROOT_FILE} $CHANNEL/$PROCESS $CHANNEL/$PROCESS_$SYSTEMATIC",
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


def _range(fitted: Templates, measurement: Measurement) -> list[str]:
    """Say what Combine has to be told where its default range of the signal strength is too small."""
    lowest, highest = bounds(fitted, measurement)
    if highest <= LARGEST:
        return []
    return [f"the error of the signal strength will be large: combine --rMin {lowest:g} --rMax {highest:g}"]
