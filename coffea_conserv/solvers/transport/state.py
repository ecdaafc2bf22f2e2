"""State of the solver, and what may change next: frozen values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from coffea_conserv.solvers.constraints import Prices, Totals

__all__ = ("Answers", "Offers", "Pairs", "State", "picked")


@dataclass(frozen=True)
class State:
    """Where the solver is; never changed in place.

    Parameters
    ----------
    x, z
        Current features, and the same in units of the spread of their group (0 where missing), shape
        (events, features).
    logit
        Of the current events, shape (events,).
    cells
        Bins of the limited tables, shape (events, tables).
    totals
        Sums over the events.
    multipliers
        Of the limits.
    stiffness
        Of the limits on correlations and on tables, shape (groups, 2).
    landed
        Groups that have kept all limits after some step of the landing, shape (groups,).
    step
        Number of steps done.
    """

    x: Tensor
    z: Tensor
    logit: Tensor
    cells: Tensor
    totals: Totals
    multipliers: Prices
    stiffness: Tensor
    landed: Tensor
    step: int


@dataclass(frozen=True)
class Pairs:
    """Events that may exchange the values of one feature, or of some that move together.

    No event is in two pairs.

    Parameters
    ----------
    event
        Both events, shape (2, pairs).
    feature
        Shape (pairs, members); where fewer features move together the first one is repeated.
    """

    event: Tensor
    feature: Tensor

    def part(self, which: slice) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.event[:, which], self.feature[which])


@dataclass(frozen=True)
class Answers:
    """What the model says about both events of every pair, with the values of the other.

    Parameters
    ----------
    logit
        Shape (2, pairs).
    gain
        Weighted gain, −∞ for an impossible event, shape (2, pairs).
    derived
        Bins of derived quantities, shape (2, pairs, derived tables).
    """

    logit: Tensor
    gain: Tensor
    derived: Tensor

    def part(self, which: slice) -> Answers:
        """Those about some of the pairs."""
        return Answers(self.logit[:, which], self.gain[:, which], self.derived[:, which])


@dataclass(frozen=True)
class Offers:
    """Pairs, and both of their events as they are and as they would be with the values of the other.

    Parameters
    ----------
    pairs
        Which events and features.
    group
        Of each pair, shape (pairs,).
    weight
        Shape (2, pairs).
    x
        New values of the features, shape (2, pairs, members).
    z
        All features, shape (2, pairs, features): as they are, and half-way for features that move together,
        so that products of two of these change by δ(z_j z_k) = δ_j z_k + δ_k z_j.
    there
        Which features are present, same shape; ``None`` if all are.
    old, new
        The features in units of the spread of the group, now and then, shape (2, pairs, members). They are
        the same where a feature is only repeated.
    logit
        New logits, shape (2, pairs).
    tables
        Limited tables in which something may change, shape (pairs, columns): one for each member, if their
        marginals have tables, then those of derived quantities.
    cells, moved
        Bins in these tables now and then, shape (2, pairs, columns).
    gain
        Weighted gain, −∞ for an impossible event, shape (2, pairs).
    """

    pairs: Pairs
    group: Tensor
    weight: Tensor
    x: Tensor
    z: Tensor
    there: Tensor | None
    old: Tensor
    new: Tensor
    logit: Tensor
    tables: Tensor
    cells: Tensor
    moved: Tensor
    gain: Tensor

    @property
    def members(self) -> int:
        """Largest number of features that move together."""
        return self.pairs.feature.shape[1]


def picked(mask: Tensor) -> tuple[Tensor, ...]:
    """Indices of all that may be true in a mask.

    On a GPU these are all there are, because counting would stop the host until the device has done its work:
    what is done with them must be nothing where the mask is false.

    Parameters
    ----------
    mask
        Of any shape.

    Returns
    -------
    tuple
        One index per dimension.
    """
    if mask.device.type == "cpu":
        return mask.nonzero(as_tuple=True)
    every = torch.arange(mask.numel(), device=mask.device)
    return torch.unravel_index(every, mask.shape)
