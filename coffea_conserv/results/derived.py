"""Derived files of a result, which carry its configuration: those of another run are not taken."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coffea_conserv.errors import InputError
from coffea_conserv.files import replacing
from coffea_conserv.results.plain import plain_values

__all__ = ("DERIVED", "read_derived", "set_aside", "write_derived")

logger = logging.getLogger(__name__)

DERIVED = ("evidence.json", "controls.json", "report.html", "fit", "plots")
"""What later commands make of a result in its folder."""


def write_derived(path: Path, config: str, content: Mapping[str, Any]) -> Path:
    """Write values to a JSON file under the hash of the configuration that they are of."""
    values = plain_values({"config": config, **content})
    with replacing(path) as part:
        part.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_derived(path: Path, config: str) -> dict[str, Any] | None:
    """Read what :func:`write_derived` wrote; ``None`` if it is not there, or of another configuration.

    Raises
    ------
    InputError
        If the file is damaged, or of a version that did not write the configuration.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path} is damaged ({error}); remove it, or make it again"
        raise InputError(msg) from None
    if not isinstance(content, dict) or "config" not in content:
        msg = f"{path} is of another version, which did not say what it is of; remove it, or make it again"
        raise InputError(msg)
    if content["config"] != config:
        logger.warning("%s is of another run (%s, not %s) and not used", path, content["config"], config)
        return None
    return content


def set_aside(folder: Path, config: str) -> Path | None:
    """Move what was made of an earlier result with another configuration out of the way of a new one.

    Parameters
    ----------
    folder
        Of the results, before the new ``verdict.json`` is written.
    config
        Hash of the new configuration.

    Returns
    -------
    Path or None
        Where the files are now: ``earlier/<hash>`` in the folder; ``None`` if there was nothing to move.
    """
    try:
        before = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))["settings"]["config"]
    except (OSError, ValueError, KeyError, TypeError):
        before = "unknown"
    there = [folder / name for name in DERIVED if (folder / name).exists()]
    if before == config or not there:
        return None
    target = folder / "earlier" / str(before)
    while target.exists():
        target = target.with_name(target.name + "_")
    target.mkdir(parents=True)
    for path in there:
        path.rename(target / path.name)
    return target
