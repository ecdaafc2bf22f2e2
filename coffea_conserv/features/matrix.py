"""Matrix of features that a model takes, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import InputError
from coffea_conserv.features.feature import Feature, present

__all__ = ("feature_matrix",)


def feature_matrix(columns: Mapping[str, Any], features: Sequence[Feature]) -> NDArray[np.float32]:
    """Stack columns in the order of the features, as a copy in single precision.

    Parameters
    ----------
    columns
        Name → array of shape (events,).
    features
        The features of the model.

    Returns
    -------
    numpy.ndarray
        Shape (events, features).

    Raises
    ------
    InputError
        If a column is missing, has another length, or holds NaN or infinity that ``missing`` does not name.
    """
    absent = [feature.name for feature in features if feature.name not in columns]
    if absent:
        msg = f"missing column(s) {', '.join(absent)}; given are {', '.join(sorted(columns)) or 'none'}"
        raise InputError(msg)
    arrays = [np.asarray(columns[feature.name]) for feature in features]
    shapes = {feature.name: array.shape for feature, array in zip(features, arrays, strict=True)}
    if len(set(shapes.values())) > 1 or arrays[0].ndim != 1:
        msg = f"all columns need one value per selected event, got shapes {shapes}"
        raise InputError(msg)
    with np.errstate(over="ignore"):  # infinity is refused below
        matrix = np.stack([array.astype(np.float32) for array in arrays], axis=1)
    _check_finite(matrix, features)
    _check_integers(matrix, features)
    return matrix


def _check_finite(matrix: NDArray[np.float32], features: Sequence[Feature]) -> None:
    bad = {}
    for j, feature in enumerate(features):
        count = int((present(feature, matrix[:, j]) & ~np.isfinite(matrix[:, j])).sum())
        if count:
            bad[feature.name] = count
    if bad:
        named = ", ".join(f"{name} ({count} events)" for name, count in bad.items())
        msg = f"NaN or infinity in {named}; select these events away or declare them with missing="
        raise InputError(msg)


def _check_integers(matrix: NDArray[np.float32], features: Sequence[Feature]) -> None:
    for j, feature in enumerate(features):
        column = matrix[present(feature, matrix[:, j]), j]
        count = int((column != np.round(column)).sum())
        if count and not feature.axis.traits.continuous:
            msg = (
                f"{count} values of {feature.name} are not integers, but its axis is one of integers; "
                "use hist.axis.Regular or Variable"
            )
            raise InputError(msg)
