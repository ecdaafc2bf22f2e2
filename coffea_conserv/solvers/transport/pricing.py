"""Price of a change of one feature of one event, and what it adds to the sums.

A change touches one row of the sums of its group: those of its feature with every other one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from coffea_conserv.solvers.constraints import BAND, Limits, Prices, Totals, correlations, variances
from coffea_conserv.solvers.transport.state import Offers, picked

__all__ = ("Quote", "add", "fits", "quote")

_CROWD = 0.1
"""Weight of the own contribution of a change to a table that is a ball: most of it stays inside."""

_EMPTY = 0.5
"""Share of the square of a limit up to which bins may be emptied for good."""

_NEAR = 3.0
"""Events above a floor from which on a bin is free: far from it nothing has to be held back."""


@dataclass(frozen=True)
class Quote:
    """Costs of offers in units of gain per weight, summed with the weights.

    Parameters
    ----------
    linear
        First order, shape (2, pairs).
    exchange
        Second order if both events of a pair change, shape (pairs,). Changes that are made together at
        random add up their squares: the larger a change, the more noise it makes.
    single
        Second order if one of them changes, shape (2, pairs).
    """

    linear: Tensor
    exchange: Tensor
    single: Tensor


def quote(
    limits: Limits, totals: Totals, prices: Prices, offers: Offers, stiffness: Tensor, *, exact: bool
) -> Quote:
    """Price of offers.

    Parameters
    ----------
    limits, totals
        What is limited, and the sums as they are.
    prices
        Derivative of the penalty with respect to correlations and deviations.
    offers
        What may change.
    stiffness
        Second derivative, shape (groups, 2).
    exact
        Whether exchanges keep the sums of single features, so that only cross sums matter.
    """
    rows = _rows(limits, totals, prices.entries)
    moved = [_member(rows, offers, member, exact=exact) for member in range(offers.members)]
    linear, exchange, single = (sum(parts[1:], start=parts[0]) for parts in zip(*moved, strict=True))
    scale = (stiffness[:, 0] * limits.total)[offers.group]
    linear, exchange, single = linear.double() * offers.weight, scale * exchange, scale * single
    if offers.cells.shape[-1]:
        tables, own = _tables(limits, totals, prices, offers, stiffness[:, 1])
        keeps = _exchanged(offers)
        linear, single = linear + tables, single + own.sum(-1)
        exchange = exchange + torch.where(keeps, 0.0, own).sum((0, 2))
    return Quote(linear, exchange, single)


def _member(rows: _Rows, offers: Offers, member: int, *, exact: bool) -> tuple[Tensor, Tensor, Tensor]:
    """First order per weight, and second orders per stiffness, of the change of one of the features."""
    at = offers.group * offers.z.shape[2] + offers.pairs.feature[:, member]
    old, new, z = offers.old[..., member], offers.new[..., member], offers.z
    delta = new - old
    linear = delta * (rows.cross[at] * z).sum(-1)
    moved = z * (offers.weight.to(z.dtype) * delta)[..., None]
    unit = rows.unit[at]
    exchange = ((moved.sum(0) * unit) ** 2).sum(-1)
    if exact:  # no event of a pair moves alone
        return linear, exchange, torch.zeros_like(linear)
    first, second = (
        part.sum(-1)[at] if offers.there is None else (part[at] * offers.there).sum(-1)
        for part in (rows.first, rows.second)
    )
    linear = linear + delta * first + (new**2 - old**2) * second
    return linear, exchange, ((moved * unit) ** 2).sum(-1)


@dataclass(frozen=True)
class _Rows:
    """Cost per δz_j z_k, per δz_j and per δ(z_j²), and the change of R_jk per w δz_j z_k.

    Each of shape (groups · features, features), in single precision: prices need no more.
    """

    cross: Tensor
    first: Tensor
    second: Tensor
    unit: Tensor


def _rows(limits: Limits, totals: Totals, price: Tensor) -> _Rows:
    """Derivative of Σ P_jk R_jk with respect to the sums, times the sum of weights of the group."""
    mean, variance = variances(totals, limits.weight, limits.good)
    n = torch.where(limits.good, limits.weight, 1.0)
    unit = torch.where(limits.good, 1 / (n * torch.sqrt(variance * variance.transpose(1, 2))), 0.0)
    d, total = len(n[0]), limits.total[:, None, None]
    share = 2 * price[..., :d] * total
    r = correlations(totals, limits.weight, limits.good)
    cross = share * unit
    second = -torch.where(limits.good, share * r / (2 * variance * n), 0.0)
    first = -cross * mean.transpose(1, 2) - 2 * second * mean
    if limits.drift is not None:
        own = limits.drift * total / limits.weight.clamp(min=1e-9)
        first = first + math.sqrt(2) * own * price[..., d : 2 * d]
        second = second + own * price[..., 2 * d :]
    return _Rows(*(part.reshape(-1, d).float() for part in (cross, first, second, unit)))


def _tables(
    limits: Limits, totals: Totals, prices: Prices, offers: Offers, stiffness: Tensor
) -> tuple[Tensor, Tensor]:
    """First-order cost of new bins, shape (2, pairs), and second order by table, (2, pairs, columns)."""
    scale, size, total = limits.scale(totals.content), limits.sizes(), limits.total[:, None, None]
    per_weight = total * limits.per_content(totals.content, prices)
    old, new = (_place(totals.content, offers, cells) for cells in (offers.cells, offers.moved))
    linear = offers.weight * (per_weight.view(-1)[new] - per_weight.view(-1)[old]).sum(-1)
    curve = _crowd(limits, totals) * stiffness[:, None, None] * total / (2 * scale.clamp(min=0.5) * size)
    curve = curve.view(-1)
    own = offers.weight[..., None] ** 2 * (curve[new] + curve[old])
    return linear, torch.where(old == new, 0.0, own)


def _crowd(limits: Limits, totals: Totals) -> Tensor:
    """Weight of the own contribution of a change to a bin, shape (groups, tables, bins) or like it."""
    crowd = torch.where(limits.kind == BAND, 1.0, _CROWD)[None, :, None]
    if limits.floor is None:
        return crowd
    near = totals.content[:, -1:] < limits.floor[:, 1:] + _NEAR
    last = torch.where(near, _CROWD, 0.0)
    return torch.cat([crowd[:, :-1].expand(len(last), -1, last.shape[2]), last], dim=1)


def _exchanged(offers: Offers) -> Tensor:
    """Tables in which the two events only swap their bins and weights are equal, shape (pairs, columns)."""
    even = torch.isclose(offers.weight[0], offers.weight[1], rtol=1e-6)
    return (offers.moved == offers.cells.flip(0)).all(0) & even[:, None]


def _place(content: Tensor, offers: Offers, cells: Tensor) -> Tensor:
    """Index of the bins of offers into the flat contents."""
    tables, bins = content.shape[1:]
    return (offers.group[:, None] * tables + offers.tables) * bins + cells


def add(totals: Totals, offers: Offers, made: Tensor, *, exact: bool) -> Totals:
    """Sums after the changes that are made.

    Parameters
    ----------
    totals
        The sums before.
    offers, made
        What may change, and what does, shape (2, pairs).
    exact
        Whether sums of single features stay.
    """
    which = picked(made)
    weight, z = offers.weight[which] * made[which], offers.z[which].double()
    there = None if exact or offers.there is None else offers.there[which].double()
    sums = [torch.zeros_like(totals.cross).view(-1, z.shape[1]) for _ in range(1 if exact else 3)]
    for member in range(offers.members):
        rows = offers.group[which[1]] * z.shape[1] + offers.pairs.feature[which[1], member]
        old, new = (part[..., member][which].double() for part in (offers.old, offers.new))
        shift = weight * (new - old)
        sums[0].index_add_(0, rows, shift[:, None] * z)
        if exact:
            continue
        for total, change in zip(sums[1:], (shift, weight * (new**2 - old**2)), strict=True):
            wide = change[:, None].expand(z.shape) if there is None else change[:, None] * there
            total.index_add_(0, rows, wide)
    cross, *others = (part.view(totals.cross.shape) for part in sums)
    first, second = totals.first, totals.second
    if others:
        first, second = first + others[0], second + others[1]
    content = _refilled(totals.content, offers, which, weight)
    return Totals(first, second, totals.cross + cross + cross.transpose(1, 2), content)


def _refilled(content: Tensor, offers: Offers, which: tuple[Tensor, ...], weight: Tensor) -> Tensor:
    """Contents of the bins after changes of events of given weight."""
    if not offers.cells.shape[-1]:
        return content
    filled, weight = content.clone(), weight[:, None]
    for cells, sign in ((offers.cells, -1.0), (offers.moved, 1.0)):
        place = _place(content, offers, cells)[which]
        filled.view(-1).index_add_(0, place.reshape(-1), (sign * weight).expand(place.shape).reshape(-1))
    return filled


def fits(limits: Limits, totals: Totals, offers: Offers, copies: Tensor) -> Tensor:
    """Copies for which every band has room, whatever else is copied together with them.

    Where there is no band they empty only as much as half of the limit forgives: when the last event of a bin
    has gone, no other one has a value that could fill it again.

    Parameters
    ----------
    limits, totals
        Bands, and the bins as they are.
    offers, copies
        What may change, and which events would get a copy, shape (2, pairs).
    """
    kept = copies
    for member in range(offers.members):
        again = offers.pairs.feature[:, member] == offers.pairs.feature[:, 0] if member else None
        own = copies if again is None else copies & ~again  # what is only repeated has been looked at
        kept = kept & (_fit(limits, totals, offers, own, member) | ~own)
    return kept


def _fit(limits: Limits, totals: Totals, offers: Offers, copies: Tensor, member: int) -> Tensor:
    """The same for the marginal of one of the features."""
    which = picked(copies)
    asked, q = copies[which], offers.tables[which[1], member]
    weight, group = offers.weight[which] * asked, offers.group[which[1]]
    base = (group * len(limits.kind) + q) * limits.reference.shape[-1]
    low, high = ((1 - 1e-6) * room for room in limits.range())
    deviation = totals.content - limits.reference
    old, new = (base + cells[..., member][which] for cells in (offers.cells, offers.moved))
    leaving = _cumulative(old, weight)
    last = asked & (leaving > totals.content.view(-1)[old] - 1e-6) & (old != new)
    empty = torch.where(totals.content < 1e-6, limits.reference, 0.0)[..., :-1].sum(-1)
    forgiven = (_EMPTY * limits.smallest() ** 2 * limits.sizes()[..., 0] - empty).view(-1)
    at = group * len(limits.kind) + q
    content = torch.where(last, limits.reference.view(-1)[old], 0.0)
    lost = last & (_cumulative(at, content) > forgiven[at])
    out = leaving <= (low + deviation).view(-1)[old]
    into = _cumulative(new, weight) <= (high - deviation).view(-1)[new]
    kept = copies.clone()
    kept[which] = asked & (torch.where(limits.kind[q] == BAND, out & into, ~lost) | (old == new))
    return kept


def _cumulative(key: Tensor, weight: Tensor) -> Tensor:
    """Sum of the weights up to each entry among those with the same key."""
    order = torch.argsort(key, stable=True)
    ordered, sums = key[order], weight[order].cumsum(0)
    first = torch.searchsorted(ordered, ordered)
    found = torch.empty_like(sums)
    found[order] = sums - sums[first] + weight[order][first]
    return found
