"""The solver and the engine around it: what is returned keeps every limit, judged by slow twins."""

from __future__ import annotations

from dataclasses import replace

import hist
import numpy as np
import pytest
import slow_twins
import torch
from made_problems import (
    CPU,
    MISSING,
    Ring,
    assert_same_sums,
    made_batch,
    made_problem,
    made_task,
    recomputed,
)

from coffea_conserv.attacks.batch import Batch, scores
from coffea_conserv.attacks.engine import SMALLEST_GROUP, perturb
from coffea_conserv.attacks.judging import judge_groups
from coffea_conserv.features.binning import flow_index
from coffea_conserv.features.feature import Feature, present
from coffea_conserv.limits.budget import Budget
from coffea_conserv.limits.measures import jsd_floor
from coffea_conserv.solvers.constraints import used
from coffea_conserv.solvers.lagrangian import penalty
from coffea_conserv.solvers.protocol import solve
from coffea_conserv.solvers.transport.solver import Transport

BUDGETS = {
    "exact": Budget(rms=0.0, correlation=0.02, watch=0.2),
    "rms": Budget(rms=0.05, correlation=0.02, watch=0.2),
    "band": Budget(band=0.1, correlation=0.02, watch=0.2),
    "jsd": Budget(jsd=0.03, correlation=0.02, watch=0.2),
}
QUICK = Transport(steps=40)


def attacked(batch, task, direction="signal", seed=1):
    """Attacked features and the outcome."""
    outcome = perturb(batch, task, [Ring()], direction, seed, CPU)
    return outcome.x, outcome


def measured(batch, task, x, value):
    """Measures of one group by the slow twins: marginals, watched, correlation."""
    of = batch.group == value
    weight = batch.weight[of]
    found = {}
    for j, f in enumerate(task.features):
        pair = []
        for array in (batch.x[of, j], x[of, j]):
            there = present(f, array)
            pair.append(np.bincount(flow_index(f.axis, array[there]), weight[there], f.axis.extent))
        found[f.name] = pair
    watch = task.watched[0]
    pair = []
    for array in (batch.x[of], x[of]):
        r = np.hypot(array[:, 0], array[:, 1])
        pair.append(np.bincount(flow_index(watch.axis, r), weight, watch.axis.extent))
    found[watch.name] = pair
    before, after = (
        slow_twins.pearson(
            array[of].T, [present(f, array[of, j]) for j, f in enumerate(task.features)], weight
        )
        for array in (batch.x, x)
    )
    return found, slow_twins.correlation_shift(before, after)


def assert_kept(batch, task, x):
    """Every limit in every group."""
    budget = task.budget
    for value in np.unique(batch.group[batch.group >= 0]):
        found, shift = measured(batch, task, x, value)
        assert shift <= budget.correlation * (1 + 1e-9)
        assert slow_twins.js_distance(*found.pop("r")) <= budget.watch_distance * (1 + 1e-9)
        weight = batch.weight[batch.group == value]
        varying = len(np.unique(np.abs(weight))) > 1
        for name, pair in found.items():
            limit = budget.marginal(name)
            if limit:
                measure = getattr(
                    slow_twins, {"jsd": "js_distance"}.get(budget.kind, f"{budget.kind}_deviation")
                )
                assert measure(*pair) <= limit * (1 + 1e-9)
            elif not varying:
                assert slow_twins.js_distance(*pair) == 0
            else:
                effective = weight.sum() ** 2 / (weight**2).sum()
                floor = 0.1 * jsd_floor(int((pair[0] > 0).sum()), effective)
                assert slow_twins.js_distance(*pair) <= floor * (1 + 1e-9)


@pytest.mark.parametrize("direction", ["signal", "background"])
@pytest.mark.parametrize("name", BUDGETS)
def test_every_limit_is_kept_and_the_score_moves(name, direction):
    """All kinds of limits, both directions: slow twins find every limit kept, and the score moved."""
    batch = made_batch(2000)
    task = made_task(BUDGETS[name], solver=QUICK)
    x, outcome = attacked(batch, task, direction)
    assert_kept(batch, task, x)
    before, after = (scores(batch, [Ring()], array, CPU).mean() for array in (batch.x, x))
    assert (after - before) * (1 if direction == "signal" else -1) > 0.02
    assert not outcome.unattacked.any()


@pytest.mark.parametrize("weights", ["two", "varying", "signed"])
@pytest.mark.parametrize("name", ["exact", "rms"])
def test_weights_of_all_kinds_keep_the_limits(name, weights):
    """A few different, varying and negative weights: net histograms and moments are within the limits."""
    batch = made_batch(3000, weights=weights)
    task = made_task(BUDGETS[name], solver=QUICK)
    x, _ = attacked(batch, task)
    assert_kept(batch, task, x)
    before, after = (scores(batch, [Ring()], array, CPU) for array in (batch.x, x))
    assert (batch.weight * (after - before)).sum() > 0


def test_columns_are_permutations_where_marginals_are_exact():
    """At limit 0 every group has the same values of every feature as before, whatever the binning."""
    batch = made_batch(1500, groups=3)
    x, _ = attacked(batch, made_task(BUDGETS["exact"], solver=QUICK))
    assert (x != batch.x).any()
    for value in range(3):
        of = batch.group == value
        np.testing.assert_array_equal(np.sort(x[of], axis=0), np.sort(batch.x[of], axis=0))


@pytest.mark.parametrize("name", BUDGETS)
def test_what_must_not_move_does_not(name):
    """Frozen features, missing values, events in no group or of no weight stay; integers stay integers."""
    batch = made_batch(1500)
    batch.group[::7] = -1
    batch.weight[1::7] = 0.0
    task = made_task(BUDGETS[name], solver=QUICK)
    x, _ = attacked(batch, task)
    np.testing.assert_array_equal(x[:, 4], batch.x[:, 4])
    np.testing.assert_array_equal(x[:, 2] == MISSING, batch.x[:, 2] == MISSING)
    np.testing.assert_array_equal(x[::7], batch.x[::7])
    np.testing.assert_array_equal(x[1::7], batch.x[1::7])
    np.testing.assert_array_equal(x[:, 3], np.round(x[:, 3]))
    assert set(np.unique(x[:, 3])) <= set(np.unique(batch.x[:, 3]))


def test_every_event_stays_possible():
    """A function that forbids and physical ranges hold for all that is returned, if they held before."""
    batch = made_batch(1500)
    base = made_task(BUDGETS["exact"], solver=QUICK)
    narrow = tuple(replace(f, low=-1.5, high=1.5) if f.name == "x" else f for f in base.features)

    def ordered(columns):
        return columns["y"] <= columns["x"] + 1.0

    task = replace(base, features=narrow, valid=ordered)
    x, _ = attacked(batch, task)
    outside = np.abs(batch.x[:, 0]) > 1.5
    wrong = batch.x[:, 1] > batch.x[:, 0] + 1.0
    assert (outside | wrong).sum() > 100
    np.testing.assert_array_equal(x[outside | wrong], batch.x[outside | wrong])
    free = ~outside & ~wrong
    assert (np.abs(x[free, 0]) <= 1.5).all()
    assert (x[free, 1] <= x[free, 0] + 1.0).all()
    assert (x[free] != batch.x[free]).any()


def test_the_state_carries_true_sums_and_every_round_pays():
    """Sums, logits and bins that are carried along are those of the events; no round makes a loss."""
    _, problem = made_problem(made_batch(800, weights="varying"), made_task(BUDGETS["rms"]))
    run = QUICK.bind(problem, 3)
    state = run.init()
    while not run.done(state):
        pairs = run.pairing.random(1).part(slice(0, None, 4))
        offers = run._offers(state, pairs, run._evaluate(state, pairs))
        start = run._at(state, state.totals)
        made, end = run._round(state, start, offers)
        prices = run.room.prices(end.totals, state.multipliers, state.stiffness)
        torch.testing.assert_close(end.penalty, penalty(prices, state.stiffness))
        torch.testing.assert_close(end.prices.tables, prices.tables)
        gain = run._mean(offers, torch.where(made, offers.gain, 0.0).sum(0))
        assert (gain - (end.penalty - start.penalty) >= -1e-9).all()
        state = run.step(state)
    events = torch.arange(len(problem.x))
    torch.testing.assert_close(state.logit, problem.logit(state.x, events))
    assert_same_sums(state.totals, recomputed(problem, state.z, state.cells), problem.limits.weight)
    radius = torch.hypot(state.x[:, 0], state.x[:, 1]).numpy()
    np.testing.assert_array_equal(state.cells[:, -1], flow_index(hist.axis.Regular(20, 0, 4), radius))


def test_steps_do_not_change_the_state_they_start_from():
    """A state is a value: it can be kept, and stepping from it again gives the same."""
    _, problem = made_problem(task=made_task(BUDGETS["rms"]))
    run = QUICK.bind(problem, 1)
    state = run.step(run.init())
    kept = [
        t.clone()
        for t in (state.x, state.z, state.logit, state.cells, state.totals.cross, state.totals.content)
    ]
    run.step(state)
    now = [state.x, state.z, state.logit, state.cells, state.totals.cross, state.totals.content]
    for before, after in zip(kept, now, strict=True):
        assert torch.equal(before, after)


def test_the_best_iterate_is_within_the_limits_and_never_below_nominal():
    """The answer is group by group the best one that keeps the limits; nominal counts as one."""
    _, problem = made_problem(made_batch(600, groups=6))
    nominal = solve(problem, Transport(steps=0), 1)
    assert torch.equal(nominal.x, problem.x)
    best = solve(problem, QUICK, 1)
    assert (best.value >= nominal.value).all()
    assert ((best.found == 0) == (best.value == nominal.value)).all()
    more = solve(problem, Transport(steps=120), 1)
    assert more.value.mean() > best.value.mean() - 0.01


def test_the_same_seed_gives_the_same_events():
    """Bit by bit, whatever was drawn before; another seed gives others."""
    batch, task = made_batch(800), made_task(BUDGETS["rms"], solver=QUICK)
    one = attacked(batch, task, seed=5)[0]
    torch.rand(10)
    np.testing.assert_array_equal(one, attacked(batch, task, seed=5)[0])
    assert (one != attacked(batch, task, seed=6)[0]).any()


def test_many_groups_are_solved_together():
    """Hundreds of groups: each keeps its limits, small ones stay nominal and are counted."""
    batch = made_batch(9000, groups=150)
    batch.group[batch.group == 3] = np.where(np.arange((batch.group == 3).sum()) < SMALLEST_GROUP - 1, 3, -1)
    task = made_task(Budget(rms=0.0, correlation=0.1, watch=0.5), solver=QUICK)
    x, outcome = attacked(batch, task)
    assert all(limit.passed for limit in judge_groups(batch, task, x))
    small = batch.group == 3
    assert outcome.unattacked[small].all()
    np.testing.assert_array_equal(x[small], batch.x[small])
    moved = [(x[batch.group == g] != batch.x[batch.group == g]).any() for g in range(150)]
    assert np.mean(moved) > 0.8


def test_a_group_without_positive_weight_stays_nominal():
    """Limits of a sample with a negative sum mean nothing, so it is left alone and counted."""
    batch = made_batch(400)
    batch.weight[batch.group == 1] *= -1
    x, outcome = attacked(batch, made_task(solver=QUICK))
    np.testing.assert_array_equal(x[batch.group == 1], batch.x[batch.group == 1])
    assert outcome.unattacked[batch.group == 1].all()
    assert not outcome.unattacked[batch.group == 0].any()


@pytest.mark.parametrize("kind", ["identical", "two values", "one bin", "huge weights"])
def test_degenerate_samples_keep_the_limits(kind):
    """Constants, ties, one bin and extreme weights give neither NaN nor a broken limit."""
    batch = made_batch(600)
    x, weight, task = batch.x.copy(), batch.weight.copy(), made_task(BUDGETS["exact"], solver=QUICK)
    if kind == "identical":
        x[:] = x[:1]
    if kind == "two values":
        x[:, :3] = np.sign(x[:, :3])
    if kind == "one bin":
        one = hist.axis.Regular(1, -100, 100)
        task = replace(task, features=tuple(Feature(f.name, one, missing=f.missing) for f in task.features))
    if kind == "huge weights":
        weight = 10.0 ** np.random.default_rng(0).uniform(-6, 6, len(x))
    batch = Batch(x, weight, batch.group)
    moved, _ = attacked(batch, task)
    assert np.isfinite(moved).all()
    assert all(limit.passed for limit in judge_groups(batch, task, moved))
    if kind == "identical":
        np.testing.assert_array_equal(moved, x)


@pytest.mark.parametrize("model", ["constant", "steps", "sometimes infinite"])
def test_models_that_give_little_to_hold_on_to(model):
    """A constant model moves nothing; steps and infinities do no harm."""

    class Odd(torch.nn.Module):
        def forward(self, x):
            if model == "constant":
                return 0.0 * x[:, 0]
            if model == "steps":
                return torch.floor(x[:, 0] * x[:, 1])
            return torch.where(x[:, 1] > 1.5, torch.full_like(x[:, 0], float("nan")), x[:, 0] - x[:, 1] ** 2)

    batch = made_batch(600)
    clean = batch.x[:, 1] <= 1.5
    batch = Batch(batch.x[clean], batch.weight[clean], batch.group[clean])
    task = made_task(BUDGETS["exact"], solver=QUICK)
    x = perturb(batch, task, [Odd()], "signal", 1, CPU).x
    assert np.isfinite(scores(batch, [Odd()], x, CPU)).all()
    assert all(limit.passed for limit in judge_groups(batch, task, x))
    assert (x != batch.x).any() == (model != "constant")


def test_a_chunk_in_which_nothing_can_move_stays_nominal():
    """No free feature and no pair: the solver has nothing to do."""
    task = made_task(BUDGETS["exact"], solver=QUICK)
    frozen = tuple(replace(f, frozen=True) for f in task.features)
    batch = made_batch(100)
    x, _ = attacked(batch, replace(task, features=frozen))
    np.testing.assert_array_equal(x, batch.x)


@pytest.mark.parametrize("weights", ["equal", "varying", "signed"])
@pytest.mark.parametrize("name", BUDGETS)
def test_chunks_that_keep_their_limits_keep_them_together(name, weights):
    """Merged samples of chunks that were attacked alone are within the same limits."""
    task = made_task(BUDGETS[name], solver=QUICK, composes=True)
    chunks = [made_batch(1500, weights=weights, seed=seed) for seed in range(3)]
    for shift, chunk in enumerate(chunks):
        chunk.x[:, 0] += 0.3 * shift  # different samples, as datasets of one process are
    moved = [attacked(chunk, task, seed=seed)[0] for seed, chunk in enumerate(chunks)]
    whole = Batch(*(np.concatenate([getattr(c, part) for c in chunks]) for part in ("x", "weight", "group")))
    assert_kept(whole, task, np.concatenate(moved))


def test_shares_that_the_solver_sees_are_those_of_the_judge():
    """What stops the solver at a limit is the judge's own measure."""
    batch, task = made_batch(1200, groups=1), made_task(BUDGETS["rms"])
    rows, problem = made_problem(batch, task)
    run = QUICK.bind(problem, 1)
    state = run.init()
    for _ in range(15):
        state = run.step(state)
    x = batch.x.copy()
    x[rows] = state.x.numpy()
    judged = {limit.name: limit.used for limit in judge_groups(batch, task, x)}
    shares = used(problem.limits, state.totals)[0].tolist()
    expected = [judged["correlation"], *(judged[f"marginal {f.name}"] for f in task.features[:4])]
    expected.append(judged["watched r"])
    assert shares == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("kind", BUDGETS)
def test_not_waiting_for_a_gpu_changes_nothing(kind, monkeypatch):
    """A GPU looks at all pairs where a CPU looks at those that change: the answer is the same."""
    _, problem = made_problem(made_batch(500, weights="two"), made_task(BUDGETS[kind]))

    def ended():
        run = Transport(steps=12).bind(problem, 1)
        state = run.init()
        while not run.done(state):
            state = run.step(state)
        return state

    def every(mask):
        return torch.unravel_index(torch.arange(mask.numel()), mask.shape)

    expected = ended()
    for module in ("pricing", "solver"):
        monkeypatch.setattr(f"coffea_conserv.solvers.transport.{module}.picked", every)
    found = ended()
    assert torch.equal(found.x, expected.x)
    assert torch.equal(found.cells, expected.cells)
    torch.testing.assert_close(found.totals.content, expected.totals.content)


def test_a_group_that_is_late_gets_further_steps():
    """Too few steps end outside; some on top bring the group back, and no more are made than that takes."""
    task = made_task(Budget(rms=0.0, correlation=0.0005, watch=0.5), objective="cross")
    _, problem = made_problem(made_batch(2000, groups=1), task)
    found = {}
    for overtime in (0.0, 5.0):
        solver = Transport(steps=6, overtime=overtime)
        run = solver.bind(problem, 1)
        state = run.init()
        while not run.done(state):
            state = run.step(state)
        found[overtime] = state.step, bool(state.landed.all()), float(solve(problem, solver, 1).found.min())
    assert found[0.0] == (6, False, 0.0)
    steps, landed, best = found[5.0]
    assert 6 < steps < 36
    assert landed
    assert best > 0
