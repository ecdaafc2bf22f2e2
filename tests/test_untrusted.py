"""Files of models of somebody else run no code, neither here nor on workers; honest ones are read."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from coffea.processor import FuturesExecutor, IterativeExecutor
from made_conserv import WithK, conserv, difference
from made_models import FEATURES, Net, X, evaluated, exported, net, run_attack
from made_pages import importable, prepare
from made_payloads import (
    REFUSED,
    REPLACED,
    SCRIPTS,
    STATES,
    Constant,
    Payload,
    archive,
    members,
    old,
    program,
    saved,
    state,
)
from made_processor import Analysis, write_files
from test_running import block, call
from test_workers import run
from torch import nn

from coffea_conserv import Budget, Conserv, Model, ModelError, Pickled, Shared
from coffea_conserv.adapters import from_wrapper
from coffea_conserv.models import handle as module_under_test
from coffea_conserv.models.archive import clean_program
from coffea_conserv.models.loading import make_handles

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings(r"ignore:`torch\.jit\.\w+` is deprecated:DeprecationWarning")


@pytest.fixture
def mark(tmp_path):
    """What a payload would make."""
    return tmp_path / "was here"


def written(folder, content, name="model.pt2"):
    """Write a file of a model."""
    path = folder / name
    path.write_bytes(content)
    return path


def loaded(content):
    """What torch itself makes of a file, with whatever happens."""
    try:
        torch.export.load(io.BytesIO(content)).module()(X)
    except Exception:  # noqa: BLE001 -- of any kind, after the payload has run
        return


# --- torch.export ------------------------------------------------------------------------------------------


RUN = [
    *("example inputs", "guards", "example inputs of torch before 2.8", "weights", "constants", "sizes"),
    *("opaque constants", "parameters of torch before 2.8", "weights of torch 2.8"),
]


@pytest.mark.parametrize("kind", RUN)
def test_the_payloads_would_run(kind, mark, caplog):
    """Torch itself runs them: without that the tests below would prove nothing."""
    caplog.set_level("CRITICAL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded((REPLACED | REFUSED)[kind](mark))
    assert mark.is_dir()


@pytest.mark.parametrize("kind", REPLACED)
def test_what_is_not_needed_is_left_out(kind, mark, tmp_path, caplog):
    """The attack is that of the honest file, bit for bit, and nothing has run."""
    caplog.set_level("CRITICAL")
    path = written(tmp_path, REPLACED[kind](mark))
    (handle,) = make_handles(path)
    torch.testing.assert_close(handle.load(CPU)(X).detach(), evaluated(net()))
    result, expected = run_attack(path), run_attack(exported(net().eval()))
    assert result.fooling_ratio == expected.fooling_ratio > 0
    np.testing.assert_array_equal(result.x, expected.x)
    assert not mark.exists()


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_needed_and_could_run_is_refused(kind, mark, tmp_path):
    """With the file, the reason and the remedy, before torch has seen it."""
    path = written(tmp_path, REFUSED[kind](mark))
    text = (
        r"model\.pt2 is refused, because reading or calling it could run code: .+; write it with torch\.exp"
    )
    for ask in (make_handles, run_attack):
        with pytest.raises(ModelError, match=text):
            ask(path)
    with pytest.raises(ModelError, match=text):
        Conserv(model=path, features=FEATURES, budget=Budget(rms=0.1))
    assert not mark.exists()


class Many(nn.Module):
    """Many operators, with names that are no identifiers."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({"b jet": nn.Linear(3, 4), "τ→μ": nn.Linear(4, 4)})
        self.norm, self.embedding = nn.BatchNorm1d(4), nn.Embedding(4, 4)
        self.transformer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.register_buffer("mean", torch.tensor([0.1, 0.2, torch.inf]).clamp(max=3))

    def forward(self, x):
        """Give logits."""
        with torch.no_grad():
            kind = x.detach().abs().clamp(max=3).long()[:, 0]
        x = torch.where(torch.isnan(x), 0, x) - self.mean
        h = self.parts["τ→μ"](torch.relu(self.parts["b jet"](x))) + self.embedding(kind)
        h = self.transformer(self.norm(h)[:, None])[:, 0]
        return torch.einsum("ij,j->i", h, h[:1].sum(1).expand(4) * 0 + 1) + x.view(x.shape[0], -1, 1).sum(
            (1, 2)
        )


class Branched(nn.Module):
    """Control flow and arithmetic of sizes."""

    def forward(self, x):
        """Give logits."""
        count = x.shape[0]
        y = x.repeat(2, 1)[:count] + torch.arange(count)[:, None] * 0 / (2 * count + 1)
        return torch.cond(x[0, 0] > -100, lambda y: y.sum(1), lambda y: 2 * y.sum(1), (y,))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("make", [Net, Constant, Many, Branched])
def test_honest_files_give_the_same_numbers(make, strict, tmp_path):
    """Names, buffers, constants, control flow, sizes: the same logits bit for bit, of a smaller file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make().eval()
        path = tmp_path / "model.pt2"
        torch.export.save(exported(module, strict=strict), path)
    (handle,) = make_handles(path)
    with torch.no_grad():
        assert torch.equal(handle.load(CPU)(X), module(X))
    assert clean_program(handle.payload) == handle.payload
    assert len(handle.payload) < path.stat().st_size


@pytest.mark.parametrize("version", ["before 2.8", "2.8"])
def test_honest_files_of_older_versions_are_read(version, tmp_path, caplog):
    """Parameters in one pickle of tensors, which is read as tensors and written again."""
    caplog.set_level("CRITICAL")
    content = old("")(None)
    if version == "2.8":
        parts = {n: part for n, part in program().items() if not n.startswith(("data/weights", "data/const"))}
        content = archive(
            parts
            | {
                "data/weights/model.pt": state(),
                "data/constants/model.pt": saved({}),
            }
        )
    (handle,) = make_handles(written(tmp_path, content))
    torch.testing.assert_close(handle.load(CPU)(X).detach(), evaluated(net()))


def test_the_hash_is_that_of_graph_and_tensors(tmp_path):
    """Two files of one program, written in two places, are one model."""
    contents = []
    for name in "ab":
        torch.export.save(exported(net().eval()), tmp_path / f"{name}.pt2")
        contents.append((tmp_path / f"{name}.pt2").read_bytes())
    assert contents[0] != contents[1]
    first, second = (make_handles(tmp_path / f"{name}.pt2")[0] for name in "ab")
    assert first == second
    torch.export.save(exported(net(1).eval()), tmp_path / "c.pt2")
    assert make_handles(tmp_path / "c.pt2")[0].content != first.content


# --- TorchScript, parameters, ONNX, pickles -----------------------------------------------------------------


@pytest.mark.parametrize("kind", SCRIPTS)
def test_torchscript_touches_no_files(kind, mark, tmp_path):
    """Its pickles are none of Python; code that writes or reads files is refused, in a wrapper too."""
    path = written(tmp_path, SCRIPTS[kind](mark), "model.pt")
    with pytest.raises(ModelError, match=r"model\.pt (is refused, because .* could run code|cannot be read)"):
        run_attack(path)
    if kind not in ("pickle", "constants"):
        with pytest.raises(ModelError, match=r"model\.pt of Wrapper is refused, .*: its code has"):
            from_wrapper(Wrapper(path), "xyz")
    assert not mark.exists()


class Wrapper:
    """As torch_wrapper of coffea.ml_tools, which reads its file when it is called."""

    def __init__(self, path):
        self.torch_jit = str(path)

    def prepare_awkward(self, *columns):
        """Leave them as they are."""
        return columns

    def __call__(self, *columns):
        """Not reached."""


def test_torchscript_would_touch_files(mark):
    """The interpreter of torch does what the code says: without that the test above would prove nothing."""
    torch.jit.load(io.BytesIO(SCRIPTS["save"](mark)))(X)
    assert mark.is_file()


@pytest.mark.parametrize("kind", STATES)
def test_files_of_parameters_hold_tensors(kind, mark, tmp_path):
    """Whatever container: tensors are read, and nothing else."""
    path = written(tmp_path, STATES[kind](mark), "state.pt")
    with pytest.raises(
        ModelError, match=r"state\.pt holds no parameters that torch\.load\(weights_only=True\)"
    ):
        run_attack(Model(Net, path))
    with pytest.raises(ModelError, match=r"state\.pt (is damaged|cannot be read|is refused)"):
        run_attack(path)
    assert not mark.exists()


def test_files_of_onnx_hold_numbers(mark, tmp_path):
    """A pickle with this ending is no ONNX."""
    pytest.importorskip("onnx2torch", reason="onnx2torch of the extra 'onnx' is not installed")
    for content in (pickle.dumps(Payload(mark)), saved(Payload(mark))):
        with pytest.raises(ModelError, match=r"net\.onnx cannot be made a module of torch"):
            make_handles(written(tmp_path, content, "net.onnx"))
    assert not mark.exists()


def test_pickled_runs_what_is_in_the_file(mark, tmp_path):
    """It is code by declaration, as the docs say."""
    with pytest.raises(ModelError, match="holds a NoneType, no module"):
        make_handles(Pickled(written(tmp_path, saved(Payload(mark)), "module.pt")))
    assert mark.is_dir()


# --- workers and the command line ---------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_read_what_the_client_has_read(mark, tmp_path):
    """Processes of a pool get the archive that was made anew, carried along or in a shared folder."""
    stream = io.BytesIO()
    torch.export.save(exported(WithK().eval()), stream)
    parts = members(stream.getvalue()) | {"data/sample_inputs/model.pt": saved(Payload(mark))}
    path = written(tmp_path, archive(parts))
    files = write_files(tmp_path)
    expected = run(IterativeExecutor(status=False), files, Analysis(conserv()))
    for model in (path, Shared(path, tmp_path / "models")):
        module_under_test._cache.clear()
        output = run(FuturesExecutor(status=False, workers=1), files, Analysis(conserv(model=model)))
        assert difference(output["conserv"], expected["conserv"]) <= 1e-12
    assert not mark.exists()


PLAN = ("plan", "--config", "conserv.yaml", "--fileset", "fileset.json")


def test_the_command_line_refuses_it_too(mark, tmp_path, monkeypatch):
    """``coffea-conserv plan`` ends with the file, the reason and the remedy."""
    (tmp_path / "user").mkdir()
    folder = prepare(tmp_path / "user", 200, quick=True)
    (folder / "conserv.yaml").write_text(block("file: conserv.yaml"))
    monkeypatch.chdir(folder)
    whole = Path("classifier.pt2").read_bytes()
    parts = members(whole)
    with importable(folder):
        honest = call(*PLAN)
        Path("classifier.pt2").write_bytes(
            archive(parts | {"data/sample_inputs/model.pt": saved(Payload(mark))})
        )
        replaced = call(*PLAN)
        Path("classifier.pt2").write_bytes(archive(parts | {"data/weights/model.pt": saved(Payload(mark))}))
        refused = call(*PLAN)
    assert (honest.exit_code, replaced.exit_code, refused.exit_code) == (0, 0, 2), refused.output
    assert "could run code: data/weights/model.pt holds more than tensors" in " ".join(refused.output.split())
    assert not mark.exists()
