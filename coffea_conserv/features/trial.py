"""Trial events, made of what the features declare, and ranges of events for messages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.features.feature import Feature, blocks, present

__all__ = ("Trial", "draw", "ranges", "stretched", "trials")

Values = NDArray[np.float32]
Possible = Callable[[Values], NDArray[np.bool_]]
Pattern = tuple[tuple[int, str], ...]
"""Index of each feature that is missing, and the number that means it, as text: NaN equals nothing."""

COUNT = 256
"""Events with all features: enough for a logit to show that it is no probability."""

_FEW = 8
"""Events of each pattern of missing values."""

_ROUNDS = 64
"""How often so many events are drawn until enough of them are possible."""

_STRETCHES = (1, 10, 1000)
"""How much further than the axes events are that show how far a logit goes."""

_NAMED = 12
"""Features whose ranges a message tells."""


@dataclass(frozen=True)
class Trial:
    """Some events to try a model on before there is any.

    Parameters
    ----------
    x
        Shape (events, features).
    what
        What is special about them, for messages; empty if nothing is.
    sure
        Whether the features say that there are such events. Which of several values are missing together they
        do not say.
    """

    x: Values
    what: str = ""
    sure: bool = True


def trials(features: Sequence[Feature], possible: Possible | None = None) -> list[Trial]:
    """Events with all features first, then every pattern of missing values that is declared.

    Missing are all values that can be, with every number that means it, and then those of each feature, or of
    each one and those that move with it, alone.

    Parameters
    ----------
    features
        The features.
    possible
        Tells which events of a matrix are possible, shape (events,); ``None``: all are.

    Examples
    --------
    >>> import hist
    >>> axis = hist.axis.Regular(10, 0, 1)
    >>> x, *others = trials([Feature("a", axis, missing=-1), Feature("b", axis, missing=(-9, -99))])
    >>> x.x.shape, [trial.what for trial in others]
    ((256, 2), ['a = -1, b = -9', 'a = -1, b = -99', 'a = -1', 'b = -9', 'b = -99'])
    """
    x, sure = _possible(features, possible)
    found = [Trial(x, "", sure)]
    for absent, declared in _patterns(features).items():
        some = x[:_FEW].copy()
        for j, value in absent:
            some[:, j] = float(value)
        some = some[possible(some)] if possible is not None and sure else some
        if len(some):
            what = ", ".join(f"{features[j].name} = {float(value):g}" for j, value in absent)
            found.append(Trial(some, what, sure and declared))
    return found


def _possible(features: Sequence[Feature], possible: Possible | None) -> tuple[Values, bool]:
    """Possible events, and whether they are; as many others if there seems to be none."""
    rng, found, count = np.random.default_rng(0), list[Values](), 0
    for _ in range(_ROUNDS):
        x = draw(features, COUNT, rng)
        if possible is not None:
            x = x[possible(x)]
        found.append(x)
        count += len(x)
        if count >= COUNT:
            break
    if count < 2:  # a model needs two to show that it does not mix them
        return draw(features, COUNT, rng), False
    return np.concatenate(found)[:COUNT], True


def _patterns(features: Sequence[Feature]) -> dict[Pattern, bool]:
    """Which values are missing, and whether that is declared, each pattern once."""
    everything = range(len(features))
    found = dict.fromkeys(_together(features, everything), True)
    for j, members in enumerate(blocks(features).tolist()):
        if features[j].moves_with is None:
            for pattern in _together(features, sorted(set(members))):
                found.setdefault(pattern, False)
    return found


def _together(features: Sequence[Feature], some: Sequence[int]) -> list[Pattern]:
    """All of some features missing that can be, once with each of the numbers that mean it."""
    numbers = {j: features[j].missing_values for j in some if features[j].missing_values}
    most = max((len(values) for values in numbers.values()), default=0)
    return [
        tuple((j, repr(values[min(k, len(values) - 1)])) for j, values in numbers.items())
        for k in range(most)
    ]


def draw(features: Sequence[Feature], count: int, rng: np.random.Generator) -> Values:
    """Events inside of axes and physical ranges, spread evenly along each; categories are those of the axis.

    Parameters
    ----------
    features
        The features.
    count
        Number of events.
    rng
        Where chance comes from.

    Returns
    -------
    numpy.ndarray
        Shape (count, features). Nothing is missing.
    """
    return np.stack([_column(feature, count, rng) for feature in features], axis=1).astype(np.float32)


def stretched(features: Sequence[Feature]) -> list[Values]:
    """Events on the axes and ever further away, where most logits leave any range and probabilities none.

    Nobody says that they are possible, and they are not.
    """
    x = draw(features, COUNT, np.random.default_rng(0))
    far = np.array([f.axis.traits.continuous and not f.axis.traits.circular for f in features])
    centre = np.array([(f.axis.edges[0] + f.axis.edges[-1]) / 2 for f in features], dtype=np.float32)
    return [np.where(far, centre + factor * (x - centre), x).astype(np.float32) for factor in _STRETCHES]


def _column(feature: Feature, count: int, rng: np.random.Generator) -> NDArray[Any]:
    """Values of a feature, each part of its range as often as any other, in any order."""
    traits, edges = feature.axis.traits, feature.axis.edges
    low, high = (math.inf if bound is None else bound for bound in (feature.low, feature.high))
    low = -math.inf if feature.low is None else low
    if traits.continuous:
        start, stop = max(low, float(edges[0])), min(high, float(edges[-1]))
        if not start <= stop:  # the axis has nothing that is possible
            start = stop = low if math.isfinite(low) else high
        place = (rng.permutation(count) + rng.uniform(size=count)) / count
        column = start + (stop - start) * (0.02 + 0.96 * place)
    else:
        values = np.array(list(feature.axis) if not traits.ordered else np.arange(edges[0], edges[-1]))
        inside = values[(values >= low) & (values <= high)]
        values = inside if len(inside) else values
        column = values[rng.permutation(count) * len(values) // count]
    there = present(feature, column.astype(np.float32))
    return np.asarray(np.where(there, column, column[there][0] if there.any() else column))


def ranges(names: Sequence[str], x: NDArray[Any]) -> str:
    """Say where events are: the smallest and largest value of each feature.

    Examples
    --------
    >>> ranges(["pt", "k"], np.array([[20.0, 1.0], [35.5, 1.0]]))
    'pt in 20 … 35.5, k = 1'
    """
    said = []
    for name, column in zip(names[:_NAMED], x.T, strict=False):
        there = column[~np.isnan(column)]
        low, high = (there.min(), there.max()) if len(there) else (math.nan, math.nan)
        said.append(f"{name} in {low:g} … {high:g}" if high > low else f"{name} = {low:g}")
    more = len(names) - len(said)
    return ", ".join(said) + (f", and {more} features more" if more > 0 else "")
