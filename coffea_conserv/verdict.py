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
    correlation,
    correlation_shift,
    effective_events,
    js_distance,
    jsd_floor,
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
        What is limited: ``marginal pt_1``, ``watched mt_1``, ``correlation`` or ``shift pt_1``.
    group
        Where: ``dataset/region/variation``.
    value, limit
        What was found and what is allowed.
    measure
        Which measure: ``rms``, ``band``, ``jsd`` or ``frobenius``; ``absolute`` and ``relative`` for the
        largest |Δ| of a value, in its unit and as a share of it.
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


def marginal_limit(budget: Budget, feature: str, contents: Contents) -> tuple[str, float]:
    """Measure and limit of the marginal of one feature in a group."""
    if budget.frozen:
        return "jsd", 0.0
    limit = budget.marginal(feature)
    if limit > 0:
        return budget.kind, limit
    if contents.equal_weights:
        return "jsd", 0.0
    bins = int((contents.histograms[feature][0] > 0).sum())
    floor = jsd_floor(bins, effective_events(contents.sum_w, contents.sum_w2))
    return "jsd", FLOOR_SHARE * floor if math.isfinite(floor) else 0.0


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
        Marginals in the order of the features, watched quantities, correlation, caps of single values.
    """
    limits = []
    for feature in features:
        measure, limit = marginal_limit(budget, feature.name, contents)
        value = MEASURES[measure](*contents.histograms[feature.name])
        limits.append(Limit(f"marginal {feature.name}", group, value, limit, measure))
    allowed = 0.0 if budget.frozen else budget.watch_distance
    for quantity in watched:
        value = js_distance(*contents.histograms[quantity.name])
        limits.append(Limit(f"watched {quantity.name}", group, value, allowed, "jsd"))
    count = len(features)
    nominal, attacked = (correlation(s[:, :count, :count]) for s in (contents.nominal, contents.attacked))
    allowed = 0.0 if budget.frozen else budget.correlation
    shift = correlation_shift(nominal, attacked)
    limits.append(Limit("correlation", group, shift, allowed, "frobenius"))
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
