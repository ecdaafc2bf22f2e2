"""Engine: a solver's problem out of arrays and back, with the judge on what is returned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.attacks.batch import Batch, ScorePair, scores
from coffea_conserv.attacks.event_rules import movable_events, obeying
from coffea_conserv.attacks.judging import judge_groups
from coffea_conserv.attacks.negative_weights import by_sign, floors, parts
from coffea_conserv.attacks.setup import Chosen, make_problem
from coffea_conserv.attacks.task import Task
from coffea_conserv.limits.verdict import REASONS, Limit
from coffea_conserv.models.device import one_thread
from coffea_conserv.solvers.problem import Problem
from coffea_conserv.solvers.protocol import solve

__all__ = ("Outcome", "perturb", "propose", "signed_scores", "within_limits")

logger = logging.getLogger(__name__)

Move = Callable[[Problem], Tensor]
"""Gives features for the events of a problem, shape (events, features)."""

SMALLEST_GROUP = 20
"""Groups with fewer movable events stay nominal: a single exchange would use up their limits."""


_FEW, _WEIGHTLESS, _BROKEN, _GAINLESS = range(1, len(REASONS) + 1)


@dataclass(frozen=True)
class Outcome:
    """What a direction of the attack gave.

    Parameters
    ----------
    x
        Attacked features, shape (events, features).
    reason
        Why events of groups stayed nominal, shape (events,), see
        :data:`coffea_conserv.limits.verdict.REASONS`; 0 where they did not.
    limits
        Every limit in every group, judged on these features; ``None`` where nobody has judged them.
    """

    x: NDArray[np.float32]
    reason: NDArray[np.int8]
    limits: tuple[Limit, ...] | None = None

    @property
    def unattacked(self) -> NDArray[np.bool_]:
        """Events of groups that stayed nominal, shape (events,)."""
        return np.asarray(self.reason > 0)


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

    def solved(problem: Problem) -> Tensor:
        return solve(problem, task.solver, seed).x

    moved = propose(batch, task, models, direction, device, solved)
    return within_limits(batch, task, models, moved, device)


def propose(
    batch: Batch, task: Task, models: Sequence[Any], direction: str, device: torch.device, move: Move
) -> Outcome:
    """Let somebody move the events of a chunk; nobody has judged the sample that is returned.

    Every single event is as it may be: one that is not, because the mover does as it likes, is nominal again.

    Parameters
    ----------
    batch, task
        Events and settings.
    models
        Loaded models, one or one per fold.
    direction, device
        ``signal`` or ``background``, and where to compute.
    move
        Gets the problem of the groups that can be attacked, and returns the features of its events.
    """
    batch = _numbered(batch)
    movable = movable_events(batch, task)
    group, reason = _usable_groups(batch, movable)
    attacked = group >= 0
    if task.budget.frozen or not attacked.any():
        return Outcome(batch.x.copy(), np.zeros_like(reason) if task.budget.frozen else reason)
    x = batch.x.copy()
    for part in parts(group):
        floor = None
        if not (batch.weight[part >= 0] < 0).any():  # negative weights move first, and freely
            signed = signed_scores(batch, x, models, device)
            floor = None if signed is None else floors(batch, part, signed, task.score_edges)
        chosen = Chosen(part, movable)
        rows, problem = make_problem(batch, task, chosen, models, direction, device, floor=floor)
        with one_thread():
            x[rows] = move(problem).cpu().numpy()
        fine = obeying(batch, task, x, movable, device)
        if not fine.all():
            logger.warning("%d events stay nominal: moved as they must not be", (~fine).sum())
            x[~fine] = batch.x[~fine]
    still = attacked & ~_in_motion(group, (batch.x != x) & ~(np.isnan(batch.x) & np.isnan(x)))
    if still.any():
        logger.info("%d events stay nominal: nothing better was found within the limits", still.sum())
    return Outcome(x, np.where(still, np.int8(_GAINLESS), reason))


def _numbered(batch: Batch) -> Batch:
    """Events with groups numbered from 0 on: the number of a user is a name, and may be a large one."""
    names, number = np.unique(batch.group, return_inverse=True)
    first = int((names < 0).any())
    return replace(batch, group=number.reshape(-1).astype(np.int64) - first)


def _in_motion(group: NDArray[np.int64], changed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Events of groups in which any value changed, shape (events,) from (events, features)."""
    some = np.unique(group[changed.any(axis=1)])
    return np.isin(group, some[some >= 0])


def within_limits(
    batch: Batch, task: Task, models: Sequence[Any], moved: Outcome, device: torch.device
) -> Outcome:
    """Judge what was moved; a group that is outside of a limit is nominal and counts as unattacked."""
    if task.budget.frozen or moved.unattacked[batch.group >= 0].all():  # nothing was moved
        return moved
    x = moved.x.copy()
    limits = judge_groups(batch, task, x, signed_scores(batch, x, models, device))
    broken = sorted({int(limit.group.name) for limit in limits if not limit.passed})
    failed = np.isin(batch.group, broken)
    if broken:
        logger.info("%d events of %d groups stay nominal: limits not kept", failed.sum(), len(broken))
        x[failed] = batch.x[failed]
    reason = np.where((batch.group >= 0) & failed & ~moved.unattacked, np.int8(_BROKEN), moved.reason)
    return Outcome(x, reason, None if broken else limits)


class _Usable(NamedTuple):
    """Groups split by the sign of the weight, −1 where they cannot be attacked, and why not."""

    group: NDArray[np.int64]
    reason: NDArray[np.int8]


def _usable_groups(batch: Batch, movable: NDArray[np.bool_]) -> _Usable:
    """Leave out groups that are small or without a positive net sum."""
    code = by_sign(batch.group, batch.weight)
    reason = np.zeros(len(code), dtype=np.int8)
    if not (code >= 0).any():
        return _Usable(code, reason)
    inside = batch.group >= 0
    net = np.bincount(batch.group[inside], batch.weight[inside])
    many = np.bincount(code[inside & movable], minlength=2 * len(net))
    reason[inside & (many[code] < SMALLEST_GROUP)] = _FEW
    reason[inside & ~(net[batch.group] > 0)] = _WEIGHTLESS
    return _Usable(np.where(inside & (reason == 0), code, -1), reason)


def signed_scores(
    batch: Batch, x: NDArray[np.float32], models: Sequence[Any], device: torch.device
) -> ScorePair | None:
    """Nominal and attacked scores if weights have both signs, else ``None``: nothing needs them then."""
    if not (batch.weight < 0).any():
        return None
    return ScorePair(scores(batch, models, batch.x, device), scores(batch, models, x, device))
