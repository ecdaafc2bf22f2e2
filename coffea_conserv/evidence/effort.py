"""Effort of tests of two samples, and their outcome."""

from __future__ import annotations

from dataclasses import dataclass

from coffea_conserv.errors import ConfigurationError

__all__ = ("Effort", "EventTest")


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much effort tests take.

    Parameters
    ----------
    events
        Events of a region that are drawn at most, nominal ones counted.
    bins
        Bins of each quantity for pairs, of equal content.
    slices
        Random directions.
    permutations
        Permutations of which sample an event is of, for probabilities.
    energy
        Events of each sample that the energy distance takes; its cost grows with the square.
    folds
        Of the cross-validation of the classifier.
    seed
        Of everything random.

    Raises
    ------
    ConfigurationError
        If a number is too small to mean anything.
    """

    events: int = 100_000
    bins: int = 8
    slices: int = 60
    permutations: int = 100
    energy: int = 1500
    folds: int = 5
    seed: int = 1

    def __post_init__(self) -> None:
        least = {"events": 40, "bins": 2, "slices": 1, "permutations": 19, "energy": 20, "folds": 2}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                msg = f"{name}={getattr(self, name)} must be {smallest} at least"
                raise ConfigurationError(msg)


@dataclass(frozen=True)
class EventTest:
    """What a test of two samples says.

    Parameters
    ----------
    region, variation
        Which attack.
    test
        Name of the test.
    what
        What was most conspicuous.
    statistic
        Its value.
    p
        Probability of a larger one for two samples of one distribution.
    effective
        n₁ n₂ / (n₁ + n₂) of the effective numbers of events that were compared.
    needed
        Number of events of data at which half of the experiments reject at 95 %, compared with simulation
        without statistical error; infinite if there is no sign of a difference. Above ``effective`` it is
        extrapolated.
    """

    region: str
    variation: str
    test: str
    what: str
    statistic: float
    p: float
    effective: float
    needed: float
