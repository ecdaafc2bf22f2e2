"""Smoke tests of models before there are events: on the client, once for each model."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.errors import ModelError
from coffea_conserv.features.feature import Feature
from coffea_conserv.models.device import OUT_OF_MEMORY, places
from coffea_conserv.models.loading import Handle, load_models
from coffea_conserv.models.output import Classes, Reader, saturated

__all__ = ("check_network", "examples", "try_models")

logger = logging.getLogger(__name__)

_tried: set[str] = set()


def try_models(
    handles: Sequence[Handle], output: str | Classes, features: Sequence[Feature], x: NDArray[np.float32]
) -> None:
    """Check models on a few events, each once in a process, however many attacks are made with them."""
    key = ":".join((*(handle.digest for handle in handles), repr(output), str(len(features))))
    if key in _tried:
        return
    models = load_models(handles, output, next(places("cpu")))
    check_network(models, torch.from_numpy(x), [feature.name for feature in features])
    _tried.add(key)


def examples(features: Sequence[Feature]) -> NDArray[np.float32]:
    """Events inside of the axes, to try a model on before there is any, shape (16, features)."""
    rng = np.random.default_rng(0)
    columns = []
    for feature in features:
        low, high = float(feature.axis.edges[0]), float(feature.axis.edges[-1])
        low = max(low, -math.inf if feature.low is None else feature.low)
        high = min(high, math.inf if feature.high is None else feature.high)
        column = low + (high - low) * rng.uniform(0.02, 0.6, size=16)
        columns.append(column if feature.axis.traits.continuous else np.floor(column))
    return np.stack(columns, axis=1).astype(np.float32)


_REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, AssertionError, torch._dynamo.exc.Unsupported)
"""What modules and exported programs raise for inputs that they cannot take."""


def check_network(models: Sequence[Callable[[Tensor], Tensor]], x: Tensor, names: Sequence[str]) -> None:
    """Check shape, determinism, finiteness and gradient of each model on a few events.

    Parameters
    ----------
    models
        The models, as :func:`coffea_conserv.models.loading.load_models` gives them, or functions that give
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
