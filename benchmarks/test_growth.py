"""How time and memory grow with the number of events and of features."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from problems import timed
from test_cost import sample

from coffea_conserv import Budget, attack
from coffea_conserv.solvers.transport.solver import Transport

FEW = 10
EVENTS = (10_000, 100_000, 1_000_000)
FEATURES = (2, 5, 10, 20, 50, 100)
GROUPS = (100, 1000, 4000, 10_000)
SIZE = 50

_CHILD = """
import json, re, sys
from pathlib import Path
import torch
from test_cost import sample
from coffea_conserv import Budget, attack
from coffea_conserv.solvers.transport.solver import Transport
torch.set_num_threads(1)
events, rms = int(sys.argv[1]), float(sys.argv[2])
def run(x, model, features):
    attack(x, model, features, budget=Budget(rms=rms), solver=Transport(steps=8), seed=1)
run(*sample(2000, 20))
x, model, features = sample(events, 20)
# VmHWM is that of this program; ru_maxrss would start with that of the process it was forked from
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
before = peak()
run(x, model, features)
print(json.dumps([peak() - before, x.nbytes]))
"""


def seconds_of(events: int, features: int, rms: float, repeats: int = 3, groups=None) -> float:
    """Median time of an attack of few steps, which is about the time that is spent outside of steps too."""
    x, model, declared = sample(events, features)
    budget, solver = Budget(rms=rms), Transport(steps=FEW)

    def call():
        return attack(x, model, declared, budget=budget, solver=solver, groups=groups, seed=1)

    call()
    return timed(call, repeats)[1]


def exponent(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """Exponent of a power law through all points, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


@pytest.mark.parametrize("rms", [0.0, 0.05])
def test_events(benchmark, row, rms):
    """Time as the number of events grows, 20 features."""
    found: list[float] = []

    def measure():
        found.extend(seconds_of(n, 20, rms, 1 if n > 500_000 else 3) for n in EVENTS)

    benchmark.pedantic(measure, rounds=1)
    table = f"time [s] of {FEW} steps, 20 features"
    times = {f"N = {n:,}": f"{t:.2f}" for n, t in zip(EVENTS, found, strict=True)}
    upper = exponent(EVENTS[-2:], found[-2:])
    row(table, rms=rms, **times, exponent=f"{exponent(EVENTS, found):.2f}", upper=f"{upper:.2f}")


@pytest.mark.parametrize("rms", [0.0, 0.05])
def test_features(benchmark, row, rms):
    """Time as the number of features grows, 20,000 events."""
    found: list[float] = []
    benchmark.pedantic(lambda: found.extend(seconds_of(20_000, d, rms) for d in FEATURES), rounds=1)
    last = [np.log(found[k + 1] / found[k]) / np.log(FEATURES[k + 1] / FEATURES[k]) for k in (-3, -2)]
    times = {f"d = {d}": f"{t:.2f}" for d, t in zip(FEATURES, found, strict=True)}
    row(
        f"time [s] of {FEW} steps, 20,000 events",
        rms=rms,
        **times,
        exponent=f"{exponent(FEATURES, found):.2f}",
        largest=f"{max(last):.2f}",
    )


def test_groups(benchmark, row):
    """Time as groups of one size grow in number, 5 features, in units of one group of all events."""
    found: list[tuple[float, float]] = []

    def measure():
        for count in GROUPS:
            mixed = np.random.default_rng(0).permutation(np.arange(SIZE * count) % count)
            found.append((seconds_of(SIZE * count, 5, 0.05, 1, mixed), seconds_of(SIZE * count, 5, 0.05, 1)))

    benchmark.pedantic(measure, rounds=1)
    times = {
        f"{count:,} groups": f"{many:.2f} s, x {many / one:.1f}"
        for count, (many, one) in zip(GROUPS, found, strict=True)
    }
    row(f"time of {FEW} steps in many groups, 5 features", events=f"{SIZE} each", **times)


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("rms", [0.0, 0.05])
def test_memory(benchmark, row, rms, mapped):
    """Peak memory, in a process of its own, as a part that stays and one that grows with the input.

    The C library of Linux keeps freed blocks of its heap. That large blocks are mapped on their own, and
    given back at once, makes the peak that of what is alive; without that it is what a user sees.
    """
    environment = {
        **os.environ,
        **({"MALLOC_MMAP_THRESHOLD_": str(2**18)} if mapped else {}),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }
    found: list[tuple[float, float]] = []

    def measure():
        for events in EVENTS[1:]:
            call = [sys.executable, "-c", _CHILD, str(events), str(rms)]
            made = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
            found.append(tuple(json.loads(made.stdout)))

    benchmark.pedantic(measure, rounds=1)
    (small, its), (large, whole) = found
    growing = (large - small) / (whole - its)
    row(
        "peak memory, 20 features",
        rms=rms,
        mapped=mapped,
        **{f"N = {n:,}": f"{used / 2**20:,.0f} MiB" for n, (used, _) in zip(EVENTS[1:], found, strict=True)},
        growing=f"{growing:.1f} x input",
        staying=f"{(large - growing * whole) / 2**20:,.0f} MiB",
    )
    assert growing <= 12 or not mapped
