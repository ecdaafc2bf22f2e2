"""Tables of the page: text to read and values to sort by."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coffea_conserv.errors import InputError
from coffea_conserv.group import Group
from coffea_conserv.limits.verdict import Limit, share_text, worst_limits

if TYPE_CHECKING:
    from coffea_conserv.evidence.gather import Evidence
    from coffea_conserv.exports.impact import FitImpact
    from coffea_conserv.results.result import Result
    from coffea_conserv.studies.controls import Control

__all__ = (
    "Cell",
    "PageTable",
    "checks_table",
    "controls_table",
    "correlations_table",
    "coverage_table",
    "detected_table",
    "fooling_table",
    "impact_table",
    "limits_table",
    "settings_table",
    "statistics_table",
    "systematics_table",
    "tested_table",
    "warnings_table",
    "worse_table",
)


@dataclass(frozen=True)
class Cell:
    """A cell: what to read, what to sort by, and whether it is ``good``, ``bad`` or neither."""

    text: str
    value: float | str | None = None
    mood: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table of the page.

    Parameters
    ----------
    name
        For links and downloads.
    title, note
        Above and below.
    columns
        Heads.
    rows
        Cells, as many as there are columns.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = field(default="")

    def values(self) -> list[dict[str, Any]]:
        """Rows as plain values: numbers where there are some, ``None`` where they are not finite."""
        return [
            {name: _plain(cell) for name, cell in zip(self.columns, row, strict=True)} for row in self.rows
        ]


def _plain(cell: Cell) -> float | str | None:
    value = cell.text if cell.value is None else cell.value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float, form: str = ".4g") -> Cell:
    return Cell("–" if math.isnan(value) else format(value, form), value)


def _percent(value: float, digits: int = 1) -> Cell:
    return Cell("–" if math.isnan(value) else f"{100 * value:.{digits}f} %", value)


def _events(value: float) -> Cell:
    text = "never" if math.isinf(value) else ("< 10" if value < 10 else f"{value:,.0f}")
    return Cell(text, value)


def _p(value: float) -> Cell:
    text = "–" if math.isnan(value) else (f"{value:.3f}" if value >= 0.001 else f"{max(value, 1e-300):.1e}")
    return Cell(text, value, "bad" if value < 0.05 else "")


def _table(name: str, title: str, columns: str, rows: Iterable[Sequence[Any]], note: str = "") -> PageTable:
    made = tuple(tuple(cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in row) for row in rows)
    return PageTable(name, title, tuple(columns.split("|")), made, note)


def _state(limit: Limit, unattacked: Collection[Group]) -> Cell:
    """Kept, broken, or kept by nominal events, which shows nothing."""
    if not limit.passed:
        return Cell("broken", "broken", "bad")
    return Cell("not attacked", "not attacked") if limit.group in unattacked else Cell("kept", "kept", "good")


def limits_table(result: Result) -> PageTable:
    """The tightest limit of every group."""
    whole = {one.group for one in result.verdict.unattacked if one.wholly}
    rows = [
        (
            str(limit.group),
            limit.name,
            limit.measure,
            _number(limit.value),
            _number(limit.limit),
            Cell(share_text(limit.used), limit.used),
            _state(limit, whole),
        )
        for limit in worst_limits(result.verdict)
    ]
    count = len(result.verdict.limits)
    note = f"The tightest of {count:,} limits in each group; all are in the values to download."
    return _table("limits", "Limits", "group|tightest limit|measure|value|allowed|used|", rows, note)


def systematics_table(result: Result) -> PageTable:
    """The systematic of every process and region."""
    templates = result.templates("score")
    rows = []
    for entry in templates.entries:
        if entry.up is None or not entry.nominal.values().any():
            continue
        systematic = templates.systematic(entry.process, entry.region)
        try:
            found = systematic.impact()
        except InputError:  # no bin starts at the working point, or nothing is above it
            cells: tuple[Cell, ...] = (Cell("–"),) * 5
        else:
            values = (found.up, found.up_error, found.down, found.down_error)
            cells = (_number(found.nominal), *(_percent(value, 2) for value in values))
        changes = [abs(ratio - 1) for part in systematic.relative for ratio in part if math.isfinite(ratio)]
        rows.append((entry.process, entry.region, *cells, _percent(max(changes, default=math.nan))))
    point = result.settings.points[0]
    columns = f"process|region|yield above {point:g}|Up|± stat.|Down|± stat.|largest bin"
    note = "Relative changes of nominal. Errors are those of the differences of the same events."
    return _table("systematics", "The systematic", columns, rows, note)


def fooling_table(result: Result) -> PageTable:
    """Fooling ratios."""
    rows = [
        (
            row.name,
            row.region,
            row.variation,
            _number(row.working_point, "g"),
            _percent(row.ratio),
            _percent(row.error, 2),
            _percent(row.returned),
            _number(row.score_shift, "+.4f"),
            _percent(row.unattacked_share),
        )
        for row in result.fooling
    ]
    columns = "group|region|variation|working point|fooled|± stat.|returned|mean score|unattacked"
    note = "Weight that crosses the working point over the weight on the side attacked."
    return _table("fooling", "Fooling ratios", columns, rows, note)


def warnings_table(result: Result) -> PageTable:
    """What a fit would stumble over."""
    rows = [
        (w.process or "all", w.region or "all", w.text, ", ".join(map(str, w.bins)), w.remedy)
        for w in result.templates("score").warnings
    ]
    return _table("warnings", "Before a fit", "process|region|found|bins (from 0)|what to do", rows)


def impact_table(impact: FitImpact) -> PageTable:
    """Nuisances of the systematic in a fit."""
    ranked = list(impact.ranking)
    rows = [
        (
            _number(float(ranked.index(row) + 1), ".0f"),
            row.name,
            _number(row.pull, "+.2f"),
            _number(row.constraint, ".2f"),
            _number(row.up, "+.3f"),
            _number(row.down, "+.3f"),
        )
        for row in impact.nuisances
    ]
    columns = f"rank|nuisance|pull|constraint|{impact.poi} up|{impact.poi} down"
    kind = "The sum of nominal templates stood in the place of data." if impact.blind else "Fit to data."
    notes = "".join(f" WARNING: {note}." for note in impact.notes)
    note = f"{impact.headline}.{notes} {kind}"
    return _table("impact", "Impact on the signal strength", columns, rows, note)


def checks_table(evidence: Evidence, region: str, against: str) -> PageTable:
    """Tier A of one region, against nominal simulation or against data."""
    rows = []
    for row in evidence.checks:
        if (row.region, row.against) == (region, against):
            found = row.found
            rows.append(
                (
                    row.quantity,
                    row.variation,
                    _number(found.jsd, ".4f"),
                    _number(found.ks, ".4f"),
                    _p(found.ks_p),
                    Cell(f"{found.chi2:.1f}/{found.ndf}", found.chi2 / max(found.ndf, 1)),
                    _p(found.p),
                    _p(found.p_syst),
                    Cell(f"{found.pull:.1f} (bin {found.bin})", found.pull),
                    _number(found.effective[0], ",.0f"),
                )
            )
    columns = "quantity|simulation|JSD|KS|p(KS)|χ²/ndf|p(stat)|p(stat+syst)|largest pull|events"
    title = "Data against simulation" if against == "data" else "Attacked against nominal simulation"
    return _table(f"checks-{against}-{region}", title, columns, rows)


def correlations_table(evidence: Evidence) -> PageTable:
    """Correlation matrices of all regions."""
    rows = [
        (
            row.region,
            row.against,
            row.variation,
            _number(row.shift, ".4f"),
            " × ".join(row.pair),
            _number(row.change, "+.3f"),
            Cell(f"{row.z:.1f}", row.z, "bad" if row.z > 3 else ""),
        )
        for row in evidence.correlations
    ]
    columns = "region|against|simulation|‖ΔR‖/‖R‖|most different pair|Δr|in σ"
    note = (
        "Of features and watched quantities together. Budgets limit the correlations of features; those of "
        "watched quantities follow from them and are not limited."
    )
    return _table("correlations", "Linear correlations", columns, rows, note)


def worse_table(evidence: Evidence) -> PageTable:
    """Where an attack makes agreement with data worse."""
    rows = [
        (
            row.region,
            row.quantity,
            row.variation,
            _p(row.before),
            _p(row.after),
            Cell("noticed", "noticed", "bad") if row.noticed else Cell("not noticed"),
        )
        for row in evidence.worse
    ]
    note = "Noticed is what passes at 5 % with nominal simulation and would fail attacked."
    columns = "region|quantity|simulation|p nominal|p attacked|"
    return _table("worse", "Agreement with data that becomes worse", columns, rows, note)


def detected_table(evidence: Evidence) -> PageTable:
    """How many events each test needs."""
    rows = [
        (row.region, row.variation, row.test, row.what, _events(row.events), _number(row.there, ",.0f"))
        for row in evidence.detected
    ]
    columns = "region|variation|test|what is seen first|events needed|simulated events"
    note = (
        "Events of data at which half of the experiments reject at 95 %, compared with simulation without "
        "statistical error; from the size of the effect. Larger than what was there, they are extrapolated."
    )
    return _table("detected", "Your validation would have needed so many events", columns, rows, note)


def tested_table(evidence: Evidence) -> PageTable:
    """Tiers B and C."""
    rows = [
        (
            row.region,
            row.variation,
            row.test,
            row.what,
            _number(row.statistic),
            _p(row.p),
            _events(row.effective),
        )
        for row in evidence.tested
    ]
    columns = "region|variation|test|what|statistic|p|effective events"
    note = "One half of the events nominal, the other half attacked, as two independent samples."
    return _table("tested", "Tests in many dimensions", columns, rows, note)


def controls_table(controls: Sequence[Control]) -> PageTable:
    """Controls of an attack."""
    moods = {"as it must be": "good", "not as it must be": "bad", "no test": ""}
    rows = [
        (
            row.name,
            _number(row.score_shift, "+.4f"),
            _number(row.error, ".4f"),
            _percent(row.yield_shift),
            _percent(row.share),
            "inside" if row.inside else "outside",
            Cell(row.outcome, row.outcome, moods[row.outcome]),
        )
        for row in controls
    ]
    columns = "what|mean score|± stat.|yield above|of the attack|limits|"
    idle = sum(not row.tested for row in controls)
    note = (
        f"{idle} of {len(controls)} test nothing: the limits let nothing of that kind move." if idle else ""
    )
    return _table("controls", "Controls", columns, rows, note)


def statistics_table(result: Result) -> PageTable:
    """What the samples can tell."""
    rows = [
        (
            str(row.group),
            _number(row.events, ",.0f"),
            _number(row.effective_events, ",.0f"),
            _percent(row.negative_share),
            _percent(row.rms),
            _number(row.jsd, ".3f"),
            _number(row.correlation, ".3f"),
            ", ".join(row.below),
        )
        for row in result.statistics
    ]
    columns = "group|events|effective|negative|r.m.s.|JSD|correlation|limits below"
    note = "Differences of two independent samples of as many effective events, by chance."
    return _table("statistics", "What the samples can tell", columns, rows, note)


def coverage_table(result: Result) -> PageTable:
    """What was asked and done."""
    moods: dict[bool | None, Cell] = {
        True: Cell("complete", "complete", "good"),
        False: Cell("incomplete", "incomplete", "bad"),
        None: Cell("not known"),
    }
    lost = {row.dataset: f"not read: {', '.join(row.missing)}" for row in result.coverage if row.missing}
    rows = [
        (
            row.dataset,
            _number(row.chunks, ",.0f"),
            "–" if row.chunks_asked is None else f"{row.chunks_asked:,}",
            _number(row.events, ",.0f"),
            "–" if row.events_asked is None else f"{row.events_asked:,}",
            Cell(lost[row.dataset], "incomplete", "bad") if row.dataset in lost else moods[row.complete],
        )
        for row in result.coverage
    ]
    return _table("coverage", "Coverage of the run", "dataset|chunks|asked|events|asked|", rows)


def settings_table(plain: dict[str, Any]) -> PageTable:
    """Configuration and versions."""
    settings: dict[str, Any] = plain["settings"]
    simple = ("objective", "target", "output", "working_point", "penalty", "seed", "config")
    rows = [("limits", settings["budget"]["meaning"]), *((name, settings[name]) for name in simple)]
    features: Callable[[str], str] = lambda key: ", ".join(one["name"] for one in settings[key])  # noqa: E731
    frozen = [one["name"] for one in settings["features"] if one.get("frozen")]
    rows += [("features", features("features")), ("of these frozen", ", ".join(frozen) or "none")]
    rows += [("watched", features("watched") or "none")]
    rows += [(f"version of {name}", text or "not installed") for name, text in plain["versions"].items()]
    return _table("settings", "Configuration", "setting|value", rows)
