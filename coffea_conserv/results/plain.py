"""Plain values of a result, and of anything else, for JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coffea_conserv.features.feature import Feature
from coffea_conserv.files import replacing
from coffea_conserv.results.coverage import median_chunk
from coffea_conserv.templates.template import MEANING

if TYPE_CHECKING:
    from coffea_conserv.results.result import Result, Settings

__all__ = ("plain_values", "to_dict", "write_json")


_PACKAGES = ("coffea-conserv", "coffea", "numpy", "torch")


def to_dict(result: Result) -> dict[str, Any]:
    """Return a result as plain values.

    Returns
    -------
    dict
        ``meaning``, ``verdict``, ``fooling``, ``shifts`` (how far each feature moved),
        ``statistics`` (what the samples can tell), ``coverage``, ``events_per_chunk`` (median over the chunks
        of simulation), ``computed_on`` (chunks by device), ``warnings`` (of the score templates),
        ``processes``, ``estimates``, ``regions``, ``settings`` and ``versions``. What is not
        a finite number is ``None``.
    """
    simulation = [dataset for name in result.simulation for dataset in result.processes[name]]
    plain: dict[str, Any] = plain_values(
        {
            "meaning": MEANING,
            "verdict": result.verdict.to_dict(),
            "fooling": [asdict(row) for row in result.fooling],
            "shifts": [asdict(row) for row in result.shifts],
            "statistics": [asdict(row) for row in result.statistics],
            "coverage": [{**asdict(entry), "complete": entry.complete} for entry in result.coverage],
            "events_per_chunk": median_chunk(result.sums, simulation),
            "computed_on": result.places,
            "warnings": [{**asdict(w), "remedy": w.remedy} for w in result.templates("score").warnings],
            "processes": result.processes,
            "estimates": [asdict(estimate) for estimate in result.estimates],
            "regions": result.regions,
            "settings": _settings(result.settings),
            "versions": _versions(),
        }
    )
    return plain


def write_json(result: Result, path: Path) -> Path:
    """Write :func:`to_dict` to a file, which is there as a whole or not at all."""
    text = json.dumps(to_dict(result), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return path


def _settings(settings: Settings) -> dict[str, Any]:
    budget = {name: getattr(settings.budget, name) for name in type(settings.budget).__dataclass_fields__}
    return {
        "features": [_feature(feature) for feature in settings.features],
        "watched": [{"name": watched.name, "edges": watched.axis.edges} for watched in settings.watched],
        "budget": {**budget, "meaning": settings.budget.meaning()},
        "score_edges": settings.score.edges,
        "working_point": settings.working_point,
        "output": settings.output,
        "objective": settings.objective,
        "target": settings.target,
        "penalty": settings.penalty,
        "seed": settings.seed,
        "config": settings.config,
    }


def _feature(feature: Feature) -> dict[str, Any]:
    missing = [str(value) if math.isnan(value) else value for value in feature.missing_values]
    made = {name: value for name, value in vars(feature).items() if name != "axis"}
    return {**made, "missing": missing, "edges": feature.axis.edges}


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def plain_values(value: Any) -> Any:
    """Replace containers by those of JSON, and what is not a finite number by ``None``."""
    if isinstance(value, Mapping):
        return {str(key): plain_values(part) for key, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return plain_values(asdict(value))
    if isinstance(value, np.ndarray):
        return plain_values(value.tolist())
    if isinstance(value, np.generic):
        return plain_values(value.item())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain_values(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
