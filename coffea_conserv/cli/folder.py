"""Folder of a result: what earlier commands left there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coffea_conserv.errors import InputError
from coffea_conserv.evidence.effort import EventTest
from coffea_conserv.evidence.gather import Evidence
from coffea_conserv.exports.impact import FitImpact
from coffea_conserv.studies.controls import Control

if TYPE_CHECKING:
    from coffea_conserv.results.result import Result

__all__ = ("controls_of", "impact_of", "tested_of")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path} is damaged ({error}); remove it, or make it again"
        raise InputError(msg) from None


def tested_of(folder: Path, result: Result) -> tuple[EventTest, ...] | None:
    """Tests of the events of the same run, if they were done.

    Raises
    ------
    InputError
        If the file is damaged or of another version.
    """
    path = folder / "evidence.json"
    content = _json(path) if path.is_file() else {}
    if content.get("config") != result.settings.config:
        return None
    return Evidence.from_dict(content).tested or None


def impact_of(folder: Path) -> FitImpact | None:
    """Impact on a signal strength, if there was a fit."""
    path = folder / "fit" / "impact.json"
    return FitImpact.from_dict(_json(path)) if path.is_file() else None


def controls_of(folder: Path) -> tuple[Control, ...]:
    """Controls of the attack, if there were some."""
    path = folder / "controls.json"
    if not path.is_file():
        return ()
    try:
        rows: list[dict[str, Any]] = _json(path)
        filled = ({key: float("nan") if v is None else v for key, v in row.items()} for row in rows)
        return tuple(Control(**dict[str, Any](row)) for row in filled)
    except TypeError as error:
        msg = f"{path} is of another version ({error}); make it again with run_controls"
        raise InputError(msg) from None
