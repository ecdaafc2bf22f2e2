"""Evidence on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from coffea_conserv.reporting import tables

if TYPE_CHECKING:
    from rich.console import Console

    from coffea_conserv.evidence import Evidence

__all__ = ("print_evidence",)

MOODS = {"good": "green", "bad": "red", "": ""}


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
