"""Working points: one or several, from the objective to the report."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import hist
import numpy as np
import pytest
import torch
from made_conserv import call, conserv, contents, events
from made_events import SETTINGS, scored, summed
from made_results import result_of
from rich.console import Console
from torch import nn

from coffea_conserv import Budget, ConfigurationError, Feature, InputError, attack
from coffea_conserv.features.working_point import as_points
from coffea_conserv.group import Group
from coffea_conserv.results.fooling import fooling_of
from coffea_conserv.results.seeds import seed_spread
from coffea_conserv.results.tables import fooling_table
from coffea_conserv.solvers.problem import Objective
from coffea_conserv.solvers.search.solver import Search
from coffea_conserv.solvers.transport.solver import Transport

AXIS = hist.axis.Regular(30, -3, 3)
FEATURES = [Feature("x", AXIS), Feature("y", AXIS)]
X = np.random.default_rng(3).normal(size=(1500, 2)).astype(np.float32)
POINTS = (0.4, 0.7)


class Ring(nn.Module):
    """Signal is near the origin."""

    def forward(self, x):
        """Give logits."""
        return 1.5 - (x**2).sum(1)


def run(**options):
    """Attack some events."""
    settings = {"budget": Budget(rms=0.05, correlation=0.02), "solver": Transport(steps=30)} | options
    return attack(X, Ring(), FEATURES, **settings)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0, r"working_point=0 must lie between 0 and 1"),
        (float("nan"), r"working_point=nan must lie between"),
        (True, r"working_point=True must lie"),
        ("0.5", r"working_point=0.5 must lie between 0 and 1: it is a score"),
        ((0.5, 1.0), r"working_point=1.0 must lie"),
        ((), r"working_point is empty; give a score between 0 and 1, or several"),
        ([0.5, 0.9, 0.5], r"working_point=\[0.5, 0.9, 0.5\] holds one of them twice"),
    ],
)
def test_points_that_are_none(given, message):
    """Arrays and plugin refuse them alike."""
    for make in (lambda: as_points(given), lambda: run(working_point=given)):
        with pytest.raises(ConfigurationError, match=message):
            make()
    with pytest.raises(ConfigurationError, match=message):
        conserv(working_point=given)


@pytest.mark.parametrize("direction", ["signal", "background"])
def test_an_event_gains_its_share_of_the_points(direction):
    """Gain and value of several points are the means of those of each, and the last one is the farthest."""
    logit = torch.linspace(-4, 4, 33)
    several = Objective.make("cross", direction, POINTS)
    single = [Objective.make("cross", direction, [point]) for point in POINTS]
    for name, extra in (("gain", (2.0,)), ("value", ())):
        found = getattr(several, name)(logit, *extra)
        expected = sum(getattr(one, name)(logit, *extra) for one in single) / 2
        torch.testing.assert_close(found, expected)
    assert set(several.value(logit).tolist()) == {0, 0.5, 1}
    far = several.sign * (logit - several.last) > 0
    assert torch.equal(far, several.value(logit) == 1)


@pytest.mark.parametrize("solver", [Transport(steps=20), Search(num_candidates=10, iterations=2)])
def test_one_point_is_the_same_alone_or_in_a_list(solver):
    """A list of one working point changes nothing, bit for bit."""
    one, other = (run(working_point=point, solver=solver, seed=4) for point in (0.6, [0.6]))
    np.testing.assert_array_equal(one.x, other.x)
    assert one.fooling_ratio == other.fooling_ratio > 0.03
    assert len(other.crossings) == 1


@pytest.mark.parametrize("direction", ["signal", "background"])
@pytest.mark.parametrize("solver", [Transport(steps=40), Search(num_candidates=20, iterations=4)])
def test_several_points_are_all_crossed(solver, direction):
    """Each working point has its ratio, counted by hand, and none is forgotten for another."""
    result = run(working_point=POINTS, direction=direction, solver=solver)
    assert result.verdict.passed
    sign = 1 if direction == "signal" else -1
    for point, crossing in zip(POINTS, result.crossings, strict=True):
        before, after = (sign * (score - point) > 0 for score in (result.score_nominal, result.score))
        np.testing.assert_array_equal(crossing.fooled, ~before & after)
        assert crossing.working_point == point
        assert crossing.fooling_ratio == pytest.approx((~before & after).sum() / (~before).sum())
        alone = run(working_point=point, direction=direction, solver=solver)
        assert crossing.fooling_ratio > 0.5 * alone.fooling_ratio
    assert result.fooling_ratio == result.crossings[0].fooling_ratio
    assert result.fooled is result.crossings[0].fooled


def test_the_first_point_says_what_is_correct():
    """With target correct those events move that are below the main working point."""
    for points in (POINTS, POINTS[::-1]):
        result = run(working_point=points, target="correct")
        moved = (result.x != X).any(1)
        assert moved.any()
        assert not moved[result.score_nominal > points[0]].any()


# --- merged sums -------------------------------------------------------------------------------------------

SAMPLE = scored([0.1, 0.4, 0.6, 0.9], [0.1, 0.8, 0.3, 0.9], [0.1, 0.2, 0.2, 0.6], [1, 2, 4, 8])


def test_every_point_is_counted_by_itself():
    """Sums of several working points are those of each, in their order."""
    several = summed(replace(SAMPLE, working_point=(0.5, 0.7))).fooling
    for key, found in several.items():
        for index, point in enumerate((0.5, 0.7)):
            np.testing.assert_array_equal(
                found[index], summed(replace(SAMPLE, working_point=point)).fooling[key][0]
            )


def test_known_ratios_at_two_points():
    """Four events, counted by hand, at both working points and in both directions."""
    result = result_of(
        replace(SAMPLE, working_point=(0.5, 0.7)),
        settings=replace(SETTINGS, working_point=(0.5, 0.7)),
        processes={},
        estimates=(),
    )
    rows = {
        (row.working_point, row.variation): (row.ratio, row.returned)
        for row in result.fooling
        if row.name == "W"
    }
    assert rows == {
        (0.5, "conservUp"): (pytest.approx(2 / 3), pytest.approx(4 / 12)),
        (0.7, "conservUp"): (pytest.approx(2 / 7), 0),
        (0.5, "conservDown"): (pytest.approx(4 / 12), 0),
        (0.7, "conservDown"): (1, 0),
    }
    assert result.fooling_of("W", "signal").working_point == 0.5
    assert result.fooling_of("W", "signal", working_point=0.7).ratio == pytest.approx(2 / 7)
    with pytest.raises(InputError, match=r"there is no working point 0.6; there are 0.5, 0.7"):
        result.fooling_of("W", "signal", working_point=0.6)
    console = Console(width=200, file=io.StringIO())
    console.print(fooling_table(result.fooling, result.settings.points))
    text = console.file.getvalue()
    assert "crosses a score over" in text
    assert "0.7" in text
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["settings"]["working_point"] == [0.5, 0.7]
    assert [row["working_point"] for row in plain["fooling"]] == [0.5, 0.7] * 4


def test_spreads_know_their_point():
    """Each row of the spread over seeds is of one working point."""
    results = [
        result_of(
            replace(SAMPLE, working_point=(0.5, 0.7)),
            settings=replace(SETTINGS, working_point=(0.5, 0.7), seed=seed),
            processes={},
            estimates=(),
        )
        for seed in (1, 2)
    ]
    assert [row.working_point for row in seed_spread(results)] == [0.5, 0.7] * 4
    other = replace(results[1], settings=replace(results[1].settings, working_point=(0.5, 0.8)))
    with pytest.raises(InputError, match="differ in more than their seed"):
        seed_spread([results[0], other])


def test_the_plugin_counts_every_point():
    """One run gives the ratios of all working points; its main one is that of a run with it alone."""
    several, alone = conserv(working_point=(0.5, 0.8)), conserv()
    sums = [call(made, events()) for made in (several, alone)]
    results = [made.result(part) for made, part in zip((several, alone), sums, strict=True)]
    assert len(results[0].fooling) == 2 * len(results[1].fooling)
    # the objective is the score, so that the same events move
    assert [row for row in results[0].fooling if row.working_point == 0.5] == list(results[1].fooling)
    assert conserv(working_point=(0.5,)).config == alone.config
    left, right = contents(sums[0] + sums[0]), contents(sums[0])
    for key, value in left.items():
        np.testing.assert_allclose(value, right[key] if key[0] == "largest" else 2 * right[key])
    assert (
        fooling_of(sums[0], Group("toy", "dataset", "low", "conservUp"), ["toy"], point=1, working_point=0.8)
        in results[0].fooling
    )


# --- events that are attacked ------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["equal", "signed"])
def test_the_plugin_can_attack_the_correctly_classified_events_only(weights):
    """Other events stay as they are, while limits hold for the regions with them."""
    columns, made = events(900), conserv(target="correct", objective="cross")
    sign = np.where(np.random.default_rng(2).random(900) < 0.1, -1.0, 1.0)
    sums = call(made, columns, weight=np.ones(900) if weights == "equal" else sign)
    result = made.result(sums)
    assert result.verdict.passed
    for row in result.fooling:
        assert row.ratio > (0.02 if weights == "equal" else 0.005)
        assert row.returned == 0
    everybody = conserv(objective="cross")
    assert max(row.returned for row in everybody.result(call(everybody, columns)).fooling) > 0
    with pytest.raises(ConfigurationError, match=r"target='wrong' is not known; choose one of all, correct"):
        conserv(target="wrong")
