"""A result as a file, for the command line and for other days."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lz4.frame

from coffea_conserv.errors import InputError
from coffea_conserv.features.feature import Watched
from coffea_conserv.files import replacing

if TYPE_CHECKING:
    from coffea_conserv.results.result import Result

__all__ = ("load_result", "save_result")

FORMAT = 1
"""Raised whenever what is in the file changes."""

_REMEDY = "write it again with result.save(path), from the output of the run"
_UNREADABLE = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class _Gone:
    """Stands for the function of a watched quantity, which a result does not need."""

    name: str

    def __call__(self, columns: dict[str, Any]) -> Any:
        """Say that it is not there."""
        msg = (
            f"the function of watched quantity {self.name!r} is not in the file of a result ({len(columns)})"
        )
        raise InputError(msg)


def save_result(result: Result, path: str | Path) -> Path:
    """Write a result to a file, which ``coffea.util.load`` can read too.

    Parameters
    ----------
    result
        The result of a run. Functions of watched quantities are left out: nothing of it needs them.
    path
        The file; it is there as a whole or not at all.
    """
    watched = tuple(Watched(w.name, _Gone(w.name), w.axis) for w in result.settings.watched)
    kept = replace(result, settings=replace(result.settings, watched=watched))
    content = {"format": FORMAT, "version": _version(), "result": kept}
    with replacing(Path(path)) as part, lz4.frame.open(part, "wb") as file:
        pickle.dump(content, file)
    return Path(path)


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
    path = Path(path)
    path = path / "result.coffea" if path.is_dir() else path
    if not path.is_file():
        msg = f"there is no file {path}; {_REMEDY}"
        raise InputError(msg)
    try:
        with lz4.frame.open(path, "rb") as file:
            content = pickle.load(file)  # noqa: S301 -- said above
    except _UNREADABLE as error:
        msg = f"{path} cannot be read ({type(error).__name__}: {error}); {_REMEDY}"
        raise InputError(msg) from None
    if not isinstance(content, dict) or "format" not in content:
        msg = f"{path} holds no result of coffea_conserv; {_REMEDY}"
        raise InputError(msg)
    if content["format"] != FORMAT:
        wrote, here = content.get("version"), _version()
        msg = (
            f"{path} was written by coffea_conserv {wrote} in format {content['format']}, and {here} reads "
            f"format {FORMAT}; {_REMEDY} with this version"
        )
        raise InputError(msg)
    result: Result = content["result"]
    return result


def _version() -> str:
    try:
        return version("coffea-conserv")
    except PackageNotFoundError:
        return "unknown"
