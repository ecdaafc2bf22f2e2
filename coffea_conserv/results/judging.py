"""Merged sums, group by group: the limits judged once more, and the fooling ratios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.limits.displacement import LARGEST, PULLS, Shift, make_shifts
from coffea_conserv.limits.judge import judge_many, negative_bins
from coffea_conserv.limits.statistics import Statistics, statistics_of
from coffea_conserv.limits.verdict import Contents, NegativeBins, Verdict
from coffea_conserv.names import VARIATIONS
from coffea_conserv.results.fooling import Fooling, fooling_of
from coffea_conserv.sums.groups import content, counts_of
from coffea_conserv.sums.sums import Sums

if TYPE_CHECKING:
    from coffea_conserv.results.settings import Settings

__all__ = ("Group", "fooling_rows", "judge_merged", "shift_rows")

Group = tuple[str, str, tuple[str, ...]]
"""Level, name and datasets of what is summed before it is judged."""


def _filled(
    sums: Sums, groups: Sequence[Group], regions: Sequence[str]
) -> Iterator[tuple[Group, tuple[str, str]]]:
    """Groups with region and direction wherever they have events."""
    for group in groups:
        for region in regions:
            for variation in VARIATIONS[1:]:
                if counts_of(sums, group[2], region, variation)["events"]:
                    yield group, (region, variation)


def fooling_rows(
    sums: Sums, settings: Settings, groups: Sequence[Group], regions: Sequence[str]
) -> tuple[Fooling, ...]:
    """Fooling ratios of all groups at every working point, wherever they have events."""
    filled = _filled(sums, groups, regions)
    return tuple(
        fooling_of(sums, (name, level), datasets, where, point)
        for (level, name, datasets), where in filled
        for point in enumerate(settings.points)
    )


def judge_merged(
    sums: Sums, settings: Settings, groups: Sequence[Group], regions: Sequence[str]
) -> tuple[Verdict, tuple[Statistics, ...]]:
    """Judge all groups, in every region and direction where they have events, and say what each can tell."""
    judged: dict[str, Contents] = {}
    negative: list[NegativeBins] = []
    known: dict[str, Contents] = {}
    for (_, name, datasets), where in _filled(sums, groups, regions):
        contents, group = _contents(sums, settings, datasets, where), "/".join((name, *where))
        judged[group] = contents
        negative.extend(negative_bins(group, contents))
        known.setdefault(f"{name}/{where[0]}", contents)
    limits = judge_many(judged, settings.budget, settings.features, settings.watched)
    return Verdict(limits, tuple(negative)), statistics_of(known, settings.budget, settings.features)


def shift_rows(
    sums: Sums, settings: Settings, groups: Sequence[Group], regions: Sequence[str]
) -> tuple[Shift, ...]:
    """Say how far each feature moved in all groups, in every region and direction where they have events."""
    made: list[Shift] = []
    for (_, name, datasets), where in _filled(sums, groups, regions):
        total = counts_of(sums, datasets, *where)["sum_abs_w"]
        shifts = _shifts(sums, len(settings.features), datasets, where)
        made.extend(make_shifts("/".join((name, *where)), settings.features, shifts, total))
    return tuple(made)


def _shifts(
    sums: Sums, features: int, datasets: Sequence[str], where: tuple[str, str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of moves, and the largest ones, of some datasets together in one region and direction."""
    keys = [(dataset, *where) for dataset in datasets]
    total, largest = np.zeros((features, len(PULLS))), np.zeros((features, len(LARGEST)))
    for key in keys:
        if key in sums.shifts:
            total, largest = total + sums.shifts[key], np.maximum(largest, sums.largest[key])
    return total, largest


def _contents(sums: Sums, settings: Settings, datasets: Sequence[str], where: tuple[str, str]) -> Contents:
    """What the judge needs of some datasets together in one region and direction."""
    region, variation = where
    before, after = ([(dataset, region, v) for dataset in datasets] for v in ("nominal", variation))
    contents = {}
    for quantity in settings.quantities:
        nominal, attacked = (
            np.zeros(quantity.axis.extent) + content(sums, quantity.name, [(1.0, *key) for key in keys])[0]
            for keys in (before, after)
        )
        contents[quantity.name] = (nominal, attacked)
    zero = np.zeros((4, len(settings.quantities), len(settings.quantities)))
    nominal, attacked = (sum((sums.moments.get(key, zero) for key in keys), zero) for keys in (before, after))
    counts = counts_of(sums, datasets, region, "nominal")
    _, largest = _shifts(sums, len(settings.features), datasets, where)
    names = [feature.name for feature in settings.features]
    return Contents(
        contents,
        nominal,
        attacked,
        counts["events"],
        counts["sum_w"],
        counts["sum_abs_w"],
        counts["sum_w2"],
        {name: (float(row[0]), float(row[1])) for name, row in zip(names, largest, strict=True)},
    )
