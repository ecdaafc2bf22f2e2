"""Baselines: they move what they may, and the judge of an attack tells what limits they break."""

from __future__ import annotations

import functools

import hist
import numpy as np
import pytest
import slow_twins as slow
import torch
from made_problems import MISSING, Ring, features, made_batch, made_problem, made_task, radius
from test_attack import PAIR, donut

from coffea_conserv import Budget, Feature, attack, baselines
from coffea_conserv.solvers.transport.solver import Transport
from coffea_conserv.studies import baseline_moves
from coffea_conserv.studies.baseline_moves import Push, stepped
from coffea_conserv.studies.baselines import BASELINES

EXACT = Budget(rms=0.0, correlation=0.006)
ANGLE = hist.axis.Regular(32, -np.pi, np.pi, circular=True)


@functools.cache
def on_the_donut():
    """Attack and baselines on the same events."""
    model, x = donut()
    found = baselines(x, model, PAIR, budget=EXACT, target="correct", seed=1)
    best = attack(x, model, PAIR, budget=EXACT, target="correct", seed=1, solver=Transport(steps=60))
    return x, best, found


def limit_of(result, name, group="0"):
    """One limit of a verdict."""
    (found,) = (limit for limit in result.verdict.limits if (limit.name, str(limit.group)) == (name, group))
    return found


class Bend(torch.nn.Module):
    """Smooth in the first two features."""

    def forward(self, x):
        """Logits, shape (events,)."""
        return torch.sin(2 * x[:, 0]) + 0.5 * x[:, 1] - 1


def test_an_attack_beats_random_moves_by_far():
    """The order of the donut: random inside of the limits, the attack above it, and both are kept."""
    _, best, found = on_the_donut()
    assert set(found) == set(BASELINES)
    assert best.verdict.passed
    assert found["random"].verdict.passed
    assert found["random"].fooling_ratio > 0.03
    assert best.fooling_ratio > found["random"].fooling_ratio + 0.2


def test_the_gradient_fools_and_breaks_marginals():
    """On the donut with limit 0 the verdict of both fails, in marginals above all."""
    _, _, found = on_the_donut()
    for name in ("fgsm", "pgd"):
        assert found[name].fooling_ratio > 0.1
        assert not found[name].verdict.passed
        assert {limit.name for limit in found[name].verdict.broken} >= {"marginal x", "marginal y"}


def test_a_shuffle_keeps_marginals_and_destroys_correlations():
    """Columns are permutations bit by bit; what correlates does so no more, and the judge sees it."""
    batch = made_batch(3000, weights="two")
    result = baselines(batch.x, Ring(), features(), budget=EXACT, weights=batch.weight, groups=batch.group)
    moved = result["rdsa"]
    assert (moved.x != batch.x).any()
    for group in (0, 1):
        for weight in (1.0, 3.0):
            inside = (batch.group == group) & (batch.weight == weight)
            np.testing.assert_array_equal(np.sort(moved.x[inside], 0), np.sort(batch.x[inside], 0))
        for feature in features():
            assert limit_of(moved, f"marginal {feature.name}", str(group)).value == 0
        assert limit_of(moved, "correlation", str(group)).value > 10 * EXACT.correlation
    assert moved.fooling_ratio > 0.2
    assert {limit.name for limit in moved.verdict.broken} == {"correlation"}


def test_more_shuffles_fool_more():
    """What fools once stays: with the same seed, more tries can only add."""
    model, x = donut()
    found = [
        baselines(x[:2000], model, PAIR, budget=EXACT, target="correct", tries=tries)["rdsa"]
        for tries in (1, 5, 40)
    ]
    ratios = [result.fooling_ratio for result in found]
    assert 0 < ratios[0] < ratios[1] < ratios[2]
    assert not (found[0].fooled & ~found[2].fooled).any()


def test_steps_of_no_size_change_nothing_at_no_cost():
    """The control of the gradient: the same bits, nobody fooled, every limit used by exactly 0."""
    batch = made_batch(800)
    batch.x[5, 0] = 7.5  # outside of the axis
    found = baselines(batch.x, Ring(), features(), budget=EXACT, groups=batch.group, size=0)
    for name in ("fgsm", "pgd"):
        np.testing.assert_array_equal(found[name].x, batch.x)
        assert found[name].fooling_ratio == 0
        assert [limit.value for limit in found[name].verdict.limits] == [0.0] * 12
        assert not found[name].verdict.broken
        assert found[name].verdict.idle  # kept by doing nothing, which does not pass


def test_nothing_moves_where_nothing_may():
    """The control of the budget holds for baselines too."""
    batch = made_batch(400)
    for result in baselines(batch.x, Ring(), features(), budget=Budget(move=0)).values():
        np.testing.assert_array_equal(result.x, batch.x)
        assert result.verdict.passed
        assert not result.unattacked.any()


@pytest.mark.parametrize("direction", ["signal", "background"])
@pytest.mark.parametrize("size", [0.1, 0.5, 2.0])
def test_many_steps_fool_at_least_as_much_as_one(size, direction):
    """PGD against FGSM in the same box, on a smooth model; nobody leaves the box."""
    x = np.random.default_rng(2).normal(size=(4000, 2)).astype(np.float32)
    found = baselines(x, Bend(), PAIR, budget=EXACT, size=size, direction=direction, steps=20)
    assert found["pgd"].fooling_ratio >= found["fgsm"].fooling_ratio > 0.03
    if (size, direction) == (2.0, "signal"):  # one long step goes too far, small ones do not
        assert found["pgd"].fooling_ratio > found["fgsm"].fooling_ratio + 0.05
    sign = 1 if direction == "signal" else -1
    for name in ("fgsm", "pgd"):
        assert np.abs(found[name].x - x).max() <= size * x.std(0).max() * (1 + 1e-5)
        assert sign * (found[name].score - found[name].score_nominal).mean() > 0


def test_the_best_step_of_each_event_counts():
    """On the same way, one more step can only add to the logit of an event; some would fall back."""
    problem = made_problem(made_batch(600), made_task(objective="cross"), model=Bend())[1]
    ways = [stepped(problem, features(), Push(2.0, 0.7, steps)) for steps in range(1, 6)]
    logits = torch.stack([Bend()(x) for x in ways])
    assert (logits[1:] >= logits[:-1]).all()
    assert ((logits[1:] == logits[:-1]) & (logits[0] != Bend()(problem.x))).any()


def test_fgsm_is_what_its_formula_says():
    """It is x + ε σ sign(∇) for events on the other side, all others as they were."""
    x = np.random.default_rng(3).normal(size=(1000, 2)).astype(np.float32) * np.float32([1.0, 3.0])
    found = baselines(x, Bend(), PAIR, budget=EXACT, size=0.3)["fgsm"]
    step = 0.3 * x.std(0) * np.stack([np.sign(np.cos(2 * x[:, 0])), np.ones(1000)], axis=1)
    before = found.score_nominal <= 0.5
    np.testing.assert_allclose(found.x[before], (x + step)[before], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.x[~before], x[~before])


def physical():
    """A feature of each kind, for a model that pulls at all of them."""
    line = hist.axis.Regular(20, -3, 3)
    return (
        Feature("bounded", line, low=-1.0, high=1.0),
        Feature("count", hist.axis.Integer(0, 8), low=1, high=5),
        Feature("angle", ANGLE),
        Feature("absent", line, missing=(MISSING, np.nan)),
        Feature("fixed", line, frozen=True),
        Feature("kind", hist.axis.IntCategory([0, 1, 2])),
    )


class Pull(torch.nn.Module):
    """Grows with every present value."""

    def forward(self, x):
        """Logits, shape (events,)."""
        there = torch.isfinite(x) & (x > MISSING)
        return torch.where(there, x, torch.zeros_like(x)).sum(1) - 6


def physical_events(events=2000):
    """Events of such features."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(events, 6)).astype(np.float32)
    x[:, 0] = rng.uniform(-1, 1, events)
    x[:, 1] = rng.integers(1, 6, events)
    x[:, 2] = rng.uniform(-np.pi, np.pi, events)
    x[: events // 3, 3], x[events // 3 : events // 2, 3] = MISSING, np.nan
    x[:, 5] = rng.integers(0, 3, events)
    return x


@pytest.mark.parametrize("direction", ["signal", "background"])
def test_values_stay_physical(direction):
    """Ranges, whole numbers, angles, missing and frozen values, categories, and ``valid``."""
    x = physical_events()
    options = {"budget": EXACT, "direction": direction, "size": 1.2, "steps": 4}

    def valid(columns):
        return columns["bounded"] + columns["angle"] < 3.5

    possible = x[:, 0] + x[:, 2] < 3.5
    found = baselines(x, Pull(), physical(), valid=valid, **options)
    for name, result in found.items():
        moved = result.x
        assert (moved != x)[:, :4].any(0).all() or name == "random", name
        assert (np.abs(moved[:, 0]) <= 1).all()
        assert set(np.unique(moved[:, 1])) <= {1, 2, 3, 4, 5}
        assert ((moved[:, 2] >= np.float32(-np.pi)) & (moved[:, 2] <= np.float32(np.pi))).all()
        gone = ~np.isfinite(x[:, 3]) | (x[:, 3] == MISSING)
        np.testing.assert_array_equal(moved[gone, 3], x[gone, 3])
        np.testing.assert_array_equal(moved[:, 4], x[:, 4])
        assert set(np.unique(moved[:, 5])) <= {0, 1, 2}
        assert (moved[possible, 0] + moved[possible, 2] < 3.5).all()
        np.testing.assert_array_equal(moved[~possible], x[~possible])
        assert name not in ("fgsm", "pgd") or (moved[:, 5] == x[:, 5]).all()


def test_an_angle_wraps():
    """A step beyond π comes back at −π, by the rest of the step."""
    x = np.random.default_rng(5).uniform(-np.pi, np.pi, (1000, 1)).astype(np.float32)

    class Up(torch.nn.Module):
        def forward(self, x):
            return x[:, 0] - 10

    result = baselines(x, Up(), (Feature("phi", ANGLE),), budget=EXACT, size=1.0)["fgsm"]
    step = x.std()
    wrapped = x[:, 0] + step > np.pi
    assert wrapped.sum() > 100
    np.testing.assert_allclose(result.x[wrapped, 0], x[wrapped, 0] + step - 2 * np.pi, atol=1e-5)
    np.testing.assert_allclose(result.x[~wrapped, 0], x[~wrapped, 0] + step, atol=1e-5)


@pytest.mark.parametrize("weights", ["equal", "two", "varying", "signed"])
@pytest.mark.parametrize(
    "budget", [Budget(rms=0.0, correlation=0.02), Budget(rms=0.05, correlation=0.02), Budget(band=0.2)]
)
def test_random_moves_are_within_the_limits(budget, weights):
    """With copies and without, for weights of all kinds and a watched quantity, in every group."""
    batch = made_batch(3000, weights=weights)
    watch = {"r": (radius, hist.axis.Regular(20, 0, 4))}
    result = baselines(
        batch.x,
        Ring(),
        features(),
        budget=budget,
        weights=batch.weight,
        groups=batch.group,
        watch=watch,
    )["random"]
    assert result.verdict.passed
    if weights != "signed":  # there the net sample has next to no room
        assert not result.unattacked.any()
        assert (result.x != batch.x).any(1).mean() > 0.005


def test_random_moves_use_the_budget_up():
    """Where events correlate, exchanges at random come up to the limit, and a larger one lets more move."""
    batch = made_batch(4000, groups=1)
    found = [
        baselines(batch.x, Ring(), features(), budget=Budget(rms=0.0, correlation=limit))["random"]
        for limit in (0.02, 0.1)
    ]
    assert [limit_of(result, "correlation").used > 0.9 for result in found] == [True, True]
    moved = [(result.x != batch.x).any(1).mean() for result in found]
    assert moved[1] > 2 * moved[0] > 0


def test_random_moves_that_the_judge_refuses_are_taken_back(monkeypatch):
    """Should the mover take a limit for larger than it is, the group is nominal and counted."""
    monkeypatch.setattr(baseline_moves, "_INSIDE", 20.0)
    batch = made_batch(1000, groups=1)
    result = baselines(batch.x, Ring(), features(), budget=EXACT)["random"]
    np.testing.assert_array_equal(result.x, batch.x)
    assert result.unattacked.all()
    assert not result.verdict.broken
    assert result.verdict.summary == "nothing was attacked: limits not kept"


def test_the_verdict_equals_a_slow_recomputation():
    """Numbers of the verdict of every baseline, from the returned matrix, by plain loops."""
    batch = made_batch(600, weights="two")
    budget = Budget(rms=0.03, correlation=0.01)
    found = baselines(batch.x, Ring(), features(), budget=budget, weights=batch.weight, groups=batch.group)
    assert not found["pgd"].verdict.passed
    for result in found.values():
        for group in (0, 1):
            inside = batch.group == group
            weight, pair = batch.weight[inside], (batch.x[inside], result.x[inside])
            for j, feature in enumerate(features()):
                contents = []
                for x in pair:
                    there = x[:, j] != MISSING
                    contents.append(slow.histogram(x[there, j], weight[there], feature.axis.edges))
                limit = limit_of(result, f"marginal {feature.name}", str(group))
                assert limit.value == pytest.approx(slow.rms_deviation(*contents), abs=1e-7)
            matrices = [slow.pearson(x.T, (x != MISSING).T, weight) for x in pair]
            shift = limit_of(result, "correlation", str(group)).value
            assert shift == pytest.approx(slow.correlation_shift(*matrices), rel=1e-6, abs=1e-9)
            assert limit_of(result, "correlation", str(group)).limit == 0.01


def test_the_same_seed_gives_the_same_events():
    """Bit for bit; another seed gives others, but for the gradient, which has none."""
    batch = made_batch(1500)
    same = [baselines(batch.x, Ring(), features(), budget=EXACT, seed=seed) for seed in (7, 7, 8)]
    state = torch.random.get_rng_state()
    for name in BASELINES:
        one, two, other = (found[name].x for found in same)
        np.testing.assert_array_equal(one, two)
        assert np.array_equal(one, other) == (name in ("fgsm", "pgd"))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("kind", ["numpy64", "torch32", "integers"])
def test_new_values_come_back_in_the_kind_that_was_given(kind):
    """Values that no event had are those of the model; others keep the precision that was given."""
    x = made_batch(400, groups=1).x
    fine = x.astype(np.float64) * (1 + 1e-9)
    whole = np.round(4 * x).astype(np.int64)
    given = {"numpy64": fine, "torch32": torch.from_numpy(x), "integers": whole}[kind]
    result = baselines(given, Ring(), axes(), budget=EXACT, size=0.3)["pgd"]
    assert type(result.x) is type(given)
    after = torch.as_tensor(np.asarray(result.x), dtype=torch.float32)
    np.testing.assert_allclose(torch.sigmoid(Ring()(after)).numpy(), result.score, rtol=1e-6)
    still = np.asarray(result.x) == np.asarray(given)
    assert still[result.score_nominal > 0.5].all()
    assert not still.all()


def axes():
    """Features that take every number."""
    line = hist.axis.Regular(24, -3, 3)
    return tuple(Feature(name, line, missing=MISSING) for name in "xyznf")


def test_few_events_stay_nominal():
    """As with an attack: a group of some events is counted as unattacked."""
    for events in (0, 1, 15):
        for result in baselines(made_batch(events).x, Ring(), features(), budget=EXACT).values():
            assert result.unattacked.sum() == events
            assert result.fooling_ratio == 0
