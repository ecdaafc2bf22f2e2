"""Features that move together: both values of an event come from the same other one."""

from __future__ import annotations

from dataclasses import replace

import hist
import numpy as np
import pytest
from made_problems import (
    CPU,
    Ring,
    assert_same_sums,
    made_batch,
    made_problem,
    made_task,
    recomputed,
)

from coffea_conserv import Budget, ConfigurationError, Conserv, Feature, attack, baselines
from coffea_conserv.attacks.engine import perturb
from coffea_conserv.features.feature import blocks, check_features
from coffea_conserv.solvers.transport.solver import Transport

AXIS = hist.axis.Regular(20, -4, 4)
BUDGETS = {
    "exact": Budget(rms=0.0, correlation=0.05, watch=0.5),
    "rms": Budget(rms=0.05, correlation=0.05, watch=0.5),
    "band": Budget(band=0.1, correlation=0.05, watch=0.5),
}


def together(budget):
    """The usual task, in which the third and the fourth feature go with the first."""
    task = made_task(budget)
    features = tuple(replace(f, moves_with="x") if f.name in "zn" else f for f in task.features)
    return replace(task, features=features, solver=Transport(steps=40))


def values(x):
    """Values that belong together, as a set of rows."""
    return {tuple(row) for row in x[:, [0, 2, 3]].tolist()}


@pytest.mark.parametrize("weights", ["equal", "varying", "signed"])
@pytest.mark.parametrize("kind", BUDGETS)
def test_what_moves_together_stays_together(kind, weights):
    """Every combination that is returned was there before; limits are kept, and something moves."""
    batch, task = made_batch(900, weights=weights), together(BUDGETS[kind])
    outcome = perturb(batch, task, [Ring()], "signal", 1, CPU)
    assert not outcome.unattacked.all()
    assert values(outcome.x) <= values(batch.x)
    moved = (outcome.x != batch.x)[:, [0, 2, 3]]
    assert moved.any(axis=0)[:2].all()
    assert moved[:, 2].any() or (kind, weights) == ("exact", "varying")  # strata leave few partners there
    assert not (moved[:, 0] & (batch.x[:, 2] == -999)).any()  # one that is not there holds all in place
    if kind == "exact" and weights == "equal":
        before, after = (sorted(map(tuple, x[:, [0, 2, 3]].tolist())) for x in (batch.x, outcome.x))
        assert before == after


@pytest.mark.parametrize("kind", BUDGETS)
def test_sums_follow_features_that_move_together(kind):
    """Products of two features that change at once are counted once, and rightly."""
    _, problem = made_problem(made_batch(700, weights="varying"), together(BUDGETS[kind]))
    run = Transport(steps=12).bind(problem, 1)
    state = run.init()
    while not run.done(state):
        state = run.step(state)
    assert problem.block.shape == (5, 3)
    assert_same_sums(state.totals, recomputed(problem, state.z, state.cells), problem.limits.weight)


def test_a_pair_in_which_only_its_correlation_helps_cannot_be_fooled():
    """A model of the difference of two features is fooled when they move alone, and never when together."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2)).astype(np.float32)
    x[:, 1] = x[:, 0] + 0.3 * x[:, 1]

    class Near(Ring):
        def forward(self, x):
            return 0.3 - (x[:, 0] - x[:, 1]).abs()

    call = {"budget": Budget(rms=0.0, correlation=0.2), "solver": Transport(steps=30), "seed": 1}
    alone = attack(x, Near(), [Feature("a", AXIS), Feature("b", AXIS)], **call)
    pair = [Feature("a", AXIS), Feature("b", AXIS, moves_with="a")]
    both = attack(x, Near(), pair, **call)
    assert alone.fooling_ratio > 0.05
    assert (both.score > 0.5).sum() == (np.abs(x[:, 0] - x[:, 1]) < 0.3).sum()


@pytest.mark.parametrize("name", ["random", "rdsa"])
def test_baselines_that_exchange_values_keep_them_together(name):
    """Random moves and shuffles exchange whole blocks."""
    batch, task = made_batch(900), together(BUDGETS["exact"])
    call = {"budget": BUDGETS["exact"], "groups": batch.group, "seed": 1}
    found = baselines(batch.x, Ring(), task.features, **call)[name].x
    assert values(found) <= values(batch.x)
    assert (found != batch.x)[:, 0].any()


def test_blocks_are_numbered_by_the_feature_that_others_go_with():
    """The leading feature is first, and fills up smaller blocks."""
    names = [("a", None), ("b", "d"), ("c", None), ("d", None), ("e", "d")]
    found = blocks([Feature(name, AXIS, moves_with=lead) for name, lead in names])
    np.testing.assert_array_equal(found, [[0, 0, 0], [3, 1, 4], [2, 2, 2], [3, 1, 4], [3, 1, 4]])
    np.testing.assert_array_equal(blocks([Feature("a", AXIS), Feature("b", AXIS)]), [[0], [1]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"moves_with": "q"}, "'b': moves_with='q' must name a feature that moves with no other one; a, b"),
        ({"moves_with": "b"}, "'b': moves_with='b' names the feature itself"),
        ({"moves_with": "a", "frozen": True}, "one of the two is frozen; freeze both or none"),
    ],
)
def test_companions_that_make_no_sense_are_refused(given, message):
    """Before anything starts, with the name of the feature."""
    with pytest.raises(ConfigurationError, match=message):
        check_features([Feature("a", AXIS), Feature("b", AXIS, **given)])


def test_chains_are_refused():
    """There is one leading feature."""
    chain = [Feature("a", AXIS), Feature("b", AXIS, moves_with="a"), Feature("c", AXIS, moves_with="b")]
    with pytest.raises(
        ConfigurationError, match="'c': moves_with='b' must name a feature that moves with no"
    ):
        check_features(chain)


def test_search_says_that_it_cannot_keep_values_together():
    """Both at the level of arrays and in an analysis."""
    features = together(BUDGETS["rms"]).features
    message = "solver 'search' makes new values feature by feature and cannot keep z, n"
    with pytest.raises(ConfigurationError, match=message):
        attack(made_batch().x, Ring(), features, budget=BUDGETS["rms"], solver="search")
    with pytest.raises(ConfigurationError, match=message):
        Conserv(model=Ring(), features=features, budget=BUDGETS["rms"], solver="search")
