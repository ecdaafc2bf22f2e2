"""Compiled loops of the ``search`` solver: each event sees what the earlier ones changed.

All sums are carried along exactly. A change of one value touches two bins of a histogram and one row of the
correlation matrix, so that an event costs the same in a sample of any size. Measures are those of
:func:`coffea_conserv.solvers.constraints.used`. Importing this module starts the compiler; nothing else does.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from coffea_conserv.solvers.search import arrays
from coffea_conserv.solvers.search.arrays import (
    Bounds,
    Change,
    Floats,
    Hop,
    Integers,
    Present,
    SearchEvents,
    SearchOffers,
    SearchSums,
    Spot,
    TableBin,
    Target,
    Value,
)

__all__ = ("measure", "sweep", "undo")

F = TypeVar("F", bound=Callable[..., Any])

_RMS, _JSD, _BAND, _KS = (
    0,
    1,
    2,
    4,
)  # those of constraints.py; compiled code sees constants of its own module only
_SPREAD, _TINY = 1e-6, 1e-9
_ROUNDING = 1e-7
"""Relative deviation of a bin that is rounding, where limits may be 0."""

_SLACK = 1e-12
"""What rounding may add to a measure that is not made worse."""


_SOURCE = inspect.getsource(arrays) + inspect.getsource(sys.modules[__name__])
_STAMP = hashlib.sha256(_SOURCE.encode()).hexdigest()[:12]
"""Of all that goes into compiled code. numba looks at one file and its date, and stumbles over what an
earlier version of this package has left on disk."""


def _compiled(function: F) -> F:
    """Compile at the first call, and keep the result on disk where there is a place for it."""
    function.__qualname__ += f"_{_STAMP}"  # names the file on disk
    try:
        return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)(function))
    except RuntimeError:  # no folder of a cache is writable, as on some batch nodes
        return cast("F", numba.njit(nogil=True, error_model="numpy", forceinline=True)(function))


@_compiled
def _divergence(p: float, q: float) -> float:
    """Share of one bin in the Jensen–Shannon divergence."""
    p, q = max(p, 0.0), max(q, 0.0)
    both = p + q
    if both <= 0.0:
        return 0.0
    r = (q - p) / both
    up = (1 + r) * math.log1p(r) if r > -1.0 else 0.0
    down = (1 - r) * math.log1p(-r) if r < 1.0 else 0.0
    return max(up + down, 0.0) * both / (4 * math.log(2.0))


@_compiled
def _deviation(kind: int, p: float, q: float) -> float:
    """Share of one bin in the running measure of a table; a band takes the largest one."""
    if kind == _JSD:
        return _divergence(p, q)
    change = abs(q - p)
    if change <= 0.0:
        return 0.0
    if p <= 0.0:
        return math.inf
    return change / p if kind == _BAND else change * change / p


@_compiled
def _bin(bounds: Bounds, cell: TableBin, p: float, q: float) -> float:
    """Share of one bin in the running measure of its table: of a band with sides, as a part of its own."""
    g, t, at = cell
    found = _deviation(bounds.kind[t], p, q)
    if bounds.sides.shape[0] == 0 or bounds.kind[t] != _BAND or found <= _ROUNDING:
        return found
    side = bounds.sides[g, 0 if q < p else 1, t, at]
    return found / side if side > 0.0 else math.inf


@_compiled
def _row(bounds: Bounds, sums: SearchSums, events: SearchEvents, at: Value, new: float, row: Floats) -> float:
    """Square of what a feature adds to the change of correlations, if an event has another value.

    ``at`` is event and feature; ``row`` gets the changes of the correlations of the feature, and if there is
    room those of its means.
    """
    i, j = at
    g, w, old = events.group[i], events.weight[i], np.float64(events.z[i, j])
    by, square, total = w * (new - old), w * (new * new - old * old), 0.0
    d = events.z.shape[1]
    for k in range(d):
        there, n = events.there[i, k], bounds.weight[g, j, k]
        first = sums.first[g, j, k] + (by if there else 0.0)
        second = sums.second[g, j, k] + (square if there else 0.0)
        row[k] = 0.0
        if bounds.good[g, j, k]:
            mean, other = first / n, sums.first[g, k, j] / n
            spread = max(second / n - mean * mean, _SPREAD)
            width = max(sums.second[g, k, j] / n - other * other, _SPREAD)
            cross = sums.cross[g, j, k] + (by * events.z[i, k] if there else 0.0)
            row[k] = (cross / n - mean * other) / math.sqrt(spread * width) - bounds.nominal[g, j, k]
            total += 2 * row[k] * row[k]
        if bounds.drift[k] > 0.0:
            unit = bounds.drift[k] / max(n, _TINY)
            one, two = unit * (first - bounds.first[g, j, k]), unit * (second - bounds.second[g, j, k])
            total += 2 * one * one + two * two
            if len(row) > d:
                row[d + k], row[2 * d + k] = math.sqrt(2.0) * one, two
    return total


@_compiled
def _kept(bounds: Bounds, sums: SearchSums, spot: Spot, w: float, bins: Hop) -> bool:
    """Whether a table stays within its limit, or gets no worse, if a weight goes to another bin."""
    (g, q), (a, b) = spot, bins
    last = bounds.reference.shape[2] - 1
    if a == b:
        return True
    if last in (a, b):  # a quantity that appears or disappears changes every share
        return False
    left = sums.content[g, q, a] - w
    if bounds.kind[q] > _BAND:
        return bool(left >= bounds.floor[g, a])
    for n in range(len(bounds.more_table)):
        if bounds.more_table[n] == q and not _further(bounds, sums, Spot(g, n), w, bins):
            return False
    size, kind, limit = bounds.size[g, q], bounds.kind[q], bounds.table[g, q]
    value = sums.used[g, q] if kind != _BAND else 0.0
    for at, by in ((a, -w), (b, w)):
        p, content = bounds.reference[g, q, at] / size, sums.content[g, q, at]
        before = _bin(bounds, TableBin(g, q, at), p, content / size)
        after = _bin(bounds, TableBin(g, q, at), p, (content + by) / size)
        if kind == _BAND and after > limit and after > before + _SLACK:
            return False
        value += after - before
    return bool(kind == _BAND or value <= limit or value <= sums.used[g, q])


@_compiled
def _further(bounds: Bounds, sums: SearchSums, spot: Spot, w: float, bins: Hop) -> bool:
    """Whether a further limit on a table is kept, or gets no worse, if a weight goes to another bin."""
    (g, n), (a, b), limit = spot, bins, bounds.more[spot.group, spot.column]
    kind, t = bounds.more_kind[n], bounds.more_table[n]
    before, after = np.zeros(3), np.zeros(3)  # sum of squares or largest step, then its smallest and largest
    steps, size = np.zeros(2), bounds.size[g, t]
    for at in range(bounds.reference.shape[2] - 1):
        p, q = bounds.reference[g, t, at] / size, sums.content[g, t, at] / size
        then = q + (w if at == b else 0.0) / size - (w if at == a else 0.0) / size
        for side, value, found in ((0, q, before), (1, then, after)):
            steps[side] += value - p
            found[0] += _deviation(_RMS, p, value) if kind == _RMS else 0.0
            found[1], found[2] = min(found[1], steps[side]), max(found[2], steps[side])
    if kind == _RMS:
        return bool(after[0] <= max(limit * limit, before[0]))
    for found in (before, after):
        found[0] = max(-found[1], found[2]) if kind == _KS else found[2] - found[1]
    return bool(after[0] <= max(limit, before[0]))


@_compiled
def _entries(bounds: Bounds, spot: Spot, now: Floats, row: Floats) -> bool:
    """Whether every entry of a row is within its own limit, or gets no worse."""
    g, j = spot
    for k in range(bounds.element.shape[2]):
        size = abs(row[k])
        if size > bounds.element[g, j, k] and size > abs(now[k]) + _SLACK:
            return False
    return True


@_compiled
def _jump(bounds: Bounds, sums: SearchSums, cell: TableBin, by: float, out: Floats) -> None:
    """Give what a bin that changes by a weight adds to two divergences of Jensen and Shannon.

    These are the one from the clean and the one from the present histogram, shape (2,).
    """
    g, q, at = cell
    size = bounds.size[g, q]
    p, before = bounds.reference[g, q, at] / size, sums.content[g, q, at] / size
    after = before + by / size
    out[0] = _divergence(p, after) - _divergence(p, before)
    out[1] = _divergence(before, after)


@_compiled
def _distances(
    bounds: Bounds,
    sums: SearchSums,
    events: SearchEvents,
    at: Value,
    bins: Hop,
    memory: Floats,
) -> tuple[float, float]:
    """Distances of Jensen and Shannon after event i goes to another bin: from the clean, and from now.

    ``memory`` of shape (bins, 2) keeps what is known of this event's bins, NaN
    where nothing is: candidates are more than bins, and logarithms are slow.
    """
    (i, q), (a, b) = at, bins
    g, w = events.group[i], events.weight[i]
    if a == b:
        return math.sqrt(max(sums.divergence[g, q], 0.0)), 0.0
    if math.isnan(memory[a, 0]):
        _jump(bounds, sums, TableBin(g, q, a), -w, memory[a])
    if math.isnan(memory[b, 0]):
        _jump(bounds, sums, TableBin(g, q, b), w, memory[b])
    total = sums.divergence[g, q] + memory[a, 0] + memory[b, 0]
    return math.sqrt(max(total, 0.0)), math.sqrt(memory[a, 1] + memory[b, 1])


@_compiled
def _cost(
    bounds: Bounds,
    sums: SearchSums,
    events: SearchEvents,
    offers: SearchOffers,
    target: Target,
    present: Present,
) -> float:
    """Cost of a candidate, ∞ if it breaks a limit or cannot be below the best one so far."""
    (n, c, best), (before, now, row, memory), rules = target, present, offers.rules
    i, j, q = offers.event[n], rules.feature, rules.table
    g, w, cost = events.group[i], events.weight[i], 0.0
    if q >= 0:
        far, alone = _distances(
            bounds, sums, events, Value(i, q), Hop(events.cells[i, q], offers.cells[n, c, 0]), memory
        )
        cost = rules.alpha * far
        if alone > rules.limit_jsd or cost >= best:
            return math.inf
    square = sums.shift[g] + _row(bounds, sums, events, Value(i, j), np.float64(offers.z[n, c]), row) - before
    square = max(square, 0.0)
    cost += rules.beta * math.sqrt(square) / bounds.norm[g]
    if cost >= best or (math.sqrt(square) > bounds.correlation[g] and square > sums.shift[g]):
        return math.inf
    if bounds.element.size and not _entries(bounds, Spot(g, j), now, row):
        return math.inf
    change = 0.0
    for k in range(events.z.shape[1]):
        change += 2 * (row[k] - now[k]) ** 2
    if math.sqrt(change) / bounds.norm[g] > rules.limit_frobenius:
        return math.inf
    for u in range(len(offers.tables)):
        t = offers.tables[u]
        if not _kept(bounds, sums, Spot(g, t), w, Hop(events.cells[i, t], offers.cells[n, c, u])):
            return math.inf
    return float(cost)


@_compiled
def _make(
    bounds: Bounds,
    sums: SearchSums,
    events: SearchEvents,
    at: Value,
    change: Change,
) -> None:
    """Make one change, of the event and of all sums."""
    (i, j), (new, tables, cells) = at, change
    g, w, old, row = events.group[i], events.weight[i], np.float64(events.z[i, j]), np.empty(len(events.z[i]))
    by = w * (np.float64(new) - old)
    square = w * (np.float64(new) * np.float64(new) - old * old)
    sums.shift[g] -= _row(bounds, sums, events, Value(i, j), old, row)
    for k in range(len(row)):
        if events.there[i, k]:
            sums.first[g, j, k] += by
            sums.second[g, j, k] += square
            sums.cross[g, j, k] += square if k == j else by * events.z[i, k]
            sums.cross[g, k, j] = sums.cross[g, j, k]
    events.z[i, j] = new
    sums.shift[g] = max(sums.shift[g] + _row(bounds, sums, events, Value(i, j), np.float64(new), row), 0.0)
    for u in range(len(tables)):
        t = tables[u]
        if events.cells[i, t] != cells[u]:
            sums.content[g, t, events.cells[i, t]] -= w
            sums.content[g, t, cells[u]] += w
            events.cells[i, t] = cells[u]
            _table(bounds, sums, g, t)


@_compiled
def _table(bounds: Bounds, sums: SearchSums, g: int, t: int) -> None:
    """Measures of one table from its bins: sums of differences would pile up their rounding."""
    size, total, used = bounds.size[g, t], 0.0, 0.0
    for at in range(bounds.reference.shape[2] - 1):
        p, q = bounds.reference[g, t, at] / size, sums.content[g, t, at] / size
        total += _divergence(p, q)
        own = _bin(bounds, TableBin(g, t, at), p, q) if bounds.kind[t] <= _BAND else 0.0
        used = max(used, own) if bounds.kind[t] == _BAND else used + own
    sums.divergence[g, t], sums.used[g, t] = total, used


@_compiled
def measure(bounds: Bounds, sums: SearchSums, events: SearchEvents) -> None:
    """All measures from the sums, in place."""
    groups, d = len(sums.shift), events.z.shape[1]
    row, done = np.empty(d), np.zeros(groups, dtype=np.bool_)
    for i in range(len(events.group)):
        g = events.group[i]
        if done[g]:
            continue
        done[g], total = True, 0.0
        for j in range(d):
            part = _row(bounds, sums, events, Value(i, j), np.float64(events.z[i, j]), row)
            total += part - np.sum(row * row)  # an entry is in the rows of both of its features
        sums.shift[g] = total
        for t in range(len(bounds.kind)):
            _table(bounds, sums, g, t)


@_compiled
def sweep(bounds: Bounds, sums: SearchSums, events: SearchEvents, offers: SearchOffers) -> Integers:
    """Offer candidates to one event after the other, in place.

    Returns
    -------
    numpy.ndarray
        Candidate that each event took, −1 for none, shape (events of the offers,).
    """
    taken, j = np.full(len(offers.event), -1), offers.rules.feature
    columns = max(events.z.shape[1], bounds.element.shape[2])
    now, row = np.zeros(columns), np.zeros(columns)
    memory = np.empty((bounds.reference.shape[2], 2))
    for n in range(len(offers.event)):
        best, i = math.inf, offers.event[n]
        before = _row(bounds, sums, events, Value(i, j), np.float64(events.z[i, j]), now)
        present = Present(before, now, row, memory)
        memory[:] = math.nan
        for c in range(offers.z.shape[1]):
            if offers.fine[n, c]:
                cost = _cost(bounds, sums, events, offers, Target(n, c, best), present)
                if cost < best:
                    best, taken[n] = cost, c
        c = taken[n]
        if c >= 0:
            change = Change(offers.z[n, c], offers.tables, offers.cells[n, c])
            _make(bounds, sums, events, Value(i, j), change)
    return taken


@_compiled
def undo(bounds: Bounds, sums: SearchSums, events: SearchEvents, before: SearchOffers) -> None:
    """Give events back what they had of a feature, the only candidate of each, in place."""
    for n in range(len(before.event)):
        change = Change(before.z[n, 0], before.tables, before.cells[n, 0])
        _make(bounds, sums, events, Value(before.event[n], before.rules.feature), change)
