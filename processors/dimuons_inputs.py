"""What the attack needs to know of the muon pairs, and where its features are in NanoAOD."""

from __future__ import annotations

import math
from typing import Any

import awkward as ak
import hist
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv import Budget, Conserv, ConservProcessor, Cuts, Feature
from processors import dimuons
from processors.classifier import Classifier
from processors.dimuons import COLUMNS, MAX_ETA, MUON_PT, REGIONS, WINDOW
from processors.kinematics import delta_phi, pair_mass

__all__ = ("DimuonClassifier", "build_conserv", "features", "mass", "valid", "wrap")

Quantities = dict[str, Tensor]

_MUON_MASS = 0.1056584  # GeV


def features() -> list[Feature]:
    """Primary quantities in the order of the model; the number of jets does not move."""
    pt, eta = hist.axis.Regular(20, MUON_PT, 155), hist.axis.Regular(12, -MAX_ETA, MAX_ETA)
    phi = hist.axis.Regular(16, -math.pi, math.pi, circular=True)
    made = []
    for k in (1, 2):
        made.append(Feature(f"mu{k}_pt", pt, unit="GeV", low=MUON_PT))
        made.append(Feature(f"mu{k}_eta", eta, low=-MAX_ETA, high=MAX_ETA))
        made.append(Feature(f"mu{k}_phi", phi))
    made.append(Feature("met_pt", hist.axis.Regular(20, 0, 200), unit="GeV", low=0.0))
    made.append(Feature("njets", hist.axis.Integer(0, 10), frozen=True))
    return made


def mass(x: Quantities) -> Tensor:
    """Invariant mass of the muons [GeV], shape (events,)."""
    pt, eta, phi = ((x[f"mu1_{name}"], x[f"mu2_{name}"]) for name in ("pt", "eta", "phi"))
    muon = torch.full_like(pt[0], _MUON_MASS)
    return pair_mass(pt, eta, phi, (muon, muon))


def valid(x: Quantities) -> Tensor:
    """Tell whether muons are still ordered, and their mass on the same side of the window."""
    same = torch.ones_like(x["mu1_pt"], dtype=torch.bool)
    for edge in WINDOW:
        same = same & ((mass(x) > edge) == (x["nominal_mass"] > edge))
    return same & (x["mu1_pt"] >= x["mu2_pt"])


class DimuonClassifier(Classifier):
    """Pairs from a Z boson against others.

    Parameters
    ----------
    hidden
        Widths of the hidden layers.
    """

    def __init__(self, hidden: tuple[int, ...] = (32, 16)) -> None:
        super().__init__(derived=7, hidden=hidden)

    def derive(self, x: Tensor) -> Tensor:
        """Logarithms of momenta and of the mass, and angles, shape (events, 7)."""
        q = dict(zip(COLUMNS, x.unbind(1), strict=True))
        logs = [torch.log1p(q[name]) for name in ("mu1_pt", "mu2_pt", "met_pt")]
        angle = torch.cos(delta_phi(q["mu1_phi"], q["mu2_phi"]))
        gap = (q["mu1_eta"] - q["mu2_eta"]).abs()
        return torch.stack([*logs, torch.log1p(mass(q)), angle, gap, q["njets"]], dim=1)


def build_conserv(model: Any, budget: Budget, **options: Any) -> Conserv:
    """Make the attack of this analysis.

    Parameters
    ----------
    model
        The classifier.
    budget
        How far the events may move.
    **options
        Further settings of :class:`coffea_conserv.Conserv`, such as ``seed``.
    """
    settings: dict[str, Any] = {"features": features(), "valid": valid, "budget": budget}
    settings["watch"] = {"mass": (mass, hist.axis.Regular(30, 0, 150))}
    settings["score"] = hist.axis.Regular(20, 0, 1, name="score", label="score")
    return Conserv(model=model, **(settings | options))


def wrap(analysis: Any, conserv: Conserv, met: str = "MET") -> ConservProcessor:
    """Run an analysis that stays as it is on nominal and on attacked NanoAOD.

    Parameters
    ----------
    analysis
        A processor of NanoAOD.
    conserv
        Of :func:`build_conserv`.
    met
        Collection of the missing momentum, ``PuppiMET`` from version 15 of NanoAOD on.
    """
    columns: dict[str, Any] = {
        f"mu{k + 1}_{name}": f"Muon.{name}[{k}]" for k in (0, 1) for name in ("pt", "eta", "phi")
    }
    columns |= {"met_pt": f"{met}.pt", "njets": lambda events: dimuons.inputs(events)["njets"]}
    return ConservProcessor(
        analysis,
        conserv,
        columns=columns,
        select=lambda events: dimuons.selection(events).all("two muons"),
        regions=lambda events: Cuts(dimuons.selection(events), REGIONS),
        weight=lambda events: events.genWeight,
        context=_context,
        data=lambda events: "genWeight" not in events.fields,
    )


def _context(events: ak.Array) -> dict[str, NDArray[np.float64]]:
    return {"nominal_mass": dimuons.pair_mass(events)}
