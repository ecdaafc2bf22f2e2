"""Merged sums, group by group: the limits judged once more, and the fooling ratios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from coffea_conserv.group import Group
from coffea_conserv.limits.displacement import LARGEST, PULLS, Moves, Shift, make_shifts
from coffea_conserv.limits.judge import judge_many, negative_bins
from coffea_conserv.limits.statistics import Statistics, statistics_of
from coffea_conserv.limits.verdict import REASONS, Contents, NegativeBins, Unattacked, Verdict
from coffea_conserv.names import VARIATIONS
from coffea_conserv.results.fooling import Fooling, fooling_of
from coffea_conserv.results.settings import Settings
from coffea_conserv.sums.groups import Term, content, counts_of
from coffea_conserv.sums.sums import Sums

__all__ = ("Merged", "fooling_rows", "judge_merged", "shift_rows")


@dataclass(frozen=True)
class Merged:
    """Datasets that are summed before they are judged.

    Parameters
    ----------
    name, level
        As in :class:`~coffea_conserv.group.Group`.
    datasets
        What is summed.
    """

    name: str
    level: str
    datasets: tuple[str, ...]


def _filled(
    sums: Sums, merged: Sequence[Merged], regions: Sequence[str]
) -> Iterator[tuple[Group, tuple[str, ...]]]:
    """Groups in every region and direction where they have events, and their datasets."""
    for one in merged:
        for region in regions:
            for variation in VARIATIONS[1:]:
                if counts_of(sums, one.datasets, region, variation)["events"]:
                    yield Group(one.name, one.level, region, variation), one.datasets


def fooling_rows(
    sums: Sums, settings: Settings, merged: Sequence[Merged], regions: Sequence[str]
) -> tuple[Fooling, ...]:
    """Fooling ratios of all groups at every working point, wherever they have events."""
    return tuple(
        fooling_of(sums, group, datasets, point=index, working_point=score)
        for group, datasets in _filled(sums, merged, regions)
        for index, score in enumerate(settings.points)
    )


def judge_merged(
    sums: Sums, settings: Settings, merged: Sequence[Merged], regions: Sequence[str]
) -> tuple[Verdict, tuple[Statistics, ...]]:
    """Judge all groups, in every region and direction where they have events, and say what each can tell."""
    judged: dict[Group, Contents] = {}
    negative: list[NegativeBins] = []
    known: dict[Group, Contents] = {}
    unattacked: list[Unattacked] = []
    unjudged: list[Group] = []
    for group, datasets in _filled(sums, merged, regions):
        contents = _contents(sums, settings, group, datasets)
        known.setdefault(group.nominal(), contents)
        idle = _unattacked(sums, group, datasets)
        unattacked.extend([idle] if idle.events else [])
        if contents.sum_w > 0:
            judged[group] = contents
            negative.extend(negative_bins(group, contents))
        elif not idle.wholly:
            unjudged.append(group)
    limits = judge_many(judged, settings.budget, settings.features, settings.watched)
    verdict = Verdict(limits, tuple(negative), tuple(unattacked), tuple(unjudged))
    return verdict, statistics_of(known, settings.budget, settings.features)


def _unattacked(sums: Sums, group: Group, datasets: Sequence[str]) -> Unattacked:
    """Which share of a group stayed nominal, by reason."""
    counts = counts_of(sums, datasets, group.region, group.variation)
    total = counts["sum_abs_w"]
    shares = {reason: counts[reason] / total if total > 0 else 0.0 for reason in REASONS}
    share = counts["unattacked_abs_w"] / total if total > 0 else 0.0
    return Unattacked(group, int(counts["unattacked_events"]), share, shares)


def shift_rows(
    sums: Sums, settings: Settings, merged: Sequence[Merged], regions: Sequence[str]
) -> tuple[Shift, ...]:
    """Say how far each feature moved in all groups, in every region and direction where they have events."""
    made: list[Shift] = []
    for group, datasets in _filled(sums, merged, regions):
        total = counts_of(sums, datasets, group.region, group.variation)["sum_abs_w"]
        moved = _moves(sums, len(settings.features), group, datasets)
        made.extend(make_shifts(group, settings.features, moved, total))
    return tuple(made)


def _moves(sums: Sums, features: int, group: Group, datasets: Sequence[str]) -> Moves:
    """Sums of moves, and the largest ones, of the datasets of a group."""
    total, largest = np.zeros((features, len(PULLS))), np.zeros((features, len(LARGEST)))
    for dataset in datasets:
        key = (dataset, group.region, group.variation)
        if key in sums.shifts:
            total, largest = total + sums.shifts[key], np.maximum(largest, sums.largest[key])
    return Moves(total, largest)


def _contents(sums: Sums, settings: Settings, group: Group, datasets: Sequence[str]) -> Contents:
    """What the judge needs of the datasets of a group together."""
    region = group.region
    before, after = ([(dataset, region, v) for dataset in datasets] for v in ("nominal", group.variation))
    contents = {}
    for quantity in settings.quantities:
        nominal, attacked = (
            np.zeros(quantity.axis.extent)
            + content(sums, quantity.name, [Term(1.0, *key) for key in keys])[0]
            for keys in (before, after)
        )
        contents[quantity.name] = (nominal, attacked)
    zero = np.zeros((4, len(settings.quantities), len(settings.quantities)))
    nominal, attacked = (sum((sums.moments.get(key, zero) for key in keys), zero) for keys in (before, after))
    counts = counts_of(sums, datasets, region, "nominal")
    largest = _moves(sums, len(settings.features), group, datasets).largest
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
