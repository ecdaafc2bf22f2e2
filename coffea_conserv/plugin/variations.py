"""All quantities of the events of one chunk in every variation: as they are, and attacked both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.attacks.batch import Batch, check_scores, scores
from coffea_conserv.attacks.engine import perturb
from coffea_conserv.attacks.functions import possible, watched_values
from coffea_conserv.attacks.settings import short
from coffea_conserv.attacks.task import Task
from coffea_conserv.inputs.regions import check_regions
from coffea_conserv.models.device import Place
from coffea_conserv.plugin.chunk import seed_of

__all__ = ("DIRECTIONS", "Attack", "Varied", "values_by_variation")

Varied = tuple[dict[str, dict[str, NDArray[Any]]], dict[str, NDArray[np.int8]]]
"""Variation → quantity → values; variation → why events stayed nominal."""

DIRECTIONS = {"conservUp": "signal", "conservDown": "background"}


@dataclass(frozen=True)
class Attack:
    """What a chunk is attacked with.

    Parameters
    ----------
    task
        What is asked for.
    models
        Loaded, one or one per fold.
    target
        ``all`` events or the ``correct`` ones.
    seed
        Of the run.
    place
        Where to.
    """

    task: Task
    models: Sequence[Any]
    target: str
    seed: int
    place: Place

    def quantities(self, batch: Batch, x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Features, watched quantities and score of a matrix, each of shape (events,)."""
        named: dict[str, NDArray[Any]] = {f.name: x[:, j] for j, f in enumerate(self.task.features)}
        named |= watched_values(batch, self.task, x)
        named["score"] = scores(batch, self.models, x, self.place.device)
        check_scores(named["score"], x, self.task.features)
        return named


def values_by_variation(
    batch: Batch,
    attack: Attack,
    regions: Mapping[str, NDArray[np.bool_]],
    *,
    dataset: str,
    chunk: str,
    data: bool,
) -> Varied:
    """Attack a chunk in both directions.

    Parameters
    ----------
    batch
        The events.
    attack
        What they are attacked with.
    regions
        Name → mask.
    dataset, chunk
        Where the events come from; the seed is made of it.
    data
        Whether these are real data, which are not attacked.

    Returns
    -------
    tuple of dict
        Variation → quantity → values; variation → why events stayed nominal.
    """
    task = attack.task
    values = {"nominal": attack.quantities(batch, batch.x)}
    unattacked: dict[str, NDArray[np.int8]] = {}
    columns = {name: column for name, column in values["nominal"].items() if name != "score"}
    frozen = [feature.name for feature in task.features if feature.frozen]
    check_regions(regions, values["nominal"]["score"], columns, frozen)
    if data:
        return values, unattacked
    possible(batch, task)  # complains about ``valid`` before anything expensive starts
    for variation, direction in DIRECTIONS.items():
        some = batch
        if attack.target == "correct":
            some = replace(batch, chosen=short(values["nominal"]["score"], task.points[0], direction))
        seed = seed_of(attack.seed, dataset, chunk, direction)
        outcome = perturb(some, task, attack.models, direction, seed, attack.place.device)
        values[variation] = attack.quantities(batch, outcome.x)
        unattacked[variation] = outcome.reason
    return values, unattacked
