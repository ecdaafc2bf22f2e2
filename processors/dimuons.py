"""Mass of muon pairs, after the pattern of coffea's own first example, on NanoAOD.

The pattern (https://coffea-hep.readthedocs.io, the notebook on processors): pairs of muons by charge, one
nested dictionary for each dataset. Selection and names here are this project's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import awkward as ak
import hist
import numpy as np
from coffea.analysis_tools import PackedSelection
from coffea.processor import ProcessorABC
from numpy.typing import NDArray

from coffea_conserv import Conserv, Cuts
from processors.top_pairs import met_of

__all__ = ("COLUMNS", "REGIONS", "Dimuons", "inputs", "pair_mass", "selection")

Columns = dict[str, NDArray[Any]]

COLUMNS = ("mu1_pt", "mu1_eta", "mu1_phi", "mu2_pt", "mu2_eta", "mu2_phi", "met_pt", "njets")
"""What the classifier takes, in its order."""

MUON_PT, MAX_ETA, JET_PT = 5.0, 2.4, 30.0
WINDOW = (76.0, 106.0)
"""Of the mass of a Z boson [GeV]."""
REGIONS = {"Z": ["two muons", "Z window"], "sidebands": ["two muons", "sidebands"]}


class Dimuons(ProcessorABC):  # type: ignore[misc]
    """Histograms of the mass and of the score, by dataset.

    Parameters
    ----------
    classify
        Function of a float32 matrix of :data:`COLUMNS`, shape (events, features); gives scores.
    conserv
        What is called with the selected events to make the robustness systematic, usually
        ``dimuons_inputs.build_conserv(...)``. ``None``: the plain analysis.
    """

    def __init__(
        self, classify: Callable[[NDArray[Any]], NDArray[Any]], conserv: Conserv | None = None
    ) -> None:
        self.classify = classify
        self.conserv = conserv

    def process(self, events: ak.Array) -> dict[str, Any]:
        """Fill one chunk of NanoAOD."""
        dataset, is_data = events.metadata["dataset"], "genWeight" not in events.fields
        cuts = selection(events)
        two = cuts.all("two muons")
        pairs = events[two]
        weight = np.ones(len(pairs)) if is_data else np.asarray(pairs.genWeight, dtype=np.float64)
        columns = inputs(pairs)
        values = self.classify(np.stack([columns[name] for name in COLUMNS], axis=1, dtype=np.float32))
        mass = hist.new.StrCat(["opposite", "same"], name="sign").Log(60, 2, 200, name="mass").Weight()
        sign = np.where(cuts.all("opposite charge")[two], "opposite", "same")
        mass.fill(sign=sign, mass=pair_mass(pairs), weight=weight)
        score = hist.new.StrCat(list(REGIONS), name="region").Reg(20, 0, 1, name="score").Weight()
        for region, names in REGIONS.items():
            mask = cuts.all(*names)[two]
            score.fill(region=region, score=values[mask], weight=weight[mask])
        output: dict[str, Any] = {dataset: {"entries": len(events), "mass": mass, "score": score}}
        if self.conserv is not None:
            output["conserv"] = self.conserv(
                columns,
                weight=None if is_data else weight,
                events=events,
                regions=Cuts(cuts, REGIONS, chosen="two muons"),
                context={"nominal_mass": pair_mass(pairs)},
                data=is_data,
            )
        return output

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the merged output as it is."""
        return accumulator


def selection(events: ak.Array) -> PackedSelection:
    """Cuts of this analysis."""
    muons = events.Muon[ak.num(events.Muon) >= 2]
    fine = (muons[:, :2].pt > MUON_PT) & (abs(muons[:, :2].eta) < MAX_ETA)
    two = np.array(ak.num(events.Muon) >= 2)
    mass, opposite = np.zeros(len(events)), np.zeros(len(events), dtype=bool)
    mass[two] = pair_mass(events[two])
    opposite[two] = ak.to_numpy(muons[:, 0].charge + muons[:, 1].charge == 0)
    two[two] = ak.to_numpy(ak.all(fine, axis=1))
    cuts = PackedSelection()
    cuts.add("two muons", two)
    cuts.add("opposite charge", opposite)
    cuts.add("Z window", (mass > WINDOW[0]) & (mass < WINDOW[1]))
    cuts.add("sidebands", (mass <= WINDOW[0]) | (mass >= WINDOW[1]))
    return cuts


def pair_mass(pairs: ak.Array) -> NDArray[Any]:
    """Invariant mass of the first two muons [GeV], shape (events,)."""
    return np.array(ak.to_numpy((pairs.Muon[:, 0] + pairs.Muon[:, 1]).mass))


def inputs(pairs: ak.Array) -> Columns:
    """What the classifier takes, by name."""
    columns = {
        f"mu{k + 1}_{name}": np.array(ak.to_numpy(pairs.Muon[:, k][name]))
        for k in (0, 1)
        for name in ("pt", "eta", "phi")
    }
    jets = ak.sum(pairs.Jet.pt > JET_PT, axis=1)
    return columns | {
        "met_pt": np.array(ak.to_numpy(pairs[met_of(pairs)].pt)),
        "njets": np.array(ak.to_numpy(jets)),
    }
