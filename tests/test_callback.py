"""Models without gradients: functions of a NumPy matrix, attacked, sent to workers and refused."""

from __future__ import annotations

import io
import math
import pickle
import threading

import hist
import numpy as np
import pytest
import torch
from made_conserv import call, conserv, difference, events
from rich.console import Console
from torch import nn

from coffea_conserv import (
    Budget,
    Callback,
    Classes,
    Conserv,
    Feature,
    ModelError,
    attack,
    baselines,
    compare,
)
from coffea_conserv.report.console import comparison_table
from coffea_conserv.solvers.search.solver import Search
from coffea_conserv.solvers.transport.solver import Transport
from coffea_conserv.studies.bounds import fooling_bound

AXIS = hist.axis.Regular(40, -4, 4)
FEATURES = [Feature("x", AXIS), Feature("y", AXIS)]
BUDGET = Budget(rms=0.05, correlation=0.01)
SOLVERS = {"transport": Transport(steps=40), "search": Search(num_candidates=30)}


class Net(nn.Module):
    """A small network that finds the middle of a ring."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x):
        """Give logits."""
        return self.layers(x)[:, 0] + 2 - (x**2).sum(1)


def donut(count=2500, seed=0):
    """Background on a ring around the signal."""
    rng = np.random.default_rng(seed)
    radius, angle = rng.normal(1.8, 0.5, count), rng.uniform(0, 2 * np.pi, count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)


def network():
    """Make the same network each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net()


def without(module):
    """Give a network as a function of NumPy, which hides its gradient."""

    def function(matrix):
        with torch.no_grad():
            return module(torch.from_numpy(matrix)).numpy()

    return Callback(function)


class Cells:
    """Signal over background in a grid of cells: constant in each, like a tree."""

    def __init__(self, cells=16):
        edges = np.linspace(-4, 4, cells + 1)
        signal = np.random.default_rng(5).normal(0, 0.5, (20_000, 2))
        counts = [np.histogram2d(*sample.T, bins=[edges, edges])[0] for sample in (signal, donut(20_000, 6))]
        self.inner, self.score = edges[1:-1], counts[0] / np.maximum(sum(counts), 1)

    def predict_proba(self, x):
        """Probabilities of background and signal."""
        score = self.score[np.digitize(x[:, 0], self.inner), np.digitize(x[:, 1], self.inner)]
        return np.stack([1 - score, score], axis=1)


# --- the attack --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rms", [0.0, 0.05])
def test_transport_needs_no_gradient(rms):
    """The same network with and without gradient is attacked alike, bit for bit."""
    options = {"budget": Budget(rms=rms, correlation=0.01), "solver": Transport(steps=20), "seed": 3}
    results = [attack(donut(800), model, FEATURES, **options) for model in (network(), without(network()))]
    assert results[0].fooling_ratio > 0.05
    np.testing.assert_array_equal(results[0].x, results[1].x)
    np.testing.assert_array_equal(results[0].score, results[1].score)


@pytest.mark.parametrize("objective", ["cross", "score"])
def test_search_keeps_its_strength_without_a_gradient(objective):
    """Values of other events say which way to go nearly as well: at least 70 % of the strength is left."""
    found = []
    for model in (network(), without(network())):
        result = attack(
            donut(), model, FEATURES, budget=BUDGET, solver=SOLVERS["search"], seed=1, objective=objective
        )
        assert result.verdict.passed
        shift = float((result.score - result.score_nominal).mean())
        found.append(result.fooling_ratio if objective == "cross" else shift)
    assert found[0] > (0.3 if objective == "cross" else 0.03)
    assert found[1] > 0.7 * found[0]


@pytest.mark.parametrize("direction", ["signal", "background"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_model_of_steps_is_fooled_within_the_limits(solver, direction):
    """Where the score is constant in cells there is no slope to follow, and both solvers get somewhere."""
    x = donut() if direction == "signal" else np.random.default_rng(1).normal(0, 1, (2500, 2))
    result = attack(
        x,
        Callback(Cells().predict_proba),
        FEATURES,
        budget=BUDGET,
        output="probability",
        solver=SOLVERS[solver],
        direction=direction,
    )
    assert result.verdict.passed
    assert result.fooling_ratio > 0.05


def test_a_model_of_steps_is_fooled_no_further_than_can_be():
    """The attack comes close to the linear programme of the same cells, and not beyond it."""
    cells, x = Cells(), donut(4000)
    x = x[cells.predict_proba(x)[:, 1] <= 0.5]
    result = attack(
        x,
        Callback(cells.predict_proba),
        FEATURES,
        budget=Budget(rms=0.0, correlation=0.006),
        output="probability",
        seed=1,
    )

    def logit(part):
        return torch.from_numpy(cells.predict_proba(part.numpy())[:, 1] - 0.5)

    bound = fooling_bound(x, logit, FEATURES, correlation=0.006, cells=80)
    assert result.verdict.passed
    assert 0.6 * bound.outer < result.fooling_ratio <= bound.outer


def test_a_classifier_of_scikit_learn_is_one_line():
    """Boosted trees on the donut are fooled, by both solvers, within all limits."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    signal = np.random.default_rng(2).normal(0, 0.5, (1500, 2)).astype(np.float32)
    trees = ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0)
    trees.fit(np.concatenate([signal, donut(1500, 7)]), np.repeat([1, 0], 1500))
    for solver in SOLVERS.values():
        result = attack(
            donut(),
            Callback(trees.predict_proba),
            FEATURES,
            budget=BUDGET,
            output="probability",
            solver=solver,
        )
        assert result.verdict.passed
        assert result.fooling_ratio > 0.05


def test_folds_may_mix_functions_and_modules():
    """Each event goes to the model of its fold; the whole has a gradient where all of them have one."""
    x, fold = donut(600), np.arange(600) % 2
    options = {"budget": BUDGET, "solver": SOLVERS["search"], "fold": fold}
    result = attack(x, [network(), without(network())], FEATURES, **options)
    assert result.fooled[fold == 0].any()
    assert result.fooled[fold == 1].any()


def test_the_function_gets_a_matrix_of_its_own():
    """What it writes into its matrix is lost, and shape, precision and order are as promised."""
    seen = []

    def function(matrix):
        assert matrix.dtype == np.float32
        assert matrix.flags.c_contiguous
        values = 1.5 - (matrix**2).sum(axis=1, keepdims=True)
        seen.append(matrix.shape[1])
        matrix[:] = np.nan
        return values

    assert attack(donut(300), Callback(function), FEATURES, budget=BUDGET).verdict.passed
    assert set(seen) == set()  # it was another copy that was called: functions travel like models


# --- baselines ---------------------------------------------------------------------------------------------


def test_baselines_that_need_a_gradient_refuse():
    """By name they say why; by default they are left out, and a comparison lists the reason."""
    model, x = without(network()), donut(400)
    options = {"budget": BUDGET, "target": "correct", "tries": 5}
    for names in (["fgsm"], ["random", "pgd"]):
        with pytest.raises(ModelError, match=rf"{names[-1]} follows the gradient, and the model has none"):
            baselines(x, model, FEATURES, names=names, **options)
        with pytest.raises(ModelError, match=r"it is a Callback; random and rdsa do without"):
            compare(x, model, FEATURES, names=names, **options)
    assert list(baselines(x, model, FEATURES, **options)) == ["random", "rdsa"]
    assert list(baselines(x, network(), FEATURES, names=["fgsm"], **options)) == ["fgsm"]
    rows = compare(x, model, FEATURES, solver=Transport(steps=10), **options)
    assert [row.name for row in rows] == ["attack", "random", "rdsa", "fgsm", "pgd"]
    assert [row.note for row in rows] == ["", "", "", *(["the model has no gradient"] * 2)]
    assert not any(row.kept for row in rows[3:])
    assert all(math.isnan(row.fooling_ratio) for row in rows[3:])
    console = Console(file=io.StringIO(), width=140)
    console.print(comparison_table(rows))
    assert console.file.getvalue().count("left out: the model has no gradient") == 2


def test_baselines_that_there_are_not():
    """The text says which there are."""
    with pytest.raises(ValueError, match=r"names='cw' is not known; choose one of random, rdsa, fgsm, pgd"):
        baselines(donut(50), network(), FEATURES, budget=BUDGET, names=["cw"])


# --- what is refused ---------------------------------------------------------------------------------------


def failing(matrix):
    """Fail for every matrix."""
    msg = "no such column"
    raise KeyError(msg)


def unreadable(matrix):
    """Fail as a file would."""
    msg = "trees.json"
    raise FileNotFoundError(msg)


FAILING = {
    r"the function failing of the model fails for a float32 matrix .*\(64, 2\): KeyError: 'no such": failing,
    r"the function unreadable of the model fails .* FileNotFoundError: trees.json": unreadable,
    r"must give numbers, got <U4": lambda x: np.full(len(x), "good"),
    r"must give numbers, got object": lambda x: np.array([None] * len(x)),
    r"one logit per event, shape \(64,\) or \(64, 1\), got \(64, 2\)": lambda x: x,
    r"got torch.int64": lambda x: (x[:, 0] > 0).astype(int),
    r"two answers for the same events": lambda x: x.sum(1) + np.random.default_rng().random(len(x)),
    r"NaN or infinity for 64 of 64": lambda x: x.sum(1) * np.nan,
    r"another logit when other events are beside it; compute event by event": lambda x: x.sum(1) - x.sum(),
}


@pytest.mark.parametrize("message", FAILING)
def test_functions_that_cannot_be_attacked(message):
    """Failures, kinds, shapes, chance, NaN and mixed events are told before anything starts."""
    with pytest.raises(ModelError, match=message) as caught:
        attack(donut(100), Callback(FAILING[message]), FEATURES, budget=BUDGET)
    assert not isinstance(caught.value.__cause__, OSError)


def test_what_cannot_be_called_or_sent():
    """A fitted classifier is pointed to its method, and a lock cannot travel."""
    text = r"cannot be called; give a function of a matrix, for this one model=classifier as it is"
    with pytest.raises(ModelError, match=text):
        Callback(Cells())
    with pytest.raises(ModelError, match=r"is no model: .*for this one a fitted Cells, not its class"):
        attack(donut(100), Cells, FEATURES, budget=BUDGET)
    with pytest.raises(ModelError, match=r"Callback: 3 cannot be called; give a function of a matrix$"):
        Callback(3)
    lock = threading.Lock()
    with pytest.raises(
        ModelError, match=r"function of Callback cannot be sent to workers: .*lock.*; give a func"
    ):
        attack(donut(100), Callback(lambda x: lock and x.sum(1)), FEATURES, budget=BUDGET)


# --- the plugin --------------------------------------------------------------------------------------------


def probabilities(radius):
    """Make a classifier in the manner of scikit-learn, of three features."""

    def function(matrix):
        distance = matrix[:, 0] ** 2 + np.where(matrix[:, 1] == -999.0, 0, matrix[:, 1]) ** 2
        signal = 1 / (1 + np.exp(distance - radius**2))
        return np.stack([1 - signal, signal], axis=1)

    return Callback(function)


def test_a_function_travels_inside_of_the_attack():
    """An unpickled attack gives the same sums, and another constant inside of the function other ones."""
    made = conserv(model=probabilities(1.2), output="probability")
    sums = call(made, events())
    assert made.result(sums).verdict.passed
    assert max(row.score_shift for row in made.result(sums).fooling) > 0.003
    again = pickle.loads(pickle.dumps(made))  # noqa: S301 -- written here
    assert again.config == made.config == conserv(model=probabilities(1.2), output="probability").config
    assert difference(call(again, events()), sums) == 0
    columns = conserv(model=probabilities(1.2), output=Classes(1, output="probability"))
    others = [conserv(model=probabilities(1.3), output="probability"), columns]
    assert len({made.config, *(other.config for other in others)}) == 3


def test_the_plugin_checks_a_function_when_it_is_made():
    """A function that fails does so on the client."""
    with pytest.raises(
        ModelError,
        match=r"the function failing .* fails .*\(256, 2\): KeyError: .*; the events have x in -3.* … 3.*",
    ):
        Conserv(model=Callback(failing), features=FEATURES, budget=BUDGET)
