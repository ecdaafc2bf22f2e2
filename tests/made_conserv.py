"""A small attack: two features that move, one that does not, one watched quantity, three regions."""

from __future__ import annotations

import hist
import numpy as np
import torch
from torch import nn

from coffea_conserv import Budget, Conserv, Feature
from coffea_conserv.solvers.transport.solver import Transport

MISSING = -999.0
WEIGHT = 0.5


class Ring(nn.Module):
    """Signal is what lies inside of a circle; a missing y counts as 0."""

    def __init__(self, radius=1.2):
        super().__init__()
        self.radius = nn.Parameter(torch.tensor(radius))

    def forward(self, x):
        """Give logits."""
        y = torch.where(x[:, 1] == MISSING, torch.zeros_like(x[:, 1]), x[:, 1])
        return self.radius**2 - x[:, 0] ** 2 - y**2


def distance(x):
    """Distance from the centre, NaN where y is missing."""
    return torch.where(x["y"] == MISSING, torch.nan, torch.hypot(x["x"], x["y"]))


def near(x):
    """Events within the square."""
    return (x["x"].abs() < 4) & ((x["y"].abs() < 4) | (x["y"] == MISSING))


def features():
    """Two features that move, one of them missing at times, and one that does not."""
    axis = hist.axis.Regular(24, -3, 3)
    return [
        Feature("x", axis),
        Feature("y", axis, missing=MISSING),
        Feature("k", hist.axis.Integer(0, 4), frozen=True),
    ]


class WithK(Ring):
    """The circle as a function of all three features."""

    def forward(self, x):
        """Give logits."""
        return super().forward(x) + 0.2 * (x[:, 2] - 1.5)


def conserv(**options):
    """Make the attack; few steps, because strength is not what is tested here."""
    settings = {"model": WithK(), "features": features(), "budget": Budget(rms=0.1, correlation=0.1)}
    settings |= {
        "watch": {"r": (distance, hist.axis.Regular(20, 0, 4))},
        "solver": Transport(steps=8, rounds=3),
    }
    settings["score"] = hist.axis.Regular(10, 0, 1, name="score", label="score")
    return Conserv(**(settings | options))


def events(count=400, seed=1):
    """Columns of some events."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, count)).astype(np.float32)
    y[rng.random(count) < 0.1] = MISSING
    return {"x": x, "y": y, "k": rng.integers(0, 4, count)}


def regions(columns):
    """Two regions that share nothing, and one that overlaps with both."""
    k = np.asarray(columns["k"])
    return {"low": k < 2, "high": k >= 2, "middle": (k == 1) | (k == 2)}


def call(made, columns, **options):
    """Call the attack as a processor does."""
    count = len(columns["x"])
    weight = None if options.get("data") else np.full(count, WEIGHT)
    settings = {"weight": weight, "regions": regions(columns)}
    settings |= {"dataset": "toy", "chunk": "file:0-400"}
    return made(columns, **(settings | options))


def contents(sums):
    """Every number of merged sums by what it is; empty histograms are left out."""
    found = {}
    for name, histogram in sums.hists.items():
        view = histogram.view(flow=True)
        for i, dataset in enumerate(histogram.axes[0]):
            for j, region in enumerate(histogram.axes[1]):
                for k, variation in enumerate(histogram.axes[2]):
                    cell = view[i, j, k]
                    if cell["variance"].any():
                        key = ("hist", name, dataset, region, variation)
                        found[key] = np.stack([cell["value"], cell["variance"]])
    for part in ("moments", "paired", "counts", "fooling", "shifts", "largest"):
        found |= {(part, *key): value for key, value in getattr(sums, part).items() if value.any()}
    return found


def difference(left, right):
    """Largest relative difference of two sums, infinite if they do not hold the same."""
    left, right = contents(left), contents(right)
    if left.keys() != right.keys():
        return np.inf
    scales = {key: max(np.abs(value).max(), 1.0) for key, value in left.items()}
    return max((np.abs(left[key] - right[key]).max() / scales[key] for key in left), default=0.0)
