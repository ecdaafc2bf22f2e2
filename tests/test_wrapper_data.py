"""The wrapper on true NanoAOD of several versions, with an analysis that modifies its events."""

from __future__ import annotations

import awkward as ak
import hist
import numpy as np
import pytest
from coffea.processor import IterativeExecutor, Runner
from made_nano import Schema
from torch import nn

from coffea_conserv import Budget, Conserv, Feature
from coffea_conserv.solvers.transport.solver import Transport
from coffea_conserv.wrapper import ConservProcessor, variation_of

pytestmark = pytest.mark.data

FILES = {
    "NanoAODv5_sample": "MET.pt",
    "crown_nanoAOD_b": "MET.pt",
    "nanoAOD_2015_CMS_Open_Data_ttbar": "MET.pt",
    "nano_tt_v12": "MET.pt",
    "nano_tt_v15": "PuppiMET.pt",
    "nano_dy": "MET.pt",
    "nano_dy_empty": "MET.pt",
}


class Sum(nn.Module):
    """Large momenta are signal."""

    def forward(self, x):
        """Give logits."""
        return (x.clamp(min=0).sum(1) - 150) / 40


def analysis(events):
    """Dijet masses, and the jets that muons belong to, after a correction that is written in place."""
    events["Jet", "pt"] = events.Jet.pt * 1.02
    two = events[ak.num(events.Jet) > 1]
    mass = (two.Jet[:, 0] + two.Jet[:, 1]).mass
    matched = ak.flatten(events.Muon.matched_jet.pt)
    return {
        "mass": hist.new.Reg(40, 0, 800, name="mass").Weight().fill(mass),
        "matched": hist.new.Reg(40, 0, 400, name="pt").Double().fill(matched[~ak.is_none(matched)]),
        "jets": int(ak.sum(ak.num(events.Jet))),
    }


@pytest.fixture(params=FILES)
def made(request, real_folder):
    """Fileset of one file, and the analysis with an attack around it."""
    axis = hist.axis.Regular(30, 0, 400)
    features = [Feature("met", axis, low=0), *(Feature(f"jet{k}", axis, missing=-1.0) for k in (1, 2))]
    attack = Conserv(
        model=Sum(), features=features, budget=Budget(rms=0.2, correlation=0.2), solver=Transport(steps=10)
    )
    wrapped = ConservProcessor(
        analysis,
        attack,
        columns={"met": FILES[request.param], "jet1": "Jet.pt[0]", "jet2": "Jet.pt[1]"},
        regions=lambda events: {"all": np.ones(len(events), dtype=bool)},
        weight=lambda events: np.sign(events.genWeight),
    )
    path = str(real_folder / "nanoaod" / f"{request.param}.root")
    return {"sample": {"files": {path: "Events"}, "metadata": {"is_data": False}}}, wrapped


@pytest.mark.filterwarnings(
    "ignore:Branch Photon_:RuntimeWarning", "ignore:divide by zero", "ignore:invalid value"
)
def test_true_files_pass_through(made):
    """Nominal output is that of the analysis; attacked jets reach masses and cross-references."""
    fileset, wrapped = made
    runner = Runner(IterativeExecutor(status=False), schema=Schema, savemetrics=True)
    output, metrics = runner(fileset, wrapped)
    alone, plain = runner(fileset, analysis)
    if not output:  # a file without events has no chunk
        assert not alone
        return
    rest = {name: output[name] for name in alone}
    assert variation_of(rest, "nominal") == alone
    up = variation_of(rest, "conservUp")
    assert up["jets"] == alone["jets"]
    if alone["jets"] > 200:
        assert up["mass"] != alone["mass"]
        assert (up["matched"] != alone["matched"]) == bool(alone["matched"].sum(flow=True))
    extra = {"MET_pt-data", "PuppiMET_pt-data", "genWeight-data"}
    assert set(metrics["columns"]) - set(plain["columns"]) <= extra
