"""What a call of the plugin takes beside the features, and what it did to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.features.feature import Feature
from coffea_conserv.sums import Sums

__all__ = ("Moved", "Selection", "stacked")


@dataclass(frozen=True)
class Selection:
    """Selected events of one chunk without their features; arguments of the call of :class:`Conserv`."""

    regions: Any
    weight: Any = None
    events: Any = None
    data: bool = False
    fold: Any = None
    context: Mapping[str, Any] | None = None
    dataset: str | None = None
    chunk: str | None = None


@dataclass(frozen=True)
class Moved:
    """What was done to the selected events of one chunk.

    Parameters
    ----------
    sums
        What adds up over chunks.
    nominal
        Features, shape (events, features).
    attacked
        Variation → features, same shape; empty for real data.
    """

    sums: Sums
    nominal: NDArray[np.float32]
    attacked: Mapping[str, NDArray[np.float32]]


def stacked(columns: Mapping[str, NDArray[Any]], features: Sequence[Feature]) -> NDArray[np.float32]:
    """Columns of some features side by side, shape (events, features)."""
    return np.stack([columns[feature.name] for feature in features], axis=1)
