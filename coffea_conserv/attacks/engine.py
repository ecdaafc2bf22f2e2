"""From arrays to a solver's problem and back, with the judge on what is returned."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coffea_conserv.attacks.batch import Batch, Task, possible
from coffea_conserv.attacks.judging import judge_groups
from coffea_conserv.attacks.loop import solve
from coffea_conserv.attacks.network import one_thread
from coffea_conserv.attacks.setup import make_problem
from coffea_conserv.features import present

__all__ = ("Outcome", "perturb")

logger = logging.getLogger(__name__)

SMALLEST_GROUP = 20
"""Groups with fewer movable events stay nominal: a single exchange would use up their limits."""


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
    rows, problem = make_problem(batch, task, (group, movable), models, (direction, device))
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
    return np.asarray(movable & possible(batch, task))


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
