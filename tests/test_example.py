"""Tests of the example's command line: help that teaches, errors with their remedy, one small run."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import coffea.util
import pytest
import uproot
from made_example import call, damage, said, toy_fileset

from coffea_conserv import ConfigurationError
from example_analysis import cluster, record
from example_analysis.__main__ import LOOK
from example_analysis.cluster import Where, pack

COMMANDS = ("generate", "train", "run", "judge", "plot", "report", "all")
ROOT = Path(__file__).parents[1]


def command_line(*arguments):
    """Run the command line as a user does, in a process of its own."""
    return subprocess.run(  # noqa: S603 -- our own module
        [sys.executable, "-m", "example_analysis", *(str(argument) for argument in arguments)],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_help_lists_every_command_and_what_it_leaves():
    """The help names the commands, the files of each step and how to look at them."""
    answer = call("--help")
    assert answer.exit_code == 0
    for name in (*COMMANDS, *(Path(path).name for path in LOOK), "--data", "fileset.json", "A quick try"):
        assert name in answer.output, name


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_says_what_is_read_and_written(command):
    """Each command explains itself and its options."""
    answer = call(command, "--help")
    assert answer.exit_code == 0
    assert "Writes" in answer.output
    assert "Look at it:" in answer.output
    assert ("Reads" in answer.output) == (command != "generate")
    assert ("--out" in answer.output) == (command != "generate")


def test_help_does_not_import_the_heavy_libraries():
    """Processes that generation and Dask start import the command line, and must not wait for torch."""
    code = "import sys, example_analysis.__main__; print({'torch', 'coffea', 'awkward'} & set(sys.modules))"
    done = subprocess.run(  # noqa: S603 -- our own code
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


WRONG = [
    (("--rms", 0.05, "--jsd", 0.02), "give exactly one of rms=, band=, jsd=, got rms=0.05, jsd=0.02"),
    (("--rms", -0.1), "rms"),
    (("--jsd", -0.1), "jsd"),
    (("--band", -0.1), "band"),
    (("--correlation", -0.1), "correlation"),
    (("--watch", -0.1), "watch"),
    (("--control", "--rms", -0.1), "rms"),
    (("--objective", "both"), "unknown objective 'both': choose score or cross"),
    (("--executor", "spark"), "unknown executor 'spark': choose from dask, iterative"),
    (("--workers", 0), "Invalid value for '--workers'"),
    (("--chunksize", 0), "Invalid value for '--chunksize'"),
    (("--maxchunks", 0), "Invalid value for '--maxchunks'"),
    (("--epochs", 0), "Invalid value for '--epochs'"),
    (("--seed", -1), "Invalid value for '--seed'"),
    (("--jobs", -1), "Invalid value for '--jobs'"),
    (("--scale", 0), "Invalid value for '--scale'"),
    (("--executor", "iterative", "--client", "tcp://a:1"), "needs executor 'dask'"),
    (("--client", "nonsense"), "no Dask scheduler answers at 'nonsense'"),
    (("--client", "tcp://127.0.0.1:1"), "no Dask scheduler answers at 'tcp://127.0.0.1:1'"),
]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("options", "text"), WRONG)
def test_wrong_settings_are_refused_before_anything_is_generated(tmp_path, monkeypatch, options, text):
    """Whatever a later step would refuse is said at once."""
    monkeypatch.setattr(cluster, "CONNECT", 1)
    answer = call("all", "--events", tmp_path / "events", "--out", tmp_path / "out", *options)
    assert answer.exit_code == 2
    assert text in said(answer)
    assert not (tmp_path / "events").exists()


@pytest.mark.parametrize("option", ["--events", "--out"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_generated(tmp_path, option):
    """A file in the place of a folder is named, with the option that gives another one."""
    (tmp_path / "file").write_text("")
    folders = {"--events": tmp_path / "events", "--out": tmp_path / "out", option: tmp_path / "file"}
    answer = call("all", *(part for pair in folders.items() for part in pair))
    assert answer.exit_code == 2
    assert f"nothing can be written to {tmp_path / 'file'}" in said(answer)
    assert f"give another folder with {option}" in said(answer)
    assert not (tmp_path / "events").exists()


@pytest.mark.parametrize(
    ("module", "remedy"), [("distributed", "coffea-conserv[dask]"), ("mplhep", "coffea-conserv[plot]")]
)
def test_a_missing_package_is_named_before_anything_is_generated(tmp_path, monkeypatch, module, remedy):
    """What the run and the pictures need is looked for first."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else real(name))
    answer = call("all", "--events", tmp_path / "events", "--out", tmp_path / "out")
    assert answer.exit_code == 2
    assert f"pip install '{remedy}'" in said(answer)
    assert not (tmp_path / "events").exists()


@pytest.mark.parametrize("command", ["train", "run", "all"])
def test_a_folder_without_skims_names_the_files_and_their_source(tmp_path, command):
    """The user learns which files are missing and where anybody gets them."""
    answer = call(command, "--data", tmp_path, "--out", tmp_path / "out")
    assert answer.exit_code == 2
    for text in ("GluGluToHToTauTauSkim.root", "Run2012C_TauPlusXSkim.root", "opendata.cern.ch/record/12350"):
        assert text in said(answer), text


def test_each_step_names_the_step_that_has_to_come_first(tmp_path):
    """Train needs events, run needs models, judge and plot need a run: the command to give is printed."""
    events, out = tmp_path / "events", tmp_path / "out"
    for command in ("train", "run"):
        answer = call(command, "--events", events, "--out", out)
        assert answer.exit_code == 2
        assert f"first do: python -m example_analysis generate --events {events}" in said(answer)
    toy_fileset(events)
    answer = call("run", "--events", events, "--out", out, "--executor", "iterative")
    assert answer.exit_code == 2
    assert f"first do: python -m example_analysis train --out {out}" in said(answer)
    for command in ("judge", "plot"):
        answer = call(command, "--out", out)
        assert answer.exit_code == 2
        assert f"first do: python -m example_analysis run --out {out}" in said(answer)


def test_results_of_the_other_analysis_are_not_overwritten(tmp_path):
    """A folder belongs to one analysis."""
    record.write_json(tmp_path / "run.json", {"analysis": "htautau"})
    record.check_folder(tmp_path, "htautau")
    answer = call("all", "--out", tmp_path, "--events", tmp_path / "events")
    assert answer.exit_code == 2
    assert "holds results of the analysis htautau" in said(answer)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"executor": "spark"}, "unknown executor 'spark': choose from dask, iterative"),
        ({"workers": 0}, "0 workers"),
        ({"executor": "iterative", "client": "tcp://somewhere:1"}, "needs executor 'dask'"),
    ],
)
def test_impossible_places_are_refused(options, text):
    """The offender and the choice are in the text."""
    with pytest.raises(ConfigurationError, match=text):
        Where(**options)


def test_unknown_objective_is_refused():
    """The text says which ones there are."""
    with pytest.raises(ConfigurationError, match="choose score or cross"):
        record.Attack({"rms": 0.05}, "both")


def test_the_processors_are_importable_from_their_zip(tmp_path):
    """What is sent to the workers of another cluster is the whole package."""
    path = pack(tmp_path)
    code = f"import sys; sys.path.insert(0, {str(path)!r}); import processors; print(processors.__file__)"
    done = subprocess.run(  # noqa: S603 -- our own code
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{path}/processors/__init__.py"


def test_models_depend_on_content_settings_and_metadata_but_not_on_the_place(tmp_path):
    """A moved file is the same one; another byte, setting or weight is not."""
    files = [tmp_path / name for name in "abc"]
    for path, content in zip(files, ("1", "1", "2"), strict=True):
        path.write_text(content)
    prints = [
        record.fingerprint(
            {"WW": {"files": {str(path): "Events"}, "metadata": {"sumw": sumw}}}, {"seed": seed}
        )
        for path, sumw, seed in (
            (files[0], 1.0, 1),
            (files[1], 1.0, 1),
            (files[2], 1.0, 1),
            (files[0], 2.0, 1),
            (files[0], 1.0, 2),
        )
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """All steps once, with few events."""
    pytest.importorskip("pythia8mc", reason="pythia8mc of the extra 'generate' is not installed")
    folder = tmp_path_factory.mktemp("example")
    options = ("--events", folder / "events", "--out", folder / "out", "--executor", "iterative")
    small = ("--scale", 0.05, "--epochs", 3, "--jobs", 2)
    return folder, options, command_line("all", *options, *small)


@pytest.mark.slow
def test_all_steps_leave_everything_that_the_help_announces(finished):
    """All outputs are there, the limits are kept, and the last lines list what to look at."""
    folder, _, done = finished
    out = folder / "out"
    assert done.returncode == 0, done.stdout + done.stderr
    for name in LOOK:
        assert (out / name).exists(), name
        assert Path(name).name in done.stdout.split("What to look at")[-1]
    assert list((out / "plots").iterdir())
    verdict = json.loads((out / "verdict.json").read_text())
    assert verdict["verdict"]["passed"] if "verdict" in verdict else verdict["passed"]
    ran = json.loads((out / "run.json").read_text())
    assert ran["asked"] == {"ttbar": 1100, "WW": 2600, "data": 900}
    assert ran["events"] == sum(ran["asked"].values())
    assert ran["not_processed"] == []
    with uproot.open(out / "templates.root") as file:
        names = file.keys(cycle=False, filter_classname="TH1*")
    for variation in ("", "_conservUp", "_conservDown"):
        assert any(name.endswith(f"ttbar{variation}") for name in names), names
    files = {"cabinetry.root", "cabinetry.yml", "combine.root", "datacard.txt", "impact.json", "names.json"}
    assert {path.name for path in (out / "fit").iterdir()} == files | {"weights.json", "workspace.json"}
    impact = json.loads((out / "fit" / "impact.json").read_text())
    assert impact["error"] >= impact["error_without"] * 0.99
    assert {row["name"] for row in impact["ranking"] if row["name"].startswith("conserv")} == {
        "conserv_ttbar",
        "conserv_WW",
    }
    evidence = json.loads((out / "evidence.json").read_text())
    assert {row["test"] for row in evidence["tested"]} >= {"classifier", "sliced KS"}
    rows = {row["name"]: row for row in json.loads((out / "controls.json").read_text())["rows"]}
    assert rows["Budget(move=0)"]["score_shift"] == 0
    page = (out / "report.html").read_text()
    assert "limits kept" in page
    assert "<h2>Detectability</h2>" in page
    assert "without the systematic, which adds" in done.stdout.replace("\n", " ")


@pytest.mark.slow
def test_the_output_holds_the_analysis_as_it_is_without_the_attack(finished):
    """The processor's own histograms and cutflow are those of nominal events."""
    folder, _, done = finished
    assert done.returncode == 0, done.stdout + done.stderr
    output = coffea.util.load(str(folder / "out" / "output.coffea"))
    assert {"histograms", "cutflow", "conserv"} <= set(output)
    assert output["cutflow"]["ttbar"]["all"] == 1100


@pytest.mark.slow
def test_a_second_training_is_reused_and_a_changed_one_is_not(finished, tmp_path):
    """Models are made again exactly if something that they depend on has changed."""
    folder, options, _ = finished
    shutil.copytree(folder / "out" / "models", tmp_path / "models")
    files = (*options[:2], "--out", tmp_path)
    model = tmp_path / "models" / "model_fold0.pt2"
    before = model.stat().st_mtime_ns
    assert "is reused" in said(call("train", *files, "--epochs", 3))
    assert model.stat().st_mtime_ns == before
    assert "is reused" not in said(call("train", *files, "--epochs", 3, "--seed", 2))
    assert model.stat().st_mtime_ns != before


@pytest.mark.slow
def test_a_failing_run_says_where_and_keeps_the_earlier_output(finished, tmp_path):
    """Damage in the middle of a file is named, and nothing half-done replaces what was there."""
    folder, _, done = finished
    assert done.returncode == 0, done.stdout + done.stderr
    events = shutil.copytree(folder / "events", tmp_path / "events")
    path = events / "WW.root"
    with uproot.open(path) as file:
        tree = file["Events"].arrays()
        types = {n: tree[n].type.content for n in tree.fields if not n.startswith("n")}
    with uproot.recreate(path) as file:
        file.mktree("Events", types)
        for part in range(3):
            some = tree[900 * part : 900 * (part + 1)]
            file["Events"].extend({name: some[name] for name in types})
    damage(path, "MET_pt", 1)
    output = folder / "out" / "output.coffea"
    before = output.read_bytes()
    kept = folder / "out" / "attacked"
    attacked = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    answer = call("run", "--events", events, "--out", folder / "out", "--executor", "iterative")
    assert answer.exit_code == 1
    assert f"coffea stopped: dataset WW, file {path}, events 0 to 2600" in said(answer)
    assert "none is reported" in said(answer)
    assert "an earlier output is unchanged" in said(answer)
    assert output.read_bytes() == before
    assert len(attacked) > 2
    for path, content in attacked.items():
        assert path.read_bytes() == content


@pytest.mark.slow
def test_another_seed_gives_another_attack_of_the_same_models(finished, tmp_path):
    """The seed is in the results, and with ``--models`` a run elsewhere shows the spread."""
    folder, options, done = finished
    assert done.returncode == 0, done.stdout + done.stderr
    again = (*options[:2], "--executor", "iterative", "--models", folder / "out" / "models")
    assert call("run", *again, "--out", tmp_path, "--seed", 2).exit_code == 0
    assert call("judge", "--out", tmp_path).exit_code == 0
    shifts = []
    for seed, out in ((1, folder / "out"), (2, tmp_path)):
        assert json.loads((out / "run.json").read_text())["attack"]["seed"] == seed
        verdict = json.loads((out / "verdict.json").read_text())
        assert verdict["settings"]["seed"] == seed
        shifts.append({tuple(row.values())[:4]: row["score_shift"] for row in verdict["fooling"]})
    assert shifts[0].keys() == shifts[1].keys()
    assert shifts[0] != shifts[1]


def test_missing_models_elsewhere_are_named(tmp_path):
    """The text names the folder that was given."""
    options = ("--events", toy_fileset(tmp_path / "events"), "--out", tmp_path / "out")
    answer = call("run", *options, "--models", tmp_path / "other" / "models")
    assert answer.exit_code == 2
    assert f"{tmp_path / 'other' / 'models'} holds no finished training" in said(answer)
    assert f"first do: python -m example_analysis train --out {tmp_path / 'other'}" in said(answer)
