"""A configuration of cabinetry, and the workspace of pyhf that cabinetry builds from it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from coffea_conserv.errors import of_extra
from coffea_conserv.exports.measurement import Measurement, check_measurement, observed
from coffea_conserv.files import replacing
from coffea_conserv.names import DATA
from coffea_conserv.templates.template import DATA_NAME
from coffea_conserv.templates.templates import Templates

__all__ = ("cabinetry_config", "make_workspace", "write_cabinetry")

ROOT_FILE = "cabinetry.root"


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
        strength. Other systematics of the analysis are further entries of ``Systematics``.

    Raises
    ------
    InputError
        With the offender and the remedy.
    """
    check_measurement(templates, measurement)
    return _config(observed(templates, measurement), measurement, Path(folder))


def _config(fitted: Templates, measurement: Measurement, folder: Path) -> dict[str, Any]:
    here = {name: [e.region for e in fitted.entries if e.process == name] for name in fitted.processes}
    samples: list[dict[str, Any]] = [
        {"Name": name, "SamplePath": name, "Regions": regions} for name, regions in here.items()
    ]
    samples.append({"Name": DATA, "SamplePath": DATA_NAME, "Data": True})
    return {
        "General": {
            "Measurement": "conserv",
            "POI": measurement.poi,
            "InputPath": f"{folder / ROOT_FILE}:{{RegionPath}}/{{SamplePath}}{{VariationPath}}",
            "HistogramFolder": str(folder / "histograms"),
            "VariationPath": "",
        },
        "Regions": [{"Name": name, "RegionPath": name} for name in fitted.regions],
        "Samples": samples,
        "NormFactors": [
            {
                "Name": measurement.poi,
                "Samples": [name for name in here if name in measurement.signal],
                "Nominal": 1,
                "Bounds": [-20, 20],
            }
        ],
        "Systematics": _systematics(fitted, measurement),
    }


def _systematics(fitted: Templates, measurement: Measurement) -> list[dict[str, Any]]:
    """One entry of cabinetry for each process and nuisance; those of one name are one nuisance."""
    grouped: dict[tuple[str, str], list[str]] = {}
    paths: dict[tuple[str, str], tuple[str, str]] = {}
    for entry in fitted.entries:
        if entry.up is not None:
            key = (measurement.nuisance(entry.process, entry.region), entry.process)
            grouped.setdefault(key, []).append(entry.region)
            paths[key] = (entry.names.up, entry.names.down)
    return [
        {
            "Name": nuisance,
            "Samples": process,
            "Regions": regions,
            "Type": "NormPlusShape",
            "Up": {"VariationPath": f"_{paths[nuisance, process][0]}"},
            "Down": {"VariationPath": f"_{paths[nuisance, process][1]}"},
        }
        for (nuisance, process), regions in grouped.items()
    ]


def write_cabinetry(templates: Templates, measurement: Measurement, folder: str | Path) -> Path:
    """Write ``cabinetry.yml`` and ``cabinetry.root``.

    ``cabinetry.templates.collect`` and ``cabinetry.workspace.build`` make a workspace of them.

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
        With the offender and the remedy, before anything is written.
    """
    with of_extra():
        import yaml  # noqa: PLC0415
    folder = Path(folder)
    config = cabinetry_config(templates, measurement, folder)
    observed(templates, measurement).to_root(folder / ROOT_FILE)
    with replacing(folder / "cabinetry.yml") as part:
        part.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return folder / "cabinetry.yml"


def make_workspace(templates: Templates, measurement: Measurement) -> dict[str, Any]:
    """Make a workspace of pyhf: ``normsys`` and ``histosys`` of each nuisance, and ``staterror``.

    cabinetry builds it, and pyhf checks it against the schema of HistFactory.

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
    with of_extra():
        import cabinetry  # noqa: PLC0415 -- slow to import
    with tempfile.TemporaryDirectory() as folder:
        config = cabinetry_config(templates, measurement, folder)
        observed(templates, measurement).to_root(Path(folder) / ROOT_FILE)
        cabinetry.templates.collect(config, method="uproot")
        made: dict[str, Any] = cabinetry.workspace.build(config)
    return made
