"""Generator set-up: from a hard process to the stable particles of each event, with Pythia 8."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = (
    "BEAM_ENERGY",
    "HARD_PROCESSES",
    "XSEC",
    "Particles",
    "Setting",
    "configure",
    "particles",
    "require",
)

BEAM_ENERGY = 13_000
"""Centre-of-mass energy in GeV."""

HARD_PROCESSES: dict[str, tuple[str, ...]] = {
    "ttbar": ("Top:gg2ttbar=on", "Top:qqbar2ttbar=on"),
    "WW": ("WeakDoubleBoson:ffbar2WW=on",),
}
"""Hard processes by name; in each of them one W boson decays to leptons and the other one to quarks."""

XSEC: dict[str, float] = {"ttbar": 223.3, "WW": 28.21}
"""Leading-order cross section times branching fractions in pb, summed over the charge of the leptonic W.

Pythia's own estimate from 300,000 events per process, good to 0.1 %. A constant, not the estimate of each
run, so that the ratio of the processes and the luminosity do not fluctuate with the size of a run.
"""

CHUNK = 1000  # events in memory at a time; smaller ones slow the array operations down
MAX_SEED = 900_000_000  # Pythia's limit
NEUTRINOS = (12, 14, 16)
VISIBLE_ETA = 4.7
VISIBLE_PT = 0.3
HADRON_PT = 5.0


@dataclass(frozen=True)
class Setting:
    """What one generator instance is asked for.

    Parameters
    ----------
    process
        A key of :data:`HARD_PROCESSES`.
    charge
        Charge of the W boson that decays to leptons, +1 or -1.
    seed
        Seed of Pythia, between 1 and 900,000,000.
    biased
        Enhance hard scatters by ``(pTHat / 50 GeV)**0.5``; the event weights undo it.
    wimpy
        Start the initial-state shower at the factorisation scale (``SpaceShower:pTmaxMatch=1``), which makes
        fewer and softer extra jets than the default.
    mpi
        Simulate multiple parton interactions; about four times slower.
    """

    process: str
    charge: int
    seed: int
    biased: bool
    wimpy: bool
    mpi: bool

    def commands(self) -> tuple[str, ...]:
        """Return the settings as Pythia reads them."""
        leptonic, hadronic = ("Pos", "Neg") if self.charge > 0 else ("Neg", "Pos")
        return (
            "Print:quiet=on",
            "Random:setSeed=on",
            f"Random:seed={self.seed}",
            f"Beams:eCM={BEAM_ENERGY}",
            "HadronLevel:all=on",
            f"PartonLevel:MPI={'on' if self.mpi else 'off'}",
            *HARD_PROCESSES[self.process],
            "24:onMode=off",
            f"24:on{leptonic}IfAny=11 12 13 14 15 16",
            f"24:on{hadronic}IfAny=1 2 3 4 5",
            *(
                (
                    "PhaseSpace:bias2Selection=on",
                    "PhaseSpace:bias2SelectionPow=0.5",
                    "PhaseSpace:bias2SelectionRef=50",
                )
                if self.biased
                else ()
            ),
            *(("SpaceShower:pTmaxMatch=1",) if self.wimpy else ()),
        )


@dataclass(frozen=True)
class Particles:
    """Particles of a set of events.

    Parameters
    ----------
    visible
        Stable particles that a detector sees: records ``id, px, py, pz, E, pt, eta, phi`` in GeV,
        ``(events, var)``.
    hadrons
        Decayed hadrons with a b or c quark: records ``flavour`` (5 or 4), ``eta, phi``, ``(events, var)``.
    weight
        Generator weights, ``(events,)``.
    """

    visible: ak.Array
    hadrons: ak.Array
    weight: npt.NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.weight)


def require(name: str) -> Any:
    """Import a module of the optional extra ``generate``.

    Raises
    ------
    ImportError
        If it is not installed; names the extra.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        msg = f"{name} is needed to generate events: pip install 'coffea-conserv[generate]'"
        raise ImportError(msg) from error


def configure(commands: tuple[str, ...]) -> Any:
    """Return an initialised generator.

    Parameters
    ----------
    commands
        Settings such as ``"Beams:eCM=13000"``.

    Raises
    ------
    ImportError
        If Pythia is not installed.
    ValueError
        If Pythia refuses a setting (``readString`` answers ``False`` and goes on otherwise).
    RuntimeError
        If Pythia cannot start with these settings.
    """
    generator = require("pythia8mc").Pythia("", False)  # False: no banner
    for command in commands:
        if not generator.readString(command):
            msg = f"Pythia refuses the setting {command!r}: check its name and value in the Pythia 8 manual"
            raise ValueError(msg)
    if not generator.init():
        msg = f"Pythia cannot start with the settings {', '.join(commands)}: see its messages above"
        raise RuntimeError(msg)
    return generator


def particles(setting: Setting, events: int) -> Iterator[Particles]:
    """Generate events, a thousand at a time.

    Parameters
    ----------
    setting
        What to generate.
    events
        Number of events. Pythia leaves out the very few that it cannot hadronise, so slightly fewer may come.

    Yields
    ------
    Particles
        Of at most 1000 events; how events are split does not change them.
    """
    generator = configure(setting.commands())
    for start in range(0, events, CHUNK):
        batch = generator.nextBatch(min(CHUNK, events - start))
        if len(batch):
            yield _reduced(batch)


def _reduced(batch: ak.Array) -> Particles:
    """Keep what the detector response needs; flat arrays, as most particles are dropped."""
    record = batch.prt
    counts = ak.to_numpy(ak.num(record))
    event = np.repeat(np.arange(len(counts)), counts)
    ids = np.abs(_flat(record.id))
    px, py, pz = _flat(record.p.px), _flat(record.p.py), _flat(record.p.pz)
    pt = np.hypot(px, py)
    final = _flat(record.status) > 0
    seen = final & (pt > VISIBLE_PT) & (np.abs(pz) < pt * np.sinh(VISIBLE_ETA)) & ~np.isin(ids, NEUTRINOS)
    flavour = hadron_flavour(ids)
    heavy = ~final & (flavour > 0) & (pt > HADRON_PT)

    def take(mask: npt.NDArray[np.bool_], **fields: npt.NDArray[Any]) -> ak.Array:
        angles = {"eta": np.arcsinh(pz[mask] / pt[mask]), "phi": np.arctan2(py[mask], px[mask])}
        columns = {name: values[mask] for name, values in fields.items()} | angles
        number = np.bincount(event[mask], minlength=len(counts))
        return ak.unflatten(ak.zip(columns), number)

    visible = take(seen, id=_flat(record.id), px=px, py=py, pz=pz, E=_flat(record.p.e), pt=pt)
    weight = ak.to_numpy(batch.info.weights[:, 0]).astype(np.float64)
    return Particles(visible, take(heavy, flavour=flavour), weight)


def _flat(column: ak.Array) -> npt.NDArray[Any]:
    """Return a jagged column as one flat numpy array."""
    flat: npt.NDArray[Any] = ak.to_numpy(ak.flatten(column))
    return flat


def hadron_flavour(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return 5 for b hadrons, 4 for c hadrons and 0 for all else.

    Parameters
    ----------
    ids
        Absolute PDG identity codes ``(particles,)``. Digits 2 to 4 from the right are the quarks; diquarks
        have a zero as digit 2 and are no hadrons.

    Returns
    -------
    numpy.ndarray
        Flavours ``(particles,)``.
    """
    light, middle, heavy = (ids // 10) % 10, (ids // 100) % 10, (ids // 1000) % 10
    hadron = (ids > 100) & (light > 0)
    has_b = hadron & ((heavy == 5) | (middle == 5))
    has_c = hadron & ((heavy == 4) | (middle == 4))
    return np.where(has_b, 5, np.where(has_c, 4, 0)).astype(np.int32)
