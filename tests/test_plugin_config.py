"""The hash of a configuration: outputs of two configurations are never added or judged as one."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import cloudpickle
import hist
import numpy as np
import pytest
import torch
from made_conserv import WithK, call, conserv, difference, distance, events, features, near

from coffea_conserv import Budget, Classes, Conserv, Feature, InputError, MergeError, Model
from coffea_conserv.solvers.transport.solver import Transport

TESTS = Path(__file__).parent


def changed(position=0, **options):
    """Make the features with one of them changed."""
    made = features()
    made[position] = replace(made[position], **options)
    return made


class Two(WithK):
    """The same as two classes."""

    def forward(self, x):
        """Give logits of both."""
        logit = super().forward(x)
        return torch.stack([torch.zeros_like(logit), logit], 1)


OTHER = {
    "axis": {"features": changed(axis=hist.axis.Regular(25, -3, 3))},
    "edge": {"features": changed(axis=hist.axis.Variable([*np.linspace(-3, 2.9, 24), 3 - 1e-9]))},
    "frozen": {"features": changed(frozen=True)},
    "missing": {"features": changed(1, missing=-998.0)},
    "no missing": {"features": changed(1, missing=None)},
    "low": {"features": changed(low=-5.0)},
    "high": {"features": changed(high=5.0)},
    "largest move": {"features": changed(max_shift=0.5)},
    "largest relative move": {"features": changed(max_relative_shift=0.5)},
    "resolution": {"features": changed(resolution=0.5)},
    "relative resolution": {"features": changed(relative_resolution=0.5)},
    "companion": {"features": changed(moves_with="y")},
    "price of moves": {"features": changed(resolution=0.4), "penalty": 0.1},
    "higher price": {"features": changed(resolution=0.4), "penalty": 0.2},
    "order": {"features": [features()[j] for j in (1, 0, 2)]},
    "name": {"features": changed(name="z"), "watch": None},
    "marginal": {"budget": Budget(rms=0.11, correlation=0.1)},
    "measure": {"budget": Budget(jsd=0.1, correlation=0.1)},
    "correlation": {"budget": Budget(rms=0.1, correlation=0.11)},
    "watch limit": {"budget": Budget(rms=0.1, correlation=0.1, watch=0.1)},
    "move": {"budget": Budget(rms=0.1, correlation=0.1, move=0)},
    "working point": {"working_point": 0.6},
    "objective": {"objective": "cross"},
    "seed": {"seed": 2},
    "solver": {"solver": Transport(steps=9)},
    "score axis": {"score": hist.axis.Regular(11, 0, 1, name="score", label="score")},
    "parameters": {"model": WithK(1.3)},
    "folds": {"model": [WithK(), WithK()]},
    "valid": {"valid": near},
    "another valid": {"valid": lambda x: near(x) & (x["x"] < 3)},
    "watch": {"watch": None},
    "watched function": {"watch": {"r": (lambda x: distance(x) * 2, hist.axis.Regular(20, 0, 4))}},
    "target": {"target": "correct"},
    "classes": {"model": Two(), "output": Classes(1)},
    "other classes": {"model": Two(), "output": Classes(0)},
    "watched axis": {"watch": {"r": (distance, hist.axis.Regular(21, 0, 4))}},
}


@pytest.fixture(scope="module")
def plain():
    """Return the configuration that the others differ from, and its output."""
    made = conserv()
    return made, call(made, events(40))


def test_no_setting_is_forgotten():
    """Each argument is in the hash, as is tried below, or among those that outputs do not depend on."""
    tried = {name for options in OTHER.values() for name in options}
    assert tried | {"device", "keep", "names"} == {f.name for f in fields(Conserv) if f.init}


@pytest.mark.parametrize("what", OTHER)
def test_every_setting_counts(plain, what):
    """Another axis, limit, model, seed or function is another configuration: no merging, no judging."""
    made, sums = plain
    other = conserv(**OTHER[what])
    assert other.config != made.config
    made_of_other = replace(sums, config=other.config)
    with pytest.raises(MergeError, match=rf"{made.config} and {other.config}.*same features, budget, model"):
        _ = sums + made_of_other
    with pytest.raises(InputError, match=rf"another configuration \({made.config}\).*\({other.config}\)"):
        other.result(sums)


def test_all_configurations_are_different():
    """No two of them share a hash."""
    assert len({conserv(**options).config for options in OTHER.values()}) == len(OTHER)


SAME = {
    "again": {},
    "labels": {"features": changed(label="text", unit="GeV")},
    "numbers of NumPy": {"seed": np.int64(1), "working_point": np.float64(0.5)},
    "limits of NumPy": {"budget": Budget(rms=np.float64(0.1), correlation=np.float64(0.1))},
    "device": {"device": "cpu"},
    "no functions": {"valid": None},
    "factory": {"model": Model(WithK, WithK().state_dict())},
    "handles": {"model": conserv().handles},
    "mode": {"model": WithK().train(False)},
}


@pytest.mark.parametrize("what", SAME)
def test_what_does_not_count(plain, what):
    """Labels, the device, types of numbers and the way a model is given do not count."""
    made, sums = plain
    other = conserv(**SAME[what])
    assert other.config == made.config
    assert other.result(sums).verdict.passed == made.result(sums).verdict.passed


def test_the_order_of_a_dict_of_bands_does_not_count():
    """The same limits in another order are the same limits."""
    first, second = ({"x": 0.1, "y": 0.2}, {"y": 0.2, "x": 0.1})
    assert conserv(budget=Budget(band=first)).config == conserv(budget=Budget(band=second)).config


def test_another_session_finds_the_same_hash(plain):
    """An output that was written yesterday can be judged today."""
    code = "from made_conserv import conserv, near; print(conserv().config, conserv(valid=near).config)"
    done = subprocess.run(  # noqa: S603 -- our own code
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [plain[0].config, conserv(valid=near).config]


def test_a_setting_can_be_replaced(plain):
    """A copy with another seed is another attack; one with nothing changed is the same."""
    made, sums = plain
    assert replace(made).config == made.config
    other = replace(made, seed=5)
    assert other.config == conserv(seed=5).config != made.config
    assert difference(call(replace(made), events(40)), sums) == 0


def test_the_configuration_travels(plain):
    """A copy on a worker has the hash of the client, and checks nothing again."""
    made, sums = plain
    travelled = pickle.loads(cloudpickle.dumps(made))  # noqa: S301 -- written here
    assert travelled.config == made.config
    assert difference(call(travelled, events(40)), sums) == 0


def test_large_axes_are_not_abbreviated():
    """Two axes of 2000 bins that differ in one edge are two configurations."""
    edges = np.linspace(-3, 3, 2001)
    moved = np.where(np.arange(2001) == 1000, edges + 1e-5, edges)
    configs = [
        conserv(features=[Feature("x", hist.axis.Variable(e)), *features()[1:]]).config
        for e in (edges, moved)
    ]
    assert configs[0] != configs[1]


def test_two_modules_with_the_same_parameters_are_one_model():
    """Whoever makes the same module twice, in training mode or not, can merge the outputs."""
    state = torch.get_rng_state()
    first, second = conserv(model=WithK()), conserv(model=WithK())
    assert first.config == second.config
    assert call(first, events(40), chunk="a") + call(second, events(40), chunk="b")
    assert torch.equal(torch.get_rng_state(), state)
