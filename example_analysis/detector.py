"""A simple detector response: from stable particles to jets, leptons and missing momentum.

There is no pile-up, no fake lepton and no trigger. Every number is a choice that resembles a general-purpose
detector at the LHC, not a measurement. All functions are pure: arrays and a random generator in, arrays out.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np

from example_analysis.pythia import require

if TYPE_CHECKING:
    import numpy.typing as npt

    from example_analysis.pythia import Particles

    Floats = npt.NDArray[np.float64]

__all__ = (
    "ELECTRON",
    "MUON",
    "Lepton",
    "cluster",
    "electron_resolution",
    "flavours",
    "isolation",
    "jet_resolution",
    "jets",
    "leptons",
    "missing_momentum",
    "muon_resolution",
    "reconstruct",
    "tag_scores",
)

LEPTON_PT = 10.0
LOOSE_ISOLATION = 0.5
CONE = 0.4
JET_PT = 15.0
CLUSTER_PT = 5.0  # well below JET_PT, so that jets can fluctuate across that threshold
TAG_SHAPES = {5: (4.0, 1.6), 4: (2.5, 3.5), 0: (1.5, 9.0)}
"""Parameters of the Beta distribution of the b-tag score, by jet flavour.

A score above 0.3 is reached by 98 % of b, 70 % of c and 9 % of light jets; above 0.6 by 75 %, 18 % and 0.1 %.
"""


def jet_resolution(pt: Any) -> Any:
    r"""Return the relative transverse momentum resolution of jets: noise, stochastic and constant term.

    :math:`\sigma/p_T = \sqrt{(3/p_T)^2 + 0.8^2/p_T + 0.04^2}`: 18 % at 30 GeV and 9 % at 100 GeV.
    """
    return np.sqrt((3.0 / pt) ** 2 + 0.8**2 / pt + 0.04**2)


def muon_resolution(pt: Any) -> Any:
    r"""Return the relative resolution of muons (tracker), :math:`\sigma/p_T = 0.01 + 0.0001\,p_T`."""
    return 0.01 + 1e-4 * pt


def electron_resolution(pt: Any) -> Any:
    r"""Return the relative resolution of electrons (calorimeter).

    :math:`\sigma/p_T = \sqrt{0.1^2/p_T + 0.007^2}`.
    """
    return np.sqrt(0.1**2 / pt + 0.007**2)


@dataclass(frozen=True)
class Lepton:
    """How one kind of lepton is seen.

    Parameters
    ----------
    code
        PDG identity code of the negative lepton.
    mass
        In GeV.
    max_eta
        Acceptance.
    efficiency
        Share of the leptons that is reconstructed; lost ones become missing momentum.
    cone
        Radius of the isolation cone.
    """

    code: int
    mass: float
    max_eta: float
    efficiency: float
    cone: float

    @property
    def isolation_name(self) -> str:
        """Name of the isolation column as in NanoAOD."""
        return f"pfRelIso{round(10 * self.cone):02d}_all"

    def resolution(self, pt: Any) -> Any:
        """Return the relative resolution at ``pt`` in GeV."""
        return muon_resolution(pt) if abs(self.code) == 13 else electron_resolution(pt)


MUON = Lepton(code=13, mass=0.1057, max_eta=2.4, efficiency=0.95, cone=0.4)
ELECTRON = Lepton(code=11, mass=0.000511, max_eta=2.5, efficiency=0.88, cone=0.3)


def distance(first: ak.Array, second: ak.Array) -> ak.Array:
    """Return the distance in eta and phi of each ``first`` to each ``second``, ``(events, var, var)``."""
    left, right = ak.unzip(ak.cartesian([first[["eta", "phi"]], second[["eta", "phi"]]], nested=True))
    delta = np.abs(left.phi - right.phi)
    delta = ak.where(delta > np.pi, 2 * np.pi - delta, delta)
    return np.sqrt((left.eta - right.eta) ** 2 + delta**2)


def isolation(lepton: ak.Array, visible: ak.Array, cone: float) -> ak.Array:
    """Return the relative isolation of leptons.

    Parameters
    ----------
    lepton
        Records with ``pt, eta, phi`` that are also among ``visible``, ``(events, var)``.
    visible
        All visible particles, ``(events, var)``.
    cone
        Radius.

    Returns
    -------
    ak.Array
        Scalar sum of the transverse momenta in the cone without the lepton itself, over that of the lepton.
    """
    # a spread-out copy of the momenta, as awkward has no product of a nested and a flat axis
    momenta = ak.unzip(ak.cartesian([lepton.pt, visible.pt], nested=True))[1]
    inside = ak.sum(ak.where(distance(lepton, visible) < cone, momenta, 0.0), axis=-1)
    return np.maximum((inside - lepton.pt) / lepton.pt, 0.0)


def leptons(visible: ak.Array, kind: Lepton, rng: np.random.Generator) -> tuple[ak.Array, ak.Array]:
    """Return reconstructed leptons of one kind, and which visible particles are isolated leptons.

    Parameters
    ----------
    visible
        Visible particles, ``(events, var)``.
    kind
        Acceptance, efficiency and resolution.
    rng
        Source of the smearing and the losses.

    Returns
    -------
    tuple of ak.Array
        Leptons with ``pt, eta, phi, mass, charge``, isolation and ``isolated``, sorted by ``pt``,
        ``(events, var)``; and a mask over ``visible`` of the isolated ones, reconstructed or not: they are no
        part of any jet.
    """
    candidate = (abs(visible.id) == kind.code) & (visible.pt > LEPTON_PT) & (abs(visible.eta) < kind.max_eta)
    true = visible[candidate]
    relative = isolation(true, visible, kind.cone)
    index = ak.local_index(visible)[candidate][relative < LOOSE_ISOLATION]
    number = ak.to_numpy(ak.num(true))
    total = int(number.sum())
    smear = ak.unflatten(rng.standard_normal(total), number)
    kept = ak.unflatten(rng.random(total) < kind.efficiency, number)
    pt = true.pt * np.maximum(1.0 + kind.resolution(true.pt) * smear, 0.01)
    columns = {
        "pt": pt,
        "eta": true.eta,
        "phi": true.phi,
        "mass": ak.full_like(pt, kind.mass),
        "charge": -np.sign(true.id),
        kind.isolation_name: relative,
        "isolated": relative < LOOSE_ISOLATION,
    }
    return by_pt(ak.zip(columns)[kept]), _mask_at(visible, index)


def _mask_at(array: ak.Array, index: ak.Array) -> ak.Array:
    """Return a mask over a jagged array that is true at local positions ``index``."""
    counts = ak.to_numpy(ak.num(array))
    start = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    flat = np.zeros(int(counts.sum()), dtype=bool)
    flat[ak.to_numpy(ak.flatten(index + start)).astype(np.int64)] = True
    return ak.unflatten(flat, counts)


def by_pt(objects: ak.Array) -> ak.Array:
    """Return objects in falling order of ``pt`` in each event."""
    return objects[ak.argsort(objects.pt, axis=1, ascending=False)]


def cluster(inputs: ak.Array) -> ak.Array:
    """Cluster particles to anti-kt jets of radius 0.4 (Cacciari, Salam, Soyez, arXiv:0802.1189) with FastJet.

    Parameters
    ----------
    inputs
        Records with ``px, py, pz, E`` in GeV, ``(events, var)``.

    Returns
    -------
    ak.Array
        Jets above 5 GeV with ``px, py, pt, eta, phi, mass``, ``(events, var)``.

    Raises
    ------
    ImportError
        If FastJet is not installed.
    """
    fastjet = require("fastjet")
    with contextlib.suppress(ImportError, AttributeError):  # only the banner, whose switch is not public
        require("fastjet._swig").ClusterSequence.set_fastjet_banner_stream(None)
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, CONE)
    momenta = ak.zip({name: inputs[name] for name in ("px", "py", "pz", "E")}, with_name="Momentum4D")
    found = fastjet.ClusterSequence(momenta, definition).inclusive_jets(min_pt=CLUSTER_PT)
    px, py, pz, energy = (found[name] for name in ("px", "py", "pz", "E"))
    pt = np.hypot(px, py)
    return ak.zip(
        {
            "px": px,
            "py": py,
            "pt": pt,
            "eta": np.arcsinh(pz / pt),
            "phi": np.arctan2(py, px),
            "mass": np.sqrt(np.maximum(energy**2 - pt**2 - pz**2, 0.0)),
        }
    )


def flavours(jet: ak.Array, hadrons: ak.Array) -> ak.Array:
    """Return 5 for jets with a b hadron within 0.4, else 4 with a c hadron, else 0, ``(events, var)``."""
    near = distance(jet, hadrons) < CONE
    kind = ak.unzip(ak.cartesian([jet.pt, hadrons.flavour], nested=True))[1]
    return ak.fill_none(ak.max(ak.where(near, kind, 0), axis=-1), 0)


def tag_scores(flavour: npt.NDArray[np.int32], rng: np.random.Generator) -> Floats:
    """Draw b-tag scores between 0 and 1 from the Beta distribution of each jet's flavour, ``(jets,)``."""
    score = np.empty(len(flavour))
    for code, (a, b) in TAG_SHAPES.items():
        chosen = flavour == code
        score[chosen] = rng.beta(a, b, int(chosen.sum()))
    return score


def jets(true: ak.Array, hadrons: ak.Array, scale: float, rng: np.random.Generator) -> ak.Array:
    """Return the measured jets, in the order of the true ones.

    Parameters
    ----------
    true
        Clustered jets, ``(events, var)``.
    hadrons
        Hadrons with a heavy quark, ``(events, var)``.
    scale
        Factor on the jet energy scale.
    rng
        Source of smearing and tag scores.

    Returns
    -------
    ak.Array
        Jets with ``pt, eta, phi, mass, btagDeepFlavB, hadronFlavour``, also those below threshold.
    """
    number = ak.to_numpy(ak.num(true))
    smear = ak.unflatten(rng.standard_normal(int(number.sum())), number)
    factor = scale * np.maximum(1.0 + jet_resolution(true.pt) * smear, 0.01)
    flavour = flavours(true, hadrons)
    score = tag_scores(ak.to_numpy(ak.flatten(flavour)), rng)
    return ak.zip(
        {
            "pt": true.pt * factor,
            "eta": true.eta,
            "phi": true.phi,
            "mass": true.mass * factor,
            "btagDeepFlavB": ak.unflatten(score, number),
            "hadronFlavour": flavour,
        }
    )


def vector_sum(objects: ak.Array) -> tuple[Floats, Floats]:
    """Return the sums of ``pt cos(phi)`` and ``pt sin(phi)`` in each event, two arrays ``(events,)``."""
    x = ak.sum(objects.pt * np.cos(objects.phi), axis=1)
    y = ak.sum(objects.pt * np.sin(objects.phi), axis=1)
    return ak.to_numpy(x), ak.to_numpy(y)


def missing_momentum(*parts: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Return magnitude and angle of minus the sum of momenta ``(x, y)``, two arrays ``(events,)``."""
    x, y = (-np.sum(axis, axis=0) for axis in zip(*parts, strict=True))
    return np.hypot(x, y), np.arctan2(y, x)


def soft_noise(sum_et: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw the noise of the soft term, a Gaussian of width ``2 + 0.6 sqrt(sum ET)`` GeV in x and in y."""
    width = 2.0 + 0.6 * np.sqrt(sum_et)
    return width * rng.standard_normal(len(width)), width * rng.standard_normal(len(width))


def reconstruct(particles: Particles, scale: float, rng: np.random.Generator) -> dict[str, ak.Array]:
    """Run the whole response on a set of events.

    Parameters
    ----------
    particles
        Of the generator.
    scale
        Factor on the jet energy scale.
    rng
        Source of all randomness.

    Returns
    -------
    dict of str to ak.Array
        ``Jet``, ``Muon``, ``Electron`` as records ``(events, var)`` above thresholds and sorted by ``pt``;
        ``MET_pt`` and ``MET_phi`` ``(events,)``. The missing momentum balances measured jets above 15 GeV,
        reconstructed isolated leptons, everything else that is visible (the soft term) and the noise of the
        latter.
    """
    visible = particles.visible
    muon, is_muon = leptons(visible, MUON, rng)
    electron, is_electron = leptons(visible, ELECTRON, rng)
    rest = visible[~(is_muon | is_electron)]
    true = cluster(rest)
    jet = jets(true, particles.hadrons, scale, rng)
    hard = jet.pt > JET_PT
    rest_sum, hard_sum = vector_sum(rest), vector_sum(true[hard])
    soft = (rest_sum[0] - hard_sum[0], rest_sum[1] - hard_sum[1])
    noise = soft_noise(ak.to_numpy(ak.sum(rest.pt, axis=1)), rng)
    charged = (vector_sum(part[part.isolated]) for part in (muon, electron))
    met_pt, met_phi = missing_momentum(vector_sum(jet[hard]), *charged, soft, noise)
    return {
        "Jet": by_pt(jet[hard]),
        "Muon": muon[[name for name in muon.fields if name != "isolated"]],
        "Electron": electron[[name for name in electron.fields if name != "isolated"]],
        "MET_pt": met_pt,
        "MET_phi": met_phi,
    }
