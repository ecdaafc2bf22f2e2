"""The call for arrays, and what the attack reaches where the best possible answer is known."""

from __future__ import annotations

import functools

import hist
import numpy as np
import pytest
import torch
from made_problems import Ring, features, made_batch

from coffea_conserv import Budget, ConfigurationError, Feature, InputError, ModelError, attack
from coffea_conserv.solvers.transport.solver import Transport
from coffea_conserv.studies.bounds import fooling_bound

AXIS = hist.axis.Regular(60, -4, 4)
PAIR = (Feature("x", AXIS), Feature("y", AXIS))
EXACT = Budget(rms=0.0, correlation=0.006)


@functools.cache
def donut(events=8000):
    """Signal in the middle, background on a ring; a small network; what it takes for background."""
    rng = np.random.default_rng(0)
    radius, angle = rng.normal(1.8, 0.5, 20_000), rng.uniform(0, 2 * np.pi, 20_000)
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    x = np.concatenate([rng.normal(0, 0.5, (20_000, 2)), ring]).astype(np.float32)
    y = torch.cat([torch.ones(20_000), torch.zeros(20_000)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(2, 32),
            torch.nn.SiLU(),
            torch.nn.Linear(32, 16),
            torch.nn.SiLU(),
            torch.nn.Linear(16, 1),
        )
        optimiser = torch.optim.Adam(model.parameters(), 5e-3)
        for _ in range(6):
            for batch in torch.split(torch.randperm(len(x)), 1000):
                optimiser.zero_grad()
                loss = torch.nn.functional.binary_cross_entropy_with_logits
                loss(model(torch.from_numpy(x)[batch])[:, 0], y[batch]).backward()
                optimiser.step()
    model.eval()
    with torch.no_grad():
        background = torch.from_numpy(ring.astype(np.float32))
        kept = background[model(background)[:, 0] < 0][:events].numpy()
    return model, kept


def stripe(x):
    """Logit of the stripe |x − y| < ½."""
    return 20 * (0.5 - (x[:, 0] - x[:, 1]).abs())


class Stripe(torch.nn.Module):
    """Stripe as a module."""

    def forward(self, x):
        """Logits, shape (events,)."""
        return stripe(x)


@pytest.mark.parametrize("budget", [EXACT, Budget(band=0.05), Budget(band=0.1)])
def test_the_donut_comes_near_to_the_linear_programme(budget):
    """At least 95 % of the inner and 90 % of the outer limit, and never more than the outer one."""
    model, x = donut()
    bound = fooling_bound(x, model, PAIR, band=float(budget.band or 0), cells=180)
    result = attack(x, model, PAIR, budget=budget, solver=Transport(steps=120), seed=1)
    assert result.verdict.passed
    assert result.fooling_ratio >= 0.95 * bound.inner
    assert 0.90 * bound.outer <= result.fooling_ratio <= bound.outer + 0.005


def test_the_stripe_comes_near_to_the_linear_programme_where_the_correlation_limit_bites():
    """Two independent Gaussians and a diagonal stripe: without the correlation limit all would be fooled."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20_000, 2)).astype(np.float32)
    x = x[stripe(torch.from_numpy(x)).numpy() < 0]
    for limit in (0.0, 0.05):  # 0 means 10⁻⁶
        bound = fooling_bound(x, stripe, PAIR, correlation=limit, cells=180)
        budget = Budget(rms=0.0, correlation=limit)
        result = attack(x, Stripe(), PAIR, budget=budget, solver=Transport(steps=120), seed=1)
        assert result.verdict.passed
        assert 0.9 * bound.outer <= result.fooling_ratio <= bound.outer + 0.01
    free = fooling_bound(x, stripe, PAIR, correlation=10.0, cells=180)
    assert free.outer > bound.outer + 0.05


def test_groups_for_which_nothing_better_is_found_are_named():
    """One step is not enough to be within a correlation limit of 0: nominal, and counted as not attacked."""
    x = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    budget, solver = Budget(rms=0.0, correlation=0.0), Transport(steps=1, overtime=0)
    result = attack(x, Stripe(), PAIR, budget=budget, solver=solver, seed=1)
    assert result.verdict.summary.startswith("nothing was attacked: ")
    assert not result.verdict.passed
    assert result.unattacked.all()
    np.testing.assert_array_equal(result.x, x)


def test_a_result_is_what_its_sample_says():
    """Scores, fooled events and ratio follow from the returned matrix, weighted, in groups only."""
    batch = made_batch(1500, weights="two")
    batch.group[::5] = -1
    result = attack(
        batch.x,
        Ring(),
        features(),
        budget=Budget(rms=0.0, correlation=0.02),
        weights=batch.weight,
        groups=batch.group,
        solver=Transport(steps=40),
    )
    model = Ring()
    before, after = (torch.sigmoid(model(torch.from_numpy(x))).numpy() for x in (batch.x, result.x))
    np.testing.assert_allclose(result.score_nominal, before, rtol=1e-6)
    np.testing.assert_allclose(result.score, after, rtol=1e-6)
    fooled = (before <= 0.5) & (after > 0.5)
    np.testing.assert_array_equal(result.fooled, fooled)
    inside = batch.group >= 0
    share = batch.weight[fooled].sum() / batch.weight[inside & (before <= 0.5)].sum()
    assert result.fooling_ratio == pytest.approx(share)
    assert result.fooling_ratio > 0.02
    assert result.x.dtype == np.float32
    assert {str(limit.group) for limit in result.verdict.limits} == {"0", "1"}


@pytest.mark.parametrize("kind", ["numpy64", "torch32", "torch64"])
def test_what_is_given_comes_back_in_its_kind_and_is_left_alone(kind):
    """Arrays and tensors of single and double precision; the given one is not written to."""
    x = made_batch(300, groups=1).x
    fine = x.astype(np.float64)
    fine[:, :2] *= 1 + 1e-9  # not to be written in single precision
    given = {
        "numpy64": fine,
        "torch32": torch.from_numpy(x),
        "torch64": torch.from_numpy(fine),
    }
    before = np.asarray(given[kind]).copy()
    result = attack(given[kind], Ring(), features(), budget=Budget(rms=0.0, correlation=0.1), seed=3)
    assert type(result.x) is type(given[kind])
    assert result.x.dtype == given[kind].dtype
    assert tuple(result.x.shape) == x.shape
    np.testing.assert_array_equal(np.asarray(given[kind]), before)
    after = np.asarray(result.x)
    assert (after != before).any()
    np.testing.assert_array_equal(np.sort(after, axis=0), np.sort(before, axis=0))


def test_only_the_correctly_classified_are_attacked_on_request():
    """The others do not move, and limits hold for the sample of the attacked ones alone."""
    batch = made_batch(2000, groups=1)
    options = {"budget": Budget(rms=0.0, correlation=0.05), "solver": Transport(steps=40)}
    result = attack(batch.x, Ring(), features(), target="correct", **options)
    right = result.score_nominal <= 0.5
    np.testing.assert_array_equal(result.x[~right], batch.x[~right])
    np.testing.assert_array_equal(np.sort(result.x[right], axis=0), np.sort(batch.x[right], axis=0))
    assert result.fooled[~right].sum() == 0
    assert result.fooling_ratio == pytest.approx(result.fooled.sum() / right.sum())


def test_no_move_is_no_change():
    """The control: nothing moves, every limit is 0 and kept exactly, nobody is fooled."""
    batch = made_batch(500)
    result = attack(batch.x, Ring(), features(), budget=Budget(move=0), weights=batch.weight)
    np.testing.assert_array_equal(result.x, batch.x)
    np.testing.assert_array_equal(result.score, result.score_nominal)
    assert result.fooling_ratio == 0
    assert all(limit.value == 0 for limit in result.verdict.limits)
    assert result.verdict.passed


@pytest.mark.parametrize("events", [0, 1, 2, 30])
def test_few_events_are_no_problem(events):
    """From none to a handful."""
    x = made_batch(100).x[:events]
    result = attack(x, Ring(), features(), budget=EXACT)
    assert result.x.shape == (events, 5)
    assert result.verdict.passed is (events == 30)
    assert not result.verdict.broken
    np.testing.assert_array_equal(np.sort(result.x, axis=0), np.sort(x, axis=0))


def test_folds_route_events_to_their_model():
    """Each event is attacked with, and scored by, the model of its fold."""

    class Mirrored(torch.nn.Module):
        def forward(self, x):
            return -Ring()(x)

    x, fold = made_batch(1200, groups=1).x, np.arange(1200) % 2
    result = attack(x, [Ring(), Mirrored()], features(), budget=Budget(rms=0.0, correlation=0.05), fold=fold)
    for k, model in enumerate((Ring(), Mirrored())):
        of = fold == k
        expected = torch.sigmoid(model(torch.from_numpy(result.x[of]))).numpy()
        np.testing.assert_allclose(result.score[of], expected, rtol=1e-6)
    assert result.score.mean() > result.score_nominal.mean() + 0.02


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"direction": "up"},
            ConfigurationError,
            r"direction='up' is not known; choose one of signal, background",
        ),
        (
            {"objective": "area"},
            ConfigurationError,
            r"objective='area' is not known; choose one of score, cross",
        ),
        ({"target": "none"}, ConfigurationError, r"target='none' is not known; choose one of all, correct"),
        ({"solver": "magic"}, ConfigurationError, r"solver='magic' is not known; choose one of transport"),
        ({"working_point": 1.0}, ConfigurationError, r"working_point=1.0 must lie between 0 and 1"),
        (
            {"weights": np.ones(7)},
            InputError,
            r"weights must have shape \(300,\), one value per event, got \(7,\)",
        ),
        ({"weights": np.full(300, np.nan)}, InputError, r"weights: 300 of 300 are NaN or infinite"),
        ({"groups": np.zeros(3)}, InputError, r"groups must have shape \(300,\)"),
        ({"context": {"c": np.zeros(3)}}, InputError, r"c must have shape \(300,\)"),
        ({"model": [Ring(), Ring()]}, InputError, r"2 models need fold=, the fold of each event in 0 … 1"),
        (
            {"model": [Ring(), Ring()], "fold": np.full(300, 2)},
            InputError,
            r"fold must lie in 0 … 1 for 2 models, got 2 … 2",
        ),
        ({"groups": np.full(300, 0.5)}, InputError, r"groups must be whole numbers from 0, or −1 for events"),
        ({"groups": np.full(300, -5)}, InputError, r"groups must be whole numbers from 0, or −1 .* got \[-5"),
        ({"groups": ["a"] * 300}, InputError, r"groups must be whole numbers .* got \['a', 'a', 'a'\]"),
        (
            {"model": [Ring(), Ring()], "fold": np.full(300, 0.7)},
            InputError,
            r"fold must be whole numbers from 0",
        ),
        (
            {"budget": None},
            ConfigurationError,
            r"budget must be a Budget, such as Budget\(rms=0.05\), got None",
        ),
        (
            {"budget": Budget(band=dict.fromkeys("xyzq", 0.1) | {"n": 0.1})},
            ConfigurationError,
            r"band= has entries for q, which are no features that may move; those are x, y, z, n",
        ),
        ({"seed": "a"}, ConfigurationError, r"seed must be an integer, got 'a'"),
        ({"device": "gpu"}, ConfigurationError, r"device='gpu' is not known; choose one of auto, cpu, cuda"),
        ({"solver": 3}, ConfigurationError, r"solver must be a name or the settings of one, got 3"),
        (
            {"x": made_batch(1).x, "model": torch.nn.Linear(3, 1)},
            ModelError,
            r"model cannot take 5 features",
        ),
        (
            {"model": torch.nn.Linear(3, 1)},
            ModelError,
            r"model cannot take 5 features as a float32 matrix .* with x in",
        ),
        (
            {"x": np.zeros((300, 4))},
            InputError,
            r"x must have shape \(events, 5\) for 5 features, got \(300, 4\)",
        ),
    ],
)
def test_wrong_arguments_are_named_with_the_remedy(change, error, message):
    """Every wrong argument is told before anything is attacked."""
    arguments = {"x": made_batch(300).x, "model": Ring(), "budget": EXACT, **change}
    with pytest.raises(error, match=message):
        attack(arguments.pop("x"), arguments.pop("model"), features(), **arguments)


@pytest.mark.parametrize("where", ["events", "candidates"])
def test_a_model_that_is_not_defined_everywhere(where):
    """Where an event has no score the range of its features is told; a candidate without one is not taken."""

    class Hole(torch.nn.Module):
        def forward(self, x):
            bad = x[:, 0] > 2.5 if where == "events" else (x[:, 0] - x[:, 1]).abs() > 3.5
            return torch.where(bad, torch.nan, Ring()(x))

    x = made_batch(2000, groups=1).x
    if where == "events":
        x[:64, 0] = 0.0  # the first look does not find it
        assert (x[:, 0] > 2.5).any()
        message = r"the model gives NaN or infinity for \d+ of 2000 events; they have x in 2.5\d+ … \d"
        with pytest.raises(InputError, match=message):
            attack(x, Hole(), features(), budget=EXACT)
        return
    x = x[np.abs(x[:, 0] - x[:, 1]) < 3.4]
    result = attack(x, Hole(), features(), budget=EXACT, solver=Transport(steps=40))
    assert np.isfinite(result.score).all()
    assert result.fooling_ratio > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named():
    """CUDA is asked for where torch sees none."""
    with pytest.raises(ConfigurationError, match=r"device='cuda', but torch sees no CUDA device here"):
        attack(made_batch(300).x, Ring(), features(), budget=EXACT, device="cuda")
