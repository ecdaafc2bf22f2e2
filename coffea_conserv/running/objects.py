"""Objects of the user, named as module:name, and schemas."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from coffea import nanoevents

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


def schema_of(text: str) -> Any:
    """A schema of coffea, by its name or as ``module:Class``.

    Raises
    ------
    ConfigurationError
        If there is none, or it is something else.
    """
    known = sorted(name for name in dir(nanoevents) if name.endswith("Schema"))
    if ":" not in text and text not in known:
        msg = f"coffea has no schema {text!r}; there are {', '.join(known)}, or give module:Class"
        raise ConfigurationError(msg)
    found = imported(text) if ":" in text else getattr(nanoevents, text)
    if not (isinstance(found, type) and issubclass(found, nanoevents.BaseSchema)):
        msg = f"{text} is no schema, a subclass of BaseSchema"
        raise ConfigurationError(msg)
    return found
