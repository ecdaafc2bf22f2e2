"""Tiers B and C: tests of two samples of events in many dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist

from coffea_conserv.evidence.effort import Effort, EventTest
from coffea_conserv.evidence.histograms import LEVEL
from coffea_conserv.evidence.pairs import pair_tests
from coffea_conserv.evidence.two_samples import TwoSamples, make_samples
from coffea_conserv.names import VARIATIONS
from coffea_conserv.sums.attacked_events import read_events

__all__ = (
    "Effort",
    "EventTest",
    "classifier_test",
    "compare_events",
    "energy_test",
    "pair_tests",
    "sliced_tests",
)

Floats = NDArray[np.float64]


def compare_events(
    folder: str | Path,
    regions: Sequence[str],
    effort: Effort | None = None,
    *,
    mapper: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]] = map,
) -> tuple[EventTest, ...]:
    """Test the attacked events of some regions against nominal ones.

    Parameters
    ----------
    folder
        Which :class:`~coffea_conserv.Conserv` was given as ``keep=``.
    regions
        Which regions.
    effort
        How much effort it takes.
    mapper
        How work on (region, direction) is spread, as ``map`` takes it. On a Dask cluster:
        ``lambda f, todo: client.gather(client.map(f, list(todo)))``.

    Returns
    -------
    tuple of EventTest
        Of tier B: pairs of quantities (χ² in two dimensions), sliced Kolmogorov–Smirnov and Wasserstein
        distances, and the energy distance. Of tier C: a classifier.

    Raises
    ------
    InputError
        If there are no such events, or too few of them.
    """
    how = Effort() if effort is None else effort
    todo = [_Where(region, variation) for region in regions for variation in VARIATIONS[1:]]
    found = mapper(partial(_test_region, Path(folder), how), todo)
    return tuple(row for rows in found for row in rows)


class _Where(NamedTuple):
    region: str
    variation: str


def _test_region(folder: Path, how: Effort, where: _Where) -> list[EventTest]:
    region, variation = where
    events = read_events(folder, region, most=how.events, seed=how.seed)
    samples = make_samples(events, variation, how.seed)
    rows = [
        pair_tests(events, samples, variation, how),
        *sliced_tests(samples, how),
        energy_test(samples, how),
        classifier_test(samples, how),
    ]
    return [replace(row, region=region, variation=variation) for row in rows]


# ---------------------------------------------------------------------------------------- tier B: slices


def sliced_tests(samples: TwoSamples, how: Effort) -> tuple[EventTest, EventTest]:
    """Largest Kolmogorov–Smirnov and mean Wasserstein-1 distance over random directions.

    Parameters
    ----------
    samples
        The events.
    how
        Directions and permutations.

    Notes
    -----
    Every permutation of the samples is the same for all directions, so that the probability of the largest
    distance is right whatever they have in common. Statistics that fall as 1/√n are extrapolated by that.
    """
    rng = np.random.default_rng(how.seed)
    directions = rng.normal(size=(samples.x.shape[1], how.slices))
    directions /= np.linalg.norm(directions, axis=0)
    signed = _signed(samples, how.permutations, rng)
    ks, wasserstein = np.zeros((2, how.slices, len(signed)))
    for s in range(how.slices):
        projected = samples.x @ directions[:, s]
        order = np.argsort(projected, kind="stable")
        ks[s], wasserstein[s] = _distances(projected[order], signed[:, order])
    found = []
    for name, values in (("sliced KS", ks.max(axis=0)), ("sliced Wasserstein", wasserstein.mean(axis=0))):
        found.append(_permuted(name, values, samples, power=2.0))
    return found[0], found[1]


def _signed(samples: TwoSamples, permutations: int, rng: np.random.Generator) -> Floats:
    """Weights over their sum, negative in the second sample: as it is first, then permuted."""
    made = np.empty((permutations + 1, len(samples.weight)))
    for k in range(permutations + 1):
        mask = samples.attacked if k == 0 else rng.permutation(samples.attacked)
        sums = [float(samples.weight[m].sum()) for m in (mask, ~mask)]
        made[k] = np.where(mask, samples.weight / sums[0], -samples.weight / sums[1])
    return made


def _distances(values: Floats, signed: Floats) -> tuple[Floats, Floats]:
    """KS and Wasserstein-1 distances from sorted values and signed weights, shape (…, events)."""
    difference = np.cumsum(signed, axis=-1)[..., :-1]
    gaps = np.diff(values)
    wasserstein = np.abs(difference) @ gaps
    np.abs(difference, out=difference)
    difference[..., gaps == 0] = 0.0  # the cumulative distributions have a value behind equal values only
    return difference.max(axis=-1, initial=0.0), wasserstein


def _permuted(name: str, values: Floats, samples: TwoSamples, *, power: float) -> EventTest:
    """Make a row of a statistic, the first value, and those of permutations."""
    statistic, others = float(values[0]), values[1:]
    p = (1 + int((others >= statistic * (1 - 1e-12)).sum())) / (1 + len(others))
    middle, high = np.quantile(others, [0.5, 1 - LEVEL])
    excess = statistic - float(middle)
    effective = samples.effective
    needed = effective * float((high - middle) / excess) ** power if excess > 0 else math.inf
    return EventTest("", "", name, "", statistic, p, effective, needed)


# ---------------------------------------------------------------------------------------- tier B: energy


def energy_test(samples: TwoSamples, how: Effort) -> EventTest:
    """Energy distance 2 E|X − Y| − E|X − X′| − E|Y − Y′| of a part of the events (Székely, Rizzo, 2013).

    Parameters
    ----------
    samples
        The events.
    how
        Events that are taken, and permutations.
    """
    rng = np.random.default_rng(how.seed)
    kept = np.concatenate(
        [
            rng.permutation(np.flatnonzero(mask))[: how.energy]
            for mask in (~samples.attacked, samples.attacked)
        ]
    )
    fields = (samples.raw, samples.x, samples.weight, samples.attacked)
    part = TwoSamples(samples.names, *(column[kept] for column in fields))
    distances = cdist(part.x, part.x)
    signed = _signed(part, how.permutations, rng)
    values = -np.einsum("kn,kn->k", signed @ distances, signed)
    return _permuted("energy distance", values, part, power=1.0)


# ------------------------------------------------------------------------------------ tier C: classifier


def classifier_test(samples: TwoSamples, how: Effort) -> EventTest:
    """AUC of boosted trees that tell both samples apart, cross-validated.

    Parameters
    ----------
    samples
        The events.
    how
        Folds.

    Notes
    -----
    The probability is that of Mann and Whitney's statistic, a Gaussian for as many effective events. What is
    needed are events to be classified; the classifier has learned from as many as there were.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415 -- slow to import
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415
    from sklearn.model_selection import StratifiedKFold  # noqa: PLC0415

    x, y, weight = samples.x.astype(np.float32), samples.attacked.astype(int), samples.weight
    weight = weight / np.where(samples.attacked, weight[y == 1].sum(), weight[y == 0].sum()) * len(weight) / 2
    score = np.zeros(len(y))
    folds = StratifiedKFold(how.folds, shuffle=True, random_state=how.seed)
    for train, test in folds.split(x, y):
        model = HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=how.seed)
        model.fit(x[train], y[train], sample_weight=weight[train])
        score[test] = model.decision_function(x[test])
        # Thresholds of different classifiers differ: ranks within a fold are compared.
        score[test] = stats.rankdata(score[test]) / len(test)
    area = float(roc_auc_score(y, score, sample_weight=weight))
    error = 1 / math.sqrt(12 * samples.effective)
    p = float(stats.norm.sf((area - 0.5) / error))
    excess = area - 0.5
    needed = float(stats.norm.isf(LEVEL)) ** 2 / (12 * excess**2) if excess > 0 else math.inf
    return EventTest("", "", "classifier", f"AUC {area:.3f}", area, p, samples.effective, needed)
