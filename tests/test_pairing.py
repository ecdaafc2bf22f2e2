"""Pairs: disjoint, inside of the pools, of free features only, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_problems import made_batch, made_problem, made_task

from coffea_conserv.solvers.problem import standard
from coffea_conserv.solvers.transport.pairing import Pairing


def paired(seed=1, **options):
    """A problem of many pools, and its pairing."""
    _, problem = made_problem(made_batch(501, groups=4, weights="two", **options), made_task())
    return problem, Pairing(problem, seed)


def z_of(problem):
    """Standardised features."""
    group = problem.group
    return standard(problem.x, problem.there, problem.mean, problem.spread, group)


@pytest.mark.parametrize("kind", ["random", "near"])
def test_pairs_are_disjoint_and_inside_of_a_pool(kind):
    """No event is in two pairs of a step, and both events of a pair may hold each other's value."""
    problem, pairing = paired()
    for step in range(20):
        pairs = pairing.random(step) if kind == "random" else pairing.near(step, z_of(problem))
        events = pairs.event.reshape(-1)
        assert len(events.unique()) == len(events)
        a, b = pairs.event
        assert torch.equal(problem.pool[a], problem.pool[b])
        assert problem.free[a, pairs.feature[:, 0]].all()
        assert problem.free[b, pairs.feature[:, 0]].all()
        assert len(a) == (torch.bincount(problem.pool) // 2).sum()


def test_every_event_and_every_free_feature_gets_its_turn():
    """Within some steps everybody is in a pair, with each of the free features."""
    problem, pairing = paired()
    met = torch.zeros(problem.free.shape, dtype=torch.bool)
    for step in range(120):
        pairs = pairing.random(step)
        met[pairs.event, pairs.feature[:, 0].expand(2, -1)] = True
    alone = torch.bincount(problem.pool)[problem.pool] < 2
    share = met[problem.free & ~alone[:, None]].double().mean()
    assert share > 0.99
    assert not met[~problem.free].any()


def test_partners_of_near_pairs_are_nearer():
    """The typical distance is a fraction of that of random pairs."""
    problem, pairing = paired()
    z = z_of(problem)
    distances = []
    for near in (True, False):
        found = []
        for step in range(30):
            pairs = pairing.near(step, z) if near else pairing.random(step)
            a, b = z[pairs.event, pairs.feature[:, 0].expand(2, -1)]
            found.append((a - b).abs().mean().item())
        distances.append(np.mean(found))
    assert distances[0] < 0.5 * distances[1]


def test_the_same_seed_gives_the_same_pairs():
    """All randomness comes from the generator."""
    problem, one = paired()
    _, two = paired()
    _, other = paired(seed=2)
    for step in range(3):
        a, b, c = (pairing.random(step) for pairing in (one, two, other))
        assert torch.equal(a.event, b.event)
        assert torch.equal(a.feature, b.feature)
        assert not torch.equal(a.event, c.event)
    assert torch.equal(one.near(1, z_of(problem)).event, two.near(1, z_of(problem)).event)


def test_pools_without_a_free_feature_or_of_one_event_make_no_pairs():
    """Where nothing can move nobody is paired."""
    frozen = [0, 1, 2, 3]
    task = made_task()
    features = tuple(
        type(f)(f.name, f.axis, frozen=True, missing=f.missing) if j in frozen else f
        for j, f in enumerate(task.features)
    )
    _, problem = made_problem(made_batch(40), made_task(features=features))
    pairing = Pairing(problem, 1)
    assert pairing.random(0).event.shape == (2, 0)
    assert pairing.near(1, z_of(problem)).event.shape == (2, 0)
