"""Console of the commands, and how they end if something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

__all__ = ("told",)


@contextmanager
def told() -> Iterator[Console]:
    """Print errors that name their remedy as text instead of a traceback."""
    from coffea_conserv.errors import ConservError  # noqa: PLC0415

    console = Console()
    console = console if console.is_terminal else Console(width=140)
    try:
        yield console
    except ConservError as error:
        console.print("[bold red]error:[/]", end=" ")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
