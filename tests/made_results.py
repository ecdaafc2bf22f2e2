"""Results of small made-up runs: two processes, one of two datasets, an estimate and real data."""

from __future__ import annotations

import numpy as np
from made_events import SETTINGS, made, summed

from coffea_conserv.results.making import make_result
from coffea_conserv.sums.groups import Estimate

PROCESSES = {"W": ["W1", "W2"]}
ESTIMATES = (Estimate("QCD", {"signal": "control"}, 1.5),)
SAMPLES = (
    made("W1", "a:0-100", seed=1, weight=0.3),
    made("W1", "a:100-160", 60, seed=2, weight=0.3, strength=0.2),
    made("W2", "b:0-80", 80, seed=3, weight=0.7),
    made("W2", "b:80-170", 90, seed=4, weight=0.7, strength=0.3),
    made("Z", "c:0-120", 120, seed=5, weight=0.1),
    made("Mu", "d:0-300", 300, seed=6, real=True),
)


def result_of(*samples, settings=SETTINGS, processes=PROCESSES, estimates=ESTIMATES, **options):
    """Make the result of some samples, of :data:`SAMPLES` by default."""
    sums = summed(*(samples or SAMPLES))
    return make_result(sums, settings, processes=processes, estimates=estimates, **options)


def events_of(names, region, samples=SAMPLES):
    """Values by variation and quantity, and weights, of all events of some datasets in a region."""
    chosen = [sample for sample in samples if sample.dataset in names]
    weight = np.concatenate([sample.weight[sample.regions[region]] for sample in chosen])
    values = {}
    for variation in chosen[0].values:
        columns = {}
        for name in chosen[0].values[variation]:
            parts = [sample.values[variation][name][sample.regions[region]] for sample in chosen]
            columns[name] = np.concatenate(parts).astype(float)
        values[variation] = columns
    return values, weight
