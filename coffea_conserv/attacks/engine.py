"""From arrays to a solver's problem and back: groups, pools, limits, and the judge on what is returned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.attacks.loop import solve
from coffea_conserv.attacks.model import Network, one_thread
from coffea_conserv.attacks.problem import BAND, JSD, RMS, Objective, Problem, Tables
from coffea_conserv.attacks.transport import Transport
from coffea_conserv.budget import Budget
from coffea_conserv.features import Feature, Watched, flow_index, present, scale
from coffea_conserv.measures import RMS_PER_JSD, correlation, effective_events, jsd_floor, pair_sums
from coffea_conserv.verdict import FLOOR_SHARE, Contents, Limit, judge

__all__ = ("Batch", "Outcome", "Task", "judge_groups", "perturb", "scores", "watched_values")

logger = logging.getLogger(__name__)

SMALLEST_GROUP = 20
"""Groups with fewer movable events stay nominal: a single exchange would use up their limits."""

MOST_STRATA = 100
SMALLEST_STRATUM = 50
CHUNK_SHARE = 0.3
"""Share of the limit that varying weights may use up in one chunk. The floor falls as chunks are merged while
deviations in one direction do not, so a chunk leaves room."""


@dataclass(frozen=True)
class Batch:
    """Events of one chunk.

    Parameters
    ----------
    x
        Features, shape (events, features), float32.
    weight
        Shape (events,), any sign.
    group
        Group in which limits hold, shape (events,); −1: not attacked.
    fold
        Fold of each event, or ``None``.
    context
        Further columns for ``valid`` and ``watch``, shape (events,) each.
    """

    x: NDArray[np.float32]
    weight: NDArray[np.float64]
    group: NDArray[np.int64]
    fold: NDArray[np.int64] | None = None
    context: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What is attacked and how far it may move.

    Parameters
    ----------
    features, watched
        Columns of ``x``, and quantities derived from them.
    budget
        The limits.
    objective
        ``score`` or ``cross``.
    working_point
        Score in 0 … 1.
    valid
        Torch function of a dict name → tensor (events,); returns booleans.
    solver
        Settings of the solver.
    composes
        ``True``: limits are to hold also for every union of groups, so that the correlation limit is taken
        relative to the smallest norm that a correlation matrix can have.
    """

    features: tuple[Feature, ...]
    watched: tuple[Watched, ...]
    budget: Budget
    objective: str = "score"
    working_point: float = 0.5
    valid: Callable[[dict[str, Tensor]], Tensor] | None = None
    solver: Transport = field(default_factory=Transport)
    composes: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a direction of the attack gave.

    Parameters
    ----------
    x
        Attacked features, shape (events, features).
    unattacked
        Events of groups that stayed nominal, shape (events,).
    """

    x: NDArray[np.float32]
    unattacked: NDArray[np.bool_]


def named(x: Tensor, names: Sequence[str], context: Mapping[str, Tensor], event: Tensor) -> dict[str, Tensor]:
    """Columns of candidates by name, with the context of their events."""
    columns = dict(zip(names, x.unbind(1), strict=True))
    columns.update({name: values[event] for name, values in context.items()})
    return columns


def _context(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    return {name: torch.as_tensor(np.array(values), device=device) for name, values in batch.context.items()}


def watched_values(batch: Batch, task: Task, x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Watched quantities of given features, shape (events,) each."""
    names = [feature.name for feature in task.features]
    device = torch.device("cpu")
    tensor, event = torch.from_numpy(np.ascontiguousarray(x)), torch.arange(len(x))
    with torch.no_grad():
        columns = named(tensor, names, _context(batch, device), event)
        return {watched.name: watched.function(columns).numpy().reshape(-1) for watched in task.watched}


def scores(
    batch: Batch, models: Sequence[Any], x: NDArray[np.float32], device: torch.device
) -> NDArray[np.float32]:
    """Score sigmoid(logit) of given features, shape (events,)."""
    network = _network(batch, models, device)
    tensor = torch.from_numpy(np.ascontiguousarray(x)).to(device)
    with torch.no_grad(), one_thread():
        logit = network(tensor, torch.arange(len(x), device=device))
    values: NDArray[np.float32] = torch.sigmoid(logit).cpu().numpy().astype(np.float32)
    return values


def _network(batch: Batch, models: Sequence[Any], device: torch.device) -> Network:
    fold = None if batch.fold is None else torch.as_tensor(np.array(batch.fold), device=device)
    return Network(tuple(models), fold)


def perturb(
    batch: Batch, task: Task, models: Sequence[Any], direction: str, seed: int, device: torch.device
) -> Outcome:
    """Attack the events of a chunk in one direction.

    Parameters
    ----------
    batch, task
        Events and settings.
    models
        Loaded models, one or one per fold.
    direction
        ``signal`` or ``background``.
    seed
        Of the random generator.
    device
        Where to compute.

    Returns
    -------
    Outcome
        Every group is within its limits, judged on what is returned; a group for which that failed, or that
        is too small, is nominal.
    """
    movable = _movable(batch, task)
    group = _usable_groups(batch, movable)
    attacked = group >= 0
    if task.budget.frozen or not attacked.any():
        return Outcome(batch.x.copy(), (batch.group >= 0) & ~attacked & (not task.budget.frozen))
    rows, problem = _problem(batch, task, (group, movable), models, (direction, device))
    with one_thread():
        best = solve(problem, task.solver, seed)
    x = batch.x.copy()
    x[rows] = best.x.cpu().numpy()
    broken = [limit.group for limit in judge_groups(batch, task, x) if not limit.passed]
    failed = np.isin(batch.group.astype(str), broken)
    if failed.any():
        logger.info("%d events of %d groups stay nominal: limits not kept", failed.sum(), len(set(broken)))
        x[failed] = batch.x[failed]
    return Outcome(x, (batch.group >= 0) & (~attacked | failed))


def _movable(batch: Batch, task: Task) -> NDArray[np.bool_]:
    """Events that are possible as they are, and so may move: valid, inside of every range, with a weight."""
    movable = (batch.group >= 0) & (batch.weight != 0)
    for j, feature in enumerate(task.features):
        column = batch.x[:, j]
        there = present(feature, column)
        low = -np.inf if feature.low is None else feature.low
        high = np.inf if feature.high is None else feature.high
        movable &= ~there | ((column >= low) & (column <= high))
    if task.valid is not None and len(batch.x):
        names = [feature.name for feature in task.features]
        columns = named(
            torch.from_numpy(batch.x), names, _context(batch, torch.device("cpu")), torch.arange(len(batch.x))
        )
        with torch.no_grad():
            movable &= task.valid(columns).numpy().astype(bool)
    return np.asarray(movable)


def _usable_groups(batch: Batch, movable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Groups split by the sign of the weight, 0 … n − 1; −1 if small or without a positive net sum."""
    code = np.where(batch.group >= 0, batch.group * 2 + (batch.weight < 0), -1)
    group = np.full(len(code), -1, dtype=np.int64)
    count = 0
    for value in np.unique(code[code >= 0]):
        inside = code == value
        net = batch.weight[batch.group == value // 2].sum()
        if net > 0 and (inside & movable).sum() >= SMALLEST_GROUP:
            group[inside] = count
            count += 1
    return group


def _problem(
    batch: Batch,
    task: Task,
    which: tuple[NDArray[np.int64], NDArray[np.bool_]],
    models: Sequence[Any],
    where: tuple[str, torch.device],
) -> tuple[NDArray[np.int64], Problem]:
    """Sort the attacked events by group and pool, and put them onto the device."""
    (group, movable), (direction, device) = which, where
    moving = np.array([not feature.frozen for feature in task.features])
    there = np.stack([present(f, batch.x[:, j]) for j, f in enumerate(task.features)], axis=1)
    pool = _pools(batch, group, there, movable)
    rows = np.flatnonzero(group >= 0)
    rows = rows[np.argsort(pool[rows], kind="stable")]
    weight = np.abs(batch.weight[rows])
    mean = np.bincount(group[rows], weight) / np.bincount(group[rows])
    relative = weight / mean[group[rows]]
    bins = np.stack([flow_index(f.axis, batch.x[rows, j]) for j, f in enumerate(task.features)], axis=1)

    def put(array: NDArray[Any]) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), device=device)

    context = {name: values[put(rows)] for name, values in _context(batch, device).items()}
    names = [feature.name for feature in task.features]
    network = _network(
        Batch(batch.x[rows], weight, rows, None if batch.fold is None else batch.fold[rows]), models, device
    )
    valid = task.valid

    def possible(x: Tensor, event: Tensor) -> Tensor:
        assert valid is not None  # noqa: S101 -- passed on only where there is one
        with torch.no_grad():
            return valid(named(x, names, context, event)).bool()

    limits = _Limits(batch, task, group, rows)
    tables = _tables(
        task, limits, (put(bins), put(group[rows]), put(relative)), (put(batch.x[rows]), context)
    )
    wp = task.working_point
    problem = Problem(
        x=put(batch.x[rows]),
        bins=put(bins),
        there=put(there[rows]),
        free=put(there[rows] & moving & movable[rows, None]),
        weight=put(relative.astype(np.float32)),
        group=put(group[rows]),
        pool=put(np.unique(pool[rows], return_inverse=True)[1].astype(np.int64)),
        logit=network,
        valid=None if valid is None else possible,
        correlation=put(limits.correlation().astype(np.float32)),
        tables=tables,
        copies=limits.copies,
        objective=Objective(
            task.objective, 1.0 if direction == "signal" else -1.0, float(np.log(wp / (1 - wp)))
        ),
    )
    return rows, problem


def _pools(
    batch: Batch, group: NDArray[np.int64], there: NDArray[np.bool_], movable: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Events of one group, weight stratum and pattern of missing values; the immovable ones apart.

    Pools ascend with the group.
    """
    pattern = np.unique(np.column_stack([there, movable]), axis=0, return_inverse=True)[1].reshape(-1)
    stratum = np.zeros(len(group), dtype=np.int64)
    for value in np.unique(group[group >= 0]):
        inside = group == value
        stratum[inside] = _strata(np.abs(batch.weight[inside]))
    keys = np.column_stack([group, pattern, stratum])
    pool: NDArray[np.int64] = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return pool


def _strata(weight: NDArray[np.float64]) -> NDArray[np.int64]:
    """Strata of nearly equal weight: one per value where there are few values, else quantiles."""
    values, index = np.unique(np.round(weight / weight.mean(), 6), return_inverse=True)
    if len(values) <= MOST_STRATA:
        return index.reshape(-1).astype(np.int64)
    count = int(np.clip(len(weight) // SMALLEST_STRATUM, 1, MOST_STRATA))
    order = np.argsort(np.argsort(weight, kind="stable"), kind="stable")
    return (order * count // len(weight)).astype(np.int64)


class _Limits:
    """Limits of the groups of a batch in the solver's terms."""

    def __init__(self, batch: Batch, task: Task, group: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        self.batch, self.task, self.group, self.rows = batch, task, group[rows], rows
        self.count = int(self.group.max()) + 1
        self.moving = [f for f in task.features if not f.frozen]
        # Deviations of the two signs can add up in the net sample: each gets the share |net| / sum.
        weight, atom = batch.weight[rows], batch.group[rows]
        size = int(batch.group.max()) + 1
        net, total = np.bincount(atom, weight, size), np.bincount(atom, np.abs(weight), size)
        share = np.divide(net, total, out=np.zeros(size), where=total > 0)
        first = np.unique(self.group, return_index=True)[1]
        self.share = share[atom[first]]
        self.copies = any(task.budget.marginal(f.name) > 0 for f in self.moving)
        absolute = np.abs(weight)
        events, sums, squares = (
            np.bincount(self.group, w, self.count) for w in (np.ones(len(rows)), absolute, absolute**2)
        )
        self.varying = ~np.isclose(sums**2, events * squares, rtol=1e-6)
        self.effective = effective_all(sums * self.share, squares)

    def correlation(self) -> NDArray[np.float64]:
        """Largest Frobenius norm of the change of the correlation matrix, shape (groups,)."""
        d = len(self.task.features)
        norm = np.full(self.count, np.sqrt(d))
        if not self.task.composes:
            for g in range(self.count):
                norm[g] = np.linalg.norm(
                    _nominal_correlation(self.batch, self.task, self.rows[self.group == g])
                )
        return np.asarray(self.task.budget.correlation * norm * self.share)

    def feature(self, feature: Feature, occupied: NDArray[np.int64]) -> tuple[int, NDArray[np.float64]]:
        """Kind and limit of the marginal of a feature, shape (groups,); ``occupied``: bins with content."""
        limit, kind = self.task.budget.marginal(feature.name), self.task.budget.kind
        if limit > 0:
            factor = RMS_PER_JSD if kind == "jsd" else 1.0
            return {"rms": RMS, "jsd": JSD, "band": BAND}[kind], limit * factor * self.share
        floors = np.array([jsd_floor(int(b), n) for b, n in zip(occupied, self.effective, strict=True)])
        small = CHUNK_SHARE * FLOOR_SHARE * RMS_PER_JSD * np.where(np.isfinite(floors), floors, 0.0)
        return JSD, small * self.share


def effective_all(sums: NDArray[Any], squares: NDArray[Any]) -> list[float]:
    """Effective numbers of events of several groups."""
    return [effective_events(float(s), float(q)) for s, q in zip(sums, squares, strict=True)]


def _tables(
    task: Task,
    limits: _Limits,
    sums: tuple[Tensor, Tensor, Tensor],
    columns: tuple[Tensor, dict[str, Tensor]],
) -> Tables | None:
    """Histograms to be limited: watched quantities; features where values are copied or weights vary."""
    (bins, group, weight), (x, context) = sums, columns
    marginals = [
        j
        for j, f in enumerate(task.features)
        if not f.frozen and (limits.copies or bool(limits.varying.any()))
    ]
    quantities: list[Feature | Watched] = [task.features[j] for j in marginals] + list(task.watched)
    if not quantities:
        return None
    size = max(q.axis.extent for q in quantities) + 1
    locate = _Locate(task, marginals, size, context, x.device)
    cells = locate(x, bins, torch.arange(len(x), device=x.device))
    groups, count = limits.count, len(quantities)
    flat = (group[:, None] * count + torch.arange(count, device=x.device)) * size + cells
    content = torch.bincount(
        flat.reshape(-1), weight[:, None].expand(cells.shape).reshape(-1), groups * count * size
    )
    content = content.reshape(groups, count, size).to(torch.float64)
    kinds, allowed = [], []
    for q, quantity in enumerate(quantities):
        if isinstance(quantity, Watched):
            kind, limit = JSD, task.budget.watch * limits.share
        else:
            occupied = (content[:, q, :-1] > 0).sum(1).cpu().numpy()
            kind, limit = limits.feature(quantity, occupied)
        kinds.append(kind)
        allowed.append(limit)
    return Tables(
        locate,
        content.float(),
        torch.as_tensor(np.stack(allowed, axis=1).astype(np.float32), device=x.device),
        torch.tensor(kinds, device=x.device),
    )


class _Locate:
    """Bins of the limited quantities of candidates; the last bin means "not there"."""

    def __init__(
        self, task: Task, marginals: list[int], size: int, context: dict[str, Tensor], device: torch.device
    ) -> None:
        self.task, self.marginals, self.last, self.context = task, marginals, size - 1, context
        self.names = [feature.name for feature in task.features]
        self.missing = [task.features[j].missing_values for j in marginals]
        self.edges = [
            (
                torch.as_tensor(np.asarray(w.axis.edges, dtype=np.float64), device=device),
                int(w.axis.traits.underflow),
            )
            for w in task.watched
        ]

    def __call__(self, x: Tensor, bins: Tensor, event: Tensor) -> Tensor:
        cells = []
        for j, missing in zip(self.marginals, self.missing, strict=True):
            cell = bins[:, j]
            for value in missing:
                absent = torch.isnan(x[:, j]) if value != value else x[:, j] == value  # noqa: PLR0124 -- NaN
                cell = torch.where(absent, self.last, cell)
            cells.append(cell)
        if self.task.watched:
            with torch.no_grad():
                columns = named(x, self.names, self.context, event)
                for watched, (edges, underflow) in zip(self.task.watched, self.edges, strict=True):
                    value = watched.function(columns).reshape(-1).double()
                    cell = torch.bucketize(value, edges, right=True) - 1 + underflow
                    cell = torch.where(torch.isnan(value), self.last, cell.clamp(0, watched.axis.extent - 1))
                    cells.append(cell)
        return torch.stack(cells, dim=1)


def _nominal_correlation(batch: Batch, task: Task, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    z, there = _standard(task.features, batch.x[rows])
    return correlation(pair_sums(z, there, np.abs(batch.weight[rows])))


def _standard(
    quantities: Sequence[Feature | Watched], x: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Columns about the centre of their axes, and which values are there."""
    there = np.stack([present(q, x[:, j]) for j, q in enumerate(quantities)], axis=1)
    origin, unit = np.array([scale(q.axis) for q in quantities]).T
    return (np.where(there, x, origin) - origin) / unit, there


def judge_groups(batch: Batch, task: Task, x: NDArray[np.float32]) -> tuple[Limit, ...]:
    """Judge attacked features against the budget in every group, in double precision.

    Parameters
    ----------
    batch, task
        Nominal events and settings. Groups are those of the batch, both signs of the weight together.
    x
        Attacked features, shape (events, features).
    """
    quantities: tuple[Feature | Watched, ...] = (*task.features, *task.watched)
    stacks = []
    for features in (batch.x, x):
        watched = watched_values(batch, task, features) if task.watched else {}
        stacks.append(np.column_stack([features, *watched.values()]).astype(np.float64))
    limits: list[Limit] = []
    for value in np.unique(batch.group[batch.group >= 0]):
        inside = batch.group == value
        contents = _contents(quantities, batch.weight[inside], [stack[inside] for stack in stacks])
        if contents.sum_w > 0:
            limits.extend(judge(str(value), contents, task.budget, task.features, task.watched))
    return tuple(limits)


def _contents(
    quantities: Sequence[Feature | Watched], weight: NDArray[np.float64], stacks: list[NDArray[np.float64]]
) -> Contents:
    histograms = {}
    for j, q in enumerate(quantities):
        pair = []
        for stack in stacks:
            there = present(q, stack[:, j].astype(np.float32))
            index = flow_index(q.axis, stack[there, j])
            pair.append(np.bincount(index, weight[there], q.axis.extent).astype(np.float64))
        histograms[q.name] = (pair[0], pair[1])
    sums = [pair_sums(*_standard(quantities, stack), weight) for stack in stacks]
    total = (weight.sum(), np.abs(weight).sum(), (weight**2).sum())
    return Contents(histograms, sums[0], sums[1], len(weight), *(float(value) for value in total))
