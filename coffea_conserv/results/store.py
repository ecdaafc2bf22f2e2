"""File of a result, for the command line and for other days."""

from __future__ import annotations

import pickle
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lz4.frame

from coffea_conserv.errors import InputError
from coffea_conserv.files import replacing

__all__ = ("load_value", "save_value")

FORMAT = 2
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


def save_value(value: Any, path: str | Path) -> Path:
    """Write a value to a file, which ``coffea.util.load`` can read too.

    Parameters
    ----------
    value
        The value.
    path
        The file; it is there as a whole or not at all.
    """
    content = {"format": FORMAT, "version": _version(), "result": value}
    with replacing(Path(path)) as part, lz4.frame.open(part, "wb") as file:
        pickle.dump(content, file)
    return Path(path)


class _Older:
    """Stands for a class that an older version of this package had."""


class _Reader(pickle.Unpickler):
    """Reads files of older versions as far as their format, whatever their modules were called."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (AttributeError, ModuleNotFoundError):
            if module.partition(".")[0] != __name__.partition(".")[0]:
                raise
            return _Older


def load_value(path: str | Path) -> Any:
    """Read what :func:`save_value` wrote.

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
            content = _Reader(file).load()
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
    return content["result"]


def _version() -> str:
    try:
        return version("coffea-conserv")
    except PackageNotFoundError:
        return "unknown"
