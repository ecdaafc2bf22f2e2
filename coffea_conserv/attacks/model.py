"""Models: how one travels to workers, and is loaded there once per process."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import re
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from torch import Tensor, nn

from coffea_conserv.attacks.ambient import isolated
from coffea_conserv.attacks.callback import Callback, Called, hint
from coffea_conserv.attacks.outputs import Classes, Reader
from coffea_conserv.errors import FAILURES, ModelError
from coffea_conserv.fingerprint import fingerprint

__all__ = ("Handle", "Model", "load_models", "make_handles")

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
        ``export`` (torch.export), ``script`` (TorchScript), ``module`` (pickled ``nn.Module``), ``factory``
        (factory and parameters) or ``callback`` (pickled function of NumPy).
    payload
        The bytes.
    digest
        SHA-256 of the bytes, under which a process keeps the model.
    content
        Hash of parameters, attributes and code, which stays the same where the bytes do not: a pickled class
        of a notebook is another one in every session.
    dtype
        Precision that it wants its inputs in.
    """

    kind: str
    payload: bytes = field(repr=False)
    digest: str
    content: str
    dtype: torch.dtype = torch.float32

    @isolated()
    def load(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Load the model on a device, once per process."""
        key = (self.digest, str(device))
        with _lock:
            if key not in _cache:
                _cache[key] = _load(self, device)
            return _cache[key]


def load_models(handles: Sequence[Handle], output: str | Classes, device: torch.device) -> tuple[Reader, ...]:
    """Load models on a device, each as a function that gives one logit per event.

    Parameters
    ----------
    handles
        One model, or one per fold.
    output
        What they give.
    device
        Where to.
    """
    several = len(handles) > 1
    return tuple(
        Reader(
            handle.load(device),
            output,
            handle.dtype,
            handle.kind != "callback",
            f"model of fold {k}" if several else "model",
        )
        for k, handle in enumerate(handles)
    )


def _load(handle: Handle, device: torch.device) -> Callable[[Tensor], Tensor]:
    module: Any
    if handle.kind == "callback":
        return Called(_undumped(handle.payload))
    if handle.kind == "export":
        module = torch.export.load(io.BytesIO(handle.payload)).module()
    elif handle.kind == "script":
        module = _unscripted(handle.payload).eval()
    else:
        made = _undumped(handle.payload)
        module = (Model(*made).build() if handle.kind == "factory" else made).eval()
    module = module.to(device)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    logger.debug("loaded model %s on %s", handle.digest[:12], device)
    loaded: Callable[[Tensor], Tensor] = module
    return loaded


@isolated()
def make_handles(model: Any) -> tuple[Handle, ...]:
    """Make handles of a model or of a list of models, one per fold.

    Parameters
    ----------
    model
        File of torch.export or TorchScript, ``nn.Module`` (compiled and scripted ones too), exported
        program, :class:`Model`, :class:`Callback`, or a list of such.

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
    for kind, make in _KINDS:
        if isinstance(model, kind):
            return make(model)
    msg = (
        f"model={model!r:.200} is no model: give the file of torch.export, an nn.Module, "
        f"Model(factory, state), Callback(function of a matrix){hint(model)}, or a list of these, "
        "one per fold"
    )
    raise ModelError(msg)


def _from_factory(model: Model) -> Handle:
    module = model.build().eval()
    return _handle_of("factory", (model.factory, module.state_dict()), module)


def _from_program(program: torch.export.ExportedProgram) -> Handle:
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return _exported(stream.getvalue(), program)


def _exported(payload: bytes, program: torch.export.ExportedProgram) -> Handle:
    digest = hashlib.sha256(payload).hexdigest()
    inputs = set(program.graph_signature.user_inputs)
    values = (node.meta.get("val") for node in program.graph.nodes if node.name in inputs)
    kinds = [value.dtype for value in values if isinstance(value, Tensor) and value.is_floating_point()]
    return Handle("export", payload, digest, digest, kinds[0] if kinds else torch.float32)


def _scripted(payload: bytes) -> Handle:
    digest = hashlib.sha256(payload).hexdigest()
    return Handle("script", payload, digest, digest, _precision(_unscripted(payload)))


def _unscripted(payload: bytes) -> Any:
    with _without_advice():
        return torch.jit.load(io.BytesIO(payload), map_location="cpu")  # type: ignore[no-untyped-call]


@contextmanager
def _without_advice() -> Iterator[None]:
    """TorchScript works, but torch advises against it whenever it is read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        yield


def _uncompiled(model: nn.Module) -> nn.Module:
    """Module that ``torch.compile`` was given: compiled code is made for one machine."""
    while isinstance(model, torch._dynamo.OptimizedModule):
        model = model._orig_mod
    return model


def _precision(module: nn.Module) -> torch.dtype:
    """Precision of the parameters, which inputs need too; single where there are none, or several."""
    kinds = {parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()}
    return kinds.pop() if len(kinds) == 1 else torch.float32


def _pickled(model: nn.Module) -> Handle:
    """Pickle a copy on the CPU in evaluation mode; the user's module stays as it is."""
    try:
        copy = _undumped(_dumped(model)).eval()
    except _UNREADABLE as error:
        raise _unsendable(model, error) from _traceable(error)
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
    return _handle_of("module", copy, copy)


def _handle_of(kind: str, content: Any, counted: Any) -> Handle:
    """Handle of something that is pickled; ``counted`` is what the hash is made of."""
    try:
        payload = _dumped(content)
    except _UNREADABLE as error:
        raise _unsendable(content, error) from _traceable(error)
    dtype = _precision(counted) if isinstance(counted, nn.Module) else torch.float32
    return Handle(kind, payload, hashlib.sha256(payload).hexdigest(), fingerprint(counted), dtype)


def _unsendable(what: Any, error: Exception) -> ModelError:
    name = "the factory of Model" if isinstance(what, tuple) else type(what).__name__
    remedy = "Model(factory, state_dict) with an importable factory, or a file of torch.export"
    if not isinstance(what, nn.Module | tuple):
        name, remedy = f"the {name} of Callback", "a function that makes or opens what it needs"
    return ModelError(f"{name} cannot be sent to workers: {type(error).__name__}: {error}; give {remedy}")


def _dumped(content: Any) -> bytes:
    """Pickle with torch.save: a plain pickle of tensors holds addresses of memory and is never the same."""
    stream = io.BytesIO()
    torch.save(content, stream, pickle_module=cloudpickle)
    return stream.getvalue()


def _undumped(payload: bytes) -> Any:
    """Read what :func:`_dumped` has written."""
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=False)


def _from_file(path: Path) -> Handle:
    """Read a file of torch.export or TorchScript."""
    remedy = "write it with torch.export.save(torch.export.export(…), path)"
    payload = _bytes(path, remedy)
    if not zipfile.is_zipfile(io.BytesIO(payload)):  # torch would log a traceback
        msg = f"model file {path} is damaged or not one of torch.export; {remedy}"
        raise ModelError(msg)
    try:
        if _is_script(payload):
            return _scripted(payload)
        return _exported(payload, torch.export.load(io.BytesIO(payload)))
    except _UNREADABLE as error:
        msg = (
            f"model file {path} cannot be read by torch.export.load ({error}); {remedy}, or give "
            "Model(factory, path) if it holds parameters"
        )
        raise ModelError(msg) from None


def _is_script(payload: bytes) -> bool:
    """Whether a zip archive has the code of TorchScript."""
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        return any(re.match(r"[^/]+/(constants\.pkl|code/.*)$", name) for name in archive.namelist())


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


_KINDS: tuple[tuple[Any, Callable[[Any], Handle]], ...] = (
    (Model, _from_factory),
    (Callback, lambda model: _handle_of("callback", model.function, model.function)),
    ((str, Path), lambda model: _from_file(Path(model))),
    (torch.export.ExportedProgram, _from_program),
    # torch.jit.save does the same with a warning
    (torch.jit.ScriptModule, lambda model: _scripted(model.save_to_buffer())),
    (nn.Module, lambda model: _pickled(_uncompiled(model))),
)
"""What a model can be, the special before the general."""
