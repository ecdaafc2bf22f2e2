"""Constraints of a solver: deviations of sums from nominal, used shares of limits, and prices.

A limit is a set in which the deviations of sums from nominal must stay, see
:mod:`coffea_conserv.solvers.lagrangian`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from coffea_conserv.limits.measures import RMS_PER_JSD

__all__ = (
    "BAND",
    "FLOOR",
    "JSD",
    "KS",
    "KUIPER",
    "RMS",
    "STEP",
    "Further",
    "Limits",
    "Prices",
    "Totals",
    "correlations",
    "defined",
    "used",
    "variances",
)

RMS, JSD, BAND, FLOOR, KS, KUIPER = 0, 1, 2, 3, 4, 5
"""How a table is limited, see :class:`Limits` and :class:`Further`."""

STEP = 2.5
"""Weight of differences of cumulative distributions beside deviations of bins. With √6 a change that crosses
a third of all bins is as large in both; with 1 the solver comes back into its limits too late."""

_SPREAD = 1e-6
"""Variance, in units of that of the group, below which the correlation of a pair is not defined."""

_TINY = 1e-9

_ROUNDING = 1e-7
"""Relative deviation of a bin that is rounding, as in :mod:`coffea_conserv.limits.measures`."""


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
class Further:
    """Limits on tables beside those that each of them has.

    Parameters
    ----------
    kind
        Shape (sets,): ``KS``, the largest difference of cumulative distributions; ``KUIPER``, the same of any
        arc of a circle; ``RMS``.
    table
        Which table, shape (sets,).
    limit
        Shape (groups, sets).
    """

    kind: Tensor
    table: Tensor
    limit: Tensor

    def of(self, tables: Tensor) -> Tensor:
        """Rows of the tables that are limited, shape (groups, sets, …) from (groups, tables, …)."""
        return tables.index_select(1, self.table)


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
    sides
        How far the bins of bands may fall and rise, in units of ``table``, shape (groups, 2, tables, bins);
        ``None``: all by 1.
    element
        Largest size of each entry of :meth:`shift`, shape (groups, features, columns); ``None``: any.
    further
        Further limits on the tables.
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
    sides: Tensor | None = None
    element: Tensor | None = None
    further: Further | None = None

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

    def range(self) -> tuple[Tensor, Tensor]:
        """How far the content of bins of bands may fall and rise, shape (groups, tables, bins) each."""
        room = self.table[..., None] * self.reference
        return (room, room) if self.sides is None else (room * self.sides[:, 0], room * self.sides[:, 1])

    def smallest(self) -> Tensor:
        """Smallest limit of each table as a deviation, of those on it as a whole, shape (groups, tables)."""
        if self.further is None:
            return self.table
        whole = torch.where(self.further.kind == RMS, self.further.limit, torch.inf)
        place = self.further.table.expand(len(whole), -1)
        return self.table.scatter_reduce(1, place, whole, "amin")

    def steps(self, content: Tensor) -> Tensor:
        """Deviations that the further limits are about, of KS times :data:`STEP`, (groups, sets, bins)."""
        if self.further is None:
            return content.new_zeros((len(content), 0, content.shape[-1]))
        change = self.further.of(content - self.reference)
        change = torch.cat([change[..., :-1], torch.zeros_like(change[..., -1:])], dim=-1)
        size = self.further.of(self.sizes())
        ball = change / torch.sqrt(self.further.of(self.reference).clamp(min=_TINY) * size)
        return torch.where((self.further.kind == RMS)[:, None], ball, STEP * change.cumsum(-1) / size)

    def per_content(self, content: Tensor, prices: Prices) -> Tensor:
        """Price of content of bins, the derivative of the penalty, shape (groups, tables, bins)."""
        size = self.sizes()
        found = prices.tables / torch.sqrt(self.scale(content) * size)
        if self.further is None or prices.further is None:
            return found
        size, price = self.further.of(size), prices.further
        ball = price / torch.sqrt(self.further.of(self.reference).clamp(min=_TINY) * size)
        after = STEP * price.flip(-1).cumsum(-1).flip(-1) / size  # a step is made by all bins up to it
        own = torch.where((self.further.kind == RMS)[:, None], ball, after)
        return found.index_add(1, self.further.table, own)

    def free(self, totals: Totals) -> Prices:
        """Prices of 0."""
        correlation = torch.zeros_like(self.shift(totals))
        return Prices(
            correlation,
            torch.zeros_like(self.reference),
            None if self.element is None else correlation,
            None if self.further is None else torch.zeros_like(self.steps(totals.content)),
        )


@dataclass(frozen=True)
class Prices:
    """Multipliers of the limits, or prices, in units of mean gain.

    Parameters
    ----------
    correlation
        Of entries of :meth:`Limits.shift`, shape (groups, features, columns).
    tables
        Of deviations / √(scale · size), shape (groups, tables, bins).
    element
        Of the same entries because of limits on single ones, same shape; ``None`` if there are none.
    further
        Of :meth:`Limits.steps`, shape (groups, sets, bins); ``None`` if there are none.
    """

    correlation: Tensor
    tables: Tensor
    element: Tensor | None = None
    further: Tensor | None = None

    @property
    def entries(self) -> Tensor:
        """Of entries of :meth:`Limits.shift`, whatever limits them."""
        return self.correlation if self.element is None else self.correlation + self.element

    def joined(self, other: Prices, join: Callable[[Tensor, Tensor], Tensor]) -> Prices:
        """Join with other prices, tensor by tensor."""
        element, further = (
            None if one is None or two is None else join(one, two)
            for one, two in ((self.element, other.element), (self.further, other.further))
        )
        return Prices(
            join(self.correlation, other.correlation), join(self.tables, other.tables), element, further
        )


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

    The definition is that of :func:`coffea_conserv.limits.measures.correlation`.
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
    """Share of every limit that is used, 1 is full.

    Returns
    -------
    Tensor
        Shape (groups, 1 + sets + tables): correlations, the larger share of both limits if there are two;
        further limits on tables; tables.
    """
    shift = limits.shift(totals)
    share: Tensor = torch.linalg.vector_norm(shift, dim=(1, 2)) / limits.correlation.clamp(min=1e-12)
    if limits.element is not None:
        share = torch.maximum(share, (shift.abs() / limits.element.clamp(min=1e-12)).amax((1, 2)))
    if not limits.kind.numel():
        return share[:, None]
    before, after = limits.reference[..., :-1], totals.content[..., :-1]
    p, q = (part / part.sum(-1, keepdim=True).clamp(min=1e-300) for part in (before, after))
    deviation = (q - p).abs()
    relative = torch.where(deviation > 0, deviation / p.clamp(min=1e-300), 0.0)
    both = p + q
    r = torch.where(both > 0, (q - p) / both.clamp(min=1e-300), 0.0)
    divergence = (_entropy(r) * both).sum(-1) / (4 * math.log(2))
    found = torch.where(limits.kind == BAND, _by_side(limits, relative, q < p), _root(relative * deviation))
    found = torch.where(limits.kind == JSD, RMS_PER_JSD * divergence.sqrt(), found)
    if limits.floor is not None:
        lacking = (limits.floor[:, 0, :-1] - after[:, -1]).amax(-1) / limits.sizes()[:, -1, 0]
        found = torch.cat([found[:, :-1], 1 + lacking[:, None] - _TINY], dim=1)
    parts = [share[:, None], found / limits.table.clamp(min=1e-12)]
    if limits.further is not None:
        size = _root(limits.further.of(relative * deviation))
        steps = limits.further.of(q - p).cumsum(-1)
        arc = steps.amax(-1).clamp(min=0) - steps.amin(-1).clamp(max=0)
        size = torch.where(limits.further.kind == KS, steps.abs().amax(-1), size)
        size = torch.where(limits.further.kind == KUIPER, arc, size)
        parts.insert(1, size / limits.further.limit.clamp(min=1e-12))
    return torch.cat(parts, dim=1)


def _root(squares: Tensor) -> Tensor:
    root: Tensor = squares.sum(-1).sqrt()
    return root


def _by_side(limits: Limits, relative: Tensor, down: Tensor) -> Tensor:
    """Largest deviation of bins in units of their own limits, shape (groups, tables)."""
    if limits.sides is not None:
        side = torch.where(down, limits.sides[:, 0, :, :-1], limits.sides[:, 1, :, :-1])
        # sums that come back to nominal are off by rounding, which even a limit of 0 forgives
        relative = torch.where(relative > _ROUNDING, relative / side.clamp(min=1e-12), 0.0)
    largest: Tensor = relative.amax(-1)
    return largest


def _entropy(r: Tensor) -> Tensor:
    """(1 + r) ln(1 + r) + (1 − r) ln(1 − r), about r² for small r."""
    up, down = torch.special.xlog1py(1 + r, r), torch.special.xlog1py(1 - r, -r)
    entropy: Tensor = (up + down).clamp(min=0)
    return entropy
