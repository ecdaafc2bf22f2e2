"""Lepton + jets of top pairs with b tags, after the pattern of the Analysis Grand Challenge, on NanoAOD.

The pattern (https://agc.readthedocs.io): one isolated lepton and at least four jets; H_T in events with one b
tag, the mass of the three jets of the largest summed transverse momentum in events with two or more; jets
scaled up and down. Selection and names here are this project's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import awkward as ak
import hist
import numpy as np
from coffea.processor import ProcessorABC
from numpy.typing import NDArray

from coffea_conserv import Conserv

__all__ = (
    "COLUMNS",
    "TopPairs",
    "context",
    "good_jets",
    "inputs",
    "leading",
    "met_of",
    "one_lepton",
    "select",
)

Columns = dict[str, NDArray[Any]]
Matrix = NDArray[Any]

JETS = (1, 2, 3, 4)
COLUMNS = (
    *("lep_pt", "lep_eta", "met_pt", "njets"),
    *(f"jet{k}_{name}" for name in ("pt", "eta") for k in JETS),
)
"""What the classifier takes, in its order."""

LEPTON_PT, JET_PT, MAX_ETA, ISOLATION, SEPARATION = 25.0, 30.0, 2.4, 0.15, 0.4
B_TAG = 0.28
SCALES = {"nominal": 1.0, "jet_scale_up": 1.03, "jet_scale_down": 0.97}


class TopPairs(ProcessorABC):  # type: ignore[misc]
    """Histograms of the observable and of the score by process, region and scale of the jets.

    Parameters
    ----------
    classify
        Function of a float32 matrix of :data:`COLUMNS`, shape (events, features); gives scores.
    conserv
        What is called with the selected events to make the robustness systematic, usually
        ``top_pairs_inputs.build_conserv(...)``. ``None``: the plain analysis.
    """

    def __init__(self, classify: Callable[[Matrix], Matrix], conserv: Conserv | None = None) -> None:
        self.classify = classify
        self.conserv = conserv

    def process(self, events: ak.Array) -> dict[str, Any]:
        """Fill one chunk of NanoAOD; the metadata have ``process`` and ``is_data``."""
        process, is_data = events.metadata["process"], events.metadata["is_data"]
        output: dict[str, Any] = {
            "observable": _histogram(25, 50, 550, "observable [GeV]"),
            "score": _histogram(20, 0, 1, "score"),
        }
        for scale, factor in SCALES.items():
            if is_data and scale != "nominal":
                continue
            some, lepton, jets = select(events, factor)
            weight = np.ones(len(some)) if is_data else _flat(some.genWeight)
            tags = _flat(ak.sum(jets.btagDeepFlavB > B_TAG, axis=1))
            regions = {"4j1b": tags == 1, "4j2b": tags >= 2}
            columns = inputs(some, lepton, jets)
            score = self.classify(np.stack([columns[name] for name in COLUMNS], axis=1, dtype=np.float32))
            observables = {"4j1b": _flat(ak.sum(jets.pt, axis=1)), "4j2b": trijet_mass(jets)}
            for region, mask in regions.items():
                where = {"process": process, "region": region, "scale": scale, "weight": weight[mask]}
                output["observable"].fill(**where, value=observables[region][mask])
                output["score"].fill(**where, value=score[mask])
            if scale == "nominal":
                output["selected"] = {process: {name: int(mask.sum()) for name, mask in regions.items()}}
                if self.conserv is not None:
                    output["conserv"] = self.conserv(
                        columns,
                        weight=None if is_data else weight,
                        events=events,
                        regions=regions,
                        context=context(lepton, jets),
                        data=is_data,
                    )
        return output

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the merged output as it is."""
        return accumulator


def _histogram(bins: int, low: float, high: float, label: str) -> hist.Hist[Any]:
    return hist.Hist(
        *(hist.axis.StrCategory([], growth=True, name=name) for name in ("process", "region", "scale")),
        hist.axis.Regular(bins, low, high, name="value", label=label),
        storage=hist.storage.Weight(),
    )


def select(events: ak.Array, factor: float = 1.0) -> tuple[ak.Array, Columns, ak.Array]:
    """Keep events with one isolated lepton and at least four jets, whose momenta are scaled.

    Returns
    -------
    tuple
        Events, momentum of the lepton, and jets, the hardest first.
    """
    lepton, one = one_lepton(events)
    events = events[one]
    jets = events.Jet
    jets = ak.with_field(jets, jets.pt * np.float32(factor), "pt")
    jets = jets[good_jets(jets, lepton)]
    jets = jets[ak.argsort(jets.pt, axis=1, ascending=False, stable=True)]
    four = _flat(ak.num(jets) >= len(JETS))
    return events[four], {name: values[four] for name, values in lepton.items()}, jets[four]


def one_lepton(events: ak.Array) -> tuple[Columns, NDArray[np.bool_]]:
    """Momentum of the lepton in the events with exactly one, and which events these are."""
    muons, electrons = events.Muon, events.Electron
    muons = muons[_isolated(muons, muons.pfRelIso04_all)]
    electrons = electrons[_isolated(electrons, electrons.pfRelIso03_all)]
    one = _flat(ak.num(muons) + ak.num(electrons) == 1)
    both = {n: ak.concatenate([muons[n][one], electrons[n][one]], axis=1) for n in ("pt", "eta", "phi")}
    return {name: _flat(values) for name, values in both.items()}, one


def _isolated(leptons: ak.Array, isolation: ak.Array) -> ak.Array:
    return (leptons.pt > LEPTON_PT) & (abs(leptons.eta) < MAX_ETA) & (isolation < ISOLATION)


def good_jets(jets: ak.Array, lepton: Columns) -> ak.Array:
    """Which jets are hard and central, and apart from the lepton."""
    angle = np.mod(jets.phi - lepton["phi"] + np.pi, 2 * np.pi) - np.pi
    apart = np.hypot(jets.eta - lepton["eta"], angle) > SEPARATION
    return (jets.pt > JET_PT) & (abs(jets.eta) < MAX_ETA) & apart


def trijet_mass(jets: ak.Array) -> Matrix:
    """Mass of the three jets of the largest summed transverse momentum [GeV], shape (events,)."""
    first, second, third = ak.unzip(ak.combinations(jets, 3))
    total = first + second + third
    return _flat(total.mass[ak.argmax(total.pt, axis=1, keepdims=True)])


def inputs(events: ak.Array, lepton: Columns, jets: ak.Array) -> Columns:
    """What the classifier takes, by name."""
    columns = {"lep_pt": lepton["pt"], "lep_eta": lepton["eta"]}
    columns |= {"met_pt": _flat(events[met_of(events)].pt), "njets": _flat(ak.num(jets))}
    return columns | {f"jet{k}_{name}": leading(jets[name], k) for name in ("pt", "eta") for k in JETS}


def context(lepton: Columns, jets: ak.Array) -> Columns:
    """What does not move, and an attacked event is compared with: the fifth jet, angles to the lepton."""
    angles = {f"jet{k}_dphi": leading(jets.phi, k) - lepton["phi"] for k in JETS}
    return {"jet5_pt": leading(jets.pt, 5), **angles}


def met_of(events: ak.Array) -> str:
    """Name of the missing momentum: NanoAOD from version 15 on has no MET."""
    return "MET" if "MET" in events.fields else "PuppiMET"


def leading(values: ak.Array, k: int) -> Matrix:
    """Value of the k-th jet, counted from 1, or 0, shape (events,)."""
    found: Matrix = _flat(ak.fill_none(ak.pad_none(values, k, axis=1)[:, k - 1], 0)).astype(np.float32)
    return found


def _flat(values: ak.Array) -> NDArray[Any]:
    """Copy an array with one value per event, nested or not, to NumPy."""
    return np.array(ak.to_numpy(ak.flatten(values, axis=None)))
