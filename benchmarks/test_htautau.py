"""H → ττ as physics wants it: primary quantities move, derived ones follow and are watched."""

from __future__ import annotations

import pytest
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner
from problems import data_folder, needs_data

from coffea_conserv import Budget
from example_analysis.steps import TOTALS
from example_analysis.train import ANALYSES, Settings, train
from processors import htautau
from processors.htautau_inputs import build_conserv

pytestmark = needs_data


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Classifiers of the analysis, trained for a tenth of the time."""
    folder = tmp_path_factory.mktemp("models")
    return train(ANALYSES["htautau"], htautau.fileset(data_folder()), folder, Settings(epochs=10))


@pytest.mark.parametrize("rms", [0.0, 0.05])
def test_regions(benchmark, row, models, rms):
    """Weighted fooling ratios of every background in every region."""
    budget = Budget(rms=rms, correlation=0.006, watch=0.05)
    conserv = build_conserv([str(path) for path in models.models], budget, objective="cross")
    fileset = {n: d for n, d in htautau.fileset(data_folder()).items() if not d["metadata"]["is_data"]}
    run = Runner(IterativeExecutor(status=False), schema=BaseSchema, chunksize=200_000)

    def call():
        return run(fileset, htautau.HiggsToTauTau(conserv), treename="Events")

    out = benchmark.pedantic(call, rounds=1)
    result = conserv.result(out["conserv"], processes={"W": ["W1", "W2", "W3"]}, totals=TOTALS["htautau"])
    assert result.verdict.passed
    regions = [region for region in result.regions if not region.endswith("_ss")]
    for name in ("DY", "TT", "W1", "W2", "W3", "backgrounds"):
        found = {region: result.fooling_of(name, region) for region in regions}
        row(
            "H to tau tau, primary quantities, weighted, events toward signal",
            rms=rms,
            name=name,
            **{region: f"{100 * f.ratio:.1f} ± {100 * f.error:.1f} %" for region, f in found.items()},
            auc=f"{models.auc[0]:.3f}",
        )
