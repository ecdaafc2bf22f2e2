"""Output of a model, and how one logit per event is made of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from coffea_conserv.checks import as_flag
from coffea_conserv.errors import FAILURES, ConfigurationError, ModelError
from coffea_conserv.features.trial import ranges
from coffea_conserv.models.device import OUT_OF_MEMORY
from coffea_conserv.models.facts import Facts

__all__ = (
    "OUTPUTS",
    "Classes",
    "Reader",
    "check_output",
    "saturated",
    "sum_to_one",
    "to_logit",
    "within_one",
)

OUTPUTS = ("logit", "probability", "narrow logit")
"""What the numbers that a model gives can be; a narrow logit is one that insists on being none where it never
leaves 0 … 1, as probabilities do."""

_ROUNDING = 1e-5
"""By how much a probability may be below 0 or above 1: sums of a softmax are rounded."""


@dataclass(frozen=True)
class Classes:
    """A model of several classes, read as one class, or some, against others.

    The score is the probability of the target among target and source, Σ p_target / (Σ p_target + Σ
    p_source): that of one node where the source is everything else, as in templates of a node; a discriminant
    such as ``TvsQCD`` where it is not. ``conservUp`` moves toward the target, ``conservDown`` to the source.

    Parameters
    ----------
    target
        Index of a class in 0 … classes − 1, or several that count together.
    source
        The same of what it is told from; ``None``: all other classes.
    argmax
        Whether the largest node of each side counts, instead of their sums. Score 0.5 is then the border of
        the decision for the largest node: an event that crosses it is *classified* as the target.
    output
        ``logit``: what a softmax is applied to. ``probability``: what comes out of one. Numbers that never
        leave 0 … 1 are refused as logits; ``narrow logit`` insists that they are.

    Raises
    ------
    ConfigurationError
        If classes are no indices, or are on both sides.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[0.0, 1.0, 3.0]])
    >>> score = torch.sigmoid(to_logit(logits, Classes(target=2), 1)).float()
    >>> torch.allclose(score, torch.softmax(logits, 1)[:, 2])
    True
    """

    target: int | tuple[int, ...]
    source: int | tuple[int, ...] | None = None
    argmax: bool = False
    output: str = "logit"

    def __post_init__(self) -> None:
        for name in ("target", "source"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _indices(name, getattr(self, name)))
        object.__setattr__(self, "argmax", as_flag("Classes: argmax", self.argmax))
        both = sorted(set(self.targets) & set(self.sources or ()))
        msg = ""
        if both:
            msg = f"Classes: class {both[0]} is both target and source; each class is on one side"
        elif self.output not in OUTPUTS:
            msg = f"Classes: output={self.output!r} is not known; choose one of {', '.join(OUTPUTS)}"
        if msg:
            raise ConfigurationError(msg)

    @property
    def targets(self) -> tuple[int, ...]:
        """Classes that count as target."""
        return _indices("target", self.target)

    @property
    def sources(self) -> tuple[int, ...] | None:
        """Classes that count as source; ``None``: all others."""
        return None if self.source is None else _indices("source", self.source)

    def against(self, count: int) -> list[int]:
        """Classes that count as source among so many."""
        if self.sources is None:
            return [k for k in range(count) if k not in self.targets]
        return list(self.sources)

    def logit(self, values: Tensor) -> Tensor:
        """Logit of the score from logits or probabilities, shape (events, classes), in double precision."""
        logs = _log(_proper(values), values.dtype) if self.output == "probability" else values.double()
        sides = (logs[:, list(self.targets)], logs[:, self.against(logs.shape[1])])
        one, two = (side.amax(1) if self.argmax else torch.logsumexp(side, 1) for side in sides)
        return one - two


def _indices(name: str, given: Any) -> tuple[int, ...]:
    """One or several classes as a tuple."""
    found = tuple(given) if isinstance(given, list | tuple) else (given,)
    whole = all(not isinstance(k, bool) and isinstance(k, Integral) and int(k) >= 0 for k in found)
    if not found or not whole or len(set(found)) < len(found):
        msg = f"Classes: {name} must be the index of a class from 0, or several different ones, got {given!r}"
        raise ConfigurationError(msg)
    return tuple(int(k) for k in found)


def check_output(output: Any) -> None:
    """Raise unless it is said in a known way what a model gives."""
    if not (isinstance(output, Classes) or (isinstance(output, str) and output in OUTPUTS)):
        msg = f"output={output!r} is not known; choose one of {', '.join(OUTPUTS)}, or Classes(target=…)"
        raise ConfigurationError(msg)


@dataclass(frozen=True)
class Reader:
    """A loaded model that gives one logit per event, whatever it gives by itself.

    Parameters
    ----------
    model
        As loaded.
    output
        What it gives.
    facts
        What it says of itself.
    gradient
        Whether it can have a gradient.
    name
        How errors call it.
    batch
        Events that it gets at a time; as many as are usual on its device if not given. A model that takes
        fewer gets them in parts.
    names
        Names of the features, for messages.
    """

    model: Callable[[Tensor], Any]
    output: str | Classes = "logit"
    facts: Facts = Facts()  # noqa: RUF009 -- it is frozen
    gradient: bool = True
    name: str = "model"
    batch: int | None = None
    names: tuple[str, ...] = ()

    def raw(self, x: Tensor) -> Any:
        """Give what the model gives.

        Raises
        ------
        ModelError
            Whatever the model raises, with the number of events and their ranges; but for a GPU without
            memory, where it is tried again with fewer of them.
        """
        x = x.to(self.facts.dtype)
        parts = [x] if self.facts.most is None else torch.split(x, self.facts.most)
        try:
            made = [self._filled(part) for part in parts]
            return made[0] if len(made) == 1 else torch.cat(made)
        except OUT_OF_MEMORY:
            raise
        except FAILURES as error:
            names = self.names or tuple(f"feature {j}" for j in range(x.shape[1]))
            where = ranges(names, x.detach().cpu().double().numpy())
            kind = str(x.dtype).removeprefix("torch.")
            msg = f"{error}; the events have {where}"
            if not isinstance(error, ModelError):  # a function of NumPy has said what is wrong
                msg = (
                    f"{self.name} cannot take {x.shape[1]} features as a {kind} matrix (events, features) of "
                    f"{tuple(x.shape)} with {where}: {type(error).__name__}: {error}"
                )
            # coffea takes an OSError for an unreadable file and skips the chunk.
            raise ModelError(msg) from (None if isinstance(error, OSError) else error)

    def _filled(self, x: Tensor) -> Any:
        """What the model gives for some events, among copies of the first one if it does not take so few."""
        lacking = self.facts.least - len(x)
        if lacking <= 0 or not len(x):
            return self.model(x)
        return self.model(torch.cat([x, x[:1].expand(lacking, -1)]))[: len(x)]

    def logit(self, values: Any, count: int) -> Tensor:
        """Make logits of what the model gives for so many events, shape (events,)."""
        return to_logit(values, self.output, count, self.name)

    def __call__(self, x: Tensor) -> Tensor:
        """Give logits, shape (events,), in the precision of the features."""
        return self.logit(self.raw(x), len(x)).to(x.dtype)


def to_logit(values: Any, output: str | Classes, count: int, name: str = "model") -> Tensor:
    """Make one logit per event of what a model gives.

    A probability p becomes log(p / (1 − p)). Where it is exactly 0 or 1, it counts as half of the smallest
    one, or of the smallest distance from 1, that its precision can hold: the logit is finite, and beyond all
    others. What is not between 0 and 1 becomes NaN, which no event may have.

    Parameters
    ----------
    values
        Shape (events,) or (events, 1); (events, 2) are probabilities of background and signal; (events,
        classes) with :class:`Classes`.
    output
        What they are.
    count
        Number of events.
    name
        How errors call the model.

    Returns
    -------
    torch.Tensor
        Shape (events,).

    Raises
    ------
    ModelError
        If the shape is another one, or if there is no such class.

    Examples
    --------
    >>> import torch
    >>> to_logit(torch.tensor([0.0, 0.5, 1.0]), "probability", 3).round().tolist()
    [-104.0, 0.0, 17.0]
    """
    shape = _shape(values)
    if isinstance(output, Classes):
        _check_classes(shape, output, count, name)
        return output.logit(values)
    wide = [(count,), (count, 1)] + ([(count, 2)] if output == "probability" else [])
    if shape not in wide:
        remedy = _remedy(values, output) if _is_wide(shape, count) else ""
        or_both = f" (or ({count}, 2) for background and signal)" if output == "probability" else ""
        msg = (
            f"{name} must give one {output} per event, shape ({count},) or ({count}, 1){or_both}, "
            f"got {shape}{remedy}"
        )
        raise ModelError(msg)
    found: Tensor = values
    if output != "probability":
        return found.reshape(-1)
    pair, dtype = _proper(found.reshape(count, -1)), found.dtype
    if pair.shape[1] == 2:
        return _log(pair[:, 1], dtype) - _log(pair[:, 0], dtype)
    # Next to 1 there are as many digits as the precision has, next to 0 many more.
    least = torch.finfo(dtype).eps / 4
    return _log(pair[:, 0], dtype) - torch.log((1 - pair[:, 0]).clamp(min=least))


def _remedy(values: Tensor, output: str) -> str:
    """Say how several columns are read."""
    if not sum_to_one(values):
        return "; output=Classes(target=…) reads several classes"
    if values.shape[1] == 2 and output != "probability":
        return "; its columns are probabilities, which sum to 1: say output='probability'"
    return (
        "; its columns are probabilities, which sum to 1: say output=Classes(target=…, output='probability')"
    )


def within_one(values: Tensor) -> bool:
    """Whether all numbers are between 0 and 1, as probabilities are."""
    return bool(((values >= -_ROUNDING) & (values <= 1 + _ROUNDING)).all())


def sum_to_one(values: Tensor) -> bool:
    """Whether the columns are probabilities of classes: between 0 and 1, with the sum 1 in every row."""
    exact = max(100 * _ROUNDING, 8 * torch.finfo(values.dtype).eps)
    return within_one(values) and bool(((values.double().sum(1) - 1).abs() <= exact).all())


def _shape(values: Any) -> Any:
    """Shape of numbers, or what it is if it is something else."""
    if not isinstance(values, Tensor):
        return type(values).__name__
    return tuple(values.shape) if values.is_floating_point() else values.dtype


def _is_wide(shape: Any, count: int) -> bool:
    return isinstance(shape, tuple) and len(shape) == 2 and shape[0] == count and shape[1] > 1


def _check_classes(shape: Any, output: Classes, count: int, name: str) -> None:
    """Raise unless there is a column for every class."""
    if not _is_wide(shape, count):
        msg = f"{name} must give a {output.output} per event and class, shape ({count}, classes), got {shape}"
        raise ModelError(msg)
    last = max(*output.targets, *output.against(shape[1]), 0)
    if last >= shape[1]:
        msg = f"{name} gives {shape[1]} classes, so that there is no class {last} of {output}"
        raise ModelError(msg)
    if not output.against(shape[1]):
        msg = f"{name} gives {shape[1]} classes, and {output} leaves none to tell the target from"
        raise ModelError(msg)


def _proper(values: Tensor) -> Tensor:
    """Probabilities in double precision; NaN where they are none."""
    values = values.double()
    fine = (values >= -_ROUNDING) & (values <= 1 + _ROUNDING)
    return torch.where(fine, values, math.nan).clamp(0, 1)


def _log(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Logarithm, finite where a probability of some precision is exactly 0."""
    kind = torch.finfo(dtype)
    return torch.log(values.clamp(min=max(kind.smallest_normal * kind.eps / 2, 5e-324)))


def saturated(values: Tensor) -> int:
    """Number of events with a probability of exactly 0 or 1."""
    return int(((values <= 0) | (values >= 1)).reshape(len(values), -1).any(1).sum())
