"""Migration: who changes sides of regions and cuts when an analysis runs on attacked events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import hist
import numpy as np
from numpy.typing import NDArray

__all__ = ("Migration", "counted", "migrations")

Masks = Mapping[str, NDArray[np.bool_]]


def counted(
    dataset: str, weight: NDArray[np.float64], before: Masks, after: Mapping[str, Masks]
) -> hist.Hist[Any]:
    """Weight of events by cut, variation, and whether they pass it before and after.

    Parameters
    ----------
    dataset
        Of the events.
    weight
        Shape (events,).
    before
        Cut → which events pass it nominally.
    after
        Variation → the same for the attacked events.
    """
    made = hist.Hist(
        hist.axis.StrCategory([], growth=True, name="dataset"),
        hist.axis.StrCategory([], growth=True, name="cut"),
        hist.axis.StrCategory([], growth=True, name="variation"),
        hist.axis.Boolean(name="before"),
        hist.axis.Boolean(name="after"),
        storage=hist.storage.Weight(),
    )
    for variation, masks in after.items():
        for cut, mask in masks.items():
            made.fill(
                dataset=dataset,
                cut=cut,
                variation=variation,
                before=before[cut],
                after=mask,
                weight=weight,
            )
    return made


@dataclass(frozen=True)
class Migration:
    """How many of the attacked events change sides of one cut.

    Parameters
    ----------
    dataset, cut, variation
        Of whom, where, and in which direction.
    nominal
        Σw of the events that pass the cut nominally.
    left, entered
        Σw of those that no longer do, and of those that do only now.
    """

    dataset: str
    cut: str
    variation: str
    nominal: float
    left: float
    entered: float

    @property
    def change(self) -> float:
        """Relative change of the yield; ``nan`` where there was none."""
        return (self.entered - self.left) / self.nominal if self.nominal else float("nan")


def migrations(counts: hist.Hist[Any]) -> tuple[Migration, ...]:
    """Read the merged ``conserv_migration`` of a run.

    Parameters
    ----------
    counts
        As :class:`~coffea_conserv.wrapper.ConservProcessor` puts it into the output.

    Returns
    -------
    tuple of Migration
        By dataset, cut and variation.
    """
    found = []
    dataset, cut, variation = (list(counts.axes[name]) for name in ("dataset", "cut", "variation"))
    values = counts.values()
    for i, j, k in np.ndindex(values.shape[:3]):
        (_, entered), (left, stayed) = values[i, j, k]
        found.append(
            Migration(dataset[i], cut[j], variation[k], float(left + stayed), float(left), float(entered))
        )
    return tuple(sorted(found, key=lambda one: (one.dataset, one.cut, one.variation)))
