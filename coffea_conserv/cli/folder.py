"""Folder of a result: what earlier commands left there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from coffea_conserv.errors import InputError
from coffea_conserv.evidence.effort import EventTest
from coffea_conserv.evidence.gather import Evidence
from coffea_conserv.exports.impact import FitImpact
from coffea_conserv.results.derived import read_derived
from coffea_conserv.studies.controls import Control

if TYPE_CHECKING:
    from coffea_conserv.results.result import Result

__all__ = ("controls_of", "impact_of", "tested_of")


def tested_of(folder: Path, result: Result) -> tuple[EventTest, ...] | None:
    """Tests of the events of the same run, if they were done.

    Raises
    ------
    InputError
        If the file is damaged or of another version.
    """
    content = read_derived(folder / "evidence.json", result.settings.config)
    return None if content is None else Evidence.from_dict(content).tested or None


def impact_of(folder: Path, result: Result) -> FitImpact | None:
    """Impact of the same run on a signal strength, if there was a fit."""
    content = read_derived(folder / "fit" / "impact.json", result.settings.config)
    return None if content is None else FitImpact.from_dict(content)


def controls_of(folder: Path, result: Result) -> tuple[Control, ...]:
    """Controls of the attack of the same run, if there were some."""
    path = folder / "controls.json"
    content = read_derived(path, result.settings.config)
    if content is None:
        return ()
    try:
        rows: list[dict[str, Any]] = content["rows"]
        filled = ({key: float("nan") if v is None else v for key, v in row.items()} for row in rows)
        return tuple(Control(**dict[str, Any](row)) for row in filled)
    except (KeyError, TypeError) as error:
        msg = f"{path} is of another version ({error}); make it again with run_controls"
        raise InputError(msg) from None
