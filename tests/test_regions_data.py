"""Regions of the real analysis are no cuts on the score, and cuts that are added to them are found."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner

from coffea_conserv import Budget, InputError
from processors import htautau, htautau_inputs

pytestmark = pytest.mark.data
CUTS = {
    "above": lambda score, columns, signal: score > np.median(score),
    "window": lambda score, columns, signal: np.abs(score - np.median(score)) < np.std(score) / 2,
    "with a feature": lambda score, columns, signal: (score > np.median(score)) & (columns["pt_1"] > 25),
    "in a region": lambda score, columns, signal: signal & (score > np.median(score[signal])),
}


class Caller:
    """Stands in for the attack: calls it with further regions, and keeps which were refused."""

    def __init__(self, conserv):
        self.conserv = conserv

    def __call__(self, columns, **extra):
        """Try the regions as they are, and with each cut."""
        regions = {name: np.asarray(mask) for name, mask in extra.pop("regions").items()}
        with torch.no_grad():
            table = np.stack([columns[f.name] for f in self.conserv.features], axis=1).astype(np.float32)
            score = torch.sigmoid(htautau_model()(torch.from_numpy(table))).numpy().ravel()
        jets = {"no jets": columns["njets"] == 0, "two jets": columns["njets"] >= 2}
        self.conserv(columns, regions={**regions, **jets, "eta": np.abs(columns["eta_1"]) < 1}, **extra)
        found = dict.fromkeys(CUTS, 0)
        for name, cut in CUTS.items():
            try:
                mask = cut(score, columns, regions["signal"])
                self.conserv(columns, regions={**regions, "sr": mask}, **extra)
            except InputError as error:
                assert "region 'sr' is a cut on the score" in str(error)  # noqa: PT017 -- counted below
                found[name] += 1
        return {**found, "chunks": 1}


def htautau_model():
    """Make a classifier that nobody has trained, the same one every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = htautau_inputs.HiggsClassifier()
    made.layers[-1].weight.data.mul_(5)
    return made.eval()


@pytest.mark.parametrize(("size", "share"), [(100_000, 0.6), (1000, 0.6), (150, 0.0)])
def test_cuts_are_found_and_regions_are_not(size, share):
    """Nothing is refused of what analysts select on; cuts are found where a chunk has enough events."""
    named = os.environ.get("COFFEA_CONSERV_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("COFFEA_CONSERV_DATA does not name a folder of real files")
    files = htautau.fileset(Path(named), larger=False)
    files = {name: files[name] for name in ("TT", "DY", "W3")}
    conserv = htautau_inputs.build_conserv(htautau_model(), Budget(move=0))
    runner = Runner(IterativeExecutor(status=False), schema=BaseSchema, chunksize=size, maxchunks=15)
    output = runner(files, htautau.HiggsToTauTau(Caller(conserv)), treename="Events")["conserv"]
    assert output["above"] >= 0.9 * output["chunks"]
    for name in CUTS:
        assert output[name] >= share * output["chunks"], name
