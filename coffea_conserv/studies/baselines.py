"""Baselines under the same judge: what other attacks reach, and how far they break the limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from coffea_conserv.attacks.api import Attacked, Ready, Request, check_options, prepare
from coffea_conserv.attacks.engine import Move, perturb, propose, within_limits
from coffea_conserv.checks import check_choice
from coffea_conserv.errors import ConfigurationError, ModelError
from coffea_conserv.features.feature import Feature
from coffea_conserv.limits.budget import Budget
from coffea_conserv.limits.verdict import Limit
from coffea_conserv.models.device import in_memory, isolated
from coffea_conserv.models.output import Classes
from coffea_conserv.studies.baseline_moves import Push, random_moves, shuffled, stepped

__all__ = ("BASELINES", "Compared", "baselines", "compare")

BASELINES = ("random", "rdsa", "fgsm", "pgd")
"""Names of the baselines."""

_STEEP = ("fgsm", "pgd")
"""Those that need gradients."""

_OTHERS = "random and rdsa do without"

_RANDOM_STEPS = 60
"""Exchanges at random that an event is offered at most; where no limit is used up, all is mixed by then."""

_OVERLAP = 2.5
"""Length of all steps of PGD together in units of its size, as in its paper: they can turn around."""


@dataclass(frozen=True)
class Compared:
    """One row of a comparison.

    Parameters
    ----------
    name
        ``attack`` or the name of a baseline.
    fooling_ratio
        As in :class:`coffea_conserv.Attacked`.
    score_shift
        Change of the weighted mean of the score over the events in groups; ``nan`` without a sum of weights.
    worst
        Limit of which the largest share is used; ``None`` if there is no limit.
    kept
        Whether all limits are kept.
    note
        Why there is nothing to compare, if so: the ratio is ``nan`` then, and nothing is kept.
    """

    name: str
    fooling_ratio: float
    score_shift: float
    worst: Limit | None
    kept: bool
    note: str = ""


@dataclass(frozen=True)
class _Strength:
    """How much the baselines may do, see :func:`baselines`."""

    size: float = 0.25
    steps: int = 10
    tries: int = 100
    names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name in self.names or ():
            check_choice("names", name, BASELINES)
        size = self.size
        given: Any = size
        if isinstance(size, bool) or not (isinstance(given, Real) and math.isfinite(size) and size >= 0):
            msg = f"size={size!r} must be a number ≥ 0, in units of the spread of each feature"
            raise ConfigurationError(msg)
        for name in ("steps", "tries"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                msg = f"{name}={value!r} must be a whole number from 1"
                raise ConfigurationError(msg)


@isolated()
def baselines(  # noqa: PLR0913 -- the arguments of attack(); keywords with defaults
    x: Any,
    model: Any,
    features: Sequence[Feature],
    *,
    budget: Budget,
    direction: str = "signal",
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    output: str | Classes = "logit",
    working_point: float | Sequence[float] = 0.5,
    target: str = "all",
    seed: int = 0,
    device: str = "auto",
    fold: ArrayLike | None = None,
    watch: Mapping[str, tuple[Any, Any]] | None = None,
    valid: Callable[[dict[str, Any]], Any] | None = None,
    context: Mapping[str, ArrayLike] | None = None,
    size: float = 0.25,
    steps: int = 10,
    tries: int = 100,
    names: Sequence[str] | None = None,
) -> dict[str, Attacked]:
    """Attack events with what is usual, and judge the results like those of :func:`coffea_conserv.attack`.

    - ``random``: values of random pairs of events are exchanged (and copied where a marginal may change)
      without asking the model, until a limit is used up. Inside of the limits; the control of an attack.
    - ``rdsa``: events exchange random subsets of their features with random partners, and an exchange stays
      if it fools. Marginals are exact at equal weights, correlations are not looked at.
    - ``fgsm``: one step along the sign of the gradient. Looks at no limit.
    - ``pgd``: several smaller steps that stay in the same box; the best one of each event counts.

    Values stay physical for all: missing and frozen ones do not move, whole numbers stay whole (categories
    do not move along a gradient), angles wrap, ranges, caps and ``valid`` are respected. As with an attack,
    groups of few events stay nominal, and ``Budget(move=0)`` moves nothing.

    Parameters
    ----------
    x, model, features
        As for :func:`coffea_conserv.attack`.
    budget
        Limits of the judge. Only ``random`` keeps them.
    direction, weights, groups, output, working_point, target, seed, device, fold, watch, valid, context
        As for :func:`coffea_conserv.attack`.
    size
        Largest |Δ| of a value for ``fgsm`` and ``pgd``, in units of the spread of the feature in its group.
        Rounding to whole numbers may add up to ½.
    steps
        Number of steps of ``pgd``.
    tries
        Largest number of shuffles that an event sees in ``rdsa``.
    names
        Which of them; ``None``: all that the model allows, ``fgsm`` and ``pgd`` only where it has gradients.

    Returns
    -------
    dict
        Name → :class:`coffea_conserv.Attacked`. The verdict tells how far limits are broken:
        ``verdict.broken``, and ``used`` of each limit.

    Raises
    ------
    ConfigurationError, InputError, ModelError
        Before anything expensive starts, with the offender and the remedy.

    References
    ----------
    RDSA: L. Flek et al., arXiv 2501.05588, where values are drawn from the distribution of a feature; here
    events exchange them, so that marginals are exact. FGSM: I. Goodfellow et al., arXiv 1412.6572,
    x + ε sign(∇ₓ). PGD: A. Madry et al., arXiv 1706.06083.

    Examples
    --------
    >>> import hist, numpy as np, torch
    >>> from coffea_conserv import Budget, Feature
    >>> x = np.random.default_rng(0).normal(size=(2000, 2)).astype(np.float32)
    >>> class Ring(torch.nn.Module):
    ...     def forward(self, x):
    ...         return 1 - (x**2).sum(1)
    >>> axis = hist.axis.Regular(50, -3, 3)
    >>> features = [Feature("x", axis), Feature("y", axis)]
    >>> found = baselines(x, Ring(), features, budget=Budget(rms=0.0, correlation=0.01), target="correct")
    >>> {name: result.verdict.passed for name, result in found.items()}
    {'random': True, 'rdsa': False, 'fgsm': False, 'pgd': False}
    """
    strength = _Strength(size, steps, tries, names)
    asked = Request(
        budget=budget,
        direction=direction,
        weights=weights,
        groups=groups,
        output=output,
        working_point=working_point,
        target=target,
        seed=seed,
        device=device,
        fold=fold,
        watch=watch,
        valid=valid,
        context=context,
    )
    at = partial(prepare, x, model, features, asked)
    return in_memory(device, lambda place: _moved(at(place), strength, seed))[0]


def _moved(ready: Ready, strength: _Strength, seed: int) -> dict[str, Attacked]:
    """Results of all baselines."""
    size, steps, features = float(strength.size), strength.steps, ready.task.features
    moves: dict[str, Move] = {
        "random": partial(random_moves, steps=_RANDOM_STEPS, seed=seed),
        "rdsa": partial(shuffled, tries=strength.tries, seed=seed),
        "fgsm": partial(stepped, features=features, push=Push(size, size, 1)),
        "pgd": partial(stepped, features=features, push=Push(size, _OVERLAP * size / steps, steps)),
    }
    batch, task, models = ready.batch, ready.task, ready.models
    made = {}
    for name in _possible(ready, strength):
        outcome = propose(batch, task, models, ready.direction, ready.device, moves[name])
        if name == "random":  # proposers never judge: who promises to be inside is looked at like a solver
            outcome = within_limits(batch, task, models, outcome, ready.device)
        made[name] = ready.finish(outcome)
    return made


def _possible(ready: Ready, strength: _Strength) -> list[str]:
    """Baselines that are asked for and that the model allows.

    Raises
    ------
    ModelError
        If one is asked for by name that the model does not allow.
    """
    without = [model.name for model in ready.models if not model.gradient]
    if strength.names is None:
        return [name for name in BASELINES if not (without and name in _STEEP)]
    steep = [name for name in strength.names if name in _STEEP]
    if without and steep:
        msg = f"{steep[0]} follows the gradient, and the {without[0]} has none: it is a Callback; {_OTHERS}"
        raise ModelError(msg)
    return [name for name in BASELINES if name in strength.names]


@isolated()
def compare(
    x: Any,
    model: Any,
    features: Sequence[Feature],
    *,
    budget: Budget,
    solver: Any = "transport",
    **options: Any,
) -> tuple[Compared, ...]:
    """Attack events with a solver and with all baselines, and put the results side by side.

    Parameters
    ----------
    x, model, features, budget, solver
        As for :func:`coffea_conserv.attack`.
    **options
        Further arguments of :func:`coffea_conserv.attack` and of :func:`baselines`.

    Returns
    -------
    tuple of Compared
        ``attack`` first, and what the model does not allow last, with a note.
        :func:`coffea_conserv.report.console.comparison_table` makes a table of them.

    Examples
    --------
    >>> import hist, numpy as np, torch
    >>> from coffea_conserv import Budget, Feature
    >>> x = np.random.default_rng(0).normal(size=(2000, 2)).astype(np.float32)
    >>> class Ring(torch.nn.Module):
    ...     def forward(self, x):
    ...         return 1 - (x**2).sum(1)
    >>> axis = hist.axis.Regular(50, -3, 3)
    >>> features = [Feature("x", axis), Feature("y", axis)]
    >>> rows = compare(x, Ring(), features, budget=Budget(rms=0.0, correlation=0.01), target="correct")
    >>> [(row.name, row.kept) for row in rows]
    [('attack', True), ('random', True), ('rdsa', False), ('fgsm', False), ('pgd', False)]
    """
    strength = _Strength(
        **{name: options.pop(name) for name in ("size", "steps", "tries", "names") if name in options}
    )
    check_options("compare", options, " and baselines")
    asked = Request(budget=budget, solver=solver, **options)
    at = partial(prepare, x, model, features, asked)
    return in_memory(asked.device, lambda place: _compared(at(place), strength, asked.seed))[0]


def _compared(ready: Ready, strength: _Strength, seed: int) -> tuple[Compared, ...]:
    """Rows of the attack and of the baselines."""
    _possible(ready, strength)  # complains before anything expensive starts
    attacked = perturb(ready.batch, ready.task, ready.models, ready.direction, seed, ready.device)
    results = {"attack": ready.finish(attacked), **_moved(ready, strength, seed)}
    rows = [_row(name, ready, result) for name, result in results.items()]
    for name in _STEEP if strength.names is None else ():
        if name not in results:
            rows.append(
                Compared(name, math.nan, math.nan, None, kept=False, note="the model has no gradient")
            )
    return tuple(rows)


def _row(name: str, ready: Ready, result: Attacked) -> Compared:
    inside = ready.batch.group >= 0
    weight = ready.batch.weight[inside]
    change = result.score[inside].astype(np.float64) - result.score_nominal[inside]
    shift = float((weight * change).sum() / weight.sum()) if weight.sum() > 0 else math.nan
    return Compared(name, result.fooling_ratio, shift, result.verdict.tightest, not result.verdict.broken)
