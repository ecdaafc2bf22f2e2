"""Models of coffea.ml_tools: called as the analysis calls them, with the file in the luggage."""

from __future__ import annotations

import pickle
import warnings

import awkward as ak
import cloudpickle
import numpy as np
import pytest
import torch
from coffea.ml_tools.torch_wrapper import torch_wrapper
from coffea.processor import FuturesExecutor, IterativeExecutor
from made_conserv import MISSING, Ring, call, conserv, difference, events
from made_processor import Analysis, write_files
from test_workers import run

from coffea_conserv import Callback, ModelError
from coffea_conserv.adapters import from_wrapper
from coffea_conserv.models.loading import make_handles

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:`torch\.jit\.\w+` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:No format checks were performed on input"),
]
NAMES = ("x", "y", "k")


class Wrapper(torch_wrapper):
    """Prepares columns: y counts twice, which only prepare_awkward knows."""

    def prepare_awkward(self, x, y, k):
        """Stack the columns to a matrix."""
        y = ak.where(y == MISSING, y, 2 * y)
        return [ak.concatenate([one[:, None] for one in (x, y, k)], axis=1)], {}


@pytest.fixture
def program(tmp_path):
    """TorchScript file of the ring."""
    path = tmp_path / "ring.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(Ring().eval(), torch.ones(4, 3)), path)
    return path


@pytest.fixture
def matrix():
    """Some events."""
    columns = events()
    return np.stack([columns[name] for name in NAMES], axis=1).astype(np.float32)


def test_prepare_awkward_is_honoured(program, matrix):
    """The logits are what the wrapper gives for the columns, hence those of doubled y."""
    wrapper = Wrapper(str(program))
    function = from_wrapper(wrapper, NAMES)
    expected = wrapper(*(ak.Array(matrix[:, j]) for j in range(3)))
    made = function(matrix)
    assert np.array_equal(made, ak.to_numpy(expected))
    there = matrix[:, 1] != MISSING
    assert np.allclose(made[there], 1.44 - matrix[there, 0] ** 2 - 4 * matrix[there, 1] ** 2, atol=1e-5)


def test_the_file_travels(program, matrix):
    """A worker that has no file has the model; handles do not depend on the path, nor on having been used."""
    function = from_wrapper(Wrapper(str(program)), NAMES)
    before = make_handles(Callback(function))[0]
    made = function(matrix)
    after = make_handles(Callback(function))[0]
    other = program.with_name("other.pt")
    program.rename(other)
    assert np.array_equal(pickle.loads(cloudpickle.dumps(function))(matrix), made)  # noqa: S301 -- made above
    moved = make_handles(Callback(from_wrapper(Wrapper(str(other)), NAMES)))[0]
    assert before.content == after.content == moved.content
    assert (before.digest, len(before.payload)) == (after.digest, len(after.payload))


def test_arguments_can_be_made(program, matrix):
    """inputs= makes what the analysis gives to its wrapper, for example records."""

    class OfRecords(Wrapper):
        def prepare_awkward(self, some):
            return super().prepare_awkward(some.x, some.y, some.k)

    function = from_wrapper(OfRecords(str(program)), NAMES, inputs=lambda q: (ak.zip(q),))
    assert np.array_equal(function(matrix), from_wrapper(Wrapper(str(program)), NAMES)(matrix))


def test_an_attack_of_a_wrapper(program):
    """It fools, within the limits, and as the same network given as a module does."""

    class Doubled(Ring):
        def forward(self, x):
            scale = torch.where(x == MISSING, 1.0, torch.tensor([1.0, 2.0, 1.0]))
            return super().forward(x * scale)

    callback = Callback(from_wrapper(Wrapper(str(program)), NAMES))
    found = [
        made.result(call(made, events(4000))) for made in (conserv(model=callback), conserv(model=Doubled()))
    ]
    assert all(result.verdict.passed for result in found)
    ratios = [result.fooling_of("all simulation", "low").ratio for result in found]
    assert ratios[0] > 0.05
    assert ratios[0] == pytest.approx(ratios[1], rel=0.1)


@pytest.mark.slow
def test_workers_have_it_too(program, tmp_path):
    """Processes of a pool, after the file is gone, give the same sums."""
    made = conserv(model=Callback(from_wrapper(Wrapper(str(program)), NAMES)))
    program.unlink()
    files = write_files(tmp_path)
    reference = run(IterativeExecutor(status=False), files, Analysis(made))
    output = run(FuturesExecutor(status=False, workers=2), files, Analysis(made))
    assert difference(output["conserv"], reference["conserv"]) <= 1e-12


def test_errors_say_what_to_do(program, matrix):
    """Of what is no wrapper, of a file that is not there, of what it gives."""
    with pytest.raises(ModelError, match=r"is no wrapper; give an object of your subclass of"):
        from_wrapper(Ring(), NAMES)
    with pytest.raises(ModelError, match=r"is no wrapper; give an object"):
        from_wrapper(Wrapper, NAMES)
    with pytest.raises(ModelError, match=r"none\.pt of Wrapper cannot be read .*; write it with torch\.jit"):
        from_wrapper(Wrapper("none.pt"), NAMES)
    with pytest.raises(ModelError, match=r"would not use its prepare_awkward on a matrix, for this one Call"):
        Callback(Wrapper(str(program)))
    with pytest.raises(ModelError, match=r"is no model: .*Callback\(coffea_conserv\.adapters\.from_wrapper"):
        make_handles(Wrapper(str(program)))
    with pytest.raises(ModelError, match="must give a tuple of arguments for the wrapper, got Array"):
        from_wrapper(Wrapper(str(program)), NAMES, inputs=lambda q: q["x"])(matrix)

    class Ragged(Wrapper):
        def postprocess_awkward(self, made, *given):
            return ak.Array([[1.0], [1.0, 2.0]])

    with pytest.raises(ModelError, match="Ragged must give one value or one row per event"):
        from_wrapper(Ragged(str(program)), NAMES)(matrix)
