"""What every single event obeys, whoever moves it; caps of |Δ| and the price of moves."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import hist
import numpy as np
import pytest
import slow_twins
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_problems import CPU, MISSING, made_problem
from scipy import sparse
from scipy.optimize import linprog
from test_attack import EXACT, PAIR, donut

from coffea_conserv import Budget, Feature, attack, baselines
from coffea_conserv.attacks.batch import Batch
from coffea_conserv.attacks.engine import perturb, propose
from coffea_conserv.attacks.task import Task
from coffea_conserv.solvers.search.solver import Search
from coffea_conserv.solvers.transport import pairing
from coffea_conserv.solvers.transport.pairing import Pairing
from coffea_conserv.solvers.transport.solver import Transport

LINE = hist.axis.Regular(24, -3, 3)
FEATURES = (
    Feature("bounded", LINE, low=-1.5, high=1.5, max_shift=0.3),
    Feature("energy", hist.axis.Regular(20, 0, 100), max_relative_shift=0.2),
    Feature("both", hist.axis.Regular(20, -6, 6), max_shift=0.4, max_relative_shift=0.5),
    Feature("angle", hist.axis.Regular(16, -np.pi, np.pi, circular=True), max_shift=0.5),
    Feature("count", hist.axis.Integer(0, 8), max_shift=2),
    Feature("absent", LINE, missing=(MISSING, -1.0, np.nan), max_shift=0.25),
    Feature("free", LINE),
    Feature("fixed", LINE, frozen=True),
)
NAMES = [feature.name for feature in FEATURES]
OPEN = Budget(rms=0.2, correlation=0.1)
SOLVERS = {"transport": Transport(steps=25), "search": Search(num_candidates=20, iterations=3)}


class Pull(torch.nn.Module):
    """Grows with every present value, and toward an angle just below π."""

    def forward(self, x):
        """Logits, shape (events,)."""
        scale = torch.tensor([1.0, 0.05, 0.4, 0.0, 0.5, 1.0, 1.0, 0.1])
        there = torch.isfinite(x) & (x > -900.0)
        return (torch.where(there, x, torch.zeros_like(x)) * scale).sum(1) - torch.cos(x[:, 3] + 0.3) - 3.0


def valid(columns):
    """Something that is not true of all events."""
    return columns["bounded"] + 0.02 * columns["energy"] + 0.3 * columns["count"] < 4.0


def sample(events=800, seed=0):
    """Events with everything that a value can be."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(events, len(FEATURES)))
    x[:, 1] = rng.exponential(30, events)
    x[:, 2] *= 2
    x[:, 3] = rng.uniform(-np.pi, np.pi, events)
    x[:, 4] = rng.integers(0, 8, events)
    x[:, 5] = np.where(x[:, 5] < -0.5, [MISSING, -1.0, np.nan][seed % 3], x[:, 5])
    x[::10, 5], x[1::10, 5], x[2::10, 5] = MISSING, -1.0, np.nan
    return x.astype(np.float32)


def attempts(x, direction, seed=1, budget=OPEN):
    """Everybody's answer."""
    options = {"direction": direction, "valid": valid, "seed": seed, "budget": budget}
    found = {
        name: attack(x, Pull(), FEATURES, solver=solver, objective="score", **options)
        for name, solver in SOLVERS.items()
    }
    return found | baselines(x, Pull(), FEATURES, size=1.0, steps=3, tries=10, **options)


def assert_obeyed(x, moved):
    """Every rule for every value, in plain words."""
    changed = (moved != x) & ~(np.isnan(moved) & np.isnan(x))
    assert not changed[:, NAMES.index("fixed")].any()
    gone = np.isnan(x[:, 5]) | (x[:, 5] == MISSING) | (x[:, 5] == -1.0)
    assert not changed[gone, 5].any()
    assert not (np.isnan(moved[~gone, 5]) | np.isin(moved[~gone, 5], [MISSING, -1.0])).any()
    assert (moved[:, 4] == np.round(moved[:, 4])).all()
    assert (np.abs(moved[:, 3]) <= np.float32(np.pi)).all()
    outside = np.abs(x[:, 0]) > 1.5
    assert (np.abs(moved[~outside, 0]) <= 1.5).all()
    names = dict(zip(NAMES, torch.from_numpy(x).unbind(1), strict=True))
    wrong = outside | ~valid(names).numpy()
    assert len(x) < 200 or wrong.any()  # few events may all be possible
    assert not wrong.all()
    assert not changed[wrong].any()
    assert valid(dict(zip(NAMES, torch.from_numpy(moved).unbind(1), strict=True))).numpy()[~wrong].all()
    for j, f in enumerate(FEATURES):
        for i in np.flatnonzero(changed[:, j]):
            assert slow_twins.kept(x[i, j], moved[i, j], f.max_shift, f.max_relative_shift, f.period)
    return changed


@pytest.mark.parametrize("direction", ["signal", "background"])
def test_every_returned_event_obeys_every_rule(direction):
    """Caps, ranges, whole numbers, angles, three kinds of missing values, frozen ones and ``valid``."""
    x = sample()
    for name, result in attempts(x, direction).items():
        changed = assert_obeyed(x, result.x)
        assert changed[:, [0, 1, 2, 3, 4, 5, 6]].any(0).all() or name == "random", name
        if name in SOLVERS:
            assert result.verdict.passed
        if name not in ("transport", "rdsa"):  # few exchanges over the edge of the circle pay for both
            assert (np.abs(result.x[:, 3] - x[:, 3]) > np.pi).any()
        if name == "random":
            continue
        for j, cap in ((0, 0.3), (3, 0.5), (4, 2), (5, 0.25)):  # the room is used
            moved = [
                slow_twins.shift(a, b, FEATURES[j].period)
                for a, b in zip(x[:, j], result.x[:, j], strict=True)
            ]
            assert np.nanmax(moved) > 0.85 * cap, (name, NAMES[j])


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.integers(25, 70))
def test_small_samples_obey_too(seed, events):
    """Whatever the events and the seed."""
    x = sample(events, seed)
    for result in attempts(x, "signal", seed).values():
        assert_obeyed(x, result.x)


def test_the_verdict_names_the_largest_moves():
    """Each cap is a limit of every group, with the value that a slow twin finds; free features have none."""
    x, groups = sample(600), np.arange(600) % 2
    solver = SOLVERS["transport"]
    result = attack(x, Pull(), FEATURES, budget=OPEN, groups=groups, solver=solver, seed=1)
    shifts = {(s.feature, str(s.group)): s for s in result.shifts}
    limits = {
        (m.name, str(m.group), m.measure): m for m in result.verdict.limits if m.name.startswith("shift")
    }
    assert len(limits) == 2 * 7
    for group in (0, 1):
        of = groups == group
        for j, f in enumerate(FEATURES):
            pairs = [(a, b) for a, b in zip(x[of, j], result.x[of, j], strict=True) if not np.isnan(a)]
            moved = [slow_twins.shift(*pair, f.period) for pair in pairs]
            shares = [
                m / abs(float(a)) if a else math.inf for m, (a, _) in zip(moved, pairs, strict=True) if m
            ]
            row = shifts[f.name, str(group)]
            assert row.largest == pytest.approx(max(moved), rel=1e-12)
            assert row.largest_relative == pytest.approx(max(shares, default=0.0), rel=1e-12)
            assert row.moved_share == pytest.approx(np.count_nonzero(moved) / of.sum())
            assert math.isnan(row.pull2)
            for measure, cap, value in (
                ("absolute", f.max_shift, row.largest),
                ("relative", f.max_relative_shift, row.largest_relative),
            ):
                assert (cap is not None) == ((f"shift {f.name}", str(group), measure) in limits)
                if cap is not None:
                    limit = limits[f"shift {f.name}", str(group), measure]
                    assert (limit.limit, limit.value) == (cap, value)
                    assert limit.passed


# --- the engine looks at what is returned ------------------------------------------------------------------


def broken(rule, x):
    """Break one rule in the events 30 … 34."""
    moved, rows = x.clone(), slice(30, 35)
    column = {"cap": 0, "relative": 1, "range": 6, "whole": 4, "absent": 5, "number": 6, "fixed": 7}
    j = column.get(rule, 6)
    value = {"cap": 0.31, "relative": 1e3, "range": 9.0, "whole": 0.5, "absent": 0.1, "number": math.nan}
    moved[rows, j] += value.get(rule, 0.1)
    if rule == "absent":
        moved[rows, j] = 0.5
    if rule == "valid":
        moved[rows, 6] = -3.0
    return moved


@pytest.mark.parametrize(
    "rule", ["cap", "relative", "range", "whole", "absent", "number", "fixed", "valid", "idle"]
)
def test_events_that_break_a_rule_are_nominal_again(rule, caplog):
    """A mover that does as it likes is found out event by event, and it is said how many."""
    x = np.tile(np.float32([0.1, 30, 1, 1, 3, 0.4, 0.2, 0]), (60, 1)) + np.float32(1e-3) * sample(60)
    x[:, 4], x[30:35, 5] = 3, np.float32([MISSING, -1.0, np.nan, MISSING, -1.0])
    if rule != "absent":
        x[:, 5] = 0.4
    features = tuple(replace(f, low=-5, high=5) if f.name == "free" else f for f in FEATURES)
    weight = np.ones(60)
    if rule == "idle":  # without a weight an event may not move
        weight[30:35] = 0.0
    task = Task(features, (), OPEN, valid=lambda columns: columns["free"] > -2.0, solver=Transport())
    batch = Batch(x, weight, np.zeros(60, dtype=np.int64))
    order = []

    def move(problem):
        rows = [int((torch.from_numpy(x) == row).sum(1).argmax()) for row in problem.x]
        order.extend(rows)
        back = torch.empty(len(rows), dtype=torch.long)
        back[torch.tensor(rows)] = torch.arange(len(rows))
        everybody = torch.from_numpy(x).clone()
        everybody[:, 6] += 0.01
        everybody[30:35, 6] -= 0.01
        return broken(rule, everybody)[torch.tensor(rows)]

    with caplog.at_level(logging.WARNING):
        found = propose(batch, task, [Pull()], "signal", CPU, move)
    assert sorted(order) == list(range(60))
    np.testing.assert_array_equal(found.x[30:35], x[30:35])
    assert (found.x[:30, 6] != x[:30, 6]).all()
    assert "5 events stay nominal: moved as they must not be" in caplog.text


def test_a_group_that_is_repaired_is_judged_again():
    """Where the repair breaks a limit, nothing of the group stays moved."""

    class Cheat:
        def __init__(self, steps):
            self.steps = steps

        def __repr__(self):
            return f"Cheat({self.steps})"

        def bind(self, problem, seed):
            run = Transport(steps=5).bind(problem, seed)
            first, made = run.init(), run.step

            def step(state):
                x = state.x.clone()
                x[:, 0] = x[:, 0].roll(1)
                return replace(made(state), x=x, totals=first.totals, logit=torch.full_like(state.logit, 9.0))

            run.step = step
            return run

    x = sample(400)[:, [0, 6]]
    features = (replace(FEATURES[0], low=None, high=None), FEATURES[6])
    batch = Batch(x, np.ones(400), np.zeros(400, dtype=np.int64))
    task = Task(features, (), Budget(rms=0.0, correlation=0.1), solver=Cheat(1))

    class Sum(torch.nn.Module):
        def forward(self, x):
            return x.sum(1) - 1

    found = perturb(batch, task, [Sum()], "signal", 1, CPU)
    np.testing.assert_array_equal(found.x, x)
    assert found.unattacked.all()


# --- strength ----------------------------------------------------------------------------------------------


def with_caps(x, cap):
    """The features of the donut, with a cap in units of their spread."""
    return [replace(f, max_shift=float(cap * s)) for f, s in zip(PAIR, x.std(0), strict=True)]


def test_near_pairs_use_the_room_of_tight_caps(monkeypatch):
    """The tighter the cap, the more they fool than random pairs; a looser cap fools more."""
    model, x = donut()
    x = x[:4000]
    ratios = {}
    for kind in ("near", "random"):
        if kind == "random":
            monkeypatch.setattr(pairing._Tight, "make", lambda problem, free: None)
        for cap in (0.1, 0.25, 1.0):
            result = attack(x, model, with_caps(x, cap), budget=EXACT, solver=Transport(steps=30), seed=1)
            assert result.verdict.passed
            ratios[kind, cap] = result.fooling_ratio
    assert ratios["near", 0.1] > 1.5 * ratios["random", 0.1]
    assert ratios["near", 0.25] > 1.25 * ratios["random", 0.25]
    assert 0.05 < ratios["near", 0.1] < ratios["near", 0.25] < ratios["near", 1.0]


def test_most_partners_are_within_the_cap_and_every_feature_gets_its_turn():
    """Absolute, relative and round the circle, also where a cap belongs to what a feature moves with."""
    features = (
        Feature("absolute", LINE, max_shift=0.2),
        Feature("relative", hist.axis.Regular(20, 0, 200), max_relative_shift=0.1),
        Feature("angle", FEATURES[3].axis, max_shift=0.2),
        Feature("lead", LINE),
        Feature("companion", hist.axis.Regular(20, 0, 200), max_relative_shift=0.1, moves_with="lead"),
        Feature("free", LINE),
    )
    x = sample(3000)[:, [0, 1, 3, 6, 1, 7]]
    x[:, 1], x[:, 4] = 20 + x[:, 1], 20 + x[::-1, 4]
    batch = Batch(x, np.ones(3000), np.arange(3000) % 3)
    task = Task(features, (), Budget(rms=0.0, correlation=0.1), solver=Transport())
    _, problem = made_problem(batch, task)
    pairs_of, inside, steps = Pairing(problem, 1), np.zeros((6, 2)), 150
    for step in range(steps):
        pairs = pairs_of.random(step)
        assert len(pairs.event.unique()) == 3000
        assert torch.equal(problem.group[pairs.event[0]], problem.group[pairs.event[1]])
        partner = pairs.event.flip(0)
        for member in range(2):
            feature = pairs.feature[:, member].expand(2, -1)
            fine = problem.reach.allows(pairs.event, feature, problem.x[partner, feature]).all(0)
            for j in (0, 1, 2, 3, 5) if member == 0 else (4,):
                use = pairs.feature[:, member] == j
                inside[j] += int(fine[use].sum()), int(use.sum())
    turns = inside[:, 1] / (1500 * steps)
    assert (turns > 0.1).all()
    share = inside[:, 0] / inside[:, 1]
    assert (share[[0, 1, 2, 4]] > 0.6).all()
    assert share[3] == share[5] == 1.0


def optimum(x, model, cap, parts):
    """Inner and outer linear programme of what exchanges within a cap can fool, on cells of cap / parts."""
    width = cap * x.std(0) / parts
    cell = ((x - x.min(0)) / width).astype(int)
    count = cell.max(0) + 1
    mass = np.zeros(count)
    np.add.at(mass, tuple(cell.T), 1 / len(x))
    corner = [
        x[:, j].min() + width[j] * (np.arange(count[j])[:, None] + np.linspace(0, 1, 4)) for j in (0, 1)
    ]
    grid = np.stack(np.broadcast_arrays(corner[0][:, None, :, None], corner[1][None, :, None, :]), axis=-1)
    with torch.no_grad():
        across = (
            (model(torch.from_numpy(grid.reshape(-1, 2).astype(np.float32))) > 0).numpy().reshape(*count, -1)
        )
    z = [
        (x[:, j].min() + width[j] * (np.arange(count[j]) + 0.5) - x[:, j].mean()) / x[:, j].std()
        for j in (0, 1)
    ]
    r = float((mass * np.outer(*z)).sum())
    room = EXACT.correlation * math.sqrt(1 + r * r)
    found = []
    for reach, fooled in ((parts - 1, across.all(-1)), (parts, across.any(-1))):
        step = np.arange(-reach, reach + 1)
        start = np.argwhere(mass > 0)
        source = np.repeat(np.arange(len(start)), len(step) ** 2)
        target = (start[:, None] + np.stack(np.meshgrid(step, step), -1).reshape(-1, 2)).reshape(-1, 2)
        inside = ((target >= 0) & (target < count)).all(1)
        source, target = source[inside], target[inside]
        column = np.arange(len(source))
        rows = ((source, len(start)), (target[:, 0], count[0]), (target[:, 1], count[1]))
        equal = [
            sparse.csr_array((np.ones(len(column)), (row, column)), shape=(n, len(column))) for row, n in rows
        ]
        row = z[0][target[:, 0]] * z[1][target[:, 1]]
        answer = linprog(
            -fooled[tuple(target.T)].astype(float),
            A_eq=sparse.vstack(equal),
            b_eq=np.concatenate([mass[mass > 0], mass.sum(1), mass.sum(0)]),
            A_ub=sparse.csr_array(np.stack([row, -row])),
            b_ub=[r + room, room - r],
            method="highs-ipm",
        )
        found.append(-answer.fun)
    return found


def test_a_capped_attack_is_between_the_linear_programmes():
    """What can be fooled by moves within the cap, on a coarse grid: it is above the inner one."""
    model, x = donut()
    x = x[:4000]
    inner, outer = optimum(x.astype(float), model, 0.8, 3)
    result = attack(x, model, with_caps(x, 0.8), budget=EXACT, solver=Transport(steps=60), seed=1)
    assert inner < result.fooling_ratio < outer


# --- the price of moves ------------------------------------------------------------------------------------
