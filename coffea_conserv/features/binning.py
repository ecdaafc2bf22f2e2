"""Binning of values on an axis: which axes can be used, and the bin of every number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import ConfigurationError

__all__ = ()


FloatArray = NDArray[np.floating[Any]]


_LARGEST = 2**31 - 1


def check_axis(name: str, axis: Any) -> None:
    """Raise a ConfigurationError unless every number has a bin on the axis."""
    if not name:
        msg = "a feature needs a name"
        raise ConfigurationError(msg)
    _check_fixed(name, axis)
    if not _holds_every_number(axis):
        msg = f"{name!r}: {axis!r} has no bin for every number; use an axis with under- and overflow"
        raise ConfigurationError(msg)


def check_score_axis(axis: Any) -> None:
    """Raise a ConfigurationError unless every score from 0 to 1 has a bin of its own on the axis."""
    _check_fixed("score", axis)
    traits = axis.traits
    if not traits.continuous or traits.circular:
        msg = f"'score': {axis!r} has no bins in the score; use hist.axis.Regular or Variable"
        raise ConfigurationError(msg)
    below, above = float(axis.edges[0]), float(axis.edges[-1])
    if not ((traits.underflow or below <= 0) and (traits.overflow or above >= 1)):
        msg = (
            f"'score': {axis!r} loses events: scores lie between 0 and 1, and the axis holds {below:g} to "
            f"{above:g} without under- or overflow; cover 0 to 1, or leave flow=False out"
        )
        raise ConfigurationError(msg)


def _check_fixed(name: str, axis: Any) -> None:
    if not all(hasattr(axis, part) for part in ("edges", "label", "traits")):
        msg = f"{name!r}: the axis must be one of hist.axis, got {axis!r}"
        raise ConfigurationError(msg)
    if axis.traits.ordered and axis.traits.continuous and axis.edges[0] > axis.edges[-1]:
        msg = f"{name!r}: the edges of {axis!r} fall; give the smaller one first"
        raise ConfigurationError(msg)
    if axis.traits.growth:
        msg = f"{name!r}: a growing axis has no fixed bins; declare them with growth=False"
        raise ConfigurationError(msg)
    if not np.isfinite(axis.edges).all():
        msg = f"{name!r}: edges must be finite, got {axis.edges}; under- and overflow hold what is beyond"
        raise ConfigurationError(msg)


def _holds_every_number(axis: Any) -> bool:
    if not axis.traits.ordered and any(isinstance(category, str) for category in axis):
        return False
    index = flow_index(axis, np.array([axis.edges[0] - 1, axis.edges[-1] + 1]))
    return bool(index.min() >= 0 and index.max() < axis.extent)


def flow_index(axis: Any, values: FloatArray) -> NDArray[np.int64]:
    """Bin of each value in an array with flow bins, shape (events,).

    The binning is that of the axis itself, so that what is limited is what a histogram shows.
    """
    column = fillable(axis, values)
    if axis.traits.ordered:
        index = np.asarray(axis.index(column)) + int(axis.traits.underflow)
    else:  # categories refuse to look up what they do not know
        equal = column[:, None] == np.array(list(axis))
        index = np.where(equal.any(axis=1), equal.argmax(axis=1), axis.size)
    return np.asarray(index, dtype=np.int64)


def fillable(axis: Any, values: FloatArray) -> NDArray[Any]:
    """Values in the type that the axis takes: integers for an integer axis, shape (events,)."""
    numbers = values.astype(np.float64)
    if axis.traits.continuous:
        return numbers
    numbers = np.floor(numbers)
    # NaN can mean "missing", and what bin it gets does not matter; an axis of integers takes 32 bits.
    return np.clip(np.nan_to_num(numbers), -_LARGEST, _LARGEST).astype(np.int64)


def scale(axis: Any) -> tuple[float, float]:
    """Fixed origin and unit of an axis for sums of moments: its centre and half of its width."""
    low, high = float(axis.edges[0]), float(axis.edges[-1])
    return (low + high) / 2, (high - low) / 2
