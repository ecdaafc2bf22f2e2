"""Work of the commands on the folder of a result: evidence, files for fits, pictures and the page."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from coffea_conserv.cli import folder as left
from coffea_conserv.cli.terminal import bar
from coffea_conserv.evidence.effort import Effort, EventTest
from coffea_conserv.evidence.gather import Evidence, gather_evidence
from coffea_conserv.exports.combine import write_combine
from coffea_conserv.exports.histfactory import write_cabinetry, write_workspace
from coffea_conserv.exports.impact import WARNING, FitImpact, fit_impact
from coffea_conserv.exports.measurement import Measurement
from coffea_conserv.exports.weights import write_weights
from coffea_conserv.plotting.files import save_all
from coffea_conserv.report.console import print_evidence, print_report, warnings_table
from coffea_conserv.report.page import write_page
from coffea_conserv.results.blinding import Blinding, check_blinding
from coffea_conserv.results.derived import write_derived
from coffea_conserv.results.loading import load_result
from coffea_conserv.results.result import Result
from coffea_conserv.templates.templates import Templates
from coffea_conserv.templates.treatment import Treatment

__all__ = ("Opened", "check", "export", "plot", "report")


@dataclass(frozen=True)
class Opened:
    """A result, and how much of its data is shown.

    Parameters
    ----------
    path
        Folder with ``result.coffea``, or the file.
    signal
        Processes that are signal, if any are named.
    above
        Share of signal above which data of a bin stay hidden.
    unblind
        Whether data are shown everywhere.
    """

    path: Path
    signal: Sequence[str] | None = None
    above: float = 0.05
    unblind: bool = False

    @property
    def folder(self) -> Path:
        """Folder of the result."""
        return self.path if self.path.is_dir() else self.path.parent

    def load(self) -> Result:
        """Read the result, and hide data where there is signal."""
        result = load_result(self.path)
        if self.unblind:
            return replace(result, blinding=None)
        if not self.signal:
            return result
        blinding = Blinding(self.signal, self.above)
        check_blinding(blinding, result.processes)
        return replace(result, blinding=blinding)


def check(
    console: Console,
    opened: Opened,
    *,
    regions: list[str] | None,
    events: Path | None,
    uncertainty: float | None,
    effort: Mapping[str, int],
) -> Result:
    """Gather the evidence and print it behind the report; returns the result, whose limits may be broken."""
    result = opened.load()
    evidence = _gather(
        console, opened, result, regions=regions, events=events, uncertainty=uncertainty, effort=effort
    )
    print_report(result, console)
    print_evidence(evidence, console)
    return result


def _gather(
    console: Console,
    opened: Opened,
    result: Result,
    *,
    regions: list[str] | None,
    events: Path | None,
    effort: Mapping[str, int],
    uncertainty: float | None = None,
    tested: tuple[EventTest, ...] | None = None,
) -> Evidence:
    """Gather the evidence, and write it; tests of events may have been done before.

    Comparisons with data are always made again: they depend on where data are hidden.
    """
    kept = opened.folder / "attacked"
    folder = events if events is not None else (kept if kept.is_dir() and tested is None else None)
    with bar(console, "tests") as advance:

        def mapper(function: Any, todo: Any) -> Iterator[Any]:
            listed = list(todo)
            for k, one in enumerate(listed):
                yield function(one)
                advance(k + 1, len(listed))

        evidence = gather_evidence(
            result,
            folder,
            regions=regions,
            uncertainty=uncertainty,
            effort=Effort(**effort),
            mapper=mapper,
            tested=tested,
        )
    path = write_derived(opened.folder / "evidence.json", result.settings.config, evidence.to_dict())
    note = "" if evidence.tested else "; without attacked events no tests of events"
    console.print(f"evidence in [bold]{path}[/]{note}")
    return evidence


def export(
    console: Console,
    opened: Opened,
    *,
    regions: list[str] | None,
    nuisances: str,
    treatment: Mapping[str, Any],
    out: Path | None,
) -> None:
    """Write the score templates for fit tools, and fit the signal strength if there is a signal."""
    treated = Treatment(**treatment)
    result = replace(opened, unblind=True).load()
    templates = result.templates("score", regions=regions).treated(treated)
    folder = out or opened.folder / "fit"
    if templates.warnings:
        console.print(warnings_table(templates.warnings))
    shown = replace(opened, above=0.0).load() if opened.signal else result
    shown.templates("score", regions=regions).treated(treated).to_root(folder / "templates.root")
    write_weights(templates, folder / "weights.json")
    if opened.signal:
        measurement = Measurement(signal=opened.signal, nuisances=nuisances, blind=not opened.unblind)
        impact = _fit(templates, measurement, folder)
        write_derived(folder / "impact.json", result.settings.config, impact.to_dict())
        for line in str(impact).splitlines():
            loud = "bold red" if line.startswith(WARNING) else None
            console.print(line, markup=False, highlight=False, style=loud)
    else:
        console.print("[yellow]no --signal: nothing is written for fits of a signal strength[/]")
    console.print(f"files in [bold]{folder}[/]")


def _fit(templates: Templates, measurement: Measurement, folder: Path) -> FitImpact:
    """Write what fit tools read, and fit."""
    for noisy in ("cabinetry", "pyhf"):  # about empty bins, which the table of warnings has
        logging.getLogger(noisy).setLevel(logging.ERROR)
    write_combine(templates, measurement, folder)
    write_cabinetry(templates, measurement, folder)
    workspace = json.loads(write_workspace(templates, measurement, folder).read_text(encoding="utf-8"))
    return fit_impact(templates, measurement, workspace=workspace)


def plot(
    console: Console,
    opened: Opened,
    *,
    regions: list[str] | None,
    each_process: bool,
    label: str,
    out: Path | None,
) -> None:
    """Draw the pictures of a result."""
    result, folder = opened.load(), out or opened.folder / "plots"
    with bar(console, "pictures") as advance:
        made = save_all(
            result, folder, regions=regions, each_process=each_process, label=label, progress=advance
        )
    console.print(f"{len(made)} pictures in [bold]{folder}[/]")


def report(
    console: Console,
    opened: Opened,
    *,
    regions: list[str] | None,
    events: Path | None,
    size: int,
    texts: Mapping[str, str],
    out: Path | None,
) -> Result:
    """Write the page, from what earlier commands left; returns the result, whose limits may be broken."""
    result, folder = opened.load(), opened.folder
    tested = None if events else left.tested_of(folder, result)
    evidence = _gather(
        console, opened, result, regions=regions, events=events, effort={"events": size}, tested=tested
    )
    with bar(console, "pictures") as advance:
        path = write_page(
            result,
            out or folder / "report.html",
            evidence=evidence,
            impact=left.impact_of(folder, result),
            controls=left.controls_of(folder, result),
            regions=regions,
            progress=advance,
            **texts,
        )
    console.print(f"report in [bold]{path}[/]")
    return result
