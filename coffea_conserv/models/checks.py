"""Smoke tests of models before there are events: on the client, once for each model."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.errors import ModelError
from coffea_conserv.features.feature import Feature
from coffea_conserv.features.trial import Trial, ranges, stretched
from coffea_conserv.models.device import places
from coffea_conserv.models.loading import Handle, load_models
from coffea_conserv.models.network import slopes
from coffea_conserv.models.output import Classes, Reader, saturated, sum_to_one, within_one

__all__ = ("check_network", "try_models")

logger = logging.getLogger(__name__)

Wide = Callable[[], Sequence[NDArray[np.float32]]]
"""Makes events, none of which need be possible."""

_tried: set[str] = set()


def try_models(
    handles: Sequence[Handle], output: str | Classes, features: Sequence[Feature], trials: Sequence[Trial]
) -> None:
    """Check models on a few events, each once in a process, however many attacks are made with them.

    Parameters
    ----------
    handles, output, features
        The models, what they give, and what they take.
    trials
        Events with all features first, then patterns of missing values. What fails on events of which nobody
        says that there are such is a warning.

    Raises
    ------
    ModelError
        Naming what is wrong, the ranges tried, and the remedy.
    """
    names = [feature.name for feature in features]
    content = hashlib.sha256(b"".join(trial.x.tobytes() for trial in trials)).hexdigest()
    key = ":".join((*(handle.digest for handle in handles), repr(output), *names, content))
    if key in _tried:
        return
    models = load_models(handles, output, next(places("cpu")), names)
    for trial in trials:
        x = torch.from_numpy(trial.x)
        try:
            if trial.what:
                _check_missing(models, x, trial.what)
            else:
                check_network(models, x, names, lambda: stretched(features))
        except ModelError as error:
            if trial.sure:
                raise
            logger.warning("%s", f"{error}. {_UNSURE[bool(trial.what)]}")
    _tried.add(key)


_MANY = 16
"""Events from which on it is no chance that all of their numbers are between 0 and 1."""

_UNSURE = {
    False: "No possible event was found inside of the axes, so that this may be no fault of the model",
    True: "If there are no such events, say so with moves_with= of the features, or with valid=",
}
"""What is said where events fail that may not exist: with all features, and with some of them missing."""


def _check_missing(models: Sequence[Reader], x: Tensor, what: str) -> None:
    """Check that events with missing values have a score."""
    for reader in models:
        with torch.no_grad():
            try:
                values = reader.raw(x)
                logits = reader.logit(values, len(x))
            except ModelError as error:
                msg = f"{error}. These are events with {what}"
                raise ModelError(msg) from error.__cause__
        _check_finite(reader, x, logits, f" with {what}")


def check_network(
    models: Sequence[Callable[[Tensor], Tensor]],
    x: Tensor,
    names: Sequence[str],
    wide: Wide | None = None,
) -> None:
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
    wide
        Makes further events, none of which need be possible, to see how far logits go; those given, far away,
        if there is none.

    Raises
    ------
    ModelError
        Naming what is wrong and the remedy.
    """
    for k, model in enumerate(models):
        where = f"model of fold {k}" if len(models) > 1 else "model"
        reader = model if isinstance(model, Reader) else Reader(model, name=where)
        reader = replace(reader, names=reader.names or tuple(names))
        with torch.no_grad():
            values = reader.raw(x)
            logits = reader.logit(values, len(x))
            again = reader(x)
        if not torch.equal(torch.nan_to_num(logits).to(x.dtype), torch.nan_to_num(again)):
            msg = f"{where} gives two answers for the same events in evaluation mode; make it deterministic"
            raise ModelError(msg)
        _check_values(reader, x, values, wide)
        _check_alone(reader, x, again)
        if reader.gradient:
            _check_gradient(reader, x, where)


def _check_finite(reader: Reader, x: Tensor, logits: Tensor, what: str = "") -> None:
    """Check that every event has a number."""
    bad = ~torch.isfinite(logits)
    if bool(bad.any()):
        msg = (
            f"{reader.name} gives NaN or infinity for {int(bad.sum())} of {len(x)} events{what}; check its "
            f"inputs. They have {ranges(reader.names, x[bad].cpu().numpy())}; tried were events with "
            f"{ranges(reader.names, x.cpu().numpy())}"
        )
        raise ModelError(msg)


def _check_values(reader: Reader, x: Tensor, values: Tensor, wide: Wide | None) -> None:
    """Check that values are finite numbers of the kind that was said."""
    logits = reader.logit(values, len(x))
    where, output = reader.name, reader.output
    kind = output.output if isinstance(output, Classes) else output
    low, high = float(values.min()), float(values.max())
    if kind == "probability" and math.isfinite(low + high) and not bool(torch.isfinite(logits).all()):
        msg = (
            f"{where} gives {low:g} … {high:g}, which are no probabilities; if these are logits, say "
            "output='logit', or the same in Classes"
        )
        raise ModelError(msg)
    _check_finite(reader, x, logits)
    if kind == "probability" and (edge := saturated(values)):
        logger.warning(
            "%s gives exactly 0 or 1 for %d of %d events, which cannot be told apart; logits could",
            *(where, edge, len(x)),
        )
    if kind == "logit" and within_one(values) and high > low:
        _check_logits(
            reader, values, [10 * x, 1000 * x] if wide is None else [*map(torch.from_numpy, wide())]
        )


def _check_logits(reader: Reader, values: Tensor, wide: Sequence[Tensor]) -> None:
    """Check that numbers in 0 … 1, which would all be signal as logits, leave that range anywhere."""
    sure = len(values) >= _MANY
    for x in wide:
        try:
            with torch.no_grad():
                more = reader.raw(x.to(values.device))
        except ModelError:  # of events that cannot be
            continue
        fine = torch.isfinite(more).reshape(len(more), -1).all(1)
        if not within_one(more[fine]):
            return
        sure |= int(fine.sum()) >= _MANY
    low, high, summed = float(values.min()), float(values.max()), ""
    remedy = (
        "output='probability', or leave the sigmoid at its end away; output='narrow logit' if they are "
        "logits all the same"
    )
    if isinstance(reader.output, Classes):
        right, left = (replace(reader.output, output=kind) for kind in ("probability", "narrow logit"))
        remedy = f"output={right}; {left} if they are logits all the same"
        summed = f" and 1 in the sum over its {values.shape[1]} classes" if sum_to_one(values) else ""
    msg = (
        f"{reader.name} gives only {low:g} … {high:g}{summed}, as probabilities are, and is said to give "
        f"logits; say {remedy}"
    )
    if sure:
        raise ModelError(msg)
    logger.warning("%s", msg)


def _check_alone(reader: Reader, x: Tensor, logits: Tensor) -> None:
    """Check that the first event has its logit without the others too, as batches have any size."""
    remedy = "export it in evaluation mode and with a dynamic number of events"
    if not reader.gradient:
        remedy = "compute event by event"
    try:
        with torch.no_grad():
            alone = reader(x[:1])
    except ModelError as error:
        msg = f"{reader.name} takes {len(x)} events, but not a single one; {remedy}: {error}"
        raise ModelError(msg) from None
    eps = torch.finfo(reader.facts.dtype).eps
    if not torch.allclose(alone, logits[:1], rtol=max(1e-3, 8 * eps), atol=max(1e-4, 8 * eps)):
        msg = f"{reader.name} gives an event another logit when other events are beside it; {remedy}"
        raise ModelError(msg)


def _check_gradient(reader: Reader, x: Tensor, where: str) -> None:
    """Check that the logit follows the inputs somewhere; warn where it does so in some events only."""
    gradient = slopes(lambda leaf, _: reader(leaf), x, torch.arange(len(x)), reader.names)
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
