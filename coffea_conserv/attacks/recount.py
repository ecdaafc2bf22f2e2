"""Sums of a problem counted anew from its events: the plain way, for solvers that need not be fast."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from coffea_conserv.attacks.limits import Totals
from coffea_conserv.attacks.problem import Problem, standard, sum_moments
from coffea_conserv.features.binning import flow_index

__all__ = ("recount",)


def recount(problem: Problem, x: Tensor, logit: Tensor) -> Totals:
    """Sums over events with given features, as the limits see them.

    Parameters
    ----------
    problem
        Whose events.
    x, logit
        Features and their logits, shape (events, features) and (events,).

    Returns
    -------
    Totals
        Equal to ``problem.totals`` for the nominal events.
    """
    z = standard(x, problem.there, problem.mean, problem.spread, problem.group)
    _, first, second, cross = sum_moments(z, problem.there, problem.weight, problem.group)
    shape = problem.limits.reference.shape
    cells = _cells(problem, x, logit)
    content = torch.zeros(shape, dtype=torch.float64, device=x.device)
    if cells.shape[1]:
        tables = torch.arange(shape[1], device=x.device)
        place = (problem.group[:, None] * shape[1] + tables) * shape[2] + cells
        weight = problem.weight[:, None].expand(place.shape)
        content.view(-1).index_add_(0, place.reshape(-1), weight.reshape(-1))
    return Totals(first, second, cross, content)


def _cells(problem: Problem, x: Tensor, logit: Tensor) -> Tensor:
    """Bins of all limited tables, the last one where a value is not there, shape (events, tables)."""
    last = problem.limits.reference.shape[2] - 1
    columns = []
    for j in (problem.table >= 0).nonzero()[:, 0].tolist():  # tables of marginals follow the features
        there = problem.there[:, j].cpu().numpy()
        index = np.full(len(x), last, dtype=np.int64)
        index[there] = flow_index(problem.features[j].axis, x[:, j].cpu().numpy()[there])
        columns.append(torch.as_tensor(index, device=x.device))
    event = torch.arange(len(x), device=x.device)
    return torch.cat([*(c[:, None] for c in columns), problem.locate.derived(x, logit, event).long()], dim=1)
