"""What a run was: its input, its settings and its chunks, written to and read from ``run.json``."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from coffea.processor.executor import WorkItem

import processors
from coffea_conserv import Budget, ConfigurationError, __version__

__all__ = (
    "Attack",
    "Source",
    "check_folder",
    "check_plotting",
    "check_writable",
    "fingerprint",
    "read_run",
    "versions",
    "write_json",
)

PACKAGES = ("coffea", "awkward", "uproot", "hist", "numpy", "torch", "dask", "distributed")
Fileset = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Source:
    """Which analysis, and the folder of its files.

    Parameters
    ----------
    analysis
        ``ttbar_ww`` or ``htautau``.
    folder
        Folder of the generated files, or of the skims.
    """

    analysis: str
    folder: Path

    @classmethod
    def choose(cls, events: Path, data: Path | None) -> Source:
        """Take real data if their folder is given, else the generated events."""
        return cls("ttbar_ww", events) if data is None else cls("htautau", data)


@dataclass(frozen=True)
class Attack:
    """Settings of the attack.

    Parameters
    ----------
    limits
        Arguments of :class:`coffea_conserv.Budget`.
    objective
        ``score`` or ``cross``.
    seed
        Seed of the attack.
    """

    limits: Mapping[str, Any]
    objective: str = "score"
    seed: int = 1

    def __post_init__(self) -> None:
        Budget(**self.limits)  # complains now rather than after the training
        if self.objective not in ("score", "cross"):
            msg = f"unknown objective {self.objective!r}: choose score or cross"
            raise ConfigurationError(msg)

    @property
    def budget(self) -> Budget:
        """The limits."""
        return Budget(**self.limits)


def fingerprint(fileset: Fileset, settings: Mapping[str, Any]) -> str:
    """Hash everything that decides about the trained models: content of the files, settings and code.

    Parameters
    ----------
    fileset
        coffea's fileset; where its files lie does not count.
    settings
        Values that JSON can hold.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for dataset in sorted(fileset):
        digest.update(json.dumps([dataset, fileset[dataset]["metadata"]], sort_keys=True).encode())
        for path in fileset[dataset]["files"]:
            digest.update(_digest(Path(path)))
    code = [Path(__file__).with_name("train.py"), *Path(processors.__path__[0]).glob("*.py")]
    for path in sorted(code):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _digest(path: Path) -> bytes:
    """Hash one file in pieces, as skims may be larger than the memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.digest()


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file in one step: readers see the old or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide about the numbers."""
    found = {"python": platform.python_version(), "coffea-conserv": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def chunk_rows(chunks: Iterable[WorkItem]) -> list[dict[str, Any]]:
    """Describe chunks in values that JSON can hold."""
    names = ("dataset", "filename", "treename", "entrystart", "entrystop")
    rows = []
    for chunk in chunks:
        row = {name: getattr(chunk, name) for name in names}
        # As integers of numpy they would not be JSON.
        row |= {name: int(row[name]) for name in ("entrystart", "entrystop")}
        rows.append({**row, "fileuuid": chunk.fileuuid.hex()})
    return rows


def events_by_dataset(chunks: Iterable[WorkItem]) -> dict[str, int]:
    """Count the events that are to be read of each dataset."""
    events: Counter[str] = Counter()
    for chunk in chunks:
        events[chunk.dataset] += len(chunk)
    return {dataset: int(number) for dataset, number in events.items()}


def check_folder(out: Path, analysis: str) -> None:
    """Make the folder of results, and keep those of the two analyses apart.

    Raises
    ------
    ConfigurationError
        If nothing can be written there, or if it holds results of the other one.
    """
    check_writable(out, "--out")
    for path in (out / "run.json", out / "models" / "inputs.json"):
        other = json.loads(path.read_text())["analysis"] if path.is_file() else analysis
        if other != analysis:
            msg = (
                f"{out} holds results of the analysis {other}; give those of {analysis} another folder with "
                f"--out, or RESULTS= of make"
            )
            raise ConfigurationError(msg)


def check_writable(folder: Path, option: str) -> None:
    """Make a folder, and complain if nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        msg = f"nothing can be written to {folder} ({error.strerror}); give another folder with {option}"
        raise ConfigurationError(msg) from error


def check_plotting() -> None:
    """Complain if the pictures could not be drawn in the end."""
    absent = [name for name in ("matplotlib", "mplhep") if importlib.util.find_spec(name) is None]
    if absent:
        msg = f"the pictures need {' and '.join(absent)}: pip install 'coffea-conserv[plot]'"
        raise ConfigurationError(msg)


def read_run(folder: Path) -> dict[str, Any]:
    """Read ``run.json``.

    Raises
    ------
    ConfigurationError
        If the step ``run`` has not been done there.
    """
    path = folder / "run.json"
    if not path.is_file() or not (folder / "output.coffea").is_file():
        msg = (
            f"{folder} holds no finished run (output.coffea and run.json); first do: "
            f"python -m example_analysis run --out {folder}"
        )
        raise ConfigurationError(msg)
    content: dict[str, Any] = json.loads(path.read_text())
    return content
