"""Attacked events as two independent samples: what a test of data against simulation would get."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import InputError
from coffea_conserv.limits.measures import effective_events
from coffea_conserv.sums.attacked_events import Events

__all__ = ("LEAST", "TwoSamples", "make_samples")

Floats = NDArray[np.float64]

LEAST = 20
"""Events of a sample that a test needs."""


@dataclass(frozen=True)
class TwoSamples:
    """Events of two samples below each other, standardised.

    Parameters
    ----------
    names
        Quantities.
    raw
        Shape (events, quantities), as they are.
    x
        The same centred and in units of the standard deviation; 0 where missing.
    weight
        Shape (events,), not negative.
    attacked
        Shape (events,): which sample they are of.
    """

    names: tuple[str, ...]
    raw: Floats = field(repr=False)
    x: Floats = field(repr=False)
    weight: Floats = field(repr=False)
    attacked: NDArray[np.bool_] = field(repr=False)

    @property
    def effective(self) -> float:
        """Effective events n₁ n₂ / (n₁ + n₂): that of N data is N if the simulation has no error."""
        sizes = [
            effective_events(float(self.weight[mask].sum()), float((self.weight[mask] ** 2).sum()))
            for mask in (self.attacked, ~self.attacked)
        ]
        return sizes[0] * sizes[1] / sum(sizes)


def make_samples(events: Events, variation: str, seed: int) -> TwoSamples:
    """Take one half of the events as simulated, and the other half attacked.

    Nominal and attacked are the same events; as two samples they would be far more alike than data and
    simulation ever are.

    Parameters
    ----------
    events
        Nominal and attacked events of a region.
    variation
        Which attack.
    seed
        Of the halves.

    Raises
    ------
    InputError
        If there are fewer than 40 events with a weight that is not 0.

    Notes
    -----
    Where weights have both signs, the absolute ones are taken, which is a sample of its own kind: the attack
    is judged on net histograms, and tests of events know of no net.
    """
    weight = np.abs(events.weight)
    used = np.flatnonzero(weight > 0)
    if len(used) < 2 * LEAST:
        msg = f"{len(used)} events with a weight are too few for tests of two samples; {2 * LEAST} are needed"
        raise InputError(msg)
    order = np.random.default_rng(seed).permutation(used)
    first, second = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    rows = np.concatenate([events.x["nominal"][first], events.x[variation][second]])
    attacked = np.arange(len(rows)) >= len(first)
    together = weight[np.concatenate([first, second])]
    return TwoSamples(events.names, rows, standardised(rows, together), together, attacked)


def standardised(x: Floats, weight: Floats) -> Floats:
    """Columns about their mean, in units of their standard deviation.

    0 where a value is missing, that is not finite or −999 and below, or where all are the same.
    """
    there = np.isfinite(x) & (x > -999)
    w = weight[:, None] * there
    total = np.maximum(w.sum(axis=0), 1e-300)
    values = np.where(there, x, 0.0)
    mean = (w * values).sum(axis=0) / total
    centred = np.where(there, values - mean, 0.0)
    sigma = np.sqrt((w * centred**2).sum(axis=0) / total)
    made: Floats = np.divide(
        centred, sigma, out=np.zeros_like(centred), where=sigma > 1e-12 * (1 + np.abs(mean))
    )
    return made
