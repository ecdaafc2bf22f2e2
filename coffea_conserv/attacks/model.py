"""Models: how one travels to workers, and is loaded there once per process."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from torch import Tensor, nn

from coffea_conserv.errors import FAILURES, ModelError
from coffea_conserv.fingerprint import fingerprint

__all__ = ("Handle", "Model", "make_handles")

logger = logging.getLogger(__name__)

_cache: dict[tuple[str, str], Callable[[Tensor], Tensor]] = {}
_lock = threading.Lock()

_UNREADABLE = (*FAILURES, EOFError, pickle.PickleError, zipfile.BadZipFile)
"""What reading or writing a pickle or a file of torch raises."""


@dataclass(frozen=True)
class Model:
    """A model given as a factory and its parameters.

    Parameters
    ----------
    factory
        Makes the module, without arguments; importable on the workers.
    state
        ``state_dict``, or the file of one, which is read with ``weights_only=True``.
    """

    factory: Callable[[], nn.Module]
    state: Any

    def build(self) -> nn.Module:
        """Make the module and load its parameters; the global random state stays as it is.

        Raises
        ------
        ModelError
            If it cannot be made, or if the parameters cannot be read or do not fit.
        """
        with torch.random.fork_rng(devices=[]):
            module = self._made()
        state = self.state
        if isinstance(state, str | Path):
            state = _read_state(Path(state))
        try:
            module.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            msg = f"Model: these parameters do not fit the module that the factory makes: {error}"
            raise ModelError(msg) from None
        return module

    def _made(self) -> nn.Module:
        module: Any
        try:
            module = self.factory()
        except FAILURES as error:
            msg = f"Model: the factory {self.factory!r} fails: {type(error).__name__}: {error}"
            raise ModelError(msg) from _traceable(error)
        if not isinstance(module, nn.Module):
            msg = f"Model: the factory must make an nn.Module without arguments, got {module!r}"
            raise ModelError(msg)
        return module


@dataclass(frozen=True)
class Handle:
    """A model as bytes, with their hash: what a processor carries instead of the model.

    Parameters
    ----------
    kind
        ``export`` (torch.export), ``module`` (pickled ``nn.Module``) or ``factory`` (factory and parameters).
    payload
        The bytes.
    digest
        SHA-256 of the bytes, under which a process keeps the model.
    content
        Hash of parameters, attributes and code, which stays the same where the bytes do not: a pickled class
        of a notebook is another one in every session.
    """

    kind: str
    payload: bytes = field(repr=False)
    digest: str
    content: str

    def load(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Load the model on a device, once per process."""
        key = (self.digest, str(device))
        with _lock:
            if key not in _cache:
                _cache[key] = _load(self, device)
            return _cache[key]


def _load(handle: Handle, device: torch.device) -> Callable[[Tensor], Tensor]:
    module: Any
    if handle.kind == "export":
        module = torch.export.load(io.BytesIO(handle.payload)).module()
    else:
        made = _undumped(handle.payload)
        module = (Model(*made).build() if handle.kind == "factory" else made).eval()
    module = module.to(device)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    logger.debug("loaded model %s on %s", handle.digest[:12], device)
    loaded: Callable[[Tensor], Tensor] = module
    return loaded


def make_handles(model: Any) -> tuple[Handle, ...]:
    """Make handles of a model or of a list of models, one per fold.

    Parameters
    ----------
    model
        File of torch.export, ``nn.Module``, exported program, :class:`Model`, or a list of such.

    Raises
    ------
    ModelError
        If the file does not exist or cannot be loaded, or if it is something else.
    """
    models = list(model) if isinstance(model, list | tuple) else [model]
    if not models:
        msg = "model=[] is empty; give one model, or one per fold"
        raise ModelError(msg)
    return tuple(_handle(entry) for entry in models)


def _handle(model: Any) -> Handle:
    if isinstance(model, Handle):
        return model
    if isinstance(model, Model):
        module = model.build().eval()
        return _handle_of("factory", (model.factory, module.state_dict()), module)
    if isinstance(model, str | Path):
        return _exported(_read(Path(model)))
    if isinstance(model, torch.export.ExportedProgram):
        stream = io.BytesIO()
        torch.export.save(model, stream)
        return _exported(stream.getvalue())
    if isinstance(model, nn.Module):
        return _pickled(model)
    msg = (
        f"model={model!r} is no model: give the file of torch.export, an nn.Module, "
        "Model(factory, state), or a list of these, one per fold"
    )
    raise ModelError(msg)


def _exported(payload: bytes) -> Handle:
    digest = hashlib.sha256(payload).hexdigest()
    return Handle("export", payload, digest, digest)


def _pickled(model: nn.Module) -> Handle:
    """Pickle a copy on the CPU in evaluation mode; the user's module stays as it is."""
    try:
        copy = _undumped(_dumped(model)).eval()
    except _UNREADABLE as error:
        raise _unsendable(model, error) from _traceable(error)
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
    return _handle_of("module", copy, copy)


def _handle_of(kind: str, content: Any, module: nn.Module) -> Handle:
    try:
        payload = _dumped(content)
    except _UNREADABLE as error:
        raise _unsendable(content, error) from _traceable(error)
    return Handle(kind, payload, hashlib.sha256(payload).hexdigest(), fingerprint(module))


def _unsendable(what: Any, error: Exception) -> ModelError:
    name = "the factory of Model" if isinstance(what, tuple) else type(what).__name__
    return ModelError(
        f"{name} cannot be sent to workers: {type(error).__name__}: {error}; give Model(factory, state_dict) "
        "with an importable factory, or a file of torch.export"
    )


def _dumped(content: Any) -> bytes:
    """Pickle with torch.save: a plain pickle of tensors holds addresses of memory and is never the same."""
    stream = io.BytesIO()
    torch.save(content, stream, pickle_module=cloudpickle)
    return stream.getvalue()


def _undumped(payload: bytes) -> Any:
    """Read what :func:`_dumped` has written."""
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=False)


def _read(path: Path) -> bytes:
    """Read a file of torch.export, as bytes."""
    remedy = "write it with torch.export.save(torch.export.export(…), path)"
    payload = _bytes(path, remedy)
    if not zipfile.is_zipfile(io.BytesIO(payload)):  # torch would log a traceback
        msg = f"model file {path} is damaged or not one of torch.export; {remedy}"
        raise ModelError(msg)
    try:
        torch.export.load(io.BytesIO(payload))
    except _UNREADABLE as error:
        msg = (
            f"model file {path} cannot be read by torch.export.load ({error}); {remedy}, or give "
            "Model(factory, path) if it holds parameters"
        )
        raise ModelError(msg) from None
    return payload


def _read_state(path: Path) -> Any:
    """Read a file of parameters."""
    remedy = "write it with torch.save(module.state_dict(), path)"
    stream = io.BytesIO(_bytes(path, remedy))
    msg = f"model file {path} holds no parameters that torch.load(weights_only=True) can read; {remedy}"
    if not zipfile.is_zipfile(stream):  # torch would warn of what it meets in a file of another program
        raise ModelError(msg)
    stream.seek(0)
    try:
        return torch.load(stream, map_location="cpu", weights_only=True)
    except _UNREADABLE:
        raise ModelError(msg) from None


def _bytes(path: Path, remedy: str) -> bytes:
    if not path.is_file():
        msg = f"model file {path} does not exist; {remedy}"
        raise ModelError(msg)
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"model file {path} cannot be read: {error}"
        raise ModelError(msg) from None


def _traceable(error: Exception) -> Exception | None:
    """Cause for a traceback, unless coffea would take it for an unreadable file and skip the chunk."""
    return None if isinstance(error, OSError) else error
