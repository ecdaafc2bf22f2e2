"""Every pair of quantities in two dimensions."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from coffea_conserv.evidence.effort import Effort, EventTest
from coffea_conserv.evidence.histograms import Binned, compare_histograms, events_chi2
from coffea_conserv.evidence.two_samples import TwoSamples
from coffea_conserv.sums.attacked_events import Events

__all__ = ("pair_tests",)

Floats = NDArray[np.float64]
Cells = NDArray[np.int64]


def pair_tests(events: Events, samples: TwoSamples, variation: str, how: Effort) -> EventTest:
    """χ² of every pair of quantities in bins of equal content.

    The probability of the most conspicuous pair is multiplied by the number of pairs (Bonferroni), which is
    above the true one. What is needed comes from all events, nominal and attacked, whose statistics cancel.

    Parameters
    ----------
    events
        Events of the region.
    samples
        The same as two samples.
    variation
        Which attack.
    how
        Bins.
    """
    names, weight = samples.names, np.abs(events.weight)
    edges = [_edges(column, weight, how.bins) for column in _ordered(events.x["nominal"]).T]
    shares = {v: _cells(events.x[v], edges) for v in ("nominal", variation)}
    split = _cells(samples.raw, edges)
    best, first = (math.inf, 0.0, ("", "")), (math.inf, ("", ""))
    size = how.bins + 2
    pairs = list(combinations(range(len(names)), 2))
    for j, k in pairs:
        pair = (names[j], names[k])
        p, chi2 = _tested(split[j] * size + split[k], samples, size**2)
        best = min(best, (p, chi2, pair))
        one, two = (
            np.bincount(shares[v][j] * size + shares[v][k], weight, size**2).astype(np.float64)
            for v in (variation, "nominal")
        )
        first = min(first, (events_chi2(one, two), pair))
    what = first[1] if math.isfinite(first[0]) else best[2]
    p = min(1.0, best[0] * len(pairs)) if pairs else 1.0
    return EventTest(
        "", variation, "χ² of pairs", " × ".join(filter(None, what)), best[1], p, samples.effective, first[0]
    )


def _tested(cell: Cells, samples: TwoSamples, size: int) -> tuple[float, float]:
    """Probability and χ² of both samples in the cells of a pair, after their sums are made the same."""
    masks, weight = (samples.attacked, ~samples.attacked), samples.weight
    pair = []
    for mask in masks:
        w = weight[mask] / weight[mask].sum()
        filled = (np.bincount(cell[mask], values, size).astype(np.float64) for values in (w, w**2))
        pair.append(tuple(filled))
    found = compare_histograms(Binned(*pair[0]), Binned(*pair[1]))
    return float(stats.chi2.sf(found.chi2, max(found.ndf - 1, 1))), found.chi2


def _ordered(x: Floats) -> Floats:
    """Missing values below all others."""
    return np.where(np.isfinite(x) & (x > -999), x, -np.inf)


def _edges(column: Floats, weight: Floats, bins: int) -> Floats:
    """Inner edges of bins of about equal content; where values are equal there are fewer bins."""
    there = np.isfinite(column)
    order = np.argsort(column[there], kind="stable")
    values = column[there][order]
    if not len(values):
        return np.zeros(0)
    filled = np.cumsum(weight[there][order])
    places = np.searchsorted(filled, np.arange(1, bins) / bins * filled[-1])
    # A bin begins behind the edge, and the lowest edge parts missing values from others.
    below = np.nextafter(values[0], -np.inf)
    return np.unique(np.concatenate([[below], values[np.minimum(places, len(values) - 1)]]))


def _cells(x: Floats, edges: list[Floats]) -> Cells:
    """Bin of every value, shape (quantities, events)."""
    columns = _ordered(x).T
    rows = [np.searchsorted(inner, column, side="left") for inner, column in zip(edges, columns, strict=True)]
    return np.stack(rows).astype(np.int64)
