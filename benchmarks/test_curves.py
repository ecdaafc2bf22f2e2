"""Fooling ratio against the limits: curves that never fall, and their pictures."""

from __future__ import annotations

import pytest
from problems import data_folder, donut, htautau

from coffea_conserv import Budget, fooling_curve
from coffea_conserv.plotting import curve_plot
from coffea_conserv.solvers.transport.solver import Transport

MARGINALS = (0.0, 0.01, 0.02, 0.05, 0.1)
CORRELATIONS = (0.002, 0.006, 0.02, 0.05, 0.1)
FAMILIES = {
    "marginals": (
        "r.m.s. deviation of the bins, correlation within 0.006",
        MARGINALS,
        [Budget(rms=limit, correlation=0.006) for limit in MARGINALS],
    ),
    "correlations": (
        "change of the correlation matrix, marginals exact",
        CORRELATIONS,
        [Budget(rms=0.0, correlation=limit) for limit in CORRELATIONS],
    ),
}


def problems():
    """Samples by name."""
    made = {"donut": (donut(), 20_000)}
    if data_folder() is not None:
        made["H → ττ, ten features that move alone"] = (htautau(), 6_000)
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_curve(benchmark, row, family, pictures):
    """All limits of one family, on every sample."""
    title, limits, budgets = FAMILIES[family]
    curves = {}

    def measure():
        for name, (problem, events) in problems().items():
            curves[name] = fooling_curve(
                problem.x[:events],
                problem.model,
                problem.features,
                budgets=budgets,
                target="correct",
                seed=1,
                solver=Transport(),
            )

    benchmark.pedantic(measure, rounds=1)
    for name, curve in curves.items():
        ratios = [found.fooling_ratio for found in curve]
        assert ratios == sorted(ratios)
        assert all(found.verdict.passed for found in curve)
        row(
            f"fooling ratio, by {title}",
            sample=name,
            **{f"{limit:g}": f"{ratio:.1%}" for limit, ratio in zip(limits, ratios, strict=True)},
        )
    if len(curves) == 2:
        figure = curve_plot(curves, limits, title, log=family == "correlations")
        figure.savefig(pictures / f"fooling_{family}.png", dpi=90)
