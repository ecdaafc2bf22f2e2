"""Tables for the terminal, and the JSON file."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_events import SETTINGS, made, scored, with_budget
from made_results import SAMPLES, result_of
from rich.console import Console

from coffea_conserv import report
from coffea_conserv.budget import Budget
from coffea_conserv.report import (
    fooling_table,
    print_report,
    to_dict,
    usage,
    verdict_table,
    worst_limits,
    write_json,
)
from coffea_conserv.templates import LABEL, MEANING
from coffea_conserv.verdict import Limit

RESULT = result_of(asked={"W1": 160, "W2": 170, "Z": 120, "Mu": 300})


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


def test_usage_of_a_limit():
    """It is value / limit, and for a limit of 0 nothing or infinite."""
    assert usage(Limit("n", "g", 0.02, 0.05, "jsd")) == pytest.approx(0.4)
    assert usage(Limit("n", "g", 0.0, 0.0, "jsd")) == 0
    assert usage(Limit("n", "g", 1e-9, 0.0, "jsd")) == math.inf


def test_the_tightest_limit_of_each_group_is_shown():
    """One row for each group, that of the limit with the largest share used; or all limits."""
    worst = worst_limits(RESULT)
    groups = {limit.group for limit in RESULT.verdict.limits}
    assert {limit.group for limit in worst} == groups
    for limit in worst:
        same = [other for other in RESULT.verdict.limits if other.group == limit.group]
        assert usage(limit) == max(usage(other) for other in same)
    assert verdict_table(RESULT).row_count == len(groups)
    assert verdict_table(RESULT, all_limits=True).row_count == len(RESULT.verdict.limits)


def test_a_kept_verdict_says_so():
    """Title, values, shares and the meaning of the limits are in the table."""
    text = printed(verdict_table(RESULT, all_limits=True))
    assert f"{len(RESULT.verdict.limits)} limits kept" in text
    assert "broken" not in text
    assert "correlation matrix within 0.5" in text
    limit = next(limit for limit in RESULT.verdict.limits if limit.name == "watched total")
    assert f"{limit.value:.4g}" in text
    assert f"{usage(limit):.0%}" in text


def test_a_broken_limit_is_named():
    """The title counts broken limits, their rows say broken, and a share of a limit of 0 is infinite."""
    result = result_of(settings=with_budget(jsd=0.1, correlation=0.0, watch=5.0))
    text = printed(verdict_table(result))
    assert f"{len(result.verdict.broken)} limit(s) broken" in text
    row = next(line for line in text.splitlines() if "W1/signal/conservUp" in line)
    assert "correlation" in row
    assert "∞" in row
    assert "broken" in row


def test_fooling_ratios_have_an_error_or_say_why_not():
    """Percentages of every group; "one chunk" stands where there is no error, a dash where no ratio."""
    text = printed(fooling_table(RESULT))
    assert fooling_table(RESULT).row_count == len(RESULT.fooling)
    assert "crossing the score 0.5" in text
    row = next(row for row in RESULT.fooling if (row.name, row.variation) == ("W1", "conservUp"))
    line = next(line for line in text.splitlines() if f"{row.ratio:.1%}" in line)
    assert f"{row.error:.2%}" in line
    assert f"{row.score_shift:+.4f}" in line
    assert "one chunk" in next(line for line in text.splitlines() if "Z " in line)
    nothing = result_of(scored([0.7], [0.8], [0.6]), processes={}, estimates=())
    assert "–" in printed(fooling_table(nothing))


def test_the_report_says_what_the_templates_are():
    """Both tables and the meaning are printed; a complete coverage needs no word."""
    text = printed(lambda console: print_report(RESULT, console))
    assert "limits kept" in text
    assert "fooling ratio" in text
    assert LABEL in text
    assert "merged more than once" not in text
    assert " events" not in text


def test_the_report_warns_of_what_was_not_read_or_read_twice():
    """Missing events and repeated chunks are named by dataset."""
    result = result_of(*SAMPLES, SAMPLES[4], asked={"W1": 1000, "Z": 120})
    text = printed(lambda console: print_report(result, console, all_limits=True))
    assert "W1: 160 of 1000 events" in text
    assert "Z: merged more than once: c:0-120" in text
    assert "Mu" not in text


def test_names_are_not_taken_for_markup():
    """Brackets in names are printed as they are."""
    sample = made("W[/x]", "f[red]:0-100")
    sample = replace(sample, regions={"n[jj]": np.ones(100, dtype=bool)})
    result = result_of(sample, sample, processes={}, estimates=(), asked={"V[b]": 5})
    text = printed(lambda console: print_report(result, console))
    for name in (
        "W[/x]/n[jj]/conservUp",
        "W[/x]: merged more than once: f[red]:0-100",
        "V[b]: 0 of 5 events",
    ):
        assert name in text


def test_narrow_consoles_lose_no_number():
    """In 80 columns every share that is used is still readable."""
    text = printed(verdict_table(RESULT), width=80)
    for limit in worst_limits(RESULT):
        assert f"{usage(limit):.0%}" in text


def test_json_reads_back_equal():
    """What is written is what to_dict returns, and the path is given back."""
    plain = to_dict(RESULT)
    assert strict(json.dumps(plain)) == plain
    assert set(plain) == {
        "meaning",
        "verdict",
        "fooling",
        "coverage",
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
        "group": first.group,
        "value": first.value,
        "limit": first.limit,
        "measure": first.measure,
        "slack": first.slack,
        "passed": first.passed,
    }
    assert read["processes"] == {"W": ["W1", "W2"], "Z": ["Z"], "data": ["Mu"]}
    assert read["estimates"] == [{"name": "QCD", "regions": {"signal": "control"}, "scale": 1.5}]
    assert [entry["complete"] for entry in read["coverage"]] == [True, True, True, True]
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
    other = to_dict(result_of(*reversed(SAMPLES), asked={"W1": 160, "W2": 170, "Z": 120, "Mu": 300}))
    plain = to_dict(RESULT)
    for one, two in zip(plain["fooling"], other["fooling"], strict=True):
        assert one["ratio"] == pytest.approx(two["ratio"], rel=1e-9)
    for name in ("processes", "coverage", "regions", "settings", "estimates"):
        assert plain[name] == other[name]


def test_a_folder_is_made_and_a_file_replaced(tmp_path):
    """The folder of the file is made; an older file is replaced by the new one."""
    path = tmp_path / "new" / "verdict.json"
    assert write_json(RESULT, path) == path
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
        write_json(RESULT, path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["verdict.json"]


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    """A value that JSON cannot hold is an error before any file is touched."""
    monkeypatch.setattr(report, "_versions", lambda: {"numpy": object()})
    with pytest.raises(TypeError):
        write_json(RESULT, tmp_path / "verdict.json")
    assert not list(tmp_path.iterdir())


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    """A missing package is None rather than an error."""
    monkeypatch.setattr(report, "_PACKAGES", ("numpy", "surely-not-installed"))
    assert to_dict(RESULT)["versions"] == {"numpy": np.__version__, "surely-not-installed": None}
