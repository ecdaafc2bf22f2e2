"""Checkpoints: a run goes on from its own chunks, and never from those of another analysis."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from coffea.nanoevents import NanoAODSchema
from coffea.processor import Runner
from coffea.util import load
from made_pages import prepare

from coffea_conserv.running.checkpoints import Keeper, make_keeper

PAGE = (Path(__file__).parents[1] / "docs" / "commands.md").read_text(encoding="utf-8")
COUNT = 300


@pytest.fixture
def folder(tmp_path):
    """What a user has: module, model, files, fileset and configuration."""
    (tmp_path / "user").mkdir()
    made = prepare(tmp_path / "user", COUNT, quick=True)
    (text,) = re.findall(r"<!-- file: conserv.yaml -->\n```\w*\n(.*?)```", PAGE, re.DOTALL)
    text += "solver: {name: transport, steps: 3, rounds: 2}\n"
    (made / "conserv.yaml").write_text(text.replace("100_000", "150"))
    return made


def run(folder, *more):
    """``coffea-conserv run`` in a process of its own, as after an edit: what it printed, and sums."""
    command = [
        "run",
        "--config",
        "conserv.yaml",
        "--fileset",
        "fileset.json",
        "--out",
        "out",
        "--checkpoints",
        "kept",
    ]
    code = "import sys; from coffea_conserv.cli import main; sys.argv[0] = 'coffea-conserv'; main()"
    done = subprocess.run(  # noqa: S603 -- our own command
        [sys.executable, "-W", "ignore", "-c", code, *command, *more],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, load(folder / "out" / "output.coffea")["conserv"]


def edit(path, old, new):
    """Change a file of the user."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def weights(sums):
    """Sum of weights of each dataset in the regions."""
    return {key[:2]: counts[1] for key, counts in sums.counts.items() if key[2] == "nominal"}


@pytest.mark.slow
def test_a_changed_analysis_does_not_find_the_old_chunks(folder):
    """Three times the weight gives three times the sums; where nothing changed, everything is taken."""
    text, first = run(folder)
    assert "from checkpoints" not in text
    count = int(re.findall(r"(\d+)/\1 chunks", text)[-1])
    assert len(list((folder / "kept").rglob("*.coffea"))) == count
    text, again = run(folder)
    assert f"{count} of {count} chunks from checkpoints of the same analysis" in text
    assert weights(again) == weights(first)
    for path in sorted((folder / "kept").rglob("*.coffea"))[::2]:
        path.unlink()
    edit(
        folder / "my_analysis.py",
        "weight=None if is_data else events.weight",
        "weight=None if is_data else 3 * events.weight",
    )
    text, changed = run(folder)
    assert "from checkpoints" not in text
    for key, value in weights(changed).items():
        factor = 1 if key[0] == "Run2012B" else 3
        assert value == pytest.approx(factor * weights(first)[key], rel=1e-9)
    edit(folder / "fileset.json", '"is_data": false', '"is_data": false, "era": "B"')
    text, _ = run(folder)
    data = json.loads((folder / "fileset.json").read_text())
    unchanged = sum(entry["metadata"]["is_data"] for entry in data.values())
    assert f"{unchanged * count // len(data)} of {count} chunks from checkpoints" in text


META = {
    "dataset": "W",
    "filename": "w.root",
    "treename": "Events",
    "fileuuid": "u",
    "entrystart": 0,
    "entrystop": 10,
    "is_data": False,
}


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "../../.."},
        {"dataset": "/A/B/C"},
        {"treename": "../x"},
        {"entrystop": 11},
        {"is_data": True},
        {"fileuuid": "v"},
    ],
)
def test_every_chunk_has_a_file_of_its_own_inside_of_the_folder(tmp_path, change):
    """Whatever datasets and trees are called; all metadata count."""
    keeper = Keeper(tmp_path / "kept", lambda _: None)
    one, other = keeper.file(META), keeper.file({**META, **change})
    assert one != other
    assert all(path.resolve().is_relative_to(tmp_path / "kept") for path in (one, other))
    assert keeper.file(dict(reversed(META.items()))) == one


def test_a_damaged_chunk_is_done_again_and_said(tmp_path):
    """One bit is enough; what is whole comes back as it was."""
    told = []
    keeper = Keeper(tmp_path, told.append)
    assert keeper.load(META, None) is None
    keeper.save({"n": list(range(100))}, META, None)
    assert keeper.load(META, None) == {"n": list(range(100))}
    assert told == [{"events": 10, "reused": 1}]
    (file,) = tmp_path.rglob("*.coffea")
    content = bytearray(file.read_bytes())
    for place in (0, 40, len(content) - 1):
        content[place] ^= 4
        file.write_bytes(content)
        assert keeper.load(META, None) is None
        content[place] ^= 4
    assert told[1:] == [{"damaged": str(file)}] * 3
    file.write_bytes(b"")
    assert keeper.load(META, None) is None


def test_a_full_disk_is_said_and_costs_no_chunk(tmp_path, monkeypatch):
    """The chunk goes on; the client hears why it is not kept, and nothing is left behind."""
    told = []

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    Keeper(tmp_path / "kept", told.append).save({"n": 1}, META, None)
    assert told == [{"unsaved": "OSError: [Errno 28] No space left on device"}]
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]


MODULE = """
import my_helper
from coffea.processor import ProcessorABC

class Analysis(ProcessorABC):
    def __init__(self, cut):
        self.cut = cut

    def process(self, events):
        return {"n": my_helper.count(events, self.cut)}

    def postprocess(self, accumulator):
        return accumulator
"""

HELPER = "def count(events, cut):\n    return int((events.x > cut).sum())\n"

KEY = """
import sys
from coffea.nanoevents import BaseSchema, NanoAODSchema
from my_module import Analysis
from coffea_conserv.running import checkpoints
checkpoints.PACKAGES = checkpoints.PACKAGES[: int(sys.argv[3])]
print(checkpoints.run_key(Analysis(float(sys.argv[1])), schema=globals()[sys.argv[2]]))
"""


def test_the_key_is_of_all_that_an_output_depends_on(tmp_path):
    """Arguments, code of the class and of its helpers, schema and versions; the same in every process."""

    def key(cut=1.0, schema="NanoAODSchema", packages=9):
        command = [sys.executable, "-W", "ignore", "-c", KEY, str(cut), schema, str(packages)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S603
        return done.stdout.strip()

    (tmp_path / "my_module.py").write_text(MODULE)
    (tmp_path / "my_helper.py").write_text(HELPER)
    first = key()
    assert key() == first
    others = [key(cut=2.0), key(schema="BaseSchema"), key(packages=2)]
    edit(tmp_path / "my_helper.py", ">", ">=")
    others.append(key())
    edit(tmp_path / "my_helper.py", ">=", ">")
    edit(tmp_path / "my_module.py", '"n"', '"m"')
    others.append(key())
    assert len({first, *others}) == 6
    edit(tmp_path / "my_module.py", '"m"', '"n"')
    assert key() == first


def test_a_key_has_a_folder_that_says_what_it_is(tmp_path):
    """With the versions; a folder that cannot be written is known before any chunk."""
    keeper = make_keeper(tmp_path, Runner, schema=NanoAODSchema)
    about = json.loads((keeper.folder / "about.json").read_text())
    assert about["key"] == keeper.folder.name
    assert set(about["versions"]) >= {"coffea", "numpy", "torch"}
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make_keeper(tmp_path / "file", Runner, schema=NanoAODSchema)
