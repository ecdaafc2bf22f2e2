"""What it costs to leave an analysis as it is: the wrapper against the call inside of ``process()``."""

from __future__ import annotations

import statistics
import time

import awkward as ak
import hist
import numpy as np
import pytest
from coffea.nanoevents import NanoAODSchema
from coffea.processor import IterativeExecutor, ProcessorABC, Runner
from problems import data_folder
from torch import nn

from coffea_conserv import Budget, Conserv, ConservProcessor, Feature

COLUMNS = {"met": "PuppiMET.pt", "jet1": "Jet.pt[0]", "jet2": "Jet.pt[1]"}


class Schema(NanoAODSchema):
    """Without warnings about what the file does not have."""

    warn_missing_crossrefs = False


class Sum(nn.Module):
    """Large momenta are signal."""

    def forward(self, x):
        """Logits, shape (events,)."""
        return (x.clamp(min=0).sum(1) - 150) / 40


class Dijets(ProcessorABC):
    """A mass, with or without the attack inside."""

    def __init__(self, conserv=None):
        self.conserv = conserv

    def process(self, events):
        """Process one chunk."""
        two = events[ak.num(events.Jet) > 1]
        made = hist.new.Reg(40, 0, 800, name="mass").Weight().fill((two.Jet[:, 0] + two.Jet[:, 1]).mass)
        output = {"mass": made}
        if self.conserv is not None:
            some = events[ak.num(events.Jet) > 0]
            jets = np.asarray(
                ak.to_numpy(ak.fill_none(ak.pad_none(some.Jet.pt, 2, clip=True), np.float32(-1)))
            )
            output["conserv"] = self.conserv(
                {"met": some.PuppiMET.pt, "jet1": jets[:, 0], "jet2": jets[:, 1]},
                weight=some.genWeight,
                regions={"all": np.ones(len(some), dtype=bool)},
                events=events,
            )
        return output

    def postprocess(self, accumulator):
        """Return the output as it is."""
        return accumulator


def attack():
    """The attack with its default settings."""
    axis = hist.axis.Regular(30, 0, 400)
    features = [Feature("met", axis), Feature("jet1", axis), Feature("jet2", axis, missing=-1.0)]
    return Conserv(model=Sum(), features=features, budget=Budget(rms=0.1, correlation=0.1))


@pytest.mark.skipif(data_folder() is None, reason="COFFEA_CONSERV_DATA names no folder of real files")
@pytest.mark.filterwarnings("ignore")
def test_wrapper(benchmark, row):
    """Seconds and bytes per chunk of a file with 2,656 branches."""
    path = data_folder().parent / "nanoaod" / "nano_tt_v15.root"
    fileset = {"tt": {"files": {str(path): "Events"}, "metadata": {"is_data": False}}}
    ways = {
        "analysis alone": Dijets(),
        "call in process()": Dijets(attack()),
        "wrapper": ConservProcessor(
            Dijets(),
            attack(),
            columns=COLUMNS,
            select=lambda events: ak.num(events.Jet) > 0,
            regions=lambda events: {"all": np.ones(len(events), dtype=bool)},
            weight=lambda events: events.genWeight,
        ),
    }
    runner = Runner(IterativeExecutor(status=False), schema=Schema, savemetrics=True)
    times = {name: [] for name in ways}
    read = {}
    for _ in range(5):  # in turns: the machine may be busy at times
        for name, processor in ways.items():
            start = time.perf_counter()
            _, metrics = runner(fileset, processor)
            times[name].append(time.perf_counter() - start)
            read[name] = metrics["bytesread"]
    benchmark.pedantic(lambda: runner(fileset, ways["wrapper"]), rounds=1)
    base = statistics.median(times["call in process()"])
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        row("wrapper", way=name, seconds=f"{middle:.2f}", ratio=f"{middle / base:.2f}", bytes=read[name])
