"""Commands before and during a run: plan and run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coffea_conserv.cli.outlook import print_outlook
from coffea_conserv.cli.terminal import told
from coffea_conserv.errors import ConfigurationError

# What takes time to import is imported when it is needed: --help answers at once.
if TYPE_CHECKING:
    from coffea_conserv.running.build import Plan

__all__ = ("plan", "run")

WHAT, PLACE = "What is run", "Where"

Config: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--config",
        help="YAML: features, budget, …; docs/commands.md.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
FilesetFile: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--fileset", help="JSON: dataset → files, metadata.", show_default=False, rich_help_panel=WHAT
    ),
]
Processor: TypeAlias = Annotated[
    str | None,
    typer.Option(help="module:Class, instead of that of the file.", show_default=False, rich_help_panel=WHAT),
]
ModelFile: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--model",
        help="File of a model instead of that of the configuration; one per fold.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
ChunkSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Events of a chunk, instead of that of the file.",
        show_default=False,
        min=1,
        rich_help_panel=WHAT,
    ),
]


def plan(
    *,
    config: Config,
    fileset: FilesetFile,
    processor: Processor = None,
    model: ModelFile = None,
    chunksize: ChunkSize = None,
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
        found, files = _ready(config, fileset, (processor, model, chunksize))
        from coffea_conserv.running.planning import look_ahead  # noqa: PLC0415

        with console.status("…") as status:
            outlook = look_ahead(found, files, sample=sample, tell=status.update)
        print_outlook(outlook, found.config.chunksize, console)


def run(  # noqa: PLR0913 -- options of a command line
    *,
    config: Config,
    fileset: FilesetFile,
    processor: Processor = None,
    model: ModelFile = None,
    chunksize: ChunkSize = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results"),
    client: Annotated[
        str | None,
        typer.Option(
            help="Address of a Dask scheduler, tcp://host:8786.", show_default=False, rich_help_panel=PLACE
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes of this machine.", rich_help_panel=PLACE)] = 1,
    resource: Annotated[
        list[str] | None,
        typer.Option(
            help="What workers of Dask have to offer, GPU=1.", show_default=False, rich_help_panel=PLACE
        ),
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            help="Folder, seen by all workers, for finished chunks: a second run goes on from there.",
            show_default=False,
            rich_help_panel=PLACE,
        ),
    ] = None,
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
        found, files = _ready(config, fileset, (processor, model, chunksize))
        from coffea_conserv.running import runs  # noqa: PLC0415

        place = runs.Where(client, workers, _resources(resource or []), checkpoints)
        out.mkdir(parents=True, exist_ok=True)
        chunks = runs.chunks_of(found, files)
        with _shown(console, len(chunks)) as tell:
            ran = runs.execute(found, chunks, place, tell)
        result = runs.write_results(found, ran, out)
        shutil.copyfile(config, out / "conserv.yaml")
        from coffea_conserv.report.console import print_report  # noqa: PLC0415

        print_report(result, console)
        console.print(f"results in [bold]{out}[/]; next: coffea-conserv report {out}")
        if not result.verdict.passed:
            raise typer.Exit(1)


def _ready(
    config: Path, fileset: Path, instead: tuple[str | None, list[Path] | None, int | None]
) -> tuple[Plan, dict[str, dict[str, Any]]]:
    """Read all that is given, and make attack and processor."""
    try:
        from coffea_conserv.running.configuration import read_configuration  # noqa: PLC0415 -- pydantic
    except ModuleNotFoundError as error:
        msg = f"this command needs {error.name}: pip install 'coffea-conserv[cli]'"
        raise ConfigurationError(msg) from error
    from coffea_conserv.running.build import check_names, make_plan  # noqa: PLC0415
    from coffea_conserv.running.runs import read_fileset  # noqa: PLC0415

    read, document = read_configuration(config)
    files = read_fileset(fileset)
    check_names(read, document, files)
    processor, model, chunksize = instead
    if chunksize is not None:
        read = read.model_copy(update={"chunksize": chunksize})
    return make_plan(read, document, processor=processor, model=model), files


def _resources(given: list[str]) -> Mapping[str, float]:
    """Read ``GPU=1``."""
    found = {}
    for text in given:
        name, _, amount = text.partition("=")
        try:
            found[name] = float(amount)
        except ValueError:
            msg = f"--resource {text}: write it as GPU=1"
            raise ConfigurationError(msg) from None
    return found


@contextmanager
def _shown(console: Console, count: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show how far it is: a bar on a terminal, a line for each tenth elsewhere."""
    from coffea_conserv.running.progress import Progress as Done  # noqa: PLC0415

    done = Done()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=count)
        tenth = [0]

        def tell(message: dict[str, Any]) -> None:
            done.add(message)
            bar.update(task, completed=min(done.chunks, count), description=done.text)
            reached = 10 * done.chunks // max(count, 1)
            if not console.is_terminal and reached > tenth[0]:
                tenth[0] = reached
                console.print(f"{time.strftime('%H:%M:%S')} {done.chunks}/{count} chunks, {done.text}")

        yield tell
