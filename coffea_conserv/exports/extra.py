"""Packages of the extra ``fit``, which are imported where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from coffea_conserv.errors import ConfigurationError

__all__ = ("of_extra",)


@contextmanager
def of_extra() -> Iterator[None]:
    """Say how to install what an import within does not find.

    Raises
    ------
    ConfigurationError
        With the package and the remedy.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        msg = f"this needs {error.name}: pip install 'coffea-conserv[fit]'"
        raise ConfigurationError(msg) from None
