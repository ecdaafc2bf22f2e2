"""Models: what can be given, how it travels, and that nothing of the user's or of torch's is changed."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import CPU, NAMES, Dead, Net, X, evaluated, exported, net, run_attack

from coffea_conserv import Model
from coffea_conserv.models import handle as module_under_test
from coffea_conserv.models.checks import check_network
from coffea_conserv.models.device import one_thread
from coffea_conserv.models.loading import Handle, make_handles
from coffea_conserv.models.network import Network

KINDS = ("module", "file", "file as text", "program", "factory", "factory and file")


@pytest.fixture(params=KINDS)
def given(request, tmp_path):
    """Return one classifier and each way to give it."""
    made, kind = net(), request.param
    copy = Net()
    copy.load_state_dict(made.state_dict())
    path = tmp_path / "model.pt2"
    if kind.startswith("factory"):
        state = made.state_dict()
        torch.save(state, path)
        return made, Model(Net, path if kind.endswith("file") else state)
    if kind == "module":
        return made, made
    program = exported(copy.eval())
    torch.export.save(program, path)
    return made, {"file": path, "file as text": str(path), "program": program}[kind]


# --- what can be given -------------------------------------------------------------------------------------


def test_every_way_to_give_a_model_has_the_same_logits(given):
    """Dropout and batch norm are evaluated in evaluation mode, whatever the mode of what was given."""
    module, model = given
    (handle,) = make_handles(model)
    loaded = handle.load(CPU)
    torch.testing.assert_close(loaded(X).detach(), evaluated(module))
    check_network([loaded], X[:16], NAMES)


def test_a_list_has_one_model_per_fold(given):
    """Each event goes through the model of its fold, forwards and backwards."""
    first, model = given
    second = net(seed=1)
    models = [handle.load(CPU) for handle in make_handles([model, second])]
    fold = torch.arange(40) % 2
    network = Network(tuple(models), fold, batch=7)
    logits = network(X, torch.arange(40))
    expected = torch.where(fold == 0, evaluated(first), evaluated(second))
    torch.testing.assert_close(logits, expected)
    leaf = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf, torch.arange(40)).sum(), leaf)
    torch.testing.assert_close(gradient[1::2], _gradient(models[1], X[1::2]))
    assert network(X[:0], torch.arange(0)).shape == (0,)


def _gradient(model, x):
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf).sum(), leaf)[0]


def test_mini_batches_and_candidates_do_not_change_logits():
    """Candidates of any number and order are routed to the models of their events."""
    models = tuple(handle.load(CPU) for handle in make_handles([net(), net(1), net(2)]))
    fold = torch.arange(40) % 3
    event = torch.tensor([5, 5, 39, 0, 1, 1, 2])
    many = Network(models, fold)(X[event], event)
    single = [Network(models, fold, batch=1)(X[e : e + 1], torch.tensor([e])) for e in event.tolist()]
    torch.testing.assert_close(many, torch.cat(single), atol=1e-6, rtol=1e-5)


def test_handles_are_accepted_again():
    """What has been made into a handle is not made into another one."""
    handles = make_handles([net(), net(1)])
    assert make_handles(handles) == handles
    assert make_handles(list(handles)) == handles


def test_a_handle_says_what_it_is():
    """A handle compares and prints by its hashes."""
    (handle,) = make_handles(net())
    assert handle == Handle(handle.kind, handle.payload, handle.digest, handle.content)
    assert handle.digest in repr(handle)


# --- how it travels ----------------------------------------------------------------------------------------


def test_a_handle_is_little_more_than_the_parameters(given):
    """A handle pickles by itself, to the size of its bytes; a module to that of its parameters."""
    module, model = given
    (handle,) = make_handles(model)
    size = len(pickle.dumps(handle))
    assert size < len(handle.payload) + 500
    parameters = sum(value.numel() * value.element_size() for value in module.state_dict().values())
    if handle.kind != "export":
        assert size < parameters + 12_000
    travelled = pickle.loads(pickle.dumps(handle))  # noqa: S301 -- written above
    assert travelled == handle
    assert "payload" not in repr(handle)


def test_hashes_are_those_of_the_content():
    """The same parameters, attributes and code give the same hashes, anything else others."""
    made = net()
    state = made.state_dict()
    (first,), (second,) = make_handles(made), make_handles(made.eval())
    assert first == second
    (built,) = make_handles(Model(Net, state))
    assert built.content == first.content
    assert built.digest == make_handles(Model(Net, dict(state)))[0].digest
    others = make_handles([net(seed=1), net(width=9), Dead(), Dead(scale=2.0)])
    hashes = {handle.content for handle in (first, *others)}
    assert len(hashes) == 5
    assert len({handle.digest for handle in (first, *others)}) == 5


SCRIPT = """
import torch
from torch import nn
from coffea_conserv.models.loading import make_handles

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.cuts = {"b": {1.0, 2.0, "x"}, "a": ("low", "high")}

    def forward(self, x):
        return self.layer(x) + 1

torch.manual_seed(1)
print(make_handles(Net())[0].content)
"""


def test_the_hash_of_a_class_of_a_notebook_is_that_of_the_next_session(capsys):
    """A class that is pickled by value has the same hash in another process; other code has another one."""
    command, root = [sys.executable, "-c", SCRIPT], Path(__file__).parent.parent
    environment = {"PYTHONHASHSEED": "12345"}
    done = subprocess.run(  # noqa: S603 -- our own code
        command, env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    with torch.random.fork_rng(devices=[]):
        for script in (SCRIPT, SCRIPT.replace("+ 1", "+ 2")):
            exec(script, {"__name__": "__main__"})  # noqa: S102 -- as a notebook would
    here, other = capsys.readouterr().out.split()
    assert done.stdout.split() == [here]
    assert other != here


def test_a_model_is_loaded_once_per_process_and_device(monkeypatch):
    """Eight threads that ask at the same time get one and the same model; another device has its own."""
    calls = []
    load = module_under_test._load
    monkeypatch.setattr(module_under_test, "_cache", {})
    monkeypatch.setattr(module_under_test, "_load", lambda *args: calls.append(args) or load(*args))
    (handle,) = make_handles(net(seed=77))
    copies = [pickle.loads(pickle.dumps(handle)) for _ in range(8)]  # noqa: S301 -- written here
    start = threading.Barrier(8)

    def ask(copy):
        start.wait()
        return copy.load(CPU)

    with ThreadPoolExecutor(8) as pool:
        models = list(pool.map(ask, copies))
    assert len(calls) == 1
    assert len({id(model) for model in models}) == 1
    handle.load(torch.device("meta"))
    assert len(calls) == 2


def test_eight_threads_get_the_gradients_of_one():
    """A shared model can be used by several threads at once."""
    (handle,) = make_handles(net())
    x = [torch.randn(200, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    expected = [_gradient(handle.load(CPU), part) for part in x]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda part: _gradient(handle.load(CPU), part), x))
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert all(parameter.grad is None for parameter in handle.load(CPU).parameters())


# --- what is left alone ------------------------------------------------------------------------------------


def torch_state():
    """Everything global that an attack could leave changed."""
    return (
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002 -- the global one must stay as it is
        random.getstate(),
    )


@pytest.mark.parametrize("grad", [True, False])
def test_the_global_state_of_torch_stays(given, grad):
    """Handles, checks and a whole attack leave random numbers, gradient mode and threads as they were."""
    _, model = given
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.set_grad_enabled(grad):
            before = torch_state()
            (handle,) = make_handles(model)
            check_network([handle.load(CPU)], X, NAMES)
            assert torch_state() == before
            run_attack(model)
            assert torch_state() == before
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("training", [True, False])
def test_the_module_of_the_user_stays(training):
    """Mode, parameters, buffers, gradients and what needs one are as before, down to the objects."""
    made = net().train(training)
    made.layers[0].requires_grad_(False)
    for parameter in made.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    held = {name: (value, value.clone()) for name, value in made.state_dict(keep_vars=True).items()}
    needs = [parameter.requires_grad for parameter in made.parameters()]
    run_attack(made)
    assert all(part.training is training for part in made.modules())
    assert [parameter.requires_grad for parameter in made.parameters()] == needs
    assert all((parameter.grad == 3).all() for parameter in made.parameters())
    for name, value in made.state_dict(keep_vars=True).items():
        assert value is held[name][0]
        assert torch.equal(value, held[name][1])


def test_threads_that_overlap_restore_the_number_of_the_first():
    """The number of torch threads is that of before in every Python thread, whoever leaves first."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    inside, leave = threading.Barrier(3), threading.Event()

    def long():
        with one_thread():
            inside.wait()
            leave.wait()
        return torch.get_num_threads()

    def short():
        inside.wait()
        with one_thread():
            pass
        return torch.get_num_threads()

    try:
        with ThreadPoolExecutor(2) as pool:
            runs = [pool.submit(long), pool.submit(short)]
            inside.wait()
            assert runs[1].result() == 2
            leave.set()
            assert runs[0].result() == 2
        with one_thread():
            with one_thread():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError), one_thread():
            _ = 1 / 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
