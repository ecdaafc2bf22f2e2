"""Execution of a processor over a fileset: here, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import importlib
import json
import logging
import re
import struct
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coffea.util
from coffea.processor import DaskExecutor, FuturesExecutor, IterativeExecutor, Runner

from coffea_conserv.checks import as_flag
from coffea_conserv.errors import ConfigurationError, ConservError, InputError, RunError
from coffea_conserv.files import replacing
from coffea_conserv.results.derived import set_aside
from coffea_conserv.results.result import Estimate, Result
from coffea_conserv.running.checkpoints import make_keeper
from coffea_conserv.running.clusters import workers_with
from coffea_conserv.running.failures import failure_of
from coffea_conserv.running.objects import schema_of
from coffea_conserv.running.plan import Plan
from coffea_conserv.running.progress import Told, find_sums, to_file, to_topic
from coffea_conserv.sums.sums import Sums

__all__ = ("Ran", "Where", "chunks_of", "execute", "read_fileset", "write_results")

logger = logging.getLogger(__name__)

Fileset = dict[str, dict[str, Any]]
CONNECT = 20  # seconds for a scheduler to answer


@dataclass(frozen=True)
class Where:
    """Where chunks are processed.

    Parameters
    ----------
    client
        Address of a Dask scheduler; ``None``: on this machine.
    workers
        Processes of this machine; 1: in this one.
    resources
        What workers of Dask have to offer, for example ``{"GPU": 1}``.
    checkpoints
        Folder of finished chunks, see :mod:`coffea_conserv.running.checkpoints`.
    """

    client: str | None = None
    workers: int = 1
    resources: Mapping[str, float] = field(default_factory=dict)
    checkpoints: Path | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            msg = f"{self.workers} workers can do nothing: ask for at least one"
            raise ConfigurationError(msg)
        if self.resources and self.client is None:
            msg = "resources are of workers of Dask: give --client, too"
            raise ConfigurationError(msg)


@dataclass(frozen=True)
class Ran:
    """What a run has given.

    Parameters
    ----------
    output
        Merged output of the processor.
    sums
        What is in it of attacks, by its keys.
    chunks, fileset
        What was asked for.
    """

    output: Any = field(repr=False)
    sums: Mapping[str, Sums] = field(repr=False)
    chunks: Sequence[Any] = field(repr=False)
    fileset: Fileset = field(default_factory=dict, repr=False)


def read_fileset(path: Path) -> Fileset:
    """Read a fileset of coffea from a JSON file; files are looked for where it is.

    Raises
    ------
    ConfigurationError
        If it is not there or no fileset, or a file of it is not there.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"the fileset {path} cannot be read: {error}"
        raise ConfigurationError(msg) from None
    if not isinstance(content, dict) or not content:
        msg = f"the fileset {path} must be a JSON object, dataset → files and metadata"
        raise ConfigurationError(msg)
    return {name: _dataset(path, name, entry) for name, entry in content.items()}


def _dataset(path: Path, name: str, entry: Any) -> dict[str, Any]:
    """One dataset in coffea's long form."""
    parts = entry if isinstance(entry, dict) and "files" in entry else {"files": entry}
    files = parts["files"]
    if isinstance(files, list):
        files = {file: parts.get("treename") for file in files}
    if not isinstance(files, dict) or not files:
        msg = f"the fileset {path}: dataset {name} has no files; write name → {{files: {{file: tree}}}}"
        raise ConfigurationError(msg)
    made = {}
    for file, tree in files.items():
        local = "://" not in str(file)
        place = str(path.parent / file) if local else str(file)
        if local and "*" not in place and not Path(place).exists():
            msg = f"the fileset {path}: dataset {name}: {place} does not exist"
            raise ConfigurationError(msg)
        made[place] = tree["object_path"] if isinstance(tree, dict) else tree
    metadata = {"is_data": False, **(parts.get("metadata") or {})}
    as_flag(f"the fileset {path}: dataset {name}: 'is_data' of its metadata", metadata["is_data"])
    return {"files": made, "metadata": metadata}


def chunks_of(plan: Plan, fileset: Fileset, chunksize: int | None = None, **options: Any) -> list[Any]:
    """Open all files, and split them into chunks.

    Raises
    ------
    ConfigurationError
        If a file cannot be read, or has no such tree.
    """
    runner = _runner(plan, IterativeExecutor(status=False), chunksize or plan.config.chunksize, **options)
    trees = {name: dict(entry["files"]) for name, entry in fileset.items()}
    default = plan.config.treename
    whole = {
        name: {**entry, "files": {file: tree or default for file, tree in trees[name].items()}}
        for name, entry in fileset.items()
    }
    try:
        with _without_bars():
            return list(runner.preprocess(whole))
    except (OSError, LookupError, ValueError, struct.error) as error:
        msg = f"the files of the fileset cannot be read: {type(error).__name__}: {error}"
        raise ConfigurationError(msg) from None


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep coffea's bars, which it draws whatever ``status=`` says, from drawing over those of others."""
    console = getattr(coffea.util, "coffea_console", None)
    if console is None:
        yield
        return
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def execute(plan: Plan, chunks: Sequence[Any], where: Where, tell: Callable[[dict[str, Any]], None]) -> Ran:
    """Process chunks.

    Parameters
    ----------
    plan
        Attack and processor.
    chunks
        Of :func:`chunks_of`.
    where
        Where to.
    tell
        Gets a message for each chunk, from another thread.

    Raises
    ------
    ConfigurationError, InputError
        If nobody answers there, or the output has nothing of the attack.
    RunError
        If the run does not come to its end: where it failed, what is kept, and how to go on.
    """
    processor = plan.make(plan.conserv)
    with _Explained(where, len(chunks)), _executor(where, plan, tell) as (executor, sink), _without_bars():
        keeper = None
        if where.checkpoints is not None:
            schema = schema_of(plan.config.schema_)
            keeper = make_keeper(where.checkpoints, processor, schema=schema, modules=plan.modules, tell=sink)
        runner = _runner(plan, executor, plan.config.chunksize, checkpointer=keeper)
        output = runner(list(chunks), Told(processor, sink))
    sums = find_sums(output)
    if not sums:
        msg = (
            "the output of the processor has nothing of the attack; let it return what Conserv returns, for "
            "example as output['conserv'], or wrap it with wrapper:"
        )
        raise InputError(msg)
    return Ran(output, sums, chunks)


class _Explained:
    """Say where a run failed, what is kept of it, and how to go on; own errors have their own text."""

    def __init__(self, where: Where, chunks: int) -> None:
        self.where, self.chunks = where, chunks

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, ConservError):
            return
        if isinstance(error, KeyboardInterrupt):
            msg = f"interrupted; {self._kept()}"
            raise RunError(msg) from None
        failure = failure_of(error)
        own = failure.own
        if own is not None:
            raise own from error
        if isinstance(error, Exception):
            msg = f"{failure.where}: {failure.reason}; {self._kept()}"
            raise RunError(msg) from error

    def _kept(self) -> str:
        if self.where.checkpoints is None:
            none = f"none of the {self.chunks} chunks is kept"
            return f"{none}; --checkpoints FOLDER keeps those that are finished"
        return f"finished chunks are kept in {self.where.checkpoints}: the same command goes on from there"


def _runner(plan: Plan, executor: Any, chunksize: int, **options: Any) -> Any:
    # coffea keeps the metadata of files in the process: a changed flag, or file, would not be seen again.
    options.setdefault("metadata_cache", {})
    return Runner(executor, schema=schema_of(plan.config.schema_), chunksize=chunksize, **options)


@contextmanager
def _executor(
    where: Where, plan: Plan, tell: Callable[[dict[str, Any]], None]
) -> Iterator[tuple[Any, Callable[[dict[str, Any]], None]]]:
    """Executor of coffea, and where its workers tell what they have done."""
    if where.client is None:
        with tempfile.TemporaryDirectory() as folder, to_file(Path(folder) / "progress", tell) as sink:
            if where.workers == 1:
                yield IterativeExecutor(status=False), sink
            else:
                yield FuturesExecutor(status=False, workers=where.workers), sink
        return
    with _connected(where.client) as client:
        offered = workers_with(client, **where.resources) if where.resources else nullcontext()
        topic = f"coffea_conserv-{uuid.uuid4().hex}"
        with offered, to_topic(client, topic, tell) as sink:
            _send(client, plan.modules)
            yield DaskExecutor(client=client, status=False, retries=3), sink


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        from distributed import Client  # noqa: PLC0415 -- of an extra
    except ModuleNotFoundError as error:
        msg = "--client needs Dask: pip install 'coffea-conserv[dask]'"
        raise ConfigurationError(msg) from error
    try:
        client = Client(address, timeout=CONNECT)
    except (OSError, ValueError) as error:
        msg = f"no Dask scheduler answers at {address!r} ({error}); check the address, or leave it out"
        raise ConfigurationError(msg) from None
    with client:
        yield client


def _send(client: Any, modules: Sequence[str]) -> None:
    """Send modules that lie in this folder, and are installed nowhere, to scheduler and workers."""
    with tempfile.TemporaryDirectory() as folder:
        for name in modules:
            file = importlib.import_module(name).__file__
            here = Path(file).resolve() if file else None
            if here is None or not here.is_relative_to(Path.cwd()) or "site-packages" in here.parts:
                continue
            if here.name != "__init__.py":
                client.upload_file(str(here))
                continue
            packed = Path(folder) / f"{name}.zip"
            with zipfile.ZipFile(packed, "w") as archive:
                for one in sorted(here.parent.rglob("*.py")):
                    archive.write(one, str(one.relative_to(here.parent.parent)))
            client.upload_file(str(packed))


def write_results(plan: Plan, ran: Ran, out: Path) -> dict[str, Result]:
    """Write the output before anything can go wrong with it; then judge it, and write the rest.

    Parameters
    ----------
    plan, ran
        What was run, and what it gave.
    out
        Folder of ``output.coffea``, ``result.coffea``, ``verdict.json`` and ``templates.root``. Where the
        output has several sums, the last three are in a folder of each, called after its keys.

    Returns
    -------
    dict
        Folder → result.

    Raises
    ------
    ConfigurationError, InputError
        If processes, totals or estimates of the configuration do not fit, or some sums are those of another
        attack than that of the configuration, which nobody could judge; all others are written before.
    RunError
        If nothing can be written there any more: where the output is kept.
    """
    _save_output(ran.output, out)
    results: dict[str, Result] = {}
    others: list[str] = []
    for name, sums in ran.sums.items():
        if sums.config != plan.conserv.config:
            others.append(name)
            continue
        folder = out / _folder(name, results) if len(ran.sums) > 1 else out
        result = _result_of(plan, ran, sums)
        moved = set_aside(folder, result.settings.config)
        if moved is not None:
            logger.warning("what was made of an earlier run with other settings is now in %s", moved)
        result.save(folder / "result.coffea")
        result.to_json(folder / "verdict.json")
        result.templates("score").to_root(folder / "templates.root")
        results[str(folder)] = result
    if others:
        msg = (
            f"the output has sums of another attack than that of the configuration, which are not judged: "
            f"{', '.join(others)}; they are in {out / 'output.coffea'}, for the result() of their own Conserv"
        )
        raise InputError(msg)
    return results


def _save_output(output: Any, out: Path) -> None:
    """Save an output in the folder, or where there is room for it: it is never lost for a full disk."""
    try:
        with replacing(out / "output.coffea") as part:
            coffea.util.save(output, str(part))
    except OSError as error:
        kept = Path(tempfile.mkdtemp(prefix="coffea_conserv-")) / "output.coffea"
        coffea.util.save(output, str(kept))
        reason = error.strerror or error
        msg = (
            f"the run is done, but nothing can be written to {out}: {reason}; its output is kept in {kept}: "
            "coffea.util.load reads it, for the result() of its Conserv"
        )
        raise RunError(msg) from error


def _folder(name: str, taken: Collection[str]) -> str:
    """Name of a folder for the keys of an output, which may hold anything."""
    made = re.sub(r"[^\w.-]+", "_", name).strip("._") or "sums"
    while any(made == Path(path).name for path in taken):
        made += "_"
    return made


def _result_of(plan: Plan, ran: Ran, sums: Sums) -> Result:
    entries = plan.config.estimates or {}
    estimates = [Estimate(name, entry.regions, entry.factor) for name, entry in entries.items()]
    return plan.conserv.result(
        sums,
        processes=plan.config.processes,
        totals=plan.config.totals,
        estimates=estimates,
        asked=[ran.fileset, ran.chunks],
    )
