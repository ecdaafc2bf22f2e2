"""Working points: scores above which an event counts as signal."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np

from coffea_conserv.errors import ConfigurationError

__all__ = ("as_points", "logit_of")


def as_points(value: Any) -> tuple[float, ...]:
    """Check one working point or several, and give them as a tuple.

    Parameters
    ----------
    value
        A score between 0 and 1, or a list of different ones. The first of them is the main one.

    Returns
    -------
    tuple of float
        The working points in the order that was given.

    Raises
    ------
    ConfigurationError
        If there is none, if one is no score, or if one is there twice.

    Examples
    --------
    >>> as_points(0.5), as_points([0.5, 0.9])
    ((0.5,), (0.5, 0.9))
    """
    points = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not points:
        msg = "working_point is empty; give a score between 0 and 1, or several"
        raise ConfigurationError(msg)
    for point in points:
        number = not isinstance(point, bool) and isinstance(point, Real) and math.isfinite(point)
        if not (number and 0 < point < 1):
            msg = f"working_point={point} must lie between 0 and 1: it is a score, sigmoid(logit)"
            raise ConfigurationError(msg)
    if len(set(points)) < len(points):
        msg = f"working_point={list(points)} holds one of them twice; give each once"
        raise ConfigurationError(msg)
    return tuple(float(point) for point in points)


def logit_of(point: float) -> float:
    """Logit of a working point: a score is sigmoid(logit).

    Examples
    --------
    >>> logit_of(0.5)
    0.0
    """
    return float(np.log(point / (1 - point)))
