"""Direction in which a value has to go to fool the model: by its gradient, or from other events.

Where a model has no gradient, each event borrows the value of one feature from a few other events of its
group, its donors, one after the other. The donor that changes the score most says which way the feature goes:
toward the donor if the change is wanted, away from it if not. Unlike a small step this works for trees too,
which do not change at all over a small distance.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv.models.network import slopes
from coffea_conserv.solvers.problem import Problem

__all__ = ("by_donors", "by_gradient")

Signs = NDArray[np.float32]

_CHUNK = 16_384
"""Events that are evaluated at a time."""


def by_gradient(problem: Problem, x: Tensor) -> Signs:
    """Which way every feature lowers the loss, +1, −1 or 0, shape (events, features).

    Parameters
    ----------
    problem
        With a model that has gradients.
    x
        Current features, shape (events, features).
    """
    found = []
    for part in torch.split(torch.arange(len(x), device=x.device), _CHUNK):
        gradient = slopes(problem.logit, x[part], part, [feature.name for feature in problem.features])
        found.append(torch.zeros_like(x[part]) if gradient is None else torch.nan_to_num(gradient).sign())
    signs: Signs = (problem.objective.sign * torch.cat(found).detach()).cpu().numpy()
    return signs


def by_donors(
    problem: Problem, x: Tensor, logit: Tensor, rows: Tensor, donors: int, rng: np.random.Generator
) -> Signs:
    """Tell the same from what values of other events would change.

    Parameters
    ----------
    problem
        With any model.
    x, logit
        Current features and logits, shape (events, features) and (events,).
    rows
        Index of the events that are to be moved.
    donors
        Number of donors of each value.
    rng
        Source of the donors.
    """
    signs = torch.zeros_like(x)
    for part in torch.split(rows, _CHUNK):
        for j in np.flatnonzero(problem.free.any(0).cpu().numpy()).tolist():
            best = torch.zeros_like(logit[part])
            for _ in range(donors):
                change, way = _tried(problem, x, logit, part, j, rng)
                ahead = change.abs() > best
                best = torch.where(ahead, change.abs(), best)
                signs[part, j] = torch.where(ahead, way * change.sign(), signs[part, j])
    found: Signs = (problem.objective.sign * signs).cpu().numpy()
    return found


def _tried(
    problem: Problem, x: Tensor, logit: Tensor, rows: Tensor, j: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Change of the logits with a value of a random donor, 0 where there is none, and which way that lies."""
    donor = _donors(problem, rows, rng)
    step = x[donor, j] - x[rows, j]
    axis = problem.features[j].axis
    if axis.traits.circular:
        period = float(axis.edges[-1] - axis.edges[0])
        step = torch.remainder(step + period / 2, period) - period / 2
    there = problem.there[donor, j] & problem.free[rows, j]
    candidates = x[rows]
    candidates[:, j] = torch.where(there, x[donor, j], candidates[:, j])
    change = problem.logit(candidates, rows) - logit[rows]
    return torch.where(there & torch.isfinite(change), change, 0.0), step.sign()


def _donors(problem: Problem, rows: Tensor, rng: np.random.Generator) -> Tensor:
    """A random event of the group of each event, itself at times."""
    count = torch.bincount(problem.group)
    start = count.cumsum(0) - count
    group = problem.group[rows]
    mixed = torch.as_tensor(rng.random(len(rows)), device=rows.device)
    return start[group] + torch.minimum((mixed * count[group]).long(), count[group] - 1)
