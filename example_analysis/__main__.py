"""Command line of the example: ``python -m example_analysis --help``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from example_analysis.options import (
    Band,
    Chunksize,
    Client,
    Control,
    Correlation,
    Data,
    Epochs,
    Events,
    Executor,
    Jobs,
    Jsd,
    Maxchunks,
    Models,
    Objective,
    Out,
    Rms,
    Scale,
    Seed,
    Watch,
    Workers,
)

# Generation and Dask start processes that import this module again. Therefore torch, coffea and the like are
# imported by the commands that need them.
if TYPE_CHECKING:
    from example_analysis.cluster import Where
    from example_analysis.record import Attack

HELP = """
The robustness systematic of a classifier, from events to templates.

A classifier separates signal from background. Simulated events are moved so
that it is fooled, while every input distribution and every linear correlation
stays within limits: no check in a control region would notice. What happens
to the score is the systematic: [bold]the largest shift found within the limits[/].

[bold]1 generate[/]  Pythia makes ttbar and WW events, and pseudo-data that differ.
  writes    <events>/*.root (like NanoAOD), fileset.json
  look      uproot.open("<events>/ttbar.root")["Events"].show()
[bold]2 train[/]     Two classifiers, each for the events that trained the other one.
  writes    <out>/models/model_fold0.pt2, model_fold1.pt2, training.json
  look      training.json: AUC on unseen events
[bold]3 run[/]       coffea runs the analysis of processors/ with the attack in it.
  writes    <out>/output.coffea, run.json, attacked/
  look      coffea.util.load("<out>/output.coffea")["cutflow"]
[bold]4 judge[/]     Checks every limit on the merged output; makes the templates; fits.
  writes    <out>/verdict.json, templates.root, result.coffea, fit/
  look      the printed tables; exit code 1 means that a limit is broken
[bold]5 plot[/]      Draws score, features and correlations, nominal and attacked.
  writes    <out>/plots/
  look      the score moves, the features do not
[bold]6 report[/]    What a validation would see, controls, and one page for reviewers.
  writes    <out>/report.html, evidence.json, controls.json
  look      report.html, in a browser

[bold]all[/] does the six of them; "make example" calls it. Each step reads what the
one before it wrote. Steps 1 and 2 are skipped while nothing changes that they
depend on.

With [bold]--data[/] the events are real: H → ττ of the CMS experiment, without step 1.
Give it a folder of results of its own with [bold]--out[/].

A quick try (half a minute):
  python -m example_analysis all --scale 0.1 --events /tmp/e --out /tmp/r

The fooling ratio (objective cross, marginals exactly kept):
  python -m example_analysis run --objective cross --rms 0 --out results
  python -m example_analysis judge --out results

The spread over seeds (other attacks of the same events and models):
  python -m example_analysis run --seed 2 --models results/models --out results-seed2
  python -m example_analysis judge --out results-seed2
"""

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,  # an error of coffea is read and sent as plain text
    context_settings={"help_option_names": ["--help", "-h"]},
)

EVENTS, RESULTS = Path("example_data"), Path("results")
EPOCHS = 40
CHUNKSIZE = 30_000
LOOK = {
    "report.html": "one page with all of it, for a reviewer: open it in a browser",
    "plots": "pictures; start with overview.png",
    "templates.root": "nominal, conservUp, conservDown of the score",
    "fit": "for Combine, cabinetry, pyhf, correctionlib; impact.json: a signal strength",
    "verdict.json": "every limit: value and what is left; fooling ratios; coverage",
    "output.coffea": "what the processor returned: coffea.util.load(...)",
    "attacked": "the events, nominal and attacked, as parquet",
    "run.json": "input, settings, chunks and versions of the run",
    "models/training.json": "AUC and settings of the classifiers",
}


def _console() -> Console:
    """Make a console; without a terminal that says how wide it is, tables are not squeezed."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


@contextmanager
def _step(title: str) -> Iterator[Console]:
    """Head a step; of an error that names its remedy, print the text instead of a traceback."""
    from coffea_conserv import ConservError  # noqa: PLC0415

    console = _console()
    console.rule(f"[bold]{title}", align="left")
    start = time.monotonic()
    try:
        yield console
    except (ConservError, FileNotFoundError, ImportError) as error:
        console.print("[bold red]error:[/]", end=" ")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    console.print(f"[dim]{title}: {time.monotonic() - start:.1f} s[/]")


def _attack(limits: dict[str, float | None], objective: str, seed: int, *, control: bool) -> Attack:
    """Make the settings of the attack; a limit of the marginals is chosen if none is given."""
    from example_analysis.record import Attack  # noqa: PLC0415

    given = {name: value for name, value in limits.items() if value is not None}
    if not {"rms", "jsd", "band"} & set(given):
        given["rms"] = 0.05
    attack = Attack(given, objective, seed)
    return Attack({"move": 0}, objective, seed) if control else attack


def _place(executor: str, workers: int, client: str | None) -> Where:
    """Choose where to run, and make sure that this is possible."""
    from example_analysis import cluster  # noqa: PLC0415

    where = cluster.Where(executor, workers, client)
    cluster.check(where)
    return where


def _folders(events: Path, data: Path | None, out: Path) -> None:
    """Make the folders, and make sure that what is read and drawn later can be."""
    from example_analysis import record  # noqa: PLC0415

    source = record.Source.choose(events, data)
    record.check_folder(out, source.analysis)
    record.check_plotting()
    if data is None:
        record.check_writable(events, "--events")


def _finish(out: Path, result: Any = None) -> None:
    """List what to look at; end with exit code 1 if a limit is broken, and say which."""
    console = _console()
    table = Table(title="What to look at", title_justify="left", box=None, show_header=False)
    table.add_column(no_wrap=True)  # a path stays whole
    table.add_column()
    for name, meaning in LOOK.items():
        if (out / name).exists():
            table.add_row(f"[bold]{out / name}[/]", meaning)
    console.print(table)
    if result is None or result.verdict.passed:
        return
    for limit in result.verdict.broken:
        text = f"{limit.name} in {limit.group}: {limit.measure} {limit.value:.4g} > {limit.limit:.4g}"
        console.print(f"[bold red]broken limit:[/] {text}", highlight=False)
    console.print(f"[bold red]{escape(result.verdict.summary)}[/]", highlight=False)
    raise typer.Exit(1)


@app.command("generate")
def generate_command(*, events: Events = EVENTS, scale: Scale = 1.0, seed: Seed = 1, jobs: Jobs = 0) -> None:
    """Generate ttbar, WW and pseudo-data.

    Pythia 8 makes the collisions, FastJet the jets, a simple detector the rest.
    Simulation has weights of both signs. Pseudo-data come from another shower
    setting and from a jet energy scale that is 3 % lower.

    [bold]Writes[/] <events>/ttbar.root, WW.root and data.root in the layout of NanoAOD,
    manifest.json and fileset.json. Events of the same settings are reused; other
    settings replace them. The folder can be moved or copied.

    [bold]Takes[/] one to two minutes on two cores.

    [bold]Look at it:[/] uproot.open("<events>/ttbar.root")["Events"].show()
    """
    with _step("1 generate") as console:
        from example_analysis.generate import (  # noqa: PLC0415
            DEFAULT_EVENTS,
            GenerationConfig,
            default_jobs,
            generate,
        )

        numbers = {name: max(2, round(scale * number)) for name, number in DEFAULT_EVENTS.items()}
        config = GenerationConfig(out=events, events=numbers, seed=seed, jobs=jobs or default_jobs())
        generate(config)
        listed = ", ".join(f"{number:,} {name}" for name, number in numbers.items())
        console.print(f"{listed} events in [bold]{events}[/]")


@app.command("train")
def train_command(
    *,
    events: Events = EVENTS,
    data: Data = None,
    out: Out = RESULTS,
    epochs: Epochs = EPOCHS,
    seed: Seed = 1,
) -> None:
    """Train the classifier, once per fold.

    Model 0 learns from one half of the simulated events and is used on the other
    half, model 1 the other way round: no event meets a model that has seen it.

    [bold]Reads[/] the events of step 1, or the skims of --data.
    [bold]Writes[/] <out>/models/model_fold0.pt2, model_fold1.pt2 (torch.export) and
    training.json. Models of the same files, settings and code are reused.

    [bold]Takes[/] less than a minute on one core.

    [bold]Look at it:[/] training.json has the AUC of each model on unseen events, with the
    weights of the analysis and with one vote per event.
    """
    with _step("2 train") as console:
        from example_analysis import steps  # noqa: PLC0415

        source = steps.Source.choose(events, data)
        steps.train(source, out, steps.Settings(epochs=epochs, seed=seed), console)


@app.command("run")
def run_command(  # noqa: PLR0913 -- options of a command line
    *,
    events: Events = EVENTS,
    data: Data = None,
    out: Out = RESULTS,
    rms: Rms = None,
    jsd: Jsd = None,
    band: Band = None,
    correlation: Correlation = 0.006,
    watch: Watch = 0.05,
    objective: Objective = "score",
    control: Control = False,
    seed: Seed = 1,
    executor: Executor = "dask",
    workers: Workers = 2,
    client: Client = None,
    chunksize: Chunksize = CHUNKSIZE,
    maxchunks: Maxchunks = None,
    models: Models = None,
) -> None:
    """Run the analysis with the attack in it.

    coffea reads the files in chunks and calls the processor of processors/ for
    each. It fills its histograms as always, and hands the selected events to the
    attack. This moves them toward signal (conservUp) and toward background
    (conservDown). Data are never moved.

    [bold]Reads[/] the events of step 1 or the skims of --data, and the models of step 2.
    [bold]Writes[/] <out>/output.coffea (what the processor returned, merged) and run.json
    (input, settings, chunks, versions); attacked/<dataset>/*.parquet, the events before
    and after. If it fails, an earlier output stays.

    [bold]Takes[/] about a minute with two workers.

    [bold]The spread over seeds[/] comes from further runs with the same models:
    run --seed 2 --models <out>/models --out <other out>, then judge --out <other out>.
    The seed is written to run.json and verdict.json.

    [bold]Look at it:[/] coffea.util.load("<out>/output.coffea") is a dict with the
    histograms and the cutflow of the analysis, and with conserv, which adds up.
    """
    with _step("3 run") as console:
        limits = {"rms": rms, "jsd": jsd, "band": band, "correlation": correlation, "watch": watch}
        attack = _attack(limits, objective, seed, control=control)
        from example_analysis import steps  # noqa: PLC0415

        where = steps.Where(executor, workers, client)
        source = steps.Source.choose(events, data)
        steps.run(source, out, attack, where, console, (chunksize, maxchunks), models=models)


@app.command("judge")
def judge_command(*, out: Out = RESULTS) -> None:
    """Check every limit on the merged output; make the templates; fit the signal strength.

    The attack keeps its limits in every chunk. Here they are checked once more on
    the sum of all chunks, in every dataset and region.

    [bold]Reads[/] <out>/output.coffea, run.json and the models.
    [bold]Writes[/] <out>/verdict.json, templates.root, result.coffea (all of it, for later); and
    in <out>/fit: datacard.txt with combine.root (Combine), cabinetry.yml with cabinetry.root,
    workspace.json (pyhf), weights.json (correctionlib), impact.json and names.json. Four bins of the
    score become one there. The fit is blind: it takes the sum of nominal templates for
    data.

    [bold]Takes[/] a few seconds, half of them for the fits.

    [bold]Look at it:[/] the printed tables: how much of its limits each group uses, how many
    events cross the working point, and the same for all backgrounds together. The exit
    code is 1 if a limit is broken, and the last lines say which.
    """
    with _step("4 judge") as console:
        from example_analysis import steps  # noqa: PLC0415

        result = steps.judge(out, console)
    _finish(out, result)


@app.command("plot")
def plot_command(*, out: Out = RESULTS) -> None:
    """Draw score, features and correlations, nominal and attacked.

    [bold]Reads[/] <out>/output.coffea, run.json and the models.
    [bold]Writes[/] <out>/plots/: overview.png, limits.png, and a folder of each region. Regions
    that only serve an estimate (same-sign events of H → ττ) are not drawn.

    [bold]Takes[/] about half a minute.

    [bold]Look at it:[/] the score moves; features and correlations do not.
    """
    with _step("5 plot") as console:
        from example_analysis import steps  # noqa: PLC0415

        steps.plot(out, console)
    _finish(out)


@app.command("report")
def report_command(*, out: Out = RESULTS) -> None:
    """Gather what a validation would see, run controls, and write one page.

    Tests of marginals, correlations and events, against data too; how many events each
    needs to see the attack. Controls are what must have no effect, and mismodellings that
    the limits would pass. "coffea-conserv report" writes such a page for any run.

    [bold]Reads[/] what run and judge wrote, and the events.
    [bold]Writes[/] <out>/report.html, evidence.json and controls.json.

    [bold]Takes[/] one to two minutes.

    [bold]Look at it:[/] report.html, in a browser; it needs no network.
    """
    with _step("6 report") as console:
        from example_analysis import reports  # noqa: PLC0415

        reports.write_report(out, console)
    _finish(out)


@app.command("all")
def all_command(  # noqa: PLR0913 -- options of a command line
    *,
    events: Events = EVENTS,
    data: Data = None,
    out: Out = RESULTS,
    rms: Rms = None,
    jsd: Jsd = None,
    band: Band = None,
    correlation: Correlation = 0.006,
    watch: Watch = 0.05,
    objective: Objective = "score",
    control: Control = False,
    seed: Seed = 1,
    executor: Executor = "dask",
    workers: Workers = 2,
    client: Client = None,
    jobs: Jobs = 0,
    chunksize: Chunksize = CHUNKSIZE,
    maxchunks: Maxchunks = None,
    scale: Scale = 1.0,
    epochs: Epochs = EPOCHS,
) -> None:
    """Do all six steps, from events to templates, pictures and the report.

    [bold]Reads[/] the skims of --data, or nothing.
    [bold]Writes[/] <events> and <out>; "python -m example_analysis --help" lists the files.
    All settings are checked before the first step starts.

    [bold]Takes[/] about five minutes on two cores, half of it when done again.

    [bold]Look at it:[/] the last table lists what there is. The exit code is 1 if a limit
    is broken, and the last lines say which.
    """
    limits = {"rms": rms, "jsd": jsd, "band": band, "correlation": correlation, "watch": watch}
    with _step("0 settings") as console:  # a wrong one is told now, not after minutes
        attack = _attack(limits, objective, seed, control=control)
        where = _place(executor, workers, client)
        _folders(events, data, out)
        console.print(attack.budget.meaning())
    if data is None:
        generate_command(events=events, scale=scale, seed=seed, jobs=jobs)
    train_command(events=events, data=data, out=out, epochs=epochs, seed=seed)
    with _step("3 run") as console:
        from example_analysis import steps  # noqa: PLC0415

        source = steps.Source.choose(events, data)
        steps.run(source, out, attack, where, console, (chunksize, maxchunks))
    with _step("4 judge") as console:
        result = steps.judge(out, console)
    with _step("5 plot") as console:
        steps.plot(out, console, result)
    with _step("6 report") as console:
        from example_analysis import reports  # noqa: PLC0415

        reports.write_report(out, console, result)
    _finish(out, result)


if __name__ == "__main__":
    app()
