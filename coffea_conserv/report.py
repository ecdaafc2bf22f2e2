"""Tables for the terminal and plain values for JSON."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from coffea_conserv.chunks import median_chunk
from coffea_conserv.features.feature import Feature
from coffea_conserv.files import replacing
from coffea_conserv.limits.verdict import worst_limits
from coffea_conserv.templates.template import MEANING

if TYPE_CHECKING:
    from rich.console import Console

    from coffea_conserv.result import Result, Settings
    from coffea_conserv.studies.baselines import Compared
    from coffea_conserv.templates.checks import TemplateWarning

__all__ = (
    "comparison_table",
    "coverage_table",
    "fooling_table",
    "plain_values",
    "print_report",
    "share_text",
    "statistics_table",
    "tables_html",
    "to_dict",
    "to_html",
    "verdict_table",
    "warnings_table",
    "write_json",
)

_PACKAGES = ("coffea-conserv", "coffea", "numpy", "torch")


def verdict_table(result: Result, *, all_limits: bool = False) -> Table:
    """Make a table of the limits.

    Parameters
    ----------
    result
        The result of a run.
    all_limits
        Whether to list every limit instead of the tightest one of each group.
    """
    verdict = result.verdict
    broken = len(verdict.broken)
    title = f"{len(verdict.limits)} limits kept" if verdict.passed else f"{broken} limit(s) broken"
    table = Table(title=title, caption=result.settings.budget.meaning())
    table.add_column("group", overflow="fold")
    table.add_column("limit" if all_limits else "tightest limit", overflow="fold")
    table.add_column("measure")
    for name in ("value", "allowed", "used"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for limit in verdict.limits if all_limits else worst_limits(verdict):
        cells = (f"{limit.value:.4g}", f"{limit.limit:.4g}", share_text(limit.used), _kept(kept=limit.passed))
        table.add_row(escape(limit.group), escape(limit.name), limit.measure, *cells)
    return table


def share_text(used: float) -> str:
    """Write the used share of a limit: as a percentage, or as a multiple where the limit is tiny.

    Examples
    --------
    >>> share_text(0.5), share_text(24737.4), share_text(math.inf)
    ('50%', '24,737 ×', '∞')
    """
    if not math.isfinite(used):
        return "∞"
    return f"{used:.0%}" if used < 100 else f"{used:,.0f} ×"


def _kept(*, kept: bool) -> str:
    return "[green]kept[/]" if kept else "[bold red]broken[/]"


def comparison_table(rows: Sequence[Compared]) -> Table:
    """Make a table of an attack and its baselines, as :func:`coffea_conserv.compare` returns them."""
    caption = "worst limit: the one of which the largest share is used, in any group"
    table = Table(title="the attack beside baselines, under one judge", caption=caption)
    table.add_column("", no_wrap=True)
    for name in ("fooled", "mean score"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("worst limit", overflow="fold")
    for name in ("value", "allowed", "used"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("limits", no_wrap=True)
    for row in rows:
        shift = "–" if math.isnan(row.score_shift) else f"{row.score_shift:+.4f}"
        worst = row.worst
        cells = ("–",) * 4
        if worst is not None:
            where = escape(f"{worst.name} ({worst.group})")
            cells = (where, f"{worst.value:.4g}", f"{worst.limit:.4g}", share_text(worst.used))
        state = escape(f"left out: {row.note}") if row.note else _kept(kept=row.kept)
        table.add_row(escape(row.name), _percent(row.fooling_ratio), shift, *cells, state)
    return table


def fooling_table(result: Result) -> Table:
    """Make a table of the fooling ratios; a dash stands where there is no ratio or no error."""
    points = result.settings.points
    which = f"the score {points[0]:g}" if len(points) == 1 else "a score"
    caption = f"weight that crosses {which} over the weight on the side attacked; statistical errors"
    table = Table(title="fooling ratio", caption=caption)
    for name in ("group", "region", "variation", *(["score"] if len(points) > 1 else [])):
        table.add_column(name, overflow="fold")
    for name in ("fooled", "error", "returned", "net", "mean score", "unattacked", "moved"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result.fooling:
        shift = "–" if math.isnan(row.score_shift) else f"{row.score_shift:+.4f}"
        error = "–" if math.isnan(row.error) else f"{row.error:.2%}"
        shares = (row.returned, row.net, row.unattacked_share, row.moved_share)
        returned, net, unattacked, moved = (_percent(share) for share in shares)
        at = (f"{row.working_point:g}",) if len(points) > 1 else ()
        names = (escape(row.name), escape(row.region), row.variation, *at)
        cells = (*names, _percent(row.ratio), error, returned, net, shift)
        table.add_row(*cells, unattacked, moved)
    return table


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1%}"


def statistics_table(result: Result) -> Table:
    """Make a table of what two samples of each size differ by, by chance, and which limits are below."""
    caption = "differences of two independent samples of as many effective events, by chance"
    table = Table(title="what the samples can tell", caption=caption)
    table.add_column("group", overflow="fold", min_width=10)
    for name in ("events", "effective", "negative", "r.m.s.", "JSD", "KS", "correlation"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("limits below", overflow="fold", min_width=11)
    for row in result.statistics:
        sizes = (f"{row.events:,.0f}", f"{row.effective_events:,.0f}", f"{row.negative_share:.1%}")
        floors = (share_text(row.rms), f"{row.jsd:.3f}", f"{row.ks:.3f}", f"{row.correlation:.3f}")
        table.add_row(escape(row.group), *sizes, *floors, ", ".join(row.below))
    return table


def _degenerate_lines(result: Result) -> list[str]:
    """Say which features have no correlation of their own, one line for each finding."""
    lines: dict[str, list[str]] = {}
    for row in result.statistics:
        for found in row.degenerate:
            lines.setdefault(f"{found.kind}: {', '.join(found.features)}", []).append(row.group)
    return [f"{text} in {', '.join(groups)}" for text, groups in lines.items()]


def coverage_table(result: Result) -> Table:
    """Make a table of the chunks and events asked for and done, by dataset."""
    where = "; ".join(f"{count} chunks on {place}" for place, count in sorted(result.places.items()))
    table = Table(title="coverage", caption=f"chunk: median number of events read in one; {where}")
    table.add_column("dataset", overflow="fold")
    for name in ("chunks", "asked", "events", "asked", "chunk"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for entry in result.coverage:
        asked = ("unknown" if n is None else f"{n:,}" for n in (entry.chunks_asked, entry.events_asked))
        chunks, events = asked
        state = {True: "[green]complete[/]", None: "", False: "[bold red]incomplete[/]"}[entry.complete]
        if entry.repeated:
            state = f"[bold red]merged more than once: {escape(', '.join(entry.repeated))}[/]"
        table.add_row(
            escape(entry.dataset),
            f"{entry.chunks:,}",
            chunks,
            f"{entry.events:,}",
            events,
            f"{entry.events_per_chunk:,.0f}",
            state,
        )
    return table


def warnings_table(warnings: Sequence[TemplateWarning]) -> Table:
    """Make a compact table of what was found in templates: regions with the same finding share a row."""
    table = Table(title="look at these templates before a fit", caption="bins count from 0")
    for name in ("process", "found", "regions (bins)", "what to do"):
        table.add_column(name, overflow="fold")
    rows: dict[tuple[str, str, str], list[str]] = {}
    for warning in warnings:
        bins = f" ({_ranges(warning.bins)})" if warning.bins else ""
        rows.setdefault((warning.process, warning.text, warning.remedy), []).append(warning.region + bins)
    order = {process: place for place, (process, *_) in enumerate(reversed(rows))}
    for (process, text, remedy), places in sorted(rows.items(), key=lambda row: -order[row[0][0]]):
        where = ", ".join(filter(None, places)) or "all"
        table.add_row(*map(escape, (process or "all", text, where, remedy)))
    return table


def _ranges(bins: Sequence[int]) -> str:
    """Write numbers shortly, 1, 2, 3, 7 as 1–3 7."""
    parts: list[list[int]] = []
    for number in bins:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return " ".join("–".join(str(number) for number in part) for part in parts)


def _negative_lines(result: Result) -> list[str]:
    """Say where bins with negative content are seen in part only, one line for each quantity."""
    lines: dict[str, list[str]] = {}
    for found in result.verdict.negative:
        bins = max(found.nominal, found.attacked)
        lines.setdefault(found.quantity, []).append(f"{found.group} ({bins}, {found.share:.1%})")
    return [f"{quantity}: {', '.join(places)}" for quantity, places in lines.items()]


def print_report(result: Result, console: Console, *, all_limits: bool = False) -> None:
    """Print verdict, fooling ratios, samples, coverage and warnings of the score templates to a console."""
    console.print(verdict_table(result, all_limits=all_limits))
    negative = _negative_lines(result)
    if negative:
        console.print(
            "[yellow]Bins with a negative sum of weights, which the limits on marginals leave out[/] "
            "(number of bins, share of the content):"
        )
        for line in negative:
            console.print(f"  {escape(line)}")
    degenerate = _degenerate_lines(result)
    if degenerate:
        console.print("[yellow]Features without a correlation of their own[/]:")
        for line in degenerate:
            console.print(f"  {escape(line)}")
    console.print(fooling_table(result))
    console.print(statistics_table(result))
    console.print(coverage_table(result))
    warnings = result.templates("score").warnings
    if warnings:
        console.print(warnings_table(warnings))
    console.print(f"The attacked templates are the {MEANING}.")


def to_html(result: Result) -> str:
    """Return verdict and fooling ratios as a piece of HTML, which notebooks show."""
    return tables_html(verdict_table(result), fooling_table(result))


def tables_html(*tables: Table) -> str:
    """Return tables as a piece of HTML."""
    from rich.console import Console  # noqa: PLC0415 -- others only give one

    console = Console(record=True, file=io.StringIO(), width=120)
    for table in tables:
        console.print(table)
    style = "font-family:monospace;line-height:1.25;white-space:pre;overflow-x:auto"
    return console.export_html(inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>')


def to_dict(result: Result) -> dict[str, Any]:
    """Return a result as plain values.

    Returns
    -------
    dict
        ``meaning``, ``verdict``, ``fooling``, ``shifts`` (how far each feature moved),
        ``statistics`` (what the samples can tell), ``coverage``, ``events_per_chunk`` (median over the chunks
        of simulation), ``computed_on`` (chunks by device), ``warnings`` (of the score templates),
        ``processes``, ``estimates``, ``regions``, ``settings`` and ``versions``. What is not
        a finite number is ``None``.
    """
    simulation = [dataset for name in result.simulation for dataset in result.processes[name]]
    plain: dict[str, Any] = plain_values(
        {
            "meaning": MEANING,
            "verdict": result.verdict.to_dict(),
            "fooling": [asdict(row) for row in result.fooling],
            "shifts": [asdict(row) for row in result.shifts],
            "statistics": [asdict(row) for row in result.statistics],
            "coverage": [{**asdict(entry), "complete": entry.complete} for entry in result.coverage],
            "events_per_chunk": median_chunk(result.sums, simulation),
            "computed_on": result.places,
            "warnings": [{**asdict(w), "remedy": w.remedy} for w in result.templates("score").warnings],
            "processes": result.processes,
            "estimates": [asdict(estimate) for estimate in result.estimates],
            "regions": result.regions,
            "settings": _settings(result.settings),
            "versions": _versions(),
        }
    )
    return plain


def write_json(result: Result, path: Path) -> Path:
    """Write :func:`to_dict` to a file, which is there as a whole or not at all."""
    text = json.dumps(to_dict(result), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return path


def _settings(settings: Settings) -> dict[str, Any]:
    budget = {name: getattr(settings.budget, name) for name in type(settings.budget).__dataclass_fields__}
    return {
        "features": [_feature(feature) for feature in settings.features],
        "watched": [{"name": watched.name, "edges": watched.axis.edges} for watched in settings.watched],
        "budget": {**budget, "meaning": settings.budget.meaning()},
        "score_edges": settings.score.edges,
        "working_point": settings.working_point,
        "output": settings.output,
        "objective": settings.objective,
        "target": settings.target,
        "penalty": settings.penalty,
        "seed": settings.seed,
        "config": settings.config,
    }


def _feature(feature: Feature) -> dict[str, Any]:
    missing = [str(value) if math.isnan(value) else value for value in feature.missing_values]
    made = {name: value for name, value in vars(feature).items() if name != "axis"}
    return {**made, "missing": missing, "edges": feature.axis.edges}


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def plain_values(value: Any) -> Any:
    """Replace containers by those of JSON, and what is not a finite number by ``None``."""
    if isinstance(value, Mapping):
        return {str(key): plain_values(part) for key, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return plain_values(asdict(value))
    if isinstance(value, np.ndarray):
        return plain_values(value.tolist())
    if isinstance(value, np.generic):
        return plain_values(value.item())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain_values(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
