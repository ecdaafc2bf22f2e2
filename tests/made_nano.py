"""Small NanoAOD files, an analysis of them that knows nothing of attacks, and an attack on it."""

from __future__ import annotations

from collections import defaultdict

import awkward as ak
import hist
import numpy as np
import uproot
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory
from coffea.processor import ProcessorABC
from torch import nn

from coffea_conserv import Budget, Conserv, Feature
from coffea_conserv.solvers.transport.solver import Transport
from coffea_conserv.wrapper import ConservProcessor

PT = hist.axis.Regular(30, 0, 300)
WHERE = {"fileuuid": "f", "entrystart": 0, "entrystop": 400}
"""Which chunk a file of 400 events is."""
COLUMNS = {"met": "MET.pt", "jet1": "Jet.pt[0]", "jet2": "Jet.pt[1]", "nvtx": "Pileup.nPU"}


class Schema(NanoAODSchema):
    """Without warnings about collections that small files do not have."""

    warn_missing_crossrefs = False


def write(path, events=400, seed=1):
    """Write a file of up to four jets, up to two muons that belong to one of them, and missing momentum."""
    rng = np.random.default_rng(seed)
    jets, muons = rng.integers(0, 5, events), rng.integers(0, 3, events)
    pt = ak.unflatten((20 + rng.exponential(50, jets.sum())).astype(np.float32), jets)
    lepton = {name: np.zeros(muons.sum(), np.float32) for name in ("eta", "phi", "mass")}
    lepton["charge"] = np.ones(muons.sum(), np.int32)
    flat = {name: rng.uniform(-2, 2, jets.sum()).astype(np.float32) for name in ("eta", "phi", "mass")}
    owner = np.repeat(jets, muons)
    index = np.where(owner > 0, rng.integers(0, 2**31, len(owner)) % np.maximum(owner, 1), -1)
    tree = {
        "run": np.ones(events, np.uint32),
        "luminosityBlock": np.ones(events, np.uint32),
        "event": np.arange(events, dtype=np.uint64),
        "genWeight": np.where(rng.random(events) < 0.1, -1, 1).astype(np.float32),
        "Pileup_nPU": rng.integers(5, 40, events).astype(np.int32),
        "MET_pt": rng.exponential(40, events).astype(np.float32),
        "MET_phi": rng.uniform(-3, 3, events).astype(np.float32),
        "Jet": ak.zip(
            {
                "pt": pt[ak.argsort(pt, ascending=False)],
                **{name: ak.unflatten(values, jets) for name, values in flat.items()},
            }
        ),
        "Muon": ak.zip(
            {
                "pt": ak.unflatten((5 + rng.exponential(20, muons.sum())).astype(np.float32), muons),
                "jetIdx": ak.unflatten(index.astype(np.int32), muons),
                **{name: ak.unflatten(values, muons) for name, values in lepton.items()},
            }
        ),
    }
    with uproot.recreate(path) as file:
        file.mktree("Events", tree)
    return path


def opened(path, first=None, last=None, **metadata):
    """Events of a file as coffea's Runner hands them out, and the factory that has to live as long."""
    factory = NanoEventsFactory.from_root(
        {str(path): "Events"},
        schemaclass=Schema,
        mode="virtual",
        entry_start=first,
        entry_stop=last,
        metadata={"dataset": "tt", "is_data": False, **metadata},
    )
    events = factory.events()
    return factory, events


class Analysis(ProcessorABC):
    """Histograms, a table and a list of events; writes into its events, as analyses do."""

    def __init__(self):
        self.seen = []

    def process(self, events):
        """Process one chunk."""
        dataset = events.metadata["dataset"]
        events["Jet", "pt"] = events.Jet.pt * 1.02
        events = events[ak.num(events.Jet) > 0]
        hard = events[events.MET.pt > 30]
        made = {
            "ht": hist.Hist(
                hist.axis.StrCategory([], growth=True, name="dataset"),
                hist.axis.Regular(40, 0, 800, name="ht"),
                storage=hist.storage.Weight(),
            ),
            "matched": hist.new.Regular(40, 0, 400, name="pt").Double(),
        }
        made["ht"].fill(dataset=dataset, ht=ak.sum(events.Jet.pt, axis=1), weight=events.genWeight)
        matched = ak.flatten(events.Muon.matched_jet.pt)
        made["matched"].fill(matched[~ak.is_none(matched)])
        table = defaultdict(int, {"all": len(events), "hard": len(hard)})
        return {"histograms": made, "cutflow": {dataset: table}, "files": {events.metadata["dataset"]}}

    def postprocess(self, accumulator):
        """Add a share to the table."""
        accumulator["share"] = {
            k: table["hard"] / table["all"] for k, table in accumulator["cutflow"].items()
        }
        return accumulator


class Sum(nn.Module):
    """Large momenta are signal; a missing jet counts as none."""

    def forward(self, x):
        """Give logits."""
        return (x[:, :3].clamp(min=0).sum(1) - 150) / 40 + 0 * x[:, 3]


def features():
    """Three that move, one of them not always there, and one that does not."""
    return [
        Feature("met", PT, low=0),
        Feature("jet1", PT, low=0),
        Feature("jet2", PT, missing=-1.0, low=0),
        Feature("nvtx", hist.axis.Integer(0, 60), frozen=True),
    ]


def conserv(**options):
    """Make the attack; few steps, because strength is not what is tested here."""
    settings = {"budget": Budget(rms=0.3, correlation=0.3), "solver": Transport(steps=12), "seed": 1}
    return Conserv(model=Sum(), features=features(), **{**settings, **options})


def some_jets(events):
    """Which events are attacked."""
    return ak.num(events.Jet) > 0


def regions(events):
    """Where limits hold."""
    few = ak.num(events.Jet) < 3
    return {"few": few, "many": ~few}


def weight(events):
    """Weights of simulated events."""
    return events.genWeight


def cuts(events):
    """A cut of the analysis on a feature that moves."""
    return {"hard": events.MET.pt > 30}


def wrapped(analysis=None, attack=None, **options):
    """The analysis with the attack around it."""
    settings = {"columns": COLUMNS, "select": some_jets, "regions": regions, "weight": weight, "cuts": cuts}
    return ConservProcessor(analysis or Analysis(), attack or conserv(), **{**settings, **options})
