"""Sums of a chunk: one value that adds up to the whole run in any order."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import hist
import numpy as np
from numpy.typing import NDArray

from coffea_conserv.checks import check_known
from coffea_conserv.errors import MergeError
from coffea_conserv.features.binning import fillable, flow_index, scale
from coffea_conserv.features.feature import Feature, Watched, present
from coffea_conserv.features.folds import fold_index
from coffea_conserv.features.working_point import as_points
from coffea_conserv.limits.displacement import Moves, Pair, shift_sums
from coffea_conserv.limits.measures import pair_sums
from coffea_conserv.limits.verdict import REASONS
from coffea_conserv.names import VARIATIONS

__all__ = ("BLOCKS", "COUNTS", "FOOLING", "Sample", "Sums", "fill_sums", "score_axis")

Floats = NDArray[np.float64]
Key = tuple[str, str, str]

COUNTS = (
    "events",
    "sum_w",
    "sum_abs_w",
    "sum_w2",
    "unattacked_events",
    "unattacked_abs_w",
    "moved_events",
    *REASONS,
)
"""What :attr:`Sums.counts` holds for each group and variation, in this order; the last ones are
Σ|w| of the events that stayed nominal, by reason."""

FOOLING = ("start", "crossed", "other", "returned", "net", "score_nominal", "score", "sum_w")
"""What :attr:`Sums.fooling` holds for each group, direction and block, in this order: the absolute weight on
the side that is attacked, how much of it crossed the working point, the same of the other side and of what
came back; with signs, the net weight that crossed, the sums of the score before and after, and of weights."""

BLOCKS = 20
"""Blocks of events for the error of fooling ratios. An event is in the same one whatever chunk it is in."""

PAIRED_BINS = 20


@dataclass(frozen=True)
class Sums:
    """Mergeable output of :class:`coffea_conserv.Conserv`: a value with ``+``.

    Adding is commutative and associative (to rounding), leaves its operands unchanged, and an empty value
    with the same configuration is neutral. Everything in it is a number, an array or a histogram.

    Parameters
    ----------
    config
        Hash of the configuration. Only outputs of one configuration can be added.
    hists
        Quantity → histogram with the axes dataset, region, variation and the quantity.
    moments
        (dataset, region, variation) → :func:`coffea_conserv.limits.measures.pair_sums` of features and
        watched quantities, about the centre of each axis and in units of half of its width.
    paired
        (dataset, region, variation) → sums of w and of w² in bins of nominal × attacked score, shape
        (2, bins + 2, bins + 2).
    counts
        (dataset, region, variation) → array of :data:`COUNTS`.
    fooling
        (dataset, region, variation) → sums by working point and block of events, shape (points,
        :data:`BLOCKS`, :data:`FOOLING`).
    shifts
        (dataset, region, variation) → :data:`coffea_conserv.limits.displacement.PULLS` of features, shape
        (features, 2).
    largest
        (dataset, region, variation) → :data:`coffea_conserv.limits.displacement.LARGEST` of the features,
        shape (features, 2). Of two values that are added the larger one stays.
    chunks
        Dataset → chunk → array of events read and number of calls.
    real
        Dataset → 1 for real data, 0 for simulation, summed over chunks.
    places
        Where chunks were computed, ``cpu`` or ``cuda``, with less memory than usual or not → their number.
    files
        Dataset → file → number of chunks of it, where events say what their file is.
    """

    config: str
    hists: Mapping[str, Any] = field(default_factory=dict)
    moments: Mapping[Key, Floats] = field(default_factory=dict)
    paired: Mapping[Key, Floats] = field(default_factory=dict)
    counts: Mapping[Key, Floats] = field(default_factory=dict)
    fooling: Mapping[Key, Floats] = field(default_factory=dict)
    shifts: Mapping[Key, Floats] = field(default_factory=dict)
    largest: Mapping[Key, Floats] = field(default_factory=dict)
    chunks: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)
    real: Mapping[str, int] = field(default_factory=dict)
    places: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __add__(self, other: Sums) -> Sums:
        if not isinstance(other, Sums):
            return NotImplemented
        if other.config != self.config:
            msg = (
                f"outputs of different configurations cannot be merged ({self.config} and {other.config}); "
                "run both with the same features, budget, model and seed. If a checkpointer has kept one, "
                "give every configuration a folder of its own, for example with conserv.config in its name"
            )
            raise MergeError(msg)
        names = (
            "hists",
            "moments",
            "paired",
            "counts",
            "fooling",
            "shifts",
            "chunks",
            "real",
            "places",
            "files",
        )
        merged = {name: _merge(getattr(self, name), getattr(other, name)) for name in names}
        return Sums(self.config, **merged, largest=_merge(self.largest, other.largest, np.maximum))

    def without(self, datasets: Sequence[str]) -> Sums:
        """Leave out some datasets, as if they had not been processed.

        Raises
        ------
        InputError
            If one of them is not there.
        """
        for name in datasets:
            check_known("dataset", name, self.chunks)
        if isinstance(datasets, str) or not datasets:
            return self
        kept: dict[str, Any] = {}
        for part in ("moments", "paired", "counts", "fooling", "shifts", "largest"):
            kept[part] = {key: v for key, v in getattr(self, part).items() if key[0] not in datasets}
        for part in ("chunks", "real", "files"):
            kept[part] = {key: v for key, v in getattr(self, part).items() if key not in datasets}
        return replace(self, **kept)


def _merge(
    left: Mapping[Any, Any], right: Mapping[Any, Any], join: Callable[[Any, Any], Any] = operator.add
) -> dict[Any, Any]:
    merged = dict(left)
    for key, value in right.items():
        if key not in merged:
            merged[key] = value
        elif isinstance(value, Mapping):
            merged[key] = _merge(merged[key], value, join)
        else:
            merged[key] = join(merged[key], value)
    return merged


@dataclass(frozen=True)
class Sample:
    """One chunk of one dataset, ready to be summed.

    Parameters
    ----------
    dataset, chunk
        Where the events come from.
    weight
        Shape (events,).
    regions
        Name → mask of shape (events,).
    values
        Variation → quantity → values of shape (events,), among them ``score``.
    unattacked
        Variation → why events stayed nominal, see :data:`coffea_conserv.limits.verdict.REASONS`; 0 where they
        did not.
    working_point
        Score that separates the sides, or several.
    events
        Number of events that were read for this chunk.
    real
        Whether these are real data.
    place
        Where the attack was computed.
    file
        What the events were read from; empty if that is not known.
    """

    dataset: str
    chunk: str
    weight: Floats
    regions: Mapping[str, NDArray[np.bool_]]
    values: Mapping[str, Mapping[str, NDArray[Any]]]
    unattacked: Mapping[str, NDArray[np.integer[Any]]]
    working_point: float | Sequence[float]
    events: int
    real: bool = False
    place: str = "cpu"
    file: str = ""


def score_axis(axis: Any) -> Any:
    """Axis of the paired score matrix: the axis of the score if it has at most 20 bins, else 20 in 0 … 1."""
    return axis if axis.size <= PAIRED_BINS else hist.axis.Regular(PAIRED_BINS, 0, 1, name="score")


def fill_sums(config: str, sample: Sample, quantities: tuple[Feature | Watched, ...], score: Any) -> Sums:
    """Sum one chunk.

    Parameters
    ----------
    config
        Hash of the configuration.
    sample
        The events, nominal and attacked.
    quantities
        Features and watched quantities.
    score
        Axis of the score.
    """
    moments, paired, counts, fooling, shifts, largest = {}, {}, {}, {}, {}, {}
    scores = sample.values["nominal"].get("score")
    block = _blocks(sample, quantities)
    for variation, values in sample.values.items():
        z, there = _standardised(values, quantities)
        for region, mask in sample.regions.items():
            key = (sample.dataset, region, variation)
            moments[key] = pair_sums(z[mask], there[mask], sample.weight[mask])
            counts[key] = _counts(sample, variation, mask)
            if variation == "nominal" or scores is None:
                continue
            shifts[key], largest[key] = _shifts(sample, quantities, variation, mask)
            paired[key] = _paired(score_axis(score), scores[mask], values["score"][mask], sample.weight[mask])
            scored = _Scored(scores[mask], values["score"][mask], sample.weight[mask], block[mask])
            fooling[key] = _fooling(scored, variation, as_points(sample.working_point))
    return Sums(
        config,
        _histograms(sample, quantities, score),
        moments,
        paired,
        counts,
        fooling,
        shifts,
        largest,
        {sample.dataset: {sample.chunk: np.array([sample.events, 1.0])}},
        {sample.dataset: int(sample.real)},
        {sample.place: 1},
        {sample.dataset: {sample.file: 1}} if sample.file else {},
    )


def _standardised(
    values: Mapping[str, NDArray[Any]], quantities: tuple[Feature | Watched, ...]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Quantities about the centre of their axes, and which are present, shape (events, quantities)."""
    columns, masks = [], []
    for quantity in quantities:
        column = np.asarray(values[quantity.name])
        there = present(quantity, column)
        origin, unit = scale(quantity.axis)
        columns.append((np.where(there, column, origin).astype(np.float64) - origin) / unit)
        masks.append(there)
    return np.stack(columns, axis=1), np.stack(masks, axis=1)


def _counts(sample: Sample, variation: str, mask: NDArray[np.bool_]) -> Floats:
    weight = sample.weight[mask]
    absolute = np.abs(weight)
    reason = np.asarray(sample.unattacked.get(variation, np.zeros(len(mask))), dtype=np.int64)[mask]
    idle = reason > 0
    nominal, values = sample.values["nominal"], sample.values[variation]
    moved = np.zeros(int(mask.sum()), dtype=bool)
    for name, column in values.items():
        if name != "score":
            before = nominal[name][mask]
            moved |= (column[mask] != before) & ~(np.isnan(column[mask]) & np.isnan(before))
    sums = (len(weight), weight.sum(), absolute.sum(), (weight**2).sum())
    by_reason = np.bincount(reason, absolute, len(REASONS) + 1)[1:]
    return np.array([*sums, idle.sum(), absolute[idle].sum(), moved.sum(), *by_reason], dtype=np.float64)


def _paired(axis: Any, nominal: NDArray[Any], attacked: NDArray[Any], weight: Floats) -> Floats:
    size = axis.extent
    cell = flow_index(axis, nominal) * size + flow_index(axis, attacked)
    sums = [np.bincount(cell, w, minlength=size * size) for w in (weight, weight**2)]
    return np.stack(sums).astype(np.float64).reshape(2, size, size)


def _blocks(sample: Sample, quantities: tuple[Feature | Watched, ...]) -> NDArray[np.int64]:
    """Block of each event by a hash of its nominal features, whatever chunk it is read in."""
    names = [quantity.name for quantity in quantities if isinstance(quantity, Feature)]
    return fold_index(*(sample.values["nominal"][name] for name in names), folds=BLOCKS)


class _Scored(NamedTuple):
    """Scores before and after, weights, and blocks of the events of a region, shape (events,) each."""

    nominal: NDArray[Any]
    attacked: NDArray[Any]
    weight: Floats
    block: NDArray[np.int64]


def _fooling(events: _Scored, variation: str, points: Sequence[float]) -> Floats:
    """Sums of :data:`FOOLING` by working point and block of events."""
    return np.stack([_crossings(events, variation, point) for point in points])


def _crossings(events: _Scored, variation: str, point: float) -> Floats:
    nominal, attacked, weight, block = events
    sign = 1.0 if variation == "conservUp" else -1.0
    before = sign * (nominal - point) <= 0
    after = sign * (attacked - point) <= 0
    crossed, returned = before & ~after, ~before & after
    size = np.abs(weight)
    columns = (
        size * before,
        size * crossed,
        size * ~before,
        size * returned,
        weight * crossed - weight * returned,
        weight * nominal,
        weight * attacked,
        weight,
    )
    sums = [np.bincount(block, column, minlength=BLOCKS) for column in columns]
    return np.stack(sums, axis=1).astype(np.float64)


def _shifts(
    sample: Sample, quantities: tuple[Feature | Watched, ...], variation: str, mask: NDArray[np.bool_]
) -> Moves:
    """How far the values of the features moved: sums, and the largest of them."""
    features = [quantity for quantity in quantities if isinstance(quantity, Feature)]
    before, after = sample.values["nominal"], sample.values[variation]
    columns = [Pair(np.asarray(before[f.name])[mask], np.asarray(after[f.name])[mask]) for f in features]
    return shift_sums(features, columns, sample.weight[mask])


def _histograms(
    sample: Sample, quantities: tuple[Feature | Watched, ...], score: Any
) -> dict[str, hist.Hist[Any]]:
    """Histogram of every quantity and of the score; missing values are left out."""
    filled = {}
    axes: dict[str, tuple[Any, Feature | Watched | None]] = {q.name: (q.axis, q) for q in quantities}
    axes["score"] = (score, None)
    for name, (axis, quantity) in axes.items():
        histogram: hist.Hist[Any] = hist.Hist(
            hist.axis.StrCategory([], growth=True, name="dataset"),
            hist.axis.StrCategory([], growth=True, name="region"),
            hist.axis.StrCategory(VARIATIONS, name="variation"),
            axis,
            storage=hist.storage.Weight(),
        )
        for variation, values in sample.values.items():
            if name not in values:
                continue
            column = np.asarray(values[name])
            there = np.ones(len(column), dtype=bool) if quantity is None else present(quantity, column)
            for region, mask in sample.regions.items():
                use = mask & there
                histogram.fill(
                    sample.dataset, region, variation, fillable(axis, column[use]), weight=sample.weight[use]
                )
        filled[name] = histogram
    return filled
