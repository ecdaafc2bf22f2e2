"""What the attack needs to know of lepton + jets of top pairs, and where its features are in NanoAOD."""

from __future__ import annotations

from functools import partial
from typing import Any

import awkward as ak
import hist
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coffea_conserv import Budget, Conserv, ConservProcessor, Feature
from coffea_conserv.wrapper import Bound
from processors import top_pairs
from processors.classifier import Classifier
from processors.kinematics import delta_r
from processors.top_pairs import COLUMNS, JET_PT, JETS, LEPTON_PT, MAX_ETA, SEPARATION

__all__ = ("TopPairsClassifier", "build_conserv", "features", "valid", "wrap")

Quantities = dict[str, Tensor]

_ROUNDING = 1e-4
"""An attacked event must be apart for the selection too, which rounds in another way."""


def features(frozen: tuple[str, ...] = ("njets",)) -> list[Feature]:
    """Primary quantities in the order of the model.

    Parameters
    ----------
    frozen
        Those that do not move; the number of jets because a jet more or less is another event.
    """
    pt = {"lep_pt": (20, LEPTON_PT, 225), "met_pt": (20, 0, 300)}
    pt |= {f"jet{k}_pt": (20, JET_PT, high) for k, high in zip(JETS, (430, 330, 230, 180), strict=True)}
    eta = hist.axis.Regular(12, -MAX_ETA, MAX_ETA)
    made = []
    for name in COLUMNS:
        if name in pt:
            axis = hist.axis.Regular(*pt[name])
            made.append(Feature(name, axis, unit="GeV", low=pt[name][1], frozen=name in frozen))
        elif name == "njets":
            made.append(Feature(name, hist.axis.Integer(4, 12), frozen=True))
        else:
            made.append(Feature(name, eta, low=-MAX_ETA, high=MAX_ETA, frozen=name in frozen))
    return made


def ht(x: Quantities) -> Tensor:
    """Scalar sum of the transverse momenta of the four leading jets [GeV], shape (events,)."""
    return torch.stack([x[f"jet{k}_pt"] for k in JETS]).sum(0)


def valid(x: Quantities) -> Tensor:
    """Tell whether jets are still ordered, the fifth one included, and apart from the lepton."""
    good = torch.ones_like(x["jet1_pt"], dtype=torch.bool)
    for k in JETS:
        below = x["jet5_pt"] if k == len(JETS) else x[f"jet{k + 1}_pt"]
        distance = delta_r(x[f"jet{k}_eta"], x[f"jet{k}_dphi"], x["lep_eta"], torch.zeros_like(below))
        good = good & (x[f"jet{k}_pt"] >= below) & (distance > SEPARATION + _ROUNDING)
    return good


class TopPairsClassifier(Classifier):
    """Top pairs against whatever it is trained with.

    Parameters
    ----------
    hidden
        Widths of the hidden layers.
    """

    def __init__(self, hidden: tuple[int, ...] = (32, 16)) -> None:
        super().__init__(derived=len(COLUMNS) + 1, hidden=hidden)

    def derive(self, x: Tensor) -> Tensor:
        """Logarithms of momenta and of H_T, and absolute pseudorapidities, shape (events, 13)."""
        q = dict(zip(COLUMNS, x.unbind(1), strict=True))
        momenta = [torch.log1p(q[name]) for name in COLUMNS if name.endswith("_pt")]
        angles = [q[name].abs() for name in COLUMNS if name.endswith("_eta")]
        return torch.stack([*momenta, torch.log1p(ht(q)), *angles, q["njets"]], dim=1)


def build_conserv(
    model: Any, budget: Budget, frozen: tuple[str, ...] = ("njets",), **options: Any
) -> Conserv:
    """Make the attack of this analysis.

    Parameters
    ----------
    model
        The classifier.
    budget
        How far the events may move.
    frozen
        Features that do not move.
    **options
        Further settings of :class:`coffea_conserv.Conserv`, such as ``seed``.
    """
    settings: dict[str, Any] = {"features": features(frozen), "valid": valid, "budget": budget}
    settings["watch"] = {"ht": (ht, hist.axis.Regular(20, 120, 920))}
    settings["score"] = hist.axis.Regular(20, 0, 1, name="score", label="score")
    return Conserv(model=model, **(settings | options))


LEPTON = ("lep_pt", "lep_eta", "njets")
"""Frozen where the events themselves are changed: the lepton is of one of two collections."""


def wrap(analysis: Any, conserv: Conserv, met: str = "MET") -> ConservProcessor:
    """Run an analysis that stays as it is on nominal and on attacked NanoAOD.

    Parameters
    ----------
    analysis
        A processor of NanoAOD.
    conserv
        Of :func:`build_conserv`, with ``frozen=LEPTON``.
    met
        Collection of the missing momentum, ``PuppiMET`` from version 15 of NanoAOD on.
    """
    columns: dict[str, Any] = {"met_pt": f"{met}.pt"}
    columns |= {name: partial(_frozen, name) for name in LEPTON}
    columns |= {f"jet{k}_{n}": Bound(f"Jet.{n}", partial(_place, k)) for n in ("pt", "eta") for k in JETS}
    return ConservProcessor(
        analysis,
        conserv,
        columns=columns,
        select=_selected,
        regions=_regions,
        weight=lambda events: events.genWeight,
        context=lambda events: top_pairs.context(top_pairs.one_lepton(events)[0], _jets(events)),
    )


def _selected(events: ak.Array) -> NDArray[np.bool_]:
    """Events with one lepton and four jets."""
    lepton, one = top_pairs.one_lepton(events)
    four = ak.sum(top_pairs.good_jets(events[one].Jet, lepton), axis=1) >= len(JETS)
    chosen = np.array(one)
    chosen[one] = ak.to_numpy(four)
    return chosen


def _jets(events: ak.Array) -> ak.Array:
    """Jets of selected events, the hardest first, with their place in the file."""
    jets = events.Jet
    jets = ak.with_field(jets, ak.local_index(jets.pt), "place")
    lepton, _ = top_pairs.one_lepton(events)
    jets = jets[top_pairs.good_jets(jets, lepton)]
    return jets[ak.argsort(jets.pt, axis=1, ascending=False, stable=True)]


def _place(k: int, events: ak.Array) -> ak.Array:
    return ak.fill_none(ak.pad_none(_jets(events).place, k, axis=1)[:, k - 1], -1)


def _regions(events: ak.Array) -> dict[str, Any]:
    tags = ak.sum(_jets(events).btagDeepFlavB > top_pairs.B_TAG, axis=1)
    return {"4j1b": tags == 1, "4j2b": tags >= 2}


def _frozen(name: str, events: ak.Array) -> NDArray[Any]:
    lepton, _ = top_pairs.one_lepton(events)
    return top_pairs.inputs(events, lepton, _jets(events))[name]
