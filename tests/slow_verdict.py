"""The verdict of a matrix made again: hist fills the histograms, plain loops do the rest."""

from __future__ import annotations

import bisect
import math

import hist
import numpy as np
import slow_twins
import torch

LOOPS = 8_000
"""Products up to which correlations are summed by plain loops; in larger samples NumPy sums pair by pair."""


def assert_judged(batch, task, x, limits, scores=None):
    """Raise unless the limits are those of the slow twin, and every event is as it may be."""
    assert_events(batch, task, x)
    found = {(limit.name, str(limit.group), limit.measure): (limit.value, limit.limit) for limit in limits}
    assert len(found) == len(limits)
    expected = verdict(batch, task, x, scores)
    assert found.keys() == expected.keys()
    for key, pair in expected.items():
        for mine, theirs in zip(found[key], pair, strict=True):
            assert math.isclose(mine, theirs, rel_tol=1e-6, abs_tol=2e-7), f"{key}: {found[key]}, not {pair}"


def assert_events(batch, task, x):
    """Raise unless what moved may move, and is possible where it is."""
    same = (x == batch.x) | (np.isnan(x) & np.isnan(batch.x))
    assert same[batch.group < 0].all()
    for j, feature in enumerate(task.features):
        before, after = (values[~same[:, j], j] for values in (batch.x, x))
        assert not (feature.frozen and len(after))
        assert there(feature, before).all()
        assert there(feature, after).all()
        assert np.isfinite(after).all()
        assert feature.axis.traits.continuous or all(float(value).is_integer() for value in after)
        assert feature.low is None or (after >= feature.low).all()
        assert feature.high is None or (after <= feature.high).all()


def verdict(batch, task, x, scores=None):
    """Name, group and measure → value and limit."""
    stacks = [[*values.T, *watched(batch, task, values)] for values in (batch.x, x)]
    made = {}
    for value in sorted({int(g) for g in batch.group if g >= 0}):
        rows = np.flatnonzero(batch.group == value)
        weight = batch.weight[rows]
        if math.fsum(weight) <= 0:
            continue
        before, after = ([column[rows] for column in stack] for stack in stacks)
        found = {**tables(task, before, after, weight), **correlations(task, before, after, weight)}
        found |= moves(task, before, after)
        if scores is not None and (weight < 0).any():
            found["score", "negative"] = negative([s[rows] for s in scores], weight, task.score_edges), 0.0
        made |= {(name, str(value), measure): pair for (name, measure), pair in found.items()}
    return made


def watched(batch, task, x):
    """Watched quantities of features, shape (events,) each."""
    columns = {f.name: torch.from_numpy(x[:, j].copy()) for j, f in enumerate(task.features)}
    columns |= {name: torch.from_numpy(np.asarray(values)) for name, values in batch.context.items()}
    return [w.function(columns).numpy() if len(x) else np.zeros(0) for w in task.watched]


def there(quantity, column):
    """Which values do not stand for one that is not there."""
    found = np.ones(len(column), dtype=bool)
    for missing in quantity.missing_values:
        found &= (
            ~np.isnan(column) if math.isnan(missing) else column.astype(np.float32) != np.float32(missing)
        )
    return found


def filled(quantity, column, weight):
    """Sums of weights of the bins, flow included, as hist fills them."""
    some = there(quantity, column)
    values = np.asarray(column[some], dtype=np.float64)
    if not quantity.axis.traits.continuous:
        values = np.floor(values).astype(int)
    return hist.Hist(quantity.axis).fill(values, weight=weight[some]).values(flow=True)


def tables(task, before, after, weight):
    """Limits on marginals and on watched quantities."""
    budget, found = task.budget, {}
    closed = 0.0 if budget.frozen else math.inf
    for j, quantity in enumerate((*task.features, *task.watched)):
        pair = [filled(quantity, columns[j], weight) for columns in (before, after)]
        if j >= len(task.features):
            limit = min(closed, budget.watch_distance)
            found[f"watched {quantity.name}", "jsd"] = slow_twins.js_distance(*pair), limit
            continue
        found |= marginal(quantity, pair, budget, weight)
        name, traits = quantity.name, quantity.axis.traits
        if budget.ks is not None and traits.ordered:
            value = slow_twins.ks_distance(*pair, circular=traits.circular)
            kind = "kuiper" if traits.circular else "ks"
            found[f"ks {name}", kind] = value, min(closed, budget.ks)
        if budget.chi2 is not None:
            value = slow_twins.chi2(*pair, budget.chi2.events)
            found[f"chi2 {name}", "chi2"] = value, min(closed, budget.chi2.limit)
    return found


def marginal(feature, pair, budget, weight):
    """The limit on one marginal; where weights vary 0 means a tenth of the statistical floor."""
    name = f"marginal {feature.name}"
    limit = 0.0 if budget.frozen or not budget.limits(feature) else budget.marginal(feature.name)
    effective = slow_twins.effective_events(weight)
    equal = math.isclose(max(abs(weight)), min(abs(weight)), rel_tol=1e-6)
    if not limit:
        bins = sum(1 for content in pair[0] if content > 0)
        floor = math.sqrt(2 * max(bins - 1, 0) / (8 * math.log(2) * effective)) if effective > 0 else 0.0
        forgiven = budget.frozen or equal or not budget.limits(feature)
        return {(name, "jsd"): (slow_twins.js_distance(*pair), 0.0 if forgiven else 0.1 * floor)}
    sides = budget.sides(feature.name, feature.axis)
    if sides is None:
        measure = {"jsd": "js_distance"}.get(budget.kind, f"{budget.kind}_deviation")
        return {(name, budget.kind): (getattr(slow_twins, measure)(*pair), limit)}
    if not equal:
        total = math.fsum(content for content in pair[0] if content > 0)
        chance = [math.sqrt(2 * total / (effective * p)) if p > 0 else 0.0 for p in pair[0]]
        sides = [[side or 0.1 * floor for side, floor in zip(half, chance, strict=True)] for half in sides]
    return {(name, "worst bin"): (slow_twins.band_share(*pair, sides), 1.0)}


def correlations(task, before, after, weight):
    """Limits on the correlations of the features."""
    count, budget = len(task.features), task.budget
    small = len(weight) * count**2 <= LOOPS
    matrices = []
    for columns in (before[:count], after[:count]):
        present = [there(f, column) for f, column in zip(task.features, columns, strict=True)]
        matrices.append((slow_twins.pearson if small else pearson)(columns, present, weight))
    found = {
        ("correlation", "frobenius"): (slow_twins.correlation_shift(*matrices), max(budget.correlation, 1e-6))
    }
    if budget.correlation_element is not None:
        change = slow_twins.correlation_change(*matrices)
        found["correlation element", "element"] = change, max(budget.correlation_element, 1e-6)
    return {key: (value, 0.0 if budget.frozen else limit) for key, (value, limit) in found.items()}


def pearson(columns, present, weight):
    """As the slow twin does it, with NumPy's sums."""
    matrix = np.eye(len(columns))
    for j in range(len(columns)):
        for k in range(j):
            rows = present[j] & present[k]
            w, one, two = weight[rows], columns[j][rows].astype(float), columns[k][rows].astype(float)
            if w.sum() <= 0:
                continue
            one, two = (column - np.average(column, weights=w) for column in (one, two))
            spread = [(w * column**2).sum() for column in (one, two)]
            squares = [(w * columns[c][rows].astype(float) ** 2).sum() for c in (j, k)]
            if all(v > 1e-12 * max(square, 0) for v, square in zip(spread, squares, strict=True)):
                matrix[j, k] = matrix[k, j] = (w * one * two).sum() / math.sqrt(spread[0] * spread[1])
    return matrix


def moves(task, before, after):
    """Caps of single values."""
    found = {}
    for j, feature in enumerate(task.features):
        caps = {"absolute": feature.max_shift, "relative": feature.max_relative_shift}
        period = float(np.ptp(feature.axis.edges)) if feature.axis.traits.circular else math.inf
        pairs = [(old, new) for old, new in zip(before[j], after[j], strict=True) if old != new]
        moved = [(abs(float(old)), slow_twins.shift(old, new, period)) for old, new in pairs]
        for measure, cap in caps.items():
            sizes = [m if measure == "absolute" else m / a if a else math.inf for a, m in moved if m > 0]
            if cap is not None:
                found[f"shift {feature.name}", measure] = max(sizes, default=0.0), float(cap)
    return found


def negative(scores, weight, edges):
    """Content of bins of the score that the attack turned negative, over the whole content."""
    contents = []
    for score in scores:
        content = [0.0] * (len(edges) - 1)
        for s, w in zip(score, weight, strict=True):
            content[min(max(bisect.bisect_right(list(edges), float(s)) - 1, 0), len(content) - 1)] += float(w)
        contents.append(content)
    lost = math.fsum(max(min(p, 0.0) - q, 0.0) for p, q in zip(*contents, strict=True))
    return lost / math.fsum(contents[0])
