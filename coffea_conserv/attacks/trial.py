"""Try models on made-up events before there are any: on the client, and once for each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from coffea_conserv.attacks.model import Handle, load_models
from coffea_conserv.attacks.network import check_network
from coffea_conserv.attacks.outputs import Classes
from coffea_conserv.attacks.place import places
from coffea_conserv.features.feature import Feature

__all__ = ("examples", "try_models")

_tried: set[str] = set()


def try_models(
    handles: Sequence[Handle], output: str | Classes, features: Sequence[Feature], x: NDArray[np.float32]
) -> None:
    """Check models on a few events, each once in a process, however many attacks are made with them."""
    key = ":".join((*(handle.digest for handle in handles), repr(output), str(len(features))))
    if key in _tried:
        return
    models = load_models(handles, output, next(places("cpu")))
    check_network(models, torch.from_numpy(x), [feature.name for feature in features])
    _tried.add(key)


def examples(features: Sequence[Feature]) -> NDArray[np.float32]:
    """Events inside of the axes, to try a model on before there is any, shape (16, features)."""
    rng = np.random.default_rng(0)
    columns = []
    for feature in features:
        low, high = float(feature.axis.edges[0]), float(feature.axis.edges[-1])
        low = max(low, -math.inf if feature.low is None else feature.low)
        high = min(high, math.inf if feature.high is None else feature.high)
        column = low + (high - low) * rng.uniform(0.02, 0.6, size=16)
        columns.append(column if feature.axis.traits.continuous else np.floor(column))
    return np.stack(columns, axis=1).astype(np.float32)
