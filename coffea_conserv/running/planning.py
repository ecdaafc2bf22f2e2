"""Plan of a run ahead of it, from a few events of each dataset: sizes, floors, cost and memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from coffea_conserv.group import Group
from coffea_conserv.limits.budget import Budget
from coffea_conserv.limits.noise import Floors
from coffea_conserv.limits.statistics import Statistics
from coffea_conserv.running.outlook import SENSIBLE, Cost, ExpectedGroup, Outlook
from coffea_conserv.running.plan import Plan
from coffea_conserv.running.runs import Fileset, Where, chunks_of, execute
from coffea_conserv.sums.sums import COUNTS, Sums

__all__ = ("look_ahead",)


def look_ahead(
    plan: Plan, fileset: Fileset, *, sample: int = 10_000, tell: Callable[[str], None] = lambda _: None
) -> Outlook:
    """Read a few events of each dataset, without and with the attack.

    Parameters
    ----------
    plan, fileset
        What is to be run.
    sample
        Events of each dataset that are read at most.
    tell
        Gets a text before each part.
    """
    tell("opening the files")
    opened: dict[Any, Any] = {}
    chunks = chunks_of(plan, fileset, metadata_cache=opened)
    datasets: dict[str, tuple[int, int]] = {}
    for chunk in chunks:
        events, count = datasets.get(chunk.dataset, (0, 0))
        size = int(chunk.entrystop - chunk.entrystart)
        datasets[chunk.dataset] = (events + size, count + 1)
    size = min(sample, plan.config.chunksize)
    few = _few(chunks_of(plan, fileset, size, metadata_cache=opened))
    read = {chunk.dataset: int(chunk.entrystop - chunk.entrystart) for chunk in few}
    tell("the analysis on a few events of each dataset")
    attacked = replace(plan, conserv=replace(plan.conserv, keep=None))
    no_move = replace(plan.conserv.budget, move=0)
    still = replace(attacked, conserv=replace(attacked.conserv, budget=no_move))
    first, alone = _timed(still, few)
    tell("the attack on the same events")
    _, both = _timed(attacked, few)
    total = sum(events for events, _ in datasets.values())
    tried = sum(read.values())
    cost = Cost(
        both * total / max(tried, 1),
        max(both - alone, 0.0) / both,
        _memory(),
        tried,
        sum(len(handle.payload) for handle in plan.conserv.handles),
    )
    budget = plan.conserv.budget
    statistics = {row.group: row for row in still.conserv.result(first).statistics}
    groups = _groups(
        first,
        statistics,
        datasets=datasets,
        read=read,
        budget=budget,
        features=len(plan.conserv.features),
    )
    return Outlook(plan.conserv.config, datasets, budget, groups, cost)


def _few(chunks: Sequence[Any]) -> list[Any]:
    """One chunk of each dataset, the largest."""
    best: dict[str, Any] = {}
    for chunk in chunks:
        size = chunk.entrystop - chunk.entrystart
        old = best.get(chunk.dataset)
        if old is None or size > old.entrystop - old.entrystart:
            best[chunk.dataset] = chunk
    return list(best.values())


def _timed(plan: Plan, chunks: Sequence[Any]) -> tuple[Sums, float]:
    start = time.perf_counter()
    ran = execute(plan, chunks, Where(), lambda _: None)
    return next(iter(ran.sums.values())), time.perf_counter() - start


def _memory() -> int:
    """Largest memory of this process [bytes]."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _groups(
    sums: Sums,
    statistics: Mapping[Group, Statistics],
    *,
    datasets: Mapping[str, tuple[int, int]],
    read: Mapping[str, int],
    budget: Budget,
    features: int,
) -> tuple[ExpectedGroup, ...]:
    """Scale up what was read."""
    made = []
    for (dataset, region, variation), values in sorted(sums.counts.items()):
        if variation != "nominal" or sums.real.get(dataset):
            continue
        counts = dict(zip(COUNTS, np.asarray(values).tolist(), strict=True))
        total, chunks = datasets[dataset]
        scale = total / read[dataset] if total else 0.0
        row = statistics.get(Group(dataset, "dataset", region))
        effective = (row.effective_events if row else 0.0) * scale
        floors = Floors(effective, row.bins if row else 1, features)
        events = counts["events"] * scale
        share = counts["events"] / read[dataset] if total else 0.0
        negative = row.negative_share if row else 0.0
        below = tuple(budget.below(floors)) if effective > 0 else ()
        chunk = min(SENSIBLE / share, total) if share > 0 else float(total)
        made.append(
            ExpectedGroup(dataset, region, events, effective, events / chunks, negative, floors, below, chunk)
        )
    return tuple(made)
