"""Result of a run, read from its file."""

from __future__ import annotations

from pathlib import Path

from coffea_conserv.results.result import Result
from coffea_conserv.results.store import load_value

__all__ = ("load_result",)


def load_result(path: str | Path) -> Result:
    """Read a result that :meth:`coffea_conserv.Result.save` wrote.

    It is a pickle: read only files of people whom you trust.

    Parameters
    ----------
    path
        The file, or a folder with ``result.coffea`` in it.

    Raises
    ------
    InputError
        If there is none, it cannot be read, or another version of this package wrote it.
    """
    result: Result = load_value(path)
    return result
