"""What the attack needs to know of the ttbar/WW analysis: features, derived quantities, classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hist
import torch
from torch import Tensor

from coffea_conserv import Budget, Conserv, Feature
from processors import ttbar_ww
from processors.classifier import Classifier
from processors.kinematics import delta_r, pair_mass, transverse_mass
from processors.ttbar_ww import B_TAG, COLUMNS, JET_PT, JETS, LEPTON_PT, MAX_ETA, SEPARATION

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("TopClassifier", "build_conserv", "features", "valid", "watch")

Quantities = dict[str, Tensor]

_ROUNDING = 1e-4
"""An event that nobody moved must stay valid although ΔR is rounded differently here."""


def features() -> list[Feature]:
    """Primary quantities in the order of the model, with the ranges of the selection.

    The numbers of jets and of b tags do not move: they define the regions.
    """
    axis = ttbar_ww.axes()
    ranges = {"pt": (JET_PT, None), "eta": (-MAX_ETA, MAX_ETA), "btag": (0.0, 1.0)}
    made = []
    for name in COLUMNS:
        kind = name.split("_")[-1]
        options: dict[str, Any] = {"frozen": True} if name in ("njets", "nbtags") else {}
        if kind in ranges:
            options["low"], options["high"] = ranges[kind]
        if name == "met_pt":
            options["low"] = 0.0
        if name in ("jet3_" + kind, "jet4_" + kind):
            options["missing"] = float(ttbar_ww.MISSING)
        if kind == "pt":
            options["unit"] = "GeV"
        made.append(Feature(name, axis[name], **options))
    return made


def ht(x: Quantities) -> Tensor:
    """Scalar sum of the transverse momenta of the four leading jets [GeV], shape (events,)."""
    return torch.stack([torch.relu(x[f"jet{k}_pt"]) for k in JETS]).sum(0)


def mt_lep(x: Quantities) -> Tensor:
    """Transverse mass of the lepton and the missing momentum [GeV], shape (events,)."""
    return transverse_mass(x["lep_pt"], x["lep_phi"], x["met_pt"], x["met_phi"])


def m_jj(x: Quantities) -> Tensor:
    """Invariant mass of the two leading jets, taken as massless [GeV], shape (events,)."""
    pt, eta, phi = ((x[f"jet1_{name}"], x[f"jet2_{name}"]) for name in ("pt", "eta", "phi"))
    return pair_mass(pt, eta, phi)


def m_lb(x: Quantities) -> Tensor:
    """Invariant mass of the lepton and the jet with the largest b score [GeV], shape (events,)."""
    best = torch.stack([x[f"jet{k}_btag"] for k in JETS]).argmax(0, keepdim=True)
    jet = {
        name: torch.stack([x[f"jet{k}_{name}"] for k in JETS]).gather(0, best).squeeze(0)
        for name in ("pt", "eta", "phi")
    }
    return pair_mass((x["lep_pt"], jet["pt"]), (x["lep_eta"], jet["eta"]), (x["lep_phi"], jet["phi"]))


def watch() -> dict[str, tuple[Callable[[Quantities], Tensor], Any]]:
    """Give the derived quantities that an analyst checks as well, with their axes."""
    functions = {"ht": ht, "mt_lep": mt_lep, "m_jj": m_jj, "m_lb": m_lb}
    axis = ttbar_ww.axes()
    return {name: (function, axis[name]) for name, function in functions.items()}


def valid(x: Quantities) -> Tensor:
    """Tell which events could have been selected into the same region.

    Parameters
    ----------
    x
        Features, and from the context ``jet5_pt`` [GeV] and ``jet{k}_tagged``, each of shape (events,).

    Returns
    -------
    torch.Tensor
        Booleans, shape (events,). Thresholds and acceptance hold, jets stay ordered and apart from the
        lepton, and every b score stays on its side of the tag, so that the number of tags does not change.
    """
    good = (x["lep_pt"] >= LEPTON_PT) & (x["lep_eta"].abs() <= MAX_ETA)
    for k in JETS:
        pt, eta = x[f"jet{k}_pt"], x[f"jet{k}_eta"]
        below = x[f"jet{k + 1}_pt"]
        distance = delta_r(eta, x[f"jet{k}_phi"], x["lep_eta"], x["lep_phi"])
        fine = (pt >= JET_PT) & (eta.abs() <= MAX_ETA) & (distance >= SEPARATION - _ROUNDING)
        fine = fine & (pt >= below) & ((x[f"jet{k}_btag"] > B_TAG) == (x[f"jet{k}_tagged"] > 0))
        good = good & (fine | (pt == float(ttbar_ww.MISSING)))
    return good


class TopClassifier(Classifier):
    """Semileptonic ttbar against WW; turning or mirroring an event does not change its score.

    Parameters
    ----------
    hidden
        Widths of the hidden layers.
    """

    def __init__(self, hidden: tuple[int, ...] = (64, 32)) -> None:
        super().__init__(derived=31, hidden=hidden)

    def derive(self, x: Tensor) -> Tensor:
        """Compute the inputs of the first layer, shape (events, 31), from (events, 23)."""
        q = dict(zip(COLUMNS, x.unbind(1), strict=True))
        momenta = [q["lep_pt"], q["met_pt"], ht(q), mt_lep(q), m_jj(q), m_lb(q)]
        derived = [torch.log1p(value.clamp(min=0)) for value in momenta]
        derived += [q["lep_eta"].abs(), q["njets"], q["nbtags"]]
        derived += [torch.cos(q["lep_phi"] - q["met_phi"]), torch.cos(q["jet1_phi"] - q["jet2_phi"])]
        for k in JETS:
            derived += _jet_quantities(q, k)
        return torch.stack(derived, dim=1)


def _jet_quantities(q: Quantities, k: int) -> list[Tensor]:
    """Five quantities of one jet, 0 where it is missing."""
    zero = torch.zeros_like(q["lep_pt"])
    present = q[f"jet{k}_pt"] > 0
    pt = torch.where(present, q[f"jet{k}_pt"], zero + JET_PT)
    score = torch.where(present, q[f"jet{k}_btag"], zero)
    to_lepton = torch.cos(torch.where(present, q[f"jet{k}_phi"] - q["lep_phi"], zero + torch.pi / 2))
    to_met = torch.cos(torch.where(present, q[f"jet{k}_phi"] - q["met_phi"], zero + torch.pi / 2))
    eta = torch.where(present, q[f"jet{k}_eta"], zero)
    return [torch.log(pt / JET_PT), eta.abs(), score, to_lepton, to_met]


def build_conserv(models: Any, budget: Budget, **options: Any) -> Conserv:
    """Make the attack of this analysis.

    Parameters
    ----------
    models
        The classifier, or one per fold: files of torch.export or modules.
    budget
        How far the events may move.
    **options
        Further settings of :class:`coffea_conserv.Conserv`, such as ``seed``.

    Returns
    -------
    Conserv
        To be given to :class:`processors.ttbar_ww.LeptonJets`.
    """
    settings: dict[str, Any] = {"features": features(), "watch": watch(), "valid": valid, "budget": budget}
    settings["score"] = hist.axis.Regular(20, 0, 1, name="score", label="score")
    settings |= {"working_point": 0.5, "objective": "score"}
    return Conserv(model=models, **(settings | options))
