"""Fooling ratios of groups, with the error of the sample by a jackknife."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.group import Group
from coffea_conserv.sums.groups import counts_of
from coffea_conserv.sums.sums import BLOCKS, FOOLING, Sums

if TYPE_CHECKING:
    pass

__all__ = ("Fooling", "fooling_of", "jackknife")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fooling:
    """How far the score of one group was moved.

    Parameters
    ----------
    group
        Dataset, process, total of the user or all simulation; where, and in which direction.
    ratio
        Σ|w| of the events that crossed the working point over Σ|w| on the side that was attacked. For a
        background in ``conservUp`` these are its correctly classified events, for signal in ``conservDown``.
    error
        Statistical error of the ratio from a jackknife over blocks of events (:func:`jackknife`). It is that
        of the sample, given the attack: how much the ratio of other events, moved alike, would differ. Events
        are attacked together, so that another seed differs by more: see :func:`seed_spread`. 0 where
        nothing crossed; ``nan`` where there is no ratio, or where all events of a dataset are in one block.
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
    working_point
        Score that is crossed.
    """

    group: Group
    ratio: float
    error: float
    returned: float
    net: float
    score_shift: float
    unattacked_events: int
    unattacked_share: float
    moved_share: float
    working_point: float = 0.5

    @property
    def name(self) -> str:
        """Dataset, process or total."""
        return self.group.name

    @property
    def level(self) -> str:
        """Level of the group: ``dataset``, ``process``, ``total`` or ``all``."""
        return self.group.level

    @property
    def region(self) -> str:
        """Region of the group."""
        return self.group.region

    @property
    def variation(self) -> str:
        """Direction of the attack."""
        return self.group.variation

    def to_dict(self) -> dict[str, Any]:
        """Return values for JSON, with the fields of the group among them."""
        rest = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "group"}
        return {**asdict(self.group), **rest}


def jackknife(strata: Sequence[Floats]) -> float:
    """Error of a ratio of sums from a delete-one jackknife over blocks of events.

    Σ over strata of (n − 1)/n · Σ_i (r₍ᵢ₎ − r̄)², where r₍ᵢ₎ is the ratio without block i of the stratum.

    Parameters
    ----------
    strata
        For each dataset: denominator and numerator of each block, shape (blocks, 2).

    Returns
    -------
    float
        The error; ``nan`` if a dataset has a single block or nothing is left in the denominator.

    Notes
    -----
    B. Efron and C. Stein, Ann. Statist. 9 (1981) 586. Blocks are random parts of the events of all chunks, so
    that weights of any size count as they should, which a binomial error cannot do. With 20 blocks the
    error itself is known to about 16 %. What events of all blocks have in common, such as an attack that went
    better in this run than in another, is not in it.

    Examples
    --------
    >>> import numpy as np
    >>> round(jackknife([np.array([[10.0, 1.0], [10.0, 3.0]])]), 6)
    0.1
    """
    total = np.sum([np.zeros(2), *(stratum.sum(axis=0) for stratum in strata)], axis=0)
    if total[0] <= 0:
        return math.nan
    variance = 0.0
    for stratum in strata:
        if not stratum.any():
            continue
        below, above = (total - stratum).T
        count = len(stratum)
        # Where all is in one block, rounding leaves next to nothing.
        if count < 2 or np.any(below <= 1e-12 * total[0]):
            return math.nan
        ratio = above / below
        variance += (count - 1) / count * float(((ratio - ratio.mean()) ** 2).sum())
    return math.sqrt(variance)


def fooling_of(
    sums: Sums, group: Group, datasets: Sequence[str], *, point: int = 0, working_point: float = 0.5
) -> Fooling:
    """Fooling ratio of some datasets together, in one region and direction, at one working point.

    Parameters
    ----------
    sums
        Merged output.
    group
        What the sum is called, where, and in which direction.
    datasets
        What to sum.
    point, working_point
        Index and score of the working point.
    """
    region, variation = group.region, group.variation
    nothing = np.zeros((point + 1, BLOCKS, len(FOOLING)))
    strata = [sums.fooling.get((dataset, region, variation), nothing)[point] for dataset in datasets]
    summed = np.sum([stratum.sum(axis=0) for stratum in strata], axis=0)
    total = dict(zip(FOOLING, summed.tolist(), strict=True))
    counts = counts_of(sums, datasets, region, variation)
    start, crossed = FOOLING.index("start"), FOOLING.index("crossed")
    return Fooling(
        group,
        ratio=_ratio(total["crossed"], total["start"]),
        error=jackknife([stratum[:, [start, crossed]] for stratum in strata]),
        returned=_ratio(total["returned"], total["other"]),
        net=_ratio(total["net"], total["sum_w"]),
        score_shift=_ratio(total["score"] - total["score_nominal"], total["sum_w"]),
        unattacked_events=int(counts["unattacked_events"]),
        unattacked_share=_ratio(counts["unattacked_abs_w"], counts["sum_abs_w"]),
        moved_share=_ratio(counts["moved_events"], counts["events"]),
        working_point=working_point,
    )


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else math.nan
