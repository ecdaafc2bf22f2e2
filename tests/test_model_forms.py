"""Forms of one model, and surroundings of one call: the same attacked events, bit for bit."""

from __future__ import annotations

import random
import warnings
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import cache

import hist
import numpy as np
import pytest
import torch
from made_conserv import WithK, call, conserv, difference, events
from torch import nn

from coffea_conserv import Budget, Callback, Feature, Model, attack
from coffea_conserv.solvers.search.solver import Search
from coffea_conserv.solvers.transport.solver import Transport

AXIS = hist.axis.Regular(30, -3, 3)
FEATURES = [Feature("x", AXIS), Feature("y", AXIS)]
X = np.random.default_rng(3).normal(size=(1200, 2)).astype(np.float32)
SOLVERS = {"transport": Transport(steps=15), "search": Search(num_candidates=20, iterations=3)}


class Normed(nn.Module):
    """A network with what behaves differently in training: batch norm and dropout."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 1)
        )

    def forward(self, x):
        """Give logits."""
        return self.layers(x)[:, 0] + 1.5 - (x**2).sum(1)


def network(dtype=torch.float32):
    """Make the same network each time, in training mode, with statistics that are not those of a new one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Normed()
        made(torch.from_numpy(X[:200]))
    return made.to(dtype)


def run(model, solver="transport", **options):
    """Attack some events."""
    settings = {"budget": Budget(rms=0.05, correlation=0.02), "solver": SOLVERS[solver], "seed": 2}
    return attack(X, model, FEATURES, **(settings | options))


@cache
def plain(solver="transport"):
    """What is found with the module itself."""
    result = run(network(), solver)
    assert result.verdict.passed
    assert result.fooling_ratio > 0.05
    return result


def quietly(make, *arguments, **options):
    """Call what uses TorchScript, which torch advises against, itself with ``torch.compile``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return make(*arguments, **options)


def scripted():
    """Make TorchScript."""
    return quietly(torch.jit.script, network().eval())


def compiled(model, **options):
    """Make what is compiled when it is first called."""
    return quietly(torch.compile, model, **options)


def script_file(path):
    """Write the file of it."""
    quietly(torch.jit.save, scripted(), path)
    return path


def program():
    """Export with any number of events."""
    batch = torch.export.Dim("batch", min=2)
    return torch.export.export(network().eval(), (torch.from_numpy(X[:4]),), dynamic_shapes={"x": {0: batch}})


FORMS = {
    "evaluation mode": lambda _: network().eval(),
    "compiled": lambda _: compiled(network()),
    "compiled with options": lambda _: compiled(network(), mode="reduce-overhead", dynamic=True),
    "scripted": lambda _: scripted(),
    "file of TorchScript": lambda folder: script_file(folder / "model.pt"),
    "exported": lambda _: program(),
    "factory": lambda _: Model(Normed, network().state_dict()),
    "one per fold": lambda _: [network(), network()],
    "compiled and scripted by fold": lambda _: [compiled(network()), scripted()],
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_model_is_attacked_alike(form, solver, tmp_path):
    """The arithmetic is the same, and so are the events."""
    model = FORMS[form](tmp_path)
    fold = np.arange(len(X)) % 2 if isinstance(model, list) else None
    result = run(model, solver, fold=fold)
    if "fold" in form:  # products of smaller matrices are rounded differently
        np.testing.assert_allclose(result.score_nominal, plain(solver).score_nominal, rtol=1e-5)
        assert result.fooling_ratio == pytest.approx(plain(solver).fooling_ratio, abs=0.02)
        assert result.verdict.passed
        return
    np.testing.assert_array_equal(result.x, plain(solver).x)
    np.testing.assert_array_equal(result.score, plain(solver).score)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_another_precision_gets_its_inputs_in_it(dtype):
    """What is found is what a function finds that converts inputs and outputs itself."""
    module = network(dtype).eval()

    def function(matrix):
        with torch.no_grad():
            return module(torch.from_numpy(matrix).to(dtype)).float().numpy()

    result, other = run(network(dtype)), run(Callback(function))
    assert result.verdict.passed
    assert result.fooling_ratio == pytest.approx(plain().fooling_ratio, abs=0.05)
    np.testing.assert_array_equal(result.x, other.x)
    assert run(network(dtype), "search").fooling_ratio > 0.05


def test_the_module_of_the_user_is_only_read():
    """Mode, parameters, statistics of batch norm, and who wants a gradient are as before."""
    module = network()
    module.layers[1].eval()
    module.layers[0].bias.requires_grad_(False)
    before = deepcopy(module)
    run(module, "search")
    assert [part.training for part in module.modules()] == [part.training for part in before.modules()]
    for (name, one), two in zip(module.named_parameters(), before.parameters(), strict=True):
        assert one.requires_grad == two.requires_grad, name
        assert one.grad is None
    for name, value in before.state_dict().items():
        assert torch.equal(module.state_dict()[name], value), name


# --- surroundings ------------------------------------------------------------------------------------------


@contextmanager
def threads(count):
    """Another number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def double():
    """Numbers are double unless it is said otherwise."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic():
    """Operations that depend on the order of threads are refused."""
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=False)


@contextmanager
def other_seeds():
    """All global generators are somewhere else."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


SURROUNDINGS = {
    "nothing special": nullcontext,
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "one thread": lambda: threads(1),
    "two threads": lambda: threads(2),
    "double": double,
    "deterministic": deterministic,
    "other seeds": other_seeds,
}


def states():
    """Everything global that a call could leave changed."""
    return (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
    )


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_the_surroundings_do_not_matter_and_stay(name, solver):
    """Modes, threads, precision and random states of the caller neither change the events nor are changed."""
    expected, model = plain(solver), network()
    with SURROUNDINGS[name]():
        before = states()
        result = run(model, solver)
        assert states() == before
    np.testing.assert_array_equal(result.x, expected.x)
    np.testing.assert_array_equal(result.score, expected.score)


@pytest.mark.parametrize("name", ["inference mode", "autocast", "two threads", "double", "other seeds"])
def test_the_plugin_does_not_depend_on_its_surroundings(name):
    """The sums of a chunk are the same to the last bit, and so is the hash of the configuration."""
    model = WithK()
    made = conserv(model=model)
    expected = call(made, events())
    with SURROUNDINGS[name]():
        before = states()
        again = conserv(model=model)
        sums = call(again, events())
        assert states() == before
    assert again.config == made.config
    assert difference(sums, expected) == 0
