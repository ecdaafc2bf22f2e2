"""Settings of a run, as far as its merged output needs them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from coffea_conserv.errors import InputError
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

    def to_dict(self) -> dict[str, Any]:
        """Return values for JSON; functions and models are in the hash only."""
        budget = {name: getattr(self.budget, name) for name in type(self.budget).__dataclass_fields__}
        return {
            "features": [_described(feature) for feature in self.features],
            "watched": [{"name": watched.name, "edges": watched.axis.edges} for watched in self.watched],
            "budget": {**budget, "meaning": self.budget.meaning()},
            "score_edges": self.score.edges,
            "working_point": self.working_point,
            "output": self.output,
            "objective": self.objective,
            "target": self.target,
            "penalty": self.penalty,
            "seed": self.seed,
            "config": self.config,
        }

    def without_functions(self) -> Settings:
        """Replace the functions of watched quantities, which a result does not need."""
        watched = tuple(Watched(w.name, _Gone(w.name), w.axis) for w in self.watched)
        return replace(self, watched=watched)


def _described(feature: Feature) -> dict[str, Any]:
    missing = [str(value) if math.isnan(value) else value for value in feature.missing_values]
    made = {name: value for name, value in vars(feature).items() if name != "axis"}
    return {**made, "missing": missing, "edges": feature.axis.edges}


@dataclass(frozen=True)
class _Gone:
    """Stands for the function of a watched quantity."""

    name: str

    def __call__(self, columns: dict[str, Any]) -> Any:
        """Say that it is not there."""
        msg = (
            f"the function of watched quantity {self.name!r} is not in the file of a result ({len(columns)})"
        )
        raise InputError(msg)


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
