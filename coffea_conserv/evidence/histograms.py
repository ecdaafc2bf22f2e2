"""Two weighted histograms, compared as a validation does, and how many events a difference takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from coffea_conserv.limits.measures import effective_events, js_distance, ks_distance

__all__ = (
    "LEVEL",
    "Binned",
    "Comparison",
    "compare_histograms",
    "events_chi2",
    "events_element",
    "events_ks",
    "noncentrality",
)

Floats = NDArray[np.float64]

LEVEL = 0.05
"""Probability below which a test rejects."""


@dataclass(frozen=True)
class Comparison:
    """Measures of the difference of two weighted histograms, taken as independent samples.

    Parameters
    ----------
    jsd, ks
        Jensen–Shannon distance (base 2) and largest difference of the cumulative distributions, of the
        normalised contents without negative bins; ``nan`` where one of them is empty.
    ks_p
        Probability of a larger difference, from the asymptotic distribution of Kolmogorov with effective
        numbers of events; an estimate from above, as values in one bin are tied.
    chi2, ndf, p
        Σ (a − b)² / (σ_a² + σ_b²) with the Σ w² of both, bins that have any, and its probability.
    chi2_syst, p_syst
        The same with a relative uncertainty of every bin of the second one added in squares.
    pull, bin
        Largest |a − b| / √(σ_a² + σ_b²) and its bin, from 0.
    band
        Largest |a − b| / b of bins with content.
    effective
        Effective numbers of events (Σw)² / Σw² of both.
    """

    jsd: float
    ks: float
    ks_p: float
    chi2: float
    ndf: int
    p: float
    chi2_syst: float
    p_syst: float
    pull: float
    bin: int
    band: float
    effective: tuple[float, float]


class Binned(NamedTuple):
    """Contents of bins and their variances, shape (bins,) each."""

    content: Floats
    variance: Floats


def compare_histograms(
    one: Binned,
    two: Binned,
    *,
    uncertainty: float = 0.0,
    circular: bool = False,
) -> Comparison:
    """Compare two histograms of the same bins.

    Parameters
    ----------
    one, two
        What is tested, and what is expected.
    uncertainty
        Relative systematic uncertainty of the bins of the second one.
    circular
        Whether the bins are those of an angle.

    Examples
    --------
    >>> import numpy as np
    >>> contents = np.array([100.0, 50.0, 10.0])
    >>> found = compare_histograms(Binned(contents + [10, 0, 0], contents), Binned(contents, contents))
    >>> round(found.chi2, 3), found.ndf, round(found.p, 3), found.bin
    (0.5, 3, 0.919, 0)
    """
    (a, var_a), (b, var_b) = ((np.asarray(v, dtype=np.float64) for v in pair) for pair in (one, two))
    variance = var_a + var_b
    used = variance > 0
    squares = np.where(used, (a - b) ** 2, 0.0)
    sigma = np.sqrt(np.where(used, variance, 1.0))
    chi2 = float((squares / sigma**2).sum())
    chi2_syst = float((squares / (sigma**2 + (uncertainty * b) ** 2)).sum())
    pulls = np.sqrt(squares) / sigma
    sizes = tuple(effective_events(float(c.sum()), float(v.sum())) if v.any() else 0.0 for c, v in (one, two))
    plain = np.maximum(a, 0.0), np.maximum(b, 0.0)
    jsd = ks = ks_p = math.nan
    if plain[0].any() and plain[1].any():
        jsd, ks = js_distance(*plain), ks_distance(*plain, circular=circular)
        joint = sizes[0] * sizes[1] / max(sum(sizes), 1e-300)
        ks_p = float(special.kolmogorov(math.sqrt(joint) * ks))
    filled = b > 0
    change = np.abs(a - b)[filled] / b[filled]
    ndf = int(used.sum())
    return Comparison(
        jsd,
        ks,
        ks_p,
        chi2,
        ndf,
        _p(chi2, ndf),
        chi2_syst,
        _p(chi2_syst, ndf),
        float(pulls.max(initial=0.0)),
        int(pulls.argmax()) if len(pulls) else 0,
        float(change.max(initial=0.0)),
        (sizes[0], sizes[1]),
    )


def _p(chi2: float, ndf: int) -> float:
    return float(stats.chi2.sf(chi2, ndf)) if ndf else 1.0


def events_chi2(one: Floats, two: Floats) -> float:
    """Number of events at which a χ² test of shapes would see a difference.

    That many data with the shape of ``one``, compared with simulation of the shape of ``two`` that has no
    statistical error, have a χ² above the 95 % quantile in half of the cases: Σ (q − p)² / p is the
    non-centrality that each event adds.

    Parameters
    ----------
    one, two
        Contents, any shape; negative ones count as 0. A bin that only ``one`` fills is seen by the first
        event in it.

    Returns
    -------
    float
        Infinite if the shapes are the same.

    Examples
    --------
    >>> round(events_chi2(np.array([0.55, 0.45]), np.array([0.5, 0.5])))
    384
    """
    q, p = (np.maximum(np.ravel(contents), 0.0) for contents in (one, two))
    if not q.any() or not p.any():
        return math.inf
    q, p = q / q.sum(), p / p.sum()
    new = float(q[p == 0].sum())
    first = math.log(2) / -math.log1p(-new) if 0 < new < 1 else (1.0 if new else math.inf)
    there = p > 0
    effect = float(((q - p)[there] ** 2 / p[there]).sum())
    bins = int(there.sum())
    if effect < 1e-20 or bins < 2:
        return first
    return min(first, noncentrality(bins - 1) / effect)


@lru_cache(maxsize=512)
def noncentrality(ndf: int) -> float:
    """Non-centrality at which half of all χ² are above the 95 % quantile of the central distribution."""
    critical = stats.chi2.isf(LEVEL, ndf)

    def power(size: float) -> float:
        return float(stats.ncx2.sf(critical, ndf, size)) - 0.5

    return float(optimize.brentq(power, 1e-6, 10 * critical + 100))


def events_ks(distance: float) -> float:
    """Number of events at which a Kolmogorov–Smirnov test sees a distance: (1.358 / D)².

    Examples
    --------
    >>> round(events_ks(0.01))
    18444
    """
    return math.inf if distance <= 0 else float(special.kolmogi(LEVEL) / distance) ** 2


def events_element(one: float, two: float) -> float:
    """Number of events at which a change of a correlation is seen: Fisher's z has an error 1/√(n − 3).

    Examples
    --------
    >>> round(events_element(0.01, 0.0))
    38415
    """
    change = abs(math.atanh(_inside(one)) - math.atanh(_inside(two)))
    return math.inf if change < 1e-12 else float(stats.norm.isf(LEVEL / 2) / change) ** 2 + 3


def _inside(correlation: float) -> float:
    return min(max(correlation, -1 + 1e-12), 1 - 1e-12)
