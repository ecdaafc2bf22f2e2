"""The rooms of the package and their one-way doors, as ``pyproject.toml`` declares them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINT = shutil.which("lint-imports", path=Path(sys.executable).parent)
PACKAGES = ("coffea_conserv", "processors", "example_analysis")

pytestmark = pytest.mark.skipif(LINT is None, reason="import-linter is not installed")

# For each contract one import, or one module, that it has to refuse.
BREAKS = {
    "layers": [("coffea_conserv/corridor.py", "")],
    "cycles": [
        ("processors/classifier.py", "import processors.htautau"),
        ("processors/htautau.py", "import processors.classifier"),
    ],
    "package": [("coffea_conserv/plugin/conserv.py", "import processors.htautau")],
    "clusters": [("coffea_conserv/plugin/conserv.py", "import distributed")],
    "coffea": [("coffea_conserv/plugin/conserv.py", "import coffea.processor")],
    "processors": [("processors/ttbar_ww.py", "import example_analysis.record")],
    "attacks": [("coffea_conserv/limits/verdict.py", "import hist")],
    "foundation": [("coffea_conserv/results/plain.py", "import coffea_conserv.inputs.columns")],
    "torch": [("coffea_conserv/templates/templates.py", "def late():\n    import torch")],
    "awkward": [("coffea_conserv/plugin/conserv.py", "import awkward as ak")],
    "plots": [("coffea_conserv/results/result.py", "from matplotlib import pyplot")],
    "fits": [("coffea_conserv/report/console.py", "import pyhf")],
    "files": [("coffea_conserv/sums/sums.py", "import uproot")],
    "console": [("coffea_conserv/limits/verdict.py", "from rich.table import Table")],
}


def lint(folder, contract=None):
    """Check the imports of the packages in a folder; return the exit status and the text."""
    command = [LINT, "--no-cache", *(["--contract", contract] if contract else [])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path):
    """Copy the packages and their contracts."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_doors_are_one_way():
    """Every contract is kept."""
    code, text = lint(ROOT)
    assert code == 0, text
    assert f"Contracts: {len(BREAKS)} kept, 0 broken." in text


def test_every_contract_has_a_way_to_break_it():
    """Every contract is tried below."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.findall(r'^id = "(\w+)"$', text, flags=re.MULTILINE) == list(BREAKS)


@pytest.mark.parametrize("contract", BREAKS)
def test_contracts_notice(contract, copy):
    """No contract is vacuous: what it forbids breaks it."""
    assert lint(copy, contract)[0] == 0
    for path, line in BREAKS[contract]:
        with (copy / path).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    code, text = lint(copy, contract)
    assert code == 1, text
    assert "Contracts: 0 kept, 1 broken." in text
