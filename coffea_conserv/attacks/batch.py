"""Events of a chunk, what is asked for, and what needs no solver: scores and watched values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.errors import InputError
from coffea_conserv.features.feature import Feature
from coffea_conserv.features.trial import ranges
from coffea_conserv.models.device import BUFFER, one_thread
from coffea_conserv.models.network import Network

__all__ = ("Batch", "ScorePair", "below_one", "check_scores", "context_of", "named", "network_of", "scores")


_BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))


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
    chosen
        Events that are to be moved at all, shape (events,); ``None``: all that can be.
    """

    x: NDArray[np.float32]
    weight: NDArray[np.float64]
    group: NDArray[np.int64]
    fold: NDArray[np.int64] | None = None
    context: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    chosen: NDArray[np.bool_] | None = None


def scores(
    batch: Batch, models: Sequence[Any], x: NDArray[np.float32], device: torch.device
) -> NDArray[np.float32]:
    """Score sigmoid(logit) of given features, shape (events,)."""
    network = network_of(batch, models, device)
    tensor = torch.from_numpy(np.ascontiguousarray(x)).to(device)
    with torch.no_grad(), one_thread():
        logit = network(tensor, torch.arange(len(x), device=device))
    values: NDArray[np.float32] = below_one(torch.sigmoid(logit.float())).cpu().numpy()
    return values


def check_scores(score: NDArray[np.float32], x: NDArray[np.float32], features: Sequence[Feature]) -> None:
    """Raise if the model gave no number, and say where.

    Parameters
    ----------
    score
        Shape (events,).
    x, features
        What was put in, shape (events, features), and its columns.

    Raises
    ------
    InputError
        With the number of events and the range of their features.
    """
    bad = ~np.isfinite(score)
    if not bad.any():
        return
    where = ranges([feature.name for feature in features], x[bad])
    msg = (
        f"the model gives NaN or infinity for {bad.sum()} of {len(x)} events; they have {where}. Make it "
        "defined there, or select these events away"
    )
    raise InputError(msg)


def below_one(score: Tensor) -> Tensor:
    """Scores just below 1 in place of 1.

    In single precision a logit above 17 has the score 1, which an axis that ends at 1 would not show.
    """
    return torch.where(score == 1, _BELOW_ONE, score)


def network_of(batch: Batch, models: Sequence[Any], device: torch.device) -> Network:
    """Models routed by the folds of the events."""
    fold = None if batch.fold is None else torch.as_tensor(np.array(batch.fold), device=device)
    batches = (getattr(model, "batch", None) or BUFFER[device.type] for model in models)
    return Network(tuple(models), fold, min(batches))


class ScorePair(NamedTuple):
    """Scores of the same events before and after, shape (events,) each."""

    nominal: NDArray[np.float32]
    attacked: NDArray[np.float32]


def named(x: Tensor, names: Sequence[str], context: Mapping[str, Tensor], event: Tensor) -> dict[str, Tensor]:
    """Columns of candidates by name, with the context of their events."""
    columns = dict(zip(names, x.unbind(1), strict=True))
    columns.update({name: values[event] for name, values in context.items()})
    return columns


def context_of(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """Context of the events as tensors on a device."""
    return {name: torch.as_tensor(np.array(values), device=device) for name, values in batch.context.items()}
