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

from coffea_conserv import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("FILESET", "MANIFEST", "fingerprint", "load", "read", "refill", "store")

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
        manifest = _json(folder / MANIFEST)
        same = manifest["fingerprint"] == fingerprint(physics)
        whole = all(_hash(folder / name) == content for name, content in manifest["files"].items())
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        log.warning("%s is not readable: the events are generated again", folder / MANIFEST)
        return None
    if not (same and whole):
        reason = "another configuration" if not same else "changed or missing files"
        log.info("%s holds %s: the events are generated again", folder, reason)
        return None
    text = _text(_fileset(manifest["metadata"]))
    if not (folder / FILESET).is_file() or (folder / FILESET).read_text() != text:
        _replace(folder / FILESET, text)
    return read(folder)


def read(folder: Path) -> Fileset:
    """Read the fileset of a folder of events.

    Parameters
    ----------
    folder
        Folder with ``fileset.json``, which names the files beside it.

    Returns
    -------
    dict
        coffea's fileset with absolute paths, because workers may run in another folder.

    Raises
    ------
    FileNotFoundError
        If the fileset or one of its files is not there.
    ConfigurationError
        If the fileset is damaged or names files outside of the folder: a copy of the folder must not read
        the events of the original.
    """
    remedy = f"python -m example_analysis generate --events {folder}"
    path = folder / FILESET
    if not path.is_file():
        msg = f"{folder} holds no generated events ({FILESET}); first do: {remedy}"
        raise FileNotFoundError(msg)
    try:
        named = {name: (dict(entry["files"]), entry["metadata"]) for name, entry in _json(path).items()}
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path} is damaged ({error!r:.100}); make it again with: {remedy}"
        raise ConfigurationError(msg) from error
    files = [file for trees, _ in named.values() for file in trees]
    outside = [file for file in files if Path(file).is_absolute() or ".." in Path(file).parts]
    if outside:
        msg = f"{path} names files outside of its folder: {', '.join(outside)}; make it again with: {remedy}"
        raise ConfigurationError(msg)
    absent = [file for file in files if not (folder / file).is_file()]
    if absent:
        msg = f"missing in {folder}: {', '.join(absent)}; make the events again with: {remedy}"
        raise FileNotFoundError(msg)
    return {
        name: {"files": _placed(folder, trees), "metadata": metadata}
        for name, (trees, metadata) in named.items()
    }


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
        files[moved.name] = _hash(moved)
    _replace(folder / FILESET, _text(_fileset(metadata)))
    manifest = {
        "fingerprint": fingerprint(physics),
        "configuration": physics,
        "files": files,
        "metadata": metadata,
    }
    _replace(folder / MANIFEST, _text(manifest))
    return read(folder)


def _fileset(metadata: dict[str, dict[str, Any]]) -> Fileset:
    """Return the fileset as it is stored: files by name, so that the folder can be moved and copied."""
    return {
        name: {"files": {f"{name}.root": "Events"}, "metadata": values} for name, values in metadata.items()
    }


def _placed(folder: Path, trees: dict[str, str]) -> dict[str, str]:
    """Give files of a folder their absolute paths."""
    return {str((folder / file).resolve()): tree for file, tree in trees.items()}


def _json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text())


def _hash(path: Path) -> str:
    """Return the hash of a file, nothing if it is missing: a damaged one may be as long as it was."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _text(content: Any) -> str:
    """Return JSON that a person can read."""
    return json.dumps(content, indent=2) + "\n"


def _replace(path: Path, text: str) -> None:
    """Write a small file in one step: readers see the old or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
