"""Displacement of single values: the definition of |Δ|, what is allowed, and what is reported of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.features.feature import Feature, present
from coffea_conserv.group import Group

__all__ = (
    "LARGEST",
    "PULLS",
    "Moves",
    "Pair",
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
        Which, and where.
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
    group: Group
    moved_share: float
    largest: float
    largest_relative: float
    pull2: float


class Moves(NamedTuple):
    """How far the values of features moved, of one group or of several.

    Parameters
    ----------
    sums
        Sums of :data:`PULLS`, which add up, shape (…, features, 2).
    largest
        The :data:`LARGEST`, of which the larger one counts when samples are merged, same shape.
    """

    sums: Floats
    largest: Floats


class Pair(NamedTuple):
    """Values of one feature before and after, shape (events,) each."""

    before: Values
    after: Values


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


def shift_sums(features: Sequence[Feature], columns: Sequence[Pair], weight: Floats) -> Moves:
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
    Moves
        Of shape (features, 2).
    """
    sums, largest = grouped_sums(features, columns, weight, np.zeros(len(weight), dtype=np.int64), 1)
    return Moves(sums[0], largest[0])


def grouped_sums(
    features: Sequence[Feature],
    columns: Iterable[Pair],
    weight: Floats,
    group: NDArray[np.int64],
    count: int,
) -> Moves:
    """:func:`shift_sums` of many groups at once, of shape (groups, features, 2).

    Parameters
    ----------
    features, columns, weight
        As for :func:`shift_sums`.
    group, count
        Group of each event, from 0, shape (events,), and how many there are.
    """
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
    return Moves(sums, largest)


def make_shifts(group: Group, features: Sequence[Feature], moves: Moves, total: float) -> tuple[Shift, ...]:
    """Rows of one group, from its moves and the sum of |weight| of its events."""
    made = []
    for feature, (moved, pulls), (largest, relative) in zip(features, moves.sums, moves.largest, strict=True):
        share = float(moved / total) if total > 0 else math.nan
        mean = float(pulls / total) if total > 0 and feature.resolved else math.nan
        made.append(Shift(feature.name, group, share, float(largest), float(relative), mean))
    return tuple(made)
