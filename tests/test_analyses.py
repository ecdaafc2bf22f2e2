"""Analyses after public tutorials: plain, with the attack inside, and with the wrapper around, on NanoAOD."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from coffea.processor import IterativeExecutor, Runner
from made_conserv import difference
from made_nano import write
from torch import nn

from coffea_conserv import Budget
from coffea_conserv.solvers.transport.solver import Transport
from coffea_conserv.wrapper import migrations, variation_of
from processors import dimuons, dimuons_inputs, top_pairs, top_pairs_inputs
from processors.ttbar_ww import QuietNanoAODSchema

ROOT = Path(__file__).parents[1]
VERSIONS = {
    "NanoAODv5_sample": "MET",
    "crown_nanoAOD_b": "MET",
    "nano_tt_v12": "MET",
    "nano_tt_v15": "PuppiMET",
    "nano_dy": "MET",
    "nano_dy_empty": "MET",
    "nano_dimuon": "MET",
}
QUIET = pytest.mark.filterwarnings(
    "ignore:Branch Photon_:RuntimeWarning", "ignore:divide by zero", "ignore:invalid value"
)


class Linear(nn.Module):
    """Large momenta are signal."""

    def __init__(self, columns, offset):
        super().__init__()
        self.columns, self.offset = list(columns), offset

    def forward(self, x):
        """Logits, shape (events,)."""
        return (x[:, self.columns].sum(1) - self.offset) / 60


class Classify:
    """The classifier as the analysis evaluates it."""

    def __init__(self, model):
        self.model = model

    def __call__(self, x):
        """Scores, shape (events,)."""
        with torch.no_grad():
            return torch.sigmoid(self.model(torch.from_numpy(x))).numpy()


ANALYSES = {
    "top_pairs": (
        top_pairs.TopPairs,
        top_pairs_inputs,
        Linear((0, 2, 4, 5, 6), 400),
        {"frozen": top_pairs_inputs.LEPTON},
    ),
    "dimuons": (dimuons.Dimuons, dimuons_inputs, Linear((0, 3, 6), 80), {}),
}


def without(path, blocks):
    """Text of a module before the changes of a diff."""
    text = path.read_text()
    for block in blocks:
        lines = block.splitlines()
        new = "\n".join(line[1:] for line in lines if line[0] != "-")
        old = "\n".join(line[1:] for line in lines if line[0] != "+")
        assert text.count(new) == 1, new
        text = text.replace(new, old)
    return text


def plain_of(name, folder):
    """Class of the analysis as it was before the attack, from the diff of the page."""
    page = (ROOT / "docs" / "analyses.md").read_text()
    _, after = page.split(f"<!-- diff: processors/{name}.py -->")
    after = after.split("\n## ")[0].split("\n### ")[0].split("<!--")[0]
    blocks = re.findall(r"```diff\n(.*?)```", after, re.DOTALL)
    assert len(blocks) == 2
    text = without(ROOT / "processors" / f"{name}.py", blocks)
    assert "self.conserv" not in text
    path = folder / f"plain_{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return getattr(module, ANALYSES[name][0].__name__)


def sample(name, real_folder):
    """Fileset of one true file."""
    path = real_folder / "nanoaod" / f"{name}.root"
    metadata = {"is_data": name == "nano_dimuon", "process": name}
    return {name: {"files": {str(path): "Events"}, "metadata": metadata}}


def run(fileset, processor):
    """Run a processor in this process."""
    return Runner(IterativeExecutor(status=False), schema=QuietNanoAODSchema)(fileset, processor)


@QUIET
@pytest.mark.data
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ANALYSES)
def test_both_ways_leave_the_analysis_as_it_is(name, version, real_folder, tmp_path):
    """On true files of all versions: nominal histograms are those of the code before the diff of the page."""
    kind, inputs, model, options = ANALYSES[name]
    fileset = sample(version, real_folder)
    classify = Classify(model)
    before = run(fileset, plain_of(name, tmp_path)(classify))
    quick = {"solver": Transport(steps=10), **options}
    conserv = inputs.build_conserv(model, Budget(rms=0.3, correlation=0.3), **quick)
    inside = run(fileset, kind(classify, conserv))
    around = run(fileset, inputs.wrap(kind(classify), conserv, VERSIONS[version]))
    if not before:  # a file without events has no chunk
        assert not inside
        assert not around
        return
    sums = inside.pop("conserv")
    own, moved = around.pop("conserv"), around.pop("conserv_migration", None)
    assert inside == before
    assert variation_of(around, "nominal") == before
    assert difference(own, sums) == 0  # both ways are one attack
    assert (moved is None) == (version == "nano_dimuon")
    assert moved is None or all(row.left == row.entered == 0 for row in migrations(moved))


@QUIET
@pytest.mark.data
def test_the_wrapper_writes_into_the_selected_jets(real_folder):
    """What the analysis makes of attacked jets is what the attack says; no event changes its region."""
    kind, inputs, model, _ = ANALYSES["top_pairs"]
    fileset = sample("NanoAODv5_sample", real_folder)
    options = {"frozen": inputs.LEPTON, "solver": Transport(steps=20)}
    conserv = inputs.build_conserv(model, Budget(rms=0.4, correlation=0.4), **options)
    around = run(fileset, inputs.wrap(kind(Classify(model)), conserv))
    result = conserv.result(around["conserv"])
    assert result.verdict.passed
    assert any(row.moved_share > 0.1 for row in result.fooling)
    assert all(row.left == row.entered == 0 for row in migrations(around["conserv_migration"]))
    up, nominal = (around["observable"][{"variation": v}] for v in ("conservUp", "nominal"))
    assert up != nominal
    # what the wrapper's analysis gives as a score is what the attack says
    score = around["score"][{"variation": "conservUp", "process": 0, "region": "4j2b", "scale": "nominal"}]
    told = result.hist("score")[{"process": 0, "region": "4j2b", "variation": "conservUp"}]
    np.testing.assert_allclose(score.values(), told.values(), atol=1e-6)


def test_the_diffs_are_those_of_the_code(tmp_path):
    """Also where there are no files: both take an attack, and without the changes they have none."""
    for name, (kind, *_) in ANALYSES.items():
        plain = plain_of(name, tmp_path)
        assert "conserv" in kind.__init__.__code__.co_varnames
        assert "conserv" not in plain.__init__.__code__.co_varnames


def test_muon_pairs_of_a_made_file(tmp_path):
    """Both ways on a made file with enough events: the same attack, which moves something."""
    path = write(tmp_path / "tt.root", events=3000)
    fileset = {"tt": {"files": {str(path): "Events"}, "metadata": {"process": "tt", "is_data": False}}}
    kind, inputs, model, _ = ANALYSES["dimuons"]
    conserv = inputs.build_conserv(model, Budget(rms=0.1, correlation=0.1), solver=Transport(steps=20))
    inside = run(fileset, kind(Classify(model), conserv))
    around = run(fileset, inputs.wrap(kind(Classify(model)), conserv))
    assert difference(around["conserv"], inside["conserv"]) == 0
    result = conserv.result(inside["conserv"])
    assert result.verdict.passed
    assert any(row.moved_share > 0.1 for row in result.fooling)
