"""A configuration of cabinetry, and the workspace of pyhf that cabinetry builds from it."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coffea_conserv.errors import InputError, of_extra
from coffea_conserv.exports.expected import bounds
from coffea_conserv.exports.measurement import Measurement, check_measurement, observed
from coffea_conserv.exports.naming import FitNames, fit_names, write_names
from coffea_conserv.exports.verification import built, check_workspace
from coffea_conserv.files import replacing
from coffea_conserv.names import DATA
from coffea_conserv.templates.rootfile import write_root
from coffea_conserv.templates.template import DATA_NAME, Template
from coffea_conserv.templates.templates import Templates

__all__ = ("cabinetry_config", "make_workspace", "write_cabinetry", "write_workspace")

ROOT_FILE = "cabinetry.root"

HISTOGRAMS = "histograms"
"""Folder in which cabinetry keeps the histograms of the ROOT file."""


def cabinetry_config(templates: Templates, measurement: Measurement, folder: str | Path) -> dict[str, Any]:
    """Make a configuration of cabinetry for the templates in ``folder``/cabinetry.root.

    Parameters
    ----------
    templates
        What is fitted.
    measurement
        Signal, nuisances and data.
    folder
        Where the ROOT file is, and where cabinetry puts its own histograms.

    Returns
    -------
    dict
        With one ``NormPlusShape`` systematic for each nuisance, statistical errors on, and a free signal
        strength. Names that cabinetry cannot hold are replaced, see :func:`fit_names`. Other systematics of
        the analysis are further entries of ``Systematics``.

    Raises
    ------
    InputError, ConfigurationError
        With the offender and the remedy.
    """
    check_measurement(templates, measurement)
    names = fit_names(templates, measurement)
    return _config(_ready(templates, measurement), measurement, names, Path(folder))


def _ready(templates: Templates, measurement: Measurement) -> Templates:
    """Templates with observations, of which HistFactory can make a norm and a shape."""
    fitted = observed(templates, measurement)
    for entry in fitted.entries:
        if entry.up is not None:
            _check_norms(entry)
    return fitted


def _check_norms(entry: Template) -> None:
    nominal, up, down = (float(one.values().sum()) for one in (entry.nominal, entry.up, entry.down))
    if nominal == 0 or not (up / nominal > 0 and down / nominal > 0):
        msg = (
            f"{entry.region}/{entry.process} has yields of {nominal:g}, Up {up:g} and Down {down:g}, which "
            "no fit can interpolate; leave the process or region out, or process more events"
        )
        raise InputError(msg)


def _config(fitted: Templates, measurement: Measurement, names: FitNames, folder: Path) -> dict[str, Any]:
    entries = [names.cabinetry(entry) for entry in fitted.entries]
    processes = [entry.process for entry in entries if entry.process != DATA]
    here = {name: [e.region for e in entries if e.process == name] for name in dict.fromkeys(processes)}
    samples: list[dict[str, Any]] = [
        {"Name": name, "SamplePath": name, "Regions": regions} for name, regions in here.items()
    ]
    samples.append({"Name": DATA, "SamplePath": DATA_NAME, "Data": True})
    signal = [safe for name, safe in names.templates.processes.items() if name in measurement.signal]
    return {
        "General": {
            "Measurement": "conserv",
            "POI": measurement.poi,
            "InputPath": f"{folder / ROOT_FILE}:{{RegionPath}}/{{SamplePath}}{{VariationPath}}",
            "HistogramFolder": str(folder / HISTOGRAMS),
            "VariationPath": "",
        },
        "Regions": [{"Name": name, "RegionPath": name} for name in dict.fromkeys(e.region for e in entries)],
        "Samples": samples,
        "NormFactors": [
            {
                "Name": measurement.poi,
                "Samples": [name for name in here if name in signal],
                "Nominal": 1,
                "Bounds": list(bounds(fitted, measurement)),
            }
        ],
        "Systematics": _systematics(entries, measurement, names),
    }


def _systematics(
    entries: Sequence[Template], measurement: Measurement, names: FitNames
) -> list[dict[str, Any]]:
    """One entry of cabinetry for each process and nuisance; those of one modifier are one nuisance."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        if entry.up is not None:
            key = (measurement.nuisance(entry.process, entry.region), entry.process)
            grouped.setdefault(key, []).append(entry.region)
    shared = Counter(nuisance for nuisance, _ in grouped)
    return [
        {
            "Name": nuisance if shared[nuisance] == 1 else f"{nuisance}_{process}",
            **({} if shared[nuisance] == 1 else {"ModifierName": nuisance}),
            "Samples": process,
            "Regions": regions,
            "Type": "NormPlusShape",
            "Up": {"VariationPath": f"_{names.variations.up}"},
            "Down": {"VariationPath": f"_{names.variations.down}"},
        }
        for (nuisance, process), regions in grouped.items()
    ]


def write_cabinetry(templates: Templates, measurement: Measurement, folder: str | Path) -> Path:
    """Write ``cabinetry.yml`` and ``cabinetry.root``.

    ``cabinetry.templates.collect`` and ``cabinetry.workspace.build`` make a workspace of them; that is done
    here too, and the workspace compared with the templates. Names that cabinetry cannot hold are replaced;
    ``names.json`` and comments of the configuration say by what. Histograms that cabinetry has kept of an
    earlier ROOT file are removed, since it would build a workspace of them.

    Parameters
    ----------
    templates
        What is fitted.
    measurement
        Signal, nuisances and data.
    folder
        Where to. The configuration holds its place as it is given here.

    Returns
    -------
    Path
        The configuration.

    Raises
    ------
    InputError, ConfigurationError
        With the offender and the remedy, before anything is written; or if a file does not hold the
        templates.
    """
    with of_extra():
        import cabinetry  # noqa: PLC0415 -- slow to import
        import yaml  # noqa: PLC0415
    check_measurement(templates, measurement)
    names = fit_names(templates, measurement)
    folder, fitted = Path(folder), _ready(templates, measurement)
    config = _config(fitted, measurement, names, folder)
    write_root(folder / ROOT_FILE, fitted.entries, templates.title, names.cabinetry)
    write_names(names, folder)
    for kept in (folder / HISTOGRAMS).glob("*.npz"):
        kept.unlink()
    with replacing(folder / "cabinetry.yml") as part:
        lines = [f"# {line}\n" for line in names.lines()]
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        part.write_text("".join(lines) + text, encoding="utf-8")
        check_workspace(built(cabinetry.configuration.load(part)), fitted, measurement, names)
    return folder / "cabinetry.yml"


def make_workspace(templates: Templates, measurement: Measurement) -> dict[str, Any]:
    """Make a workspace of pyhf: ``normsys`` and ``histosys`` of each nuisance, and ``staterror``.

    cabinetry builds it, pyhf checks it against the schema of HistFactory, and its contents are compared with
    the templates. Names are those of the files, see :func:`fit_names`.

    Parameters
    ----------
    templates
        What is fitted.
    measurement
        Signal, nuisances and data.

    Returns
    -------
    dict
        For ``pyhf.Workspace``, and for ``json.dump``.

    Raises
    ------
    InputError, ConfigurationError
        With the offender and the remedy.
    """
    check_measurement(templates, measurement)
    names = fit_names(templates, measurement)
    fitted = _ready(templates, measurement)
    with tempfile.TemporaryDirectory() as folder:
        config = _config(fitted, measurement, names, Path(folder))
        write_root(Path(folder) / ROOT_FILE, fitted.entries, templates.title, names.cabinetry)
        made = built(config)
    check_workspace(made, fitted, measurement, names)
    return made


def write_workspace(templates: Templates, measurement: Measurement, folder: str | Path) -> Path:
    """Write :func:`make_workspace` to ``workspace.json``, with ``names.json`` beside it.

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
        The workspace, for ``json.load`` and the command line of pyhf.

    Raises
    ------
    InputError, ConfigurationError
        With the offender and the remedy, before anything is written; or if the file does not hold the
        templates.
    """
    made = make_workspace(templates, measurement)
    folder, names = Path(folder), fit_names(templates, measurement)
    write_names(names, folder)
    with replacing(folder / "workspace.json") as part:
        part.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        read = json.loads(part.read_text(encoding="utf-8"))
        check_workspace(read, observed(templates, measurement), measurement, names)
    return folder / "workspace.json"
