"""What several files of tests need and only one of them should make."""

from __future__ import annotations

import os
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
