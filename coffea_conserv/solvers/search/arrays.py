"""Limits, sums and events of the ``search`` solver as the arrays that its compiled loops take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.limits.measures import RMS_PER_JSD
from coffea_conserv.solvers.constraints import BAND, FLOOR, JSD, Limits

__all__ = (
    "Bounds",
    "Change",
    "Hop",
    "Present",
    "Rules",
    "SearchEvents",
    "SearchOffers",
    "SearchSums",
    "Spot",
    "TableBin",
    "Target",
    "Value",
    "make_bounds",
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


class Value(NamedTuple):
    """Value of a feature of an event, or of what else is carried along for it."""

    event: int
    column: int


class Spot(NamedTuple):
    """Table, feature or further limit of a group."""

    group: int
    column: int


class TableBin(NamedTuple):
    """Bin of a table of a group."""

    group: int
    table: int
    bin: int


class Hop(NamedTuple):
    """Bins of a table that the weight of an event leaves and enters."""

    start: int
    end: int


class Target(NamedTuple):
    """Event among the offers, its candidate, and the best cost so far."""

    offer: int
    candidate: int
    best: float


class Present(NamedTuple):
    """What the row of an event as it is adds, that row, room for another one, and a memory of bins."""

    before: float
    now: Floats
    row: Floats
    memory: Floats


class Change(NamedTuple):
    """New standardised value of an event, and its bins in the tables that depend on it."""

    new: np.float32
    tables: Integers
    cells: Integers


class Bounds(NamedTuple):
    """What does not change: as in :class:`coffea_conserv.solvers.constraints.Limits`, as arrays.

    ``norm`` is that of the nominal correlation matrices; ``table`` is in units of the running measure, a
    square except for bands; ``floor`` is −∞ but for the table of the score; ``drift`` is 0 without one.
    ``sides`` of shape (groups, 2, tables, bins) and ``element`` of shape (groups, features, columns) are of
    size 0 where they are not needed. Further limits: ``more_kind`` and ``more_table`` of shape (sets,),
    ``more`` of shape (groups, sets).
    """

    weight: Floats
    good: Booleans
    nominal: Floats
    first: Floats
    second: Floats
    drift: Floats
    correlation: Floats
    norm: Floats
    reference: Floats
    size: Floats
    table: Floats
    kind: Integers
    floor: Floats
    sides: Floats
    element: Floats
    more_kind: Integers
    more_table: Integers
    more: Floats


class SearchSums(NamedTuple):
    """Running sums, as in :class:`coffea_conserv.solvers.constraints.Totals`, and measures made of them.

    ``shift`` is the square of the change of the correlation matrix, shape (groups,); ``divergence`` that of
    the Jensen–Shannon distance, ``used`` the measure of each table's own limit, shape (groups, tables).
    """

    first: Floats
    second: Floats
    cross: Floats
    content: Floats
    shift: Floats
    divergence: Floats
    used: Floats


class SearchEvents(NamedTuple):
    """All events: z, which values are there, weight, group, bins of the tables."""

    z: NDArray[np.float32]
    there: Booleans
    weight: Floats
    group: Integers
    cells: Integers


class Rules(NamedTuple):
    """Feature and its table, −1 without; weights of the two costs; limits of a single change."""

    feature: int
    table: int
    alpha: float
    beta: float
    limit_jsd: float
    limit_frobenius: float


class SearchOffers(NamedTuple):
    """Candidates of some events for one feature.

    ``event`` is the index of each event; ``z`` and ``fine`` are new z and whether they are possible, shape
    (events, candidates).

    ``tables`` are those in which a change can move an event, its own marginal first if there is one;
    ``cells`` the bins in these, shape (events, candidates, tables).
    """

    rules: Rules
    event: Integers
    z: NDArray[np.float32]
    fine: Booleans
    tables: Integers
    cells: Integers


def make_bounds(limits: Limits, full: float) -> Bounds:
    """Limits as arrays; ``full`` is the share of them that is aimed at."""
    d = limits.weight.shape[1]
    kind, aim = limits.kind, full * limits.table
    radius = torch.where(kind == JSD, aim / RMS_PER_JSD, aim)
    table = torch.where(kind == BAND, aim, torch.where(kind == FLOOR, torch.inf, radius**2))
    zero = torch.zeros(d, dtype=torch.float64)
    floor = torch.full_like(limits.weight.new_zeros((len(aim), limits.reference.shape[-1])), -torch.inf)
    if limits.floor is not None:
        floor = limits.floor[:, 0]
    arrays = (
        limits.weight,
        limits.good,
        limits.nominal,
        limits.origin.first,
        limits.origin.second,
        zero if limits.drift is None else limits.drift,
        full * limits.correlation,
        torch.sqrt(d + (limits.nominal**2).sum((1, 2))),
        limits.reference,
        limits.sizes()[..., 0],
        table,
        kind,
        floor,
        *_optional(limits, full),
    )
    return Bounds(*(np.ascontiguousarray(array.cpu().numpy()) for array in arrays))


def _optional(limits: Limits, full: float) -> tuple[Tensor, ...]:
    """Sides of bands, limits of single correlations, and further limits; of size 0 where there are none."""
    new, further = limits.weight.new_zeros, limits.further
    none = limits.kind.new_zeros(0)
    kind, table, more = (none, none, new((len(limits.total), 0)))
    if further is not None:
        kind, table, more = further.kind, further.table, full * further.limit
    sides = new((0, 2, 0, 0)) if limits.sides is None else limits.sides
    element = new((0, 0, 0)) if limits.element is None else full * limits.element
    return sides, element, kind, table, more
