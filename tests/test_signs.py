"""Weights of both signs: order, what must stay, and that no template falls below zero."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import hist
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_problems import Ring, made_batch, made_problem, made_task
from test_limits import made_limits

from coffea_conserv import Budget, Feature, attack
from coffea_conserv.attacks.batch import Batch, ScorePair, scores
from coffea_conserv.attacks.engine import perturb
from coffea_conserv.attacks.negative_weights import by_sign, floors, lacking, parts, score_bins
from coffea_conserv.solvers.constraints import FLOOR, RMS, Prices, used
from coffea_conserv.solvers.lagrangian import Room, penalty
from coffea_conserv.solvers.transport.solver import Transport

EDGES = np.linspace(0, 1, 6)
AXIS = hist.axis.Regular(20, -3, 3)


class Disc(torch.nn.Module):
    """Signal in the middle."""

    def forward(self, x):
        """Logits, shape (events,)."""
        return 4 - x[:, 0] ** 2 - x[:, 1] ** 2


def counted(score, weight, edges):
    """Sums of weights in the bins of the score."""
    return np.bincount(score_bins(score, edges), weight, len(edges) - 1)


def test_negative_weights_move_first():
    """Two parts with groups of their own, numbered anew; what is not attacked is in neither."""
    group = np.array([0, 0, 1, 1, -1, 2])
    weight = np.array([1.0, -1, 2, 3, 1, -2])
    code = by_sign(group, weight)
    np.testing.assert_array_equal(code, [0, 1, 2, 2, -1, 5])
    first, second = parts(code)
    np.testing.assert_array_equal(first, [-1, 0, -1, -1, -1, 1])
    np.testing.assert_array_equal(second, [0, -1, 1, 1, -1, -1])
    assert len(parts(by_sign(group, np.abs(weight)))) == 1
    assert parts(np.full(3, -1)) == []


def test_scores_are_counted_as_a_histogram_does():
    """The last bin holds the score just below 1, the first one 0."""
    score = np.concatenate([np.linspace(0, 0.999, 400), [0, np.nextafter(np.float32(1), np.float32(0))]])
    weight = np.random.default_rng(0).normal(size=len(score))
    made = hist.Hist(hist.axis.Regular(5, 0, 1), storage=hist.storage.Double())
    made.fill(score.astype(np.float32), weight=weight)
    np.testing.assert_allclose(counted(score.astype(np.float32), weight, EDGES), made.values(), atol=1e-12)


def slow_floor(batch, atom, before, after, follow):
    """What must stay, bin by bin and event by event."""
    found = []
    for low, high in pairwise(EDGES):
        positive = negative = moved = 0.0
        for i in range(len(batch.weight)):
            if batch.group[i] != atom:
                continue
            if batch.weight[i] >= 0:
                positive += batch.weight[i] * (low <= before[i] < high)
            else:
                negative -= batch.weight[i] * (low <= before[i] < high)
                moved -= batch.weight[i] * (low <= after[i] < high)
        found.append(max(0.0, follow * moved - max(0.0, follow * negative - positive)))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_what_must_stay_equals_the_slow_twin(seed):
    """Also in groups of which one sign is absent, or that are not attacked."""
    rng = np.random.default_rng(seed)
    weight = np.where(rng.random(300) < 0.3, -1.0, 1.0) * rng.uniform(0.5, 2, 300)
    group = rng.integers(-1, 3, 300)
    weight[group == 2] = np.abs(weight[group == 2])
    batch = Batch(np.zeros((300, 1), np.float32), weight, group)
    before, after = rng.uniform(0, 0.999, (2, 300)).astype(np.float32)
    part = parts(by_sign(group, weight))[-1]
    found = floors(batch, part, ScorePair(before, after), EDGES)
    for atom in range(3):
        mine = group == atom
        ratio = weight[mine & (weight > 0)].sum() / max(-weight[mine & (weight < 0)].sum(), 1e-300)
        np.testing.assert_allclose(found[atom, 0], slow_floor(batch, atom, before, after, 1.0), atol=1e-9)
        if atom < 2:
            follow = 1 + 0.5 * (ratio - 1)
            expected = np.maximum(slow_floor(batch, atom, before, after, follow), found[atom, 0])
            np.testing.assert_allclose(found[atom, 1], expected)
    assert not found[2].any()
    assert floors(replace(batch, weight=np.abs(weight)), part, ScorePair(before, after), EDGES) is None


@given(st.lists(st.tuples(st.floats(-5, 50), st.floats(-5, 50)), min_size=1, max_size=20))
def test_lacking_is_what_is_below_zero_beyond_nominal(pairs):
    """0 if nothing changes or nothing is negative; never less than 0."""
    nominal, attacked = np.array(pairs).T
    nominal = np.append(nominal, 100.0 + abs(nominal.sum()))
    attacked = np.append(attacked, 0.0)
    assert lacking(nominal, nominal) == 0
    assert lacking(nominal, np.abs(attacked)) == 0
    found = lacking(nominal, attacked)
    expected = sum(max(0.0, min(a, 0.0) - b) for a, b in zip(nominal, attacked, strict=True)) / nominal.sum()
    assert found == pytest.approx(expected, abs=2e-9)


def test_the_price_of_a_floor_is_the_derivative_of_its_penalty():
    """A bin below what is aimed at has a price, one above has none; the limit is what must stay."""
    limits, _, now, _ = made_limits(1, kinds=(RMS, FLOOR))
    floor = torch.stack([0.9 * now.content[:, -1], 1.05 * now.content[:, -1]], dim=1)
    floor[:, :, ::2] = 0
    limits = replace(limits, floor=floor, table=torch.tensor([[0.05, 1.0]]).double().expand(3, 2))
    room, rho = Room(limits, 0.95, 0.8), torch.full((3, 2), 4.0).double()
    zero = Prices(torch.zeros(3, 4, 4).double(), torch.zeros_like(limits.reference))
    prices = room.prices(now, zero, rho)
    assert not prices.tables[:, 1, ::2].any()
    assert (prices.tables[:, 1, 1:-1:2] < 0).all()
    content, step = now.content.clone(), 1e-6
    content[:, 1, 1] += step
    moved = room.prices(replace(now, content=content), zero, rho)
    unit = torch.sqrt(limits.scale(now.content) * limits.sizes())
    slope = (penalty(moved, rho) - penalty(prices, rho)) / step
    torch.testing.assert_close(slope, (prices.tables / unit)[:, 1, 1], rtol=1e-3, atol=1e-6)
    assert (used(limits, now)[:, -1] <= 1).all()
    content[:, 1, 3] *= 0.8
    assert (used(limits, replace(now, content=content))[:, -1] > 1).all()


@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize("direction", ["signal", "background"])
def test_no_bin_of_the_net_score_falls_below_zero(share, direction):
    """A tenth, or a third, of the events has negative weight; the attack stays strong and possible."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3000, 2)).astype(np.float32)
    weight = np.where(rng.random(len(x)) < share, -1.0, 1.0)
    features = [Feature("x", AXIS), Feature("y", AXIS)]
    result = attack(
        x,
        Disc(),
        features,
        budget=Budget(rms=0.05),
        weights=weight,
        objective="score",
        direction=direction,
        solver=Transport(steps=60),
    )
    edges = np.linspace(0, 1, 21)
    before, after = (counted(score, weight, edges) for score in (result.score_nominal, result.score))
    assert (after >= np.minimum(before, 0) - 1e-9).all()
    assert result.verdict.passed
    assert {limit.value for limit in result.verdict.limits if limit.name == "score"} == {0.0}
    assert result.fooling_ratio > (0.6 if direction == "signal" else 0.15)
    assert not result.unattacked.any()


def test_without_the_floor_there_would_be_negative_bins():
    """The case is not empty: each sign attacked by itself empties bins that the other still holds."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3000, 2)).astype(np.float32)
    weight = np.where(rng.random(len(x)) < 0.1, -1.0, 1.0)
    task = replace(made_task(Budget(rms=0.05)), features=(Feature("x", AXIS), Feature("y", AXIS)), watched=())
    task = replace(task, solver=Transport(steps=60))
    moved = x.copy()
    for of in (weight > 0, weight < 0):
        alone = Batch(x[of], np.abs(weight[of]), np.zeros(of.sum(), dtype=np.int64))
        moved[of] = perturb(alone, task, [Disc()], "signal", 0, torch.device("cpu")).x
    batch = Batch(x, weight, np.zeros(len(x), dtype=np.int64))
    score = scores(batch, [Disc()], moved, torch.device("cpu"))
    assert counted(score, weight, task.score_edges).min() < 0


def test_the_solver_bins_the_score_as_the_judge_does():
    """One more table, only where it is needed."""
    batch = made_batch(600, weights="signed")
    part = parts(by_sign(batch.group, batch.weight))[-1]
    _, plain = made_problem(batch)
    assert plain.limits.floor is None
    score = scores(batch, [Ring()], batch.x, torch.device("cpu"))
    floor = floors(batch, part, ScorePair(score, score), made_task().score_edges)
    problem = made_problem(batch, code=part, floor=floor)[1]
    assert int(problem.limits.kind[-1]) == FLOOR
    for group in range(2):
        mine = part == group
        expected = counted(score[mine], batch.weight[mine], made_task().score_edges)
        np.testing.assert_allclose(problem.limits.reference[group, -1, :20], expected)
        np.testing.assert_allclose(problem.limits.floor[group, 0, :20], floor[group, 0])
