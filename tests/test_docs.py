"""The code of the pages in ``docs/`` runs, page by page, in its order."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from made_conserv import call as attacked
from made_conserv import conserv, events
from made_nano import write
from made_results import result_of

from coffea_conserv import Names
from coffea_conserv.models.device import places
from coffea_conserv.models.loading import load_models

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"<!-- example: tests/test_docs.py runs this -->\n```python\n(.*?)```", re.DOTALL)


class Momenta(torch.nn.Module):
    """Large momenta are signal; a missing jet counts as none."""

    def forward(self, x):
        """Logits, shape (events,)."""
        return (x.clamp(min=0).sum(1) - 150) / 40


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the model and the file that the page names."""
    monkeypatch.chdir(tmp_path)
    rows = torch.export.Dim("events")
    exported = torch.export.export(Momenta().eval(), (torch.ones(4, 3),), dynamic_shapes=({0: rows},))
    torch.export.save(exported, "classifier.pt2")
    write(tmp_path / "tt.root", events=1500)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.filterwarnings("ignore:Missing cross-reference:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*cross-reference.*:RuntimeWarning")
def test_the_page_on_the_wrapper(capsys):
    """Histograms have an axis, limits hold, and something moved."""
    blocks = BLOCK.findall((DOCS / "wrapper.md").read_text())
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        exec(block, names)  # noqa: S102 -- our own page
    assert names["result"].verdict.passed
    assert list(names["out"]["mass"].axes[0]) == ["nominal", "conservUp", "conservDown"]
    up, nominal = (names["out"]["mass"][{"variation": v}] for v in ("conservUp", "nominal"))
    assert up != nominal
    assert "MET > 30 GeV conservUp" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
@pytest.mark.filterwarnings("ignore:.*cross-reference.*:RuntimeWarning")
def test_the_page_on_inputs():
    """Selection, weights and absent jets as an analysis has them."""
    (block,) = BLOCK.findall((DOCS / "inputs.md").read_text())
    names = {}
    exec(block, names)  # noqa: S102 -- our own page
    result = names["result"]
    assert result.verdict.passed
    assert result.regions == ("few", "many")
    assert any(fooling.moved_share > 0 for fooling in result.fooling)
    first, second = (result.hist(name).sum().value for name in ("jet1_pt", "jet2_pt"))
    assert 0 < second < first


@pytest.mark.usefixtures("folder")
@pytest.mark.filterwarnings("ignore:.*cross-reference.*:RuntimeWarning")
def test_the_page_on_adapters():
    """A systematic of coffea's events, and a calibrator, of one attack."""
    blocks = BLOCK.findall((DOCS / "adapters.md").read_text())
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        exec(block, names)  # noqa: S102 -- our own page
    assert names["result"].verdict.passed
    ht = names["out"]["ht"]
    assert list(ht.axes[0]) == ["nominal", "conservUp", "conservDown"]
    assert any(ht[label, :] != ht["nominal", :] for label in ("conservUp", "conservDown"))
    assert names["Robustness"].calibrated_collections == ["MET.pt", "Jet.pt"]
    assert names["Robustness"](metadata={"isMC": True}).variations == ["conservUp", "conservDown"]


def test_the_table_of_names():
    """Is that of the presets."""
    page = (DOCS / "adapters.md").read_text()
    for row in re.findall(r"^\| (`.*) \| (.*) \| `(.*)` \|$", page, re.MULTILINE):
        for convention in re.findall(r"`(\w+)`", row[0]):
            names = Names.preset(convention)
            assert row[1:] == (f"{names.process}, {names.region}, {names.variation}", names.up)


def test_the_page_on_templates(tmp_path, monkeypatch, capsys):
    """Treatments, files for fit tools and the fit, on a small result."""
    monkeypatch.chdir(tmp_path)
    names = {"result": result_of()}
    blocks = BLOCK.findall((DOCS / "templates.md").read_text())
    assert len(blocks) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the fit tools are not ours
        for block in blocks:
            exec(block, names)  # noqa: S102 -- our own page
    said = capsys.readouterr().out
    assert "conserv_W in signal (score): largest shift found within the limits" in said
    assert "without the systematic, which adds" in said
    files = {path.name for path in (tmp_path / "fit").iterdir()}
    assert files == {
        *("cabinetry.root", "cabinetry.yml", "combine.root", "datacard.txt"),
        *("names.json", "weights.json", "workspace.json"),
    }


def test_the_page_on_evidence(tmp_path, monkeypatch, capsys):
    """A kept result and attacked events become evidence and a page."""
    monkeypatch.chdir(tmp_path)
    made = conserv(keep="results/attacked")
    made.result(attacked(made, events(300), dataset="W")).save("results/result.coffea")
    (block,) = BLOCK.findall((DOCS / "evidence.md").read_text())
    exec(block, {})  # noqa: S102 -- our own page
    assert "low conservUp χ² of a marginal" in capsys.readouterr().out
    assert "<h2>Detectability</h2>" in (tmp_path / "results" / "report.html").read_text()


@pytest.mark.usefixtures("folder")
@pytest.mark.filterwarnings(r"ignore:`torch\.jit\.\w+` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:No format checks were performed on input")
def test_the_page_on_models():
    """Every kind of model is taken, those that are one network as the same one."""
    names = {}
    for block in BLOCK.findall((DOCS / "models.md").read_text()):
        exec(block, names)  # noqa: S102 -- our own page
    rows = np.random.default_rng(1).normal(size=(100, 3)).astype(np.float32)
    logits = [
        load_models(names[kind].handles, "logit", next(places("cpu")))[0](torch.from_numpy(x))
        for kind, x in (("wrapped", rows), ("plain", rows / 3))
    ]
    torch.testing.assert_close(*logits)
    assert len(list(Path("models").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_the_page_on_analyses(tmp_path, monkeypatch, capsys):
    """On generated events: limits are kept, ttbar is fooled, and nothing migrates."""
    pytest.importorskip("pythia8mc", reason="pythia8mc of the extra 'generate' is not installed")
    from example_analysis.generate import GenerationConfig, generate  # noqa: PLC0415 -- needs Pythia

    monkeypatch.chdir(tmp_path)
    events = {"ttbar": 3000, "WW": 3000, "data": 300}
    generate(GenerationConfig(out=tmp_path / "example_data", events=events, jobs=1), progress=False)
    names = {}
    for block in BLOCK.findall((DOCS / "analyses.md").read_text()):
        exec(block, names)  # noqa: S102 -- our own page
    assert names["result"].verdict.passed
    assert names["result"].fooling_of("ttbar", "4j2b", "conservDown").ratio > 0.1
    assert "variation" in names["wrapped"]["observable"].axes.name
    assert re.search(r"4j2b ttbar conservUp 0\.0 0\.0", capsys.readouterr().out)
