"""Where a solver is, and what may change next: frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from coffea_conserv.attacks.limits import Prices, Totals

__all__ = ("Offers", "Pairs", "State")


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
    step: int


@dataclass(frozen=True)
class Pairs:
    """Events that may exchange the values of one feature; no event is in two pairs.

    Parameters
    ----------
    event
        Both events, shape (2, pairs).
    feature
        Shape (pairs,).
    """

    event: Tensor
    feature: Tensor


@dataclass(frozen=True)
class Offers:
    """Pairs, and both of their events as they are and as they would be with the value of the other.

    Parameters
    ----------
    pairs
        Which events and feature.
    group
        Of each pair, shape (pairs,).
    weight
        Shape (2, pairs).
    x
        New value of the feature, shape (2, pairs).
    z, there
        All features now, and which are present, shape (2, pairs, features).
    old, new
        The feature in units of the spread of the group, now and then, shape (2, pairs).
    logit
        New logits, same shape.
    cells, moved
        Bins now and then, shape (2, pairs, tables).
    gain
        Weighted gain, −∞ for an impossible event, shape (2, pairs).
    """

    pairs: Pairs
    group: Tensor
    weight: Tensor
    x: Tensor
    z: Tensor
    there: Tensor
    old: Tensor
    new: Tensor
    logit: Tensor
    cells: Tensor
    moved: Tensor
    gain: Tensor

    def part(self, which: slice) -> Offers:
        """Some of the pairs."""
        pairs = Pairs(self.pairs.event[:, which], self.pairs.feature[which])
        names = ("weight", "x", "z", "there", "old", "new", "logit", "cells", "moved", "gain")
        return Offers(pairs, self.group[which], *(getattr(self, name)[:, which] for name in names))
