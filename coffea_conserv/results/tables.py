"""Tables of limits and fooling ratios, for a terminal and as a piece of HTML."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coffea_conserv.limits.verdict import Verdict, share_text, worst_limits
from coffea_conserv.results.fooling import Fooling

__all__ = (
    "fooling_table",
    "kept_text",
    "percent_text",
    "tables_html",
    "verdict_table",
)


def verdict_table(verdict: Verdict, meaning: str, *, all_limits: bool = False) -> Table:
    """Make a table of the limits.

    Parameters
    ----------
    verdict
        The limits, with values.
    meaning
        What they mean, for the caption.
    all_limits
        Whether to list every limit instead of the tightest one of each group.
    """
    table = Table(title=verdict.summary, caption=meaning)
    whole = {one.group for one in verdict.unattacked if one.wholly}
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
            "[yellow]not attacked[/]" if limit.group in whole else kept_text(kept=limit.passed),
        )
        table.add_row(escape(str(limit.group)), escape(limit.name), limit.measure, *cells)
    return table


def kept_text(*, kept: bool) -> str:
    """Say in colour whether limits are kept."""
    return "[green]kept[/]" if kept else "[bold red]broken[/]"


def fooling_table(rows: Sequence[Fooling], points: Sequence[float]) -> Table:
    """Make a table of the fooling ratios; a dash stands where there is no ratio or no error.

    Parameters
    ----------
    rows
        Fooling ratios of groups.
    points
        The working points of the run.
    """
    which = f"the score {points[0]:g}" if len(points) == 1 else "a score"
    caption = f"weight that crosses {which} over the weight on the side attacked; statistical errors"
    table = Table(title="fooling ratio", caption=caption)
    for name in ("group", "region", "variation", *(["score"] if len(points) > 1 else [])):
        table.add_column(name, overflow="fold")
    for name in ("fooled", "error", "returned", "net", "mean score", "unattacked", "moved"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
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


def tables_html(*tables: Table) -> str:
    """Return tables as a piece of HTML."""
    console = Console(record=True, file=io.StringIO(), width=120)
    for table in tables:
        console.print(table)
    style = "font-family:monospace;line-height:1.25;white-space:pre;overflow-x:auto"
    return console.export_html(inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>')
