"""Tables of a result, for a terminal and as a piece of HTML."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from coffea_conserv.limits.verdict import share_text, worst_limits

if TYPE_CHECKING:
    from coffea_conserv.results.result import Result
    from coffea_conserv.templates.checks import TemplateWarning

__all__ = (
    "coverage_table",
    "fooling_table",
    "kept_text",
    "percent_text",
    "statistics_table",
    "tables_html",
    "to_html",
    "verdict_table",
    "warnings_table",
)


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
        cells = (
            f"{limit.value:.4g}",
            f"{limit.limit:.4g}",
            share_text(limit.used),
            kept_text(kept=limit.passed),
        )
        table.add_row(escape(limit.group), escape(limit.name), limit.measure, *cells)
    return table


def kept_text(*, kept: bool) -> str:
    """Say in colour whether limits are kept."""
    return "[green]kept[/]" if kept else "[bold red]broken[/]"


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
        returned, net, unattacked, moved = (percent_text(share) for share in shares)
        at = (f"{row.working_point:g}",) if len(points) > 1 else ()
        names = (escape(row.name), escape(row.region), row.variation, *at)
        cells = (*names, percent_text(row.ratio), error, returned, net, shift)
        table.add_row(*cells, unattacked, moved)
    return table


def percent_text(value: float) -> str:
    """Write a share as a percentage, and a dash where there is none."""
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
