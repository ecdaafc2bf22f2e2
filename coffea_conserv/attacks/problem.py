"""What a solver gets: events, groups, limits and the model, as tensors on one device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ("Objective", "Problem", "Tables", "correlations")

Evaluate = Callable[[Tensor, Tensor], Tensor]
Locate = Callable[[Tensor, Tensor, Tensor], Tensor]

RMS, JSD, BAND = 0, 1, 2
"""How a table is limited: by :class:`Tables` ``kind``."""


@dataclass(frozen=True)
class Tables:
    """Histograms that are limited: of watched quantities, and of features whose bins can change.

    Parameters
    ----------
    bins
        Bins of the quantities for candidate events: ``bins(x, feature_bins, event) -> (events, quantities)``,
        the last bin meaning "not there".
    content
        Nominal sums of weights, shape (groups, quantities, bins).
    limit
        Largest r.m.s. relative deviation, shape (groups, quantities).
    kind
        Shape (quantities,): ``RMS``; ``JSD``, which is the same but for a denominator that stays finite where
        an empty bin fills; ``BAND``, where ``limit`` is on the largest relative deviation of any bin.
    """

    bins: Locate
    content: Tensor
    limit: Tensor
    kind: Tensor


@dataclass(frozen=True)
class Objective:
    """What is made as large as possible: the weighted mean of the gain over all events.

    Parameters
    ----------
    kind
        ``score``: the score itself; ``cross``: crossing the working point.
    sign
        +1 toward signal, −1 toward background.
    offset
        Logit of the working point.
    """

    kind: str
    sign: float
    offset: float

    def gain(self, logit: Tensor, sharpness: float) -> Tensor:
        """Gain per event, in 0 … 1; a smooth step of the given sharpness for crossings."""
        if self.kind == "score":
            return torch.sigmoid(self.sign * logit)
        return torch.sigmoid(sharpness * self.sign * (logit - self.offset))

    def value(self, logit: Tensor) -> Tensor:
        """Count what the iterate is ranked by: the score, or whether it is across."""
        if self.kind == "score":
            return torch.sigmoid(self.sign * logit)
        return (self.sign * (logit - self.offset) > 0).to(logit.dtype)


@dataclass(frozen=True)
class Problem:
    """Events sorted by group and pool, and what limits them.

    Exchanges happen inside a *pool*: events of one group, of nearly equal weight and with the same values
    missing, so that an exchange conserves every marginal, pairwise-complete moments included.

    Parameters
    ----------
    x
        Nominal features, shape (events, features), float32.
    bins
        Bin of each feature value, shape (events, features).
    there
        Which values are present, shape (events, features).
    free
        Which values may move, same shape.
    weight
        Absolute weights in units of their mean in the group, shape (events,).
    group, pool
        Index per event; both ascend.
    logit
        Model: ``logit(x, event) -> (events,)`` for candidates of the events with the given index.
    valid
        Which candidates are possible events, same call; ``None`` if all are.
    correlation
        Largest Frobenius norm of the change of the correlation matrix, shape (groups,).
    tables
        Limited histograms, or ``None``.
    copies
        Whether marginals may change, so that values can be copied as well as exchanged.
    objective
        What is made large.
    """

    x: Tensor
    bins: Tensor
    there: Tensor
    free: Tensor
    weight: Tensor
    group: Tensor
    pool: Tensor
    logit: Evaluate
    valid: Evaluate | None
    correlation: Tensor
    tables: Tables | None
    copies: bool
    objective: Objective

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.correlation)


def correlations(x: Tensor, there: Tensor, weight: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Pairwise-complete weighted Pearson matrices by group.

    Parameters
    ----------
    x
        Features about an origin near their mean, 0 where missing, shape (events, features).
    there
        Which values are present, same shape and dtype.
    weight
        Shape (events,).
    sizes
        Number of events of each group; events are sorted by group.

    Returns
    -------
    tuple of torch.Tensor
        Matrices, shape (groups, features, features), and the change of each entry per unit of
        w·x_j·x_k, same shape; 0 where a pair has no spread. The slow twin is
        :func:`coffea_conserv.measures.correlation`.
    """
    matrices, rates = [], []
    for part, mask, w in zip(*(torch.split(t, sizes) for t in (x, there, weight)), strict=True):
        weighted = part * w[:, None]
        total = mask.T @ (mask * w[:, None])
        safe = total.clamp(min=1e-30)
        mean = (weighted.T @ mask) / safe
        variance = ((weighted * part).T @ mask) / safe - mean**2
        # single precision: the variance of a constant is rounding
        spread = (total > 0) & (variance > 1e-6)
        good = spread & spread.T
        scale = torch.where(good, variance * variance.T, torch.ones_like(variance)).sqrt()
        covariance = (weighted.T @ part) / safe - mean * mean.T
        matrix = torch.where(good, covariance / scale, torch.zeros_like(scale))
        matrices.append(matrix.fill_diagonal_(1.0))
        rates.append(torch.where(good, 1 / (safe * scale), torch.zeros_like(scale)).fill_diagonal_(0.0))
    return torch.stack(matrices), torch.stack(rates)
