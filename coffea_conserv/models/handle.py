"""Models as bytes or as files: what a processor carries, and what a worker process loads of it, once."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from torch import Tensor

from coffea_conserv.errors import FAILURES, ConservError, ModelError
from coffea_conserv.files import replacing
from coffea_conserv.models.callback import Called
from coffea_conserv.models.device import OUT_OF_MEMORY, isolated
from coffea_conserv.models.facts import Facts
from coffea_conserv.models.model import Model, traceable

__all__ = ("Handle", "dumped", "put_aside", "undumped", "unscripted")

logger = logging.getLogger(__name__)

_cache: dict[tuple[str, str], Callable[[Tensor], Tensor]] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Handle:
    """A model as bytes, with their hash: what a processor carries instead of the model.

    Parameters
    ----------
    kind
        ``export`` (torch.export), ``script`` (TorchScript), ``module`` (pickled ``nn.Module``), ``factory``
        (factory and parameters) or ``callback`` (pickled function of NumPy).
    payload
        The bytes.
    digest
        SHA-256 of the bytes, under which a process keeps the model.
    content
        Hash of parameters, attributes and code, which stays the same where the bytes do not: a pickled class
        of a notebook is another one in every session.
    facts
        What the model says of itself.
    file
        Where the bytes are if they do not travel: ``payload`` is empty then.
    """

    kind: str
    payload: bytes = field(repr=False)
    digest: str
    content: str
    facts: Facts = field(default_factory=Facts)
    file: str | None = None

    @isolated()
    def load(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Load the model on a device, once per process.

        Raises
        ------
        ModelError
            If it cannot be loaded here, as where a worker lacks what it is made of.
        """
        key = (self.digest, str(device))
        with _lock:
            if key not in _cache:
                _cache[key] = _loaded(self, device)
            return _cache[key]

    def content_bytes(self) -> bytes:
        """The bytes of the model, read from the file where they did not travel.

        Raises
        ------
        ModelError
            If the file is not there, or holds something else. It is no ``OSError``, for which coffea may drop
            the chunk.
        """
        if self.file is None:
            return self.payload
        remedy = "give Shared a folder that the client and all workers see, or leave Shared out"
        try:
            payload = Path(self.file).read_bytes()
        except OSError as error:
            msg = f"the shared model {self.file} cannot be read here ({error.strerror or error}); {remedy}"
            raise ModelError(msg) from None
        if hashlib.sha256(payload).hexdigest() != self.digest:
            msg = (
                f"the shared model {self.file} is damaged or was replaced: its content has another hash than "
                "its name; make the attack anew on the client, which writes the file again"
            )
            raise ModelError(msg)
        return payload


def put_aside(handle: Handle, folder: Path) -> Handle:
    """Write the bytes of a model to a file in a folder; return a handle that carries its place instead.

    The file is called after its hash. One that is there already and has that hash is not written again;
    a damaged one is replaced, so that nobody ever sees a part of it.

    Raises
    ------
    ModelError
        If it cannot be written.
    """
    path = folder.absolute() / f"{handle.digest}.model"
    moved = replace(handle, payload=b"", file=str(path))
    try:
        if _holds(path, handle.digest):
            return moved
        with replacing(path) as part:
            part.write_bytes(handle.payload)
    except OSError as error:
        msg = f"the shared model cannot be written to {path} ({error.strerror or error}); give another folder"
        raise ModelError(msg) from None
    return moved


def _holds(path: Path, digest: str) -> bool:
    """Whether a file is there, can be read, and has some hash: that of the same length may be damaged."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except OSError:
        return False


def _loaded(handle: Handle, device: torch.device) -> Callable[[Tensor], Tensor]:
    try:
        return _load(handle, device)
    except (ConservError, OUT_OF_MEMORY):
        raise
    except FAILURES as error:
        msg = (
            f"the model ({handle.kind}, {handle.digest[:12]}) cannot be loaded here on {device}: "
            f"{type(error).__name__}: {error}; workers need the packages and modules that it is made of, in "
            "versions that belong to those of the client"
        )
        raise ModelError(msg) from traceable(error)


def _load(handle: Handle, device: torch.device) -> Callable[[Tensor], Tensor]:
    module: Any
    payload = handle.content_bytes()
    if handle.kind == "callback":
        return Called(undumped(payload))
    if handle.kind == "export":
        module = torch.export.load(io.BytesIO(payload)).module()
    elif handle.kind == "script":
        module = unscripted(payload).eval()
    else:
        made = undumped(payload)
        module = (Model(*made).build() if handle.kind == "factory" else made).eval()
    module = module.to(device)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    logger.debug("loaded model %s on %s", handle.digest[:12], device)
    loaded: Callable[[Tensor], Tensor] = module
    return loaded


def unscripted(payload: bytes) -> Any:
    """Read TorchScript."""
    with _without_advice():
        return torch.jit.load(io.BytesIO(payload), map_location="cpu")  # type: ignore[no-untyped-call]


@contextmanager
def _without_advice() -> Iterator[None]:
    """TorchScript works, but torch advises against it whenever it is read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        yield


def dumped(content: Any) -> bytes:
    """Pickle with torch.save: a plain pickle of tensors holds addresses of memory and is never the same."""
    stream = io.BytesIO()
    torch.save(content, stream, pickle_module=cloudpickle)
    return stream.getvalue()


def undumped(payload: bytes) -> Any:
    """Read what :func:`dumped` has written."""
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=False)
