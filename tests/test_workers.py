"""Models on workers: how they travel, that they are loaded once, and what happens if a worker dies."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path

import hist
import lz4.frame
import numpy as np
import pytest
import torch
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import DaskExecutor, FuturesExecutor, IterativeExecutor, Runner, SimpleCheckpointer
from made_conserv import Ring, WithK, call, conserv, difference, events
from made_processor import Analysis, write_files
from torch import nn

from coffea_conserv import Feature, InputError, MergeError, ModelError, Pickled, Shared
from coffea_conserv.models import handle as module_under_test
from coffea_conserv.models.loading import make_handles
from coffea_conserv.solvers.transport.solver import Transport

CPU = torch.device("cpu")
CHUNK = 150


def large():
    """A network of 17 MB that gives the same logits as a small one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Large()


class Large(nn.Module):
    """A small network beside parameters that only take room."""

    def __init__(self):
        super().__init__()
        self.small = nn.Linear(3, 1)
        self.ballast = nn.Parameter(torch.rand(4_250_000))

    def forward(self, x):
        """Logits, shape (events,)."""
        return self.small(x.clamp(-5, 5)).squeeze(1) + 0 * self.ballast[0]


def test_a_shared_model_is_the_same_model(tmp_path):
    """Same hashes, same logits; the handle is small, and the file is there once, whole."""
    (plain,), (shared,) = make_handles(Ring()), make_handles(Shared(Ring(), tmp_path))
    assert (shared.digest, shared.content, shared.facts) == (plain.digest, plain.content, plain.facts)
    assert (shared.payload, shared.file) == (b"", str(tmp_path / f"{plain.digest}.model"))
    assert Path(shared.file).read_bytes() == plain.payload
    before = Path(shared.file).stat().st_mtime_ns
    assert make_handles(Shared(Ring(), tmp_path)) == (shared,)
    assert Path(shared.file).stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == [f"{plain.digest}.model"]
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    module_under_test._cache.clear()
    one = shared.load(CPU)(x)
    module_under_test._cache.clear()
    assert torch.equal(one, plain.load(CPU)(x))
    folds = make_handles(Shared([Ring(), large()], tmp_path))
    assert [bool(handle.file) for handle in folds] == [True, True]


def test_a_shared_model_changes_no_configuration(tmp_path):
    """The attack has the hash and the answer of one that carries its model."""
    plain, shared = conserv(), conserv(model=Shared(WithK(), tmp_path))
    assert shared.config == plain.config
    assert len(pickle.dumps(shared.handles)) < 1000
    assert difference(call(shared, events()), call(plain, events())) == 0


def test_what_is_wrong_with_a_shared_file_is_no_oserror(tmp_path):
    """Missing, damaged, or a folder that cannot be written: a ModelError with the remedy."""
    (shared,) = make_handles(Shared(Ring(), tmp_path))
    module_under_test._cache.clear()
    content = Path(shared.file).read_bytes()
    Path(shared.file).write_bytes(content[:-1] + b"x")
    with pytest.raises(ModelError, match=r"the shared model .* is damaged or was replaced: its content has"):
        shared.load(CPU)
    Path(shared.file).unlink()
    with pytest.raises(ModelError, match=r"cannot be read here .*; give Shared a folder that the client"):
        shared.load(CPU)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"the shared model cannot be written to .*; give another folder"):
        make_handles(Shared(Ring(), tmp_path / "file"))
    assert not issubclass(ModelError, OSError)


def test_whole_modules_in_files_are_read_only_when_asked(tmp_path):
    """A pickle runs code: without Pickled it is refused with what to say, with it the module is there."""
    path = tmp_path / "module.pt"
    torch.save(Ring(), path)
    with pytest.raises(ModelError, match=r"or Pickled\(path\) if it holds a whole module and you trust"):
        make_handles(path)
    (handle,) = make_handles(Pickled(path))
    assert handle.content == make_handles(Ring())[0].content
    torch.save(Ring().state_dict(), path)
    with pytest.raises(ModelError, match=r"holds a OrderedDict, no module; give Model\(factory, path\)"):
        make_handles(Pickled(path))
    path.write_text("nothing")
    with pytest.raises(ModelError, match="holds no module that can be read"):
        make_handles(Pickled(path))
    with pytest.raises(ModelError, match=r"does not exist; write it with torch\.save"):
        make_handles(Pickled(tmp_path / "none.pt"))


def test_onnx_files_become_modules_with_gradients(tmp_path):
    """Through onnx2torch, where it is installed; the logits are those of the module."""
    pytest.importorskip("onnx2torch", reason="onnx2torch of the extra 'onnx' is not installed")
    import onnx  # noqa: PLC0415
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    weight = np.array([[1.0], [-2.0], [0.5]], np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    (handle,) = make_handles(path)
    x = torch.randn(5, 3, requires_grad=True)
    y = handle.load(CPU)(x)
    torch.testing.assert_close(y.detach().numpy(), x.detach().numpy() @ weight)
    assert torch.autograd.grad(y.sum(), x)[0].shape == (5, 3)
    path.write_bytes(b"nothing of it")
    with pytest.raises(ModelError, match=r"net\.onnx cannot be made a module of torch"):
        make_handles(path)


def test_onnx_without_its_extra_says_what_to_install(tmp_path, monkeypatch):
    """The file is looked for first, then the packages."""
    with pytest.raises(ModelError, match=r"net\.onnx does not exist; write it with torch\.onnx\.export"):
        make_handles(tmp_path / "net.onnx")
    (tmp_path / "net.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"needs onnx: pip install 'coffea-conserv\[onnx\]'"):
        make_handles(tmp_path / "net.onnx")
    monkeypatch.undo()
    (tmp_path / "onnx.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnx", raising=False)
    with pytest.raises(ModelError, match=r"cannot be imported: operator .*; torch and torchvision have"):
        make_handles(tmp_path / "net.onnx")


# ---------------------------------------------------------------------------------------- many chunks


class Counting(logging.Handler):
    """Counts how often a model is loaded in this process."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def emit(self, record):
        """Count one message."""
        self.count += "loaded model" in record.getMessage()


class Loads(Analysis):
    """The analysis, which also says how often its process has loaded the model."""

    counter = None

    def process(self, events):
        """Process a chunk, and return the number of loads by process."""
        if Loads.counter is None:
            Loads.counter = Counting()
            logger = logging.getLogger("coffea_conserv.models.handle")
            logger.addHandler(Loads.counter)
            logger.setLevel(logging.DEBUG)
        output = super().process(events)
        return {**output, "loads": {(os.getpid(), Loads.counter.count)}}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Fileset of small flat files."""
    return write_files(tmp_path_factory.mktemp("files"), CHUNK)


def run(using, files, processor, chunksize=CHUNK, **options):
    """Run a processor over all files."""
    runner = Runner(using, schema=BaseSchema, chunksize=chunksize, **options)
    return runner(files, processor, treename="Events")


@pytest.mark.slow
@pytest.mark.parametrize("executor", [IterativeExecutor, FuturesExecutor])
def test_a_large_model_is_loaded_once_by_each_process(executor, files, tmp_path):
    """17 MB over 80 chunks: one load in every process, whichever executor."""
    model = Shared(large(), tmp_path)
    module_under_test._cache.clear()
    Loads.counter = None
    options = {"workers": 2} if executor is FuturesExecutor else {}
    total = sum(entry_events(files).values())
    size = max(1, total // 80)
    output = run(executor(status=False, **options), files, Loads(conserv(model=model)), chunksize=size)
    counts = {}
    for pid, count in output["loads"]:
        counts[pid] = max(counts.get(pid, 0), count)
    # the client has loaded it when the attack was made
    assert set(counts.values()) == {0 if executor is IterativeExecutor else 1}
    assert sum(len(chunks) for chunks in output["conserv"].chunks.values()) >= 60


def entry_events(files):
    """Events of each dataset."""
    found = {}
    for name, entry in files.items():
        paths = entry["files"]
        found[name] = sum(uproot.open(f"{path}:Events").num_entries for path in paths)
    return found


class Slow(Analysis):
    """The analysis, whose chunks take long enough for a worker to be killed meanwhile."""

    def process(self, events):
        """Wait a little first."""
        time.sleep(0.3)
        return super().process(events)


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(files):
    """Two workers, one killed in mid-run: the same sums, and no chunk is missing."""
    distributed = pytest.importorskip("distributed")
    reference = run(IterativeExecutor(status=False), files, Analysis(conserv()))
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        pids = client.run(os.getpid)
        client.run_on_scheduler(_kill_later, next(iter(pids.values())))
        output = run(DaskExecutor(client=client, status=False, retries=3), files, Slow(conserv()))
        assert next(iter(pids.values())) not in client.run(os.getpid).values()
    assert difference(output["conserv"], reference["conserv"]) <= 1e-12
    assert output["conserv"].chunks.keys() == reference["conserv"].chunks.keys()
    for dataset, chunks in reference["conserv"].chunks.items():
        assert {k: v.tolist() for k, v in output["conserv"].chunks[dataset].items()} == {
            k: v.tolist() for k, v in chunks.items()
        }


def _kill_later(pid):
    """Kill a process after a while, from the scheduler's."""
    threading.Timer(1.5, os.kill, (pid, signal.SIGKILL)).start()


def test_a_checkpoint_of_another_configuration_is_an_error(files, tmp_path):
    """Its outputs are refused by the result; mixed with new ones they do not merge."""
    first, second = conserv(), conserv(seed=2)
    kept = {"checkpointer": SimpleCheckpointer(str(tmp_path))}
    output = run(IterativeExecutor(status=False), files, Analysis(first), **kept)
    stale = run(IterativeExecutor(status=False), files, Analysis(second), **kept)
    assert stale["conserv"].config == first.config != second.config
    with pytest.raises(InputError, match=r"was made with another configuration .*; use the one that"):
        second.result(stale["conserv"])
    assert first.result(output["conserv"]).verdict.passed
    some = next(path for path in tmp_path.rglob("*") if path.is_file())
    some.unlink()
    with pytest.raises((MergeError, Exception)) as caught:
        run(IterativeExecutor(status=False), files, Analysis(second), **kept)
    causes, error = [], caught.value
    while error is not None:
        causes.append(error)
        error = error.__cause__ or error.__context__
    assert any(isinstance(one, MergeError) and "a folder of its own" in str(one) for one in causes)


def test_the_output_of_a_large_run_is_small():
    """200 datasets × 3 regions × 20 features: less than 50 MB when coffea has compressed it."""
    axis = hist.axis.Regular(40, -3, 3)
    features = [Feature(f"q{j}", axis) for j in range(20)]
    made = conserv(model=Sum(), features=features, watch=None, solver=Transport(steps=1, rounds=1))
    rng = np.random.default_rng(1)
    regions = {name: np.arange(300) % 3 == k for k, name in enumerate("abc")}
    parts = []
    for k in range(200):
        columns = {feature.name: rng.normal(size=300).astype(np.float32) for feature in features}
        weight = rng.uniform(0.5, 1.5, 300)
        parts.append(made(columns, weight=weight, regions=regions, dataset=f"d{k}", chunk="c"))
    while len(parts) > 1:  # as a tree, which is how Dask merges
        parts = [a if b is None else a + b for a, b in zip(parts[::2], [*parts[1::2], None], strict=False)]
    plain = pickle.dumps(parts[0])
    compressed = lz4.frame.compress(plain)
    assert len(parts[0].chunks) == 200
    assert len(compressed) < len(plain) < 100e6
    assert len(compressed) < 50e6
    assert difference(pickle.loads(plain), parts[0]) == 0  # noqa: S301 -- made above


class Sum(nn.Module):
    """The sum of all features."""

    def forward(self, x):
        """Logits, shape (events,)."""
        return x.sum(1)
