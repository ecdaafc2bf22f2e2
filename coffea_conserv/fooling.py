"""How far a model was fooled, and how much of the data was processed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.groups import counts_of
from coffea_conserv.sums import FOOLING, Sums

__all__ = ("Coverage", "Fooling", "coverage_of", "fooling_of", "jackknife")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fooling:
    """How far the score of one group was moved.

    Parameters
    ----------
    name
        Dataset or process.
    level
        ``"dataset"``, or ``"process"`` for the sum of several datasets.
    region, variation
        Where, and in which direction.
    ratio
        Σ|w| of the events that crossed the working point over Σ|w| on the side that was attacked.
    error
        Error of the ratio from a delete-one jackknife over chunks, within each dataset. ``nan`` where a
        dataset has a single chunk.
    returned
        Σ|w| of the events that crossed in the other direction over Σ|w| on the other side.
    net
        Net weight that crossed, over all weight of the group.
    score_shift
        Change of the weighted mean of the score.
    unattacked_events, unattacked_share
        Events that stayed nominal because their group could not be attacked: number, share of Σ|w|.
    moved_share
        Share of the events with a changed value.
    """

    name: str
    level: str
    region: str
    variation: str
    ratio: float
    error: float
    returned: float
    net: float
    score_shift: float
    unattacked_events: int
    unattacked_share: float
    moved_share: float


@dataclass(frozen=True)
class Coverage:
    """What was processed of one dataset.

    Parameters
    ----------
    dataset
        Its name.
    chunks, events
        Number of different chunks and of events read in them.
    events_asked
        Number of events that the fileset announces, ``None`` if unknown.
    repeated
        Chunks that were merged more than once, and therefore count more than once in every histogram.
    """

    dataset: str
    chunks: int
    events: int
    events_asked: int | None
    repeated: tuple[str, ...]

    @property
    def complete(self) -> bool | None:
        """Whether every event was read once; ``None`` if the number asked for is unknown."""
        if self.repeated:
            return False
        return None if self.events_asked is None else self.events == self.events_asked


def jackknife(strata: Sequence[Floats]) -> float:
    """Error of a ratio of sums from a delete-one jackknife over chunks.

    Σ over strata of (n − 1)/n · Σ_i (r₍ᵢ₎ − r̄)², where r₍ᵢ₎ is the ratio without chunk i of the stratum.

    Parameters
    ----------
    strata
        For each dataset: denominator and numerator of each chunk, shape (chunks, 2).

    Returns
    -------
    float
        The error; ``nan`` if a dataset has a single chunk or nothing is left in the denominator.

    Notes
    -----
    B. Efron and C. Stein, Ann. Statist. 9 (1981) 586. Events that were attacked together are not independent,
    chunks are: a binomial error would be wrong.

    Examples
    --------
    >>> import numpy as np
    >>> round(jackknife([np.array([[10.0, 1.0], [10.0, 3.0]])]), 6)
    0.1
    """
    total = np.sum([stratum.sum(axis=0) for stratum in strata], axis=0)
    variance = 0.0
    for stratum in strata:
        if not stratum.any():
            continue
        below, above = (total - stratum).T
        count = len(stratum)
        if count < 2 or np.any(below <= 0):
            return math.nan
        ratio = above / below
        variance += (count - 1) / count * float(((ratio - ratio.mean()) ** 2).sum())
    return math.sqrt(variance)


def fooling_of(
    sums: Sums, which: tuple[str, str], datasets: Sequence[str], region: str, variation: str
) -> Fooling:
    """Fooling ratio of some datasets in one region and direction.

    Parameters
    ----------
    sums
        Merged output.
    which
        Name and level of the group.
    datasets, region, variation
        What to sum.
    """
    found = [sums.fooling.get((dataset, region, variation), {}) for dataset in datasets]
    strata = [np.stack(list(chunks.values())) for chunks in found if chunks]
    total = dict.fromkeys(FOOLING, 0.0)
    if strata:
        summed = np.sum([stratum.sum(axis=0) for stratum in strata], axis=0)
        total = dict(zip(FOOLING, summed.tolist(), strict=True))
    counts = counts_of(sums, datasets, region, variation)
    start, crossed = FOOLING.index("start"), FOOLING.index("crossed")
    return Fooling(
        *which,
        region,
        variation,
        ratio=_ratio(total["crossed"], total["start"]),
        error=jackknife([stratum[:, [start, crossed]] for stratum in strata]) if strata else math.nan,
        returned=_ratio(total["returned"], total["other"]),
        net=_ratio(total["net"], total["sum_w"]),
        score_shift=_ratio(total["score"] - total["score_nominal"], total["sum_w"]),
        unattacked_events=int(counts["unattacked_events"]),
        unattacked_share=_ratio(counts["unattacked_abs_w"], counts["sum_abs_w"]),
        moved_share=_ratio(counts["moved_events"], counts["events"]),
    )


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else math.nan


def coverage_of(sums: Sums, asked: Mapping[str, int]) -> tuple[Coverage, ...]:
    """Compare what was processed with what was asked for, by dataset."""
    made = []
    for dataset in sorted({*sums.chunks, *asked}):
        chunks = sums.chunks.get(dataset, {})
        events = sum(read / calls for read, calls in chunks.values())
        repeated = tuple(sorted(name for name, (_, calls) in chunks.items() if calls > 1))
        made.append(Coverage(dataset, len(chunks), round(events), asked.get(dataset), repeated))
    return tuple(made)
