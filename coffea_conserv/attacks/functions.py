"""Functions of the user on events: watched quantities, and which events are possible."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.attacks.batch import Batch, context_of, named
from coffea_conserv.attacks.task import Task
from coffea_conserv.errors import FAILURES, ConfigurationError, InputError
from coffea_conserv.features.trial import Trial, draw, trials
from coffea_conserv.models.device import OUT_OF_MEMORY

__all__ = ("check_functions", "possible", "trial_events", "watched_values")


_CPU = torch.device("cpu")


def watched_values(batch: Batch, task: Task, x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Watched quantities of given features, shape (events,) each.

    Raises
    ------
    InputError
        If a function fails, or returns something else than one number per event.
    """
    if not len(x):  # a user's function need not know what to do with no event
        return {watched.name: np.zeros(0, dtype=np.float32) for watched in task.watched}
    columns = _columns(batch, task, x)
    values = ((w.name, _called(f"watch[{w.name!r}]", w.function, columns)) for w in task.watched)
    return {name: value.cpu().numpy() for name, value in values}


def possible(
    batch: Batch,
    task: Task,
    x: NDArray[np.float32] | None = None,
    device: torch.device = _CPU,
) -> NDArray[np.bool_]:
    """Tell which events are possible with given features, or as they are, shape (events,).

    Raises
    ------
    InputError
        If the function ``valid`` fails, or returns something else than one Boolean per event.
    """
    if task.valid is None or not len(batch.x):
        return np.ones(len(batch.x), dtype=np.bool_)
    columns = _columns(batch, task, batch.x if x is None else x, device)
    good: NDArray[np.bool_] = _called("valid", task.valid, columns).cpu().numpy()
    return good


def trial_events(task: Task) -> list[Trial]:
    """Events to try a model on: possible ones, as far as ``valid`` can tell that of the features alone."""

    def told(x: NDArray[np.float32]) -> NDArray[np.bool_]:
        everything = np.ones(len(x))
        return possible(Batch(x, everything, everything.astype(np.int64)), task)

    if task.valid is None:
        return trials(task.features)
    try:
        told(draw(task.features, 2, np.random.default_rng(0)))
    except InputError:  # it asks for a context, or is wrong, which its own check says
        return trials(task.features)
    return trials(task.features, told)


def _columns(
    batch: Batch, task: Task, x: NDArray[np.float32], device: torch.device = _CPU
) -> dict[str, Tensor]:
    names = [feature.name for feature in task.features]
    tensor = torch.from_numpy(np.ascontiguousarray(x)).to(device)
    event = torch.arange(len(x), device=device)
    return named(tensor, names, context_of(batch, device), event)


def _called(name: str, function: Callable[[dict[str, Tensor]], Any], columns: dict[str, Tensor]) -> Tensor:
    """Call a function of the user; ``valid`` returns Booleans, all others numbers."""
    count = len(next(iter(columns.values())))
    got = ", ".join(dict.keys(columns))
    try:
        with torch.no_grad():
            value = function(columns)
    except KeyError as error:
        msg = f"{name} asks for {error}, which is not among its columns ({got}); give it in context="
        raise InputError(msg) from error
    except OUT_OF_MEMORY:
        raise
    except FAILURES as error:
        msg = f"{name} fails: {type(error).__name__}: {error}. It gets the columns {got}"
        # coffea takes an OSError for an unreadable file and skips the chunk.
        raise InputError(msg) from (None if isinstance(error, OSError) else error)
    wanted = "Booleans" if name == "valid" else "numbers"
    if not isinstance(value, Tensor):
        what = f"{type(value).__name__}, not a tensor"
    elif tuple(value.shape) != (count,):
        what = f"shape {tuple(value.shape)} for {count} events"
    elif value.dtype.is_complex or (name == "valid" and value.dtype != torch.bool):
        what = str(value.dtype)
    else:
        return value
    msg = (
        f"{name} returns {what}; it must return one value per event, a tensor of {wanted} of shape (events,)"
    )
    raise InputError(msg)


class _Known(dict[str, Tensor]):
    """Columns of features; notes if something else is asked for, which may be in the context of a call."""

    unsure = False

    def __missing__(self, key: str) -> Tensor:
        self.unsure = True
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        found = super().__contains__(key)
        self.unsure |= not found
        return found

    def get(self, key: str, default: Any = None) -> Any:
        self.unsure |= not super().__contains__(key)
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:  # as in function(**columns)
        self.unsure = True
        return super().__iter__()

    def keys(self) -> Any:
        self.unsure = True
        return super().keys()

    def items(self) -> Any:
        self.unsure = True
        return super().items()


def check_functions(task: Task, x: Tensor) -> None:
    """Try the functions of ``watch`` and ``valid`` on a few events.

    A function that asks for more than the features cannot be tried before there is a context.

    Parameters
    ----------
    task
        With the functions.
    x
        A few events, shape (events, features) with at least two.

    Raises
    ------
    ConfigurationError
        If one fails, returns something else than one value per event, changes its columns or mixes events.
    """
    functions: dict[str, Callable[..., Any]] = {f"watch[{w.name!r}]": w.function for w in task.watched}
    if task.valid is not None:
        functions["valid"] = task.valid
    for name, function in functions.items():
        _try(name, function, [feature.name for feature in task.features], x)


def _try(name: str, function: Callable[..., Any], names: Sequence[str], x: Tensor) -> None:
    values = []
    for events in (x.clone(), *torch.split(x, 1)):  # candidates come in any number and order
        before = events.clone()
        columns = _Known(named(events, names, {}, torch.arange(len(events))))
        try:
            values.append(_called(name, function, columns).double())
        except InputError as error:
            if columns.unsure or isinstance(error.__cause__, KeyError):
                return
            raise ConfigurationError(str(error)) from error.__cause__
        if columns.unsure:
            return
        if not torch.equal(events.view(torch.int32), before.view(torch.int32)):  # NaN stays what it is
            msg = f"{name} changes its columns in place, which moves the events; compute new tensors"
            raise ConfigurationError(msg)
    if not torch.allclose(values[0], torch.cat(values[1:]), rtol=1e-3, atol=1e-5, equal_nan=True):
        msg = f"{name} gives an event another value where others are beside it; compute it event by event"
        raise ConfigurationError(msg)
