"""The files of an analysis: where they are, and a look into each of them before anything expensive starts."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import uproot

from coffea_conserv import ConfigurationError
from example_analysis import cache
from processors import htautau, ttbar_ww

__all__ = ("check_files", "read_fileset")

Fileset = Mapping[str, Mapping[str, Any]]

READS = {
    "htautau": (htautau.BRANCHES, htautau.WEIGHT),
    "ttbar_ww": (ttbar_ww.BRANCHES, ttbar_ww.WEIGHT),
}
# What uproot was seen to raise when it opened and read files with random damage.
UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    RecursionError,
    struct.error,
    zlib.error,
    uproot.DeserializationError,
)


def read_fileset(analysis: str, folder: Path) -> Fileset:
    """Read the fileset of an analysis from its folder of data.

    Parameters
    ----------
    analysis
        ``htautau`` or ``ttbar_ww``.
    folder
        Folder of the skims, or of the generated events.

    Raises
    ------
    FileNotFoundError
        If files are missing; the message says how to get or make them.
    ConfigurationError
        If ``fileset.json`` of generated events is damaged.
    """
    return htautau.fileset(folder) if analysis == "htautau" else cache.read(folder)


def check_files(analysis: str, fileset: Fileset) -> None:
    """Open every file and read the first and the last event of every branch that the analysis needs.

    That finds files that are cut off, of something else, or whose ends are damaged. Damage in the middle is
    left to the run, as whole files may be large; coffea then names file and events.

    Parameters
    ----------
    analysis
        ``htautau`` or ``ttbar_ww``.
    fileset
        coffea's fileset.

    Raises
    ------
    ConfigurationError
        With dataset, file and remedy.
    """
    branches, weight = READS[analysis]
    for dataset, entry in fileset.items():
        needed = branches if entry["metadata"]["is_data"] else (*branches, weight)
        for path, tree in entry["files"].items():
            problem = _problem(path, tree, needed)
            if problem:
                msg = f"dataset {dataset}: {path} {problem}; get or make it again"
                raise ConfigurationError(msg)


def _problem(path: str, tree: str, branches: Sequence[str]) -> str:
    """Say what is wrong with a file, or nothing."""
    try:
        with uproot.open(path) as file:
            if tree not in file:
                return f"has no tree {tree!r}"
            events = file[tree]
            absent = [name for name in branches if name not in events]
            if absent:
                return f"has no branch {', '.join(absent)}"
            last = events.num_entries - 1
            for position in {0, last} if last >= 0 else ():
                events.arrays(list(branches), entry_start=position, entry_stop=position + 1)
    except UNREADABLE as error:
        return f"cannot be read as a ROOT file ({type(error).__name__}: {error!s:.200})"
    return ""
