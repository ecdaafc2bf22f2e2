"""The steps after generation: train, run, judge and plot. Each reads what the one before it wrote."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coffea.util
from coffea.processor import Runner
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coffea_conserv import ConfigurationError, Conserv, Estimate
from coffea_conserv.limits.verdict import Verdict
from coffea_conserv.report.console import print_report
from coffea_conserv.running.failures import failure_of
from coffea_conserv.sums.attacked_events import index_events
from example_analysis import record
from example_analysis.cluster import Where, executor
from example_analysis.fits import write_fits
from example_analysis.inputs import check_files, read_fileset
from example_analysis.record import Attack, Fileset, Source
from example_analysis.train import ANALYSES, Settings
from example_analysis.train import train as train_models
from processors import htautau, htautau_inputs, ttbar_ww_inputs

if TYPE_CHECKING:
    from coffea_conserv.results.result import Result

__all__ = ("Settings", "Source", "Where", "judge", "load_fileset", "plot", "run", "train")

FOLDS = 2
BUILD = {"htautau": htautau_inputs.build_conserv, "ttbar_ww": ttbar_ww_inputs.build_conserv}
PROCESSES: dict[str, dict[str, list[str]]] = {"htautau": {"W": ["W1", "W2", "W3"]}, "ttbar_ww": {}}
TOTALS = {"htautau": {"backgrounds": htautau.BACKGROUNDS}, "ttbar_ww": {}}
"""Sums of processes with a fooling ratio of their own."""


def estimates(analysis: str) -> tuple[Estimate, ...]:
    """Backgrounds without simulation: multijets of H → ττ, from data − simulation with same-sign charges."""
    if analysis != "htautau":
        return ()
    regions = {name: f"{name}_ss" for name in ("signal", "wjets", "ttbar")}
    return (Estimate("QCD", regions, htautau.QCD_FACTOR),)


def load_fileset(source: Source) -> Fileset:
    """Read the fileset of an analysis and look into every file.

    Parameters
    ----------
    source
        Analysis and folder.

    Raises
    ------
    FileNotFoundError
        If files are missing.
    ConfigurationError
        If a file cannot be read or lacks what the analysis needs; dataset and file are named.
    """
    fileset = read_fileset(source.analysis, source.folder)
    check_files(source.analysis, fileset)
    return fileset


def train(source: Source, out: Path, settings: Settings, console: Console) -> None:
    """Train one classifier per fold, or reuse those of the same files, settings and code.

    Parameters
    ----------
    source
        Analysis and folder of its files.
    out
        Folder of results; the models go to ``models`` in it.
    settings
        How to train.
    console
        Where to report.
    """
    record.check_folder(out, source.analysis)
    fileset = load_fileset(source)
    folder = out / "models"
    key = record.fingerprint(fileset, {"analysis": source.analysis, **asdict(settings)})
    summary, mark = folder / "training.json", folder / "inputs.json"
    if _reusable(folder, key):
        console.print(f"same files, settings and code as before: [bold]{folder}[/] is reused")
    else:
        mark.unlink(missing_ok=True)  # an interrupted training must not look like a finished one
        console.print("reading the events that the processor selects …")
        train_models(ANALYSES[source.analysis], fileset, folder, settings, console)
        record.write_json(mark, {"analysis": source.analysis, "key": key})
    trained = json.loads(summary.read_text())
    for fold in range(FOLDS):
        areas = f"{trained['auc'][fold]:.3f} (unweighted {trained['auc_unweighted'][fold]:.3f})"
        console.print(f"model_fold{fold}.pt2: AUC {areas} on the events it has not seen")


def _reusable(folder: Path, key: str) -> bool:
    whole = all((folder / name).is_file() for name in ("training.json", "inputs.json", *_model_names()))
    return whole and json.loads((folder / "inputs.json").read_text()).get("key") == key


def _model_names() -> list[str]:
    return [f"model_fold{fold}.pt2" for fold in range(FOLDS)]


def find_models(folder: Path) -> list[Path]:
    """Return the files of the models in a folder.

    Raises
    ------
    ConfigurationError
        If they are not there.
    """
    paths = [folder / name for name in _model_names()]
    absent = [path.name for path in paths if not path.is_file()]
    if absent or not (folder / "inputs.json").is_file():
        msg = (
            f"{folder} holds no finished training ({', '.join(absent) or 'inputs.json'} is missing); "
            f"first do: python -m example_analysis train --out {folder.parent}"
        )
        raise ConfigurationError(msg)
    return paths


def make_conserv(analysis: str, models: Path, attack: Attack, keep: Path | None = None) -> Conserv:
    """Make the attack of an analysis with the models of a folder, and a folder for attacked events."""
    files = [str(path) for path in find_models(models)]
    return BUILD[analysis](files, attack.budget, objective=attack.objective, seed=attack.seed, keep=keep)


def run(
    source: Source,
    out: Path,
    attack: Attack,
    where: Where,
    console: Console,
    chunks: tuple[int, int | None],
    *,
    models: Path | None = None,
) -> None:
    """Process all files and write ``output.coffea``, ``run.json`` and the attacked events.

    Parameters
    ----------
    source
        Analysis and folder of its files.
    out
        Folder of results.
    attack
        Limits, objective and seed.
    where
        In this process or on which cluster.
    console
        Where to report.
    chunks
        Events per chunk, and the largest number of chunks per dataset (``None``: all).
    models
        Folder of the models; ``None``: ``models`` in the folder of results.

    Raises
    ------
    ConfigurationError
        If there are no models.
    Exception
        Whatever coffea raises, after a line that says what failed and what was kept.
    """
    record.check_folder(out, source.analysis)
    fileset = load_fileset(source)
    kept = (out / "attacked.part").resolve()  # those of an earlier run stay until these are whole
    conserv = make_conserv(source.analysis, models or out / "models", attack, kept)
    shutil.rmtree(kept, ignore_errors=True)
    analysis = ANALYSES[source.analysis]
    console.print(f"limits: {attack.budget.meaning()}")
    with executor(where, status=console.is_terminal) as using:
        runner = Runner(
            using, schema=analysis.schema, chunksize=chunks[0], maxchunks=chunks[1], metadata_cache={}
        )
        asked = list(runner.preprocess(fileset, treename="Events"))
        events = sum(len(chunk) for chunk in asked)
        console.print(f"{events:,} events of {len(fileset)} datasets in {len(asked)} chunks")
        start = time.monotonic()
        with _explained(console, out, len(asked)):
            ran = runner.run(asked, analysis.processor(conserv), treename="Events")
        seconds = time.monotonic() - start
    index_events(kept)
    _save(out / "output.coffea", ran["out"])
    shutil.rmtree(out / "attacked", ignore_errors=True)
    kept.rename(out / "attacked")
    summary = {
        "analysis": source.analysis,
        "folder": str(source.folder),
        # Those beside the run by name, so that the folder can be moved; others by their place.
        "models": str(models.resolve()) if models else "models",
        "attack": asdict(attack),
        "where": asdict(where),
        "chunksize": chunks[0],
        "maxchunks": chunks[1],
        "events": events,
        "seconds": round(seconds, 2),
        "versions": record.versions(),
        "asked": record.events_by_dataset(asked),
        "chunks": record.chunk_rows(asked),
        "not_processed": record.chunk_rows(set(asked) - set(ran["processed"])),
    }
    record.write_json(out / "run.json", summary)
    console.print(f"{seconds:.1f} s, {events / seconds:,.0f} events/s")
    if chunks[1] is not None:
        console.print(f"[yellow]at most {chunks[1]} chunks per dataset were read: yields are too small")


@contextmanager
def _explained(console: Console, out: Path, asked: int) -> Iterator[None]:
    """Say before coffea's own error where it happened and what is left."""
    try:
        yield
    except Exception as error:
        where = escape(failure_of(error).where)
        console.print(f"[bold red]coffea stopped[/]: {where}", soft_wrap=True)  # a path stays whole
        kept = "an earlier output is unchanged" if (out / "output.coffea").exists() else "nothing was written"
        console.print(
            f"of the {asked} chunks asked none is reported: coffea gives no partial result; {kept} in {out}",
            soft_wrap=True,
        )
        raise


def _save(path: Path, output: Any) -> None:
    """Write coffea's file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp.coffea")
    coffea.util.save(output, str(temporary))
    temporary.replace(path)


def judge(out: Path, console: Console) -> Any:
    """Judge the merged output, print the report, and write ``verdict.json``, ``templates.root`` and ``fit``.

    Parameters
    ----------
    out
        Folder of results.
    console
        Where to print the report.

    Returns
    -------
    coffea_conserv.results.result.Result
        With ``verdict.passed``.
    """
    result = load_result(out)
    print_report(result, console)
    result.to_json(out / "verdict.json")
    result.templates("score").to_root(out / "templates.root")
    result.save(out / "result.coffea")
    write_fits(result, record.read_run(out)["analysis"], out, console)
    return result


def load_result(out: Path) -> Any:
    """Make the result of the run in a folder.

    Raises
    ------
    ConfigurationError
        If there is no finished run.
    """
    ran = record.read_run(out)
    analysis = ran["analysis"]
    conserv = make_conserv(analysis, out / ran["models"], Attack(**ran["attack"]))
    output = coffea.util.load(str(out / "output.coffea"))
    return conserv.result(
        output["conserv"],
        processes=PROCESSES[analysis],
        estimates=estimates(analysis),
        totals=TOTALS[analysis],
        asked=ran["chunks"],
    )


def shown(result: Result) -> Result:
    """Leave out the regions of a result that serve estimates only, unless one of their limits is broken.

    Same-sign data of H → ττ are mostly multijets, which simulation lacks: a picture of them would look like a
    failure. Their limits are judged and reported all the same.
    """
    sources = {source for estimate in result.estimates for source in estimate.regions.values()}
    if any(limit.group.region in sources for limit in result.verdict.broken):
        return result
    return replace(
        result,
        regions=tuple(region for region in result.regions if region not in sources),
        fooling=tuple(row for row in result.fooling if row.region not in sources),
        verdict=Verdict(tuple(limit for limit in result.verdict.limits if limit.group.region not in sources)),
    )


def plot(out: Path, console: Console, result: Any = None) -> list[Path]:
    """Draw everything to ``plots``.

    Parameters
    ----------
    out
        Folder of results.
    console
        Where to report.
    result
        What :func:`judge` returned, if it was called before.

    Returns
    -------
    list of Path
        Files of the pictures.
    """
    from coffea_conserv.plotting import save_all  # noqa: PLC0415 -- matplotlib is optional

    result = result or load_result(out)
    with bar(console, "pictures") as advance:
        made: list[Path] = save_all(shown(result), out / "plots", progress=advance)
    console.print(f"{len(made)} pictures in [bold]{out / 'plots'}[/]; start with overview.png")
    return made


@contextmanager
def bar(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal; what it gives is called with what is done and all there is."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
