"""Slow twins of the tests of two samples: plain loops, after their definitions."""

from __future__ import annotations

import math
from itertools import pairwise


def chi2(one, two):
    """Σ (a − b)² / (σ_a² + σ_b²) and the number of bins that have any error."""
    total, used = 0.0, 0
    for a, va, b, vb in zip(*one, *two, strict=True):
        if va + vb > 0:
            total += (a - b) ** 2 / (va + vb)
            used += 1
    return total, used


def ks(values, weight, attacked):
    """Largest difference of two weighted cumulative distributions."""
    sums = [sum(w for w, a in zip(weight, attacked, strict=True) if a == which) for which in (True, False)]
    largest = 0.0
    for edge in values:
        parts = [
            sum(w for v, w, a in zip(values, weight, attacked, strict=True) if v <= edge and a == which)
            for which in (True, False)
        ]
        largest = max(largest, abs(parts[0] / sums[0] - parts[1] / sums[1]))
    return largest


def wasserstein(values, weight, attacked):
    """∫ |F₁ − F₂| dx, between neighbouring values."""
    order = sorted(values)
    sums = [sum(w for w, a in zip(weight, attacked, strict=True) if a == which) for which in (True, False)]
    total = 0.0
    for low, high in pairwise(order):
        parts = [
            sum(w for v, w, a in zip(values, weight, attacked, strict=True) if v <= low and a == which)
            for which in (True, False)
        ]
        total += abs(parts[0] / sums[0] - parts[1] / sums[1]) * (high - low)
    return total


def energy(x, weight, attacked):
    """2 E|X − Y| − E|X − X′| − E|Y − Y′| by a double loop."""
    parts = {True: [], False: []}
    for row, w, a in zip(x, weight, attacked, strict=True):
        parts[bool(a)].append((row, w))

    def mean(one, two):
        top = sum(w * v * math.dist(r, s) for r, w in one for s, v in two)
        return top / (sum(w for _, w in one) * sum(v for _, v in two))

    return (
        2 * mean(parts[True], parts[False])
        - mean(parts[True], parts[True])
        - mean(parts[False], parts[False])
    )
