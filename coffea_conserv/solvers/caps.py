"""Caps and prices of displacements, for candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coffea_conserv.features.feature import Feature

__all__ = ("Reach",)


@dataclass(frozen=True)
class Reach:
    """Caps and resolutions of the features, as defined in :mod:`coffea_conserv.limits.displacement`.

    Parameters
    ----------
    start
        Nominal features, shape (events, features).
    period
        Length of the circle of each feature, infinite if there is none; float64 of shape (features,), as are
        all that follow.
    cap, share
        Largest |Δ|, and largest |Δ| over |value|; infinite if there is none.
    noise, scale
        Resolution, absolute and relative. Both are 0 where none is declared.
    price
        λ where there is a resolution, else 0: what (Δ/σ)² = 1 costs, in units of the gain of an event.
    """

    start: Tensor
    period: Tensor
    cap: Tensor
    share: Tensor
    noise: Tensor
    scale: Tensor
    price: Tensor

    @staticmethod
    def make(start: Tensor, features: Sequence[Feature], penalty: float) -> Reach | None:
        """Caps and costs of some features; ``None`` if there is nothing of the kind."""
        if not (any(f.capped for f in features) or (penalty > 0 and any(f.resolved for f in features))):
            return None

        def column(values: list[float | None], default: float) -> Tensor:
            numbers = [default if value is None else float(value) for value in values]
            return torch.tensor(numbers, dtype=torch.float64, device=start.device)

        return Reach(
            start,
            column([f.period for f in features], torch.inf),
            column([f.max_shift for f in features], torch.inf),
            column([f.max_relative_shift for f in features], torch.inf),
            column([f.resolution for f in features], 0.0),
            column([f.relative_resolution for f in features], 0.0),
            column([penalty if f.resolved else 0.0 for f in features], 0.0),
        )

    @property
    def capped(self) -> Tensor:
        """Which features have a cap, shape (features,)."""
        return torch.isfinite(self.cap) | torch.isfinite(self.share)

    @property
    def priced(self) -> bool:
        """Whether moves cost something."""
        return bool((self.price > 0).any())

    def distance(self, event: Tensor, feature: Tensor, x: Tensor) -> Tensor:
        """|Δ| of values of some features of some events, all of one shape."""
        delta = (x.double() - self.start[event, feature].double()).abs()
        period = self.period[feature]
        delta = torch.where(torch.isfinite(period), torch.fmod(delta, period), delta)
        return torch.minimum(delta, period - delta)

    def allowed(self, event: Tensor, feature: Tensor) -> Tensor:
        """Largest |Δ|, infinite where there is no cap."""
        share, size = self.share[feature], self.start[event, feature].double().abs()
        return torch.minimum(self.cap[feature], torch.where(torch.isfinite(share), share * size, share))

    def allows(self, event: Tensor, feature: Tensor, x: Tensor) -> Tensor:
        """Whether values are within the caps."""
        return self.distance(event, feature, x) <= self.allowed(event, feature)

    def cost(self, event: Tensor, feature: Tensor, x: Tensor) -> Tensor:
        """λ (Δ/σ)² of values, float64; infinite where σ is 0."""
        size = self.start[event, feature].double().abs()
        sigma = torch.hypot(self.noise[feature], self.scale[feature] * size)
        price, delta = self.price[feature], self.distance(event, feature, x)
        return torch.where((delta > 0) & (price > 0), price * (delta / sigma) ** 2, 0.0)

    def toll(self, event: Tensor, feature: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """How much more new values cost an event than old ones; infinite where one leaves its cap.

        Parameters
        ----------
        event
            Shape (candidates,).
        feature, old, new
            Features that move together and their values, shape (candidates, members); one that is there
            again, as in :attr:`coffea_conserv.solvers.transport.state.Pairs.feature`, counts once.
        """
        at = event[:, None].expand(feature.shape), feature
        change = self.cost(*at, new) - self.cost(*at, old)
        change = torch.where(self.allows(*at, new), change, torch.inf)
        change[:, 1:] = torch.where(feature[:, 1:] == feature[:, :1], 0.0, change[:, 1:])
        return change.sum(1)

    def total(self, x: Tensor) -> Tensor:
        """Σ λ (Δ/σ)² over the features of all events, shape (events,)."""
        event = torch.arange(len(x), device=x.device)
        found = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for j in (self.price > 0).nonzero()[:, 0]:
            found += self.cost(event, j.expand(len(x)), x[:, j])
        return found
