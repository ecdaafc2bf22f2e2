"""Controls of an attack: what has no effect, what is smaller, and what would beat it."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from made_problems import MISSING, Ring, features, made_batch

from coffea_conserv import Budget, run_controls
from coffea_conserv.attacks.api import Request, attack, prepare
from coffea_conserv.errors import ConfigurationError
from coffea_conserv.models.device import places
from coffea_conserv.report.tables import controls_table
from coffea_conserv.studies.controls import _judged, _mismodellings

BUDGET = Budget(rms=0.1, correlation=0.03)


@pytest.fixture(scope="module")
def rows():
    """Controls of an attack on weighted events of two groups."""
    batch = made_batch(800, weights="two")
    options = {"weights": batch.weight, "groups": batch.group, "seed": 3}
    return run_controls(batch.x, Ring(), features(), budget=BUDGET, **options), batch, options


def test_the_first_row_is_the_attack_itself(rows):
    """Its shift is that of the mean score of the attacked events, its yield that above the working point."""
    found, batch, options = rows
    again = attack(batch.x, Ring(), features(), budget=BUDGET, objective="score", **options)
    inside = batch.group >= 0
    weight = batch.weight[inside]
    shift = np.average((again.score - again.score_nominal)[inside], weights=weight)
    assert found[0].score_shift == pytest.approx(shift)
    above = [weight[score[inside] > 0.5].sum() for score in (again.score_nominal, again.score)]
    assert found[0].yield_shift == pytest.approx(above[1] / above[0] - 1)
    assert (found[0].kind, found[0].share, found[0].inside, found[0].passed) == ("attack", 1, True, True)
    assert found[0].score_shift > 5 * found[0].error > 0


def test_no_move_has_exactly_no_effect(rows):
    """Budget(move=0) leaves every score."""
    (row,) = [row for row in rows[0] if row.kind == "none"]
    assert (row.score_shift, row.yield_shift, row.error, row.passed) == (0, 0, 0, True)


def test_smaller_budgets_and_chance_do_less(rows):
    """What exact limits leave, and random moves, are below the attack; halves agree."""
    by_kind = {row.kind: row for row in rows[0]}
    assert 0 <= by_kind["residual"].share < 1
    assert abs(by_kind["random"].share) < 0.5
    halves = [row for row in rows[0] if row.kind == "half"]
    assert len(halves) == 2
    assert all(row.passed and 0.5 < row.share < 1.5 for row in halves)


def test_mismodellings_inside_the_limits_do_less_than_the_attack(rows):
    """Shift and stretch of every feature that may move and is continuous; none beats the attack."""
    found = [row for row in rows[0] if row.kind == "mismodelling"]
    assert [row.name.split()[:2] for row in found] == [
        [name, how] for name in "xyz" for how in ("shifted", "stretched")
    ]
    for row in found:
        assert row.inside
        assert row.passed
        assert abs(row.share) < 1
    assert any(float(row.name.split()[3]) != 0 for row in found)


def test_a_mismodelling_larger_than_the_attack_is_reported():
    """An attack that is beaten is no largest shift: its row fails."""
    batch = made_batch(400)
    rows = list(run_controls(batch.x, Ring(), features(), budget=BUDGET, groups=batch.group))
    place = next(k for k, row in enumerate(rows) if row.kind == "mismodelling")
    rows[place] = replace(rows[place], score_shift=2 * rows[0].score_shift)
    assert not list(_judged(rows))[place].passed


def test_a_mismodelling_of_some_events_is_found_where_none_of_all_fits():
    """Limit that no shift of all events obeys: half a spread in a share of them, inside of the limits."""
    batch = made_batch(1000)
    asked = Request(budget=replace(BUDGET, rms=0.03), groups=batch.group)
    rows = _mismodellings(prepare(batch.x, Ring(), features(), asked, next(places("cpu"))))
    partial = [row for row in rows if "of the events" in row.name]
    assert partial
    for row in partial:
        share = float(re.search(r"in ([\d.]+)% of the events", row.name)[1])
        assert abs(float(row.name.split()[3])) == 0.5
        assert 0 <= share < 100
        assert row.tested == (share > 0)
        assert row.inside
    assert any(row.tested for row in partial)


def test_what_moves_nothing_is_no_test():
    """With no move allowed, only the control that must have no effect is one; the table counts the others."""
    batch = made_batch(400)
    rows = run_controls(batch.x, Ring(), features(), budget=Budget(move=0), groups=batch.group)
    outcomes = {row.outcome for row in rows if row.kind == "mismodelling"}
    assert {row.outcome for row in rows if row.kind == "none"} == {"as it must be"}
    assert {row.outcome for row in rows if row.kind == "attack"} == {"no test"}
    assert outcomes <= {"no test", "not as it must be"}
    table = controls_table(rows)
    idle = sum(not row.tested for row in rows)
    assert idle > 0
    assert f"{idle} of {len(rows)} test nothing" in table.note


def test_injected_events_obey_the_rules():
    """Missing values stay missing, and events outside of a range stay as they were."""
    from coffea_conserv.studies.controls import _shifted  # noqa: PLC0415

    batch = made_batch(400)
    limited = tuple(replace(f, high=1.0) if f.name == "x" else f for f in features())
    ready = prepare(batch.x, Ring(), limited, Request(budget=BUDGET, groups=batch.group), next(places("cpu")))
    moved = _shifted(ready, 0, 0.3)
    changed = moved[:, 0] != batch.x[:, 0]
    assert changed.any()
    assert (moved[changed, 0] <= 1.0).all()
    missing = batch.x[:, 2] == MISSING
    moved = _shifted(ready, 2, 0.3)
    np.testing.assert_array_equal(moved[missing], batch.x[missing])
    assert (moved[:, 2] != batch.x[:, 2]).sum() == pytest.approx((~missing).sum(), abs=60)
    assert list(_mismodellings(ready))


def test_unknown_options_are_refused():
    """The arguments are those of the attack."""
    with pytest.raises(ConfigurationError, match=r"run_controls\(\) does not know bugdet"):
        run_controls(made_batch(50).x, Ring(), features(), budget=BUDGET, bugdet=1)
    rows = run_controls(made_batch(50).x, Ring(), features(), budget=Budget(move=0))
    assert math.isnan(rows[0].share)
