"""Models in a folder that all share: what lies there is what was given, or it is an error."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from coffea.processor import FuturesExecutor, IterativeExecutor
from made_conserv import WithK, call, conserv, difference, events
from made_processor import Analysis, write_files
from test_workers import run

from coffea_conserv import ModelError, Shared
from coffea_conserv.models import handle as module_under_test
from coffea_conserv.models.loading import make_handles

CPU = torch.device("cpu")


def spoil(path):
    """Change one byte in the middle; the file is as long as it was."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


DAMAGES = {
    "one byte": spoil,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "other model": lambda path: path.write_bytes(make_handles(WithK(2.0))[0].payload),
    "nothing": lambda path: path.write_bytes(b""),
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A process that has loaded no model yet."""
    monkeypatch.setattr(module_under_test, "_cache", {})


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_replaced(damage, tmp_path):
    """The file of an earlier run is compared by its content: the sums are those of the given model."""
    expected = call(conserv(), events())
    (shared,) = make_handles(Shared(WithK(), tmp_path))
    path, whole = Path(shared.file), Path(shared.file).read_bytes()
    DAMAGES[damage](path)
    module_under_test._cache.clear()
    made = conserv(model=Shared(WithK(), tmp_path))
    assert path.read_bytes() == whole
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    module_under_test._cache.clear()
    sums = call(pickle.loads(pickle.dumps(made)), events())  # noqa: S301 -- made above
    assert difference(sums, expected) == 0
    assert made.result(sums).verdict.passed


def test_a_file_that_cannot_be_replaced_is_named(tmp_path):
    """Where a folder has the name of the file, nothing is taken for the model."""
    (shared,) = make_handles(Shared(WithK(), tmp_path))
    path = Path(shared.file)
    path.unlink()
    path.mkdir()
    with pytest.raises(ModelError, match=rf"cannot be written to {path} .*; give another folder"):
        make_handles(Shared(WithK(), tmp_path))


@pytest.mark.parametrize("executor", [IterativeExecutor, FuturesExecutor])
@pytest.mark.slow
def test_a_file_that_is_damaged_later_stops_the_run(executor, tmp_path):
    """A worker compares too: the run ends with file and remedy, and no chunk is dropped."""
    files = write_files(tmp_path)
    made = conserv(model=Shared(WithK(), tmp_path / "models"))
    path = Path(made.handles[0].file)
    spoil(path)
    module_under_test._cache.clear()
    options = {"workers": 1} if executor is FuturesExecutor else {}
    with pytest.raises(Exception, match=rf"{path} is damaged or was replaced: .*; make the attack anew"):
        run(executor(status=False, **options), files, Analysis(made))
    again = conserv(model=Shared(WithK(), tmp_path / "models"))
    output = run(executor(status=False, **options), files, Analysis(again))
    expected = run(IterativeExecutor(status=False), files, Analysis(conserv()))
    assert difference(output["conserv"], expected["conserv"]) <= 1e-12


def test_writers_at_the_same_time_do_not_meet(tmp_path):
    """Eight threads write one file: all of them succeed, it is whole, and nothing else is left."""
    (plain,) = make_handles(WithK())
    start = threading.Barrier(8)

    def write(_):
        start.wait()
        return module_under_test.put_aside(plain, tmp_path)

    with ThreadPoolExecutor(8) as pool:
        (shared,) = set(pool.map(write, range(8)))
    assert Path(shared.file).read_bytes() == plain.payload
    assert [one.name for one in tmp_path.iterdir()] == [f"{plain.digest}.model"]
