"""Archives of torch, made anew of those members that cannot run code, and read as tensors only.

Layouts: ``torch/export/pt2_archive/_package.py`` and, of torch before 2.8, ``torch/export/__init__.py``.
``torch.export.load`` unpickles example inputs, and whatever says that it is a pickle, without restriction.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import torch

from coffea_conserv.errors import FAILURES, ModelError
from coffea_conserv.models.vetting import check_script, vetted

__all__ = ("clean_program", "clean_script", "is_archive", "is_script", "read_tensors")

_OLD = "serialized_exported_program.json"
"""Graph of a program in files of torch before 2.8."""

_PLAIN = ("archive_format", "archive_version", "byteorder", "version", ".data/version")
"""Members that say what an archive is."""


def is_archive(payload: bytes) -> bool:
    """Whether this is an archive from its first byte on: torch looks there, and zipfile at the end."""
    return payload.startswith(b"PK\x03\x04") and zipfile.is_zipfile(io.BytesIO(payload))


def is_script(payload: bytes) -> bool:
    """Whether an archive has the code of TorchScript."""
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        return any(re.match(r"[^/]+/(constants\.pkl|code/.*)$", name) for name in archive.namelist())


def read_tensors(payload: bytes) -> Any:
    """Read what torch.save has written, if there are tensors and plain values in it and nothing else.

    Raises
    ------
    ModelError
        If it is something else.
    """
    try:
        # torch before 2.6 reads other containers, and TorchScript, whatever weights_only says.
        if is_archive(payload) and not is_script(payload):
            return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except FAILURES as error:
        msg = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise ModelError(msg) from None
    msg = "it is no archive of torch.save"
    raise ModelError(msg)


def clean_program(payload: bytes) -> bytes:
    """Make the archive of an exported program anew, so that reading it runs no code of its author.

    Parameters
    ----------
    payload
        What ``torch.export.save`` has written.

    Returns
    -------
    bytes
        The same graph and the same tensors, without example inputs, traces and other files. The same content
        gives the same bytes.

    Raises
    ------
    ModelError
        If the rest would run code.
    ValueError
        If there is no program in it.
    """
    members = _members(payload)
    if _OLD in members:
        return _old_program(members)
    members = _inside(members)
    kept = {name: members[name] for name in _PLAIN if name in members}
    compiled = next((name for name in members if name.startswith("data/aotinductor")), None)
    if compiled is not None:
        msg = f"it holds compiled code ({compiled})"
        raise ModelError(msg)
    if "models/model.json" not in members:
        msg = "it holds no exported program"
        raise ValueError(msg)
    kept["models/model.json"] = _graph(members["models/model.json"])
    kept["data/sample_inputs/model.pt"] = b""
    for kind in ("weights", "constants"):
        kept |= _tensors(members, f"data/{kind}/", f"model_{kind}_config.json")
    return _archive({f"model/{name}": content for name, content in kept.items()})


def _old_program(members: Mapping[str, bytes]) -> bytes:
    kept = {"version": members.get("version", b""), _OLD: _graph(members[_OLD])}
    for name in ("serialized_state_dict", "serialized_constants", "serialized_example_inputs"):
        kept[name + ".pt"] = b""
    for name in ("serialized_state_dict", "serialized_constants"):
        for ending in (".json", ".pt"):  # both are pickles
            if members.get(name + ending):
                kept[name + ".pt"] = _saved_again(name + ending, members[name + ending])
    return _archive(kept)


def _tensors(members: Mapping[str, bytes], folder: str, config: str) -> dict[str, bytes]:
    """Tensors of a program: bytes stay, pickles are read as tensors and written again."""
    kept, whole = dict[str, bytes](), f"{folder}model.pt"
    if whole in members:
        kept[whole] = _saved_again(whole, members[whole])
    if folder + config not in members:
        return kept
    described = json.loads(members[folder + config])
    for entry in described["config"].values():
        name = entry["path_name"]
        if not re.fullmatch(r"(weight|tensor)_\d+", name):
            msg = f"{folder}{name} is no tensor"
            raise ModelError(msg)
        member = folder + name
        if entry.get("use_pickle"):
            kept[member] = _saved_again(member, members[member])
        else:
            kept.setdefault(member, members[member])
    kept[folder + config] = _json(vetted(described))
    return kept


def clean_script(payload: bytes) -> bytes:
    """Make the archive of TorchScript anew, if its code does not read or write files.

    Its pickles are read by an interpreter of torch that has tensors and classes of the archive itself.

    Raises
    ------
    ModelError
        If it does, or is no archive of TorchScript.
    """
    if not is_archive(payload) or not is_script(payload):
        msg = "it is no archive of TorchScript"
        raise ModelError(msg)
    members = _members(payload)
    for name, content in members.items():
        if name.endswith(".py"):
            check_script(content.decode())
    return _archive(members)


def _members(payload: bytes) -> dict[str, bytes]:
    """Content of every file in an archive by its name."""
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
        if len({info.filename.lower() for info in files}) < len(files):  # torch may read another one
            msg = "it holds two files of one name"
            raise ModelError(msg)
        return {info.filename: archive.read(info) for info in files}


def _inside(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """Members of the folder that is the archive, by their names within."""
    root = next(iter(members), "").split("/")[0] + "/"
    return {name.removeprefix(root): part for name, part in members.items() if name.startswith(root)}


def _graph(content: bytes) -> bytes:
    return _json(vetted(json.loads(content)))


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def _saved_again(name: str, content: bytes) -> bytes:
    """Pickled tensors, read and written: what is read later is what has been read here."""
    try:
        found = read_tensors(content)
    except ModelError as error:
        msg = f"{name} holds more than tensors ({error})"
        raise ModelError(msg) from None
    stream = io.BytesIO()
    torch.save(found, stream)
    return stream.getvalue()


def _archive(members: Mapping[str, bytes]) -> bytes:
    """Archive of some members, the same bytes each time."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.create_system = 3  # whatever system this is
            archive.writestr(info, content)
    return stream.getvalue()
