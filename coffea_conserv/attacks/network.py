"""Loaded models: evaluated in mini-batches, on one thread, and checked before anything starts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from coffea_conserv.attacks.outputs import Classes, Reader, saturated
from coffea_conserv.attacks.place import BUFFER, OUT_OF_MEMORY
from coffea_conserv.errors import ModelError

logger = logging.getLogger(__name__)

__all__ = ("Network", "check_network", "one_thread")

_REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, AssertionError, torch._dynamo.exc.Unsupported)
"""What modules and exported programs raise for inputs that they cannot take."""


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
    batch: int = BUFFER["cpu"]

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

    @property
    def gradient(self) -> bool:
        """Whether all models can have a gradient."""
        return all(getattr(model, "gradient", True) for model in self.models)

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
        The models, as :func:`coffea_conserv.attacks.model.load_models` gives them, or functions that give
        logits.
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
        reader = model if isinstance(model, Reader) else Reader(model, name=where)
        values = _first_call(reader, x, names)
        logits = reader.logit(values, len(x))
        with torch.no_grad():
            again = reader(x)
        if not torch.equal(torch.nan_to_num(logits).to(x.dtype), torch.nan_to_num(again)):
            msg = f"{where} gives two answers for the same events in evaluation mode; make it deterministic"
            raise ModelError(msg)
        _check_values(reader, values, logits)
        _check_alone(reader, x, again)
        if reader.gradient:
            _check_gradient(reader, x, where)


def _first_call(reader: Reader, x: Tensor, names: Sequence[str]) -> Any:
    try:
        with torch.no_grad():
            return reader.raw(x)
    except _REFUSALS as error:
        if isinstance(error, ModelError | OUT_OF_MEMORY):  # a function of NumPy has said what is wrong
            raise
        kind = str(reader.dtype).removeprefix("torch.")
        msg = (
            f"{reader.name} cannot take {len(names)} features ({', '.join(names)}) as a {kind} matrix "
            f"(events, features) of {tuple(x.shape)}: {error}"
        )
        raise ModelError(msg) from None


def _check_values(reader: Reader, values: Tensor, logits: Tensor) -> None:
    """Check that values are finite numbers of the kind that was said."""
    where, output, count = reader.name, reader.output, len(logits)
    kind = output.output if isinstance(output, Classes) else output
    if not bool(torch.isfinite(values).all()) and not bool(torch.isfinite(logits).all()):
        bad = int((~torch.isfinite(logits)).sum())
        msg = f"{where} gives NaN or infinity for {bad} of {count} events; check its inputs"
        raise ModelError(msg)
    if kind == "probability" and not bool(torch.isfinite(logits).all()):
        low, high = float(values.min()), float(values.max())
        msg = (
            f"{where} gives {low:g} … {high:g}, which are no probabilities; if these are logits, say "
            "output='logit', or the same in Classes"
        )
        raise ModelError(msg)
    if kind == "probability" and (edge := saturated(values)):
        logger.warning(
            "%s gives exactly 0 or 1 for %d of %d events, which cannot be told apart; logits could",
            *(where, edge, count),
        )
    if kind == "logit" and bool(((values >= 0) & (values <= 1)).all()):
        logger.warning(
            "%s gives only 0 … 1; a logit is wanted, without the sigmoid at the end, or output='probability'",
            where,
        )


def _check_alone(reader: Reader, x: Tensor, logits: Tensor) -> None:
    """Check that the first event has its logit without the others too, as batches have any size."""
    remedy = "export it in evaluation mode and with a dynamic number of events"
    if not reader.gradient:
        remedy = "compute event by event"
    try:
        with torch.no_grad():
            alone = reader(x[:1])
    except OUT_OF_MEMORY:
        raise
    except _REFUSALS as error:
        msg = f"{reader.name} takes {len(x)} events, but not a single one; {remedy}: {error}"
        raise ModelError(msg) from None
    eps = torch.finfo(reader.dtype).eps
    if not torch.allclose(alone, logits[:1], rtol=max(1e-3, 8 * eps), atol=max(1e-4, 8 * eps)):
        msg = f"{reader.name} gives an event another logit when other events are beside it; {remedy}"
        raise ModelError(msg)


def _check_gradient(model: Callable[[Tensor], Tensor], x: Tensor, where: str) -> None:
    """Check that the logit follows the inputs somewhere; warn where it does so in some events only."""
    leaf = x.clone().requires_grad_(True)
    with torch.enable_grad():
        total = model(leaf).sum()
        gradient = torch.autograd.grad(total, leaf, allow_unused=True)[0] if total.requires_grad else None
    if gradient is None:
        msg = f"{where} has no gradient with respect to its inputs; do not detach or round them inside"
        raise ModelError(msg)
    finite = torch.isfinite(gradient).all(1)
    if not bool((gradient[finite] != 0).any()):
        what = "0 in all" if bool(finite.any()) else "not a number in any"
        msg = (
            f"the gradient of {where} with respect to its inputs is {what} of {len(x)} events; do not "
            "detach, round or saturate them inside, and keep square roots away from 0"
        )
        raise ModelError(msg)
    if not bool(finite.all()):
        count = int((~finite).sum())
        logger.warning("%s has no finite gradient for %d of %d events", where, count, len(x))


class _Threads(threading.local):
    """Number of torch threads while some parts of the program want one: theirs nest and overlap.

    torch keeps a number for each thread of Python; a new thread begins with the one that was set last, which
    may be the 1 of another thread that is inside. So ``before`` is common to all threads, ``depth`` is not.
    """

    lock = threading.Lock()
    inside = before = 0

    def __init__(self) -> None:
        self.depth = 0

    def enter(self) -> None:
        self.depth += 1
        if self.depth > 1:
            return
        with self.lock:
            if not _Threads.inside:
                _Threads.before = torch.get_num_threads()
            _Threads.inside += 1
            torch.set_num_threads(1)

    def leave(self) -> None:
        self.depth -= 1
        if self.depth:
            return
        with self.lock:
            _Threads.inside -= 1
            torch.set_num_threads(_Threads.before)


_threads = _Threads()


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread while it lasts: small batches are fastest so, and sums have one order.

    Threads of Python that are in it at the same time all leave the number that the first one found.
    """
    _threads.enter()
    try:
        yield
    finally:
        _threads.leave()
