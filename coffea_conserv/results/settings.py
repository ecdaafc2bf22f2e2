"""What a run was configured with, as far as its merged output needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from coffea_conserv.features.feature import Feature, Watched
from coffea_conserv.features.working_point import as_points
from coffea_conserv.fingerprint import fingerprint
from coffea_conserv.limits.budget import Budget
from coffea_conserv.names import Names

__all__ = ("Settings", "hash_of")


@dataclass(frozen=True)
class Settings:
    """What a run was configured with, as far as its result needs it.

    Parameters
    ----------
    features, watched
        What is limited.
    budget
        The limits.
    score
        Axis of the score.
    working_point
        Score that separates the sides for the fooling ratio, or several.
    objective
        Name of what the attack moves.
    seed
        Seed of the run.
    config
        Hash of the configuration, the same as that of the sums.
    penalty
        Price of moves.
    target
        Which events are attacked.
    output
        What the model gives.
    names
        Names of axes and variations.
    """

    features: tuple[Feature, ...]
    watched: tuple[Watched, ...]
    budget: Budget
    score: Any
    working_point: float | Sequence[float]
    objective: str
    seed: int
    config: str
    penalty: float = 0.0
    target: str = "all"
    output: str = "logit"
    names: Names = field(default_factory=Names)

    @property
    def points(self) -> tuple[float, ...]:
        """Working points, the main one first."""
        return as_points(self.working_point)

    @property
    def quantities(self) -> tuple[Feature | Watched, ...]:
        """Features, then watched quantities: the order of the correlation matrices."""
        return (*self.features, *self.watched)


def hash_of(
    models: Sequence[str],
    features: Sequence[Feature],
    watched: Sequence[Watched],
    budget: Budget,
    others: Sequence[Any],
) -> str:
    """Hash of everything that merged sums depend on, 16 hexadecimal digits.

    Parameters
    ----------
    models
        Hash of each model.
    features, watched, budget
        What is limited, and how. Units and labels, which are for plots alone, do not count.
    others
        Further settings; functions and axes among them count by what they do and by their bins.
    """
    texts = {"unit": "", "label": ""}
    described = [{**vars(f), **texts, "missing": f.missing_values} for f in features]
    watches = [(w.name, w.axis, w.function) for w in watched]
    return fingerprint(models, described, watches, vars(budget), others)[:16]
