"""From what a call is given to checked arrays: copies, in the types that the attack takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.columns import to_columns, to_context, to_folds, to_weights
from coffea_conserv.features import Feature
from coffea_conserv.masks import to_masks
from coffea_conserv.matrix import feature_matrix
from coffea_conserv.selection import Selection

__all__ = ("Inputs", "read_inputs")


@dataclass(frozen=True)
class Inputs:
    """Selected events of one chunk as arrays that share no memory with what was given.

    Parameters
    ----------
    matrix
        Features as the model takes them, shape (events, features).
    weight
        Shape (events,).
    regions
        Name → mask, shape (events,).
    fold
        Model of each event, ``None`` with a single one.
    context
        Further columns, shape (events,) each.
    """

    matrix: NDArray[np.float32]
    weight: NDArray[np.float64]
    regions: Mapping[str, NDArray[np.bool_]]
    fold: NDArray[np.int64] | None
    context: Mapping[str, NDArray[Any]]


def read_inputs(
    columns: Any, given: Selection, features: Sequence[Feature], *, models: int, dataset: str
) -> Inputs:
    """Read the arguments of a call.

    Parameters
    ----------
    columns
        Feature → one value per selected event.
    given
        The other arguments.
    features
        The features of the model, in its order.
    models
        Number of models, one per fold.
    dataset
        For messages.

    Raises
    ------
    InputError
        With the offender and the remedy.
    """
    matrix = feature_matrix(to_columns(columns, features), features)
    count = len(matrix)
    return Inputs(
        matrix,
        regions=to_masks(given.regions, count),
        weight=to_weights(given.weight, count, dataset, data=given.data),
        fold=to_folds(given.fold, count, models),
        context=to_context(given.context, count, [feature.name for feature in features]),
    )
