"""The pages on facilities, and their scripts as a user would have them: files in one folder."""

from __future__ import annotations

import json
import re
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner
from made_flat import write_files, write_model

ROUNDING = 1e-12
FOLDER = Path(__file__).parents[1] / "docs" / "facilities"
PAGES = sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "index")
CONNECT = re.compile(r"^@contextmanager\ndef connect\(\):.*?(?=\n\n\n|\Z)", re.MULTILINE | re.DOTALL)


def text_of(page):
    """Text of a page."""
    return (FOLDER / f"{page}.md").read_text(encoding="utf-8")


def blocks(page, marker):
    """Blocks of code that follow a marker."""
    code = re.compile(rf"<!-- {re.escape(marker)} -->\n```\w*\n(.*?)```", re.DOTALL)
    return code.findall(text_of(page))


def script(page, connect=None):
    """Give ``run.py`` of a page, with another function that connects if one is given."""
    (code,) = blocks(page, "file: run.py")
    return code if connect is None else CONNECT.sub(lambda _: connect.strip(), code)


def names_of(code):
    """Run the code of a script without its ``main``."""
    names = {"__name__": "run"}
    exec(compile(code, "run.py", "exec"), names)  # noqa: S102 -- our own page
    return names


def prepare(folder, count, *, quick=False):
    """Write what a user has: module, model, files and fileset; a quick attack is a weak one."""
    (module,) = blocks("index", "file: my_analysis.py")
    if quick:
        module = "from coffea_conserv.solvers.transport.solver import Transport\n" + module.replace(
            "budget=", "solver=Transport(steps=8, rounds=3), budget="
        )
    (folder / "my_analysis.py").write_text(module)
    write_model(folder / "classifier.pt2", features=6)
    (folder / "fileset.json").write_text(json.dumps(write_files(folder, count)))
    return folder


@contextmanager
def importable(folder):
    """Import ``my_analysis`` from a folder, and forget it afterwards."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("my_analysis", None)


def expected(folder):
    """Write ``expected.json``: the verdict of one chunk after the other in this process."""
    import my_analysis  # noqa: PLC0415 -- a file of the folder

    fileset = json.loads((folder / "fileset.json").read_text())
    conserv = my_analysis.build_conserv(str(folder / "classifier.pt2"))
    runner = Runner(IterativeExecutor(status=False), schema=BaseSchema, chunksize=200_000)
    chunks = list(runner.preprocess(fileset, treename="Events"))
    out = runner(chunks, my_analysis.MyAnalysis(conserv), treename="Events")
    conserv.result(out["conserv"], asked=[fileset, chunks]).to_json(folder / "expected.json")


def same(folder):
    """Whether ``verdict.json`` of a folder is what was expected, numbers to rounding."""
    found, wanted = (json.loads((folder / f"{name}.json").read_text()) for name in ("verdict", "expected"))
    return found == approximately(wanted)


def approximately(value):
    """Compare the numbers of nested values to rounding."""
    if isinstance(value, dict):
        return {key: approximately(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [approximately(inner) for inner in value]
    return pytest.approx(value, rel=ROUNDING, abs=ROUNDING) if isinstance(value, float) else value
