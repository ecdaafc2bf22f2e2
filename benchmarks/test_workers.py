"""A model of 17 MB over 80 small chunks: what a chunk costs more than with a small one, by executor."""

from __future__ import annotations

import contextlib
import pickle
import statistics
import sys
import time
from pathlib import Path

import cloudpickle
import hist
import lz4.frame
import numpy as np
import pytest
import torch
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import DaskExecutor, FuturesExecutor, IterativeExecutor, ProcessorABC, Runner
from torch import nn

from coffea_conserv import Budget, Conserv, Feature, Shared
from coffea_conserv.solvers.transport.solver import Transport

CHUNKS, EVENTS = 80, 200


class Ballast(nn.Module):
    """Always the same logits, whatever the room that the parameters take."""

    def __init__(self, megabytes):
        super().__init__()
        random = torch.Generator().manual_seed(1)  # ones would be compressed to nothing
        self.ballast = nn.Parameter(torch.rand(megabytes * 250_000 + 1, generator=random))

    def forward(self, x):
        """Logits, shape (events,)."""
        return x.clamp(-5, 5).sum(1) + 0 * self.ballast[0]


class Analysis(ProcessorABC):
    """Nothing but the attack."""

    def __init__(self, conserv):
        self.conserv = conserv

    def process(self, events):
        """Process one chunk."""
        columns = {name: events[name] for name in "xyz"}
        weight = np.ones(len(events))
        return self.conserv(columns, weight=weight, events=events, regions={"all": weight > 0})

    def postprocess(self, accumulator):
        """Return the output as it is."""
        return accumulator


@pytest.fixture(scope="module")
def fileset(tmp_path_factory):
    """One file of all events."""
    path = tmp_path_factory.mktemp("files") / "events.root"
    rng = np.random.default_rng(1)
    table = {name: rng.normal(size=CHUNKS * EVENTS).astype(np.float32) for name in "xyz"}
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: values.dtype for name, values in table.items()})
        file["Events"].extend(table)
    return {"some": {"files": {str(path): "Events"}}}


@contextlib.contextmanager
def iterative():
    """In this process."""
    yield IterativeExecutor(status=False)


@contextlib.contextmanager
def futures():
    """Two processes of a pool."""
    yield FuturesExecutor(status=False, workers=2)


@contextlib.contextmanager
def dask():
    """Two workers of Dask, which import this file."""
    distributed = pytest.importorskip("distributed")
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        client.run(sys.path.insert, 0, str(Path(__file__).parent))
        yield DaskExecutor(client=client, status=False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("executor", [iterative, futures, dask])
def test_chunks_of_a_large_model(executor, fileset, benchmark, row, tmp_path):
    """Milliseconds of a chunk more than with a model of a few bytes, per worker; in turns, medians."""
    axis = hist.axis.Regular(20, -3, 3)
    settings = {
        "features": [Feature(name, axis) for name in "xyz"],
        "budget": Budget(rms=0.0, correlation=0.1, move=0),  # all but the steps of the solver
    }
    models = {"small": Ballast(0), "bytes": Ballast(17), "Shared": Shared(Ballast(17), tmp_path)}
    ways = {name: Analysis(Conserv(model=model, **settings)) for name, model in models.items()}
    times = {name: [] for name in ways}
    with executor() as using:
        runner = Runner(using, schema=BaseSchema, chunksize=EVENTS)
        for round_ in range(6):
            for name, processor in ways.items():
                start = time.perf_counter()
                runner(fileset, processor)
                if round_:  # the first one loads
                    times[name].append(time.perf_counter() - start)
        benchmark.pedantic(lambda: runner(fileset, ways["Shared"]), rounds=1)
    workers = 1 if executor is iterative else 2
    scale = 1000 * workers / CHUNKS
    columns = {"alone": f"{scale * statistics.median(times['small']):.1f}"}
    for name in ("bytes", "Shared"):
        more = [a - b for a, b in zip(times[name], times["small"], strict=True)]
        columns[f"{name}, more"] = f"{scale * statistics.median(more):.1f}"
        columns[f"{name}, of it to get the model"] = f"{1000 * _to_get_it(ways[name]):.1f}"
    row("17 MB over 80 chunks: ms per chunk", executor=executor.__name__, **columns)


def _to_get_it(processor):
    """Seconds in which a worker has the model of a processor that has arrived, once it has loaded it."""
    sent = lz4.frame.compress(cloudpickle.dumps(processor))  # as coffea sends it
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        made = pickle.loads(lz4.frame.decompress(sent))  # noqa: S301 -- made above
        for handle in made.conserv.handles:
            handle.load(torch.device("cpu"))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def test_size_of_outputs(benchmark, row):
    """Bytes of the output of a chunk, and of 200 datasets with 3 regions and 20 features, merged."""
    axis = hist.axis.Regular(40, -3, 3)
    features = [Feature(f"q{j}", axis) for j in range(20)]
    conserv = Conserv(model=Ballast(0), features=features, budget=Budget(rms=0.1), solver=Transport(steps=1))
    rng = np.random.default_rng(1)
    regions = {name: np.arange(3000) % 3 == k for k, name in enumerate("abc")}

    def chunk(k):
        columns = {feature.name: rng.normal(size=3000).astype(np.float32) for feature in features}
        weight = rng.uniform(0.5, 1.5, 3000)
        return conserv(columns, weight=weight, regions=regions, dataset=f"d{k}", chunk="c")

    parts = [chunk(k) for k in range(200)]
    whole = benchmark.pedantic(lambda: _tree(parts), rounds=1)
    for name, sums in (("one chunk of a dataset", parts[0]), ("200 datasets", whole)):
        plain = pickle.dumps(sums)
        size = {"pickled, MB": len(plain), "and lz4, MB": len(lz4.frame.compress(plain))}
        row("size of outputs", what=name, **{key: f"{value / 1e6:.2f}" for key, value in size.items()})


def _tree(parts):
    """Merge as Dask does."""
    while len(parts) > 1:
        pairs = zip(parts[::2], [*parts[1::2], None], strict=False)
        parts = [a if b is None else a + b for a, b in pairs]
    return parts[0]
