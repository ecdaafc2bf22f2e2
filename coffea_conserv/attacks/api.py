"""Attack arrays: the entry for anybody who has a matrix of features and a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from coffea_conserv.attacks.batch import Batch, Task, check_functions, check_scores, possible, scores
from coffea_conserv.attacks.engine import perturb, signed_scores
from coffea_conserv.attacks.judging import judge_groups
from coffea_conserv.attacks.model import make_handles
from coffea_conserv.attacks.network import check_network
from coffea_conserv.attacks.transport import Transport
from coffea_conserv.budget import Budget
from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.features import Feature, check_features, feature_matrix, make_watched
from coffea_conserv.verdict import Verdict

__all__ = (
    "SOLVERS",
    "Attacked",
    "attack",
    "check_choice",
    "check_settings",
    "check_working_point",
    "named_solver",
    "pick_device",
)

SOLVERS = {"transport": Transport()}
"""Solvers by name."""

DIRECTIONS = ("signal", "background")
OBJECTIVES = ("score", "cross")
TARGETS = ("all", "correct")


@dataclass(frozen=True)
class Attacked:
    """Result of :func:`attack`.

    Parameters
    ----------
    x
        Attacked features, of the shape and kind that was given.
    score_nominal, score
        Score of each event before and after, shape (events,).
    fooled
        Events that crossed the working point in the direction of the attack, shape (events,).
    fooling_ratio
        Σ|w| of the fooled events over Σ|w| of those that were on the other side.
    unattacked
        Events that stayed nominal because their group is too small or could not be moved, shape (events,).
    verdict
        Every limit in every group, judged on ``x``.
    """

    x: Any
    score_nominal: NDArray[np.float32]
    score: NDArray[np.float32]
    fooled: NDArray[np.bool_]
    fooling_ratio: float
    unattacked: NDArray[np.bool_]
    verdict: Verdict


def attack(  # noqa: PLR0913 -- the one call of the array level; keywords with defaults
    x: Any,
    model: Any,
    features: Sequence[Feature],
    *,
    budget: Budget,
    direction: str = "signal",
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    solver: str | Transport = "transport",
    objective: str = "cross",
    working_point: float = 0.5,
    target: str = "all",
    seed: int = 0,
    device: str = "auto",
    fold: ArrayLike | None = None,
    watch: Mapping[str, tuple[Any, Any]] | None = None,
    valid: Callable[[dict[str, Any]], Any] | None = None,
    context: Mapping[str, ArrayLike] | None = None,
) -> Attacked:
    """Perturb events so that a classifier is fooled while marginals and correlations are conserved.

    Parameters
    ----------
    x
        Features, NumPy array or torch tensor of shape (events, features).
    model
        One logit per event, above 0 toward signal: ``nn.Module``, file of torch.export, ``Model(factory,
        state)``, or a list of these, one per fold.
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
        ``transport``, or its settings.
    objective
        ``cross``: as many events as possible cross the working point. ``score``: the mean score moves.
    working_point
        Score in 0 … 1.
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

    Returns
    -------
    Attacked
        Events, scores and verdict.

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
    features = check_features(features)
    check_choice("direction", direction, DIRECTIONS)
    check_choice("objective", objective, OBJECTIVES)
    check_choice("target", target, TARGETS)
    check_working_point(working_point)
    check_settings(budget, seed, device)
    budget.check_features([feature.name for feature in features if not feature.frozen])
    settings = named_solver(solver)
    matrix = _matrix(x, features)
    where = pick_device(device)
    models = [handle.load(where) for handle in make_handles(model)]
    batch = _batch(matrix, (weights, groups, fold, context), len(models))
    task = Task(features, make_watched(watch, features), budget, objective, working_point, valid, settings)
    if len(matrix):
        few = torch.from_numpy(matrix[np.arange(max(2, min(len(matrix), 64))) % len(matrix)])
        check_network(models, few.to(where), [f.name for f in features])
        check_functions(task, few)
        possible(batch, task)
    nominal = scores(batch, models, matrix, where)
    check_scores(nominal, matrix, features)
    sign = 1.0 if direction == "signal" else -1.0
    before = sign * (nominal - working_point) <= 0
    if target == "correct":
        batch = Batch(matrix, batch.weight, np.where(before, batch.group, -1), batch.fold, batch.context)
    outcome = perturb(batch, task, models, direction, seed, where)
    attacked = scores(batch, models, outcome.x, where)
    fooled = before & (sign * (attacked - working_point) > 0)
    size = np.abs(batch.weight)
    start = size[before & (batch.group >= 0)].sum()
    ratio = float(size[fooled].sum() / start) if start > 0 else 0.0
    return Attacked(
        _like(outcome.x, matrix, x),
        nominal,
        attacked,
        fooled,
        ratio,
        outcome.unattacked,
        Verdict(judge_groups(batch, task, outcome.x, signed_scores(batch, outcome.x, models, where))),
    )


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise unless the value is one of the choices."""
    if value not in choices:
        msg = f"{name}={value!r} is not known; choose one of {', '.join(choices)}"
        raise ConfigurationError(msg)


def check_working_point(value: float) -> None:
    """Raise unless the working point is a score between 0 and 1."""
    if not 0 < value < 1:
        msg = f"working_point={value} must lie between 0 and 1: it is a score, sigmoid(logit)"
        raise ConfigurationError(msg)


def check_settings(budget: Any, seed: Any, device: Any) -> None:
    """Check what has a type and no check of its own."""
    msg = ""
    if not isinstance(budget, Budget):
        msg = f"budget must be a Budget, such as Budget(rms=0.05), got {budget!r}"
    elif isinstance(seed, bool) or not isinstance(seed, Integral):
        msg = f"seed must be an integer, got {seed!r}"
    elif not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(device)):
        msg = f"device={device!r} is not known; choose one of auto, cpu, cuda"
    if msg:
        raise ConfigurationError(msg)


def named_solver(solver: Any) -> Transport:
    """Settings of a solver that is given by name or by its settings."""
    if isinstance(solver, Transport):
        return solver
    if not isinstance(solver, str):
        msg = f"solver must be a name or the settings of one, got {solver!r}"
        raise ConfigurationError(msg)
    check_choice("solver", solver, tuple(SOLVERS))
    return SOLVERS[solver]


def pick_device(device: str) -> torch.device:
    """Device of a name; ``auto`` takes CUDA where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made = torch.device(device)
    if made.type == "cuda" and not torch.cuda.is_available():
        msg = f"device={device!r}, but torch sees no CUDA device here; use device='auto' or 'cpu'"
        raise ConfigurationError(msg)
    return made


def _matrix(x: Any, features: tuple[Feature, ...]) -> NDArray[np.float32]:
    array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    if array.ndim != 2 or array.shape[1] != len(features):
        msg = f"x must have shape (events, {len(features)}) for {len(features)} features, got {array.shape}"
        raise InputError(msg)
    return feature_matrix({f.name: array[:, j] for j, f in enumerate(features)}, features)


def _batch(matrix: NDArray[np.float32], given: tuple[Any, Any, Any, Any], models: int) -> Batch:
    weights, groups, fold, context = given
    count = len(matrix)
    weight = np.ones(count) if weights is None else np.array(weights, dtype=np.float64)
    group = np.zeros(count, dtype=np.int64) if groups is None else _whole("groups", groups)
    if models > 1 and fold is None:
        msg = f"{models} models need fold=, the fold of each event in 0 … {models - 1}"
        raise InputError(msg)
    folds = None if fold is None else _whole("fold", fold)
    columns = {name: np.asarray(values) for name, values in (context or {}).items()}
    for name, array in {"weights": weight, "groups": group, "fold": folds, **columns}.items():
        if array is not None and array.shape != (count,):
            msg = f"{name} must have shape ({count},), one value per event, got {array.shape}"
            raise InputError(msg)
    if not np.isfinite(weight).all():
        bad = int((~np.isfinite(weight)).sum())
        msg = f"weights: {bad} of {count} are NaN or infinite; select these events away"
        raise InputError(msg)
    if folds is not None and count and models > 1 and not (folds.min() >= 0 and folds.max() < models):
        msg = f"fold must lie in 0 … {models - 1} for {models} models, got {folds.min()} … {folds.max()}"
        raise InputError(msg)
    return Batch(matrix, weight, group, folds, columns)


def _whole(name: str, values: Any) -> NDArray[np.int64]:
    """Whole numbers, −1 at least."""
    array = np.asarray(values)
    fine = array.dtype.kind in "iub" or (array.dtype.kind == "f" and bool((array == np.floor(array)).all()))
    if not fine or (array.size and array.min() < -1):
        example = array.reshape(-1)[:3].tolist()
        msg = f"{name} must be whole numbers from 0, or −1 for events that are left alone, got {example} …"
        raise InputError(msg)
    return array.astype(np.int64)


def _like(moved: NDArray[np.float32], nominal: NDArray[np.float32], given: Any) -> Any:
    """Attacked features in the kind and precision that was given; what did not move is unchanged."""
    if isinstance(given, torch.Tensor):
        array = _restored(moved, nominal, given.detach().cpu().numpy())
        return torch.from_numpy(array).to(given.device)
    return _restored(moved, nominal, np.asarray(given))


def _restored(moved: NDArray[np.float32], nominal: NDArray[np.float32], given: NDArray[Any]) -> NDArray[Any]:
    """Replace single-precision values by the given ones that they were rounded from."""
    if given.dtype == np.float32:
        return moved
    restored = given.copy()
    for j in range(given.shape[1]):
        rows = np.flatnonzero((moved[:, j] != nominal[:, j]) & ~np.isnan(nominal[:, j]))
        donors = np.argsort(nominal[:, j], kind="stable")
        among = donors[np.isin(donors, rows)]
        into = rows[np.argsort(moved[rows, j], kind="stable")]
        if np.array_equal(moved[into, j], nominal[among, j]):  # a permutation stays one
            restored[into, j] = given[among, j]
        else:
            place = np.searchsorted(nominal[donors, j], moved[rows, j])
            restored[rows, j] = given[donors[place], j]
    return restored
