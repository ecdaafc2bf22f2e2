"""The README's code runs, in the order of the page, on real ROOT files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner
from made_flat import write_files, write_model
from made_problems import Ring, made_batch
from made_problems import features as ring_features

from coffea_conserv import Budget

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(
    r"<!-- example: tests/test_readme.py runs this -->\n```python\n(.*?)```", README, re.DOTALL
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the model and the files that the example names, and coffea's fileset."""
    monkeypatch.chdir(tmp_path)
    write_model("classifier.pt2", features=6)
    return tmp_path, write_files(tmp_path)


def test_the_analysis_runs_and_its_result_is_what_is_promised(folder):
    """The first two blocks: an analysis with the attack in it, then verdict, histograms and templates."""
    names: dict[str, object] = {}
    exec(compile(BLOCKS[0], "README.md", "exec"), names)  # noqa: S102 -- our own page
    path, fileset = folder
    runner = Runner(IterativeExecutor(status=False), schema=BaseSchema, chunksize=1000)
    names["out"] = runner(fileset, names["MyAnalysis"](), treename="Events")
    exec(compile(BLOCKS[1], "README.md", "exec"), names)  # noqa: S102 -- our own page
    result = names["result"]
    assert result.verdict.passed
    assert {row.name for row in result.fooling} == {"W", "W1Jets", "W2Jets", "all simulation"}
    assert max(row.score_shift for row in result.fooling) > 0.01
    assert list(result.hist("pt_1").axes[0]) == ["W", "data"]
    with uproot.open("templates.root") as file:
        assert {"jets/W", "jets/W_conservUp", "jets/W_conservDown", "jets/data_obs"} <= {
            key.split(";")[0] for key in file
        }
    assert (path / "verdict.json").is_file()


def test_arrays_can_be_attacked():
    """The third block."""
    names = {"x": made_batch(500).x, "model": Ring(), "features": ring_features(), "Budget": Budget}
    exec(compile(BLOCKS[2], "README.md", "exec"), names)  # noqa: S102 -- our own page
    assert names["result"].verdict.passed
    assert len(BLOCKS) == 3


def test_files_that_are_named_exist():
    """Links to files and pictures of the repository lead somewhere."""
    here = Path(__file__).parents[1]
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (here / target).is_file(), target
