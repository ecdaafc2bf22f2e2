"""Controls: what must have no effect, what chance does, and what other mismodellings would do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.attacks.api import Attacked, Ready, Request, check_options, prepare
from coffea_conserv.attacks.engine import Outcome, perturb, signed_scores
from coffea_conserv.attacks.event_rules import movable_events, obeying
from coffea_conserv.attacks.judging import judge_groups
from coffea_conserv.features.feature import Feature, present
from coffea_conserv.limits.budget import Budget
from coffea_conserv.models.device import Place, in_memory, isolated
from coffea_conserv.studies.baselines import baselines

__all__ = ("Control", "run_controls")

Floats = NDArray[np.float64]

HALVINGS = 8
"""Halvings of the interval in which the largest mismodelling inside the limits is looked for."""

LARGEST = 1.0
"""Largest injected mismodelling, in units of the spread of a feature."""

SIZE = 0.5
"""Size of one that only some of the events have, in the same units."""


@dataclass(frozen=True)
class Control:
    """What something other than the attack does to the score.

    Parameters
    ----------
    kind
        ``attack``, ``none`` (must have no effect), ``residual``, ``random``, ``half`` or ``mismodelling``.
    name
        What was done.
    score_shift
        Change of the weighted mean score.
    yield_shift
        Relative change of the weight above the (first) working point; ``nan`` where there is none.
    error
        Statistical error of ``score_shift``: of the differences of the same events.
    inside
        Whether it is within the limits.
    share
        ``score_shift`` over that of the attack.
    passed
        Whether it is as it must be: no effect, less than the attack, or the same in both halves within three
        errors.
    tested
        Whether it tests anything: nothing that could be moved within the limits is no test.
    """

    kind: str
    name: str
    score_shift: float
    yield_shift: float
    error: float
    inside: bool
    share: float
    passed: bool
    tested: bool = True

    @property
    def outcome(self) -> str:
        """``as it must be``, ``not as it must be`` or ``no test``."""
        if not self.tested:
            return "no test"
        return "as it must be" if self.passed else "not as it must be"


@isolated()
def run_controls(
    x: Any, model: Any, features: Sequence[Feature], *, budget: Budget, **options: Any
) -> tuple[Control, ...]:
    """Attack, and compare with what must be smaller.

    Parameters
    ----------
    x, model, features, budget, **options
        As for :func:`coffea_conserv.attack`; the objective is ``score`` unless another one is given.

    Returns
    -------
    tuple of Control
        - the attack itself;
        - ``Budget(move=0)``, which must leave every event as it is;
        - the attack with marginals and correlations kept exactly: what a limit of 0 leaves;
        - random moves within the same limits;
        - the attack of two random halves: as separate samples they must agree;
        - each feature shifted, and stretched about its mean, as far as the judge finds it inside of the
          limits, both ways, and the larger effect taken: mismodellings that a validation would pass. Where
          the limits allow no size for all events, some of the events are changed by half a spread, as many as
          are inside. An attack that is beaten by one of them is not the largest shift. Where nothing at all
          can be moved there is no test.

    Raises
    ------
    ConfigurationError, InputError, ModelError
        As :func:`coffea_conserv.attack`.

    Examples
    --------
    >>> import hist, numpy as np, torch
    >>> x = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
    >>> class Ring(torch.nn.Module):
    ...     def forward(self, x):
    ...         return 1 - (x**2).sum(1)
    >>> axis = hist.axis.Regular(50, -3, 3)
    >>> features = [Feature("x", axis), Feature("y", axis)]
    >>> rows = run_controls(x, Ring(), features, budget=Budget(rms=0.05, correlation=0.01))
    >>> rows[1].kind, rows[1].score_shift, all(row.passed for row in rows)
    ('none', 0.0, True)
    """
    check_options("run_controls", options)
    asked = Request(budget=budget, **{"objective": "score", **options})

    def at(place: Place) -> tuple[Control, ...]:
        ready = prepare(x, model, features, asked, place)
        arguments = {**vars(asked), "names": ["random"]}
        for left_out in ("solver", "objective", "penalty"):
            arguments.pop(left_out)
        random = baselines(x, model, features, **arguments)["random"]
        return _controls(ready, asked, random)

    return in_memory(asked.device, at)[0]


def _controls(ready: Ready, asked: Request, random: Attacked) -> tuple[Control, ...]:
    """Rows of all controls, random moves among them."""
    attacked = _attack(ready, asked)
    rows = [_row("attack", "the attack", ready, attacked)]
    for kind, name, other in (
        ("none", "Budget(move=0)", Budget(move=0)),
        ("residual", "marginals and correlations exact", Budget(rms=0.0, correlation=0.0)),
    ):
        within = replace(ready, task=replace(ready.task, budget=other))
        rows.append(_row(kind, name, within, _attack(within, asked)))
    rows.append(_row("random", "random moves", ready, random))
    rows.extend(_halves(ready, asked))
    rows.extend(_mismodellings(ready))
    return tuple(_judged(rows))


def _attack(ready: Ready, asked: Request) -> Attacked:
    found = perturb(ready.batch, ready.task, ready.models, asked.direction, asked.seed, ready.device)
    return ready.finish(found)


def _row(kind: str, name: str, ready: Ready, found: Attacked, chosen: Any = None) -> Control:
    """Effect on the score of the events that are in a group, or of some of them."""
    batch = ready.batch
    mask = (batch.group >= 0) if chosen is None else chosen
    weight = batch.weight[mask]
    before, after = (score[mask].astype(np.float64) for score in (ready.nominal, found.score))
    moved = after - before
    total = float(weight.sum())
    shift = float((weight * moved).sum()) / total if total else math.nan
    error = float(np.sqrt((weight**2 * (moved - shift) ** 2).sum())) / total if total else math.nan
    above = [float(weight[score > ready.task.points[0]].sum()) for score in (before, after)]
    change = above[1] / above[0] - 1 if above[0] > 0 else math.nan
    tested = kind == "none" or any(row.moved_share > 0 for row in found.shifts)
    inside = not found.verdict.broken
    return Control(kind, name, shift, change, error, inside, math.nan, passed=True, tested=tested)


def _halves(ready: Ready, asked: Request) -> Iterator[Control]:
    """Attack both halves of the events on their own."""
    half = np.random.default_rng(asked.seed).permutation(len(ready.batch.x)) % 2 == 0
    for name, mask in (("one half of the events", half), ("the other half", ~half)):
        part = replace(ready, batch=replace(ready.batch, group=np.where(mask, ready.batch.group, -1)))
        yield _row("half", name, part, _attack(part, asked))


def _mismodellings(ready: Ready) -> Iterator[Control]:
    """Shift and stretch of every feature, as far as they are inside of the limits."""
    for j, feature in enumerate(ready.task.features):
        if feature.frozen or not feature.axis.traits.continuous:
            continue
        for name, change in (("shifted", _shifted), ("stretched", _stretched)):
            best: Control | None = None
            for sign in (1.0, -1.0):
                found = _largest(ready, j, change, sign)
                how = f"{name} by {found.size:+.3f} σ"
                part = "" if found.part == 1 else f" in {found.part:.2%} of the events"
                row = _row("mismodelling", f"{feature.name} {how}{part}", ready, found.result)
                if best is None or abs(row.score_shift) > abs(best.score_shift):
                    best = row
            if best is not None:
                yield best


class _Largest(NamedTuple):
    """Largest mismodelling inside of the limits: its size in σ, the share of events with it, its effect."""

    size: float
    part: float
    result: Attacked


def _largest(ready: Ready, j: int, change: Any, sign: float) -> _Largest:
    """Size of a change of all events, or where none fits the share of events with a fixed one."""

    def sized(size: float) -> NDArray[np.float32]:
        return np.asarray(change(ready, j, sign * size))

    def parted(part: float) -> NDArray[np.float32]:
        some = np.random.default_rng(j).random(len(ready.batch.x)) < part
        return np.where(some[:, None], sized(SIZE), ready.batch.x)

    size, part = _halved(ready, sized, LARGEST), 1.0
    moved = sized(size)
    if (moved == ready.batch.x).all():
        size, part = SIZE, _halved(ready, parted, 1.0)
        moved = parted(part)
    result = ready.finish(Outcome(moved, np.zeros(len(moved), dtype=np.int8)))
    return _Largest(sign * size, part, result)


def _halved(ready: Ready, change: Callable[[float], NDArray[np.float32]], largest: float) -> float:
    """Largest amount of a change that is inside of the limits, by halving the interval."""
    if _inside(ready, change(largest)):
        return largest
    low, high = 0.0, largest
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _inside(ready, change(middle)):
            low = middle
        else:
            high = middle
    return low


def _inside(ready: Ready, moved: NDArray[np.float32]) -> bool:
    """Whether the judge finds moved events within the limits."""
    signed = signed_scores(ready.batch, moved, ready.models, ready.device)
    return all(limit.passed for limit in judge_groups(ready.batch, ready.task, moved, signed))


def _shifted(ready: Ready, j: int, size: float) -> NDArray[np.float32]:
    return _changed(ready, j, lambda values, sigma: values + size * sigma)


def _stretched(ready: Ready, j: int, size: float) -> NDArray[np.float32]:
    return _changed(ready, j, lambda values, _: values.mean() + (1 + size) * (values - values.mean()))


def _changed(ready: Ready, j: int, change: Any) -> NDArray[np.float32]:
    """Features with one of them changed where it is present; events that may not be so stay as they are."""
    batch, feature = ready.batch, ready.task.features[j]
    movable = movable_events(batch, ready.task)
    there = movable & present(feature, batch.x[:, j])
    values = batch.x[there, j].astype(np.float64)
    moved = batch.x.copy()
    if len(values):
        new = change(values, float(values.std()))
        if feature.axis.traits.circular:
            start, span = float(feature.axis.edges[0]), float(np.ptp(feature.axis.edges))
            new = start + np.mod(new - start, span)
        moved[there, j] = new
    fine = obeying(batch, ready.task, moved, movable, ready.device)
    return np.where(fine[:, None], moved, batch.x)


def _judged(rows: Sequence[Control]) -> Iterator[Control]:
    """Complete the rows with their share of the attack, and with whether they are as they must be."""
    attack = rows[0].score_shift
    halves = [row for row in rows if row.kind == "half"]
    apart = abs(halves[0].score_shift - halves[1].score_shift)
    alike = apart <= 3 * math.hypot(halves[0].error, halves[1].error) + 0.1 * abs(attack)
    for row in rows:
        share = row.score_shift / attack if attack else math.nan
        passed = {
            "none": row.score_shift == 0,
            "half": alike,
            "mismodelling": abs(row.score_shift) <= abs(attack) or not row.inside,
            "random": abs(row.score_shift) <= abs(attack),
        }.get(row.kind, row.inside)
        yield replace(row, share=share, passed=bool(passed))
