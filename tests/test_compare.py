"""An attack beside its baselines, in one table."""

from __future__ import annotations

import io

import numpy as np
import pytest
from made_problems import Ring, features, made_batch
from rich.console import Console
from test_baselines import EXACT

from coffea_conserv import ConfigurationError, InputError, attack, baselines, compare
from coffea_conserv.report.console import comparison_table
from coffea_conserv.solvers.transport.solver import Transport
from coffea_conserv.studies.baselines import BASELINES


def test_rows_of_a_comparison_are_what_the_results_say():
    """Ratios, shifts and worst limits of attack and baselines with the same arguments."""
    batch = made_batch(1500, weights="two")
    options = {"budget": EXACT, "weights": batch.weight, "groups": batch.group, "seed": 3}
    solver = Transport(steps=20)
    rows = compare(batch.x, Ring(), features(), solver=solver, size=0.5, tries=9, **options)
    results = {
        "attack": attack(batch.x, Ring(), features(), solver=solver, **options),
        **baselines(batch.x, Ring(), features(), size=0.5, tries=9, **options),
    }
    assert [row.name for row in rows] == list(results) == ["attack", *BASELINES]
    for row, result in zip(rows, results.values(), strict=True):
        assert row.fooling_ratio == result.fooling_ratio
        shift = np.average(result.score.astype(float) - result.score_nominal, weights=batch.weight)
        assert row.score_shift == pytest.approx(shift, abs=1e-7)
        assert row.worst == result.verdict.tightest
        assert row.kept == result.verdict.passed
    console = Console(file=io.StringIO(), width=140)
    console.print(comparison_table(rows))
    text = console.file.getvalue()
    lines = {line.split()[1]: line for line in text.splitlines() if line.startswith("│")}
    assert "broken" in lines["pgd"]
    pgd = rows[-1].worst
    assert f"{pgd.name} (1)" in lines["pgd"]
    assert f"{pgd.used:.0%}" in lines["pgd"]
    assert f"{rows[0].fooling_ratio:.1%}" in lines["attack"]
    assert "kept" in lines["attack"]


def test_a_comparison_of_nothing():
    """No events: no shift, no limit, and the table has dashes."""
    rows = compare(made_batch(0).x, Ring(), features(), budget=EXACT)
    assert all(row.worst is None and np.isnan(row.score_shift) and row.kept for row in rows)
    console = Console(file=io.StringIO(), width=140)
    console.print(comparison_table(rows))
    assert console.file.getvalue().count("–") >= 5 * len(rows)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"size": -1}, ConfigurationError, r"size=-1 must be a number ≥ 0, in units of the spread"),
        ({"size": np.nan}, ConfigurationError, r"size=nan must be a number ≥ 0"),
        ({"size": "big"}, ConfigurationError, r"size='big' must be a number ≥ 0"),
        ({"steps": 0}, ConfigurationError, r"steps=0 must be a whole number from 1"),
        ({"tries": 2.5}, ConfigurationError, r"tries=2.5 must be a whole number from 1"),
        ({"tries": True}, ConfigurationError, r"tries=True must be a whole number from 1"),
        ({"direction": "up"}, ConfigurationError, r"direction='up' is not known"),
        ({"budget": None}, ConfigurationError, r"budget must be a Budget"),
        ({"weights": np.ones(7)}, InputError, r"weights must have shape \(300,\)"),
    ],
)
@pytest.mark.parametrize("call", [baselines, compare])
def test_wrong_arguments_are_named_with_the_remedy(call, change, error, message):
    """What attack() refuses is refused with the same words, and so are the own arguments."""
    with pytest.raises(error, match=message):
        call(made_batch(300).x, Ring(), features(), **{"budget": EXACT, **change})


def test_a_comparison_knows_its_arguments():
    """A misspelt argument is named."""
    with pytest.raises(ConfigurationError, match=r"compare\(\) does not know colour, wieghts; it takes"):
        compare(made_batch(300).x, Ring(), features(), budget=EXACT, wieghts=None, colour=1)
