"""Limits as sets, and what it costs to use them up.

Every limit is a set in which the deviations of sums from nominal must stay: a ball for correlations, for
r.m.s. deviations and for Jensen–Shannon distances, a box for single correlations, bands, floors, and for
cumulative distributions. A set is enforced by an augmented Lagrangian: with multipliers λ, a stiffness ρ and
the projection Π onto the set, a deviation u has the price ρ (v − Π v) with v = u + λ/ρ (J. Nocedal and
S. J. Wright, Numerical Optimization, chapter 17).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from coffea_conserv.solvers.constraints import BAND, KUIPER, RMS, STEP, Limits, Prices, Totals

__all__ = ("Room", "penalty")


@dataclass(frozen=True)
class Room:
    """The sets of the augmented Lagrangian: a part of each limit, so that fluctuations stay inside of it.

    Parameters
    ----------
    limits
        The limits.
    full
        Share of a limit that is aimed at.
    edge
        The same for each bin of a band, where the last events are the hardest to place.
    """

    limits: Limits
    full: float
    edge: float

    def prices(self, totals: Totals, multipliers: Prices, stiffness: Tensor) -> Prices:
        """Prices ρ (v − Π v) at the present sums.

        Parameters
        ----------
        totals, multipliers
            Where the sums are, and λ.
        stiffness
            ρ of correlations and of tables, shape (groups, 2).
        """
        limits = self.limits
        rho = stiffness[:, 0, None, None]
        shift, element = limits.shift(totals), None
        v = shift + multipliers.correlation / rho
        correlation = rho * _outside(v, self.full * limits.correlation[:, None, None], (1, 2))
        if limits.element is not None and multipliers.element is not None:
            v, bound = shift + multipliers.element / rho, self.full * limits.element
            element = rho * (v - v.clamp(-bound, bound))
        if not limits.kind.numel():
            return Prices(correlation, multipliers.tables, element, multipliers.further)
        rho = stiffness[:, 1, None, None]
        unit = torch.sqrt(limits.scale(totals.content) * limits.sizes())
        v = (totals.content - limits.reference) / unit + multipliers.tables / rho
        v = torch.cat([v[..., :-1], torch.zeros_like(v[..., -1:])], dim=-1)
        ball = _outside(v, self.full * limits.table[..., None], (2,))
        tables = torch.where(limits.kind[:, None] >= BAND, v - v.clamp(*self._box(unit)), ball)
        return Prices(correlation, rho * tables, element, self._further(totals, multipliers, rho))

    def _further(self, totals: Totals, multipliers: Prices, rho: Tensor) -> Tensor | None:
        """Prices of the further limits on tables."""
        further = self.limits.further
        if further is None or multipliers.further is None:
            return None
        v = self.limits.steps(totals.content) + multipliers.further / rho
        v = torch.cat([v[..., :-1], torch.zeros_like(v[..., -1:])], dim=-1)
        ball = _outside(v, self.full * further.limit[..., None], (2,))
        # no arc changes by more than both of its ends do
        unit = STEP * torch.where(further.kind == KUIPER, 0.5, 1.0)
        bound = (self.edge * further.limit * unit)[..., None]
        outside: Tensor = rho * torch.where((further.kind == RMS)[:, None], ball, v - v.clamp(-bound, bound))
        return outside

    def _box(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest deviations of bins, shape (groups, tables, bins)."""
        limits = self.limits
        low, high = (self.edge * part / unit for part in limits.range())
        if limits.floor is None:
            return -low, high
        least = (limits.floor[:, 1] - limits.reference[:, -1]) / unit[:, -1]
        return (
            torch.cat([-low[:, :-1], least[:, None]], dim=1),
            torch.cat([high[:, :-1], torch.full_like(least, torch.inf)[:, None]], dim=1),
        )


def penalty(prices: Prices, stiffness: Tensor) -> Tensor:
    """Value of the augmented Lagrangian's penalty where it has these prices, shape (groups,)."""
    squares = [(prices.correlation**2).sum((1, 2)), (prices.tables**2).sum((1, 2))]
    for place, more in enumerate((prices.element, prices.further)):
        if more is not None:
            squares[place] = squares[place] + (more**2).sum((1, 2))
    total: Tensor = (torch.stack(squares, dim=1) / (2 * stiffness)).sum(1)
    return total


def _outside(v: Tensor, radius: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Part of v that sticks out of a ball."""
    norm = torch.linalg.vector_norm(v, dim=dims, keepdim=True)
    share: Tensor = (1 - radius / norm.clamp(min=1e-300)).clamp(min=0)
    return v * share
