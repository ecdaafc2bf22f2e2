"""What the limits say about sums over events, and what it costs to use them up.

Every limit is a set in which the deviations of sums from nominal must stay: a ball for correlations, for
r.m.s. deviations and for Jensen–Shannon distances, a box for bands and floors. A set is enforced by an
augmented Lagrangian: with multipliers λ, a stiffness ρ and the projection Π onto the set, a deviation u has
the price ρ (v − Π v) with v = u + λ/ρ (J. Nocedal and S. J. Wright, Numerical Optimization, chapter 17).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from coffea_conserv.measures import RMS_PER_JSD

__all__ = (
    "BAND",
    "FLOOR",
    "JSD",
    "RMS",
    "Limits",
    "Prices",
    "Room",
    "Totals",
    "correlations",
    "defined",
    "used",
    "variances",
)

RMS, JSD, BAND, FLOOR = 0, 1, 2, 3
"""How a table is limited, see :class:`Limits`."""

_SPREAD = 1e-6
"""Variance, in units of that of the group, below which the correlation of a pair is not defined."""

_TINY = 1e-9


@dataclass(frozen=True)
class Totals:
    """Sums over the events as they are, float64.

    Parameters
    ----------
    first, second
        Σ w z_j and Σ w z_j² over events in which k is present too, shape (groups, features, features).
    cross
        Σ w z_j z_k, same shape.
    content
        Sums of weights in bins, shape (groups, tables, bins); the last bin means "not there".
    """

    first: Tensor
    second: Tensor
    cross: Tensor
    content: Tensor

    def where(self, groups: Tensor, other: Totals) -> Totals:
        """Own sums of the groups that a mask of shape (groups,) names, those of another for the rest."""
        mask = groups[:, None, None]
        names = ("first", "second", "cross", "content")
        return Totals(*(torch.where(mask, getattr(self, name), getattr(other, name)) for name in names))


@dataclass(frozen=True)
class Limits:
    """What the attack must keep, float64.

    Parameters
    ----------
    weight
        Sum of weights of events in which both features are present, shape (groups, features, features).
    nominal
        Correlation matrices, same shape; 0 where not defined.
    good
        Pairs whose correlation is defined, without the diagonal, same shape.
    correlation
        Largest norm of :meth:`shift`, shape (groups,).
    origin
        Nominal sums.
    drift
        Weights of changes of means in :meth:`shift`, shape (features,): features that are present in the
        same events share one. ``None`` if means do not matter or do not change.
    reference
        Nominal content of the tables, shape (groups, tables, bins).
    table
        Limit of each table as a relative deviation, shape (groups, tables).
    kind
        Shape (tables,): ``RMS``; ``JSD``, in units in which small deviations are r.m.s. deviations; ``BAND``;
        ``FLOOR``, at most one and the last: bins that must not fall below a content.
    events, total
        Number of events and sum of weights, shape (groups,).
    floor
        What the bins of that table must hold, and what is aimed at, shape (groups, 2, bins).
    """

    weight: Tensor
    nominal: Tensor
    good: Tensor
    correlation: Tensor
    origin: Totals
    drift: Tensor | None
    reference: Tensor
    table: Tensor
    kind: Tensor
    events: Tensor
    total: Tensor
    floor: Tensor | None = None

    def shift(self, totals: Totals) -> Tensor:
        """Change of the correlation matrix and of the means behind it, shape (groups, features, columns).

        Samples that are merged keep their correlations only if they keep the means of z and z² too, over the
        events in which the other feature is present. Where these can change, they follow in two more blocks;
        as a product with 1 a mean counts twice, like any entry of a symmetric matrix of moments.
        """
        shift = correlations(totals, self.weight, self.good) - self.nominal
        if self.drift is None:
            return shift
        before, after = (means(sums, self.weight) for sums in (self.origin, totals))
        first, second = (self.drift * (new - old) for old, new in zip(before, after, strict=True))
        return torch.cat([shift, math.sqrt(2) * first, second], dim=2)

    def sizes(self) -> Tensor:
        """Sums of weights in the bins of each table, shape (groups, tables, 1)."""
        return self.reference[..., :-1].sum(-1, keepdim=True).clamp(min=_TINY)

    def scale(self, content: Tensor) -> Tensor:
        """Content of a bin that a deviation is measured against, shape (groups, tables, bins).

        Deviation² / scale / size is what the bin adds to the square of the measure; for ``JSD`` exactly so.
        """
        both = (self.reference + content).clamp(min=_TINY)
        r = ((content - self.reference) / both).clamp(-1, 1)
        curved = torch.where(r.abs() > 1e-4, _entropy(r) / (r * r).clamp(min=1e-12), 1.0)
        found = torch.where(self.kind[:, None] == JSD, both / 2 / curved, self.reference.clamp(min=_TINY))
        if self.floor is None:
            return found
        wanted = torch.maximum(self.reference[:, -1], self.floor[:, 1]).clamp(min=1.0)
        return torch.cat([found[:, :-1], wanted[:, None]], dim=1)


@dataclass(frozen=True)
class Prices:
    """Multipliers of the limits, or prices, in units of mean gain.

    Parameters
    ----------
    correlation
        Of entries of :meth:`Limits.shift`, shape (groups, features, columns).
    tables
        Of deviations / √(scale · size), shape (groups, tables, bins).
    """

    correlation: Tensor
    tables: Tensor


@dataclass(frozen=True)
class Room:
    """The sets of the augmented Lagrangian: a part of each limit, so that fluctuations stay inside of it.

    Parameters
    ----------
    limits
        The limits.
    full
        Share of a limit that is aimed at.
    edge
        The same for each bin of a band, where the last events are the hardest to place.
    """

    limits: Limits
    full: float
    edge: float

    def prices(self, totals: Totals, multipliers: Prices, stiffness: Tensor) -> Prices:
        """Prices ρ (v − Π v) at the present sums.

        Parameters
        ----------
        totals, multipliers
            Where the sums are, and λ.
        stiffness
            ρ of correlations and of tables, shape (groups, 2).
        """
        limits = self.limits
        rho = stiffness[:, 0, None, None]
        v = limits.shift(totals) + multipliers.correlation / rho
        correlation = rho * _outside(v, self.full * limits.correlation[:, None, None], (1, 2))
        if not limits.kind.numel():
            return Prices(correlation, multipliers.tables)
        rho = stiffness[:, 1, None, None]
        unit = torch.sqrt(limits.scale(totals.content) * limits.sizes())
        v = (totals.content - limits.reference) / unit + multipliers.tables / rho
        v = torch.cat([v[..., :-1], torch.zeros_like(v[..., -1:])], dim=-1)
        low, high = self._box(unit)
        ball = _outside(v, self.full * limits.table[..., None], (2,))
        return Prices(
            correlation, rho * torch.where(limits.kind[:, None] >= BAND, v - v.clamp(low, high), ball)
        )

    def _box(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest deviations of bins, shape (groups, tables, bins)."""
        limits = self.limits
        high = self.edge * limits.table[..., None] * torch.sqrt(limits.reference / limits.sizes())
        if limits.floor is None:
            return -high, high
        low = (limits.floor[:, 1] - limits.reference[:, -1]) / unit[:, -1]
        return (
            torch.cat([-high[:, :-1], low[:, None]], dim=1),
            torch.cat([high[:, :-1], torch.full_like(low, torch.inf)[:, None]], dim=1),
        )


def penalty(prices: Prices, stiffness: Tensor) -> Tensor:
    """Value of the augmented Lagrangian's penalty where it has these prices, shape (groups,)."""
    squares = torch.stack([(prices.correlation**2).sum((1, 2)), (prices.tables**2).sum((1, 2))], dim=1)
    total: Tensor = (squares / (2 * stiffness)).sum(1)
    return total


def means(totals: Totals, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Means of z_j and of z_j² over events in which k is present too, shape (groups, features, features)."""
    weight = weight.clamp(min=_TINY)
    return totals.first / weight, totals.second / weight


def variances(totals: Totals, weight: Tensor, good: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of j over events in which k is present too, shape (groups, features, features)."""
    weight = torch.where(good, weight, 1.0)
    mean = totals.first / weight
    return mean, torch.where(good, totals.second / weight - mean**2, 1.0).clamp(min=_SPREAD)


def correlations(totals: Totals, weight: Tensor, good: Tensor) -> Tensor:
    """Weighted Pearson matrices, pairwise complete; 0 outside of ``good``.

    The definition is that of :func:`coffea_conserv.measures.correlation`.
    """
    mean, variance = variances(totals, weight, good)
    covariance = totals.cross / torch.where(good, weight, 1.0) - mean * mean.transpose(1, 2)
    return torch.where(good, covariance / torch.sqrt(variance * variance.transpose(1, 2)), 0.0)


def defined(totals: Totals, weight: Tensor) -> Tensor:
    """Pairs of different features that both vary where both are present."""
    safe = torch.where(weight > 0, weight, 1.0)
    spread = (weight > 0) & (totals.second / safe - (totals.first / safe) ** 2 > _SPREAD)
    other = ~torch.eye(weight.shape[1], dtype=torch.bool, device=weight.device)
    good: Tensor = spread & spread.transpose(1, 2) & other
    return good


def used(limits: Limits, totals: Totals) -> Tensor:
    """Share of every limit that is used, shape (groups, 1 + tables), correlation first; 1 is full."""
    share: Tensor = torch.linalg.vector_norm(limits.shift(totals), dim=(1, 2)) / limits.correlation.clamp(
        min=1e-12
    )
    if not limits.kind.numel():
        return share[:, None]
    before, after = limits.reference[..., :-1], totals.content[..., :-1]
    p, q = (part / part.sum(-1, keepdim=True).clamp(min=1e-300) for part in (before, after))
    deviation = (q - p).abs()
    relative = torch.where(deviation > 0, deviation / p.clamp(min=1e-300), 0.0)
    both = p + q
    r = torch.where(both > 0, (q - p) / both.clamp(min=1e-300), 0.0)
    divergence = (_entropy(r) * both).sum(-1) / (4 * math.log(2))
    found = torch.where(limits.kind == BAND, relative.amax(-1), (relative * deviation).sum(-1).sqrt())
    found = torch.where(limits.kind == JSD, RMS_PER_JSD * divergence.sqrt(), found)
    if limits.floor is not None:
        lacking = (limits.floor[:, 0, :-1] - after[:, -1]).amax(-1) / limits.sizes()[:, -1, 0]
        found = torch.cat([found[:, :-1], 1 + lacking[:, None] - _TINY], dim=1)
    return torch.cat([share[:, None], found / limits.table.clamp(min=1e-12)], dim=1)


def _entropy(r: Tensor) -> Tensor:
    """(1 + r) ln(1 + r) + (1 − r) ln(1 − r), about r² for small r."""
    up, down = torch.special.xlog1py(1 + r, r), torch.special.xlog1py(1 - r, -r)
    entropy: Tensor = (up + down).clamp(min=0)
    return entropy


def _outside(v: Tensor, radius: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Part of v that sticks out of a ball."""
    norm = torch.linalg.vector_norm(v, dim=dims, keepdim=True)
    share: Tensor = (1 - radius / norm.clamp(min=1e-300)).clamp(min=0)
    return v * share
