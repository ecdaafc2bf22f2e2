"""All commands; here those on the folder of a result: check, export, plot and report."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from coffea_conserv.cli import launch
from coffea_conserv.cli import options as given
from coffea_conserv.cli.terminal import told

# What takes time to import is imported by the commands that need it: --help answers at once.
if TYPE_CHECKING:
    from coffea_conserv.evidence import EventTest, Evidence
    from coffea_conserv.exports import FitImpact
    from coffea_conserv.results.result import Result

__all__ = ("app",)

HELP = """
The robustness systematic of a classifier, without writing Python.

[bold]plan[/]    What a run will be: sizes of groups, what the budget means, time, memory.
[bold]run[/]     An analysis with the attack, here or on a cluster of Dask.

A run leaves a folder with result.coffea, as [bold]result.save("results/result.coffea")[/]
does. On this folder:

[bold]check[/]   Limits, and what tests of marginals, correlations and events see, against
        data too; how many events a validation needs. [dim]evidence.json[/]
[bold]export[/]  Templates for Combine, cabinetry, pyhf and correctionlib; what the
        systematic does to a signal strength. [dim]fit/[/]
[bold]plot[/]    Pictures. [dim]plots/[/]
[bold]report[/]  One page with all of it, for a reviewer. [dim]report.html[/]

  coffea-conserv run --config conserv.yaml --fileset fileset.json --out results
  coffea-conserv report results --signal VBF --signal ggH
"""

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command()(launch.plan)
app.command()(launch.run)


def _load(results: Path, signal: list[str] | None, above: float, *, unblind: bool) -> Result:
    """Read a result, and hide data where there is signal."""
    from coffea_conserv.results.blinding import (  # noqa: PLC0415
        Blinding,
        check_blinding,
    )
    from coffea_conserv.results.store import load_result  # noqa: PLC0415

    result = load_result(results)
    if unblind:
        return replace(result, blinding=None)
    if not signal:
        return result
    blinding = Blinding(signal, above)
    check_blinding(blinding, result.processes)
    return replace(result, blinding=blinding)


def _folder(results: Path) -> Path:
    return results if results.is_dir() else results.parent


def _end(console: Console, result: Result) -> None:
    """Exit code 1 if a limit is broken."""
    if not result.verdict.passed:
        console.print(f"[bold red]{len(result.verdict.broken)} limit(s) broken[/]")
        raise typer.Exit(1)


@app.command()
def check(  # noqa: PLR0913 -- options of a command line
    results: given.Results,
    *,
    region: given.Regions = None,
    signal: given.Signal = None,
    blind_above: given.Above = 0.05,
    unblind: given.Unblind = False,
    events: given.Events = None,
    uncertainty: given.Uncertainty = None,
    size: given.Size = 100_000,
    permutations: given.Permutations = 100,
    slices: given.Slices = 60,
    seed: given.Seed = 1,
) -> None:
    """Judge the limits, and gather what a validation would see.

    Tier A: Jensen–Shannon distance, χ² with statistical and with systematic errors and
    Kolmogorov–Smirnov of each quantity; correlations; the same against data. Tiers B and
    C, if there are attacked events: pairs of quantities, slices, energy distance, a
    classifier. For each test the number of events that it needs.

    [bold]Reads[/] result.coffea, attacked/.
    [bold]Writes[/] evidence.json. The exit code is 1 if a limit is broken.

    [bold]Takes[/] seconds; with attacked events about half a minute for each region.
    """
    with told() as console:
        result = _load(results, signal, blind_above, unblind=unblind)
        effort = {"events": size, "permutations": permutations, "slices": slices, "seed": seed}
        evidence = _gather(console, results, result, (region, events, uncertainty), effort)
        from coffea_conserv.report.console import print_evidence, print_report  # noqa: PLC0415

        print_report(result, console)
        print_evidence(evidence, console)
        _end(console, result)


def _gather(
    console: Console,
    results: Path,
    result: Result,
    which: tuple[list[str] | None, Path | None, float | None],
    effort: dict[str, int],
    tested: tuple[EventTest, ...] | None = None,
) -> Evidence:
    """Gather the evidence, and write it; tests of events may have been done before.

    Comparisons with data are always made again: they depend on where data are hidden.
    """
    from coffea_conserv.evidence import Settings, gather_evidence  # noqa: PLC0415
    from coffea_conserv.files import replacing  # noqa: PLC0415

    region, events, uncertainty = which
    kept = _folder(results) / "attacked"
    folder = events if events is not None else (kept if kept.is_dir() and tested is None else None)
    with _bar(console, "tests") as advance:

        def mapper(function: Any, todo: Any) -> Iterator[Any]:
            listed = list(todo)
            for k, one in enumerate(listed):
                yield function(one)
                advance(k + 1, len(listed))

        evidence = gather_evidence(
            result,
            folder,
            regions=region,
            uncertainty=uncertainty,
            settings=Settings(**effort),
            mapper=mapper,
            tested=tested,
        )
    content = {"config": result.settings.config, **evidence.to_dict()}
    path = _folder(results) / "evidence.json"
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    note = "" if evidence.tested else "; without attacked events no tests of events"
    console.print(f"evidence in [bold]{path}[/]{note}")
    return evidence


@contextmanager
def _bar(console: Console, what: str) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@app.command()
def export(  # noqa: PLR0913 -- options of a command line
    results: given.Results,
    *,
    signal: given.Signal = None,
    region: given.Regions = None,
    unblind: given.Unblind = False,
    nuisances: given.Nuisances = "process",
    merge: given.Merge = 1,
    negative: given.Negative = "keep",
    smooth: given.Smooth = False,
    sides: given.Sides = "both",
    source: given.Source = "up",
    part: given.Part = "all",
    scale: given.Scale = 1.0,
    out: Annotated[Path | None, typer.Option(help="Where to; <results>/fit.", show_default=False)] = None,
) -> None:
    """Write the score templates for fit tools, and fit the signal strength.

    [bold]Reads[/] result.coffea.
    [bold]Writes[/] templates.root and weights.json (correctionlib); with --signal also
    datacard.txt with combine.root (Combine), cabinetry.yml with cabinetry.root,
    workspace.json (pyhf) and impact.json. Without --unblind the sum of nominal templates
    is fitted in the place of data. Give the regions of the fit with --region: those that
    only serve an estimate do not belong there.

    [bold]Takes[/] seconds.
    """
    with told() as console:
        from coffea_conserv.templates.treatment import Treatment  # noqa: PLC0415

        treatment = Treatment(
            merge=merge, negative=negative, smooth=smooth, sides=sides, source=source, part=part, scale=scale
        )
        result = _load(results, signal, 0.0, unblind=True)
        templates = result.templates("score", regions=region).treated(treatment)
        folder = out or _folder(results) / "fit"
        from coffea_conserv.results.tables import warnings_table  # noqa: PLC0415

        if templates.warnings:
            console.print(warnings_table(templates.warnings))
        shown = _load(results, signal, 0.0, unblind=unblind) if signal else result
        shown.templates("score", regions=region).treated(treatment).to_root(folder / "templates.root")
        from coffea_conserv.exports import write_weights  # noqa: PLC0415

        write_weights(templates, folder / "weights.json")
        if signal:
            impact = _fit(templates, (signal, nuisances), folder, unblind=unblind)
            console.print(str(impact), markup=False, highlight=False)
        else:
            console.print("[yellow]no --signal: nothing is written for fits of a signal strength[/]")
        console.print(f"files in [bold]{folder}[/]")


def _fit(templates: Any, which: tuple[list[str], str], folder: Path, *, unblind: bool) -> FitImpact:
    """Write what fit tools read, and fit."""
    from coffea_conserv import exports  # noqa: PLC0415
    from coffea_conserv.files import replacing  # noqa: PLC0415

    for noisy in ("cabinetry", "pyhf"):  # about empty bins, which the table of warnings has
        logging.getLogger(noisy).setLevel(logging.ERROR)
    measurement = exports.Measurement(signal=which[0], nuisances=which[1], blind=not unblind)
    exports.write_combine(templates, measurement, folder)
    exports.write_cabinetry(templates, measurement, folder)
    workspace = exports.make_workspace(templates, measurement)
    impact = exports.fit_impact(templates, measurement, workspace=workspace)
    for name, content in (("workspace", workspace), ("impact", impact.to_dict())):
        with replacing(folder / f"{name}.json") as part:
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return impact


@app.command()
def plot(
    results: given.Results,
    *,
    region: given.Regions = None,
    signal: given.Signal = None,
    blind_above: given.Above = 0.05,
    unblind: given.Unblind = False,
    each_process: Annotated[
        bool, typer.Option("--each-process", help="Pictures of single processes too.")
    ] = False,
    label: given.Label = "work in progress",
    out: Annotated[Path | None, typer.Option(help="Where to; <results>/plots.", show_default=False)] = None,
) -> None:
    """Draw score, features and correlations, nominal and attacked.

    [bold]Reads[/] result.coffea.
    [bold]Writes[/] overview.png, limits.png and a folder of each region.

    [bold]Takes[/] about a third of a second for each picture.
    """
    with told() as console:
        result = _load(results, signal, blind_above, unblind=unblind)
        from coffea_conserv.plotting import save_all  # noqa: PLC0415 -- matplotlib is optional

        folder = out or _folder(results) / "plots"
        with _bar(console, "pictures") as advance:
            made = save_all(
                result, folder, regions=region, each_process=each_process, label=label, progress=advance
            )
        console.print(f"{len(made)} pictures in [bold]{folder}[/]")


@app.command()
def report(  # noqa: PLR0913 -- options of a command line
    results: given.Results,
    *,
    signal: given.Signal = None,
    region: given.Regions = None,
    blind_above: given.Above = 0.05,
    unblind: given.Unblind = False,
    events: given.Events = None,
    size: given.Size = 100_000,
    title: Annotated[str, typer.Option(help="Of the page.")] = "Robustness of the classifier",
    label: given.Label = "work in progress",
    out: Annotated[
        Path | None, typer.Option(help="The file; <results>/report.html.", show_default=False)
    ] = None,
) -> None:
    """Write one page with verdict, templates, fit, evidence and pictures.

    The page needs no network and no other file. What [bold]check[/] and [bold]export[/] have
    written is used; without tests of the events of this run, or with --events,
    they are done first.

    [bold]Reads[/] result.coffea; evidence.json, fit/impact.json, controls.json and
    attacked/, if they are there.
    [bold]Writes[/] report.html. The exit code is 1 if a limit is broken.

    [bold]Takes[/] about a third of a second for each picture.
    """
    with told() as console:
        result = _load(results, signal, blind_above, unblind=unblind)
        from coffea_conserv.cli import folder as left  # noqa: PLC0415
        from coffea_conserv.report import write_page  # noqa: PLC0415

        folder = _folder(results)
        tested = None if events else left.tested_of(folder, result)
        evidence = _gather(console, results, result, (region, events, None), {"events": size}, tested)
        with _bar(console, "pictures") as advance:
            path = write_page(
                result,
                out or folder / "report.html",
                evidence=evidence,
                impact=left.impact_of(folder),
                controls=left.controls_of(folder),
                title=title,
                label=label,
                regions=region,
                progress=advance,
            )
        console.print(f"report in [bold]{path}[/]")
        _end(console, result)
