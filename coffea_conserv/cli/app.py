"""Commands: their options and their help. What they do is imported once one is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from coffea_conserv.cli import options as given
from coffea_conserv.cli.terminal import DEBUG, told
from coffea_conserv.errors import of_extra

if TYPE_CHECKING:
    from types import ModuleType

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
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback(help=HELP)
def before(
    *, debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False
) -> None:
    """Options before the name of a command."""
    DEBUG.set(debug)


def _results() -> ModuleType:
    """Work on the folder of a result; --help answers at once because nobody has asked for it."""
    with of_extra("cli"):
        from coffea_conserv.cli import results  # noqa: PLC0415 -- matplotlib, pyhf and more
    return results


def _runs() -> ModuleType:
    """Work before and during a run."""
    with of_extra("cli"):
        from coffea_conserv.cli import runs  # noqa: PLC0415 -- coffea, torch and more
    return runs


def _end(console: Console, result: Result) -> None:
    """Exit code 1 if a limit is broken, or if nothing was attacked."""
    if not result.verdict.passed:
        console.print(f"[bold red]{escape(result.verdict.summary)}[/]")
        raise typer.Exit(1)


@app.command()
def plan(
    *,
    config: given.Config,
    fileset: given.FilesetFile,
    processor: given.Processor = None,
    model: given.ModelFile = None,
    chunksize: given.ChunkSize = None,
    sample: Annotated[int, typer.Option(help="Events of each dataset that are read.", min=1)] = 10_000,
) -> None:
    """Say what a run will be, before it is submitted.

    Checks the configuration, imports the processor, loads the model, opens all files, and
    runs the analysis on a few events of each dataset, without and with the attack.

    [bold]Prints[/] groups with their expected sizes and statistical floors, what the budget
    means, the smallest sensible chunk, and what the run will take on one core.
    [bold]Writes[/] nothing.

      coffea-conserv plan --config conserv.yaml --fileset fileset.json
    """
    with told() as console:
        work = _runs()
        work.plan(console, work.Given(config, fileset, processor, model, chunksize), sample=sample)


@app.command()
def run(  # noqa: PLR0913 -- options of a command line
    *,
    config: given.Config,
    fileset: given.FilesetFile,
    processor: given.Processor = None,
    model: given.ModelFile = None,
    chunksize: given.ChunkSize = None,
    out: given.Out = Path("results"),
    client: given.Client = None,
    workers: given.Workers = 1,
    resource: given.Resources = None,
    checkpoints: given.Checkpoints = None,
) -> None:
    """Run an analysis with the attack, and judge the result.

    The processor gets the attack as conserv=; with wrapper: in the configuration an
    analysis that stays as it is runs inside of ConservProcessor. A line or a bar tells how
    far it is, events per second, and the fooling ratios so far.

    [bold]Writes[/] output.coffea (all that the processor returns), result.coffea,
    verdict.json, templates.root and a copy of the configuration. The exit code is 1 if
    a limit is broken, 2 if something is wrong.

      coffea-conserv run --processor processors.htautau:HiggsToTauTau --fileset fileset.json
        --config conserv.yaml --client tcp://scheduler:8786 --out results

    Afterwards: coffea-conserv check, export, plot and report.
    """
    with told() as console:
        work = _runs()
        results = work.run(
            console,
            work.Given(config, fileset, processor, model, chunksize),
            client=client,
            workers=workers,
            resource=resource,
            checkpoints=checkpoints,
            out=out,
        )
        for result in sorted(results, key=lambda one: one.verdict.passed):
            _end(console, result)


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
        work = _results()
        result = work.check(
            console,
            work.Opened(results, signal, blind_above, unblind),
            regions=region,
            events=events,
            uncertainty=uncertainty,
            effort={"events": size, "permutations": permutations, "slices": slices, "seed": seed},
        )
        _end(console, result)


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
    workspace.json (pyhf), impact.json, and names.json: what regions, processes and nuisances
    are called in these files. Without --unblind the sum of nominal templates
    is fitted in the place of data. Give the regions of the fit with --region: those that
    only serve an estimate do not belong there.

    [bold]Takes[/] seconds.
    """
    with told() as console:
        work = _results()
        work.export(
            console,
            work.Opened(results, signal, unblind=unblind),
            regions=region,
            nuisances=nuisances,
            treatment={
                "merge": merge,
                "negative": negative,
                "smooth": smooth,
                "sides": sides,
                "source": source,
                "part": part,
                "scale": scale,
            },
            out=out,
        )


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
        work = _results()
        work.plot(
            console,
            work.Opened(results, signal, blind_above, unblind),
            regions=region,
            each_process=each_process,
            label=label,
            out=out,
        )


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
        work = _results()
        result = work.report(
            console,
            work.Opened(results, signal, blind_above, unblind),
            regions=region,
            events=events,
            size=size,
            texts={"title": title, "label": label},
            out=out,
        )
        _end(console, result)
