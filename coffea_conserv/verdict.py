"""Judge what was returned: every limit with its value and its slack."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.budget import Budget
from coffea_conserv.features import Feature, Watched
from coffea_conserv.measures import (
    band_deviation,
    band_share,
    bin_floor,
    chi2,
    correlation,
    correlation_change,
    correlation_shift,
    effective_events,
    js_distance,
    jsd_floor,
    ks_distance,
    rms_deviation,
)

__all__ = ("Contents", "Limit", "NegativeBins", "Verdict", "judge", "marginal_limit", "negative_bins")

Floats = NDArray[np.float64]

MEASURES = {"rms": rms_deviation, "band": band_deviation, "jsd": js_distance}

FLOOR_SHARE = 0.1
"""Share of the statistical floor that a marginal limit of 0 means where weights vary."""

_ROUNDING = 1e-9
"""Relative rounding of sums that a limit forgives."""


@dataclass(frozen=True)
class Limit:
    """One limit on one group of events.

    Parameters
    ----------
    name
        What is limited: ``marginal pt_1``, ``ks pt_1``, ``chi2 pt_1``, ``watched mt_1``, ``correlation``,
        ``correlation element`` or ``shift pt_1``.
    group
        Where: ``dataset/region/variation``.
    value, limit
        What was found and what is allowed.
    measure
        Which measure: ``rms``, ``band``, ``jsd``, ``ks``, ``kuiper``, ``chi2``, ``frobenius`` or ``element``;
        ``worst bin`` for the largest share that a bin uses of limits that differ by bin or side;
        ``absolute`` and ``relative`` for the largest |Δ| of a value, in its unit and as a share of it.
    """

    name: str
    group: str
    value: float
    limit: float
    measure: str

    @property
    def slack(self) -> float:
        """Room that is left; negative where the limit is broken."""
        return self.limit - self.value

    @property
    def used(self) -> float:
        """Share of the limit that is used; 0 or infinite for a limit of 0."""
        if self.limit > 0:
            return self.value / self.limit
        return math.inf if self.value > 0 else 0.0

    @property
    def passed(self) -> bool:
        """Whether the limit is kept."""
        return self.value <= self.limit * (1 + _ROUNDING)


@dataclass(frozen=True)
class NegativeBins:
    """Bins with a negative sum of weights, which the measures of marginals cannot compare.

    Bins with a negative nominal sum are left out of them; those that only the attack made negative count as
    empty.

    Parameters
    ----------
    quantity, group
        Which quantity and where: ``dataset/region/variation``.
    nominal, attacked
        Number of such bins.
    share
        Size of their content over that of all bins, the larger one of nominal and attacked.
    """

    quantity: str
    group: str
    nominal: int
    attacked: int
    share: float


@dataclass(frozen=True)
class Verdict:
    """All limits of a sample.

    Parameters
    ----------
    limits
        Every limit in every group.
    negative
        Quantities with bins whose sum of weights is negative, which the limits on marginals see only in part.

    Examples
    --------
    >>> verdict = Verdict((Limit("correlation", "W/signal/conservUp", 0.004, 0.006, "frobenius"),))
    >>> verdict.passed, round(verdict.tightest.slack, 6)
    (True, 0.002)
    """

    limits: tuple[Limit, ...]
    negative: tuple[NegativeBins, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every limit is kept."""
        return all(limit.passed for limit in self.limits)

    @property
    def broken(self) -> tuple[Limit, ...]:
        """Limits that are not kept."""
        return tuple(limit for limit in self.limits if not limit.passed)

    @property
    def tightest(self) -> Limit | None:
        """Limit with the least room relative to itself."""
        return max(self.limits, key=lambda limit: limit.used, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        limits = [{**asdict(limit), "slack": limit.slack, "passed": limit.passed} for limit in self.limits]
        negative = [asdict(found) for found in self.negative]
        return {"passed": self.passed, "limits": limits, "negative_bins": negative}


@dataclass(frozen=True)
class Contents:
    """What a judge needs of one group.

    Parameters
    ----------
    histograms
        Quantity → nominal and attacked sums of weights per bin, with flow bins.
    nominal, attacked
        :func:`coffea_conserv.measures.pair_sums` of features, then watched quantities.
    events, sum_w, sum_abs_w, sum_w2
        Number of events and sums of their weights.
    largest
        Feature → largest |Δ| and largest |Δ| over |value|, of features with a cap at least.
    """

    histograms: Mapping[str, tuple[Floats, Floats]]
    nominal: Floats
    attacked: Floats
    events: float
    sum_w: float
    sum_abs_w: float
    sum_w2: float
    largest: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def equal_weights(self) -> bool:
        """Whether all events have the same absolute weight."""
        return math.isclose(self.sum_abs_w**2, self.events * self.sum_w2, rel_tol=1e-6)


def marginal_limit(budget: Budget, feature: Feature, contents: Contents) -> tuple[str, float]:
    """Measure and limit of the marginal of one feature in a group."""
    if budget.frozen or not budget.limits(feature):
        return "jsd", 0.0
    limit = budget.marginal(feature.name)
    if limit > 0:
        by_bin = budget.sides(feature.name, feature.axis) is not None
        return ("worst bin", 1.0) if by_bin else (budget.kind, limit)
    if contents.equal_weights:
        return "jsd", 0.0
    bins = int((contents.histograms[feature.name][0] > 0).sum())
    floor = jsd_floor(bins, effective_events(contents.sum_w, contents.sum_w2))
    return "jsd", FLOOR_SHARE * floor if math.isfinite(floor) else 0.0


def opened(sides: Floats, content: Floats, events: float, share: float) -> Floats:
    """Limits of bins where weights vary: a side of 0 is a share of the statistical floor of the bin.

    Parameters
    ----------
    sides
        Largest relative deviations, down and up, shape (2, bins).
    content, events
        Sums of weights per bin, shape (bins,), and effective number of events of the group.
    share
        The share.
    """
    return np.where(sides > 0, sides, share * bin_floor(content, events))


def _marginal(group: str, contents: Contents, budget: Budget, feature: Feature) -> list[Limit]:
    """Limits on the marginal of one feature."""
    pair = contents.histograms[feature.name]
    measure, limit = marginal_limit(budget, feature, contents)
    sides = budget.sides(feature.name, feature.axis) if measure == "worst bin" else None
    if sides is not None:
        if not contents.equal_weights:
            sides = opened(sides, pair[0], effective_events(contents.sum_w, contents.sum_w2), FLOOR_SHARE)
        value = band_share(*pair, sides)
    else:
        value = MEASURES[measure](*pair)
    found = [Limit(f"marginal {feature.name}", group, value, limit, measure)]
    traits = feature.axis.traits
    if budget.ks is not None and traits.ordered:
        value = ks_distance(*pair, circular=traits.circular)
        allowed = 0.0 if budget.frozen else float(budget.ks)
        found.append(
            Limit(f"ks {feature.name}", group, value, allowed, "kuiper" if traits.circular else "ks")
        )
    if budget.chi2 is not None:
        value = chi2(*pair, budget.chi2.events)
        allowed = 0.0 if budget.frozen else float(budget.chi2.limit)
        found.append(Limit(f"chi2 {feature.name}", group, value, allowed, "chi2"))
    return found


def judge(
    group: str,
    contents: Contents,
    budget: Budget,
    features: Sequence[Feature],
    watched: Sequence[Watched] = (),
) -> tuple[Limit, ...]:
    """Judge one group against a budget.

    Parameters
    ----------
    group
        Name of the group, for the limits.
    contents
        Histograms and sums of the group, nominal and attacked.
    budget
        The limits.
    features, watched
        What is limited. The correlation limit is on the features.

    Returns
    -------
    tuple of Limit
        Marginals in the order of the features, watched quantities, correlations, caps of single values.
    """
    limits = [limit for feature in features for limit in _marginal(group, contents, budget, feature)]
    allowed = 0.0 if budget.frozen else budget.watch_distance
    for quantity in watched:
        value = js_distance(*contents.histograms[quantity.name])
        limits.append(Limit(f"watched {quantity.name}", group, value, allowed, "jsd"))
    count = len(features)
    nominal, attacked = (correlation(s[:, :count, :count]) for s in (contents.nominal, contents.attacked))
    allowed = 0.0 if budget.frozen else budget.correlation
    shift = correlation_shift(nominal, attacked)
    limits.append(Limit("correlation", group, shift, allowed, "frobenius"))
    if budget.correlation_element is not None:
        allowed = 0.0 if budget.frozen else float(budget.correlation_element)
        change = correlation_change(nominal, attacked)
        limits.append(Limit("correlation element", group, change, allowed, "element"))
    return (*limits, *_caps(group, contents, features))


def _caps(group: str, contents: Contents, features: Sequence[Feature]) -> list[Limit]:
    """Limits of the largest move of a single value."""
    made = []
    for feature in features:
        caps = (("absolute", feature.max_shift), ("relative", feature.max_relative_shift))
        for place, (measure, cap) in enumerate(caps):
            if cap is not None:
                value = contents.largest[feature.name][place]
                made.append(Limit(f"shift {feature.name}", group, value, float(cap), measure))
    return made


def negative_bins(group: str, contents: Contents) -> tuple[NegativeBins, ...]:
    """Quantities of a group with bins of negative content, nominal or attacked."""
    made = []
    for quantity, pair in contents.histograms.items():
        # Sums of weights of both signs that cancel may leave a rounding error below 0.
        below = [content < -_ROUNDING * np.abs(content).max(initial=0.0) for content in pair]
        if not any(mask.any() for mask in below):
            continue
        shares = [
            float(np.abs(content[mask]).sum() / np.abs(content).sum()) if mask.any() else 0.0
            for content, mask in zip(pair, below, strict=True)
        ]
        made.append(NegativeBins(quantity, group, int(below[0].sum()), int(below[1].sum()), max(shares)))
    return tuple(made)
