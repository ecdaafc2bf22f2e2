"""Arguments of a call, and the checked copies that the attack takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.features.feature import Feature
from coffea_conserv.features.matrix import feature_matrix
from coffea_conserv.inputs.columns import to_columns, to_context, to_folds, to_weights
from coffea_conserv.inputs.masks import to_masks

__all__ = ("Inputs", "Selection", "event_ids", "read_inputs")

IDENTITY = ("run", "luminosityBlock", "event")
"""What numbers an event, in NanoAOD."""


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


def event_ids(given: Selection, count: int) -> dict[str, NDArray[Any]]:
    """Run, luminosity block and event of the selected events, as far as they are known.

    Parameters
    ----------
    given
        The arguments of a call: columns of these names in ``context`` count first, then those of ``events``,
        if it holds the selected events and no others.
    count
        Number of selected events.
    """
    found = {name: column for name, column in (given.context or {}).items() if name in IDENTITY}
    events = given.events
    if events is not None and hasattr(events, "fields") and len(events) == count:
        found |= {name: events[name] for name in IDENTITY if name in events.fields and name not in found}
    return {name: np.array(column) for name, column in found.items()}


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
