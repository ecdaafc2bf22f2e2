"""Flags: what says yes or no is read by one function, and a text is neither."""

from __future__ import annotations

import json
from dataclasses import replace

import hist
import numpy as np
import pytest
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, ProcessorABC, Runner
from hypothesis import given
from hypothesis import strategies as st
from made_flat import write_files
from torch import nn
from typer.testing import CliRunner

from coffea_conserv import (
    Budget,
    Classes,
    ConfigurationError,
    Conserv,
    ConservProcessor,
    Feature,
    InputError,
    Treatment,
)
from coffea_conserv.checks import as_flag
from coffea_conserv.cli.app import app
from coffea_conserv.exports import Measurement
from coffea_conserv.running.runs import read_fileset
from coffea_conserv.solvers.transport.solver import Transport

YES = [True, np.bool_(True), 1, np.int64(1)]
NO = [False, np.bool_(False), 0, np.uint8(0)]
NEITHER = [
    "False",
    "false",
    "0",
    "",
    "True",
    None,
    2,
    -1,
    0.0,
    1.0,
    float("nan"),
    [],
    [True],
    b"1",
    np.array([True]),
]


def test_what_says_yes_and_no():
    """Booleans of Python and NumPy, 1 and 0; the answer is a plain Boolean."""
    assert [as_flag("x", value) for value in YES] == [True] * 4
    assert [as_flag("x", value) for value in NO] == [False] * 4
    assert all(type(as_flag("x", value)) is bool for value in (*YES, *NO))


@pytest.mark.parametrize("value", NEITHER, ids=repr)
def test_anything_else_is_refused(value):
    """By name and value."""
    with pytest.raises(ConfigurationError, match=r"^smooth must be true or false, got "):
        as_flag("smooth", value)


@given(st.text() | st.floats() | st.integers().filter(lambda n: n not in (0, 1)) | st.binary())
def test_no_text_and_no_other_number_is_a_flag(value):
    """Whatever it says."""
    with pytest.raises(InputError, match="must be true or false"):
        as_flag("data", value, error=InputError)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda flag: Feature("x", hist.axis.Regular(4, 0, 1), frozen=flag), "feature 'x': frozen"),
        (lambda flag: Treatment(smooth=flag), "smooth"),
        (lambda flag: Measurement(signal="VBF", blind=flag), "blind"),
        (lambda flag: Classes(1, argmax=flag), "Classes: argmax"),
    ],
)
def test_settings_that_say_yes_or_no(make, name):
    """A text does not freeze, smooth, unblind or take a maximum."""
    assert make(np.bool_(False)) == make(False)
    with pytest.raises(
        ConfigurationError, match=f"^{name} must be true or false, got 'False'; write it without quotes"
    ):
        make("False")


class Counting(ProcessorABC):
    """An analysis that takes the flag of its metadata as it is, as most do."""

    def __init__(self, attack):
        self.conserv = attack

    def process(self, events):
        """Attack all events; real data have no weight."""
        flag = events.metadata["is_data"]
        columns = {name: np.asarray(events[name]) for name in ("pt_1", "phi_1")}
        everywhere = {"all": np.ones(len(events), dtype=bool)}
        weight = None if flag is True else np.asarray(events.weight)
        return {"conserv": self.conserv(columns, regions=everywhere, weight=weight, events=events, data=flag)}

    def postprocess(self, accumulator):
        """Leave it."""
        return accumulator


@pytest.fixture(scope="module")
def fileset(tmp_path_factory):
    """Flat files of two simulated datasets and of real data."""
    return write_files(tmp_path_factory.mktemp("flags"), 300)


def flagged(fileset, dataset, flag, name="is_data"):
    """The fileset with another flag of a dataset."""
    metadata = {**fileset[dataset]["metadata"], name: flag}
    return {**fileset, dataset: {**fileset[dataset], "metadata": metadata}}


class Total(nn.Module):
    """Large momenta are signal."""

    def forward(self, x):
        """Give logits."""
        return (x[:, 0] - 45) / 20


@pytest.fixture(scope="module")
def attack():
    """An attack on two columns of the files."""
    axes = hist.axis.Regular(20, 0, 200), hist.axis.Regular(8, -4, 4)
    features = [Feature(name, axis) for name, axis in zip(("pt_1", "phi_1"), axes, strict=True)]
    return Conserv(model=Total(), features=features, budget=Budget(rms=0.1), solver=Transport(steps=3))


def wrapped(attack):
    """The same without a line in the analysis."""
    return ConservProcessor(
        lambda events: {"n": len(events)},
        attack,
        columns={"pt_1": "pt_1", "phi_1": "phi_1"},
        regions=lambda events: {"all": np.ones(len(events), dtype=bool)},
        weight=lambda events: events.weight,
    )


def ran(fileset, processor):
    """Sums of a run."""
    executor = IterativeExecutor(status=False)
    runner = Runner(executor, schema=BaseSchema, chunksize=200, metadata_cache={})
    return runner(fileset, processor, treename="Events")["conserv"]


@pytest.mark.parametrize("make", [Counting, wrapped])
def test_a_text_does_not_turn_simulation_into_data(fileset, attack, make):
    """In the metadata of a fileset, in the call and in the wrapper: dataset and value are named."""
    right = ran(fileset, make(attack))
    assert {name: count > 0 for name, count in right.real.items()} == {
        "W1Jets": False,
        "W2Jets": False,
        "Run2012B": True,
    }
    numbers = ran(flagged(flagged(fileset, "W1Jets", 0), "Run2012B", 1), wrapped(attack))
    assert numbers.real == right.real
    np.testing.assert_array_equal(
        numbers.counts["W1Jets", "all", "conservUp"], right.counts["W1Jets", "all", "conservUp"]
    )
    for flag in ("False", "no", None):
        with pytest.raises(Exception, match=r"dataset 'W1Jets': .*must be true or false, got") as caught:
            ran(flagged(fileset, "W1Jets", flag), make(attack))
        assert any(isinstance(one, InputError) for one in (caught.value, caught.value.__cause__))


def test_a_function_that_returns_a_text_is_refused(fileset, attack):
    """``data=`` of the wrapper may be a function of the events."""
    processor = wrapped(attack)
    processor.attack = replace(processor.attack, data=lambda events: "no")
    with pytest.raises(
        Exception, match="dataset 'W1Jets': what data= returns must be true or false, got 'no'"
    ):
        ran(fileset, processor)


CONFIG = """
wrapper: {columns: {x: x}, regions: "math:sqrt", data: real}
processor: my:Analysis
budget: {rms: 0.1}
features: {x: {axis: {bins: 4, start: 0, stop: 1}}}
"""


def test_a_fileset_is_refused_before_the_run(fileset, tmp_path):
    """By the command line, before any file is opened; so is another name of the flag."""
    path = tmp_path / "fileset.json"
    path.write_text(json.dumps(flagged(fileset, "W2Jets", "False")))
    with pytest.raises(
        ConfigurationError, match=r"dataset W2Jets: 'is_data' .*must be true or false, got 'False'"
    ):
        read_fileset(path)
    (tmp_path / "c.yaml").write_text(CONFIG)
    common = ["plan", "--config", str(tmp_path / "c.yaml"), "--fileset", str(path)]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, common)
    assert done.exit_code == 2
    assert "dataset W2Jets: 'is_data' of its metadata must be true or false, got 'False'" in done.output
    for given_, message in (
        (fileset, "dataset 'W1Jets': its metadata have no 'real', which says whether it is real data"),
        (
            {name: {**entry, "metadata": {"real": "yes"}} for name, entry in fileset.items()},
            "dataset 'W1Jets': 'real' of its metadata must be true or false, got 'yes'",
        ),
    ):
        path.write_text(json.dumps(given_))
        done = CliRunner(env={"COLUMNS": "200"}).invoke(app, common)
        assert done.exit_code == 2
        assert message in done.output
