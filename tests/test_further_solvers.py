"""Bands by bin and side, KS, χ² and single correlations: what both solvers keep, and at what price."""

from __future__ import annotations

import math
from dataclasses import replace

import hist
import numpy as np
import pytest
import slow_twins
import torch
from made_problems import CPU, Ring, made_batch, made_problem, made_task
from test_attack import PAIR, donut
from test_further_limits import BUDGETS, REST
from test_limits import made_limits, room_and_stiffness
from test_search import cost_of, looked_at, offered
from test_transport import assert_kept, measured

from coffea_conserv import Feature, attack
from coffea_conserv.attacks.batch import Batch, scores
from coffea_conserv.attacks.engine import perturb
from coffea_conserv.attacks.judging import judge_groups
from coffea_conserv.limits.band import Band
from coffea_conserv.limits.budget import Budget, Chi2
from coffea_conserv.limits.measures import (
    bin_floor,
    effective_events,
)
from coffea_conserv.solvers.constraints import BAND, KS, KUIPER, RMS, Further, Prices, used
from coffea_conserv.solvers.lagrangian import penalty
from coffea_conserv.solvers.search.solver import _FULL, Search
from coffea_conserv.solvers.transport.solver import Transport

SOLVERS = {"transport": Transport(steps=40), "search": Search(num_candidates=20, iterations=4)}


def circled(task):
    """The same task with a periodic feature x."""
    axis = hist.axis.Regular(24, -4, 4, circular=True)
    features = tuple(replace(f, axis=axis) if f.name == "x" else f for f in task.features)
    return replace(task, features=features)


def assert_all_kept(batch, task, x):
    """Every limit in every group, by the slow twins."""
    budget = task.budget
    for value in np.unique(batch.group):
        found, _ = measured(batch, task, x, value)
        weight = batch.weight[batch.group == value]
        for f in task.features[:4]:
            pair = found[f.name]
            sides = budget.sides(f.name, f.axis)
            if sides is not None:
                if len(np.unique(np.abs(weight))) > 1:
                    floor = 0.1 * bin_floor(pair[0], effective_events(weight.sum(), (weight**2).sum()))
                    sides = np.where(sides > 0, sides, floor)
                assert slow_twins.band_share(*pair, sides) <= 1 + 1e-9
            if budget.ks is not None:
                assert slow_twins.ks_distance(*pair, circular=f.axis.traits.circular) <= budget.ks * (
                    1 + 1e-9
                )
            if budget.chi2 is not None:
                assert slow_twins.chi2(*pair, budget.chi2.events) <= budget.chi2.limit * (1 + 1e-9)
    if budget.kind != "band" or not any(isinstance(b, Band) for b in np.atleast_1d(budget.band)):
        plain = replace(budget, band=None, rms=1.0) if budget.kind == "band" else budget
        assert_kept(batch, replace(task, budget=plain), x)
    if budget.correlation_element is not None:
        for limit in judge_groups(batch, task, x):
            assert limit.name != "correlation element" or limit.passed


# --- judge and solver see the same -------------------------------------------------------------------------


def test_further_limits_of_the_solver_are_the_measures():
    """Shares of KS, Kuiper, χ² and bands with sides agree with slow twins to rounding."""
    limits, nominal, now, _ = made_limits(3)
    rng = np.random.default_rng(1)
    sides = torch.tensor(rng.uniform(0.01, 2, (3, 2, 3, 7)))
    kind, table = torch.tensor([KS, KUIPER, RMS]), torch.tensor([0, 1, 2])
    further = Further(kind, table, torch.full((3, 3), 0.04, dtype=torch.float64))
    limits = replace(limits, sides=sides, further=further)
    found = used(limits, now).numpy()
    for g in range(3):
        pairs = [(limits.reference[g, q, :-1].numpy(), now.content[g, q, :-1].numpy()) for q in range(3)]
        expected = [
            slow_twins.ks_distance(*pairs[0]),
            slow_twins.ks_distance(*pairs[1], circular=True),
            slow_twins.rms_deviation(*pairs[2]),
        ]
        assert found[g, 1:4] == pytest.approx(np.array(expected) / 0.04, rel=1e-9)
        twin = slow_twins.band_share(*pairs[2], 0.05 * sides[g, :, 2, :-1].numpy())
        assert found[g, 6] == pytest.approx(twin, rel=1e-9)
    assert not used(limits, nominal).any()
    closed = replace(limits, sides=torch.zeros_like(sides))
    assert not used(closed, nominal)[:, -1].any()
    assert (used(closed, now)[:, -1] > 1e3).all()


def test_shares_of_single_correlations():
    """The larger one of the two limits on correlations counts, with means where these are limited."""
    limits, _, now, _ = made_limits(2)
    plain = used(limits, now)[:, 0]
    shift = limits.shift(now)
    tight = replace(limits, element=torch.full_like(shift, 0.001))
    torch.testing.assert_close(used(tight, now)[:, 0], shift.abs().amax((1, 2)) / 0.001)
    wide = replace(limits, element=torch.full_like(shift, 10.0))
    torch.testing.assert_close(used(wide, now)[:, 0], plain)


@pytest.mark.parametrize("kind", [KS, KUIPER, RMS])
def test_prices_of_further_limits_are_the_derivative_of_the_penalty(kind):
    """Content that is moved between bins costs the difference of their prices."""
    limits, _, now, _ = made_limits(1, kinds=(RMS, BAND))
    size = torch.full((3, 1), 0.01, dtype=torch.float64)
    limits = replace(limits, further=Further(torch.tensor([kind]), torch.tensor([1]), size))
    room, rho = room_and_stiffness(limits)
    free = limits.free(now)
    start = replace(free, further=torch.tensor(np.random.default_rng(5).normal(size=(3, 1, 7))))
    prices = room.prices(now, start, rho)
    assert prices.further.abs().amax() > 0
    slopes = limits.per_content(now.content, prices)
    step = 1e-6
    for cell in range(5):
        content = now.content.clone()
        content[:, 1, cell] += step
        content[:, 1, cell + 1] -= step
        moved = room.prices(replace(now, content=content), start, rho)
        rise = (penalty(moved, rho) - penalty(prices, rho)) / step
        torch.testing.assert_close(rise, slopes[:, 1, cell] - slopes[:, 1, cell + 1], rtol=1e-3, atol=1e-6)


def test_prices_of_single_correlations_are_what_sticks_out():
    """Entries within their limit cost nothing, others in proportion to what is beyond."""
    limits, nominal, now, _ = made_limits(4)
    shift = limits.shift(now)
    bound = 0.5 * float(shift.abs().max())
    limits = replace(limits, element=torch.full_like(shift, bound))
    room, rho = room_and_stiffness(limits)
    found = room.prices(now, limits.free(now), rho).element
    expected = 3.0 * torch.sign(shift) * (shift.abs() - 0.9 * bound).clamp(min=0)
    torch.testing.assert_close(found, expected)
    assert not room.prices(nominal, limits.free(now), rho).element.any()
    both = Prices(found, now.content, found)
    torch.testing.assert_close(both.entries, 2 * found)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", BUDGETS)
def test_every_limit_is_kept_and_the_score_moves(name, solver):
    """What is returned keeps all limits, the tightest one is nearly used up, and the score moves."""
    batch = made_batch(1200, groups=1)
    task = circled(made_task(BUDGETS[name], solver=SOLVERS[solver]))
    x = perturb(batch, task, [Ring()], "signal", 1, CPU).x
    assert_all_kept(batch, task, x)
    before, after = (scores(batch, [Ring()], array, CPU).mean() for array in (batch.x, x))
    assert after - before > 0.004
    kinds = {"sides": "marginal", "element": "correlation element"}
    share = {limit.name: limit.used for limit in judge_groups(batch, task, x)}
    assert max(v for n, v in share.items() if n.startswith(kinds.get(name, ("ks", "chi2")))) > 0.5


@pytest.mark.parametrize("weights", ["two", "varying", "signed"])
def test_weights_of_all_kinds_keep_further_limits(weights):
    """Where weights vary a side of 0 has a tenth of the floor of the bin."""
    batch = made_batch(1500, groups=1, weights=weights)
    for name in ("sides", "all")[int(weights == "two") :]:
        task = made_task(BUDGETS[name], solver=SOLVERS["transport"])
        x = perturb(batch, task, [Ring()], "signal", 1, CPU).x
        assert_all_kept(batch, task, x)
        assert (x != batch.x).any()


def test_they_cost_nothing_where_marginals_are_exact():
    """With limit 0 and equal weights there is nothing to limit further: no table, the same events."""
    batch = made_batch(800)
    plain = made_task(Budget(rms=0.0, **REST), solver=Transport(steps=10))
    more = replace(plain, budget=replace(plain.budget, ks=0.01, chi2=Chi2(1.0, events=100)))
    _, problem = made_problem(batch, more)
    assert problem.limits.further is None
    assert len(problem.limits.kind) == 1
    one, two = (perturb(batch, task, [Ring()], "signal", 1, CPU).x for task in (plain, more))
    np.testing.assert_array_equal(one, two)
    limits = {limit.name: limit for limit in judge_groups(batch, more, two)}
    assert limits["ks x"].value == limits["chi2 x"].value == 0.0


@pytest.mark.parametrize("name", ["ks", "chi2", "sides", "element"])
def test_chunks_that_keep_their_limits_keep_them_together(name):
    """Merged samples of chunks that were attacked alone, with other means, are within the same limits."""
    task = made_task(BUDGETS[name], solver=SOLVERS["transport"], composes=True)
    chunks = [made_batch(800, groups=1, seed=seed) for seed in range(2)]
    for shift, chunk in enumerate(chunks):
        chunk.x[:, 0] += 0.3 * shift
    moved = [perturb(c, task, [Ring()], "signal", seed, CPU).x for seed, c in enumerate(chunks)]
    whole = Batch(*(np.concatenate([getattr(c, part) for c in chunks]) for part in ("x", "weight", "group")))
    x = np.concatenate(moved)
    assert (x != whole.x).any()
    assert_all_kept(whole, task, x)


def shares_by_twins(budget, features, clean, contents):
    """Used shares of all limits on marginals."""
    found = []
    for f, before, after in zip(features[:4], clean, contents, strict=False):
        sides = budget.sides(f.name, f.axis)
        if sides is not None:
            found.append(slow_twins.band_share(before, after, sides))
        elif budget.kind != "band":
            measure = {"jsd": slow_twins.js_distance, "rms": slow_twins.rms_deviation}[budget.kind]
            found.append(measure(before, after) / budget.marginal(f.name))
        if budget.ks:
            found.append(slow_twins.ks_distance(before, after) / budget.ks)
        if budget.chi2:
            square = slow_twins.chi2(before, after, budget.chi2.events) / budget.chi2.limit
            found.append(math.sqrt(square))
    return found


@pytest.mark.parametrize(("name", "j"), [("all", 0), ("sides", 1), ("chi2", 3), ("element", 0)])
def test_a_candidate_is_dropped_where_a_twin_says_so(name, j):
    """Event by event: allowed is what keeps every limit, or makes none worse that is broken already."""
    budget = replace(BUDGETS[name], correlation=0.9, watch=9.0)
    if name == "element":
        budget = replace(budget, rms=0.3, correlation_element=0.05)
    free = Search(num_candidates=8, limit_jsd=1.0, limit_frobenius=9.0)
    run, work, values, offers = offered(budget, "equal", free, j)
    clean, r0 = looked_at(run, run.problem.x.numpy(), run.init().z.numpy(), 0)
    outcomes = set()

    def shares(x, z):
        contents, matrix = looked_at(run, x, z, 0)
        found = shares_by_twins(budget, run.problem.features, clean, contents)
        limit = budget.correlation_element or math.inf
        return np.array([*found, *np.abs(np.array(matrix) - np.array(r0))[j] / limit])

    for n, c in zip(*np.nonzero(offers.fine & (run.group[offers.event] == 0)[:, None]), strict=True):
        now, i = shares(work.x, work.events.z), offers.event[n]
        x, z = work.x.copy(), work.events.z.copy()
        x[i, j], z[i, j] = values[n, c], offers.z[n, c]
        then = shares(x, z)
        allowed = not np.any((then > _FULL) & (then > now + 1e-9))
        assert math.isfinite(cost_of(run, work, offers, n, c)) is allowed
        outcomes.add(allowed)
    assert outcomes == {True, False}


def test_bins_are_emptied_only_as_far_as_every_limit_forgives():
    """What is gone cannot be brought back: a small χ² beside a wide r.m.s. limit must not be lost."""
    model, x = donut()
    axes = [hist.axis.Regular(60, column.min() - 0.1, column.max() + 0.1) for column in x.T]
    pair = [Feature(f.name, axis) for f, axis in zip(PAIR, axes, strict=True)]
    budget = Budget(rms=0.05, chi2=Chi2(10.0, events=20_000))
    result = attack(x[:3000], model, pair, budget=budget, solver=Transport(steps=50))
    assert result.verdict.passed
    assert result.fooling_ratio > 0.3
    limits, *_ = made_limits(1, kinds=(RMS, BAND, RMS))
    sets = Further(torch.tensor([RMS, KS]), torch.tensor([2, 0]), torch.tensor([[0.02, 0.01]] * 3).double())
    smallest = replace(limits, further=sets).smallest()
    torch.testing.assert_close(smallest[0], torch.tensor([0.05, 0.05, 0.02]).double())
    assert limits.smallest() is limits.table
