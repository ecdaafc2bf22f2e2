"""Prices of single changes, sums that follow them, and room in bands, against sums made anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_problems import assert_same_sums, made_batch, made_problem, made_task, recomputed

from coffea_conserv.limits.budget import Budget
from coffea_conserv.solvers.constraints import BAND, FLOOR, RMS
from coffea_conserv.solvers.lagrangian import Room, penalty
from coffea_conserv.solvers.transport.pricing import add, fits, quote
from coffea_conserv.solvers.transport.solver import Transport


def started(weights="equal", budget=None, **options):
    """A problem, its solver some steps on, and offers for the next one."""
    batch = made_batch(400, weights=weights)
    task = made_task(budget or Budget(rms=0.05, correlation=0.05, watch=0.2), **options)
    _, problem = made_problem(batch, task)
    run = Transport(steps=30).bind(problem, 1)
    state = run.init()
    for _ in range(6):
        state = run.step(state)
    pairs = run.pairing.random(state.step)
    return problem, run, state, run._offers(state, pairs, run._evaluate(state, pairs))


@pytest.mark.parametrize("weights", ["equal", "two", "varying", "signed"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_sums_that_follow_changes_are_those_of_the_events(weights, share):
    """Adding changes one after the other or counting all events anew is the same."""
    problem, _, state, offers = started(weights)
    made = torch.rand(offers.gain.shape, generator=torch.Generator().manual_seed(1)) < share
    after = add(state.totals, offers, made, exact=problem.exact)
    z, cells = state.z.clone(), state.cells.clone()
    which = made.nonzero(as_tuple=True)
    event, feature = offers.pairs.event[which][:, None], offers.pairs.feature[which[1]]
    z[event, feature] = offers.new[which]
    cells[event, offers.tables[which[1]]] = offers.moved[which]
    assert_same_sums(after, recomputed(problem, z, cells), problem.limits.weight)


@pytest.mark.parametrize("weights", ["equal", "varying"])
@pytest.mark.parametrize("drift", [False, True])
def test_costs_are_the_rise_of_the_penalty(weights, drift):
    """The first order of a change is its effect on the penalty, which a tiny weight shows alone."""
    problem, _, state, offers = started(weights, composes=drift)
    limits = problem.limits
    room, rho = Room(limits, 0.1, 0.1), state.stiffness
    prices = room.prices(state.totals, state.multipliers, rho)
    before = penalty(prices, rho)
    tiny = replace(offers, weight=offers.weight * 1e-6)
    found = quote(limits, state.totals, prices, tiny, rho, exact=problem.exact)
    for p in range(0, 60, 3):
        for side in range(2):
            made = torch.zeros_like(offers.gain, dtype=torch.bool)
            made[side, p] = True
            moved = add(state.totals, tiny, made, exact=problem.exact)
            rise = penalty(room.prices(moved, state.multipliers, rho), rho) - before
            g = int(offers.group[p])
            expected = float(found.linear[side, p])
            assert float(rise[g] * limits.total[g]) == pytest.approx(expected, rel=0.02, abs=2e-8)


def test_an_exchange_that_keeps_the_bins_makes_no_noise_in_them():
    """Two equal weights that swap their bins leave contents alone; a copy does not."""
    problem, _, state, offers = started(budget=Budget(band=0.1, correlation=1e6, watch=1e6))
    zero = torch.zeros_like(offers.moved[..., 1:])  # the watched quantity stays where it is
    none = replace(
        offers,
        new=offers.old,
        cells=torch.cat([offers.cells[..., :1], zero], dim=2),
        moved=torch.cat([offers.cells.flip(0)[..., :1], zero], dim=2),
    )
    prices = Room(problem.limits, 0.9, 0.8).prices(state.totals, state.multipliers, state.stiffness)
    cost = quote(problem.limits, state.totals, prices, none, state.stiffness, exact=False)
    assert not cost.exchange.any()
    differ = (none.cells != none.moved).any(-1)
    assert differ.any()
    assert (cost.single[differ] > 0).all()
    assert not cost.single[~differ].any()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), band=st.floats(0.01, 0.5), share=st.floats(0.05, 1.0))
def test_copies_that_fit_never_break_a_band(seed, band, share):
    """Whatever copies are asked for at once, those that are let through keep every bin in its band."""
    problem, _, state, offers = STARTED
    limits = replace(problem.limits, table=torch.full_like(problem.limits.table, band))
    assert (limits.kind[:4] == BAND).all()
    reference = torch.where(state.totals.content > 0, state.totals.content, limits.reference)
    limits = replace(limits, reference=reference)
    asked = torch.rand(offers.gain.shape, generator=torch.Generator().manual_seed(seed)) < share
    asked &= asked.cumsum(0) == 1
    kept = fits(limits, state.totals, offers, asked)
    assert not (kept & ~asked).any()
    after = add(state.totals, offers, kept, exact=False).content[:, :4, :-1]
    room = band * limits.reference[:, :4, :-1] + 1e-9
    assert ((after - limits.reference[:, :4, :-1]).abs() <= room).all()


STARTED = started(budget=Budget(band=0.1, correlation=0.05, watch=0.2))


def test_copies_within_one_bin_always_fit():
    """A value from the same bin changes no content."""
    problem, _, state, offers = STARTED
    limits = replace(problem.limits, table=torch.zeros_like(problem.limits.table))
    same = torch.zeros_like(offers.gain, dtype=torch.bool)
    same[0] = (offers.cells[0] == offers.moved[0])[:, 0]
    assert same.any()
    assert torch.equal(fits(limits, state.totals, offers, same), same)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [0.01, 0.2])
def test_copies_empty_only_what_the_limit_forgives(seed, limit):
    """Where only the whole marginal is limited values may die out, but nothing could bring them back."""
    problem, _, state, offers = STARTED
    kind, table = torch.full_like(problem.limits.kind, RMS), torch.full_like(problem.limits.table, limit)
    limits = replace(problem.limits, kind=kind, table=table)
    asked = torch.rand(offers.gain.shape, generator=torch.Generator().manual_seed(seed)) < 0.9
    asked &= asked.cumsum(0) == 1
    kept = fits(limits, state.totals, offers, asked)
    before, free = (
        add(state.totals, offers, made, exact=False).content[:, :4, :-1]
        for made in (torch.zeros_like(asked), asked)
    )
    after = add(state.totals, offers, kept, exact=False).content[:, :4, :-1]
    assert ((before > 0.5) & (free < 1e-6)).any()
    nominal = limits.reference[:, :4, :-1]
    emptied = torch.where((after < 1e-6) & (before > 1e-6), nominal, 0.0).sum(-1)
    empty = torch.where(before < 1e-6, nominal, 0.0).sum(-1)
    assert (emptied <= (0.5 * limit**2 * nominal.sum(-1) - empty).clamp(min=1e-9)).all()
    assert bool(emptied.any()) is (limit > 0.1)
    assert (kept & asked).any()


@pytest.mark.parametrize("above", [1.0, 10.0])
def test_changes_far_above_a_floor_make_no_noise(above):
    """The own contribution to a bin of the score counts near the floor only."""
    problem, _, state, offers = STARTED
    cells = torch.cat([offers.cells, offers.cells[..., -1:]], dim=2)
    moved = torch.cat([offers.cells, (offers.cells[..., -1:] + 1) % 5], dim=2)
    content = torch.cat([state.totals.content, torch.full_like(state.totals.content[:, :1], 50.0)], dim=1)
    kinds = torch.cat([problem.limits.kind, torch.tensor([FLOOR])])
    floor = torch.full_like(content[:, :2], 50.0 - above)
    table = torch.cat([problem.limits.table, torch.ones_like(problem.limits.table[:, :1])], dim=1)
    limits = replace(problem.limits, kind=kinds, reference=content, table=table, floor=floor)
    totals, zero = replace(state.totals, content=content), torch.zeros_like(content)
    prices = replace(state.multipliers, tables=zero)
    tables = torch.cat([offers.tables, torch.full_like(offers.tables[:, :1], len(kinds) - 1)], dim=1)
    offers = replace(offers, tables=tables, cells=cells, moved=moved)
    cost = quote(limits, totals, prices, offers, torch.full_like(state.stiffness, 5.0), exact=True)
    plain = quote(limits, totals, prices, replace(offers, moved=cells), state.stiffness * 0 + 5.0, exact=True)
    assert bool((cost.single > plain.single).any()) is (above < 3)
