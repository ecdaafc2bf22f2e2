"""The pages on facilities: their scripts run, on Dask clusters of this machine where a facility would be."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager

import pytest
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner
from made_conserv import difference
from made_pages import (
    CONNECT,
    FOLDER,
    PAGES,
    blocks,
    expected,
    importable,
    names_of,
    prepare,
    same,
    script,
    text_of,
)

from coffea_conserv import Budget

distributed = pytest.importorskip("distributed")

COUNT = 200  # events of a file


# --- what is written ---------------------------------------------------------------------------------------


def test_there_is_a_page_for_every_way_of_running():
    """And the overview has a row for each."""
    assert PAGES == ["coffea-casa", "dask-gateway", "htcondor", "local-cuda", "one-machine", "slurm"]
    assert sorted(re.findall(r"^\|.*\| \[(.*)\.md\]\(\1\.md\) \|", text_of("index"), re.MULTILINE)) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_first_what_was_run(page):
    """And what was not, with what it needs, wherever something was not."""
    title, first = text_of(page).split("\n\n")[:2]
    assert title.startswith("# ")
    assert first.startswith("*Run: ")
    assert first.endswith("*")
    assert "by the tests" in first or re.search(r"Not run:[^.]*need", first)


@pytest.mark.parametrize("page", [*PAGES, "index"])
def test_links_lead_somewhere(page):
    """Links to files of the repository."""
    for target in re.findall(r"\]\((?!http)([^)#]+)", text_of(page)):
        assert (FOLDER / target).is_file(), target


def test_scripts_differ_in_one_function():
    """Whoever knows one page knows all: only ``connect`` is another one."""
    assert {CONNECT.sub("connect", script(page)) for page in PAGES} == {
        CONNECT.sub("connect", script("one-machine"))
    }
    assert len({script(page) for page in PAGES}) == len(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_other_ways_to_connect_fit_into_the_script(page, tmp_path):
    """Every ``connect`` of a page is one whole function that can take the place of the first one."""
    assert text_of(page).count("def connect") == 1 + len(blocks(page, "connect"))
    prepare(tmp_path, count=10)
    with importable(tmp_path):
        for connect in blocks(page, "connect"):
            code = script(page, connect)
            assert connect.strip() in code
            assert code.count("def connect") == 1
            names = names_of(code)
            assert hasattr(names["connect"], "__wrapped__"), "no context manager"
            assert (
                set(names["connect"].__wrapped__.__code__.co_names) >= {"Client"} or "get_client" in connect
            )


# --- scripts -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a user has, with the verdict that this process gets."""
    made = prepare(tmp_path_factory.mktemp("user"), COUNT, quick=True)
    with importable(made):
        expected(made)
        yield made


@pytest.fixture(scope="module")
def client(folder):
    """Two workers, as the script for one machine starts them."""
    with names_of(script("one-machine"))["connect"]() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_script_gives_what_one_process_gives(page, folder, client, monkeypatch, capsys):
    """Its module gets to the workers, everything is read, and the verdict is that of one process."""
    monkeypatch.chdir(folder)
    for name in ("verdict.json", "templates.root"):
        folder.joinpath(name).unlink(missing_ok=True)
    names = names_of(script(page))

    @contextmanager
    def connect():
        yield client

    names["connect"] = connect
    names["main"]()
    said = capsys.readouterr().out
    assert said.count(f"{COUNT} events, complete") == 3
    assert re.search(r"\d+ limits kept", said)
    assert same(folder)
    with uproot.open("templates.root") as file:
        assert {"jets/W1Jets", "jets/W1Jets_conservUp"} <= {key.split(";")[0] for key in file}


def submitted(page, folder, monkeypatch):
    """Run ``connect`` of a page as far as dask-jobqueue's job script, without submitting."""
    jobqueue = pytest.importorskip("dask_jobqueue")
    asked = {}
    for cls in (jobqueue.SLURMCluster, jobqueue.HTCondorCluster):
        monkeypatch.setattr(cls, "adapt", lambda _, **limits: asked.update(limits))
    monkeypatch.chdir(folder)
    with names_of(script(page))["connect"]() as connected:
        job = connected.cluster.job_script()
    assert asked["minimum"] == 1  # without a worker the processor, which coffea scatters, has no place
    job = job.replace(str(folder), "/work/you")
    return re.sub(r"tcp://[\d.]+:\d+", "tcp://scheduler:8786", job)


@pytest.mark.parametrize("page", ["slurm", "htcondor"])
def test_the_job_script_is_the_documented_one(page, folder, monkeypatch):
    """What dask-jobqueue would submit is what the page shows, line by line."""
    (documented,) = blocks(page, "job script")
    assert submitted(page, folder, monkeypatch).splitlines() == documented.splitlines()


# --- what the overview says --------------------------------------------------------------------------------


def test_checkpoints_belong_to_a_configuration(folder, tmp_path, monkeypatch):
    """A second run reads what the first one has left; one of another configuration does not."""
    import my_analysis  # noqa: PLC0415 -- a file of the folder

    monkeypatch.chdir(tmp_path)
    (block,) = blocks("index", "example: tests/test_facilities.py runs this")
    fileset = json.loads((folder / "fileset.json").read_text())

    def run(conserv):
        names, told = {"processor": my_analysis.MyAnalysis(conserv)}, []
        exec(block, names)  # noqa: S102 -- our own page
        names["checkpointer"].tell = told.append
        using = IterativeExecutor(status=False, retries=0)
        runner = Runner(using, schema=BaseSchema, checkpointer=names["checkpointer"])
        return runner(fileset, names["processor"], treename="Events")["conserv"], len(told)

    conserv = my_analysis.build_conserv(str(folder / "classifier.pt2"))
    first, taken = run(conserv)
    assert taken == 0
    again, taken = run(conserv)
    assert (difference(again, first), taken) == (0, sum(len(chunks) for chunks in first.chunks.values()))
    monkeypatch.setattr(my_analysis, "Budget", lambda **_: Budget(rms=0.02, correlation=0.006))
    assert run(my_analysis.build_conserv(str(folder / "classifier.pt2")))[1] == 0
