"""What the attack needs to know of the Higgs → ττ analysis: features, derived quantities, classifier."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import hist
import torch
from torch import Tensor

from coffea_conserv import Budget, Conserv, Feature
from processors import htautau
from processors.classifier import Classifier
from processors.htautau import COLUMNS, SEPARATION
from processors.kinematics import delta_phi, delta_r, magnitude, pair_mass, pair_pt, transverse_mass

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("HiggsClassifier", "build_conserv", "features", "valid", "watch")

Quantities = dict[str, Tensor]

_ROUNDING = 1e-4
"""An event that nobody moved must stay valid although ΔR is rounded differently here."""


def features() -> list[Feature]:
    """Primary quantities in the order of the model, with the ranges of the selection.

    The tau mass does not move, because it belongs to a decay mode; the number of jets does not move, because
    a jet more or less is another event.
    """
    axis = htautau.axes()
    ranges = {
        "pt_1": (htautau.MUON_PT, None),
        "eta_1": (-htautau.MUON_ETA, htautau.MUON_ETA),
        "pt_2": (htautau.TAU_PT, None),
        "eta_2": (-htautau.TAU_ETA, htautau.TAU_ETA),
        "pt_met": (0.0, None),
        **{f"jpt_{jet}": (htautau.JET_PT, None) for jet in "12"},
        **{f"jeta_{jet}": (-htautau.JET_ETA, htautau.JET_ETA) for jet in "12"},
    }
    made = []
    for name in COLUMNS:
        options: dict[str, Any] = {}
        if name in ranges:
            options["low"], options["high"] = ranges[name]
        if name.startswith("j"):
            options["missing"] = float(htautau.MISSING)
        if name in ("njets", "m_2"):
            options["frozen"] = True
        if "pt_" in name or name == "m_2":
            options["unit"] = "GeV"
        made.append(Feature(name, axis[name], **options))
    return made


def mt_1(x: Quantities) -> Tensor:
    """Transverse mass of the muon and the missing momentum [GeV], shape (events,)."""
    return transverse_mass(x["pt_1"], x["phi_1"], x["pt_met"], x["phi_met"])


def mt_2(x: Quantities) -> Tensor:
    """Transverse mass of the tau and the missing momentum [GeV], shape (events,)."""
    return transverse_mass(x["pt_2"], x["phi_2"], x["pt_met"], x["phi_met"])


def m_vis(x: Quantities) -> Tensor:
    """Invariant mass of muon and tau [GeV], shape (events,)."""
    muon = torch.full_like(x["pt_1"], 0.1056584)
    angles = (x["eta_1"], x["eta_2"]), (x["phi_1"], x["phi_2"])
    return pair_mass((x["pt_1"], x["pt_2"]), *angles, (muon, x["m_2"]))


def pt_vis(x: Quantities) -> Tensor:
    """Transverse momentum of muon and tau together [GeV], shape (events,)."""
    return pair_pt(x["pt_1"], x["phi_1"], x["pt_2"], x["phi_2"])


def mjj(x: Quantities) -> Tensor:
    """Invariant mass of the two leading jets [GeV], NaN where there are not two, shape (events,)."""
    both = _present(x, "1") & _present(x, "2")
    jets = {
        name: tuple(torch.where(both, x[f"{name}_{jet}"], torch.ones_like(x["pt_1"])) for jet in "12")
        for name in ("jpt", "jeta", "jphi", "jm")
    }
    mass = pair_mass(*((first, second) for first, second in jets.values()))
    return torch.where(both, mass, torch.full_like(mass, math.nan))


def watch() -> dict[str, tuple[Callable[[Quantities], Tensor], Any]]:
    """Give the derived quantities that an analyst checks as well, with their axes."""
    functions = {"mt_1": mt_1, "mt_2": mt_2, "m_vis": m_vis, "pt_vis": pt_vis, "mjj": mjj}
    axis = htautau.axes()
    return {name: (function, axis[name]) for name, function in functions.items()}


def valid(x: Quantities) -> Tensor:
    """Tell which events could have been selected into the same region.

    Parameters
    ----------
    x
        Features, and from the context ``mt_low`` and ``mt_high``, each of shape (events,).

    Returns
    -------
    torch.Tensor
        Booleans, shape (events,). The region is cut on m_T(μ), which moves with its ingredients: it has to
        stay within its band. Thresholds hold, jets stay ordered, leptons and jets stay apart.
    """
    # In double precision: rounding must not carry an event across the edge of its region.
    double = {name: x[name].double() for name in ("pt_1", "phi_1", "pt_met", "phi_met")}
    mass = mt_1(double)
    good = (mass >= x["mt_low"]) & (mass < x["mt_high"])
    good = good & (x["pt_1"] >= htautau.MUON_PT) & (x["pt_2"] >= htautau.TAU_PT)
    good = good & (_distance(x, "_1", "_2") >= SEPARATION - _ROUNDING)
    for jet in "12":
        apart = (_distance(x, f"j_{jet}", "_1") >= SEPARATION - _ROUNDING) & (
            _distance(x, f"j_{jet}", "_2") >= SEPARATION - _ROUNDING
        )
        good = good & (_absent(x, jet) | (apart & (x[f"jpt_{jet}"] >= htautau.JET_PT)))
    return good & ((x["jpt_1"] >= x["jpt_2"]) | _absent(x, "1") | _absent(x, "2"))


def _distance(x: Quantities, a: str, b: str) -> Tensor:
    """ΔR of two objects, named by what surrounds ``eta`` and ``phi``: ``_1``, ``_2``, ``j_1``, ``j_2``."""
    prefix, suffix = a.split("_")
    return delta_r(x[f"{prefix}eta_{suffix}"], x[f"{prefix}phi_{suffix}"], x[f"eta{b}"], x[f"phi{b}"])


def _absent(x: Quantities, jet: str) -> Tensor:
    return x[f"jpt_{jet}"] == float(htautau.MISSING)


def _present(x: Quantities, jet: str) -> Tensor:
    return x[f"jpt_{jet}"] > 0


class HiggsClassifier(Classifier):
    """Higgs against all backgrounds; turning or mirroring an event does not change its score.

    Parameters
    ----------
    hidden
        Widths of the hidden layers.
    """

    def __init__(self, hidden: tuple[int, ...] = (64, 64, 32)) -> None:
        super().__init__(derived=34, hidden=hidden)

    def derive(self, x: Tensor) -> Tensor:
        """Compute the inputs of the first layer, shape (events, 34), from (events, 16)."""
        q = dict(zip(COLUMNS, x.unbind(1), strict=True))
        gap = q["eta_1"] - q["eta_2"]
        derived = [*_momenta(q), q["eta_1"].abs(), q["eta_2"].abs(), gap.abs(), q["m_2"], q["njets"]]
        return torch.stack([*derived, *_missing_momentum(q), *_jets(q)], dim=1)


def _momenta(q: Quantities) -> list[Tensor]:
    """Nine logarithms of momenta and masses."""
    names = (("pt_1", "phi_1"), ("pt_2", "phi_2"), ("pt_met", "phi_met"))
    px = torch.stack([q[pt] * torch.cos(q[phi]) for pt, phi in names]).sum(0)
    py = torch.stack([q[pt] * torch.sin(q[phi]) for pt, phi in names]).sum(0)
    mass_t = (mt_1(q), mt_2(q), transverse_mass(q["pt_1"], q["phi_1"], q["pt_2"], q["phi_2"]))
    total = magnitude(magnitude(mass_t[0], mass_t[1]), mass_t[2])
    values = (q["pt_1"], q["pt_2"], q["pt_met"], *mass_t[:2], m_vis(q), pt_vis(q), magnitude(px, py), total)
    return [torch.log1p(value.clamp(min=0)) for value in values]


def _missing_momentum(q: Quantities) -> list[Tensor]:
    """Eight quantities of where the missing momentum points, relative to muon and tau.

    Among them are the momenta of the neutrinos along muon and tau in the collinear approximation (Ellis,
    Hinchliffe, Soldate, van der Bij, Nucl. Phys. B 297 (1988) 221), kept finite for back-to-back pairs, and
    the projection of momenta on the bisector of the pair (CDF, Phys. Rev. Lett. 96 (2006) 011802).
    """
    opening = delta_phi(q["phi_2"], q["phi_1"])
    to_muon, to_tau = q["phi_met"] - q["phi_1"], q["phi_2"] - q["phi_met"]
    sine = torch.sin(opening)
    muon, tau = torch.sin(to_tau) * sine, torch.sin(to_muon) * sine
    regular = q["pt_met"] / (sine.square() + 0.02)
    collinear = [torch.asinh(regular * muon / q["pt_1"]), torch.asinh(regular * tau / q["pt_2"])]
    met = q["pt_met"] * torch.cos(q["phi_met"] - q["phi_1"] - opening / 2)
    visible = (q["pt_1"] + q["pt_2"]) * torch.cos(opening / 2)
    angles = [torch.cos(opening), torch.cos(to_muon), torch.cos(to_tau)]
    return [*angles, muon, tau, *collinear, (met - 0.85 * visible) / 50]


def _jets(q: Quantities) -> list[Tensor]:
    """Twelve quantities of the jets, constant where a jet is missing."""
    zero = torch.zeros_like(q["pt_1"])
    middle = (q["eta_1"] + q["eta_2"]) / 2
    derived = []
    for jet in "12":
        there = _present(q, jet)
        pt = torch.where(there, q[f"jpt_{jet}"], zero + htautau.JET_PT)
        eta = torch.where(there, q[f"jeta_{jet}"], zero)
        distance = torch.where(there, (eta - middle).abs(), zero)
        angle = torch.where(there, torch.cos(q[f"jphi_{jet}"] - q["phi_met"]), zero)
        derived += [there.to(pt.dtype), torch.log(pt / htautau.JET_PT), eta.abs(), distance, angle]
    both = _present(q, "1") & _present(q, "2")
    gap = torch.where(both, q["jeta_1"] - q["jeta_2"], zero)
    angle = torch.where(both, q["jphi_1"] - q["jphi_2"], zero)
    # The logarithm of m_jj² / (p_T1 p_T2) of massless jets, finite at 0.
    spread = torch.log1p(4 * (torch.sinh(gap / 2).square() + torch.sin(angle / 2).square()))
    return [*derived, gap.abs(), spread]


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
        To be given to :class:`processors.htautau.HiggsToTauTau`.
    """
    settings: dict[str, Any] = {"features": features(), "watch": watch(), "valid": valid, "budget": budget}
    settings["score"] = hist.axis.Regular(20, 0, 1, name="score", label="score")
    settings |= {"working_point": 0.5, "objective": "score"}
    return Conserv(model=models, **(settings | options))
