"""What comes after a run: templates and checks, pictures, the page, and tests of events."""

from __future__ import annotations

import time

import hist
import numpy as np
import pytest

from coffea_conserv import Budget, Feature
from coffea_conserv.evidence import gather_evidence
from coffea_conserv.evidence.effort import Effort
from coffea_conserv.evidence.multivariate import classifier_test, energy_test, sliced_tests
from coffea_conserv.evidence.pairs import pair_tests
from coffea_conserv.evidence.two_samples import make_samples
from coffea_conserv.names import VARIATIONS
from coffea_conserv.plotting import save_all
from coffea_conserv.report import write_page
from coffea_conserv.results.making import make_result
from coffea_conserv.results.result import Settings
from coffea_conserv.sums.attacked_events import Events
from coffea_conserv.sums.sums import Sample, fill_sums

PROCESSES, REGIONS, FEATURES, EVENTS = 20, 5, 30, 2000


@pytest.fixture(scope="module")
def run():
    """Merged sums of a large run, and its settings."""
    features = tuple(Feature(f"q{j}", hist.axis.Regular(30, -3, 3)) for j in range(FEATURES))
    score = hist.axis.Regular(20, 0, 1, name="score")
    settings = Settings(features, (), Budget(rms=0.05), score, 0.5, "score", 1, "c")
    rng = np.random.default_rng(1)
    total = None
    for process in range(PROCESSES + 1):
        real = process == PROCESSES
        x = rng.normal(size=(EVENTS, FEATURES)).astype(np.float32)
        masks = {f"region{r}": np.arange(EVENTS) % REGIONS == r for r in range(REGIONS)}
        values = {}
        for v in VARIATIONS[: 1 if real else None]:
            moved = x if v == "nominal" else np.roll(x, 1, axis=0)
            values[v] = {f.name: moved[:, j] for j, f in enumerate(features)}
            values[v]["score"] = np.clip(rng.random(EVENTS), 0, 0.999)
        idle = {v: np.zeros(EVENTS, bool) for v in VARIATIONS[1:]}
        name = "data" if real else f"p{process}"
        weight = np.ones(EVENTS) if real else np.full(EVENTS, 0.05)
        sums = fill_sums(
            "c", Sample(name, "0", weight, masks, values, idle, 0.5, EVENTS, real), features, score
        )
        total = sums if total is None else total + sums
    return total, settings


def test_after_a_run(run, benchmark, row, tmp_path):
    """20 processes, 5 regions, 30 features."""
    total, settings = run
    seconds = {}

    def timed(name, function):
        start = time.perf_counter()
        made = function()
        seconds[name] = time.perf_counter() - start
        return made

    result = timed("verdict", lambda: make_result(total, settings))
    benchmark.pedantic(lambda: result.templates("score"), rounds=3)
    names = (*result.quantities, "score")
    evidence = timed(
        "templates and tier A", lambda: [result.templates(n) for n in names] and gather_evidence(result)
    )
    pictures = timed("pictures", lambda: save_all(result, tmp_path / "plots"))
    page = tmp_path / "report.html"
    timed("page without regions", lambda: write_page(result, page, evidence=evidence, regions=[]))
    timed("page with all pictures", lambda: write_page(result, page, evidence=evidence))
    aims = {"templates and tier A": "5", "pictures": "60", "page without regions": "10"}
    title = "after a run of 20 processes × 5 regions × 30 features"
    for name, taken in seconds.items():
        row(title, what=name, seconds=f"{taken:.1f}", aim=aims.get(name, ""))
    row(title, what=f"{len(pictures)} pictures; page of {page.stat().st_size / 1e6:.1f} MB")
    assert seconds["templates and tier A"] < 5
    assert seconds["page without regions"] < 10


def test_tests_of_events(benchmark, row):
    """Tiers B and C of 10⁵ events of 30 features."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(100_000, FEATURES))
    moved = rng.permutation(x)
    events = Events(
        tuple(f"q{j}" for j in range(FEATURES)),
        {"nominal": x, "conservUp": moved, "conservDown": x},
        {v: np.full(len(x), 0.5) for v in VARIATIONS},
        np.ones(len(x)),
        "c",
    )
    how = Effort()
    samples = benchmark.pedantic(lambda: make_samples(events, "conservUp", 1), rounds=1)
    total = 0.0
    for name, test in (
        ("χ² of 435 pairs", lambda: pair_tests(events, samples, "conservUp", how)),
        ("slices", lambda: sliced_tests(samples, how)),
        ("energy distance", lambda: energy_test(samples, how)),
        ("classifier", lambda: classifier_test(samples, how)),
    ):
        start = time.perf_counter()
        test()
        took = time.perf_counter() - start
        total += took
        row("tests of 10⁵ events × 30 features, one direction", test=name, seconds=f"{took:.1f}")
    row("tests of 10⁵ events × 30 features, one direction", test="all", seconds=f"{total:.1f}", aim="120")
