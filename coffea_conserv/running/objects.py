"""Objects of the user, named as module:name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from coffea_conserv.errors import FAILURES, ConfigurationError

__all__ = ("imported",)


def imported(text: str) -> Any:
    """Import ``module:name``; the folder where the command was given counts too.

    Raises
    ------
    ConfigurationError
        If there is no such module, it fails, or nothing of that name is in it.
    """
    module, name = text.split(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except FAILURES as error:
        msg = (
            f"{text} cannot be imported ({type(error).__name__}: {error}); start in the folder of the "
            "module, or install it"
        )
        raise ConfigurationError(msg) from (None if isinstance(error, OSError) else error)
    return found
