"""Outlook of a run on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coffea_conserv.running.outlook import SENSIBLE, Outlook

__all__ = ("print_outlook",)


def print_outlook(outlook: Outlook, chunksize: int, console: Console) -> None:
    """Print what a run will be."""
    total = sum(events for events, _ in outlook.datasets.values())
    chunks = sum(count for _, count in outlook.datasets.values())
    console.print(f"configuration {outlook.config}: {total:,} events in {chunks:,} chunks")
    console.print(f"limits in every region of every dataset: {outlook.budget.meaning()}", highlight=False)
    table = Table(title="what to expect of simulation", caption="scaled up from what was read")
    for name in ("group", "events", "effective", "negative", "in a chunk", "chance: r.m.s.", "correlation"):
        table.add_column(name, justify="left" if name == "group" else "right")
    table.add_column("limits below chance", overflow="fold")
    for group in outlook.groups:
        few = "[yellow]" if group.events and group.per_chunk < SENSIBLE else ""
        table.add_row(
            escape(f"{group.dataset}/{group.region}"),
            f"{group.events:,.0f}",
            f"{group.effective_events:,.0f}",
            f"{group.negative_share:.1%}",
            f"{few}{group.per_chunk:,.0f}",
            f"{group.floors.rms:.1%}",
            f"{group.floors.correlation:.4f}",
            ", ".join(group.below) or "none",
        )
    if outlook.groups:
        console.print(table)
    else:
        console.print("[yellow]no simulation: nothing is attacked[/]")
    _print_cost(outlook, chunksize, console)


def _print_cost(outlook: Outlook, chunksize: int, console: Console) -> None:
    advice = f"smallest sensible chunk: {outlook.chunk:,.0f} events read, for {SENSIBLE:,} in each group"
    if not outlook.groups:
        advice = "real data may be read in chunks of any size"
    elif chunksize < outlook.chunk:
        advice += f"; [yellow]chunksize is {chunksize:,}[/]: groups stay weaker than they could be"
    console.print(advice)
    cost = outlook.cost
    console.print(
        f"on one core like this: {_duration(cost.seconds)}, {cost.attack:.0%} of it the attack; memory up to "
        f"{cost.memory / 1e9:.1f} GB in this process; each chunk carries {cost.model / 1e6:.1f} MB of models "
        f"(from {cost.tried:,} events)"
    )
    if cost.model > 5e6:
        console.print("[yellow]large models travel better with shared: folder[/]: docs/models.md")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
