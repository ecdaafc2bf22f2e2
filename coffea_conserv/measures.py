"""How different two samples are: one definition per quantity, in double precision."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = (
    "RMS_PER_JSD",
    "band_deviation",
    "band_share",
    "bin_floor",
    "chi2",
    "correlation",
    "correlation_change",
    "correlation_shift",
    "effective_events",
    "js_distance",
    "jsd_floor",
    "ks_distance",
    "pair_sums",
    "rms_deviation",
    "varying",
)

Floats = NDArray[np.float64]

RMS_PER_JSD = math.sqrt(8 * math.log(2))
"""r.m.s. relative deviation per unit of Jensen–Shannon distance (base 2), for small deviations: 2.355."""

_ZERO = 1e-7
"""A distance below this is rounding: √ of the double-precision epsilon is 1.5e-8."""


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
    p, q = _normalised(nominal, attacked)
    total = p + q
    r = np.divide(q - p, total, out=np.zeros_like(p), where=total > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        up = np.where(r > -1, (1 + r) * np.log1p(r), 0.0)
        down = np.where(r < 1, (1 - r) * np.log1p(-r), 0.0)
    divergence = float(np.sum(np.maximum(up + down, 0.0) * total / 4)) / math.log(2)
    distance = math.sqrt(min(divergence, 1.0))
    return distance if distance >= _ZERO else 0.0


def rms_deviation(nominal: Floats, attacked: Floats) -> float:
    """Root mean square of the relative deviation of the bins, weighted by the nominal content.

    √ Σ_b (q_b − p_b)² / p_b of the normalised histograms; infinite if an empty bin fills.

    Parameters
    ----------
    nominal, attacked
        Sums of weights per bin, shape (bins,); negative ones as in :func:`js_distance`.
    """
    p, q = _normalised(nominal, attacked)
    if np.any((p == 0) & (q > 0)):
        return math.inf
    ratio = np.divide((q - p) ** 2, p, out=np.zeros_like(p), where=p > 0)
    value = math.sqrt(float(ratio.sum()))
    return value if value >= _ZERO else 0.0


def band_deviation(nominal: Floats, attacked: Floats) -> float:
    """Largest relative deviation of any bin; infinite if an empty bin fills.

    Parameters
    ----------
    nominal, attacked
        Sums of weights per bin, shape (bins,); negative ones as in :func:`js_distance`.
    """
    p, q = _normalised(nominal, attacked)
    if np.any((p == 0) & (q > 0)):
        return math.inf
    ratio = np.divide(np.abs(q - p), p, out=np.zeros_like(p), where=p > 0)
    value = float(ratio.max(initial=0.0))
    return value if value >= _ZERO else 0.0


def band_share(nominal: Floats, attacked: Floats, sides: Floats) -> float:
    """Largest share of its own limit that a bin uses; infinite if an empty one fills or one of limit 0 moves.

    Parameters
    ----------
    nominal, attacked
        Sums of weights per bin, shape (bins,); negative ones as in :func:`js_distance`.
    sides
        Largest relative deviation of each bin, down and up, shape (2, bins).
    """
    p, q = _normalised(nominal, attacked)
    if np.any((p == 0) & (q > 0)):
        return math.inf
    ratio = np.divide(q - p, p, out=np.zeros_like(p), where=p > 0)
    moved = np.abs(ratio) >= _ZERO
    limit = np.where(ratio < 0, sides[0], sides[1])
    if np.any(moved & (limit == 0)):
        return math.inf
    share = np.divide(np.abs(ratio), limit, out=np.zeros_like(p), where=moved)
    return float(share.max(initial=0.0))


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
    p, q = _normalised(nominal, attacked)
    steps = np.cumsum(q - p)
    if circular:
        value = float(steps.max(initial=0.0) - steps.min(initial=0.0))
    else:
        value = float(np.abs(steps).max(initial=0.0))
    return value if value >= _ZERO else 0.0


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
    return events * rms_deviation(nominal, attacked) ** 2


def _normalised(nominal: Floats, attacked: Floats) -> tuple[Floats, Floats]:
    p, q = np.asarray(nominal, dtype=np.float64), np.asarray(attacked, dtype=np.float64)
    # A bin that the attack turns negative must not escape the comparison: it lost all that it had.
    inside = p >= 0
    p, q = np.where(inside, p, 0.0), np.where(inside, np.maximum(q, 0.0), 0.0)
    if p.sum() <= 0 or q.sum() <= 0:
        return np.zeros_like(p), np.zeros_like(q)
    return p / p.sum(), q / q.sum()


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


def bin_floor(content: Floats, events: float) -> Floats:
    """Relative deviation that a bin of two independent samples of one distribution has by chance, as 1 σ.

    √(2 / (n p_b)), p_b the share of the bin; 0 for empty bins, shape (bins,).

    Parameters
    ----------
    content
        Sums of weights per bin, shape (bins,).
    events
        Effective number of events of each sample.
    """
    p, _ = _normalised(content, content)
    many = events * p
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
        :func:`pair_sums`, shape (4, quantities, quantities).

    Returns
    -------
    numpy.ndarray
        Shape (quantities, quantities): whether j has a positive variance where k is present. Not where a
        quantity is constant or missing, or the sum of weights or the net variance is not positive.
    """
    total, first, second, _ = sums
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
        Shape (4, quantities, quantities).

    Returns
    -------
    numpy.ndarray
        Shape (quantities, quantities), diagonal 1. A pair without spread (a constant or missing quantity,
        or a net variance that is not positive) has correlation 0.
    """
    total, first, second, mixed = sums
    spread = varying(sums)
    good = spread & spread.T
    safe = np.where(total > 0, total, 1.0)
    mean = first / safe
    variance = second / safe - mean**2
    covariance = mixed / safe - mean * mean.T
    scale = np.sqrt(np.where(good, variance * variance.T, 1.0))
    matrix = np.where(good, covariance / scale, 0.0)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def correlation_shift(nominal: Floats, attacked: Floats) -> float:
    """Relative change ‖R′ − R‖ / ‖R‖ (Frobenius) of two correlation matrices; rounding counts as 0."""
    size = float(np.linalg.norm(nominal))
    if size == 0:
        return 0.0
    value = float(np.linalg.norm(attacked - nominal)) / size
    return value if value >= 1e-12 else 0.0


def correlation_change(nominal: Floats, attacked: Floats) -> float:
    """Largest |R′_jk − R_jk| of two correlation matrices; rounding counts as 0."""
    value = float(np.abs(attacked - nominal).max(initial=0.0))
    return value if value >= 1e-12 else 0.0
