"""Sampling noise: differences of two samples of one distribution, the floor under every limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from coffea_conserv.limits.measures import RMS_PER_JSD, jsd_floor

__all__ = ("Floors",)

_KOLMOGOROV = math.sqrt(math.pi / 2) * math.log(2)
"""Mean of the largest size of a Brownian bridge."""


@dataclass(frozen=True)
class Floors:
    """Typical differences of two samples of as many events each. A limit below is finer than they can see.

    Parameters
    ----------
    events
        Effective number of events (Σw)² / Σw² of each sample.
    bins, features
        Number of bins with content, and of features.

    Examples
    --------
    >>> floors = Floors(10_000.0, bins=41, features=10)
    >>> round(floors.jsd, 4), round(floors.rms, 4), round(floors.ks, 4), round(floors.correlation, 4)
    (0.038, 0.0894, 0.0123, 0.0424)
    """

    events: float
    bins: int
    features: int

    @property
    def jsd(self) -> float:
        """Jensen–Shannon distance, see :func:`coffea_conserv.limits.measures.jsd_floor`."""
        return jsd_floor(self.bins, self.events)

    @property
    def rms(self) -> float:
        """r.m.s. relative deviation of the bins, √(2 (B − 1) / n)."""
        return RMS_PER_JSD * self.jsd

    @property
    def band(self) -> float:
        """Relative deviation of a bin of average content, √(2 B / n)."""
        return self._noise * math.sqrt(self.bins)

    @property
    def ks(self) -> float:
        """Largest difference of cumulative distributions, 0.869 √(2 / n) on average for fine bins."""
        return _KOLMOGOROV * self._noise

    @property
    def correlation(self) -> float:
        """Relative change of the correlation matrix of uncorrelated features, √((d − 1) · 2 / n).

        It is less where they are correlated.
        """
        return self._noise * math.sqrt(max(self.features - 1, 0))

    @property
    def element(self) -> float:
        """Change of one correlation of uncorrelated features, √(2 / n)."""
        return self._noise if self.features > 1 else 0.0

    @property
    def _noise(self) -> float:
        return math.sqrt(2 / self.events) if self.events > 0 else math.inf
