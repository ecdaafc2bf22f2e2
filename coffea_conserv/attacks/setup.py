"""The solver's problem of a batch: groups, pools, limits and nominal sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.attacks.batch import Batch, context_of, named, network_of
from coffea_conserv.attacks.pools import PooledSample, may_copy
from coffea_conserv.attacks.tables import Binning
from coffea_conserv.attacks.task import Task
from coffea_conserv.features.feature import Feature, blocks
from coffea_conserv.limits.judge import FLOOR_SHARE, opened
from coffea_conserv.limits.measures import RMS_PER_JSD, effective_events, jsd_floor
from coffea_conserv.solvers.caps import Reach
from coffea_conserv.solvers.constraints import (
    BAND,
    FLOOR,
    JSD,
    KS,
    KUIPER,
    RMS,
    Further,
    Limits,
    Totals,
    correlations,
    defined,
)
from coffea_conserv.solvers.problem import Evaluate, Objective, Problem, centre, standard, sum_moments

__all__ = ("Chosen", "make_problem")

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

DRIFT = 0.3
"""Weight of changes of means beside changes of correlations, where samples are to be merged: with 0.1 the
datasets of W + jets just keep the correlation limit together, with 0.3 they use half of it."""

CHUNK_SHARE = 0.3
"""Share of the limit that varying weights may use up in one chunk. The floor falls as chunks are merged while
deviations in one direction do not, so a chunk leaves room."""


class Chosen(NamedTuple):
    """What is attacked of a batch.

    Parameters
    ----------
    group
        Group of each event, −1 if not attacked, shape (events,).
    movable
        Whether it may move, same shape.
    """

    group: Integers
    movable: Booleans


def make_problem(
    batch: Batch,
    task: Task,
    chosen: Chosen,
    models: Sequence[Any],
    direction: str,
    device: torch.device,
    *,
    floor: Floats | None = None,
) -> tuple[Integers, Problem]:
    """Sort the attacked events by group and pool, and put them onto the device.

    Parameters
    ----------
    batch, task
        Events and what is asked for.
    chosen
        Which events are attacked, and which of them may move.
    models
        Loaded models, one or one per fold.
    direction, device
        ``signal`` or ``background``, and where to compute.
    floor
        Content of the bins of the score that must stay, and what is aimed at, in the units of the weights,
        shape (groups, 2, bins); ``None`` if nothing must.

    Returns
    -------
    tuple
        Index of the events of the batch that the problem holds, in its order, and the problem.
    """
    movable = chosen.movable
    sample = PooledSample.make(batch, task, chosen.group, movable)
    rows, x = sample.rows, batch.x[sample.rows]
    mean, spread = centre(x, sample.there, sample.relative, sample.group)

    def put(array: NDArray[Any]) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), device=device)

    moving = np.array([not feature.frozen for feature in task.features])
    block = blocks(task.features)
    context = {name: values[put(rows)] for name, values in context_of(batch, device).items()}
    fold = None if batch.fold is None else batch.fold[rows]
    network = network_of(Batch(x, sample.relative, sample.group, fold), models, device)
    locate = Binning(task, sample.marginals(task), context, device, scored=floor is not None)
    cells = locate.nominal(
        put(x),
        (put(column) for column in sample.bins(batch, task)),
        network(put(x), torch.arange(len(x), device=device)),
    )
    groups, there, weight = put(sample.group), put(sample.there), put(sample.relative)
    z = standard(put(x), there, put(mean), put(spread), groups)
    room = _Room(batch, task, sample, floor)
    limits, totals = _limits(room, _Standard(z, there, weight, groups), cells, locate.size)
    problem = Problem(
        x=put(x),
        there=there,
        free=put((sample.there & moving & movable[rows, None])[:, block].all(axis=2)),
        weight=weight,
        group=groups,
        pool=put(sample.pool),
        mean=put(mean),
        spread=put(spread),
        logit=network,
        valid=_possible(task, context),
        cells=cells,
        locate=locate,
        block=put(block),
        table=locate.of,
        limits=limits,
        totals=totals,
        copies=may_copy(task),
        exact=sample.even and not may_copy(task),
        objective=Objective.make(task.objective, direction, task.points),
        features=task.features,
        held=put(np.array([sample.even and _is_held(task, feature) for feature in task.features])),
        reach=Reach.make(put(x), task.features, task.penalty),
        gradient=network.gradient,
    )
    return rows, problem


def _is_held(task: Task, feature: Feature) -> bool:
    """Whether a marginal must stay as it is."""
    return feature.frozen or task.budget.marginal(feature.name) == 0


def _possible(task: Task, context: dict[str, Tensor]) -> Evaluate | None:
    valid, names = task.valid, [feature.name for feature in task.features]
    if valid is None:
        return None

    def possible(x: Tensor, event: Tensor) -> Tensor:
        with torch.no_grad():
            return valid(named(x, names, context, event)).bool()

    return possible


def _drift(there: Tensor) -> Tensor:
    """Weights of features, so that those which are present in the same events count together as one."""
    present = there.double()
    both = present.T @ present
    own = both.diagonal()
    together = (both == own[:, None]) & (both == own[None, :])
    return DRIFT / torch.sqrt(together.sum(0).double())


class _Room:
    """How far the groups of a batch may move, in the solver's terms."""

    def __init__(self, batch: Batch, task: Task, sample: PooledSample, floor: Floats | None) -> None:
        self.task, self.sample = task, sample
        self.floor = None if floor is None else floor / sample.average[:, None, None]
        count = int(sample.group.max()) + 1
        # Deviations of the two signs can add up in the net sample: each gets the share |net| / sum.
        inside, size = batch.group >= 0, int(batch.group.max()) + 1
        weight, atom = batch.weight[inside], batch.group[inside]
        net, total = np.bincount(atom, weight, size), np.bincount(atom, np.abs(weight), size)
        share = np.divide(net, total, out=np.zeros(size), where=total > 0)
        self.share = share[batch.group[sample.rows][np.unique(sample.group, return_index=True)[1]]]
        self.drifts = task.composes and not (sample.even and not may_copy(task))
        absolute = np.abs(batch.weight[sample.rows])
        sums, squares = (np.bincount(sample.group, w, count) for w in (absolute, absolute**2))
        self.effective = [
            effective_events(float(s), float(q)) for s, q in zip(sums * self.share, squares, strict=True)
        ]

    def correlation(self, nominal: Tensor) -> Floats:
        """Largest Frobenius norm of the change of the correlation matrix, shape (groups,)."""
        d = len(self.task.features)
        norm = np.full(len(self.share), np.sqrt(d))
        if not self.task.composes:
            norm = np.sqrt(d + (nominal**2).sum((1, 2)).cpu().numpy())
        return np.asarray(self.task.budget.correlation_limit * norm * self.share)

    def element(self, drift: Tensor | None) -> Tensor | None:
        """Largest size of each entry of the change of correlations and means, (groups, features, columns).

        Where samples are to be merged, means count as much as they do in the norm, however many features.
        """
        limit, d = self.task.budget.element_limit, len(self.task.features)
        if limit is None:
            return None
        share = torch.as_tensor(self.share)[:, None, None].expand(-1, d, d)
        if drift is None:
            return limit * share
        own = share * (drift.cpu() / DRIFT)
        return limit * torch.cat([share, own, own], dim=2)

    def marginal(self, feature: Feature, occupied: Integers) -> tuple[int, Floats]:
        """Kind and limit of a marginal, shape (groups,); ``occupied``: number of bins with content."""
        limit, kind = self.task.budget.marginal(feature.name), self.task.budget.kind
        if limit > 0:
            factor = RMS_PER_JSD if kind == "jsd" else 1.0
            if self.task.budget.sides(feature.name, feature.axis) is not None:
                limit = 1.0
            return {"rms": RMS, "jsd": JSD, "band": BAND}[kind], limit * factor * self.share
        floors = np.array([jsd_floor(int(b), n) for b, n in zip(occupied, self.effective, strict=True)])
        small = CHUNK_SHARE * FLOOR_SHARE * RMS_PER_JSD * np.where(np.isfinite(floors), floors, 0.0)
        return JSD, small * self.share

    def sides(self, content: Tensor) -> Tensor | None:
        """How far the bins of bands may fall and rise, (groups, 2, tables, bins), in units of the limits."""
        found = np.ones((len(content), 2, *content.shape[1:]))
        asked = False
        for q, j in enumerate(self.sample.marginals(self.task)):
            feature = self.task.features[j]
            sides = self.task.budget.sides(feature.name, feature.axis)
            if sides is None or not sides.any():
                continue
            asked, bins = True, sides.shape[1]
            found[:, :, q, :bins] = sides
            if self.sample.even or sides.all():
                continue
            for g, own in enumerate(content[:, q, :bins].cpu().numpy()):
                found[g, :, q, :bins] = opened(sides, own, self.effective[g], CHUNK_SHARE * FLOOR_SHARE)
        return torch.as_tensor(found, device=content.device) if asked else None

    def further(self) -> Further | None:
        """Further limits on the marginals that can change."""
        budget, sets = self.task.budget, list[tuple[int, int, float]]()
        for q, j in enumerate(self.sample.marginals(self.task)):
            traits = self.task.features[j].axis.traits
            if budget.ks is not None and traits.ordered:
                sets.append((KUIPER if traits.circular else KS, q, float(budget.ks)))
            if budget.chi2 is not None:
                sets.append((RMS, q, budget.chi2.rms))
        if not sets:
            return None
        kind, table, limit = (torch.tensor(part) for part in zip(*sets, strict=True))
        return Further(kind, table, torch.as_tensor(self.share)[:, None] * limit.double())

    def tables(self, content: Tensor) -> tuple[list[int], Floats]:
        """Kind of each table, and limits of shape (groups, tables)."""
        marginals = [self.task.features[j] for j in self.sample.marginals(self.task)]
        occupied = (content[..., :-1] > 0).sum(-1).cpu().numpy()
        found = [self.marginal(feature, occupied[:, q]) for q, feature in enumerate(marginals)]
        found += [(JSD, self.task.budget.watch * self.share)] * len(self.task.watched)
        if self.floor is not None:
            found.append((FLOOR, np.ones(len(self.share))))
        limits = np.stack([limit for _, limit in found], axis=1) if found else np.zeros((len(self.share), 0))
        return [kind for kind, _ in found], limits


class _Standard(NamedTuple):
    """Standardised features of events, which are present, weights and groups."""

    z: Tensor
    there: Tensor
    weight: Tensor
    group: Tensor


def _limits(room: _Room, events: _Standard, cells: Tensor, size: int) -> tuple[Limits, Totals]:
    """Limits and nominal sums of all groups."""
    z, there, weight, group = events
    n, first, second, cross = sum_moments(z, there, weight, group)
    groups, tables = len(n), cells.shape[1]
    contents = [torch.bincount(group * size + cells[:, q], weight, groups * size) for q in range(tables)]
    content = z.new_zeros((groups, tables, size), dtype=torch.float64)
    for q, column in enumerate(contents):
        content[:, q] = column.view(groups, size)
    totals = Totals(first, second, cross, content)
    good = defined(totals, n)
    nominal = correlations(totals, n, good)
    kinds, allowed = room.tables(content)
    device = z.device
    floor = None
    if room.floor is not None:
        floor = torch.zeros((groups, 2, size), dtype=torch.float64, device=device)
        floor[..., : room.floor.shape[-1]] = torch.as_tensor(room.floor, device=device)
    drift, further = _drift(there) if room.drifts else None, room.further()
    element = room.element(drift)
    if further is not None:
        further = Further(*(part.to(device) for part in (further.kind, further.table, further.limit)))
    limits = Limits(
        weight=n,
        nominal=nominal,
        good=good,
        correlation=torch.as_tensor(room.correlation(nominal), device=device),
        origin=totals,
        drift=drift,
        reference=content,
        table=torch.as_tensor(allowed, device=device),
        kind=torch.tensor(kinds, dtype=torch.long, device=device),
        events=torch.bincount(group, minlength=groups).double(),
        total=torch.bincount(group, weight, groups),
        floor=floor,
        sides=room.sides(content),
        element=None if element is None else element.to(device),
        further=further,
    )
    return limits, totals
