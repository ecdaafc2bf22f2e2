"""What several files of tests need and only one of them should make."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_folder():
    """Folder of the real files."""
    named = os.environ.get("COFFEA_CONSERV_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("COFFEA_CONSERV_DATA does not name a folder of real files")
    return Path(named)


@pytest.fixture(scope="session")
def higgs_training(real_folder, tmp_path_factory):
    """Classifiers of H → ττ, trained once as the example trains them."""
    from example_analysis.inputs import read_fileset  # noqa: PLC0415 -- torch and coffea are slow to import
    from example_analysis.train import ANALYSES, train  # noqa: PLC0415

    files = read_fileset("htautau", real_folder)
    return train(ANALYSES["htautau"], files, tmp_path_factory.mktemp("higgs"))


@pytest.fixture(scope="session")
def nano_path(tmp_path_factory):
    """One small NanoAOD file."""
    from made_nano import write  # noqa: PLC0415 -- coffea and torch are slow to import

    return write(tmp_path_factory.mktemp("nano") / "tt.root")


@pytest.fixture
def nano(nano_path):
    """Its events, with the factory that keeps them."""
    from made_nano import WHERE, opened  # noqa: PLC0415

    factory, events = opened(nano_path, **WHERE)
    yield events
    del factory


@pytest.fixture(autouse=True)
def judged_twice(monkeypatch):
    """The verdict of every attack on arrays is made again by slow twins, on the matrix that is returned."""
    api = sys.modules.get("coffea_conserv.attacks.api")
    if api is None:  # the file of this test does not import it
        return
    from slow_verdict import assert_judged  # noqa: PLC0415 -- torch and hist are slow to import

    finish = api.Ready.finish

    def twice(ready, outcome):
        result = finish(ready, outcome)
        scores = api.signed_scores(ready.batch, outcome.x, ready.models, ready.device)
        assert_judged(ready.batch, ready.task, outcome.x, result.verdict.limits, scores)
        return result

    monkeypatch.setattr(api.Ready, "finish", twice)


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """Every kind of device that is here."""
    import torch  # noqa: PLC0415 -- slow to import

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return request.param
