"""Work of the commands before and during a run: what it will be, and the run itself."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coffea_conserv.cli.outlook import print_outlook
from coffea_conserv.errors import ConfigurationError
from coffea_conserv.files import check_writable
from coffea_conserv.report.console import print_report
from coffea_conserv.results.result import Result
from coffea_conserv.running import runs
from coffea_conserv.running.build import check_names, make_plan
from coffea_conserv.running.configuration import read_configuration
from coffea_conserv.running.plan import Plan
from coffea_conserv.running.planning import look_ahead
from coffea_conserv.running.progress import Progress as Done

__all__ = ("Given", "plan", "run")


@dataclass(frozen=True)
class Given:
    """Files of a run, and what stands in the place of their settings.

    Parameters
    ----------
    config, fileset
        YAML and JSON.
    processor
        ``module:Class``.
    model
        Files of models, one per fold.
    chunksize
        Events of a chunk.
    """

    config: Path
    fileset: Path
    processor: str | None = None
    model: list[Path] | None = None
    chunksize: int | None = None

    def read(self) -> tuple[Plan, dict[str, dict[str, Any]]]:
        """Read all that is given, and make attack and processor."""
        config, document = read_configuration(self.config)
        files = runs.read_fileset(self.fileset)
        check_names(config, document, files)
        if self.chunksize is not None:
            config = config.model_copy(update={"chunksize": self.chunksize})
        return make_plan(config, document, processor=self.processor, model=self.model), files


def plan(console: Console, given: Given, *, sample: int) -> None:
    """Say what a run will be, from a few events of each dataset."""
    found, files = given.read()
    with console.status("…") as status:
        outlook = look_ahead(found, files, sample=sample, tell=status.update)
    print_outlook(outlook, found.config.chunksize, console)


def run(
    console: Console,
    given: Given,
    *,
    client: str | None,
    workers: int,
    resource: list[str] | None,
    checkpoints: Path | None,
    out: Path,
) -> tuple[Result, ...]:
    """Run, write and report; returns the results, whose limits may be broken."""
    found, files = given.read()
    place = runs.Where(client, workers, _resources(resource or []), checkpoints)
    for written in (out, checkpoints or out):
        check_writable(written)
    chunks = runs.chunks_of(found, files)
    with _shown(console, len(chunks)) as tell:
        ran = runs.execute(found, chunks, place, tell)
    results = runs.write_results(found, replace(ran, fileset=files), out)
    shutil.copyfile(given.config, out / "conserv.yaml")
    for folder, result in results.items():
        if len(results) > 1:
            console.rule(escape(folder))
        print_report(result, console)
        console.print(f"results in [bold]{escape(folder)}[/]; next: coffea-conserv report {escape(folder)}")
    return tuple(results.values())


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
    if done.reused:
        console.print(f"{done.reused} of {count} chunks from checkpoints of the same analysis")
    for problem in done.problems:
        console.print(f"[bold red]checkpoints:[/] {escape(problem)}", soft_wrap=True)
