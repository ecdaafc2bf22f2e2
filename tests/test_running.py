"""Runs from a configuration file: what it says, what is wrong with it, plan and run of the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner
from coffea.util import load
from made_conserv import difference
from made_pages import importable, prepare
from typer.testing import CliRunner

from coffea_conserv import Budget, Classes, ConfigurationError, Conserv, Feature, Shared, load_result
from coffea_conserv.cli.app import app
from coffea_conserv.running import build
from coffea_conserv.running.build import make_plan
from coffea_conserv.running.configuration import Configuration, read_configuration
from coffea_conserv.running.objects import schema_of
from coffea_conserv.running.planning import look_ahead
from coffea_conserv.running.progress import Progress, ToFile, Told, ToTopic, find_sums
from coffea_conserv.running.runs import Where, chunks_of, execute, read_fileset

PAGE = (Path(__file__).parents[1] / "docs" / "commands.md").read_text(encoding="utf-8")
COUNT = 400


def block(marker):
    """Block of the page after a marker."""
    (found,) = re.findall(rf"<!-- {re.escape(marker)} -->\n```\w*\n(.*?)```", PAGE, re.DOTALL)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a user has: module, model, files, fileset, and the configuration of the page with few steps."""
    made = prepare(tmp_path_factory.mktemp("user"), COUNT, quick=True)
    text = block("file: conserv.yaml") + "solver: {name: transport, steps: 8, rounds: 3}\n"
    (made / "conserv.yaml").write_text(text.replace("100_000", "200"))
    return made


@pytest.fixture
def here(folder, monkeypatch):
    """In this folder, with its module in reach."""
    monkeypatch.chdir(folder)
    with importable(folder):
        yield folder


def call(*arguments):
    """Run the command line in this process, on a wide terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"}).invoke(app, [str(a) for a in arguments])


def plan_of(path, **options):
    """Attack and processor of a configuration."""
    config, document = read_configuration(path)
    return make_plan(config, document, **options)


# --- what a configuration says ------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_a_configuration_is_the_same_attack():
    """As the one in Python: the same hash, axes with their names apart."""
    import my_analysis  # noqa: PLC0415 -- a file of the folder

    plan = plan_of(Path("conserv.yaml"))
    python = my_analysis.build_conserv("classifier.pt2")
    made = plan.conserv
    for own, other in zip(made.features, python.features, strict=True):
        assert replace(own, axis=other.axis) == other
        assert own.axis.edges.tolist() == other.axis.edges.tolist()
        assert (own.axis.name, own.axis.traits) == (own.name, other.axis.traits)
    assert (made.budget, made.solver) == (python.budget, python.solver)
    assert made.handles == python.handles
    assert list(made.watch) == list(python.watch)
    assert plan.modules == ("my_analysis",)
    assert plan.config.processes == {"W": ["W1Jets", "W2Jets"]}


SETTINGS = """
processor: {of: "my_analysis:MyAnalysis"}
build: my_helpers:build
options: {seed: 5}
model: [classifier.pt2, classifier.pt2]
budget: {band: {pt_1: 0.1, pt_met: 0.2}, chi2: {limit: 20, events: 1000}, correlation_element: 0.1}
score: {edges: [0, 0.2, 0.8, 1], label: output}
working_point: [0.5, 0.9]
output: {target: [1, 2], source: 0, argmax: true}
objective: cross
target: correct
penalty: 0.1
device: cpu
solver: search
names: columnflow
keep: attacked
shared: models
"""

HELPERS = """
given = {}
def build(model, budget, **options):
    import my_analysis
    given.update(options, model=model, budget=budget)
    return my_analysis.build_conserv("classifier.pt2")
"""


def test_every_setting_arrives(here):
    """At the function of build:, with the types that Conserv takes."""
    (here / "my_helpers.py").write_text(HELPERS)
    (here / "all.yaml").write_text(SETTINGS)
    plan_of(here / "all.yaml")
    given = sys.modules.pop("my_helpers").given
    assert given["budget"].band == {"pt_1": 0.1, "pt_met": 0.2}
    assert given["budget"].chi2.events == 1000
    assert given["model"] == Shared([here / "classifier.pt2"] * 2, "models")
    assert given["output"] == Classes((1, 2), 0, argmax=True)
    assert given["score"].edges.tolist() == [0, 0.2, 0.8, 1]
    assert given["score"].label == "output"
    assert (given["seed"], given["penalty"], given["solver"]) == (5, 0.1, "search")
    assert given["keep"] == Path("attacked")
    assert given["working_point"] == [0.5, 0.9]
    assert given["names"].variation == "shift"
    assert (given["objective"], given["target"], given["device"]) == ("cross", "correct", "cpu")


def edited(folder, *changes):
    """Configuration of the page with changes."""
    text = (folder / "conserv.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "edited.yaml"
    path.write_text(text)
    return path


def test_the_errors_of_the_page(here):
    """Several at a time, each with its line."""
    changes = (("  pt_1: {axis: {bins: 40", "  pt_1: {axis: {bins: forty"), ("budget: {rms", "bugdet: {rms"))
    path = edited(here, *changes)
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(path)
    assert str(caught.value).replace(str(path), "conserv.yaml") == block("errors").strip()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("start: 20, stop: 220", "start: 20")], r"line 7, features\.pt_1\.axis: give bins, start"),
        (
            [("start: 20, stop: 220", "start: 220, stop: 20")],
            r"line 7, features\.pt_1: .*fall; give",
        ),
        (
            [("rms: 0.05", "rms: -1")],
            r"line 18, budget\.rms: Input should be greater than or equal to 0",
        ),
        ([("rms: 0.05", "rms: 0.05, jsd: 0.1")], r"line 18, budget: give exactly one of rms=, band=, jsd="),
        (
            [("my_analysis:transverse", "my_analysis.transverse")],
            r"line 16, watch\.mt_1\.function: write it as",
        ),
        (
            [("transverse_mass", "longitudinal")],
            r"line 16, watch\.mt_1: my_analysis:longitudinal cannot be imp",
        ),
        (
            [("my_analysis:MyAnalysis", "none:MyAnalysis")],
            r"line 1, processor: none:MyAnalysis cannot be imported",
        ),
        (
            [("my_analysis:MyAnalysis", "math:sqrt")],
            r"line 1, processor: math:sqrt\(conserv=\) cannot be made",
        ),
        ([("classifier.pt2", "none.pt2")], r"model file .*none\.pt2 does not exist"),
        (
            [("name: transport", "name: teleport")],
            r"solver: there is no solver 'teleport'; there are transport",
        ),
        ([("rounds: 3", "rouns: 3")], r"solver: transport does not take that .*it takes steps"),
        ([("frozen: true", "frozen: true, frozen: false")], r"line 12: frozen is there twice"),
        ([("features:", "build: a:b\nfeatures:")], r"give either features: or build:"),
        ([("budget: {", "budget: [")], r"line \d+: no YAML"),
        ([("unit: GeV}", "unit: [GeV]}")], r"Input should be a valid string, got \['GeV'\]"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(changes, message, here):
    """Of the file, of what it names, and of what it means."""
    with pytest.raises(ConfigurationError, match=message):
        plan_of(edited(here, *changes))


def test_no_setting_of_python_is_dropped():
    """Each argument of Conserv is a setting of the file, passed on as it is or made of its parts."""
    made = {"model", "features", "budget", "watch", "valid", "score", "output", "solver", "keep", "names"}
    assert {field.name for field in fields(Conserv) if field.init} == made | set(build._PASSED)
    assert made | set(build._PASSED) <= set(Configuration.model_fields)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("NoSchema", r"line \d+, schema: coffea has no schema 'NoSchema'; there are .*NanoAODSchema"),
        ("schemas", r"line \d+, schema: coffea has no schema 'schemas'; there are"),
        ("NanoEventsFactory", r"line \d+, schema: coffea has no schema 'NanoEventsFactory'; there are"),
        (
            "my_analysis:MyAnalysis",
            r"line \d+, schema: my_analysis:MyAnalysis is no schema, a subclass of BaseSchema",
        ),
    ],
)
def test_a_schema_is_known_before_files_are_opened(schema, message, here):
    """With the line of the file."""
    text = (here / "conserv.yaml").read_text()
    text = re.sub(r"^schema:.*$", f"schema: {schema}", text, flags=re.MULTILINE)
    (here / "schema.yaml").write_text(text)
    assert f"schema: {schema}" in text
    with pytest.raises(ConfigurationError, match=message):
        plan_of(here / "schema.yaml")


def test_what_is_not_there(here):
    """No file, no processor, no model."""
    with pytest.raises(ConfigurationError, match=r"configuration .*none\.yaml cannot be read"):
        read_configuration(here / "none.yaml")
    with pytest.raises(
        ConfigurationError, match="no processor: give processor: module:Class, or --processor"
    ):
        plan_of(edited(here, ("processor: my_analysis:MyAnalysis", "")))
    with pytest.raises(ConfigurationError, match="no model: give model: file, or --model"):
        plan_of(edited(here, ("model: classifier.pt2", "")))
    given = plan_of(edited(here, ("model: classifier.pt2", "")), model=[Path("classifier.pt2")])
    assert given.conserv.config == plan_of(here / "conserv.yaml").conserv.config


def test_filesets_are_looked_into(here):
    """Short forms are taken; missing files are named before anything starts."""
    short = here / "short.json"
    short.write_text(
        json.dumps({"W1Jets": ["W1Jets.root"], "x": {"files": {"root://host/a.root": "Events"}}})
    )
    made = read_fileset(short)
    assert made["W1Jets"] == {"files": {str(here / "W1Jets.root"): None}, "metadata": {"is_data": False}}
    assert list(made["x"]["files"]) == ["root://host/a.root"]
    for content, message in (
        ({"W": ["none.root"]}, r"dataset W: .*none\.root does not exist"),
        ({"W": {"files": {}}}, "dataset W has no files; write name"),
        ([], "must be a JSON object"),
    ):
        short.write_text(json.dumps(content))
        with pytest.raises(ConfigurationError, match=message):
            read_fileset(short)
    short.write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_fileset(short)
    with pytest.raises(
        ConfigurationError, match=r"coffea has no schema 'NoSchema'; there are .*NanoAODSchema"
    ):
        schema_of("NoSchema")
    assert schema_of("made_nano:Schema").__name__ == "Schema"


# --- runs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def reference(here):
    """Sums of one chunk after the other, by coffea alone."""
    plan, fileset = plan_of(here / "conserv.yaml"), read_fileset(here / "fileset.json")
    runner = Runner(IterativeExecutor(status=False), schema=BaseSchema, chunksize=200)
    return runner(fileset, plan.make(plan.conserv), treename="Events")["conserv"]


@pytest.mark.usefixtures("here")
def test_metadata_are_read_again(folder):
    """A process keeps them otherwise, so that a flag that was mended would not be seen."""
    plan, fileset = plan_of(Path("conserv.yaml")), read_fileset(folder / "fileset.json")
    before = {chunk.dataset: chunk.usermeta["is_data"] for chunk in chunks_of(plan, fileset)}
    for entry in fileset.values():
        entry["metadata"] = {"is_data": not entry["metadata"]["is_data"]}
    after = {chunk.dataset: chunk.usermeta["is_data"] for chunk in chunks_of(plan, fileset)}
    assert after == {name: not flag for name, flag in before.items()}


@pytest.mark.slow
def test_runs_are_not_mixed_in_one_folder(here, tmp_path, caplog):
    """The page of a run with other limits has nothing of the earlier one, which is moved away."""
    out = tmp_path / "out"
    common = ("run", "--fileset", "fileset.json", "--out", out, "--config")
    apart = ("processes: {W: [W1Jets, W2Jets]}", "")
    first = edited(here, apart).rename(here / "first.yaml")
    assert call(*common, first).exit_code in (0, 1)
    assert call("check", out).exit_code in (0, 1)
    assert call("export", out, "--signal", "W1Jets").exit_code == 0
    config = load_result(out).settings.config
    for name in ("evidence.json", "fit/impact.json"):
        assert json.loads((out / name).read_text())["config"] == config
    mean = json.loads((out / "fit" / "impact.json").read_text())["systematic_error"]
    assert call(*common, first).exit_code in (0, 1)  # the same again replaces
    assert (out / "fit" / "impact.json").is_file()
    assert call(*common, edited(here, apart, ("rms: 0.05", "rms: 0.3"))).exit_code in (0, 1)
    earlier = out / "earlier" / config
    assert f"what was made of an earlier run with other settings is now in {earlier}" in caplog.text
    assert json.loads((earlier / "fit" / "impact.json").read_text())["systematic_error"] == mean
    assert {path.name for path in earlier.iterdir()} == {"evidence.json", "fit"}
    assert not (out / "fit").exists()
    (out / "fit").mkdir()
    (earlier / "fit" / "impact.json").rename(out / "fit" / "impact.json")  # by hand
    done = call("report", out)
    assert done.exit_code in (0, 1), done.output
    assert f"impact.json is of another run ({config}, not {load_result(out).settings.config})" in caplog.text
    assert "In a fit" not in (out / "report.html").read_text()


def test_run_leaves_everything(here, reference, tmp_path):
    """The sums are those of coffea alone; files, lines of progress, exit code."""
    done = call("run", "--config", "conserv.yaml", "--fileset", "fileset.json", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    out = tmp_path / "out"
    names = {"output.coffea", "result.coffea", "verdict.json", "templates.root", "conserv.yaml"}
    assert {path.name for path in out.iterdir()} == names
    assert difference(load(out / "output.coffea")["conserv"], reference) == 0
    assert load_result(out).verdict.passed
    assert json.loads((out / "verdict.json").read_text())["coverage"][0]["complete"]
    assert (out / "conserv.yaml").read_text() == (here / "conserv.yaml").read_text()
    lines = re.findall(r"(\d)/6 chunks, ([\d,]+) events, [\d,]+ events/s, fooled up [\d.]+%", done.output)
    assert lines[-1] == ("6", "1,200")
    assert f"next: coffea-conserv report {out}" in done.output.replace("\n", "")
    assert "Processing" not in done.output  # coffea's own bar


@pytest.mark.slow
def test_run_on_processes_and_clusters(here, reference, tmp_path):
    """Processes of this machine, and a cluster whose workers know nothing of the folder."""
    distributed = pytest.importorskip("distributed")
    common = ("run", "--config", "conserv.yaml", "--fileset", "fileset.json", "--out")
    done = call(*common, tmp_path / "pool", "--workers", 2)
    assert done.exit_code == 0, done.output
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=":0", resources={"GPU": 1}, silence_logs=50
    ) as cluster:
        address = cluster.scheduler_address
        done = call(*common, tmp_path / "dask", "--client", address, "--resource", "GPU=1")
        assert done.exit_code == 0, done.output
        assert "6/6 chunks, 1,200 events" in done.output
        few = call(*common, tmp_path / "none", "--client", address, "--resource", "TPU")
        assert few.exit_code == 2
        assert "--resource TPU: write it as GPU=1" in few.output
    for name in ("pool", "dask"):
        assert difference(load(tmp_path / name / "output.coffea")["conserv"], reference) <= 1e-12


def test_a_run_goes_on_where_it_was_cut_off(here, tmp_path):
    """Chunks that were kept are not processed again; those of other settings are not found."""
    plan, fileset = plan_of(here / "conserv.yaml"), read_fileset(here / "fileset.json")
    chunks = chunks_of(plan, fileset)
    where = Where(checkpoints=tmp_path)
    seen = []
    first = execute(plan, chunks[:4], where, seen.append)
    assert len(seen) == 4
    again = execute(plan, chunks, where, seen.append)
    assert [message.get("reused", 0) for message in seen[4:]] == [1] * 4 + [0] * 2
    assert len(first.sums["conserv"].chunks) <= len(again.sums["conserv"].chunks)
    other = plan_of(edited(here, ("rms: 0.05", "rms: 0.1")))
    execute(other, chunks, where, seen.append)
    assert len(seen) == 16
    assert not any("reused" in message for message in seen[10:])
    assert len(list(tmp_path.iterdir())) == 2


TWICE = """
from coffea.processor import ProcessorABC
import numpy as np
import my_analysis

class Twice(ProcessorABC):
    def __init__(self, conserv, other=0):
        self.inner, self.conserv, self.other = my_analysis.MyAnalysis(conserv), conserv, other

    def process(self, events):
        output = self.inner.process(events)
        harder = events[np.asarray(events.pt_1) > 40]
        more = self.inner.process(harder)
        if self.other:
            other = my_analysis.build_conserv("classifier.pt2")
            object.__setattr__(other, "config", "another")
            self.inner.conserv = other
            more = self.inner.process(harder)
            self.inner.conserv = self.conserv
        return {**output, "../hard pt": more}

    def postprocess(self, accumulator):
        return accumulator
"""


def test_all_sums_of_an_output_are_judged(here, reference, tmp_path):
    """Each in a folder of its own, with the numbers of its own events; those of another attack are named."""
    (here / "my_twice.py").write_text(TWICE)
    common = ("run", "--config", "conserv.yaml", "--fileset", "fileset.json", "--out")
    done = call(*common, tmp_path / "out", "--processor", "my_twice:Twice")
    assert done.exit_code in (0, 1), done.output
    whole, hard = (load_result(tmp_path / "out" / name) for name in ("conserv", "hard_pt_conserv"))
    plan, fileset = plan_of(here / "conserv.yaml"), read_fileset(here / "fileset.json")
    inner = plan.make(plan.conserv)

    class Hard(type(inner)):
        def process(self, events):
            return super().process(events[np.asarray(events.pt_1) > 40])

    inner.__class__ = Hard
    runner = Runner(IterativeExecutor(status=False), schema=BaseSchema, chunksize=200, metadata_cache={})
    assert difference(hard.sums, runner(fileset, inner, treename="Events")["conserv"]) == 0
    assert difference(whole.sums, reference) == 0
    for folder in ("conserv", "hard_pt_conserv"):
        assert f"coffea-conserv report {tmp_path / 'out' / folder}" in done.output.replace("\n", "")
    (here / "other.yaml").write_text(
        (here / "conserv.yaml")
        .read_text()
        .replace("my_analysis:MyAnalysis", "{of: my_twice:Twice, arguments: {other: 1}}")
    )
    done = call("run", "--config", "other.yaml", *common[3:], tmp_path / "two")
    assert done.exit_code == 2
    text = " ".join(done.output.split())
    assert (
        "sums of another attack than that of the configuration, which are not judged: ../hard pt/conserv"
        in text
    )
    assert load_result(tmp_path / "two" / "conserv").sums.counts.keys() == whole.sums.counts.keys()


def test_a_failing_processor_leaves_its_error(here, tmp_path):
    """And an output without the attack is one that says what to return."""
    (here / "my_wrong.py").write_text(
        "from coffea.processor import ProcessorABC\n"
        "class Forgets(ProcessorABC):\n"
        "    def __init__(self, conserv): pass\n"
        "    def process(self, events): return {'n': len(events)}\n"
        "    def postprocess(self, accumulator): return accumulator\n"
    )
    common = ("run", "--config", "conserv.yaml", "--fileset", "fileset.json", "--out", tmp_path / "out")
    done = call(*common, "--processor", "my_wrong:Forgets")
    assert done.exit_code == 2
    assert "has nothing of the attack; let it return what Conserv returns" in " ".join(done.output.split())
    path = edited(here, ("model: classifier.pt2", "model: [classifier.pt2, classifier.pt2]"))
    for workers in (1, 2):
        done = call("run", "--config", path, *common[3:], "--workers", workers)
        assert done.exit_code == 2, done.output
        text = " ".join(done.output.split())
        assert re.search(
            r"error: dataset W1Jets, .*W1Jets\.root: 2 models need fold=, the fold of each", text
        )


WRAPPED = """
processor: "my_plain:analysis"
schema: BaseSchema
model: classifier.pt2
features: {FEATURES}
budget: {rms: 0.1, correlation: 0.1}
solver: {steps: 8, rounds: 3}
wrapper:
  columns: {pt_1: pt_1, phi_1: phi_1, pt_met: pt_met, phi_met: phi_met, njets: "my_plain:njets", jpt_1: jpt_1}
  regions: my_plain:regions
  weight: my_plain:weight
"""

PLAIN = """
import hist, numpy as np
def analysis(events):
    return {"pt": hist.new.Reg(20, 0, 200).Weight().fill(events.pt_1)}
def njets(events):
    return events.njets
def regions(events):
    return {"all": np.ones(len(events), dtype=bool)}
def weight(events):
    return events.weight
"""


def test_an_analysis_that_stays_as_it_is(here, tmp_path):
    """The section wrapper: puts ConservProcessor around it."""
    (here / "my_plain.py").write_text(PLAIN)
    page = (here / "conserv.yaml").read_text()
    features = page.split("features:")[1].split("watch:")[0].split("\n", 1)[1]
    (here / "wrapped.yaml").write_text(WRAPPED.replace(" {FEATURES}", "\n" + features))
    done = call("run", "--config", "wrapped.yaml", "--fileset", "fileset.json", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    output = load(tmp_path / "output.coffea")
    assert list(output["pt"].axes[0]) == ["nominal", "conservUp", "conservDown"]
    path = here / "wrapped.yaml"
    path.write_text(path.read_text().replace("my_plain:weight", "my_plain:wait"))
    with pytest.raises(ConfigurationError, match=r"wrapper\.weight: my_plain:wait cannot be imported"):
        plan_of(path)


# --- plan ---------------------------------------------------------------------------------------------------


def test_plan_says_what_a_run_will_be(here):
    """Sizes are those of the run, scaled up; nothing is written."""
    before = sorted(path.name for path in here.iterdir())
    plan, fileset = plan_of(here / "conserv.yaml"), read_fileset(here / "fileset.json")
    outlook = look_ahead(plan, fileset, sample=200)
    assert outlook.datasets == {"W1Jets": (400, 2), "W2Jets": (400, 2), "Run2012B": (400, 2)}
    whole = look_ahead(plan, fileset, sample=400)
    ran = execute(plan, chunks_of(plan, fileset), Where(), lambda _: None)
    for few, all_ in zip(outlook.groups, whole.groups, strict=True):
        events = ran.sums["conserv"].counts[few.dataset, few.region, "nominal"][0]
        assert few.events == pytest.approx(events, rel=0.25)
        assert few.per_chunk == few.events / 2
        assert all_.below == few.below == ("rms", "correlation")
        assert few.chunk == 400  # less than a thousand events: all that there are
    assert outlook.cost.tried == 600
    assert outlook.cost.seconds > 0
    assert 0 <= outlook.cost.attack < 1
    assert outlook.cost.memory > 1e8
    done = call("plan", "--config", "conserv.yaml", "--fileset", "fileset.json", "--sample", 200)
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert f"configuration {plan.conserv.config}: 1,200 events in 6 chunks" in text
    assert "smallest sensible chunk: 400 events read, for 1,000 in each group; chunksize is 200" in text
    assert re.search(r"on one core like this: \d+ s, \d+% of it the attack; memory up to \d\.\d GB", text)
    assert sorted(path.name for path in here.iterdir() if path.name != "__pycache__") == [
        name for name in before if name != "__pycache__"
    ]


# --- progress -----------------------------------------------------------------------------------------------


def test_progress_adds_up(tmp_path):
    """Ratios of what was told; what cannot be told costs no chunk."""
    progress = Progress()
    progress.add({"events": 100, "conservUp": (10.0, 1.0), "conservDown": (5.0, 5.0)})
    progress.add({"events": 50, "conservUp": (10.0, 4.0)})
    progress.add({"events": 50})
    assert (progress.chunks, progress.events, progress.fooled["conservUp"]) == (3, 200, (20.0, 5.0))
    assert re.fullmatch(r"200 events, [\d,]+ events/s, fooled up 25\.0% down 100\.0%", progress.text)
    assert "fooled" not in Progress().text
    ToFile(str(tmp_path / "none" / "file"))({"events": 1})
    ToTopic("topic")({"events": 1})
    assert find_sums({"a": {"b": 3}}) == {}


def test_a_told_processor_is_the_processor():
    """Same output, same postprocessing."""

    class Inner:
        def process(self, events):
            return {"n": 3}

        def postprocess(self, accumulator):
            return {"n": -accumulator["n"]}

    class Events:
        metadata = {"entrystart": 10, "entrystop": 30}  # noqa: RUF012

    told = []
    outer = Told(Inner(), told.append)
    assert outer.process(Events()) == {"n": 3}
    assert told == [{"events": 20}]
    assert outer.postprocess({"n": 3}) == {"n": -3}


def test_help_imports_no_analysis():
    """--help of the new commands answers at once."""
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom coffea_conserv.cli.app import app\n"
        "for name in ('plan', 'run'):\n    assert CliRunner().invoke(app, [name, '--help']).exit_code == 0\n"
        "assert not {'torch', 'coffea', 'hist', 'dask'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603


def test_names_are_those_of_python():
    """Every setting is an argument of what it configures."""
    from coffea_conserv.running.configuration import BudgetEntry, FeatureEntry  # noqa: PLC0415

    assert set(FeatureEntry.model_fields) | {"name"} == set(Feature.__dataclass_fields__)
    assert set(BudgetEntry.model_fields) == set(Budget.__dataclass_fields__)


def test_names_are_checked_before_a_run(here):
    """Processes of datasets, totals of processes: after a run it would be late."""
    for old, new, message in (
        (
            "[W1Jets, W2Jets]}",
            "[W1Jets, W3Jets]}",
            r"line 19, processes\.W: there is no 'W3Jets'",
        ),
        (
            "[W1Jets, W2Jets]}",
            "[W1Jets]}\ntotals: {all: [W, W2]}",
            r"totals\.all: there is no 'W2'",
        ),
    ):
        path = edited(here, (old, new))
        done = call("run", "--config", path, "--fileset", "fileset.json", "--out", here / "never")
        assert done.exit_code == 2
        assert re.search(message, " ".join(done.output.split()))
        assert not (here / "never").exists()


def test_plan_of_hardly_anything(here):
    """Data alone, a dataset without events, files that cannot be read, trees that are not there."""
    fileset = json.loads((here / "fileset.json").read_text())
    path = edited(here, ("processes: {W: [W1Jets, W2Jets]}", ""))

    def planned(content):
        (here / "other.json").write_text(json.dumps(content))
        return call("plan", "--config", path, "--fileset", "other.json")

    done = planned({"Run2012B": fileset["Run2012B"]})
    assert done.exit_code == 0, done.output
    assert "no simulation: nothing is attacked" in done.output
    with uproot.recreate(here / "empty.root") as file:
        with uproot.open(f"{here / 'W1Jets.root'}:Events") as tree:
            names = tree.keys()
        file.mktree("Events", dict.fromkeys(names, np.float32))
    empty = {"files": {"empty.root": "Events"}, "metadata": {"is_data": False}}
    done = planned({"W1Jets": fileset["W1Jets"], "empty": empty})
    assert done.exit_code == 0, done.output
    assert re.search(r"empty/jets +│ +0 │", done.output)
    (here / "cut.root").write_bytes((here / "W1Jets.root").read_bytes()[:2000])
    for content, message in (
        ({"W": {"cut.root": "Events"}}, r"the files of the fileset cannot be read: .*cut\.root"),
        ({"W": {"W1Jets.root": "Evts"}}, r"the files of the fileset cannot be read: .*Evts"),
    ):
        done = planned(content)
        assert done.exit_code == 2
        assert re.search(message, " ".join(done.output.split()))
