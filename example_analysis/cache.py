"""A folder of generated files that is either complete, and says of what, or not there at all."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("FILESET", "MANIFEST", "fingerprint", "load", "refill", "store")

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FILESET = "fileset.json"
SOURCES = ("detector.py", "generate.py", "pythia.py")
Fileset = dict[str, dict[str, Any]]


def fingerprint(physics: dict[str, Any]) -> str:
    """Return a hash of the configuration and of the code that makes the events of it."""
    digest = hashlib.sha256(json.dumps(physics, sort_keys=True).encode())
    for name in SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()


def load(folder: Path, physics: dict[str, Any]) -> Fileset | None:
    """Return the fileset of a complete folder with this configuration, or nothing.

    Parameters
    ----------
    folder
        Where the files may be.
    physics
        Values that decide about the events.

    Returns
    -------
    dict or None
        Fileset with the present place of the files, also if the folder was moved.
    """
    if not (folder / MANIFEST).is_file():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        same = manifest["fingerprint"] == fingerprint(physics)
        whole = all(_size(folder / name) == size for name, size in manifest["files"].items())
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        log.warning("%s is not readable: the events are generated again", folder / MANIFEST)
        return None
    if not (same and whole):
        reason = "another configuration" if not same else "changed or missing files"
        log.info("%s holds %s: the events are generated again", folder, reason)
        return None
    fileset = _fileset(folder, manifest["metadata"])
    text = _text(fileset)
    if not (folder / FILESET).is_file() or (folder / FILESET).read_text() != text:
        _replace(folder / FILESET, text)
    return fileset


@contextmanager
def refill(folder: Path) -> Iterator[Path]:
    """Give a temporary folder inside ``folder`` to write to; it vanishes at the end, whatever happens."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def store(temporary: Path, physics: dict[str, Any], metadata: dict[str, dict[str, Any]]) -> Fileset:
    """Move complete files from the temporary folder to its parent; the manifest comes last.

    Parameters
    ----------
    temporary
        Folder of :func:`refill` with one closed file ``<dataset>.root`` per dataset.
    physics
        Values that decide about the events.
    metadata
        Metadata of each dataset.

    Returns
    -------
    dict
        Fileset with the final place of the files.
    """
    folder = temporary.parent
    (folder / MANIFEST).unlink(missing_ok=True)  # from here on an interruption leaves no valid folder
    files = {}
    for dataset in metadata:
        moved = (temporary / f"{dataset}.root").replace(folder / f"{dataset}.root")
        files[moved.name] = moved.stat().st_size
    fileset = _fileset(folder, metadata)
    _replace(folder / FILESET, _text(fileset))
    manifest = {
        "fingerprint": fingerprint(physics),
        "configuration": physics,
        "files": files,
        "metadata": metadata,
    }
    _replace(folder / MANIFEST, _text(manifest))
    return fileset


def _fileset(folder: Path, metadata: dict[str, dict[str, Any]]) -> Fileset:
    """Return coffea's fileset, with absolute paths."""
    return {
        name: {"files": {str((folder / f"{name}.root").resolve()): "Events"}, "metadata": values}
        for name, values in metadata.items()
    }


def _size(path: Path) -> int:
    """Return the size of a file, -1 if it is missing."""
    return path.stat().st_size if path.is_file() else -1


def _text(content: Any) -> str:
    """Return JSON that a person can read."""
    return json.dumps(content, indent=2) + "\n"


def _replace(path: Path, text: str) -> None:
    """Write a small file in one step: readers see the old or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
