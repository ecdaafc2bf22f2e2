"""Time as the work grows, in units of the model's own forward and backward pass."""

from __future__ import annotations

import cProfile
import pstats
from pathlib import Path

import hist
import numpy as np
import pytest
import torch
from problems import timed, unit
from torch import nn

from coffea_conserv import Budget, Feature, attack
from coffea_conserv.solvers.transport.solver import Transport

STEPS = 60

PARTS = {
    "model": [("network", "_logit")],
    "candidates": [("transport", "_evaluate")],
    "pairs": [("pairing", "random"), ("pairing", "near")],
    "changes": [("transport", "_offers"), ("transport", "_write")],
    "prices": [("transport", "_round"), ("transport", "_at")],
    "set-up": [("setup", "make_problem"), ("api", "prepare")],
    "judge": [("judging", name) for name in ("judge_groups", "measure_shifts", "measure_statistics")],
}
"""What an attack spends its time on, by functions that do not call each other (but for the model)."""


def sample(events: int, features: int):
    """Gaussian events and an untrained network of the size that analyses use."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(features, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, 1),
    ).eval()
    x = np.random.default_rng(0).normal(size=(events, features)).astype(np.float32)
    axis = hist.axis.Regular(50, -4, 4)
    return x, model, [Feature(f"x{j}", axis) for j in range(features)]


@pytest.mark.parametrize(("events", "features"), [(10_000, 20), (100_000, 20), (20_000, 5), (20_000, 50)])
@pytest.mark.parametrize("rms", [0.0, 0.05])
def test_growth(benchmark, row, events, features, rms):
    """Cost of a whole attack of 60 steps."""
    x, model, declared = sample(events, features)

    def call():
        return attack(x, model, declared, budget=Budget(rms=rms), solver=Transport(steps=STEPS), seed=1)

    benchmark.pedantic(call, rounds=1)
    _, seconds = timed(call, repeats=2)
    units = seconds / unit(model, x)
    row(
        f"growth, {STEPS} steps",
        events=events,
        features=features,
        rms=rms,
        seconds=f"{seconds:.2f}",
        units=f"{units:.0f}",
        per_step=f"{units / STEPS:.2f}",
    )


@pytest.mark.parametrize("rms", [0.0, 0.05])
def test_where(benchmark, row, rms):
    """Where the time of a whole attack goes, in units; the profiler adds a few per cent."""
    x, model, declared = sample(100_000, 20)
    profile = cProfile.Profile()
    options = {"budget": Budget(rms=rms), "solver": Transport(steps=STEPS), "seed": 1}
    benchmark.pedantic(lambda: profile.runcall(attack, x, model, declared, **options), rounds=1)
    stats, one = pstats.Stats(profile), unit(model, x)
    spent = {(Path(file).stem, name): entry[3] for (file, _, name), entry in stats.stats.items()}
    units = {part: sum(spent[place] for place in places) / one for part, places in PARTS.items()}
    units["candidates"] -= units["model"]
    units |= {"rest": stats.total_tt / one - sum(units.values()), "all": stats.total_tt / one}
    row(f"units of {STEPS} steps", rms=rms, **{part: f"{value:.1f}" for part, value in units.items()})


@pytest.mark.parametrize("groups", [1, 10, 100, 1000])
def test_groups(benchmark, row, groups):
    """The same events in one or in a thousand groups."""
    x, model, declared = sample(50_000, 10)
    group = np.arange(len(x)) % groups
    call = {
        "budget": Budget(rms=0.05, correlation=0.05),
        "groups": group,
        "solver": Transport(steps=STEPS),
        "seed": 1,
    }
    benchmark.pedantic(lambda: attack(x, model, declared, **call), rounds=1, warmup_rounds=1)
    _, seconds = timed(lambda: attack(x, model, declared, **call), repeats=2)
    row("groups", groups=groups, seconds=f"{seconds:.2f}", units=f"{seconds / unit(model, x):.0f}")
