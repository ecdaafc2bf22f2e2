"""The judge: limits of one group or of many at once, from histograms and sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.features.feature import Feature, Watched
from coffea_conserv.group import Group
from coffea_conserv.limits.budget import Budget
from coffea_conserv.limits.measures import (
    band_deviations,
    band_shares,
    bin_floor,
    chi2s,
    correlation,
    correlation_changes,
    correlation_shifts,
    effective_events,
    js_distances,
    jsd_floor,
    ks_distances,
    rms_deviations,
)
from coffea_conserv.limits.verdict import Contents, Limit, NegativeBins

__all__ = ("judge", "judge_many", "marginal_limit", "negative_bins", "opened")

Floats = NDArray[np.float64]

MEASURES = {"rms": rms_deviations, "band": band_deviations, "jsd": js_distances}

FLOOR_SHARE = 0.1
"""Share of the statistical floor that a marginal limit of 0 means where weights vary."""

_ROUNDING = 1e-9
"""Relative rounding of sums that leaves a bin below 0."""


def marginal_limit(budget: Budget, feature: Feature, contents: Contents) -> tuple[str, float]:
    """Measure and limit of the marginal of one feature in a group."""
    measure, limits = _marginal_limits(budget, feature, _Groups.of([contents]))
    return measure, float(limits[0])


@dataclass(frozen=True)
class _Groups:
    """What the measures need of many groups at once, the axis of groups first.

    Parameters
    ----------
    each
        The groups.
    histograms
        Quantity → nominal and attacked sums of weights, shape (groups, bins) each.
    effective
        Effective number of events, shape (groups,).
    equal
        Whether all events of a group have the same absolute weight, same shape.
    """

    each: Sequence[Contents]
    histograms: Mapping[str, tuple[Floats, Floats]]
    effective: Floats
    equal: NDArray[np.bool_]

    @classmethod
    def of(cls, each: Sequence[Contents]) -> _Groups:
        """Put groups side by side."""
        pairs = {name: [contents.histograms[name] for contents in each] for name in each[0].histograms}
        return cls(
            each,
            {
                name: (np.stack([p for p, _ in pair]), np.stack([q for _, q in pair]))
                for name, pair in pairs.items()
            },
            np.array([effective_events(contents.sum_w, contents.sum_w2) for contents in each]),
            np.array([contents.equal_weights for contents in each]),
        )

    def same(self, limit: float) -> Floats:
        """One limit for all groups."""
        return np.full(len(self.each), limit)


@dataclass(frozen=True)
class _Row:
    """One limit in all groups: ``value`` and ``limit`` have shape (groups,)."""

    name: str
    measure: str
    value: Floats
    limit: Floats


def _marginal_limits(budget: Budget, feature: Feature, groups: _Groups) -> tuple[str, Floats]:
    """Measure of the marginal of one feature, and its limit in each group."""
    if budget.frozen or not budget.limits(feature):
        return "jsd", groups.same(0.0)
    limit = budget.marginal(feature.name)
    if limit > 0:
        by_bin = budget.sides(feature.name, feature.axis) is not None
        return ("worst bin", groups.same(1.0)) if by_bin else (budget.kind, groups.same(limit))
    bins = (groups.histograms[feature.name][0] > 0).sum(axis=-1).tolist()
    floors = np.array([jsd_floor(b, n) for b, n in zip(bins, groups.effective.tolist(), strict=True)])
    forgiven = ~groups.equal & np.isfinite(floors)
    return "jsd", np.where(forgiven, FLOOR_SHARE * np.where(forgiven, floors, 0.0), 0.0)


def opened(sides: Floats, content: Floats, events: float | Floats, share: float) -> Floats:
    """Limits of bins where weights vary: a side of 0 is a share of the statistical floor of the bin.

    Parameters
    ----------
    sides
        Largest relative deviations, down and up, shape (2, bins).
    content, events
        Sums of weights per bin, shape (…, bins), and effective number of events of the groups, shape (…).
    share
        The share.

    Returns
    -------
    numpy.ndarray
        Shape (…, 2, bins).
    """
    return np.where(sides > 0, sides, share * bin_floor(content, events)[..., None, :])


def _marginal(groups: _Groups, budget: Budget, feature: Feature) -> list[_Row]:
    """Limits on the marginal of one feature."""
    pair = groups.histograms[feature.name]
    measure, limit = _marginal_limits(budget, feature, groups)
    sides = budget.sides(feature.name, feature.axis) if measure == "worst bin" else None
    if sides is not None:
        wide = opened(sides, pair[0], groups.effective, FLOOR_SHARE)
        value = band_shares(*pair, np.where(groups.equal[:, None, None], sides, wide))
    else:
        value = MEASURES[measure](*pair)
    found = [_Row(f"marginal {feature.name}", measure, value, limit)]
    traits = feature.axis.traits
    if budget.ks is not None and traits.ordered:
        value = ks_distances(*pair, circular=traits.circular)
        allowed = 0.0 if budget.frozen else float(budget.ks)
        kind = "kuiper" if traits.circular else "ks"
        found.append(_Row(f"ks {feature.name}", kind, value, groups.same(allowed)))
    if budget.chi2 is not None:
        value = chi2s(*pair, budget.chi2.events)
        allowed = 0.0 if budget.frozen else float(budget.chi2.limit)
        found.append(_Row(f"chi2 {feature.name}", "chi2", value, groups.same(allowed)))
    return found


def judge(
    group: Group,
    contents: Contents,
    budget: Budget,
    features: Sequence[Feature],
    watched: Sequence[Watched] = (),
) -> tuple[Limit, ...]:
    """Judge one group against a budget.

    Parameters
    ----------
    group
        The group, for the limits.
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
    return judge_many({group: contents}, budget, features, watched)


def judge_many(
    groups: Mapping[Group, Contents],
    budget: Budget,
    features: Sequence[Feature],
    watched: Sequence[Watched] = (),
) -> tuple[Limit, ...]:
    """Judge many groups at once, as :func:`judge` judges each of them.

    Parameters
    ----------
    groups
        Histograms and sums of each group, all of the same quantities.
    budget, features, watched
        As for :func:`judge`.

    Returns
    -------
    tuple of Limit
        Those of the first group, then those of the next.
    """
    if not groups:
        return ()
    many = _Groups.of(list(groups.values()))
    rows = [row for feature in features for row in _marginal(many, budget, feature)]
    allowed = 0.0 if budget.frozen else budget.watch_distance
    for quantity in watched:
        value = js_distances(*many.histograms[quantity.name])
        rows.append(_Row(f"watched {quantity.name}", "jsd", value, many.same(allowed)))
    rows += [*_correlations(many, budget, len(features)), *_caps(many, features)]
    columns = [(row.name, row.measure, row.value.tolist(), row.limit.tolist()) for row in rows]
    return tuple(
        Limit(name, group, value[place], limit[place], measure)
        for place, group in enumerate(groups)
        for name, measure, value, limit in columns
    )


def _correlations(groups: _Groups, budget: Budget, count: int) -> list[_Row]:
    """Limits on the correlations of the first quantities."""
    nominal = correlation(np.stack([contents.nominal[:, :count, :count] for contents in groups.each]))
    attacked = correlation(np.stack([contents.attacked[:, :count, :count] for contents in groups.each]))
    allowed = 0.0 if budget.frozen else budget.correlation_limit
    shift = correlation_shifts(nominal, attacked)
    rows = [_Row("correlation", "frobenius", shift, groups.same(allowed))]
    if budget.element_limit is not None:
        allowed = 0.0 if budget.frozen else budget.element_limit
        change = correlation_changes(nominal, attacked)
        rows.append(_Row("correlation element", "element", change, groups.same(allowed)))
    return rows


def _caps(groups: _Groups, features: Sequence[Feature]) -> list[_Row]:
    """Limits of the largest move of a single value."""
    made = []
    for feature in features:
        caps = (("absolute", feature.max_shift), ("relative", feature.max_relative_shift))
        for place, (measure, cap) in enumerate(caps):
            if cap is not None:
                value = np.array([contents.largest[feature.name][place] for contents in groups.each])
                made.append(_Row(f"shift {feature.name}", measure, value, groups.same(float(cap))))
    return made


def negative_bins(group: Group, contents: Contents) -> tuple[NegativeBins, ...]:
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
