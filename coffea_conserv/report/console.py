"""Reports of a result, of evidence and of baselines on a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from coffea_conserv.limits.verdict import share_text
from coffea_conserv.report import tables
from coffea_conserv.results.tables import (
    fooling_table,
    kept_text,
    percent_text,
    verdict_table,
)
from coffea_conserv.templates.checks import TemplateWarning
from coffea_conserv.templates.template import MEANING

if TYPE_CHECKING:
    from rich.console import Console

    from coffea_conserv.evidence.gather import Evidence


if TYPE_CHECKING:
    from rich.console import Console

    from coffea_conserv.results.result import Result
    from coffea_conserv.studies.baselines import Compared

__all__ = (
    "comparison_table",
    "coverage_table",
    "print_evidence",
    "print_report",
    "statistics_table",
    "warnings_table",
)

MOODS = {"good": "green", "bad": "red", "": ""}
"""Colour of a cell on a terminal."""


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
        state = escape(f"left out: {row.note}") if row.note else kept_text(kept=row.kept)
        table.add_row(escape(row.name), percent_text(row.fooling_ratio), shift, *cells, state)
    return table


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
        table.add_row(escape(str(row.group)), *sizes, *floors, ", ".join(row.below))
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
        elif entry.missing:
            count = f"{len(entry.missing)} of {entry.files_asked} files"
            state = f"[bold red]{count} not read: {escape(', '.join(entry.missing))}[/]"
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


def _degenerate_lines(result: Result) -> list[str]:
    """Say which features have no correlation of their own, one line for each finding."""
    lines: dict[str, list[str]] = {}
    for row in result.statistics:
        for found in row.degenerate:
            lines.setdefault(f"{found.kind}: {', '.join(found.features)}", []).append(str(row.group))
    return [f"{text} in {', '.join(groups)}" for text, groups in lines.items()]


def _negative_lines(result: Result) -> list[str]:
    """Say where bins with negative content are seen in part only, one line for each quantity."""
    lines: dict[str, list[str]] = {}
    for found in result.verdict.negative:
        bins = max(found.nominal, found.attacked)
        lines.setdefault(found.quantity, []).append(f"{found.group} ({bins}, {found.share:.1%})")
    return [f"{quantity}: {', '.join(places)}" for quantity, places in lines.items()]


def print_report(result: Result, console: Console, *, all_limits: bool = False) -> None:
    """Print verdict, fooling ratios, samples, coverage and warnings of the score templates to a console."""
    meaning = result.settings.budget.meaning()
    console.print(verdict_table(result.verdict, meaning, all_limits=all_limits))
    unattacked = [str(one) for one in result.verdict.unattacked]
    if unattacked:
        console.print("[yellow]Events that stayed nominal, and say nothing about robustness[/]:")
        for line in unattacked:
            console.print(f"  {escape(line)}")
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
    console.print(fooling_table(result.fooling, result.settings.points))
    console.print(statistics_table(result))
    console.print(coverage_table(result))
    warnings = result.templates("score").warnings
    if warnings:
        console.print(warnings_table(warnings))
    console.print(f"The attacked templates are the {MEANING}.")


def print_evidence(evidence: Evidence, console: Console) -> None:
    """Print correlations, agreement with data, tests of events, and how many events tests need."""
    for made in (
        tables.correlations_table(evidence),
        tables.worse_table(evidence),
        tables.tested_table(evidence),
        tables.detected_table(evidence),
    ):
        if made.rows:
            console.print(_rich(made))


def _rich(made: tables.PageTable) -> Table:
    table = Table(title=made.title, caption=made.note)
    for name in made.columns:
        table.add_column(name, overflow="fold")
    for row in made.rows:
        cells = (f"[{MOODS[c.mood]}]{escape(c.text)}[/]" if c.mood else escape(c.text) for c in row)
        table.add_row(*cells)
    return table
