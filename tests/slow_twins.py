"""Slow and obvious twins of what the package computes: plain loops in double precision."""

from __future__ import annotations

import bisect
import math


def shares(nominal, attacked):
    """Normalised contents of the bins that count: nominal not negative; an attacked negative one is empty."""
    pairs = [(float(p), max(float(q), 0.0)) for p, q in zip(nominal, attacked, strict=True) if p >= 0]
    total = math.fsum(p for p, _ in pairs), math.fsum(q for _, q in pairs)
    if total[0] <= 0 or total[1] <= 0:
        return []
    return [(p / total[0], q / total[1]) for p, q in pairs]


def js_distance(nominal, attacked):
    """√ of ½ Σ p log₂(p/m) + ½ Σ q log₂(q/m) with m = (p + q)/2."""
    terms = []
    for p, q in shares(nominal, attacked):
        m = (p + q) / 2
        terms += [0.5 * part * math.log2(part / m) for part in (p, q) if part > 0]
    return math.sqrt(max(math.fsum(terms), 0.0))


def rms_deviation(nominal, attacked):
    """√ of Σ p ((q − p)/p)²."""
    terms = []
    for p, q in shares(nominal, attacked):
        if p == 0 and q > 0:
            return math.inf
        if p > 0:
            terms.append(p * ((q - p) / p) ** 2)
    return math.sqrt(math.fsum(terms))


def band_deviation(nominal, attacked):
    """Largest |q − p|/p."""
    largest = 0.0
    for p, q in shares(nominal, attacked):
        if p == 0 and q > 0:
            return math.inf
        if p > 0:
            largest = max(largest, abs(q - p) / p)
    return largest


def band_share(nominal, attacked, sides):
    """Largest |q − p|/p in units of the limit of the bin on that side."""
    largest = 0.0
    inside = [limits for limits, p in zip(zip(*sides, strict=True), nominal, strict=True) if p >= 0]
    for (p, q), (low, high) in zip(shares(nominal, attacked), inside, strict=False):  # none, if one is empty
        if p == 0 and q > 0:
            return math.inf
        moved = abs(q - p) / p if p else 0.0
        if moved > 1e-7:
            side = low if q < p else high
            largest = max(largest, moved / side if side else math.inf)
    return largest


def ks_distance(nominal, attacked, *, circular=False):
    """Largest difference of the content up to an edge; on a circle that between any two edges."""
    change = [q - p for p, q in shares(nominal, attacked)]
    firsts = range(len(change)) if circular else [0]
    arcs = [math.fsum(change[i:j]) for i in firsts for j in range(i, len(change) + 1)]
    return max((abs(arc) for arc in arcs), default=0.0)


def chi2(nominal, attacked, events):
    """Sum of (expected − found)²/expected of as many events."""
    terms = []
    for p, q in shares(nominal, attacked):
        if p == 0 and q > 0:
            return math.inf
        if p > 0:
            terms.append((events * q - events * p) ** 2 / (events * p))
    return math.fsum(terms)


def correlation_change(nominal, attacked):
    """Largest |R′ − R|."""
    pairs = zip(nominal, attacked, strict=True)
    return max(
        abs(float(s) - float(r)) for before, after in pairs for r, s in zip(before, after, strict=True)
    )


def pearson(columns, there, weight):
    """Weighted Pearson matrix, each pair over the events that have both; means first, then deviations."""
    count = len(columns)
    matrix = [[1.0] * count for _ in range(count)]
    for j in range(count):
        for k in range(count):
            if j != k:
                rows = [i for i in range(len(weight)) if there[j][i] and there[k][i]]
                one, two = ([float(columns[c][i]) for i in rows] for c in (j, k))
                matrix[j][k] = _pearson_of_pair(one, two, [float(weight[i]) for i in rows])
    return matrix


def _pearson_of_pair(one, two, weight):
    total = math.fsum(weight)
    if total <= 0:
        return 0.0
    means = [math.fsum(w * x for w, x in zip(weight, column, strict=True)) / total for column in (one, two)]
    away = [[x - mean for x in column] for column, mean in zip((one, two), means, strict=True)]
    triples = list(zip(weight, *away, strict=True))
    variances = math.fsum(w * x * x for w, x, _ in triples), math.fsum(w * y * y for w, _, y in triples)
    squares = [math.fsum(w * x * x for w, x in zip(weight, column, strict=True)) for column in (one, two)]
    if any(v <= 1e-12 * max(square, 0.0) for v, square in zip(variances, squares, strict=True)):
        return 0.0
    return math.fsum(w * x * y for w, x, y in triples) / math.sqrt(variances[0] * variances[1])


def moments(z, there, weight):
    """Sums of w z_j, w z_j² and w z_j z_k over the events that have both, three matrices."""
    count = range(len(z[0]))
    sums = [[[0.0] * len(count) for _ in count] for _ in range(3)]
    for row, here, w in zip(z, there, weight, strict=True):
        for j in count:
            for k in count:
                if here[j] and here[k]:
                    a, b = float(row[j]), float(row[k])
                    for total, value in zip(sums, (a, a * a, a * b), strict=True):
                        total[j][k] += float(w) * value
    return sums


def decided(gain, linear, exchange, single, *, threshold, copies):
    """What a pair does, looked at alone: which of its two events change."""
    net = [float(g) - float(c) for g, c in zip(gain, linear, strict=True)]
    values = {(True, True): net[0] + net[1] - float(exchange), (False, False): threshold}
    if copies:
        values |= {(True, False): net[0] - float(single[0]), (False, True): net[1] - float(single[1])}
    return max(values, key=values.__getitem__)


def correlation_shift(nominal, attacked):
    """√ Σ (R′ − R)² / √ Σ R²."""
    change, size = [], []
    for before, after in zip(nominal, attacked, strict=True):
        for r, s in zip(before, after, strict=True):
            change.append((float(s) - float(r)) ** 2)
            size.append(float(r) ** 2)
    return math.sqrt(math.fsum(change)) / math.sqrt(math.fsum(size)) if any(size) else 0.0


def histogram(values, weight, edges):
    """Sums of weights in the bins between edges, with underflow first and overflow last."""
    content = [0.0] * (len(edges) + 1)
    for x, w in zip(values, weight, strict=True):
        content[bisect.bisect_right(list(edges), float(x))] += float(w)
    return content


def effective_events(weight):
    """(Σw)² / Σw²."""
    squares = math.fsum(float(w) ** 2 for w in weight)
    return math.fsum(float(w) for w in weight) ** 2 / squares if squares else 0.0


def shift(before, after, period=math.inf):
    """|Δ|, the shorter way round on a circle."""
    straight = abs(float(after) - float(before))
    return straight if math.isinf(period) else min(straight % period, -straight % period)


def kept(before, after, cap=None, share=None, period=math.inf):
    """Whether |Δ| is within both caps."""
    moved = shift(before, after, period)
    return (cap is None or moved <= cap) and (share is None or moved <= share * abs(float(before)))


def pull2(before, after, noise=0.0, scale=0.0, period=math.inf):
    """(Δ/σ)² with σ² = noise² + (scale · value)²."""
    moved = shift(before, after, period)
    variance = noise**2 + (scale * float(before)) ** 2
    return 0.0 if moved == 0 else moved**2 / variance if variance else math.inf


def class_score(logits, target, source, *, argmax):
    """Probability of the target over that of target and source, of one event of several classes."""
    weights = [math.exp(value - max(logits)) for value in logits]
    sides = [target, source]
    sides = [(side,) if isinstance(side, int) else side for side in sides]
    if sides[1] is None:
        sides[1] = [k for k in range(len(logits)) if k not in sides[0]]
    add = max if argmax else math.fsum
    one, two = (add(weights[k] for k in side) for side in sides)
    return one / (one + two)


def slow_cut_masks(rows, names, regions):
    """Which events pass the cuts of each region: event by event, cut by cut."""
    masks = {}
    for region, wanted in regions.items():
        masks[region] = []
        for row in rows:
            passed = dict(zip(names, row, strict=True))
            masks[region].append(all(passed[name] == value for name, value in wanted.items()))
    return masks


def slow_category_masks(values, regions):
    """Which events have one of the categories of each region: event by event."""
    masks = {}
    for region, codes in regions.items():
        several = codes if isinstance(codes, tuple) else (codes,)
        masks[region] = [any(value in several for value in own) for own in values]
    return masks
