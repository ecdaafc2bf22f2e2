"""The README's code runs, in the order of the page, on real ROOT files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner
from made_problems import Ring, made_batch
from made_problems import features as ring_features

from coffea_conserv import Budget

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(
    r"<!-- example: tests/test_readme.py runs this -->\n```python\n(.*?)```", README, re.DOTALL
)


class Classifier(torch.nn.Module):
    """Wants a large transverse mass."""

    def forward(self, x):
        """Logits, shape (events,)."""
        angle = torch.cos(x[:, 1] - x[:, 3])
        return (x[:, 0] * x[:, 2] * (1 - angle)) / 1000 - 1.5 + 0.1 * x[:, 4]


def write_events(path, count, seed):
    """A flat tree with the columns of the example."""
    rng = np.random.default_rng(seed)
    njets = rng.poisson(0.8, count)
    columns = {
        "pt_1": 20 + rng.exponential(25, count),
        "phi_1": rng.uniform(-np.pi, np.pi, count),
        "pt_met": rng.exponential(35, count),
        "phi_met": rng.uniform(-np.pi, np.pi, count),
        "njets": njets,
        "jpt_1": np.where(njets > 0, 30 + rng.exponential(40, count), -999.0),
        "weight": np.full(count, 0.5),
    }
    with uproot.recreate(path) as file:
        file.mktree("Events", dict.fromkeys(columns, np.float32))
        file["Events"].extend({name: values.astype(np.float32) for name, values in columns.items()})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the model and the files that the example names."""
    monkeypatch.chdir(tmp_path)
    rows = torch.export.Dim("events")
    exported = torch.export.export(Classifier().eval(), (torch.ones(4, 6),), dynamic_shapes=({0: rows},))
    torch.export.save(exported, "classifier.pt2")
    for seed, name in enumerate(("W1Jets", "W2Jets", "Run2012B")):
        write_events(tmp_path / f"{name}.root", 1500, seed)
    return tmp_path


def test_the_analysis_runs_and_its_result_is_what_is_promised(folder):
    """The first two blocks: an analysis with the attack in it, then verdict, histograms and templates."""
    names: dict[str, object] = {}
    exec(compile(BLOCKS[0], "README.md", "exec"), names)  # noqa: S102 -- our own page
    fileset = {
        name: {"files": {str(folder / f"{name}.root"): "Events"}, "metadata": {"is_data": name[0] == "R"}}
        for name in ("W1Jets", "W2Jets", "Run2012B")
    }
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
    assert (folder / "verdict.json").is_file()


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
