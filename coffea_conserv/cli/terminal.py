"""Console of the commands, and how they end if something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from coffea_conserv.errors import ConservError
from coffea_conserv.running.failures import failure_of

__all__ = ("DEBUG", "bar", "told")

DEBUG: ContextVar[bool] = ContextVar("debug", default=False)
"""Whether tracebacks are shown."""


@contextmanager
def told() -> Iterator[Console]:
    """Print what went wrong in one line, and end with exit code 2; ``--debug`` shows the traceback.

    Exit code 1 is left for a broken limit, so that a script can tell the two apart.
    """
    console = Console()
    console = console if console.is_terminal else Console(width=140)
    try:
        yield console
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except (Exception, KeyboardInterrupt) as error:
        if DEBUG.get():
            console.print_exception()
        text = str(error)
        if not isinstance(error, ConservError):  # one line, whatever a library says
            text = "interrupted" if isinstance(error, KeyboardInterrupt) else failure_of(error).reason
            text = " ".join(text.split()) + "; coffea-conserv --debug … shows where"
        console.print("[bold red]error:[/]", end=" ")
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


@contextmanager
def bar(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Progress bar, on a terminal only; yields a function of the numbers done and of all."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
