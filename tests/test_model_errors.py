"""Models that cannot be attacked are refused before anything starts, with the offender and the remedy."""

from __future__ import annotations

import pickle
import re
import threading
from pathlib import Path

import pytest
import torch
from made_models import CPU, NAMES, Dead, Net, X, exported, net, run_attack
from torch import nn

from coffea_conserv import Model, ModelError
from coffea_conserv.models.checks import check_network
from coffea_conserv.models.loading import make_handles


def noisy(x):
    """Give another answer each time."""
    return x.sum(1) + torch.rand(len(x))


def mixing(x):
    """Let the other events decide."""
    return x.sum(1) - x.sum()


def several(x):
    """Do without an answer for a single event."""
    if len(x) < 2:
        msg = "at least two"
        raise ValueError(msg)
    return x.sum(1)


def root(x):
    """Have no gradient where the first feature is below 0."""
    return torch.where(x[:, 0] > 0, x[:, 0], 0 * x[:, 0]).sqrt()


BROKEN = {
    r"one logit per event, shape \(16,\) or \(16, 1\), got \(16, 3\)": lambda x: x,
    r"one logit per event, .* got \(\)": lambda x: x.sum(),
    r"one logit per event, .* got tuple": lambda x: (x.sum(1), x),
    r"cannot take 3 features as a float32 matrix .*\(16, 3\) with x in -\d\.\d+ … \d.*: .*5": lambda x: (
        x @ torch.ones(5)
    ),
    "gives two answers for the same events in evaluation mode": noisy,
    "NaN or infinity for 16 of 16 events; check its inputs": lambda x: x.sum(1) * torch.nan,
    "NaN or infinity for 1 of 16": lambda x: torch.where(torch.arange(len(x)) == 3, torch.inf, x.sum(1)),
    "no gradient with respect to its inputs; do not detach or round": lambda x: x.detach().sum(1),
    "no gradient": lambda x: torch.zeros(len(x)),
    "is 0 in all of 16 events; do not detach, round or saturate them": lambda x: torch.round(x).sum(1),
    "is 0 in all": lambda x: (x * 0).sum(1),
    "is not a number in any of 16 events; .* keep square roots away from 0": lambda x: root(x - 100),
    r"gives only 0\.\d+ … 0\.\d+, as probabilities are, and is said to give logits; say output='probabil": (
        lambda x: torch.sigmoid(x.sum(1))
    ),
    "another logit when other events are beside it; export it in evaluation mode": mixing,
    "takes 16 events, but not a single one": several,
}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: x.sum(1) + root(x), r"model has no finite gradient for \d+ of 16 events"),
    ],
)
def test_networks_that_make_one_wonder(model, message, caplog):
    """What can be attacked but is probably a mistake is said."""
    with caplog.at_level("WARNING"):
        check_network([Dead(model)], X[:16], NAMES)
    assert re.search(message, caplog.text)


@pytest.mark.parametrize("message", BROKEN)
def test_networks_that_cannot_be_attacked(message):
    """Shape, inputs, chance, NaN, gradient and mixed events are told, with the remedy."""
    good = make_handles(net())[0].load(CPU)
    with pytest.raises(ModelError, match=f"model .*{message}"):
        check_network([Dead(BROKEN[message])], X[:16], NAMES)
    with pytest.raises(ModelError, match=f"model of fold 1 .*{message}"):
        check_network([good, Dead(BROKEN[message])], X[:16], NAMES)


def test_an_export_in_training_mode_is_refused():
    """Batch norm of an export in training mode depends on the batch, dropout on chance."""
    with pytest.raises(ModelError, match=r"evaluation mode"):
        run_attack(exported(net().train()))
    norm = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1)).train()
    with pytest.raises(ModelError, match=r"another logit .* export it in evaluation mode"):
        run_attack(exported(norm))


def test_an_export_of_a_fixed_number_of_events_is_refused(tmp_path):
    """The text names the number and the remedy; of a file its name, too."""
    program = exported(net().eval(), dynamic_shapes=None)
    text = r"was exported for 4 events at a time and no other number; export it with dynamic_shapes=\("
    with pytest.raises(ModelError, match=f"the program {text}"):
        run_attack(program)
    torch.export.save(program, tmp_path / "fixed.pt2")
    with pytest.raises(ModelError, match=rf"the program of .*fixed\.pt2 {text}"):
        run_attack(tmp_path / "fixed.pt2")


def test_a_model_of_other_inputs_is_refused():
    """The number of features, their names and where the events were are in the text."""
    text = r"cannot take 3 features .* of \(64, 3\) with x in -\S+ … \S+, y in .*, z in .*: Runtime"
    with pytest.raises(ModelError, match=text):
        run_attack(nn.Linear(5, 1))


@pytest.mark.parametrize("nothing", [None, 3, {0: net()}, torch.ones(3), lambda x: x, Net])
def test_what_is_no_model(nothing):
    """The text says what can be given; in a list too."""
    remedy = r"is no model: give the file of torch\.export, an nn\.Module, Model\(factory, state\), Callback"
    for model in (nothing, [net(), nothing]):
        with pytest.raises(ModelError, match=remedy):
            make_handles(model)


def test_an_empty_list_is_refused():
    """There has to be a model."""
    for nothing in ([], ()):
        with pytest.raises(ModelError, match=r"model=\[\] is empty; give one model, or one per fold"):
            make_handles(nothing)


@pytest.mark.parametrize("make", [Path, str, lambda path: Model(Net, path)])
def test_a_file_that_is_not_there(tmp_path, make):
    """Path and remedy are in the text, and it is no OSError."""
    path = tmp_path / "nothing.pt2"
    with pytest.raises(ModelError, match=r"nothing\.pt2 does not exist; write it with torch\.\w*") as caught:
        make_handles(make(path))
    assert not isinstance(caught.value, OSError)


def cut(path):
    """Half of a file."""
    torch.export.save(exported(net().eval()), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoilt(path):
    """Write a file with one wrong byte in the middle of its text."""
    torch.export.save(exported(net().eval()), path)
    content = bytearray(path.read_bytes())
    content[content.index(b"schema_version")] ^= 255
    path.write_bytes(bytes(content))


UNREADABLE = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no model " * 99),
    "cut": cut,
    "spoilt": spoilt,
    "parameters": lambda path: torch.save(net().state_dict(), path),
    "whole module": lambda path: torch.save(net(), path),
    "pickle": lambda path: path.write_bytes(pickle.dumps([1, 2])),
}


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("as_state", [False, True])
def test_files_that_cannot_be_read(tmp_path, kind, as_state):
    """Whatever torch raises, the file and how to write it are told."""
    path = tmp_path / "model.pt2"
    UNREADABLE[kind](path)
    if as_state and kind == "parameters":
        assert make_handles(Model(Net, path))
        return
    model, remedy = (Model(Net, path), "state_dict") if as_state else (path, r"torch\.export\.save")
    with pytest.raises(ModelError, match=rf"model\.pt2 .*; write it with .*{remedy}"):
        make_handles(model)


def no_module():
    """Make no module."""


def failing():
    """Make a module out of a file that is not there."""
    msg = "weights.txt"
    raise FileNotFoundError(msg)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Model(Net, {}), r"(?s)do not fit the module that the factory makes: .*Missing key"),
        (Model(Net, net(width=9).state_dict()), r"(?s)do not fit .*size mismatch"),
        (Model(Net, [1, 2]), "do not fit"),
        (Model(no_module, {}), "factory must make an nn.Module without arguments, got None"),
        (Model(failing, {}), "factory .*failing.* fails: FileNotFoundError: weights.txt"),
        (Model(Dead(), {}), "fails: TypeError: .*missing 1 required positional argument"),
    ],
)
def test_factories_and_parameters_that_do_not_fit(model, message):
    """What fails is told as a ModelError that coffea cannot take for an unreadable file."""
    with pytest.raises(ModelError, match=message) as caught:
        make_handles(model)
    assert not isinstance(caught.value.__cause__, OSError)


class Locked(Net):
    """A classifier that cannot be pickled."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


def test_a_module_that_cannot_be_pickled():
    """The text names the way out, and it works."""
    with pytest.raises(ModelError, match=r"Locked cannot be sent to workers: .*lock.*give Model\(factory"):
        make_handles(Locked())
    locked = Locked()
    with torch.no_grad():  # logits between 0 and 1, as chance makes them at times
        locked.layers[-1].weight *= 0.1
        locked.layers[-1].bias.fill_(0.5)
    state = locked.state_dict()
    (handle,) = make_handles(Model(Locked, state))
    check_network([pickle.loads(pickle.dumps(handle)).load(CPU)], X, NAMES)  # noqa: S301 -- written here
    lock = threading.Lock()
    with pytest.raises(ModelError, match="factory of Model cannot be sent to workers"):
        make_handles(Model(lambda: Net() if lock else None, net().state_dict()))
