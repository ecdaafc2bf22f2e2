"""How far single values moved: the definition of |Δ|, what is allowed, and what is reported of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.features.feature import Feature, present

__all__ = (
    "LARGEST",
    "PULLS",
    "Shift",
    "allowed",
    "distance",
    "grouped_sums",
    "make_shifts",
    "pull2",
    "shift_sums",
    "sigma",
    "within",
)

Floats = NDArray[np.float64]
Values = NDArray[np.floating[Any]]

PULLS = ("moved", "pull2")
"""What is summed for each feature, with |weight|: the events with another value, and (Δ/σ)² of all events,
where missing values and features without resolution count 0."""

LARGEST = ("shift", "relative")
"""What is the largest of each feature: |Δ|, and |Δ| over the nominal |value|."""


@dataclass(frozen=True)
class Shift:
    """How far the values of one feature moved in one group.

    Parameters
    ----------
    feature, group
        Which, and where: ``dataset/region/variation``, or the number of the group.
    moved_share
        Share of Σ|w| of the events of the group with another value.
    largest, largest_relative
        Largest |Δ|, and largest |Δ| over the nominal |value|.
    pull2
        Weighted mean of (Δ/σ)² over the events of the group, missing values as 0; ``nan`` for a feature
        without resolution. The sum over the features is what a ``penalty`` is multiplied with, and ``pull2 /
        moved_share`` is the mean over the values that moved.
    """

    feature: str
    group: str
    moved_share: float
    largest: float
    largest_relative: float
    pull2: float


def distance(feature: Feature, before: Values, after: Values) -> Floats:
    """|Δ| of each event, on the circle for a periodic feature, 0 where the value is missing.

    Parameters
    ----------
    feature
        Declaration of the column.
    before, after
        Nominal and attacked values, shape (events,).
    """
    there = present(feature, before)
    delta = np.abs(after.astype(np.float64) - np.where(there, before, 0.0))
    if np.isfinite(feature.period):
        delta = np.fmod(delta, feature.period)
        delta = np.minimum(delta, feature.period - delta)
    return np.where(there, delta, 0.0)


def allowed(feature: Feature, before: Values) -> Floats:
    """Largest |Δ| that each event may have, infinite where there is no cap, shape (events,)."""
    size = np.abs(before.astype(np.float64))
    found = np.full(size.shape, np.inf if feature.max_shift is None else float(feature.max_shift))
    if feature.max_relative_shift is not None:
        found = np.minimum(found, float(feature.max_relative_shift) * size)
    return found


def within(feature: Feature, before: Values, after: Values) -> NDArray[np.bool_]:
    """Whether values are within the caps of their feature, shape (events,)."""
    if not feature.capped:
        return np.ones(before.shape, dtype=np.bool_)
    return np.asarray(distance(feature, before, after) <= allowed(feature, before))


def sigma(feature: Feature, before: Values) -> Floats:
    """Resolution of each nominal value, infinite where none is declared, shape (events,).

    Absolute and relative part add in quadrature.
    """
    size = np.abs(before.astype(np.float64))
    if not feature.resolved:
        return np.full(size.shape, np.inf)
    return np.asarray(np.hypot(feature.resolution or 0.0, (feature.relative_resolution or 0.0) * size))


def pull2(feature: Feature, before: Values, after: Values) -> Floats:
    """(Δ/σ)² of each event, 0 where no resolution is declared, infinite in one of 0; shape (events,)."""
    return np.asarray(_ratio(distance(feature, before, after), sigma(feature, before)) ** 2)


def _ratio(delta: Floats, unit: Floats) -> Floats:
    """Moves in a unit: infinite in one of 0, but 0 where nothing moved."""
    with np.errstate(divide="ignore"):
        return np.divide(delta, unit, out=np.zeros_like(delta), where=delta > 0)


def shift_sums(
    features: Sequence[Feature], columns: Sequence[tuple[Values, Values]], weight: Floats
) -> tuple[Floats, Floats]:
    """Sum up how far the values of some events moved.

    Parameters
    ----------
    features
        Declarations of the columns.
    columns
        Nominal and attacked values of each feature, shape (events,) each.
    weight
        Shape (events,), any sign.

    Returns
    -------
    tuple
        Sums of :data:`PULLS`, which add up, and the :data:`LARGEST`, of which the larger one counts when
        samples are merged; shape (features, 2) each.
    """
    sums, largest = grouped_sums(features, columns, weight, (np.zeros(len(weight), dtype=np.int64), 1))
    return sums[0], largest[0]


def grouped_sums(
    features: Sequence[Feature],
    columns: Iterable[tuple[Values, Values]],
    weight: Floats,
    groups: tuple[NDArray[np.int64], int],
) -> tuple[Floats, Floats]:
    """:func:`shift_sums` of many groups at once, shape (groups, features, 2) each.

    Parameters
    ----------
    features, columns, weight
        As for :func:`shift_sums`.
    groups
        Group of each event, from 0, shape (events,), and how many there are.
    """
    group, count = groups
    sums, largest = (np.zeros((count, len(features), len(names))) for names in (PULLS, LARGEST))
    size = np.abs(weight)
    for j, (feature, (before, after)) in enumerate(zip(features, columns, strict=True)):
        delta = distance(feature, before, after)
        some = np.flatnonzero((delta > 0) & (size > 0))
        pulls = pull2(feature, before, after)[some]
        for place, value in enumerate((size[some], size[some] * pulls)):
            sums[:, j, place] = np.bincount(group[some], value, count)
        relative = _ratio(delta, np.abs(before.astype(np.float64)))
        for place, value in enumerate((delta, relative)):
            np.maximum.at(largest[:, j, place], group, value)
    return sums, largest


def make_shifts(
    group: str, features: Sequence[Feature], sums: tuple[Floats, Floats], total: float
) -> tuple[Shift, ...]:
    """Rows of one group, from the answer of :func:`shift_sums` and the sum of |weight| of its events."""
    made = []
    for feature, (moved, pulls), (largest, relative) in zip(features, *sums, strict=True):
        share = float(moved / total) if total > 0 else math.nan
        mean = float(pulls / total) if total > 0 and feature.resolved else math.nan
        made.append(Shift(feature.name, group, share, float(largest), float(relative), mean))
    return tuple(made)
