"""Checkpoints of a run: finished chunks, kept under a key of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cloudpickle
import lz4.frame
from coffea.processor import ProcessorABC
from coffea.processor.checkpointer import CheckpointerABC

from coffea_conserv.files import replacing
from coffea_conserv.fingerprint import fingerprint

__all__ = ("Keeper", "make_keeper", "run_key")

logger = logging.getLogger(__name__)

PACKAGES = (
    "coffea-conserv",
    "awkward",
    "boost-histogram",
    "coffea",
    "hist",
    "numpy",
    "torch",
    "uproot",
    "vector",
)
"""Packages whose versions outputs depend on."""

_ABOUT = "about.json"
_DIGEST = hashlib.sha256().digest_size


def run_key(processor: Any, *, schema: Any, modules: Collection[str] = ()) -> str:
    """Key of everything that the output of a chunk depends on, beside the chunk and its metadata.

    Parameters
    ----------
    processor
        By value: the code of its class, its attributes, the attack and its models among them.
    schema
        Class of the events.
    modules
        Top-level names of further modules of the user. Their sources count, those of the processor, and those
        of all modules that lie beside one of them. Files that a processor reads by itself do not.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    names = {*modules, type(processor).__module__.partition(".")[0]}
    kind = f"{schema.__module__}.{schema.__qualname__}"
    return fingerprint(processor, kind, _sources(names), _versions(), sys.version_info[:2])[:32]


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def _sources(names: Collection[str]) -> dict[str, str]:
    """Hash of the source of each module of the user that is imported."""
    tops = [module for name in names if (module := sys.modules.get(name)) is not None]
    files = [Path(file).resolve() for module in tops if (file := getattr(module, "__file__", None))]
    beside = {file.parent.parent if file.name == "__init__.py" else file.parent for file in files}
    own = {folder for folder in beside if "site-packages" not in folder.parts}
    found = {}
    for name, module in sorted(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "")
        if file.suffix != ".py" or not file.is_file():
            continue
        named = name.partition(".")[0] in names
        if named or ("site-packages" not in file.parts and own & set(file.resolve().parents)):
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


class Keeper(CheckpointerABC):  # type: ignore[misc]
    """Checkpointer of coffea that keeps chunks whole or not at all, and says what it does.

    Parameters
    ----------
    folder
        Seen by all workers. Of one key: nothing in it is of another run.
    tell
        Gets ``{"events": …, "reused": 1}`` for a chunk that was there, ``{"unsaved": text}`` for one that
        could not be kept, and ``{"damaged": file}`` for one that has to be processed again.
    """

    def __init__(self, folder: Path, tell: Callable[[dict[str, Any]], None]) -> None:
        self.folder, self.tell = Path(folder), tell

    def file(self, metadata: Mapping[str, Any]) -> Path:
        """File of a chunk with all of its metadata; no name of a dataset can lead out of the folder."""
        where = {name: part for name, part in metadata.items() if name not in ("entrystart", "entrystop")}
        name = f"{metadata['entrystart']}-{metadata['entrystop']}.coffea"
        return self.folder / fingerprint(where)[:24] / name

    def load(self, metadata: Any, processor_instance: ProcessorABC) -> Any:
        """Output of a chunk, if it is there and whole."""
        del processor_instance  # it is in the key
        file = self.file(metadata)
        try:
            content = file.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            logger.warning("%s is damaged; the chunk is processed again", file)
            self.tell({"damaged": str(file)})
            return None
        output = cloudpickle.loads(lz4.frame.decompress(content[_DIGEST:]))
        self.tell({"events": int(metadata["entrystop"]) - int(metadata["entrystart"]), "reused": 1})
        return output

    def save(self, output: Any, metadata: Any, processor_instance: ProcessorABC) -> None:
        """Keep the output of a chunk; a full disk costs the checkpoint, not the chunk, and is said."""
        del processor_instance
        file, content = self.file(metadata), lz4.frame.compress(cloudpickle.dumps(output))
        try:
            with replacing(file) as part:
                part.write_bytes(hashlib.sha256(content).digest() + content)
        except OSError as error:
            logger.warning("chunk %s is not kept: %s", file.name, error)
            self.tell({"unsaved": f"{type(error).__name__}: {error}"})


def make_keeper(
    folder: str | Path,
    processor: Any,
    *,
    schema: Any,
    modules: Collection[str] = (),
    tell: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Keeper:
    """Make a checkpointer for ``Runner(..., checkpointer=)`` that no other run can be mixed up with.

    Parameters
    ----------
    folder
        Of checkpoints, seen by all workers; each key has a folder of its own in it.
    processor, schema, modules
        As for :func:`run_key`.
    tell
        As for :class:`Keeper`.

    Raises
    ------
    OSError
        If the folder cannot be written, which is known before any chunk is processed.
    """
    key = run_key(processor, schema=schema, modules=modules)
    own = Path(folder) / key
    about = own / _ABOUT
    if not about.exists():
        now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        content = {"made": now, "key": key, "versions": _versions()}
        with replacing(about) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return Keeper(own, tell)
