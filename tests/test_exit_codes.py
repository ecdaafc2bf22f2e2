"""Exit codes and last words: 1 is a broken limit and nothing else; every crash is one line and 2."""

from __future__ import annotations

import json
import re

import coffea.util
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_conserv import difference
from made_results import result_of
from test_running import call, edited, folder, here  # noqa: F401 -- fixtures

from coffea_conserv import errors
from coffea_conserv.cli import results
from coffea_conserv.cli import runs as cli_runs
from coffea_conserv.errors import InputError, RunError
from coffea_conserv.running.failures import failure_of
from coffea_conserv.running.progress import find_sums

BROKEN = """
from coffea.processor import ProcessorABC
class Fails(ProcessorABC):
    def __init__(self, conserv): pass
    def process(self, events): raise {what}
    def postprocess(self, accumulator): return accumulator
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("KeyError('no such branch')", "KeyError('no such branch')"),
        ("RuntimeError('two\\nlines')", r"RuntimeError('two\nlines')"),
        ("ZeroDivisionError()", "ZeroDivisionError()"),
        ("KeyboardInterrupt()", "interrupted"),
    ],
)
def test_a_crash_of_the_analysis_is_one_line(here, tmp_path, what, said):  # noqa: F811
    """Dataset, file, what was raised, what is kept and how to go on; the traceback only with --debug."""
    (here / "my_failing.py").write_text(BROKEN.format(what=what.replace("\n", "\\n")))
    common = ["run", "--config", "conserv.yaml", "--fileset", "fileset.json", "--out", tmp_path / "out"]
    common += ["--processor", "my_failing:Fails"]
    __import__("sys").modules.pop("my_failing", None)
    done = call(*common)
    assert done.exit_code == 2, done.output
    (line,) = [line for line in done.output.splitlines() if line.startswith("error:")]
    assert said in line
    assert "none of the 6 chunks is kept; --checkpoints FOLDER keeps those that are finished" in line
    if said != "interrupted":
        assert re.search(r"dataset W1Jets, file \S*W1Jets\.root, events 0 to 200: ", line)
    assert "Traceback" not in done.output
    done = call(*common, "--checkpoints", tmp_path / "kept")
    assert (
        f"finished chunks are kept in {tmp_path / 'kept'}: the same command goes on from there" in done.output
    )
    done = call("--debug", *common)
    assert "Traceback" in done.output
    assert done.exit_code == 2


def test_paths_with_an_apostrophe(here, tmp_path):  # noqa: F811
    """What this package refuses on a worker is said with dataset and file, whatever these are called."""
    odd = tmp_path / 'd\'or "x"'
    odd.mkdir()
    fileset = json.loads((here / "fileset.json").read_text())
    for entry in fileset.values():
        entry["files"] = {str(odd / path.split("/")[-1]): tree for path, tree in entry["files"].items()}
    for path in here.glob("*.root"):
        (odd / path.name).write_bytes(path.read_bytes())
    (odd / "fileset.json").write_text(json.dumps(fileset))
    config = edited(here, ("model: classifier.pt2", "model: [classifier.pt2, classifier.pt2]"))
    done = call("run", "--config", config, "--fileset", odd / "fileset.json", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert f"error: dataset W1Jets, {odd / 'W1Jets.root'}: 2 models need fold=" in " ".join(
        done.output.split()
    )


@pytest.mark.parametrize("option", ["--out", "--checkpoints"])
def test_a_folder_that_takes_nothing_is_refused_at_once(here, tmp_path, monkeypatch, option):  # noqa: F811
    """A file where a folder should be; nothing of the run starts."""
    (tmp_path / "taken").write_text("mine")
    monkeypatch.setattr(cli_runs.runs, "chunks_of", None)
    taken = tmp_path / "taken" / "here"
    places = {"--out": tmp_path / "out", option: taken}
    common = ["run", "--config", "conserv.yaml", "--fileset", "fileset.json"]
    done = call(*common, *(text for place in places.items() for text in place))
    assert done.exit_code == 2
    said = f"error: nothing can be written to the folder {taken}: Not a directory; free it, or give another"
    assert said in " ".join(done.output.split())
    assert (tmp_path / "taken").read_text() == "mine"


def test_an_output_that_finds_no_room_is_kept_elsewhere(here, tmp_path, monkeypatch):  # noqa: F811
    """The folder is gone when the run is done: what was computed is the same as in an undisturbed run."""
    common = ["run", "--config", "conserv.yaml", "--fileset", "fileset.json", "--out"]
    assert call(*common, tmp_path / "undisturbed").exit_code in (0, 1)
    execute = cli_runs.runs.execute

    def then_gone(*given):
        ran = execute(*given)
        (tmp_path / "out").rmdir()
        (tmp_path / "out").write_text("mine")
        return ran

    monkeypatch.setattr(cli_runs.runs, "execute", then_gone)
    done = call(*common, tmp_path / "out")
    assert done.exit_code == 2
    (line,) = [line for line in done.output.splitlines() if line.startswith("error:")]
    kept = re.search(r"its output is kept in (\S+/output\.coffea): coffea\.util\.load reads it", line)[1]
    saved = [find_sums(coffea.util.load(path)) for path in (kept, tmp_path / "undisturbed/output.coffea")]
    assert saved[0].keys() == saved[1].keys()
    assert not any(difference(saved[0][name], saved[1][name]) for name in saved[0])
    assert (tmp_path / "out").read_text() == "mine"


def test_a_crash_of_a_command_is_no_broken_limit(tmp_path, monkeypatch):
    """A bug, or a library that fails: exit code 2 and one line."""
    result_of().save(tmp_path / "result.coffea")

    def fails(*_, **__):
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(results, "save_all", fails)
    done = call("plot", tmp_path)
    assert done.exit_code == 2
    assert "error: RuntimeError: first second; coffea-conserv --debug … shows where" in done.output
    assert "Traceback" not in done.output
    assert call("plot", tmp_path / "none").exit_code == 2
    assert call("plot").exit_code == 2  # what typer says itself


@given(*[st.text(max_size=20)] * 2, st.text(max_size=30), st.integers(0, 10**9))
def test_whatever_things_are_called(dataset, file, text, start):
    """Names and texts come back as they were, through the words of coffea."""
    events = f"treename='T', entrystart={start}, entrystop={start + 5}, x=1"
    item = f"WorkItem(dataset={dataset!r}, filename={file!r}, {events})"
    raised = InputError(text)
    failure = failure_of(Exception(f"Failed processing file: {item}. The error was: {raised!r}."))
    assert (failure.dataset, failure.file, failure.start, failure.stop) == (dataset, file, start, start + 5)
    assert type(failure.own) is InputError
    assert str(failure.own) == f"dataset {dataset}, {file}: {text}"


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name.endswith("Error")])
def test_errors_of_the_package_come_back_as_such(name):
    """And no others: the name of a function or of another class is none."""
    item = "WorkItem(dataset='W', filename='f', entrystart=0, entrystop=1)"
    text = f"Failed processing file: {item}. The error was: {{}}('x')."
    assert type(failure_of(Exception(text.format(name))).own).__name__ == name
    for other in ("of_extra", "Exception", "OSError", "FAILURES"):
        assert failure_of(Exception(text.format(other))).own is None
    assert issubclass(RunError, errors.ConservError)
