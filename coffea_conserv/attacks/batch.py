"""Events of a chunk, what is asked for, and what needs no solver: scores and watched values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.attacks.model import Network, one_thread
from coffea_conserv.attacks.transport import Transport
from coffea_conserv.budget import Budget
from coffea_conserv.features import Feature, Watched

__all__ = ("Batch", "Task", "context_of", "named", "network_of", "scores", "watched_values")

_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


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


def named(x: Tensor, names: Sequence[str], context: Mapping[str, Tensor], event: Tensor) -> dict[str, Tensor]:
    """Columns of candidates by name, with the context of their events."""
    columns = dict(zip(names, x.unbind(1), strict=True))
    columns.update({name: values[event] for name, values in context.items()})
    return columns


def context_of(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """Context of the events as tensors on a device."""
    return {name: torch.as_tensor(np.array(values), device=device) for name, values in batch.context.items()}


def watched_values(batch: Batch, task: Task, x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Watched quantities of given features, shape (events,) each."""
    names = [feature.name for feature in task.features]
    device = torch.device("cpu")
    tensor, event = torch.from_numpy(np.ascontiguousarray(x)), torch.arange(len(x))
    with torch.no_grad():
        columns = named(tensor, names, context_of(batch, device), event)
        return {watched.name: watched.function(columns).numpy().reshape(-1) for watched in task.watched}


def scores(
    batch: Batch, models: Sequence[Any], x: NDArray[np.float32], device: torch.device
) -> NDArray[np.float32]:
    """Score sigmoid(logit) of given features, shape (events,)."""
    network = network_of(batch, models, device)
    tensor = torch.from_numpy(np.ascontiguousarray(x)).to(device)
    with torch.no_grad(), one_thread():
        logit = network(tensor, torch.arange(len(x), device=device))
    values: NDArray[np.float32] = torch.sigmoid(logit).cpu().numpy().astype(np.float32)
    # In single precision a logit above 17 has the score 1, which an axis that ends at 1 would not show.
    return np.where(values == 1, _BELOW_ONE, values)


def network_of(batch: Batch, models: Sequence[Any], device: torch.device) -> Network:
    """Models routed by the folds of the events."""
    fold = None if batch.fold is None else torch.as_tensor(np.array(batch.fold), device=device)
    return Network(tuple(models), fold)
