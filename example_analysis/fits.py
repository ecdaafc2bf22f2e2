"""What goes into a fit: the signal of each analysis, and the files of the step ``judge``."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from coffea_conserv import Treatment
from coffea_conserv.exports import (
    FitImpact,
    Measurement,
    fit_impact,
    write_cabinetry,
    write_combine,
    write_weights,
    write_workspace,
)
from coffea_conserv.results.derived import write_derived
from processors import htautau, ttbar_ww

if TYPE_CHECKING:
    from coffea_conserv.results.result import Result

__all__ = ("measurement", "write_fits")

TREATMENT = Treatment(merge=4, negative="zero")
"""Bins that hold enough events of every process for a fit; weights of both signs leave negative ones else."""
SIGNALS = {"htautau": htautau.SIGNALS, "ttbar_ww": ttbar_ww.SIGNALS}


def measurement(analysis: str) -> Measurement:
    """The fit of an analysis; blind, so that it needs no data and shows none."""
    return Measurement(signal=SIGNALS[analysis])


def write_fits(result: Result, analysis: str, out: Path, console: Console) -> FitImpact:
    """Write the score templates for fit tools, and print what the systematic does to the signal strength.

    Regions that only serve estimates are left out: their events are in the estimates.

    Parameters
    ----------
    result
        The result of a run.
    analysis
        ``ttbar_ww`` or ``htautau``.
    out
        Folder of results; the files go to ``fit`` in it.
    console
        Where to print.
    """
    sources = {source for estimate in result.estimates for source in estimate.regions.values()}
    regions = [region for region in result.regions if region not in sources]
    templates = result.templates("score", regions=regions).treated(TREATMENT)
    measured, folder = measurement(analysis), out / "fit"
    for noisy in ("cabinetry", "pyhf"):  # about empty bins, which the table of warnings has
        logging.getLogger(noisy).setLevel(logging.ERROR)
    write_combine(templates, measured, folder)
    write_cabinetry(templates, measured, folder)
    write_weights(templates, folder / "weights.json")
    workspace = json.loads(write_workspace(templates, measured, folder).read_text(encoding="utf-8"))
    impact = fit_impact(templates, measured, workspace=workspace)
    write_derived(folder / "impact.json", result.settings.config, impact.to_dict())
    console.print(str(impact), markup=False, highlight=False)
    return impact
