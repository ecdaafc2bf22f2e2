"""Tables for the terminal, and the JSON file."""

from __future__ import annotations

import io
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from coffea.processor.executor import WorkItem
from made_events import SETTINGS, made, scored, with_budget
from made_results import SAMPLES, result_of
from rich.console import Console

from coffea_conserv.limits.budget import Budget
from coffea_conserv.limits.verdict import worst_limits
from coffea_conserv.report.console import coverage_table, print_report, warnings_table
from coffea_conserv.results import plain
from coffea_conserv.results import result as module_under_test
from coffea_conserv.results.tables import fooling_table, verdict_table
from coffea_conserv.templates.checks import TemplateWarning
from coffea_conserv.templates.template import LABEL, MEANING

RESULT = result_of(asked={"W1": 160, "W2": 170, "Z": 120, "Mu": 300})


def limits_of(result, **options):
    """Table of the limits of a result."""
    return verdict_table(result.verdict, result.settings.budget.meaning(), **options)


def fooling_of(result):
    """Table of the fooling ratios of a result."""
    return fooling_table(result.fooling, result.settings.points)


def printed(*parts, width=200):
    """What a console of rich shows, without colours."""
    stream = io.StringIO()
    console = Console(file=stream, width=width)
    for part in parts:
        part(console) if callable(part) else console.print(part)
    return stream.getvalue()


def strict(text):
    """Read JSON as the standard has it: no NaN, no Infinity."""

    def refuse(name):
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def test_the_tightest_limit_of_each_group_is_shown():
    """One row for each group, that of the limit with the largest share used; or all limits."""
    worst = worst_limits(RESULT.verdict)
    groups = {limit.group for limit in RESULT.verdict.limits}
    assert {limit.group for limit in worst} == groups
    for limit in worst:
        same = [other for other in RESULT.verdict.limits if other.group == limit.group]
        assert limit.used == max(other.used for other in same)
    assert limits_of(RESULT).row_count == len(groups)
    assert limits_of(RESULT, all_limits=True).row_count == len(RESULT.verdict.limits)


def test_a_kept_verdict_says_so():
    """Title, values, shares and the meaning of the limits are in the table."""
    text = printed(limits_of(RESULT, all_limits=True))
    assert f"{len(RESULT.verdict.limits)} limits kept" in text
    assert "broken" not in text
    assert "correlation matrix within 0.5" in text
    limit = next(limit for limit in RESULT.verdict.limits if limit.name == "watched total")
    assert f"{limit.value:.4g}" in text
    assert f"{limit.used:.0%}" in text


def test_a_broken_limit_is_named():
    """The title counts broken limits, their rows say broken, and a share of a limit of 0 is infinite."""
    result = result_of(settings=with_budget(jsd=0.1, correlation=0.5, watch=0.0))
    text = printed(limits_of(result))
    assert f"{len(result.verdict.broken)} of {len(result.verdict.limits)} limits broken" in text
    row = next(line for line in text.splitlines() if "W1/signal/conservUp" in line)
    assert "watched" in row
    assert "∞" in row
    assert "broken" in row


def test_fooling_ratios_have_an_error():
    """Percentages of every group; a dash stands where there is no ratio, and no error beside it."""
    text = printed(fooling_of(RESULT))
    assert fooling_of(RESULT).row_count == len(RESULT.fooling)
    assert "crosses the score 0.5" in text
    for name in ("W1", "all simulation"):
        row = RESULT.fooling_of(name, "signal")
        line = next(line for line in text.splitlines() if f"{row.ratio:.1%}" in line and name in line)
        assert f"{row.error:.2%}" in line
        assert f"{row.score_shift:+.4f}" in line
    nothing = printed(fooling_of(result_of(scored([0.7], [0.8], [0.6]), processes={}, estimates=())))
    line = next(line for line in nothing.splitlines() if "conservUp" in line)
    assert line.count("–") == 2
    assert "0.00%" not in line


def test_the_report_says_what_the_templates_are():
    """All tables and the meaning are printed."""
    text = printed(lambda console: print_report(RESULT, console))
    for part in ("limits kept", "fooling ratio", "coverage", "look at these templates", LABEL):
        assert part in text
    assert "merged more than once" not in text
    assert "incomplete" not in text
    assert "negative sum of weights" not in text


def test_the_coverage_is_printed_whatever_was_asked():
    """Chunks and events, done and asked, the size of chunks; what was not asked is unknown."""

    def row(result, name):
        lines = printed(coverage_table(result)).splitlines()
        return [cell.strip() for cell in next(line for line in lines if name in line).split("│")[1:-1]]

    assert row(RESULT, "W1") == ["W1", "2", "unknown", "160", "160", "80", "complete"]
    assert row(result_of(), "Mu") == ["Mu", "1", "unknown", "300", "unknown", "300", ""]
    chunks = [WorkItem("W1", "f", "Events", start, start + 100, "u") for start in (0, 100, 200)]
    assert row(result_of(asked=chunks), "W1") == ["W1", "2", "3", "160", "300", "80", "incomplete"]
    assert "unknown" in printed(lambda console: print_report(result_of(), console))


def test_the_report_warns_of_what_was_not_read_or_read_twice():
    """Missing events and repeated chunks are named by dataset."""
    result = result_of(*SAMPLES, SAMPLES[4], asked={"W1": 1000, "Z": 120})
    text = printed(lambda console: print_report(result, console, all_limits=True))
    line = next(line for line in text.splitlines() if "W1 " in line and "1,000" in line)
    assert "160" in line
    assert "incomplete" in line
    assert "merged more than once: c:0-120" in text


def test_warnings_of_templates_are_printed_compactly():
    """Regions with the same finding share a row, bins that follow each other are a range."""
    found = (
        TemplateWarning("W[x]", "signal", "negative", "nominal is negative", (0, 1, 2, 5)),
        TemplateWarning("W[x]", "control", "negative", "nominal is negative", (7,)),
        TemplateWarning("", "", "step", "a step"),
    )
    table = warnings_table(found)
    text = printed(table)
    assert table.row_count == 2
    assert "signal (0–2 5), control (7)" in text
    assert "W[x]" in text
    assert next(line for line in text.splitlines() if "a step" in line).count(" all ") == 2


def test_negative_bins_are_reported():
    """The judge sees bins with a negative sum of weights in part only; report and JSON say where they are."""
    events = np.array([0.05] * 30 + [0.55] * 70)
    sample = scored(events, events, events, np.where(events < 0.5, -0.5, 1.0))
    values = {v: {**c, "x": events.astype(np.float32)} for v, c in sample.values.items()}
    result = result_of(replace(sample, values=values), processes={}, estimates=())
    text = printed(lambda console: print_report(result, console))
    assert "Bins with a negative sum of weights" in text
    assert f"x: W/signal/conservUp (1, {15 / 85:.1%})" in text
    found = [entry for entry in result.to_dict()["verdict"]["negative_bins"] if entry["quantity"] == "x"]
    assert found[0] == {
        "quantity": "x",
        "group": "W/signal/conservUp",
        "where": {"name": "W", "level": "dataset", "region": "signal", "variation": "conservUp"},
        "nominal": 1,
        "attacked": 1,
        "share": pytest.approx(15 / 85),
    }
    assert RESULT.to_dict()["verdict"]["negative_bins"] == []


def test_names_are_not_taken_for_markup():
    """Brackets in names are printed as they are."""
    sample = made("W[/x]", "f[red]:0-100")
    sample = replace(sample, regions={"n[jj]": np.ones(100, dtype=bool)})
    result = result_of(sample, sample, processes={}, estimates=(), asked={"V[b]": 5})
    text = printed(lambda console: print_report(result, console))
    for name in (
        "'W[/x]'/n[jj]/conservUp",
        "merged more than once: f[red]:0-100",
        "V[b]",
    ):
        assert name in text


def test_narrow_consoles_lose_no_number():
    """In 80 columns every share that is used is still readable."""
    text = printed(limits_of(RESULT), width=80)
    for limit in worst_limits(RESULT.verdict):
        assert f"{limit.used:.0%}" in text


def test_json_reads_back_equal():
    """What is written is what to_dict returns, and the path is given back."""
    plain = RESULT.to_dict()
    assert strict(json.dumps(plain)) == plain
    assert set(plain) == {
        "meaning",
        "verdict",
        "fooling",
        "shifts",
        "statistics",
        "computed_on",
        "coverage",
        "events_per_chunk",
        "warnings",
        "processes",
        "estimates",
        "regions",
        "settings",
        "versions",
    }


def test_json_holds_the_result(tmp_path):
    """Verdict, fooling, coverage, processes and settings are there with their numbers."""
    path = RESULT.to_json(tmp_path / "verdict.json")
    read = strict(path.read_text(encoding="utf-8"))
    assert read == RESULT.to_dict()
    assert read["meaning"] == MEANING
    assert LABEL in MEANING
    assert read["verdict"]["passed"] is True
    first = RESULT.verdict.limits[0]
    assert read["verdict"]["limits"][0] == {
        "name": first.name,
        "group": str(first.group),
        "where": asdict(first.group),
        "value": first.value,
        "limit": first.limit,
        "measure": first.measure,
        "slack": first.slack,
        "passed": first.passed,
    }
    assert read["processes"] == {"W": ["W1", "W2"], "Z": ["Z"], "data": ["Mu"]}
    assert read["estimates"] == [{"name": "QCD", "regions": {"signal": "control"}, "scale": 1.5}]
    assert [entry["complete"] for entry in read["coverage"]] == [True, True, True, True]
    assert read["coverage"][1] == {
        "dataset": "W1",
        "chunks": 2,
        "chunks_asked": None,
        "events": 160,
        "events_asked": 160,
        "events_per_chunk": 80.0,
        "repeated": [],
        "files": None,
        "files_asked": None,
        "missing": [],
        "complete": True,
    }
    assert read["events_per_chunk"] == 90  # of 100, 60, 80, 90 and 120
    assert len(read["warnings"]) == len(RESULT.templates("score").warnings)
    assert read["warnings"][0]["region"] == "control"
    assert read["settings"]["score_edges"] == [0, 0.25, 0.5, 0.75, 1]
    assert (read["settings"]["seed"], read["settings"]["config"]) == (7, "config-1")
    assert read["settings"]["budget"]["meaning"] == RESULT.settings.budget.meaning()
    assert read["settings"]["features"][1]["missing"] == [-999.0]
    assert read["versions"]["numpy"] == np.__version__


def test_json_has_no_nan(tmp_path):
    """An error that does not exist, a missing value that is NaN and an infinite measure are still JSON."""
    sample = scored([0.2, 0.7], [0.3, 0.8], [0.1, 0.6])
    for variation, x in (("nominal", [0.1, 0.2]), ("conservUp", [0.1, 0.9]), ("conservDown", [0.1, 0.2])):
        sample.values[variation]["x"] = np.array(x)
    features = (replace(SETTINGS.features[0], missing=math.nan), SETTINGS.features[1])
    settings = replace(SETTINGS, features=features, budget=Budget(band={"x": 0.1, "y": 0.2}))
    result = result_of(sample, settings=settings, processes={}, estimates=())
    assert math.isnan(result.fooling[0].error)
    assert result.verdict.limits[0].value == math.inf
    read = strict(result.to_json(tmp_path / "a.json").read_text())
    assert read["fooling"][0]["error"] is None
    limit = read["verdict"]["limits"][0]
    assert (limit["value"], limit["slack"], limit["passed"]) == (None, None, False)
    assert read["settings"]["features"][0]["missing"] == ["nan"]
    assert read["settings"]["budget"]["band"] == {"x": 0.1, "y": 0.2}


def test_json_of_another_order_is_the_same():
    """The order in which chunks were merged does not show, apart from rounding."""
    other = result_of(*reversed(SAMPLES), asked={"W1": 160, "W2": 170, "Z": 120, "Mu": 300}).to_dict()
    plain = RESULT.to_dict()
    for one, two in zip(plain["fooling"], other["fooling"], strict=True):
        assert one["ratio"] == pytest.approx(two["ratio"], rel=1e-9)
    for name in ("processes", "coverage", "regions", "settings", "estimates"):
        assert plain[name] == other[name]


def test_a_folder_is_made_and_a_file_replaced(tmp_path):
    """The folder of the file is made; an older file is replaced by the new one."""
    path = tmp_path / "new" / "verdict.json"
    assert RESULT.to_json(path) == path
    path.write_text("old")
    RESULT.to_json(str(path))
    assert strict(path.read_text())["regions"] == ["control", "signal"]
    assert [entry.name for entry in path.parent.iterdir()] == ["verdict.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    """If writing stops half way, the old file stays whole and no part is left behind."""
    path = tmp_path / "verdict.json"
    path.write_text("old")

    def fail(self, text, **options):
        with self.open("w") as file:
            file.write(text[:10])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        RESULT.to_json(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["verdict.json"]


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    """A value that JSON cannot hold is an error before any file is touched."""
    monkeypatch.setattr(module_under_test, "versions", lambda: {"numpy": object()})
    with pytest.raises(TypeError):
        RESULT.to_json(tmp_path / "verdict.json")
    assert not list(tmp_path.iterdir())


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    """A missing package is None rather than an error."""
    monkeypatch.setattr(plain, "_PACKAGES", ("numpy", "surely-not-installed"))
    assert RESULT.to_dict()["versions"] == {"numpy": np.__version__, "surely-not-installed": None}
