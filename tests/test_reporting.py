"""The page for reviewers and the command line that makes it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import asdict, replace
from html.parser import HTMLParser

import pytest
from made_problems import Ring, features, made_batch
from made_results import result_of
from typer.testing import CliRunner

from coffea_conserv import Blinding, Budget, run_controls
from coffea_conserv.cli.app import app
from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.evidence import Evidence, gather_evidence
from coffea_conserv.evidence.checks import Detected
from coffea_conserv.evidence.effort import EventTest
from coffea_conserv.exports import Measurement, fit_impact
from coffea_conserv.exports.impact import FitImpact
from coffea_conserv.plotting import detectability_plot, impact_plot
from coffea_conserv.report import tables, write_page
from coffea_conserv.results.derived import write_derived

RESULT = result_of()
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def parts():
    """Evidence with a made-up test of events, impact and controls."""
    evidence = gather_evidence(RESULT)
    tested = (EventTest("signal", "conservUp", "sliced KS", "", 0.05, 0.01, 500.0, float("inf")),)
    evidence = replace(evidence, tested=tested)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the fit tools are not ours
        impact = fit_impact(RESULT.templates(), Measurement(signal="Z"))
    controls = run_controls(made_batch(100).x, Ring(), features(), budget=Budget(rms=0.1))
    return evidence, impact, controls


@pytest.fixture(scope="module")
def page(parts, tmp_path_factory):
    """The page with everything in it."""
    evidence, impact, controls = parts
    path = tmp_path_factory.mktemp("page") / "report.html"
    seen = []
    write_page(
        RESULT,
        path,
        evidence=evidence,
        impact=impact,
        controls=controls,
        title="A <title> & more",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [done for done, _ in seen] == list(range(1, seen[0][1] + 1))
    return path


class Reader(HTMLParser):
    """Tags, and what is in them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Remember a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Every tag is closed in the order in which it was opened."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Collect texts by tag."""
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


def test_the_page_is_whole_and_needs_nothing_else(page):
    """Every tag is closed, no address leads out, pictures are within, text is escaped."""
    text = page.read_text()
    read = Reader(text)
    assert read.open == []
    assert not re.search(r"https?://", text.replace("http-equiv", ""))
    for tag, attributes in read.tags:
        for name in ("src", "href", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    assert any("default-src 'none'" in str(attributes.get("content")) for _, attributes in read.tags)
    assert "A <title> & more" in "".join(read.texts["h1"])
    assert "A <title>" not in text
    targets = {attributes["href"] for tag, attributes in read.tags if tag == "a"}
    names = {f"#{attributes['id']}" for _, attributes in read.tags if "id" in attributes}
    assert targets <= names
    pictures = [attributes for tag, attributes in read.tags if tag == "img" and "src" in attributes]
    assert len(pictures) > 10
    assert all(attributes["alt"] for attributes in pictures)


def test_the_page_holds_the_values_of_the_result(page, parts):
    """What can be downloaded is the result, the evidence, the impact and the controls."""
    read = Reader(page.read_text())
    values = json.loads(next(text for text in read.texts["script"] if text.startswith("{")))
    assert values["result"]["verdict"] == RESULT.to_dict()["verdict"]
    assert len(values["evidence"]["checks"]) == len(parts[0].checks)
    assert values["impact"]["error"] == parts[1].error
    assert [row["name"] for row in values["controls"]] == [row.name for row in parts[2]]


def test_the_page_says_first_what_counts(page):
    """Verdict, what crosses, what data say, the fit; then sections for everything that there is."""
    read = Reader(page.read_text())
    text = " ".join(read.texts["p"]) + " ".join(read.texts["li"])
    assert RESULT.verdict.summary in text
    assert "largest shift found within the limits" in page.read_text()
    assert "of the weight crosses the score 0.5" in text
    assert "without the systematic, which adds" in text
    assert read.texts["h2"] == [
        "Verdict",
        "The systematic",
        "In a fit",
        "Detectability",
        "Evidence in all regions",
        "Region control",
        "Region signal",
        "Controls",
        "The run",
        "The method and its limits",
    ]


def test_a_page_of_a_result_alone_has_fewer_sections(tmp_path):
    """Without evidence, fit and controls the rest is there."""
    read = Reader(write_page(RESULT, tmp_path / "r.html", regions=["signal"]).read_text())
    assert read.texts["h2"] == [
        "Verdict",
        "The systematic",
        "Region signal",
        "The run",
        "The method and its limits",
    ]


def test_hidden_data_are_not_on_the_page(tmp_path):
    """With all bins hidden no comparison with data is left, in no table and in no value."""
    blind = result_of(blinding=Blinding("Z", above=0.0))
    assert blind.hidden("score", "signal")[1:-1].all()
    text = write_page(
        blind, tmp_path / "r.html", evidence=gather_evidence(blind), regions=["signal"]
    ).read_text()
    values = json.loads(next(t for t in Reader(text).texts["script"] if t.startswith("{")))
    rows = [
        row for row in values["evidence"]["checks"] if row["against"] == "data" and row["quantity"] == "score"
    ]
    assert all(row["found"]["ndf"] == 0 for row in rows)
    assert not [row for row in values["evidence"]["correlations"] if row["against"] == "data"]


def test_tables_sort_by_values_that_they_show(parts):
    """Numbers are numbers, what is not finite is None in downloads, moods mark what is bad."""
    evidence, impact, controls = parts
    table = tables.detected_table(
        replace(evidence, detected=(Detected("r", "conservUp", "t", "w", float("inf"), 100.0),))
    )
    assert [cell.text for cell in table.rows[0]][-2:] == ["never", "100"]
    assert table.values()[0]["events needed"] is None
    assert tables.controls_table(controls).values()[1]["mean score"] == 0
    assert tables.impact_table(impact).values()[0]["rank"] >= 1
    for made in (tables.limits_table(RESULT), tables.systematics_table(RESULT), tables.fooling_table(RESULT)):
        assert made.rows
        assert all(len(row) == len(made.columns) for row in made.rows)


@needs_chromium
def test_a_browser_shows_the_page_without_errors(page, tmp_path):
    """Nothing on the console; scripts run: a click sorts a table, and pictures grow."""
    probe = tmp_path / "probe.html"
    script = """
    <script>addEventListener("load", () => {
      const head = document.querySelector("#table-limits ~ .scroll th:nth-child(4) button");
      head.click();
      const rows = [...document.querySelectorAll("[data-name=limits] tbody tr")];
      const values = rows.map((row) => Number(row.cells[3].dataset.value));
      const sorted = values.every((v, i) => i === 0 || values[i - 1] <= v);
      document.querySelector(".zoom").click();
      const open = document.getElementById("zoom").open;
      const wide = document.documentElement.scrollWidth <= innerWidth;
      document.title = `sorted ${sorted} open ${open} wide ${wide}`;
    });</script>"""
    probe.write_text(page.read_text().replace("</body>", script + "</body>"))
    for width in (390, 1280):
        done = subprocess.run(  # noqa: S603 -- the browser that was found
            [
                CHROMIUM,
                *("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"),
                f"--window-size={width},900",
                *(f"--user-data-dir={tmp_path / str(width)}", "--dump-dom", str(probe.as_uri())),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert "CONSOLE" not in done.stderr, done.stderr
        assert "<title>sorted true open true wide true</title>" in done.stdout


# ------------------------------------------------------------------------------------- the command line


@pytest.fixture
def folder(tmp_path, parts):
    """A folder with a result."""
    RESULT.save(tmp_path / "result.coffea")
    write_derived(
        tmp_path / "controls.json", RESULT.settings.config, {"rows": [asdict(row) for row in parts[2]]}
    )
    return tmp_path


def call(*arguments):
    """Run the command line, with warnings of the fit tools left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_commands_make_a_report_one_after_the_other(folder):
    """check, export and report: files, tables, and a page of all that the others left."""
    code = 0 if RESULT.verdict.passed else 1
    done = call("check", folder)
    assert done.exit_code == code, done.output
    assert "Your validation would have needed so many events" in done.output
    content = json.loads((folder / "evidence.json").read_text())
    assert content["config"] == RESULT.settings.config
    assert Evidence.from_dict(content) == gather_evidence(RESULT)
    done = call("export", folder, "--signal", "Z", "--merge", 2, "--sides", "one")
    assert done.exit_code == 0, done.output
    assert "without the systematic, which adds" in done.output
    assert {path.name for path in (folder / "fit").iterdir()} == {
        *("cabinetry.root", "cabinetry.yml", "combine.root", "datacard.txt", "impact.json"),
        *("names.json", "templates.root", "weights.json", "workspace.json"),
    }
    done = call("report", folder, "--region", "signal", "--title", "Ours")
    assert done.exit_code == code, done.output
    heads = Reader((folder / "report.html").read_text()).texts
    assert "Ours" in heads["h1"]
    assert {"In a fit", "Detectability", "Controls", "Region signal"} <= set(heads["h2"])


def test_a_broken_limit_is_the_exit_code(tmp_path):
    """1 where a limit is broken, after the tables."""
    broken = replace(RESULT.verdict.limits[0], value=1e9)
    verdict = replace(RESULT.verdict, limits=(broken, *RESULT.verdict.limits[1:]))
    replace(RESULT, verdict=verdict).save(tmp_path / "result.coffea")
    done = call("check", tmp_path)
    assert done.exit_code == 1
    assert re.search(r"\d+ of \d+ limits broken", done.output)


def test_plots_go_where_they_are_asked(folder, tmp_path):
    """Of the regions asked."""
    done = call("plot", folder, "--region", "signal", "--out", tmp_path / "p")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "p").iterdir()} == {"overview.png", "limits.png", "signal"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "nowhere"), "there is no file nowhere"),
        (("report", "{}", "--signal", "QCD"), "blinding: there is no simulated process QCD"),
        (("check", "{}", "--region", "sig"), "there is no region sig; there are control, signal"),
        (("check", "{}", "--uncertainty", "-1"), "uncertainty=-1.0 must be a finite share"),
        (("check", "{}", "--permutations", "3"), "permutations=3 must be 19 at least"),
        (("check", "{}", "--events", "{}"), "there are no attacked events in"),
        (("export", "{}", "--sides", "left"), "sides='left' is none of"),
        (("export", "{}", "--signal", "VBF"), "no simulated process VBF"),
    ],
)
def test_errors_are_text_with_exit_code_2(folder, arguments, message):
    """No traceback, and what to do."""
    done = call(*(argument.format(folder) for argument in arguments))
    assert done.exit_code == 2, done.output
    assert "error:" in done.output
    assert message in re.sub(r"\s+", " ", done.output)
    assert "Traceback" not in done.output


def test_files_of_another_version_are_named(folder):
    """Evidence, impact and controls that cannot be read."""
    config = RESULT.settings.config
    (folder / "evidence.json").write_text(json.dumps({"config": config, "checks": [{"region": 1}]}))
    assert "this is no evidence of this version" in call("report", folder).output
    (folder / "evidence.json").write_text("{")
    assert "evidence.json is damaged" in call("report", folder).output
    (folder / "evidence.json").unlink()
    (folder / "fit").mkdir()
    (folder / "fit" / "impact.json").write_text("{}")
    assert (
        "impact.json is of another version, which did not say what it is of" in call("report", folder).output
    )
    (folder / "fit" / "impact.json").write_text(json.dumps({"config": config}))
    assert "this is no impact of a fit of this version" in call("report", folder).output
    (folder / "fit" / "impact.json").unlink()
    for content in ([{"what": 1}], {"config": config}, {"config": config, "rows": [{"what": 1}]}):
        (folder / "controls.json").write_text(json.dumps(content))
        assert "controls.json is of another version" in call("report", folder).output


def test_values_survive_their_files(parts):
    """Evidence and impact are the same after JSON, infinite numbers too."""
    evidence, impact, _ = parts
    assert Evidence.from_dict(json.loads(json.dumps(evidence.to_dict()))) == evidence
    assert FitImpact.from_dict(json.loads(json.dumps(impact.to_dict()))) == impact


def test_events_of_another_run_are_refused(tmp_path):
    """The configuration of the files must be that of the result."""
    from made_conserv import call as attacked  # noqa: PLC0415
    from made_conserv import conserv, events  # noqa: PLC0415

    attacked(conserv(keep=tmp_path), events(), dataset="W")
    with pytest.raises(InputError, match=r"are of another configuration .* than the result"):
        gather_evidence(RESULT, tmp_path)
    with pytest.raises(InputError, match="there is no region low; there are control, signal"):
        gather_evidence(RESULT, tmp_path, regions=["low"])


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    """Without jinja2 the page says how to get it, and the command line without typer."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(
        ConfigurationError, match=r"the report needs jinja2: pip install 'coffea-conserv\[report\]'"
    ):
        write_page(RESULT, tmp_path / "r.html")
    code = "import sys; sys.modules['typer'] = None; from coffea_conserv.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 1
    assert "pip install 'coffea-conserv[cli]'" in done.stderr


def test_help_answers_without_the_heavy_libraries():
    """No torch, coffea or matplotlib for a text."""
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom coffea_conserv.cli.app import app\n"
        "assert CliRunner().invoke(app, ['report', '--help']).exit_code == 0\n"
        "heavy = ('torch', 'coffea', 'matplotlib', 'pyhf', 'sklearn', 'uproot')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "[]"


def test_pictures_of_the_evidence_show_every_row(parts):
    """One mark for each test and direction, arrows for what is never seen; nuisances by their rank."""
    evidence, impact, _ = parts
    figure = detectability_plot(evidence.detected)
    regions = {row.region for row in evidence.detected}
    assert len(figure.axes) == len(regions)
    drawn = sum(
        len(line.get_xdata()) for axes in figure.axes for line in axes.lines if line.get_marker() in "os>"
    )
    assert drawn == len(evidence.detected)
    with pytest.raises(InputError, match="there is no test to draw"):
        detectability_plot(())
    bars, pulls = impact_plot(impact, most=3).axes
    names = [text.get_text().split()[1] for text in bars.get_yticklabels()]
    assert {row.name for row in impact.nuisances} <= set(names)
    assert names[:3] == [row.name for row in impact.ranking[:3]]
    assert len(pulls.get_yticks()) == len(names)


def test_notebooks_show_what_is_printed():
    """Results, templates and systematics are pieces of HTML, escaped and closed."""
    pieces = {
        "limits kept" if RESULT.verdict.passed else "broken": RESULT._repr_html_(),
        "conserv_W in signal": RESULT.templates()._repr_html_(),
        "largest shift found": RESULT.systematic("W", "signal")._repr_html_(),
    }
    for text, piece in pieces.items():
        read = Reader(piece)
        assert read.open == []
        assert text in "".join(part for parts in read.texts.values() for part in parts)
