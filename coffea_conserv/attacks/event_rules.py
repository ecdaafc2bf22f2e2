"""Rules that every returned event obeys, regardless of who moved it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from coffea_conserv.attacks.batch import Batch
from coffea_conserv.attacks.functions import possible
from coffea_conserv.attacks.task import Task
from coffea_conserv.features.feature import Feature, present
from coffea_conserv.limits.displacement import within

__all__ = ("movable_events", "obeying")

Booleans = NDArray[np.bool_]
Values = NDArray[np.float32]


def movable_events(batch: Batch, task: Task) -> Booleans:
    """Events that may move: chosen, and possible as they are, valid, inside of every range, with a weight."""
    movable = (batch.group >= 0) & (batch.weight != 0)
    if batch.chosen is not None:
        movable &= batch.chosen
    for j, feature in enumerate(task.features):
        column = batch.x[:, j]
        movable &= ~present(feature, column) | _inside(feature, column)
    return np.asarray(movable & possible(batch, task))


def obeying(batch: Batch, task: Task, x: Values, movable: Booleans, device: torch.device) -> Booleans:
    """Events that are as they were, or moved as they may.

    What moved is free and present, still a number inside of the physical range, whole where the axis is one
    of integers, and within its caps; the event may move, and it is ``valid``.

    Parameters
    ----------
    batch, task
        Nominal events and settings.
    x
        Attacked features, shape (events, features).
    movable
        Which events may move, shape (events,).
    device
        Where ``valid`` is computed.
    """
    moved = (x != batch.x) & ~(np.isnan(x) & np.isnan(batch.x))
    some = moved.any(axis=1)
    fine = movable | ~some
    for j, feature in enumerate(task.features):
        rows = np.flatnonzero(moved[:, j])
        fine[rows] &= _value_obeys(feature, batch.x[rows, j], x[rows, j])
    if some.any():
        fine &= ~some | possible(batch, task, x, device)
    return np.asarray(fine)


def _value_obeys(feature: Feature, before: Values, after: Values) -> Booleans:
    fine = present(feature, before) & present(feature, after) & np.isfinite(after)
    if not feature.axis.traits.continuous:
        fine &= after == np.floor(after)
    return np.asarray(fine & (not feature.frozen) & _inside(feature, after) & within(feature, before, after))


def _inside(feature: Feature, column: Values) -> Booleans:
    """Values inside of the physical range."""
    low = -np.inf if feature.low is None else feature.low
    high = np.inf if feature.high is None else feature.high
    return np.asarray((column >= low) & (column <= high))
