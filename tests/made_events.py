"""Small made-up events with known answers, summed as a run would do."""

from __future__ import annotations

from dataclasses import replace

import hist
import numpy as np

from coffea_conserv.features.feature import Feature, Watched
from coffea_conserv.limits.budget import Budget
from coffea_conserv.results.result import Settings
from coffea_conserv.sums.sums import Sample, Sums, fill_sums

CONFIG = "config-1"
FEATURES = (
    Feature("x", hist.axis.Regular(10, 0, 1), unit="GeV", label="Momentum"),
    Feature("y", hist.axis.Regular(8, 0, 1, name="y"), missing=-999.0),
)
WATCHED = (Watched("total", lambda columns: columns["x"] + columns["y"], hist.axis.Regular(6, 0, 2)),)
QUANTITIES = (*FEATURES, *WATCHED)
SCORE = hist.axis.Regular(4, 0, 1, name="score", label="Score")
SETTINGS = Settings(
    FEATURES, WATCHED, Budget(jsd=0.0, correlation=0.5, watch=5.0), SCORE, 0.5, "score", 7, CONFIG
)


def made(dataset="W", chunk="f:0-100", n=100, seed=1, *, weight=1.0, real=False, strength=0.1):
    """Events in two regions; attacked: features permuted within a region, scores moved by a constant."""
    rng = np.random.default_rng(seed)
    x, y = rng.random((2, n)).astype(np.float32)
    y[:5] = -999.0
    score = rng.random(n)
    regions = {"signal": np.arange(n) % 3 != 0, "control": np.arange(n) % 3 == 0}
    values = {"nominal": _with_total(x, y, score)}
    for sign, variation in ((1, "conservUp"), (-1, "conservDown")):
        if not real:
            moved = x.copy()
            for mask in regions.values():
                moved[mask] = np.roll(x[mask], sign)
            values[variation] = _with_total(moved, y, np.clip(score + sign * strength, 0, 1))
    idle = {variation: np.zeros(n, dtype=bool) for variation in values if variation != "nominal"}
    return Sample(dataset, chunk, np.full(n, weight), regions, values, idle, 0.5, n, real)


def _with_total(x, y, score):
    total = np.where(y == -999.0, np.nan, x + y)
    return {"x": x, "y": y, "total": total, "score": score}


def summed(*samples, config=CONFIG):
    """Sum samples in their order."""
    total = Sums(config)
    for sample in samples:
        total = total + fill_sums(config, sample, QUANTITIES, SCORE)
    return total


def scored(before, up, down, weight=None, *, chunk="f:0-4", dataset="W"):
    """Events that differ in nothing but the score, in the region ``signal``."""
    n = len(before)
    rng = np.random.default_rng(3)
    x, y = rng.random((2, n)).astype(np.float32)
    scores = {"nominal": before, "conservUp": up, "conservDown": down}
    values = {v: _with_total(x, y, np.asarray(score, dtype=float)) for v, score in scores.items()}
    weight = np.ones(n) if weight is None else np.asarray(weight, dtype=float)
    idle = {v: np.zeros(n, dtype=bool) for v in ("conservUp", "conservDown")}
    return Sample(dataset, chunk, weight, {"signal": np.ones(n, dtype=bool)}, values, idle, 0.5, n)


def with_budget(**limits):
    """Return the settings with another budget."""
    return replace(SETTINGS, budget=Budget(**limits))
