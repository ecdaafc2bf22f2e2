"""Projection of a histogram onto those that the limits on a marginal allow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.features.feature import Feature
from coffea_conserv.limits.band import contents
from coffea_conserv.limits.budget import Budget
from coffea_conserv.limits.measures import js_distance, ks_distance, rms_deviation

__all__ = ("allowed",)

Floats = NDArray[np.float64]

_INSIDE = 1e-12
"""By which share a root stays inside, so that its rounding does not break the limit."""


def allowed(nominal: Any, wanted: Any, feature: Feature, budget: Budget) -> Floats:
    """Project a wanted histogram of a feature onto those that the limits on its marginal allow.

    It answers how much of a difference would fit into the limits, for example of the difference between
    data and simulation in a control region.

    Parameters
    ----------
    nominal, wanted
        Histograms on the axis of the feature, as of ``hist``, or arrays of sums of weights, shape (bins,),
        with flow bins.
    feature
        The feature, of which the axis is used.
    budget
        The limits; ``correlation``, ``correlation_element`` and ``watch`` are on other quantities.

    Returns
    -------
    numpy.ndarray
        Shape (bins,), with the sum of the nominal one.

    Raises
    ------
    InputError, ConfigurationError
        If a histogram has another number of bins, is empty, or has negative or infinite entries, or
        something else is given in place of a feature or a budget.

    Notes
    -----
    With p and q normalised, the nearest one by Σ (q − w)² / p: a ball for ``rms`` and ``chi2``, for which the
    difference is scaled down; a box for ``band``, for which q = w + λp between the limits of each bin. For
    ``jsd`` and ``ks`` the two are mixed, as far as the limit allows. With several limits the nearest one of
    the first kind is mixed with nominal until all are kept, since every limit is a convex set around it.
    Limits of 0 keep nominal, also where weights vary and the judge forgives a tenth of the statistical floor.

    Examples
    --------
    >>> import hist
    >>> feature = Feature("x", hist.axis.Regular(2, 0, 1))
    >>> allowed([0.0, 50.0, 50.0, 0.0], [0.0, 40.0, 60.0, 0.0], feature, Budget(band=0.05))
    array([ 0. , 47.5, 52.5,  0. ])
    """
    for name, value, kind in (("feature", feature, Feature), ("budget", budget, Budget)):
        if not isinstance(value, kind):
            msg = f"allowed(): {name} must be a {kind.__name__}(…), got {value!r:.80}"
            raise ConfigurationError(msg)
    p, total = _normalised("nominal", nominal, feature)
    w, _ = _normalised("wanted", wanted, feature)
    if budget.frozen or not budget.marginal(feature.name):
        return total * p
    if budget.jsd is None or budget.chi2 is not None:
        # No empty bin may fill. What is wanted there goes to the others: along p it costs least.
        w = np.where(p > 0, w, 0.0)
        w = w + (1 - w.sum()) * p
    sides = _sides(feature, budget)
    q = w if sides is None else _boxed(p, w, sides)
    return total * _mixed(p, q, feature, budget)


def _normalised(name: str, given: Any, feature: Feature) -> tuple[Floats, float]:
    """Shares of the bins, and their sum before."""
    content, _ = contents("allowed()", name, given)
    if len(content) != feature.axis.extent or not content.any():
        what = "is empty" if len(content) == feature.axis.extent else f"has {len(content)} bins"
        msg = (
            f"allowed(): {name} {what}; the axis of {feature.name!r} has {feature.axis.extent} bins with "
            "under- and overflow: fill a histogram of it"
        )
        raise InputError(msg)
    total = float(content.sum())
    return content / total, total


def _sides(feature: Feature, budget: Budget) -> Floats | None:
    """Relative deviations that bins may have, down and up, shape (2, bins)."""
    if budget.kind != "band":
        return None
    sides = budget.sides(feature.name, feature.axis)
    if sides is not None:
        return sides
    same: Floats = np.full((2, feature.axis.extent), budget.marginal(feature.name))
    return same


def _boxed(p: Floats, w: Floats, sides: Floats) -> Floats:
    """Nearest point of a box with the same sum: q = w + λp between the sides."""
    low, high = p * (1 - np.minimum(sides[0], 1.0)), p * (1 + sides[1])
    some = p > 0
    # The sum is linear in λ between the values at which a bin comes to one of its sides: no search is needed.
    turns = np.sort(np.concatenate([(side[some] - w[some]) / p[some] for side in (low, high)]))
    sums = np.clip(w + turns[:, None] * p, low, high).sum(axis=1)
    shift = float(np.interp(1.0, np.maximum.accumulate(sums), turns))
    return np.asarray(np.clip(w + shift * p, low, high), dtype=np.float64)


def _mixed(p: Floats, q: Floats, feature: Feature, budget: Budget) -> Floats:
    """Largest part of the way from p to q on which all limits but those of bins are kept."""
    q = p + (q - p) / max(1.0, _linear(p, q, feature, budget))
    limit = budget.jsd
    if limit is None or js_distance(p, q) <= limit:
        return q
    part = float(brentq(lambda t: js_distance(p, p + t * (q - p)) - limit, 0.0, 1.0, xtol=1e-15))
    return np.asarray(p + (1 - _INSIDE) * part * (q - p), dtype=np.float64)


def _linear(p: Floats, q: Floats, feature: Feature, budget: Budget) -> float:
    """Largest used share of the limits on measures that grow linearly along the way."""
    shares = [0.0]
    if budget.rms is not None:
        shares.append(rms_deviation(p, q) / budget.rms)
    if budget.chi2 is not None:
        shares.append(rms_deviation(p, q) / budget.chi2.rms)
    traits = feature.axis.traits
    if budget.ks is not None and traits.ordered:
        shares.append(ks_distance(p, q, circular=traits.circular) / budget.ks)
    return max(shares)
