"""Coverage counts files: what fell out while files were opened is named, and is never complete."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner
from made_flat import write_events
from made_results import result_of
from rich.console import Console
from test_flags import Counting, attack  # noqa: F401 -- a fixture

from coffea_conserv import ConfigurationError
from coffea_conserv.report.console import coverage_table
from coffea_conserv.results.coverage import Asked, read_asked


@pytest.fixture(scope="module")
def fileset(tmp_path_factory):
    """A dataset of two good files, an empty one, one without a tree and one that is no ROOT file."""
    folder = tmp_path_factory.mktemp("files")
    for seed, name in enumerate(("a", "b")):
        write_events(folder / f"{name}.root", 300 + 50 * seed, seed)
    write_events(folder / "empty.root", 0, 3)
    with uproot.recreate(folder / "treeless.root") as file:
        file["h"] = np.histogram([1.0])
    (folder / "broken.root").write_bytes(b"no ROOT file")
    files = {str(folder / f"{name}.root"): "Events" for name in ("a", "b", "empty", "treeless", "broken")}
    return {"W": {"files": files, "metadata": {"is_data": False}}}


def ran(fileset, attack):  # noqa: F811
    """Sums and chunks of a run that leaves out what it cannot read."""
    executor = IterativeExecutor(status=False)
    bad = (OSError, KeyError, ValueError, uproot.exceptions.KeyInFileError)
    runner = Runner(executor, schema=BaseSchema, chunksize=200, skipbadfiles=bad, metadata_cache={})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # coffea says which files it skips
        chunks = list(runner.preprocess(fileset, treename="Events"))
        return runner(chunks, Counting(attack), treename="Events")["conserv"], chunks


def table(result):
    """The table of the coverage as text."""
    stream = io.StringIO()
    Console(file=stream, width=400).print(coverage_table(result))
    return stream.getvalue()


def test_files_that_fell_out_are_named(fileset, attack):  # noqa: F811
    """Chunks alone know nothing of them; with the fileset two of five are missed. An empty file was read."""
    sums, chunks = ran(fileset, attack)
    (blind,) = attack.result(sums, asked=chunks).coverage
    assert (blind.events, blind.events_asked, blind.files_asked, blind.complete) == (650, 650, None, True)
    for asked in ([fileset, chunks], (chunks, fileset), fileset):
        result = attack.result(sums, asked=asked)
        (row,) = result.coverage
        lost = [name for name in fileset["W"]["files"] if name.endswith(("treeless.root", "broken.root"))]
        assert (row.files, row.files_asked, list(row.missing), row.complete) == (3, 5, lost, False)
        assert f"2 of 5 files not read: {', '.join(lost)}" in table(result)
        plain = result.to_dict()["coverage"][0]
        assert (plain["missing"], plain["complete"]) == (lost, False)
    good = {
        "W": {**fileset["W"], "files": {name: "Events" for name in fileset["W"]["files"] if name not in lost}}
    }
    (row,) = attack.result(sums, asked=[good, chunks]).coverage
    assert (row.missing, row.complete) == ((), True)
    (row,) = attack.result(sums, asked=good).coverage
    assert (row.missing, row.complete) == ((), None)  # how many events there are to read is not known


def test_patterns_stand_for_files(fileset, attack):  # noqa: F811
    """A star of coffea's filesets stands for any file; brackets mean nothing."""
    sums, chunks = ran(fileset, attack)
    folder = next(iter(fileset["W"]["files"])).rsplit("/", 1)[0]
    for pattern, missing in ((f"{folder}/*.root", ()), (f"{folder}/[ab].root", (f"{folder}/[ab].root",))):
        (row,) = attack.result(sums, asked=[{"W": {pattern: "Events"}}, chunks]).coverage
        assert row.missing == missing


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"W": ["a.root", "b.root"]}, Asked(files=("a.root", "b.root"))),
        ({"W": {"a.root": "Events"}}, Asked(files=("a.root",))),
        ({"W": {"files": {"a.root": {"object_path": "Events"}}, "metadata": None}}, Asked(files=("a.root",))),
        ([{"W": ["a.root"]}, {"W": 7}], Asked(7, None, ("a.root",))),
        ([{"dataset": "W", "entrystart": 0, "entrystop": 5}] * 2, Asked(10, 2)),
    ],
)
def test_forms_of_what_was_asked(asked, found):
    """Filesets in their long and short forms, numbers, chunks, and several of them."""
    assert read_asked(asked) == {"W": found}


@pytest.mark.parametrize("asked", [{"W": {"files": 3}}, {"W": [1, 2]}, {"W": {1: "Events"}}, "W", 3, [3]])
def test_anything_else_is_refused(asked):
    """With the remedy."""
    with pytest.raises(ConfigurationError, match="asked"):
        read_asked(asked)


def test_a_result_without_files_is_as_before():
    """Sums of events that say nothing of a file."""
    (row, *_) = result_of(asked={"W1": 160}).coverage
    assert (row.files, row.files_asked, row.missing) == (None, None, ())
