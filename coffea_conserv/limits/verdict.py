"""Verdict of a judge: every limit with its value and its slack."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.group import Group, row_of

if TYPE_CHECKING:
    pass


__all__ = (
    "REASONS",
    "Contents",
    "Limit",
    "NegativeBins",
    "Unattacked",
    "Verdict",
    "share_text",
    "worst_limits",
)

Floats = NDArray[np.float64]

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
        Where.
    value, limit
        What was found and what is allowed.
    measure
        Which measure: ``rms``, ``band``, ``jsd``, ``ks``, ``kuiper``, ``chi2``, ``frobenius`` or ``element``;
        ``worst bin`` for the largest share that a bin uses of limits that differ by bin or side;
        ``absolute`` and ``relative`` for the largest |Δ| of a value, in its unit and as a share of it.
    """

    name: str
    group: Group
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
        Which quantity and where.
    nominal, attacked
        Number of such bins.
    share
        Size of their content over that of all bins, the larger one of nominal and attacked.
    """

    quantity: str
    group: Group
    nominal: int
    attacked: int
    share: float


REASONS = ("few events", "no positive weight", "limits not kept", "nothing gained")
"""Why events of a group stay nominal: too few of them can move, their weights do not add up to more than 0,
what the solver returned broke a limit, or it found nothing better. As numbers from 1 on; 0 is attacked."""


@dataclass(frozen=True)
class Unattacked:
    """Events of a group that stayed nominal: they say nothing about robustness.

    Parameters
    ----------
    group
        Where.
    events
        Their number.
    share
        Σ|w| of them over that of the group; 1: nothing of it was attacked.
    reasons
        The same by reason, one of :data:`REASONS`.
    """

    group: Group
    events: int
    share: float
    reasons: Mapping[str, float]

    @property
    def wholly(self) -> bool:
        """Whether nothing of the group was attacked."""
        return self.share >= 1 - _ROUNDING

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason} {share:.0%}" for reason, share in self.reasons.items() if share > 0)
        return f"{self.group}: {self.share:.0%} ({reasons or 'unknown why'})"


@dataclass(frozen=True)
class Verdict:
    """All limits of a sample, and what was not attacked of it.

    Parameters
    ----------
    limits
        Every limit in every group.
    negative
        Quantities with bins whose sum of weights is negative, which the limits on marginals see only in part.
    unattacked
        Groups of which some events stayed nominal.
    unjudged
        Groups with attacked events whose weights do not add up to more than 0: no limit has a meaning there.

    Examples
    --------
    >>> group = Group("W", "dataset", "signal", "conservUp")
    >>> verdict = Verdict((Limit("correlation", group, 0.004, 0.006, "frobenius"),))
    >>> verdict.passed, round(verdict.tightest.slack, 6)
    (True, 0.002)
    """

    limits: tuple[Limit, ...]
    negative: tuple[NegativeBins, ...] = ()
    unattacked: tuple[Unattacked, ...] = ()
    unjudged: tuple[Group, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every limit is kept by an attack: nominal events keep them all, and show nothing."""
        return not self.broken and not self.unjudged and not self.idle

    @property
    def idle(self) -> bool:
        """Whether nothing at all was attacked: no events, or none that could be."""
        whole = {one.group for one in self.unattacked if one.wholly}
        return {limit.group for limit in self.limits} <= whole

    @property
    def summary(self) -> str:
        """One sentence: what is broken, not attacked, or kept."""
        groups, whole = {limit.group for limit in self.limits}, [one for one in self.unattacked if one.wholly]
        if self.broken:
            return f"{len(self.broken)} of {len(self.limits):,} limits broken"
        if self.unjudged:
            names = ", ".join(map(str, self.unjudged))
            return f"not judged, since the sum of weights is not positive: {names}"
        if self.idle:
            why = _reasons(whole) if whole else ["no events of simulation"]
            return f"nothing was attacked: {', '.join(why)}"
        if whole:
            return f"{len(self.limits):,} limits kept, {len(whole)} of {len(groups)} groups not attacked"
        return f"{len(self.limits):,} limits kept"

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
        limits = [{**row_of(limit), "slack": limit.slack, "passed": limit.passed} for limit in self.limits]
        negative = [row_of(found) for found in self.negative]
        return {
            "passed": self.passed,
            "summary": self.summary,
            "limits": limits,
            "negative_bins": negative,
            "unattacked": [row_of(one) for one in self.unattacked],
            "unjudged": [str(group) for group in self.unjudged],
        }


def _reasons(some: Sequence[Unattacked]) -> list[str]:
    """Reasons of some groups, each once."""
    return [reason for reason in REASONS if any(one.reasons.get(reason) for one in some)] or ["unknown why"]


def worst_limits(verdict: Verdict) -> tuple[Limit, ...]:
    """Limit with the largest share used in each group, in the order of the verdict."""
    worst: dict[Group, Limit] = {}
    for limit in verdict.limits:
        if limit.group not in worst or limit.used > worst[limit.group].used:
            worst[limit.group] = limit
    return tuple(worst.values())


@dataclass(frozen=True)
class Contents:
    """What a judge needs of one group.

    Parameters
    ----------
    histograms
        Quantity → nominal and attacked sums of weights per bin, with flow bins.
    nominal, attacked
        :func:`coffea_conserv.limits.measures.pair_sums` of features, then watched quantities.
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


def share_text(used: float) -> str:
    """Write the used share of a limit: as a percentage, or as a multiple where the limit is tiny.

    Examples
    --------
    >>> share_text(0.5), share_text(24737.4), share_text(math.inf)
    ('50%', '24,737 ×', '∞')
    """
    if not math.isfinite(used):
        return "∞"
    return f"{used:.0%}" if used < 100 else f"{used:,.0f} ×"
