"""Entry for anybody who has a matrix of features and a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from coffea_conserv.attacks.arrays import like, make_batch, make_matrix
from coffea_conserv.attacks.batch import Batch, check_scores, scores
from coffea_conserv.attacks.engine import Outcome, perturb, signed_scores
from coffea_conserv.attacks.functions import check_functions, possible
from coffea_conserv.attacks.judging import judge_groups, list_unattacked, measure_shifts, measure_statistics
from coffea_conserv.attacks.registry import named_solver
from coffea_conserv.attacks.settings import (
    DIRECTIONS,
    OBJECTIVES,
    TARGETS,
    check_moves,
    check_settings,
    short,
)
from coffea_conserv.attacks.task import Task
from coffea_conserv.checks import check_choice
from coffea_conserv.errors import ConfigurationError
from coffea_conserv.features.feature import Feature, check_features, make_watched
from coffea_conserv.features.trial import stretched
from coffea_conserv.features.working_point import as_points
from coffea_conserv.limits.budget import Budget
from coffea_conserv.limits.displacement import Shift
from coffea_conserv.limits.statistics import Statistics
from coffea_conserv.limits.verdict import Verdict
from coffea_conserv.models.checks import check_network
from coffea_conserv.models.device import Place, in_memory, isolated
from coffea_conserv.models.loading import load_models, make_handles, settled
from coffea_conserv.models.output import Classes, check_output
from coffea_conserv.solvers.protocol import Solver

__all__ = ("Attacked", "Crossing", "Ready", "Request", "attack", "check_options", "prepare")


@dataclass(frozen=True)
class Crossing:
    """How many events crossed one working point.

    Parameters
    ----------
    working_point
        The score.
    fooled
        Events that crossed it in the direction of the attack, shape (events,).
    fooling_ratio
        Σ|w| of the fooled events over Σ|w| of those that were on the other side.
    """

    working_point: float
    fooled: NDArray[np.bool_]
    fooling_ratio: float


@dataclass(frozen=True)
class Attacked:
    """Result of :func:`attack`.

    Parameters
    ----------
    x
        Attacked features, of the shape and kind that was given.
    score_nominal, score
        Score of each event before and after, shape (events,).
    crossings
        What crossed, for each working point.
    unattacked
        Events that stayed nominal because their group is too small, or nothing better was found for it within
        the limits; shape (events,).
    verdict
        Every limit in every group, judged on ``x``.
    shifts
        How far each feature moved in each group.
    statistics
        What the sample of each group can tell: effective events, share of negative weight, statistical
        floors, and features that are constant, collinear or missing.
    place
        Where it was computed: ``cpu``, ``cuda``, or with fewer events at a time than usual, for which the
        memory was too small. Another place rounds in another way and gives another answer of the same kind.
    """

    x: Any
    score_nominal: NDArray[np.float32]
    score: NDArray[np.float32]
    crossings: tuple[Crossing, ...]
    unattacked: NDArray[np.bool_]
    verdict: Verdict
    shifts: tuple[Shift, ...]
    statistics: tuple[Statistics, ...]
    place: str = "cpu"

    @property
    def fooled(self) -> NDArray[np.bool_]:
        """Events that crossed the (first) working point, shape (events,)."""
        return self.crossings[0].fooled

    @property
    def fooling_ratio(self) -> float:
        """Σ|w| of the fooled events over Σ|w| of those that were on the other side."""
        return self.crossings[0].fooling_ratio


@isolated()
def attack(  # noqa: PLR0913 -- the one call of the array level; keywords with defaults
    x: Any,
    model: Any,
    features: Sequence[Feature],
    *,
    budget: Budget,
    direction: str = "signal",
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    solver: str | Solver = "transport",
    objective: str = "cross",
    output: str | Classes = "logit",
    working_point: float | Sequence[float] = 0.5,
    target: str = "all",
    seed: int = 0,
    device: str = "auto",
    fold: ArrayLike | None = None,
    watch: Mapping[str, tuple[Any, Any]] | None = None,
    valid: Callable[[dict[str, Any]], Any] | None = None,
    context: Mapping[str, ArrayLike] | None = None,
    penalty: float = 0.0,
) -> Attacked:
    """Perturb events so that a classifier is fooled while marginals and correlations are conserved.

    Parameters
    ----------
    x
        Features, NumPy array or torch tensor of shape (events, features).
    model
        ``nn.Module``, file of torch.export or TorchScript, ``Model(factory, state)``, ``Callback(function of
        a NumPy matrix)``, a fitted classifier of scikit-learn, XGBoost or LightGBM, or a list of these, one
        per fold. Any precision; evaluated in evaluation mode.
    features
        The columns of ``x``.
    budget
        Limits that hold in every group.
    direction
        ``signal`` or ``background``: where the score is moved.
    weights
        Shape (events,), any sign; 1 if not given.
    groups
        Non-negative integers of shape (events,), −1 for events that are left alone; one group if not given.
    solver
        ``transport``, ``search``, or the settings of one.
    objective
        ``cross``: as many events as possible cross the working point. ``score``: the mean score moves.
    output
        What the model gives for each event: one ``logit``, above 0 toward signal, one ``probability`` of
        signal, or several classes, of which :class:`coffea_conserv.Classes` makes one logit. Of a classifier
        it is known. Logits that never leave 0 … 1 are refused; ``narrow logit`` insists.
    working_point
        Score in 0 … 1. Of several ``cross`` crosses as many as it can, and the first one is the main one:
        that of ``target``, ``fooled`` and ``fooling_ratio``.
    target
        ``all`` events, or the ``correct`` ones: those that are not yet on the side that the attack moves to.
        The limits then hold for the sample of these events alone, as in the paper.
    seed
        The same seed gives the same events.
    device
        ``auto``, ``cpu`` or ``cuda``.
    fold
        Fold of each event, with a list of models.
    watch
        Derived quantity → (torch function of a dict name → tensor, axis).
    valid
        Torch function of such a dict; returns which events are possible.
    context
        Further columns for ``valid`` and ``watch``, shape (events,) each.
    penalty
        λ of a price on moves: the objective is gain − λ Σ (Δ/σ)² over the features with a resolution, where
        an event that crosses gains 1, or its score. No limit, not for ``search``, and 0 changes nothing.

    Returns
    -------
    Attacked
        Events, scores, verdict, and how far values moved.

    Raises
    ------
    ConfigurationError, InputError, ModelError
        Before anything expensive starts, with the offender and the remedy.

    References
    ----------
    Problem and name: arXiv 2603.13970. The exchange of values at a price is this project's own solver.

    Examples
    --------
    >>> import hist, numpy as np, torch
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(2000, 2)).astype(np.float32)
    >>> class Ring(torch.nn.Module):
    ...     def forward(self, x):
    ...         return 1 - (x**2).sum(1)
    >>> axis = hist.axis.Regular(50, -3, 3)
    >>> features = [Feature("x", axis), Feature("y", axis)]
    >>> result = attack(x, Ring(), features, budget=Budget(rms=0.0, correlation=0.01), seed=1)
    >>> result.verdict.passed, result.fooling_ratio > 0.05
    (True, True)
    >>> bool((np.sort(result.x[:, 0]) == np.sort(x[:, 0])).all())
    True
    """
    asked = Request(
        budget=budget,
        direction=direction,
        weights=weights,
        groups=groups,
        solver=solver,
        objective=objective,
        output=output,
        working_point=working_point,
        target=target,
        seed=seed,
        device=device,
        fold=fold,
        watch=watch,
        valid=valid,
        context=context,
        penalty=penalty,
    )

    def at(place: Place) -> Attacked:
        ready = prepare(x, model, features, asked, place)
        return ready.finish(perturb(ready.batch, ready.task, ready.models, direction, seed, ready.device))

    return in_memory(device, at)[0]


@dataclass(frozen=True, kw_only=True)
class Request:
    """Arguments of :func:`attack` beside events, model and features, as they were given."""

    budget: Budget
    direction: str = "signal"
    weights: ArrayLike | None = None
    groups: ArrayLike | None = None
    solver: Any = "transport"
    objective: str = "cross"
    output: str | Classes = "logit"
    working_point: float | Sequence[float] = 0.5
    target: str = "all"
    seed: int = 0
    device: str = "auto"
    fold: ArrayLike | None = None
    watch: Mapping[str, tuple[Any, Any]] | None = None
    valid: Callable[[dict[str, Any]], Any] | None = None
    context: Mapping[str, ArrayLike] | None = None
    penalty: float = 0.0


def check_options(function: str, options: Collection[str], others: str = "") -> None:
    """Raise unless a function that passes its options on to :func:`attack` knows all of them."""
    unknown = sorted(set(options) - set(Request.__dataclass_fields__))
    if unknown:
        msg = f"{function}() does not know {', '.join(unknown)}; it takes the arguments of attack{others}"
        raise ConfigurationError(msg)


@dataclass(frozen=True)
class Ready:
    """Checked arguments of an attack.

    Parameters
    ----------
    given
        Features as they were given.
    batch, task, models, place
        What an engine needs.
    direction
        ``signal`` or ``background``.
    nominal
        Score of each event, shape (events,).
    """

    given: Any
    batch: Batch
    task: Task
    models: Sequence[Any]
    place: Place
    direction: str
    nominal: NDArray[np.float32]

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return self.place.device

    def finish(self, outcome: Outcome) -> Attacked:
        """Scores, fooled events and verdict of what was moved."""
        batch, moved = self.batch, outcome.x
        attacked = scores(batch, self.models, moved, self.device)
        limits = outcome.limits
        if limits is None:
            signed = signed_scores(batch, moved, self.models, self.device)
            limits = judge_groups(batch, self.task, moved, signed)
        return Attacked(
            like(moved, batch.x, self.given),
            self.nominal,
            attacked,
            tuple(self._crossing(attacked, point) for point in self.task.points),
            outcome.unattacked,
            Verdict(limits, unattacked=list_unattacked(batch, outcome.reason)),
            measure_shifts(batch, self.task, moved),
            measure_statistics(batch, self.task),
            str(self.place),
        )

    def _crossing(self, attacked: NDArray[np.float32], point: float) -> Crossing:
        before, after = (short(score, point, self.direction) for score in (self.nominal, attacked))
        fooled, size = before & ~after, np.abs(self.batch.weight)
        start = size[before & (self.batch.group >= 0)].sum()
        return Crossing(point, fooled, float(size[fooled].sum() / start) if start > 0 else 0.0)


@isolated()
def prepare(x: Any, model: Any, features: Sequence[Feature], asked: Request, place: Place) -> Ready:
    """Check the arguments of an attack, load its models and evaluate the nominal scores."""
    features, settings = _checked(features, asked)
    matrix = make_matrix(x, features)
    where = place.device
    names = [feature.name for feature in features]
    handles = make_handles(model)
    models = load_models(handles, settled(handles, asked.output, names), place, names)
    batch = make_batch(
        matrix,
        weights=asked.weights,
        groups=asked.groups,
        fold=asked.fold,
        context=asked.context,
        models=len(models),
    )
    watched, points = make_watched(asked.watch, features), as_points(asked.working_point)
    penalty = float(asked.penalty)
    task = Task(
        features, watched, asked.budget, asked.objective, points, asked.valid, penalty, solver=settings
    )
    if len(matrix):
        few = torch.from_numpy(matrix[np.arange(max(2, min(len(matrix), 64))) % len(matrix)])
        check_network(models, few.to(where), names, lambda: stretched(features))
        check_functions(task, few)
        possible(batch, task)
    nominal = scores(batch, models, matrix, where)
    check_scores(nominal, matrix, features)
    if asked.target == "correct":
        correct = short(nominal, points[0], asked.direction)
        batch = replace(batch, group=np.where(correct, batch.group, -1))
    return Ready(x, batch, task, models, place, asked.direction, nominal)


def _checked(features: Sequence[Feature], asked: Request) -> tuple[tuple[Feature, ...], Any]:
    """Features and settings of the solver, where all that needs no events is right."""
    features = check_features(features)
    check_choice("direction", asked.direction, DIRECTIONS)
    check_choice("objective", asked.objective, OBJECTIVES)
    check_choice("target", asked.target, TARGETS)
    check_output(asked.output)
    as_points(asked.working_point)
    check_settings(asked.budget, asked.seed, asked.device)
    check_moves(asked.penalty, features, named_solver(asked.solver))
    asked.budget.check_features([feature for feature in features if not feature.frozen])
    return features, named_solver(asked.solver)
