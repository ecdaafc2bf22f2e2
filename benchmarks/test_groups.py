"""How strong an attack on small groups is: limits hold in every group of every chunk by itself."""

from __future__ import annotations

import numpy as np
import pytest
from problems import donut, htautau, shifted

from coffea_conserv import Budget, attack

SIZES = (50, 100, 200, 500, 1000, 2000, 6000)


@pytest.mark.parametrize("name", ["donut", "shifted", "htautau"])
@pytest.mark.parametrize("budget", [Budget(rms=0.0), Budget(rms=0.05)], ids=["exact", "5 %"])
def test_size_of_groups(name, budget, benchmark, row):
    """6,000 events in groups of so many, all with the same limits."""
    problem = {"donut": donut, "shifted": shifted, "htautau": htautau}[name]()
    x = problem.x[:6000]
    found = {}
    for size in SIZES:
        groups = np.arange(len(x)) // size

        def once(groups=groups):
            return attack(x, problem.model, problem.features, budget=budget, groups=groups, seed=1)

        found[size] = benchmark.pedantic(once, rounds=1) if size == SIZES[-1] else once()
        assert found[size].verdict.passed
    row(
        "fooling ratio by events in a group",
        sample=name,
        marginals="exact" if budget.rms == 0 else "5 % r.m.s.",
        **{str(size): f"{one.fooling_ratio:.1%}" for size, one in found.items()},
    )
