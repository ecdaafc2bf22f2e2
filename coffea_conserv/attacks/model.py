"""Models: how one travels to workers, is loaded once per process, and is checked before anything starts."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from torch import Tensor, nn

from coffea_conserv.errors import ModelError

__all__ = ("Handle", "Model", "Network", "check_network", "make_handles", "one_thread")

logger = logging.getLogger(__name__)

_cache: dict[tuple[str, str], Callable[[Tensor], Tensor]] = {}
_lock = threading.Lock()


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
        """Make the module and load its parameters."""
        module = self.factory()
        state = self.state
        if isinstance(state, str | Path):
            state = torch.load(state, map_location="cpu", weights_only=True)
        module.load_state_dict(state)
        return module


@dataclass(frozen=True)
class Handle:
    """A model as bytes, with their hash: what a processor carries instead of the model.

    Parameters
    ----------
    kind
        ``export`` (torch.export) or ``module`` (pickled ``nn.Module``).
    payload
        The bytes.
    digest
        SHA-256 of the bytes.
    """

    kind: str
    payload: bytes
    digest: str

    def load(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Load the model on a device, once per process."""
        key = (self.digest, str(device))
        with _lock:
            if key not in _cache:
                _cache[key] = _load(self, device)
            return _cache[key]


def _load(handle: Handle, device: torch.device) -> Callable[[Tensor], Tensor]:
    stream = io.BytesIO(handle.payload)
    if handle.kind == "export":
        module = torch.export.load(stream).module()
    else:
        module = cloudpickle.load(stream).eval()
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
        model = model.build()
    if isinstance(model, str | Path):
        kind, payload = "export", _read(Path(model))
    elif isinstance(model, torch.export.ExportedProgram):
        stream = io.BytesIO()
        torch.export.save(model, stream)
        kind, payload = "export", stream.getvalue()
    elif isinstance(model, nn.Module):
        kind, payload = "module", _pickled(model)
    else:
        msg = (
            f"model={model!r} is no model: give the file of torch.export, an nn.Module, "
            "Model(factory, state), or a list of these, one per fold"
        )
        raise ModelError(msg)
    return Handle(kind, payload, hashlib.sha256(payload).hexdigest())


def _pickled(model: nn.Module) -> bytes:
    """Pickle a copy on the CPU in evaluation mode; the user's module stays as it is."""
    copy = cloudpickle.loads(cloudpickle.dumps(model)).cpu().eval()
    payload: bytes = cloudpickle.dumps(copy)
    return payload


def _read(path: Path) -> bytes:
    if not path.is_file():
        msg = (
            f"model file {path} does not exist; write it with torch.export.save(torch.export.export(…), path)"
        )
        raise ModelError(msg)
    payload = path.read_bytes()
    try:
        torch.export.load(io.BytesIO(payload))
    except (RuntimeError, ValueError, KeyError, EOFError) as error:
        msg = (
            f"model file {path} cannot be read by torch.export.load ({error}); save it with torch.export.save"
        )
        raise ModelError(msg) from None
    return payload


@dataclass(frozen=True)
class Network:
    """Model, or models by fold, evaluated in mini-batches.

    Parameters
    ----------
    models
        One model, or one per fold.
    fold
        Fold of each event, shape (events,); ``None`` with one model.
    batch
        Events per evaluation.
    """

    models: tuple[Callable[[Tensor], Tensor], ...]
    fold: Tensor | None
    batch: int = 16384

    def __call__(self, x: Tensor, event: Tensor) -> Tensor:
        """Give logits of candidates, shape (candidates,).

        Parameters
        ----------
        x
            Features, shape (candidates, features).
        event
            Index of the event of each candidate, which routes it to its fold's model.
        """
        if not len(x):
            return x.new_zeros(0)
        with torch.set_grad_enabled(x.requires_grad):
            if self.fold is None or len(self.models) == 1:
                return self._evaluate(0, x)
            fold = self.fold[event]
            logits = x.new_zeros(len(x))
            for k in range(len(self.models)):
                of = (fold == k).nonzero()[:, 0]
                if len(of):
                    logits = logits.index_copy(0, of, self._evaluate(k, x[of]))
            return logits

    def _evaluate(self, k: int, x: Tensor) -> Tensor:
        parts = [_logit(self.models[k], part) for part in torch.split(x, self.batch)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _logit(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return model(x).reshape(-1).to(x.dtype)


def check_network(models: Sequence[Callable[[Tensor], Tensor]], x: Tensor, names: Sequence[str]) -> None:
    """Check shape, determinism, finiteness and gradient of each model on a few events.

    Parameters
    ----------
    models
        The models, as loaded.
    x
        A few events, shape (events, features) with at least two events.
    names
        Names of the features.

    Raises
    ------
    ModelError
        Naming what is wrong and the remedy.
    """
    for k, model in enumerate(models):
        where = f"model of fold {k}" if len(models) > 1 else "model"
        logits = _first_call(model, x, where, names)
        with torch.no_grad():
            again = model(x)
        if not torch.equal(torch.nan_to_num(logits), torch.nan_to_num(again)):
            msg = f"{where} gives two answers for the same events in evaluation mode; make it deterministic"
            raise ModelError(msg)
        if not bool(torch.isfinite(logits).all()):
            count = int((~torch.isfinite(logits)).sum())
            msg = f"{where} gives NaN or infinity for {count} of {len(x)} events; check its inputs"
            raise ModelError(msg)
        _check_gradient(model, x, where)


def _first_call(model: Callable[[Tensor], Tensor], x: Tensor, where: str, names: Sequence[str]) -> Tensor:
    try:
        with torch.no_grad():
            logits = model(x)
    except (
        RuntimeError,
        TypeError,
        ValueError,
        IndexError,
        AssertionError,
        torch._dynamo.exc.Unsupported,
    ) as error:
        msg = (
            f"{where} cannot take {len(names)} features ({', '.join(names)}) as a float32 matrix "
            f"(events, features) of {tuple(x.shape)}: {error}"
        )
        raise ModelError(msg) from None
    if not isinstance(logits, Tensor) or tuple(logits.shape) not in ((len(x),), (len(x), 1)):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        msg = f"{where} must give one logit per event, shape ({len(x)},) or ({len(x)}, 1), got {shape}"
        raise ModelError(msg)
    return logits


def _check_gradient(model: Callable[[Tensor], Tensor], x: Tensor, where: str) -> None:
    leaf = x.clone().requires_grad_(True)
    with torch.enable_grad():
        total = model(leaf).sum()
        gradient = torch.autograd.grad(total, leaf, allow_unused=True)[0] if total.requires_grad else None
    if gradient is None or not bool(torch.isfinite(gradient).any()):
        msg = f"{where} has no gradient with respect to its inputs; do not detach or round them inside"
        raise ModelError(msg)


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread while it lasts: small batches are fastest so, and sums have one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
