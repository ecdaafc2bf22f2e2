"""Generate the simulation and the pseudo-data of the example: parallel, reproducible and cached.

Simulation comes with generator weights of both signs. Pseudo-data is a mixture of the same processes from
another setting of the initial-state shower and with a jet energy scale that is 3 % lower. Both make jets
softer: the means of jet momenta, their sum and the missing momentum are 4 to 6 % lower.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import multiprocessing
import os
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import rich.progress
import uproot

from example_analysis import cache
from example_analysis.detector import reconstruct
from example_analysis.pythia import HARD_PROCESSES, MAX_SEED, XSEC, Setting, particles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ("DATA", "DATA_JET_SCALE", "DEFAULT_EVENTS", "GenerationConfig", "generate")

log = logging.getLogger(__name__)

DATA = "data"
"""Name of the pseudo-data, which is the mixture of all processes."""

DATA_JET_SCALE = 0.97
DEFAULT_EVENTS: dict[str, int] = {"ttbar": 22_000, "WW": 52_000, DATA: 18_000}
DATASETS = (*HARD_PROCESSES, DATA)  # the position is part of the seed
BATCH = 2000  # events per task; starting a generator costs as much as about 150 events
UNSIGNED = {"run": np.uint32, "luminosityBlock": np.uint32, "event": np.uint64}  # as in NanoAOD

Fileset = dict[str, dict[str, Any]]
Columns = dict[str, Any]


def default_jobs() -> int:
    """Return the number of cores, between 1 and 8: more do not pay for the start of their generators."""
    return min(os.cpu_count() or 2, 8)


@dataclass(frozen=True)
class GenerationConfig:
    """What to generate and where.

    Parameters
    ----------
    out
        Folder of the files; made if absent.
    events
        Number of generated events of each dataset: ``ttbar``, ``WW`` and ``data`` (pseudo-data), or some of
        them.
    seed
        Seed of everything.
    jobs
        Number of processes. Does not change the events.
    negative_share
        Share of simulated events with a negative weight, at least 0 and below 0.5.
    mpi
        Simulate multiple parton interactions; about four times slower.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    out: Path
    events: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_EVENTS))
    seed: int = 1
    jobs: int = field(default_factory=default_jobs)
    negative_share: float = 0.1
    mpi: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        for name, number in self.events.items():
            if name not in DATASETS:
                msg = f"unknown process {name!r} in events: choose from {', '.join(DATASETS)}"
                raise ValueError(msg)
            if number < 1:
                msg = f"{number} events asked of {name!r}: ask for at least one, or leave the process out"
                raise ValueError(msg)
        if not self.events:
            msg = f"no events asked: name at least one of {', '.join(DATASETS)} in events"
            raise ValueError(msg)
        if not 0 <= self.negative_share < 0.5:
            msg = f"negative_share is {self.negative_share}: the weights need 0 <= negative_share < 0.5"
            raise ValueError(msg)
        for name, least in (("jobs", 1), ("seed", 0)):
            if getattr(self, name) < least:
                msg = f"{name} is {getattr(self, name)}: give at least {least}"
                raise ValueError(msg)

    @property
    def physics(self) -> dict[str, Any]:
        """Values that decide about the events, for the cache."""
        return {
            "events": {name: int(self.events[name]) for name in DATASETS if name in self.events},
            "seed": self.seed,
            "negative_share": self.negative_share,
            "mpi": self.mpi,
        }


def generate(config: GenerationConfig, *, progress: bool = True) -> Fileset:
    """Generate all datasets, or reuse them if the folder already holds the same configuration.

    The folder gets one ROOT file per dataset with a tree ``Events`` in the layout of NanoAOD,
    ``manifest.json`` (which says that the files are complete) and ``fileset.json`` (the returned value). The
    weight of a simulated event in the analysis is ``genWeight * xsec * lumi / sumw``.

    Parameters
    ----------
    config
        What to generate and where. With more than one job, a script that calls this function needs the usual
        ``if __name__ == "__main__":``, as processes are spawned.
    progress
        Show a progress bar.

    Returns
    -------
    dict
        Fileset of coffea: dataset to ``files`` and ``metadata`` (``is_data``, ``process``, ``xsec`` in pb,
        ``sumw`` and ``lumi`` in 1/pb, that of the pseudo-data or, without it, of its default size).

    Raises
    ------
    ImportError
        If Pythia or FastJet is not installed and there is nothing to reuse.
    RuntimeError
        If a generator process dies.
    """
    stored = cache.load(config.out, config.physics)
    if stored is not None:
        log.info("reuse %s", config.out)
        return stored
    for module in ("pythia8mc", "fastjet"):
        if importlib.util.find_spec(module) is None:
            msg = f"{module} is needed to generate events: pip install 'coffea-conserv[generate]'"
            raise ImportError(msg)
    start = time.monotonic()
    with cache.refill(config.out) as folder:
        sums = _write_all(config, folder, progress=progress)
        fileset = cache.store(folder, config.physics, _metadata(sums))
    log.info("generated %s in %.0f s", config.out, time.monotonic() - start)
    return fileset


@dataclass(frozen=True)
class Sums:
    """Number of events of a dataset and the sum of their weights."""

    events: int = 0
    weight: float = 0.0


@dataclass(frozen=True)
class Task:
    """One batch of events: the unit of work, with its own seeds.

    Parameters
    ----------
    dataset
        Name of the dataset.
    index
        Position of the batch in it; even ones have a positive leptonic W boson, odd ones a negative one.
    first, stop
        Range of events in the dataset.
    seed, negative_share, mpi
        As in :class:`GenerationConfig`.
    """

    dataset: str
    index: int
    first: int
    stop: int
    seed: int
    negative_share: float
    mpi: bool

    def shares(self) -> dict[str, int]:
        """Return the number of events of each hard process in this batch."""
        if self.dataset != DATA:
            return {self.dataset: self.stop - self.first}
        ttbar = XSEC["ttbar"] / sum(XSEC.values())
        number = round(self.stop * ttbar) - round(self.first * ttbar)  # adds up over batches
        return {"ttbar": number, "WW": self.stop - self.first - number}


def tasks(config: GenerationConfig) -> list[Task]:
    """Split all datasets in batches, mixed so that the remaining time can be foreseen.

    Each dataset has an even number of batches, for as many positive as negative leptonic W bosons.
    """
    common = (config.seed, config.negative_share, config.mpi)
    ranked = []
    for dataset, events in config.physics["events"].items():
        number = 2 * math.ceil(events / (2 * BATCH))
        edges = [events * step // number for step in range(number + 1)]
        ranked += [
            ((index + 0.5) / number, Task(dataset, index, edges[index], edges[index + 1], *common))
            for index in range(number)
            if edges[index + 1] > edges[index]
        ]
    return [task for _, task in sorted(ranked, key=lambda item: item[0])]


def run_task(task: Task) -> Columns:
    """Generate one batch and return its columns as they are written; depends on the task alone."""
    sequence = np.random.SeedSequence(task.seed, spawn_key=(DATASETS.index(task.dataset), task.index))
    seeds = 1 + sequence.generate_state(len(HARD_PROCESSES)).astype(np.int64) % MAX_SEED
    rng = np.random.default_rng(sequence.spawn(1)[0])
    is_data = task.dataset == DATA
    charge = 1 if task.index % 2 == 0 else -1
    parts = []
    for (process, events), seed in zip(task.shares().items(), seeds, strict=False):
        if events:
            setting = Setting(process, charge, int(seed), biased=not is_data, wimpy=is_data, mpi=task.mpi)
            scale = DATA_JET_SCALE if is_data else 1.0
            parts += [
                reconstruct(chunk, scale, rng) | {"genWeight": chunk.weight}
                for chunk in particles(setting, events)
            ]
    columns = {name: ak.concatenate([part[name] for part in parts]) for name in parts[0]}
    number = len(columns["genWeight"])
    if is_data:
        order = rng.permutation(number)
        columns = {name: values[order] for name, values in columns.items() if name != "genWeight"}
        columns["Jet"] = ak.with_field(columns["Jet"], 0 * columns["Jet"].hadronFlavour, "hadronFlavour")
    else:
        columns["genWeight"] = signed(ak.to_numpy(columns["genWeight"]), task.negative_share, rng)
    identity = {
        "run": np.full(number, 2 if is_data else 1),
        "luminosityBlock": np.full(number, task.index + 1),
        "event": np.arange(task.first + 1, task.first + number + 1),
    }
    return {name: _narrow(name, values) for name, values in (identity | columns).items()}


def signed(weight: np.ndarray, negative_share: float, rng: np.random.Generator) -> np.ndarray:
    """Emulate the negative weights of next-to-leading-order generators.

    Each event gets a negative sign with probability ``negative_share``, and all weights are divided by
    ``1 - 2 negative_share``: every expected yield stays, its statistical uncertainty grows by that factor.

    Parameters
    ----------
    weight
        Positive weights ``(events,)``.
    negative_share
        Probability of a negative sign, below 0.5.
    rng
        Source of the signs.

    Returns
    -------
    numpy.ndarray
        Weights of both signs ``(events,)``.
    """
    sign = np.where(rng.random(len(weight)) < negative_share, -1.0, 1.0)
    return weight * sign / (1.0 - 2.0 * negative_share)


def _narrow(name: str, values: Any) -> Any:
    """Return values with the types of NanoAOD: float32 and int32, unsigned for the event identity."""
    if name in UNSIGNED:
        return values.astype(UNSIGNED[name])
    if isinstance(values, ak.Array) and values.fields:
        fields = {part: _narrow(part, values[part]) for part in values.fields}
        return ak.zip(fields)
    integer = name in ("charge", "hadronFlavour")
    return ak.values_astype(values, np.int32 if integer else np.float32)


def _results(config: GenerationConfig) -> Iterator[tuple[Task, Columns]]:
    """Yield the batches in the order of the tasks."""
    work = tasks(config)
    if config.jobs == 1:
        yield from ((task, run_task(task)) for task in work)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(config.jobs, len(work)), mp_context=context)
    try:
        yield from zip(work, pool.map(run_task, work), strict=True)
    except BrokenProcessPool as error:
        msg = (
            "a generator process died: it ran out of memory, or the calling script lacks "
            "'if __name__ == \"__main__\":' (jobs=1 needs no other process)"
        )
        raise RuntimeError(msg) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _bar(total: int, *, show: bool) -> Iterator[Any]:
    """Give a function that moves a bar of events forward."""
    bar = rich.progress.Progress(
        rich.progress.TextColumn("generating"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("events"),
        rich.progress.TimeRemainingColumn(),
        disable=not show,
    )
    with bar:
        line = bar.add_task("generating", total=total)
        yield lambda events: bar.advance(line, events)


def _write_all(config: GenerationConfig, folder: Path, *, progress: bool) -> dict[str, Sums]:
    """Write each batch to the file of its dataset; only a few batches are in memory at a time."""
    sums: dict[str, Sums] = {}
    trees: dict[str, Any] = {}
    with ExitStack() as stack:
        advance = stack.enter_context(_bar(sum(config.events.values()), show=progress))
        for task, columns in _results(config):
            if task.dataset not in trees:
                path, same = folder / f"{task.dataset}.root", partial(_identity, config, task.dataset)
                file = stack.enter_context(uproot.recreate(path, uuid_function=same))
                trees[task.dataset] = file.mktree("Events", {k: _type(v) for k, v in columns.items()})
            trees[task.dataset].extend(columns)
            number = len(columns["event"])
            weight = np.asarray(columns.get("genWeight", np.ones(number)), dtype=np.float64)
            old = sums.get(task.dataset, Sums())
            sums[task.dataset] = Sums(old.events + number, old.weight + float(weight.sum()))
            advance(task.stop - task.first)
    return {name: sums[name] for name in DATASETS if name in sums}


def _identity(config: GenerationConfig, dataset: str) -> uuid.UUID:
    """Identity of a file: the seed of the attack comes from it, so that the same events have the same one."""
    return uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([config.physics, dataset], sort_keys=True))


def _type(values: Any) -> Any:
    """Return the type of a branch for uproot."""
    return values.type.content if isinstance(values, ak.Array) else values.dtype


def _metadata(sums: dict[str, Sums]) -> dict[str, dict[str, Any]]:
    """Return what an analysis needs to normalise each dataset."""
    total = sum(XSEC.values())
    lumi = (sums[DATA].events if DATA in sums else DEFAULT_EVENTS[DATA]) / total
    return {
        name: {
            "is_data": name == DATA,
            "process": name,
            "xsec": XSEC.get(name, total),
            "sumw": part.weight,
            "lumi": lumi,
        }
        for name, part in sums.items()
    }
