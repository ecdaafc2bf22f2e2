"""Fooling ratio against budget: larger limits never fool less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.attacks.api import Attacked, Ready, Request, check_options, prepare
from coffea_conserv.attacks.batch import scores
from coffea_conserv.attacks.engine import Outcome, perturb, within_limits
from coffea_conserv.attacks.settings import short
from coffea_conserv.errors import ConfigurationError
from coffea_conserv.features.feature import Feature, check_features
from coffea_conserv.limits.budget import Budget
from coffea_conserv.models.device import in_memory, isolated

__all__ = ("fooling_curve",)


@isolated()
def fooling_curve(
    x: Any, model: Any, features: Sequence[Feature], *, budgets: Sequence[Budget], **options: Any
) -> tuple[Attacked, ...]:
    """Attack events within one budget after the other, each of which contains the one before.

    What was found within smaller limits is within the larger ones too. In each group the better of the two is
    kept, so that the curve never falls.

    Parameters
    ----------
    x, model, features
        As for :func:`coffea_conserv.attack`.
    budgets
        Limits from small to large; no limit may be smaller than that of the budget before.
    **options
        Further arguments of :func:`coffea_conserv.attack`.

    Returns
    -------
    tuple of Attacked
        One for each budget, judged against it. With objective ``cross`` their fooling ratios do not fall,
        with ``score`` the mean scores, each event with its absolute weight, move ever further.

    Raises
    ------
    ConfigurationError
        If there is no budget, or one does not contain the one before it.

    Examples
    --------
    >>> import hist, numpy as np, torch
    >>> x = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
    >>> class Ring(torch.nn.Module):
    ...     def forward(self, x):
    ...         return 1 - (x**2).sum(1)
    >>> axis = hist.axis.Regular(50, -3, 3)
    >>> features = [Feature("x", axis), Feature("y", axis)]
    >>> budgets = [Budget(rms=rms, correlation=0.01) for rms in (0.0, 0.05)]
    >>> small, large = fooling_curve(x, Ring(), features, budgets=budgets)
    >>> small.fooling_ratio <= large.fooling_ratio, small.verdict.passed, large.verdict.passed
    (True, True, True)
    """
    _check_nested(budgets, check_features(features))
    check_options("fooling_curve", options)
    asked = Request(budget=budgets[0], **options)
    at = partial(prepare, x, model, features, asked)
    return in_memory(asked.device, lambda place: _curve(at(place), budgets, asked.seed))[0]


def _curve(ready: Ready, budgets: Sequence[Budget], seed: int) -> tuple[Attacked, ...]:
    """Attack with one budget after the other."""
    made: list[Attacked] = []
    best: Outcome | None = None
    for budget in budgets:
        within = replace(ready, task=replace(ready.task, budget=budget))
        found = perturb(within.batch, within.task, within.models, within.direction, seed, within.device)
        best = found if best is None else _better(within, _inside(within, best), found)
        made.append(within.finish(best))
    return tuple(made)


def _check_nested(budgets: Sequence[Budget], features: Sequence[Feature]) -> None:
    """Raise unless there are budgets and each contains the one before."""
    if not budgets:
        msg = "budgets is empty; give limits from small to large"
        raise ConfigurationError(msg)
    free = [feature for feature in features if not feature.frozen]
    for budget in budgets:
        given: Any = budget
        if not isinstance(given, Budget):
            msg = f"budgets must hold Budget(...), got {budget!r}"
            raise ConfigurationError(msg)
        budget.check_features(free)
    for small, large in pairwise(budgets):
        if not large.contains(small, free):
            msg = f"{large} does not contain {small}, which comes before it; sort budgets from small to large"
            raise ConfigurationError(msg)


def _inside(ready: Ready, outcome: Outcome) -> Outcome:
    """Judge once more: where weights vary, what limit 0 forgives may be more than a tiny limit does."""
    return within_limits(ready.batch, ready.task, ready.models, outcome, ready.device)


def _better(ready: Ready, one: Outcome, two: Outcome) -> Outcome:
    """Take each group from the outcome that is the better one there, from the first if they are equal."""
    group = ready.batch.group
    first, second = (_value(ready, outcome) for outcome in (one, two))
    ahead = np.append(second > first, False)[group]  # -1, no group, takes the last
    return Outcome(
        np.where(ahead[:, None], two.x, one.x), np.where(ahead, two.reason, one.reason).astype(np.int8)
    )


def _value(ready: Ready, outcome: Outcome) -> NDArray[np.float64]:
    """What the objective counts, summed with |weight|, shape (groups,)."""
    batch, sign = ready.batch, 1.0 if ready.direction == "signal" else -1.0
    score = sign * scores(batch, ready.models, outcome.x, ready.device).astype(np.float64)
    if ready.task.objective == "cross":
        across = [short(ready.nominal, at, ready.direction) & (score > sign * at) for at in ready.task.points]
        score = np.mean(across, axis=0, dtype=np.float64)
    inside = batch.group >= 0
    size = int(batch.group.max(initial=-1)) + 1
    return np.bincount(batch.group[inside], (np.abs(batch.weight) * score)[inside], size).astype(np.float64)
