"""Chunk of events: its identity, its seed, and what the attack made of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import InputError
from coffea_conserv.features.feature import Feature
from coffea_conserv.sums.sums import Sums

__all__ = ("Identity", "Moved", "identity", "seed_of", "stacked")


@dataclass(frozen=True)
class Moved:
    """What was done to the selected events of one chunk.

    Parameters
    ----------
    sums
        What adds up over chunks.
    nominal
        Features, shape (events, features).
    attacked
        Variation → features, same shape; empty for real data.
    """

    sums: Sums
    nominal: NDArray[np.float32]
    attacked: Mapping[str, NDArray[np.float32]]


def stacked(columns: Mapping[str, NDArray[Any]], features: Sequence[Feature]) -> NDArray[np.float32]:
    """Columns of some features side by side, shape (events, features)."""
    return np.stack([columns[feature.name] for feature in features], axis=1)


class Identity(NamedTuple):
    """Where a chunk is from.

    Parameters
    ----------
    dataset, chunk
        What its seed is made of.
    read
        Number of events read; ``None`` if it is not known.
    file
        Name of its file; empty if it is not known.
    """

    dataset: str
    chunk: str
    read: int | None
    file: str


def identity(events: Any, dataset: str | None, chunk: str | None) -> Identity:
    """Where events are from, by their metadata where there are some.

    coffea's ``trace`` calls with no event and with one, whose metadata name no chunk. Nothing can be attacked
    there, so that they need none.

    Raises
    ------
    InputError
        If dataset or chunk are neither given nor in the metadata.
    """
    metadata = getattr(events, "metadata", None) or {}
    dataset = dataset or metadata.get("dataset")
    if dataset is None:
        msg = "no dataset: give events= (their metadata name it) or dataset="
        raise InputError(msg)
    if chunk is None and {"fileuuid", "entrystart", "entrystop"} <= set(metadata):
        chunk = f"{metadata['fileuuid']}:{metadata['entrystart']}-{metadata['entrystop']}"
    if chunk is None and hasattr(events, "__len__") and len(events) < 2:
        chunk = ""
    if chunk is None:
        msg = "no chunk identity: give events= as coffea's Runner hands them out, or chunk="
        raise InputError(msg)
    read = None
    if "entrystart" in metadata:
        read = int(metadata["entrystop"]) - int(metadata["entrystart"])
    return Identity(str(dataset), str(chunk), read, str(metadata.get("filename", "")))


def seed_of(*parts: Any) -> int:
    """Seed of a chunk and direction: the same whatever worker runs it, and in whatever order."""
    digest = hashlib.sha256("\n".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") % (2**63)
