"""Statistics of the sample of a group: its size, its floors, and columns without a correlation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.features.feature import Feature
from coffea_conserv.group import Group
from coffea_conserv.limits.budget import Budget
from coffea_conserv.limits.measures import correlation, effective_events, varying
from coffea_conserv.limits.noise import Floors
from coffea_conserv.limits.verdict import Contents

__all__ = ("Degenerate", "Statistics", "degenerate", "statistics_of")

Floats = NDArray[np.float64]

_EXACT = 1e-9
"""How close to singular a correlation matrix is where only rounding is between."""


@dataclass(frozen=True)
class Degenerate:
    """Features of one group that have no correlation of their own.

    Parameters
    ----------
    kind
        ``missing``: absent from all events; ``weightless``: the weights of the events that have it do not add
        up to more than 0; ``constant``: all present values are equal; ``collinear``: some are a linear
        function of the others, so that none of them can move alone. The correlations of the first three are
        0 by definition (:func:`coffea_conserv.limits.measures.correlation`).
    features
        Their names: one, or all that are collinear.
    """

    kind: str
    features: tuple[str, ...]


@dataclass(frozen=True)
class Statistics:
    """Size of the sample of one group, and what samples of this size differ by, by chance.

    Parameters
    ----------
    group
        Where, without a variation.
    events
        Number of events.
    effective_events
        (Σw)² / Σw².
    negative_share
        Σ|w| of the events of negative weight over Σ|w| of all.
    bins
        Largest number of bins with content of any feature, for which the floors are.
    jsd, rms, ks, correlation, element
        The floors, as in :class:`coffea_conserv.limits.noise.Floors`; infinite without effective events.
    below
        Limits of the budget that are below their floor: finer than this sample could see.
    degenerate
        Features without a correlation of their own.
    """

    group: Group
    events: float
    effective_events: float
    negative_share: float
    bins: int
    jsd: float
    rms: float
    ks: float
    correlation: float
    element: float
    below: tuple[str, ...]
    degenerate: tuple[Degenerate, ...]


def statistics_of(
    groups: Mapping[Group, Contents], budget: Budget, features: Sequence[Feature]
) -> tuple[Statistics, ...]:
    """Say what the nominal sample of each group can tell.

    Parameters
    ----------
    groups
        Histograms and sums of each group, of which the nominal ones count.
    budget, features
        What is limited.
    """
    if not groups:
        return ()
    each, names = list(groups.values()), [feature.name for feature in features]
    histograms = ((np.stack([own.histograms[name][0] for own in each]) > 0).sum(axis=1) for name in names)
    bins = np.max(list(histograms), axis=0).tolist()
    sums = np.stack([own.nominal[:, : len(names), : len(names)] for own in each])
    odd = _odd(sums).tolist()
    return tuple(
        _statistics(
            group,
            own,
            budget,
            degenerate(own.nominal, names) if odd[place] else (),
            bins=bins[place],
            features=len(names),
        )
        for place, (group, own) in enumerate(groups.items())
    )


def _odd(sums: Floats) -> NDArray[np.bool_]:
    """Groups in which some feature may have no correlation of its own, shape (groups,)."""
    vary = varying(sums).diagonal(axis1=-2, axis2=-1).all(axis=-1)
    smallest = np.abs(np.linalg.eigvalsh(correlation(sums))).min(axis=-1)
    return np.asarray(~vary | (smallest < _EXACT))


def _statistics(
    group: Group,
    contents: Contents,
    budget: Budget,
    lost: tuple[Degenerate, ...],
    *,
    bins: int,
    features: int,
) -> Statistics:
    events = effective_events(contents.sum_w, contents.sum_w2) if contents.sum_w > 0 else 0.0
    floors = Floors(events, bins, features)
    size = contents.sum_abs_w
    return Statistics(
        group,
        contents.events,
        events,
        (size - contents.sum_w) / (2 * size) if size > 0 else 0.0,
        floors.bins,
        floors.jsd,
        floors.rms,
        floors.ks,
        floors.correlation,
        floors.element,
        budget.below(floors),
        lost,
    )


def degenerate(sums: Floats, names: Sequence[str]) -> tuple[Degenerate, ...]:
    """Find columns without a correlation of their own.

    Parameters
    ----------
    sums
        :func:`coffea_conserv.limits.measures.pair_sums` of the columns, then of others which do not matter.
    names
        Of the columns.

    Examples
    --------
    >>> from coffea_conserv.limits.measures import pair_sums
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> x[:, 2] = 3 - 2 * x[:, 0]
    >>> degenerate(pair_sums(x, np.ones(x.shape, bool), np.ones(50)), ["pt", "eta", "energy"])
    (Degenerate(kind='collinear', features=('pt', 'energy')),)
    """
    count = len(names)
    sums = sums[:, :count, :count]
    total, _, second, _ = (part.diagonal() for part in sums)
    varies = varying(sums).diagonal()
    found = []
    for j, name in enumerate(names):
        if not varies[j]:
            kind = "constant" if total[j] > 0 else "weightless" if total[j] or second[j] else "missing"
            found.append(Degenerate(kind, (name,)))
    rows = np.flatnonzero(varies)
    matrix = correlation(sums)[np.ix_(rows, rows)]
    return (*found, *(Degenerate("collinear", tuple(names[rows[j]] for j in some)) for some in _sets(matrix)))


def _sets(matrix: Floats) -> list[list[int]]:
    """Columns that depend on each other: those which the vectors of eigenvalue 0 connect."""
    if not len(matrix):
        return []
    values, vectors = np.linalg.eigh(matrix)
    null = vectors[:, np.abs(values) < _EXACT]
    joined = np.abs(null @ null.T) > np.sqrt(_EXACT)
    left, found = set(np.flatnonzero(joined.any(axis=1)).tolist()), []
    while left:
        some: set[int] = set()
        new = {min(left)}
        while new:
            some |= new
            new = {k for j in new for k in np.flatnonzero(joined[j]).tolist()} - some
        left -= some
        found.append(sorted(some))
    return found
