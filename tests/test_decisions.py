"""What the solver decides and projects, against plain loops and against what makes a projection."""

from __future__ import annotations

import numpy as np
import pytest
import slow_twins
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_problems import made_batch, made_problem, made_task
from test_limits import made_limits
from test_pricing import started

from coffea_conserv.limits.budget import Budget
from coffea_conserv.solvers.constraints import BAND, JSD, RMS, Prices
from coffea_conserv.solvers.lagrangian import Room, _outside
from coffea_conserv.solvers.problem import recount
from coffea_conserv.solvers.transport.pricing import quote
from coffea_conserv.solvers.transport.solver import _THRESHOLD, _ranked

FULL, EDGE, RHO = 0.9, 0.8, (3.0, 5.0)


@pytest.mark.parametrize("weights", ["equal", "two", "varying"])
@pytest.mark.parametrize("rms", [0.0, 0.3])
def test_every_pair_does_what_is_best_for_it(weights, rms):
    """Nothing, an exchange or a copy, pair by pair; copies are left out where bands have no room."""
    problem, run, state, _ = started(weights, Budget(rms=rms, correlation=0.1, watch=1.0))
    at, seen = run._at(state, state.totals), set()
    for pairs in map(run.pairing.random, range(8)):
        offers = run._offers(state, pairs, run._evaluate(state, pairs))
        cost = quote(problem.limits, at.totals, at.prices, offers, state.stiffness, exact=problem.exact)
        chosen = run._chosen(at.totals, offers, cost)
        for p in range(chosen.shape[1]):
            parts = offers.gain[:, p], cost.linear[:, p], cost.exchange[p], cost.single[:, p]
            best = slow_twins.decided(*parts, threshold=_THRESHOLD, copies=problem.copies)
            found = tuple(chosen[:, p].tolist())
            assert found == best or (sum(best) == 1 and not any(found) and problem.copies)
            seen.add(found)
    assert (False, False) in seen
    assert ((True, False) if problem.copies else (True, True)) in seen


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(-3, 3)), max_size=30),
)
def test_ranks_are_places_in_a_sorted_list(rows):
    """Within its group, what pays most comes first; what is not chosen comes last."""
    group, chosen, net = (list(part) for part in zip(*rows, strict=True)) if rows else ([], [], [])
    rank, size = _ranked(
        torch.tensor(net, dtype=torch.float64),
        torch.tensor(chosen, dtype=torch.bool),
        torch.tensor(group, dtype=torch.long),
        4,
    )
    for g in range(4):
        of = [i for i in range(len(rows)) if group[i] == g]
        ordered = sorted(of, key=lambda i: (not chosen[i], -net[i] if chosen[i] else 0, i))
        assert [rank[i].item() for i in ordered] == list(range(len(of)))
        assert size[g].item() == sum(chosen[i] for i in of)


@pytest.mark.parametrize("weights", ["equal", "varying", "signed"])
def test_moments_are_those_of_plain_loops(weights):
    """Sums over pairs of present values, event by event, group by group."""
    _, problem = made_problem(made_batch(200, weights=weights), made_task())
    found = recount(problem, problem.x, problem.logit(problem.x, torch.arange(len(problem.x))))
    z = (problem.x.double() - problem.mean[problem.group]) / problem.spread[problem.group]
    for g in range(problem.groups):
        of = (problem.group == g).nonzero()[:, 0].tolist()
        rows = [(z[i].float().tolist(), problem.there[i].tolist(), problem.weight[i].item()) for i in of]
        sums = slow_twins.moments(*zip(*rows, strict=True))
        for part, expected in zip((found.first, found.second, found.cross), sums, strict=True):
            torch.testing.assert_close(
                part[g], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-8
            )


numbers = st.integers(-500, 500).map(lambda n: n / 100)


@settings(max_examples=60)
@given(st.lists(numbers, min_size=4, max_size=4), st.lists(numbers, min_size=4, max_size=4), st.floats(0, 3))
def test_a_ball_is_left_by_the_shortest_way(point, other, radius):
    """What is left of a point is in the ball, and no other point of the ball is on its far side."""
    v, y = (torch.tensor(part, dtype=torch.float64) for part in (point, other))
    outside = _outside(v[None], torch.tensor([[radius]], dtype=torch.float64), (1,))[0]
    projected = v - outside
    assert projected.norm() <= radius + 1e-12
    y = y * min(1.0, radius / max(float(y.norm()), 1e-300))
    assert float(outside @ (y - projected)) <= 1e-9
    if v.norm() <= radius:
        assert not outside.any()


@pytest.mark.parametrize("kind", [RMS, JSD, BAND])
@pytest.mark.parametrize("seed", range(2))
def test_prices_are_what_the_nearest_allowed_sums_lack(kind, seed):
    """Deviations less their projection, for sets written down bin by bin: by loops, as a projection is."""
    limits, _, now, _ = made_limits(seed, kinds=(kind,))
    rng = np.random.default_rng(seed)
    start = torch.tensor(0.1 * rng.normal(size=(3, 1, 7)))
    stiffness = torch.tensor([RHO]).double().expand(3, 2)
    free = Prices(torch.zeros(3, 4, 4).double(), start)
    found = Room(limits, FULL, EDGE).prices(now, free, stiffness).tables / RHO[1]
    moved = 0
    for g in range(3):
        scale, size = limits.scale(now.content)[g, 0], float(limits.sizes()[g, 0, 0])
        limit, reference = float(limits.table[g, 0]), limits.reference[g, 0].tolist()
        unit = [(float(s) * size) ** 0.5 for s in scale]
        v = [
            (float(now.content[g, 0, b]) - reference[b]) / unit[b] + float(start[g, 0, b]) / RHO[1]
            for b in range(6)
        ]
        edge = [EDGE * limit * reference[b] / unit[b] for b in range(6)]
        length = sum(part**2 for part in v) ** 0.5
        if kind == BAND:
            nearest = [min(max(part, -e), e) for part, e in zip(v, edge, strict=True)]
        else:
            nearest = [part * min(1.0, FULL * limit / length) for part in v]
        expected = [part - near for part, near in zip(v, nearest, strict=True)]
        np.testing.assert_allclose(found[g, 0, :6].numpy(), expected, rtol=1e-9, atol=1e-12)
        assert found[g, 0, 6] == 0  # what is not there has no limit
        moved += any(expected)
        for _ in range(50):
            y = rng.normal(size=6)
            y = np.clip(y, np.negative(edge), edge) if kind == BAND else y * FULL * limit / np.linalg.norm(y)
            assert np.dot(expected, y - nearest) <= 1e-9
    assert moved
