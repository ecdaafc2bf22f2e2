"""Plain values for JSON, of anything that holds numbers, arrays and values with fields."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from coffea_conserv.files import replacing

__all__ = ("plain_values", "versions", "write_json")


_PACKAGES = ("coffea-conserv", "coffea", "numpy", "torch")


def write_json(values: Any, path: Path) -> Path:
    """Write plain values to a file, which is there as a whole or not at all."""
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return path


def versions() -> dict[str, str | None]:
    """Package → version that is installed, of those on which numbers depend."""
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
