"""Measures of the difference of two samples: one definition per quantity, in double precision."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = (
    "RMS_PER_JSD",
    "band_deviation",
    "band_deviations",
    "band_share",
    "band_shares",
    "bin_floor",
    "chi2",
    "chi2s",
    "correlation",
    "correlation_change",
    "correlation_changes",
    "correlation_shift",
    "correlation_shifts",
    "effective_events",
    "js_distance",
    "js_distances",
    "jsd_floor",
    "ks_distance",
    "ks_distances",
    "pair_sums",
    "rms_deviation",
    "rms_deviations",
    "varying",
)

Floats = NDArray[np.float64]

RMS_PER_JSD = math.sqrt(8 * math.log(2))
"""r.m.s. relative deviation per unit of Jensen–Shannon distance (base 2), for small deviations: 2.355."""

_ZERO = 1e-7
"""A distance below this is rounding: √ of the double-precision epsilon is 1.5e-8."""

_NO_CHANGE = 1e-12
"""A change of correlations below this is rounding."""


def js_distance(nominal: Floats, attacked: Floats) -> float:
    """Jensen–Shannon distance, base 2: the root of the divergence of two normalised histograms.

    Parameters
    ----------
    nominal, attacked
        Sums of weights per bin, shape (bins,). Where the nominal one is negative, as a net sum of weights of
        both signs can be, the bin stays outside; where only the attacked one is, it counts as empty.

    Returns
    -------
    float
        In 0 … 1; exactly 0 for proportional histograms. 0 if either is empty.

    Notes
    -----
    J. Lin, IEEE Trans. Inf. Theory 37 (1991) 145. With m = (p + q)/2 and r = (q − p)/(p + q) each bin
    contributes m [(1 + r) log₂(1 + r) + (1 − r) log₂(1 − r)] / 2, which is never negative.

    Examples
    --------
    >>> import numpy as np
    >>> js_distance(np.array([1.0, 1.0, 0.0]), np.array([0.0, 0.0, 7.0]))
    1.0
    """
    return float(js_distances(nominal, attacked))


def js_distances(nominal: Floats, attacked: Floats) -> Floats:
    """:func:`js_distance` of many pairs of histograms, shape (…) from (…, bins)."""
    p, q = _normalised(nominal, attacked)
    total = p + q
    r = np.divide(q - p, total, out=np.zeros_like(p), where=total > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        up = np.where(r > -1, (1 + r) * np.log1p(r), 0.0)
        down = np.where(r < 1, (1 - r) * np.log1p(-r), 0.0)
    divergence = np.sum(np.maximum(up + down, 0.0) * total / 4, axis=-1) / math.log(2)
    return _no_rounding(np.sqrt(np.minimum(divergence, 1.0)))


def rms_deviation(nominal: Floats, attacked: Floats) -> float:
    """Root mean square of the relative deviation of the bins, weighted by the nominal content.

    √ Σ_b (q_b − p_b)² / p_b of the normalised histograms; infinite if an empty bin fills.

    Parameters
    ----------
    nominal, attacked
        Sums of weights per bin, shape (bins,); negative ones as in :func:`js_distance`.
    """
    return float(rms_deviations(nominal, attacked))


def rms_deviations(nominal: Floats, attacked: Floats) -> Floats:
    """:func:`rms_deviation` of many pairs of histograms, shape (…) from (…, bins)."""
    p, q = _normalised(nominal, attacked)
    ratio = np.divide((q - p) ** 2, p, out=np.zeros_like(p), where=p > 0)
    return _no_rounding(np.where(_fills(p, q), np.inf, np.sqrt(ratio.sum(axis=-1))))


def band_deviation(nominal: Floats, attacked: Floats) -> float:
    """Largest relative deviation of any bin; infinite if an empty bin fills.

    Parameters
    ----------
    nominal, attacked
        Sums of weights per bin, shape (bins,); negative ones as in :func:`js_distance`.
    """
    return float(band_deviations(nominal, attacked))


def band_deviations(nominal: Floats, attacked: Floats) -> Floats:
    """:func:`band_deviation` of many pairs of histograms, shape (…) from (…, bins)."""
    p, q = _normalised(nominal, attacked)
    ratio = np.divide(np.abs(q - p), p, out=np.zeros_like(p), where=p > 0)
    return _no_rounding(np.where(_fills(p, q), np.inf, ratio.max(axis=-1, initial=0.0)))


def band_share(nominal: Floats, attacked: Floats, sides: Floats) -> float:
    """Largest share of its own limit that a bin uses; infinite if an empty one fills or one of limit 0 moves.

    Parameters
    ----------
    nominal, attacked
        Sums of weights per bin, shape (bins,); negative ones as in :func:`js_distance`.
    sides
        Largest relative deviation of each bin, down and up, shape (2, bins).
    """
    return float(band_shares(nominal, attacked, sides))


def band_shares(nominal: Floats, attacked: Floats, sides: Floats) -> Floats:
    """:func:`band_share` of many pairs of histograms, shape (…) from (…, bins) and sides (…, 2, bins)."""
    p, q = _normalised(nominal, attacked)
    ratio = np.divide(q - p, p, out=np.zeros_like(p), where=p > 0)
    moved = np.abs(ratio) >= _ZERO
    limit = np.where(ratio < 0, sides[..., 0, :], sides[..., 1, :])
    share = np.divide(np.abs(ratio), limit, out=np.zeros_like(p), where=moved & (limit > 0))
    beyond = _fills(p, q) | (moved & (limit == 0)).any(axis=-1)
    return np.where(beyond, np.inf, share.max(axis=-1, initial=0.0))


def ks_distance(nominal: Floats, attacked: Floats, *, circular: bool = False) -> float:
    """Largest difference of two cumulative distributions, over the edges of bins.

    Parameters
    ----------
    nominal, attacked
        Sums of weights per bin in their order, shape (bins,); negative ones as in :func:`js_distance`.
    circular
        Whether the bins go round a circle, which has no beginning: then the largest difference of the content
        of any arc (N. H. Kuiper, Proc. K. Ned. Akad. Wet. A 63 (1960) 38).

    Examples
    --------
    >>> import numpy as np
    >>> before, after = np.array([2.0, 1, 1, 0]), np.array([0.0, 1, 1, 2])
    >>> ks_distance(before, after), ks_distance(np.roll(before, 1), np.roll(after, 1), circular=True)
    (0.5, 0.5)
    """
    return float(ks_distances(nominal, attacked, circular=circular))


def ks_distances(nominal: Floats, attacked: Floats, *, circular: bool = False) -> Floats:
    """:func:`ks_distance` of many pairs of histograms, shape (…) from (…, bins)."""
    p, q = _normalised(nominal, attacked)
    steps = np.cumsum(q - p, axis=-1)
    if circular:
        return _no_rounding(steps.max(axis=-1, initial=0.0) - steps.min(axis=-1, initial=0.0))
    return _no_rounding(np.abs(steps).max(axis=-1, initial=0.0))


def chi2(nominal: Floats, attacked: Floats, events: float) -> float:
    """χ² = n Σ_b (q_b − p_b)² / p_b; infinite if an empty bin fills.

    It is what a test of the attacked sample with n effective events has on average beyond its degrees of
    freedom.

    Parameters
    ----------
    nominal, attacked
        Sums of weights per bin, shape (bins,); negative ones as in :func:`js_distance`.
    events
        n.
    """
    return float(chi2s(nominal, attacked, events))


def chi2s(nominal: Floats, attacked: Floats, events: float) -> Floats:
    """:func:`chi2` of many pairs of histograms, shape (…) from (…, bins)."""
    return events * rms_deviations(nominal, attacked) ** 2


def _no_rounding(distance: Floats) -> Floats:
    return np.where(distance >= _ZERO, distance, 0.0)


def _fills(p: Floats, q: Floats) -> NDArray[np.bool_]:
    """Whether a bin fills that is empty nominally, shape (…)."""
    return np.asarray(((p == 0) & (q > 0)).any(axis=-1))


def _normalised(nominal: Floats, attacked: Floats) -> tuple[Floats, Floats]:
    p, q = np.asarray(nominal, dtype=np.float64), np.asarray(attacked, dtype=np.float64)
    # A bin that the attack turns negative must not escape the comparison: it lost all that it had.
    inside = p >= 0
    p, q = np.where(inside, p, 0.0), np.where(inside, np.maximum(q, 0.0), 0.0)
    sizes = p.sum(axis=-1, keepdims=True), q.sum(axis=-1, keepdims=True)
    both = (sizes[0] > 0) & (sizes[1] > 0)
    p, q = (
        np.divide(part, size, out=np.zeros_like(part), where=both)
        for part, size in zip((p, q), sizes, strict=True)
    )
    return p, q


def effective_events(sum_w: float, sum_w2: float) -> float:
    """Effective number of events (Σw)² / Σw²."""
    return sum_w**2 / sum_w2 if sum_w2 > 0 else 0.0


def jsd_floor(bins: int, events: float, others: float | None = None) -> float:
    """Jensen–Shannon distance that two independent samples of one distribution have by chance.

    √((B − 1)/(8 ln 2) · (1/n₁ + 1/n₂)), because 8 ln 2 · n₁n₂/(n₁ + n₂) · JSD² follows χ² with B − 1 degrees
    of freedom.

    Parameters
    ----------
    bins
        Number of bins with content.
    events, others
        Effective numbers of events of both samples; the second is like the first if not given.
    """
    others = events if others is None else others
    if events <= 0 or others <= 0:
        return math.inf
    return math.sqrt(max(bins - 1, 0) / (8 * math.log(2)) * (1 / events + 1 / others))


def bin_floor(content: Floats, events: float | Floats) -> Floats:
    """Relative deviation that a bin of two independent samples of one distribution has by chance, as 1 σ.

    √(2 / (n p_b)), p_b the share of the bin; 0 for empty bins, shape (…, bins).

    Parameters
    ----------
    content
        Sums of weights per bin, shape (…, bins).
    events
        Effective number of events of each sample, shape (…).
    """
    p, _ = _normalised(content, content)
    many = np.asarray(events)[..., None] * p
    return np.sqrt(np.divide(2.0, many, out=np.zeros_like(p), where=many > 0))


def pair_sums(z: Floats, there: NDArray[np.bool_], weight: Floats) -> Floats:
    """Masked sums over events for pairwise-complete correlations.

    Parameters
    ----------
    z
        Quantities about a fixed origin, shape (events, quantities).
    there
        Which of them are present, same shape.
    weight
        Shape (events,), any sign.

    Returns
    -------
    numpy.ndarray
        Shape (4, quantities, quantities): for each pair j, k the sums over the events in which both are
        present of w, w·z_j, w·z_j² and w·z_j·z_k. Sums of parts add up to the sums of the whole.
    """
    m = there.astype(np.float64)
    v = np.where(there, z, 0.0)
    wm = weight[:, None] * m
    return np.stack([m.T @ wm, v.T @ wm, (v * v).T @ wm, v.T @ (weight[:, None] * v)])


def varying(sums: Floats) -> NDArray[np.bool_]:
    """Tell which quantities vary in the events in which another one is present too.

    Parameters
    ----------
    sums
        :func:`pair_sums`, shape (…, 4, quantities, quantities).

    Returns
    -------
    numpy.ndarray
        Shape (…, quantities, quantities): whether j has a positive variance where k is present. Not where a
        quantity is constant or missing, or the sum of weights or the net variance is not positive.
    """
    total, first, second, _ = np.moveaxis(sums, -3, 0)
    good = total > 0
    safe = np.where(good, total, 1.0)
    # The variance of a constant is rounding of about ε·⟨z²⟩, not exactly 0.
    spread = second / safe - (first / safe) ** 2 > 1e-12 * np.maximum(second / safe, 1e-300)
    return np.asarray(good & spread)


def correlation(sums: Floats) -> Floats:
    """Weighted Pearson matrix from :func:`pair_sums`, pairwise complete.

    Parameters
    ----------
    sums
        Shape (…, 4, quantities, quantities).

    Returns
    -------
    numpy.ndarray
        Shape (…, quantities, quantities), diagonal 1. A pair without spread (a constant or missing quantity,
        or a net variance that is not positive) has correlation 0.
    """
    total, first, second, mixed = np.moveaxis(sums, -3, 0)
    spread = varying(sums)
    good = spread & spread.swapaxes(-1, -2)
    safe = np.where(total > 0, total, 1.0)
    mean = first / safe
    variance = second / safe - mean**2
    covariance = mixed / safe - mean * mean.swapaxes(-1, -2)
    scale = np.sqrt(np.where(good, variance * variance.swapaxes(-1, -2), 1.0))
    same = np.eye(sums.shape[-1], dtype=np.bool_)
    return np.where(same, 1.0, np.where(good, covariance / scale, 0.0))


def correlation_shift(nominal: Floats, attacked: Floats) -> float:
    """Relative change ‖R′ − R‖ / ‖R‖ (Frobenius) of two correlation matrices; rounding counts as 0."""
    return float(correlation_shifts(nominal, attacked))


def correlation_shifts(nominal: Floats, attacked: Floats) -> Floats:
    """:func:`correlation_shift` of many pairs of matrices, shape (…)."""
    size, change = (np.linalg.norm(matrix, axis=(-2, -1)) for matrix in (nominal, attacked - nominal))
    value = np.divide(change, size, out=np.zeros_like(size), where=size > 0)
    return np.where(value >= _NO_CHANGE, value, 0.0)


def correlation_change(nominal: Floats, attacked: Floats) -> float:
    """Largest |R′_jk − R_jk| of two correlation matrices; rounding counts as 0."""
    return float(correlation_changes(nominal, attacked))


def correlation_changes(nominal: Floats, attacked: Floats) -> Floats:
    """:func:`correlation_change` of many pairs of matrices, shape (…)."""
    value = np.abs(attacked - nominal).max(axis=(-2, -1), initial=0.0)
    return np.where(value >= _NO_CHANGE, value, 0.0)
