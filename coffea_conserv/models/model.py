"""A model given as a factory and its parameters, and files of models."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coffea_conserv.errors import FAILURES, ModelError
from coffea_conserv.models.archive import read_tensors

__all__ = ("UNREADABLE", "Model", "Pickled", "file_bytes", "traceable")

UNREADABLE = FAILURES
"""What reading or writing a pickle or a file of torch raises: anything."""


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
            raise ModelError(msg) from traceable(error)
        if not isinstance(module, nn.Module):
            msg = f"Model: the factory must make an nn.Module without arguments, got {module!r}"
            raise ModelError(msg)
        return module


def _read_state(path: Path) -> Any:
    """Read a file of parameters."""
    remedy = "write it with torch.save(module.state_dict(), path)"
    payload = file_bytes(path, remedy)
    try:
        return read_tensors(payload)
    except ModelError as error:
        msg = (
            f"model file {path} holds no parameters that torch.load(weights_only=True) can read ({error}); "
            f"{remedy}"
        )
        raise ModelError(msg) from None


@dataclass(frozen=True)
class Pickled:
    """The file of a whole pickled module, ``torch.save(module, path)``.

    To read it runs whatever code is in it: give only files of people whom you trust. A file of torch.export
    or ``Model(factory, path)`` needs no such trust.

    Parameters
    ----------
    path
        The file.
    """

    path: str | Path

    def build(self) -> nn.Module:
        """Read the module.

        Raises
        ------
        ModelError
            If there is none in the file, or its class cannot be imported.
        """
        remedy = "write it with torch.save(module, path)"
        stream = io.BytesIO(file_bytes(Path(self.path), remedy))
        try:
            found: Any = torch.load(stream, map_location="cpu", weights_only=False)
        except UNREADABLE as error:
            msg = f"model file {self.path} holds no module that can be read ({error}); {remedy}"
            raise ModelError(msg) from traceable(error)
        if not isinstance(found, nn.Module):
            kind = type(found).__name__
            msg = (
                f"model file {self.path} holds a {kind}, no module; give Model(factory, path) for parameters"
            )
            raise ModelError(msg)
        return found


def file_bytes(path: Path, remedy: str) -> bytes:
    """Read a file of a model, or raise a ModelError with the remedy."""
    if not path.is_file():
        msg = f"model file {path} does not exist; {remedy}"
        raise ModelError(msg)
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"model file {path} cannot be read: {error}"
        raise ModelError(msg) from None


def traceable(error: Exception) -> Exception | None:
    """Cause for a traceback, unless coffea would take it for an unreadable file and skip the chunk."""
    return None if isinstance(error, OSError) else error
