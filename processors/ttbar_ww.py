"""Semileptonic ttbar against WW in the lepton + jets final state, on NanoAOD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import awkward as ak
import hist
import numpy as np
from coffea.nanoevents import NanoAODSchema
from coffea.processor import ProcessorABC
from numpy.typing import NDArray

from coffea_conserv import fold_index

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("COLUMNS", "LeptonJets", "QuietNanoAODSchema", "axes")

Columns = dict[str, NDArray[Any]]

JETS = (1, 2, 3, 4)
COLUMNS = (
    *("lep_pt", "lep_eta", "lep_phi", "met_pt", "met_phi", "njets", "nbtags"),
    *(f"jet{k}_{name}" for k in JETS for name in ("pt", "eta", "phi", "btag")),
)
"""Primary quantities in the order in which the classifier takes them."""

SIGNALS = ("ttbar",)
BRANCHES = (
    *("run", "luminosityBlock", "event", "MET_pt", "MET_phi", "Jet_btagDeepFlavB"),
    *("Muon_pfRelIso04_all", "Electron_pfRelIso03_all"),
    *(f"{name}_{part}" for name in ("Jet", "Muon", "Electron") for part in ("pt", "eta", "phi")),
)
"""What is read of every file; of simulation also :data:`WEIGHT`."""
WEIGHT = "genWeight"
MISSING = np.float32(-999)
LEPTON_PT, JET_PT, MAX_ETA, ISOLATION, SEPARATION = 25.0, 25.0, 2.4, 0.15, 0.4
# The nearest single-precision number: every precision then agrees on which side a score lies.
B_TAG = float(np.float32(0.3))


class QuietNanoAODSchema(NanoAODSchema):  # type: ignore[misc]
    """NanoAOD without a warning for each collection that a slim file leaves out.

    A subclass, because a flag set on the original in the main program does not reach worker processes.
    """

    warn_missing_crossrefs = False


def axes() -> dict[str, hist.axis.AxesMixin]:
    """Axes of all quantities that are filled or attacked, by name."""
    high = {1: 385, 2: 265, 3: 185, 4: 145}
    regular = {
        "lep_pt": (36, 25, 205, r"$p_T^\ell$ [GeV]"),
        "lep_eta": (24, -2.4, 2.4, r"$\eta^\ell$"),
        "met_pt": (36, 0, 216, r"$E_T^{miss}$ [GeV]"),
        **{f"jet{k}_pt": (30, 25, high[k], f"$p_T^{{j{k}}}$ [GeV]") for k in JETS},
        **{f"jet{k}_eta": (24, -2.4, 2.4, rf"$\eta^{{j{k}}}$") for k in JETS},
        **{f"jet{k}_btag": (20, 0, 1, f"b score of jet {k}") for k in JETS},
        "ht": (40, 50, 850, r"$H_T$ [GeV]"),
        "mt_lep": (32, 0, 160, r"$m_T(\ell)$ [GeV]"),
        "m_jj": (40, 0, 800, r"$m_{j1j2}$ [GeV]"),
        "m_lb": (40, 0, 520, r"$m_{\ell b}$ [GeV]"),
    }
    made: dict[str, hist.axis.AxesMixin] = {
        name: hist.axis.Regular(bins, low, top, name=name, label=label)
        for name, (bins, low, top, label) in regular.items()
    }
    for name in ("lep_phi", "met_phi", *(f"jet{k}_phi" for k in JETS)):
        made[name] = hist.axis.Regular(32, -np.pi, np.pi, circular=True, name=name, label=name)
    made["njets"] = hist.axis.Integer(2, 10, name="njets", label="jets")
    made["nbtags"] = hist.axis.Integer(0, 6, name="nbtags", label="b tags")
    return made


class LeptonJets(ProcessorABC):  # type: ignore[misc]
    """Histograms and yields of one isolated lepton and at least two jets by process and region.

    The fileset's metadata carries ``is_data``, ``process`` and, for simulation, ``xsec`` [pb], ``lumi``
    [1/pb] and ``sumw``.

    Parameters
    ----------
    conserv
        What is called with the selected events to make the robustness systematic, usually
        ``ttbar_ww_inputs.build_conserv(...)``. ``None``: the plain analysis.
    """

    def __init__(self, conserv: Callable[..., Any] | None = None) -> None:
        self.conserv = conserv

    def process(self, events: ak.Array) -> dict[str, Any]:
        """Fill one chunk.

        Parameters
        ----------
        events
            NanoAOD, read with :class:`QuietNanoAODSchema`.

        Returns
        -------
        dict
            ``histograms`` (name → process × region × quantity), ``cutflow`` (process → cut → events), and, if
            given, ``conserv``: its accumulator.
        """
        process, is_data = events.metadata["process"], events.metadata["is_data"]
        cutflow = {"all": len(events)}
        events, lepton = _one_lepton(events)
        cutflow["one lepton"] = len(events)
        events, lepton, jets = _two_jets(events, lepton)
        cutflow["two jets"] = len(events)

        columns, context = _columns(events, lepton, jets)
        weight = np.ones(len(events)) if is_data else _weight(events)
        regions = {"tt_2b": columns["nbtags"] >= 2, "ww_0b": columns["nbtags"] == 0}
        cutflow |= {name: int(mask.sum()) for name, mask in regions.items()}
        output: dict[str, Any] = {
            "histograms": _fill(process, {**columns, **_watched(columns)}, regions, weight),
            "cutflow": {process: cutflow},
        }
        if self.conserv is not None:
            output["conserv"] = self.conserv(
                columns,
                weight=None if is_data else weight,
                events=events,
                regions=regions,
                fold=fold_index(
                    columns["lep_pt"], columns["lep_phi"], columns["met_phi"], columns["jet1_pt"]
                ),
                context=context,
                data=is_data,
            )
        return output

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the merged output as it is."""
        return accumulator


def _one_lepton(events: ak.Array) -> tuple[ak.Array, Columns]:
    """Keep events with exactly one isolated muon or electron, and give its momentum."""
    muons, electrons = events.Muon, events.Electron
    muons = muons[_isolated(muons, muons.pfRelIso04_all)]
    electrons = electrons[_isolated(electrons, electrons.pfRelIso03_all)]
    one = ak.to_numpy(ak.num(muons) + ak.num(electrons) == 1)
    lepton = {
        name: _flat(ak.concatenate([muons[name][one], electrons[name][one]], axis=1))
        for name in ("pt", "eta", "phi")
    }
    return events[one], lepton


def _isolated(leptons: ak.Array, isolation: ak.Array) -> ak.Array:
    return (leptons.pt >= LEPTON_PT) & (abs(leptons.eta) <= MAX_ETA) & (isolation < ISOLATION)


def _two_jets(events: ak.Array, lepton: Columns) -> tuple[ak.Array, Columns, ak.Array]:
    """Keep events with at least two jets beside the lepton, ordered by transverse momentum."""
    jets = events.Jet
    angle = np.mod(jets.phi - lepton["phi"] + np.pi, 2 * np.pi) - np.pi
    apart = np.hypot(jets.eta - lepton["eta"], angle) >= SEPARATION
    jets = jets[(jets.pt >= JET_PT) & (abs(jets.eta) <= MAX_ETA) & apart]
    jets = jets[ak.argsort(jets.pt, axis=1, ascending=False, stable=True)]
    two = ak.to_numpy(ak.num(jets) >= 2)
    return events[two], {name: values[two] for name, values in lepton.items()}, jets[two]


def _columns(events: ak.Array, lepton: Columns, jets: ak.Array) -> tuple[Columns, Columns]:
    """Primary quantities of the model, and what ``valid`` compares them with."""
    tagged = jets.btagDeepFlavB > B_TAG
    columns = {f"lep_{name}": values for name, values in lepton.items()}
    columns |= {"met_pt": _flat(events.MET.pt), "met_phi": _flat(events.MET.phi)}
    columns |= {"njets": _flat(ak.num(jets)), "nbtags": _flat(ak.sum(tagged, axis=1))}
    branches = {"pt": "pt", "eta": "eta", "phi": "phi", "btag": "btagDeepFlavB"}
    for name, branch in branches.items():
        matrix = _padded(jets[branch])
        columns |= {f"jet{k}_{name}": matrix[:, k - 1] for k in JETS}
    # No jet may fall below the fifth one, which does not move, nor change its tag.
    context = {"jet5_pt": np.maximum(_padded(jets.pt)[:, 4], 0)}
    context |= {f"jet{k}_tagged": columns[f"jet{k}_btag"] > B_TAG for k in JETS}
    return {name: columns[name] for name in COLUMNS}, context


def _watched(columns: Columns) -> Columns:
    """H_T of the four leading jets and m_T(ℓ), for the histograms of the plain analysis."""
    ht = sum(np.maximum(columns[f"jet{k}_pt"], 0) for k in JETS)
    angle = columns["lep_phi"] - columns["met_phi"]
    mt_lep = 2 * np.sqrt(columns["lep_pt"] * columns["met_pt"]) * np.abs(np.sin(angle / 2))
    return {"ht": np.asarray(ht), "mt_lep": mt_lep}


def _flat(values: ak.Array) -> NDArray[Any]:
    """Copy an array with one value per event, nested or not, to NumPy."""
    return np.array(ak.to_numpy(ak.flatten(values, axis=None)))


def _padded(values: ak.Array) -> NDArray[np.float32]:
    """First five values per event, shape (events, 5), absent ones ``MISSING``."""
    filled = ak.fill_none(ak.pad_none(values, 5, axis=1, clip=True), MISSING)
    return np.array(ak.to_numpy(filled), dtype=np.float32).reshape(-1, 5)


def _weight(events: ak.Array) -> NDArray[np.float64]:
    """Weight to the luminosity; the sign of the generator weight stays."""
    metadata = events.metadata
    factor = float(metadata["xsec"] * metadata["lumi"] / metadata["sumw"])
    return np.asarray(_flat(events.genWeight) * np.float64(factor))


def _fill(
    process: str, columns: Columns, regions: dict[str, NDArray[np.bool_]], weight: NDArray[Any]
) -> dict[str, hist.Hist[Any]]:
    """Histogram of each quantity; missing values are left out."""
    selections = {"inclusive": np.ones(len(weight), dtype=bool), **regions}
    filled = {}
    for name, axis in axes().items():
        if name not in columns:
            continue
        histogram = hist.Hist(
            hist.axis.StrCategory([], growth=True, name="process"),
            hist.axis.StrCategory([], growth=True, name="region"),
            axis,
            storage=hist.storage.Weight(),
        )
        values = columns[name]
        for region, mask in selections.items():
            use = mask & (values != MISSING)
            histogram.fill(process=process, region=region, **{name: values[use]}, weight=weight[use])
        filled[name] = histogram
    return filled
