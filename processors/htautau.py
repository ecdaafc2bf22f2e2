"""Higgs → ττ → μτ_h on the flat skims of the CMS outreach analysis (2012 data, 8 TeV)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import awkward as ak
import hist
import numpy as np
from coffea.processor import ProcessorABC
from numpy.typing import NDArray

from coffea_conserv import fold_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ("COLUMNS", "HiggsToTauTau", "axes", "fileset", "qcd_estimate", "transverse_mass")

Columns = dict[str, NDArray[Any]]

COLUMNS = (
    *("pt_1", "eta_1", "phi_1"),  # the muon
    *("pt_2", "eta_2", "phi_2", "m_2"),  # the hadronic tau
    *("pt_met", "phi_met", "njets"),
    *("jpt_1", "jeta_1", "jphi_1", "jpt_2", "jeta_2", "jphi_2"),
)
"""Primary quantities in the order in which the classifier takes them."""

SIGNALS = ("ggH", "qqH")
BACKGROUNDS = ("DY", "TT", "W")
MISSING = np.float32(-999)
MUON_PT, TAU_PT, JET_PT = 17.0, 20.0, 30.0
MUON_ETA, TAU_ETA, JET_ETA = 2.1, 2.3, 4.7
SEPARATION = 0.5
"""Smallest distance ΔR of muon and tau, and of a jet from either: a nearer jet is that lepton itself."""
MT_SIGNAL, MT_WJETS = 30.0, 70.0
B_TAG = 0.8
QCD_FACTOR = 0.8
"""Opposite-sign over same-sign multijet events, as the outreach analysis uses it."""

_WATCHED = ("mt_1", "mt_2", "m_vis", "pt_vis")
BRANCHES = (*COLUMNS, *_WATCHED, "q_1", "q_2", "jbtag_1", "jm_1", "jm_2")
"""What is read of every file; of simulation also :data:`WEIGHT`."""
WEIGHT = "weight"


@dataclass(frozen=True)
class Sample:
    """One file of the skim: its name, its process, and whether it is real data."""

    file: str
    process: str
    is_data: bool = False


SAMPLES = {
    "ggH": Sample("GluGluToHToTauTauSkim", "ggH"),
    "qqH": Sample("VBF_HToTauTauSkim", "qqH"),
    "DY": Sample("DYJetsToLLSkim", "DY"),
    "TT": Sample("TTbarSkim", "TT"),
    "W1": Sample("W1JetsToLNuSkim", "W"),
    "W2": Sample("W2JetsToLNuSkim", "W"),
    "W3": Sample("W3JetsToLNuSkim", "W"),
    "Run2012B": Sample("Run2012B_TauPlusXSkim", "data", is_data=True),
    "Run2012C": Sample("Run2012C_TauPlusXSkim", "data", is_data=True),
}


def fileset(folder: Path, *, larger: bool = True) -> dict[str, dict[str, Any]]:
    """Build coffea's fileset from the folder of skims.

    Parameters
    ----------
    folder
        Folder that holds the skims, or that holds a folder ``htautau`` with them. Where a file also exists in
        the subfolder ``full``, that one is read instead of its subset, with a tenth of the weight.
    larger
        ``False``: leave the subfolder ``full`` aside.

    Returns
    -------
    dict
        Dataset name → ``files`` and ``metadata`` (``is_data``, ``process``, ``scale``).

    Raises
    ------
    FileNotFoundError
        If a file is missing; the message names all of them and where anybody gets them.
    """
    base = folder / "htautau" if (folder / "htautau").is_dir() else folder
    missing, datasets = [], {}
    for name, sample in SAMPLES.items():
        small, full = base / f"{sample.file}.root", base / "full" / f"{sample.file}.root"
        path, scale = (full, 0.1) if larger and full.is_file() else (small, 1.0)
        if not path.is_file():
            missing.append(small.name)
        metadata = {"is_data": sample.is_data, "process": sample.process, "scale": scale}
        datasets[name] = {"files": {str(path): "Events"}, "metadata": metadata}
    if missing:
        msg = (
            f"missing in {base}: {', '.join(missing)}. They are the skims of the CMS outreach analysis: "
            "https://opendata.cern.ch/record/12350 links the program (skim.cxx) and its public inputs"
        )
        raise FileNotFoundError(msg)
    return datasets


def axes() -> dict[str, hist.axis.AxesMixin]:
    """Axes of all quantities that are filled or attacked, by name."""
    regular = {
        "pt_1": (36, 17, 161, r"$p_T^\mu$ [GeV]"),
        "eta_1": (30, -2.1, 2.1, r"$\eta^\mu$"),
        "pt_2": (36, 20, 128, r"$p_T^\tau$ [GeV]"),
        "eta_2": (30, -2.3, 2.3, r"$\eta^\tau$"),
        "m_2": (32, -0.1, 1.5, r"$m_\tau$ [GeV]"),
        "pt_met": (36, 0, 180, r"$E_T^{miss}$ [GeV]"),
        "jpt_1": (36, 30, 246, r"$p_T^{j1}$ [GeV]"),
        "jeta_1": (32, -4.7, 4.7, r"$\eta^{j1}$"),
        "jpt_2": (36, 30, 174, r"$p_T^{j2}$ [GeV]"),
        "jeta_2": (32, -4.7, 4.7, r"$\eta^{j2}$"),
        "mt_1": (40, 0, 200, r"$m_T(\mu)$ [GeV]"),
        "mt_2": (36, 0, 180, r"$m_T(\tau)$ [GeV]"),
        "m_vis": (36, 10, 280, r"$m_{vis}$ [GeV]"),
        "pt_vis": (34, 0, 170, r"$p_T^{vis}$ [GeV]"),
        "mjj": (30, 0, 1500, r"$m_{jj}$ [GeV]"),
    }
    made: dict[str, hist.axis.AxesMixin] = {
        name: hist.axis.Regular(bins, low, high, name=name, label=label)
        for name, (bins, low, high, label) in regular.items()
    }
    for name in ("phi_1", "phi_2", "phi_met", "jphi_1", "jphi_2"):
        made[name] = hist.axis.Regular(32, -np.pi, np.pi, circular=True, name=name, label=name)
    made["njets"] = hist.axis.Integer(0, 8, name="njets", label="jets")
    return made


def transverse_mass(
    pt: NDArray[Any], phi: NDArray[Any], pt_met: NDArray[Any], phi_met: NDArray[Any]
) -> NDArray[np.float64]:
    """Transverse mass [GeV] in double precision, shape (events,); the regions are cut on it."""
    met = np.asarray(pt_met, dtype=np.float64)
    angle = np.asarray(phi, dtype=np.float64) - phi_met
    mass: NDArray[np.float64] = 2 * np.sqrt(pt * met) * np.abs(np.sin(angle / 2))
    return mass


def qcd_estimate(histogram: hist.Hist[Any], region: str) -> hist.Hist[Any]:
    """Estimate the multijet background of a region as 0.8 × (data − simulation) with same-sign charges.

    Parameters
    ----------
    histogram
        Histogram with the axes ``process``, ``region`` and one or more others.
    region
        Name of the opposite-sign region; ``<region>_ss`` is its same-sign partner.

    Returns
    -------
    hist.Hist
        The estimate on the remaining axes. Bins can be negative. With attacked simulation in ``histogram``
        it is the attacked estimate.
    """
    same_sign: Any = histogram[{"region": f"{region}_ss"}]
    estimate: hist.Hist[Any] = same_sign[{"process": "data"}] * QCD_FACTOR
    for process in same_sign.axes["process"]:
        if process != "data":
            estimate = estimate + same_sign[{"process": process}] * -QCD_FACTOR
    return estimate


class HiggsToTauTau(ProcessorABC):  # type: ignore[misc]
    """Histograms and yields of H → ττ → μτ_h by process and region.

    Parameters
    ----------
    conserv
        What is called with the selected events to make the robustness systematic, usually
        ``htautau_inputs.build_conserv(...)``. ``None``: the plain analysis.
    """

    def __init__(self, conserv: Callable[..., Any] | None = None) -> None:
        self.conserv = conserv

    def process(self, events: ak.Array) -> dict[str, Any]:
        """Fill one chunk.

        Parameters
        ----------
        events
            Flat skim, read with ``BaseSchema``.

        Returns
        -------
        dict
            ``histograms`` (name → process × region × quantity), ``cutflow`` (process → cut → events), and, if
            given, ``conserv``: its accumulator.
        """
        process, is_data = events.metadata["process"], events.metadata["is_data"]
        columns = _columns(events)
        weight = np.ones(len(events)) if is_data else _column(events, "weight") * events.metadata["scale"]
        mt_1 = transverse_mass(columns["pt_1"], columns["phi_1"], columns["pt_met"], columns["phi_met"])
        regions = _regions(events, mt_1)

        watched = {name: _column(events, name) for name in _WATCHED}
        output: dict[str, Any] = {
            "histograms": _fill(process, {**columns, **watched}, regions, weight),
            "cutflow": {process: {name: int(mask.sum()) for name, mask in regions.items()}},
        }
        if self.conserv is not None:
            attacked = {n: mask for n, mask in regions.items() if n.removesuffix("_ss") != "inclusive"}
            output["conserv"] = self.conserv(
                columns,
                weight=None if is_data else weight,
                events=events,
                regions=attacked,
                fold=fold_index(columns["pt_1"], columns["eta_1"], columns["phi_met"], columns["pt_2"]),
                context={**_band(mt_1), "jm_1": _column(events, "jm_1"), "jm_2": _column(events, "jm_2")},
                data=is_data,
            )
        return output

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the merged output as it is."""
        return accumulator


def _column(events: ak.Array, name: str) -> NDArray[Any]:
    return np.array(ak.to_numpy(events[name]))


def _columns(events: ak.Array) -> Columns:
    """Primary quantities; a jet that is the muon or the tau itself counts as missing."""
    columns = {name: _column(events, name) for name in COLUMNS}
    for jet in "12":
        eta, phi = columns[f"jeta_{jet}"], columns[f"jphi_{jet}"]
        is_lepton = np.zeros(len(eta), dtype=bool)
        for lepton in "12":
            angle = np.mod(phi - columns[f"phi_{lepton}"] + np.pi, 2 * np.pi) - np.pi
            is_lepton |= np.hypot(eta - columns[f"eta_{lepton}"], angle) < SEPARATION
        for name in (f"jpt_{jet}", f"jeta_{jet}", f"jphi_{jet}"):
            columns[name] = np.where(is_lepton, MISSING, columns[name])
    return columns


def _regions(events: ak.Array, mt_1: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Masks by name; ``wjets`` contains ``ttbar``, and ``inclusive`` contains all."""
    high = mt_1 >= MT_WJETS
    masks = {
        "inclusive": np.ones(len(mt_1), dtype=bool),
        "signal": mt_1 < MT_SIGNAL,
        "wjets": high,
        "ttbar": high & (_column(events, "jbtag_1") > B_TAG),
    }
    charge = _column(events, "q_1") * _column(events, "q_2")
    opposite = {name: mask & (charge < 0) for name, mask in masks.items()}
    return opposite | {f"{name}_ss": mask & (charge > 0) for name, mask in masks.items()}


def _band(mt_1: NDArray[np.float64]) -> Columns:
    """Edges of the m_T band each event lies in: an attacked event must stay inside, or it changes region."""
    edges = np.array([0.0, MT_SIGNAL, MT_WJETS, np.inf])
    index = np.digitize(mt_1, edges[1:-1])
    return {"mt_low": edges[index], "mt_high": edges[index + 1]}


def _fill(
    process: str, columns: Columns, regions: dict[str, NDArray[np.bool_]], weight: NDArray[Any]
) -> dict[str, hist.Hist[Any]]:
    """Histogram of each quantity; missing values are left out."""
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
        for region, mask in regions.items():
            use = mask & (values != MISSING)
            histogram.fill(process=process, region=region, **{name: values[use]}, weight=weight[use])
        filled[name] = histogram
    return filled
