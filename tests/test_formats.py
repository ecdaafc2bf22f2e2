"""Ways in which coffea reads events: parquet, PHYSLITE, eager and virtual, traced; and hardly any events."""

from __future__ import annotations

import awkward as ak
import hist
import numpy as np
import pytest
import uproot
from coffea.nanoevents import BaseSchema, NanoEventsFactory, PHYSLITESchema
from coffea.nanoevents.trace import trace
from coffea.processor import IterativeExecutor, Runner
from made_conserv import conserv, difference
from made_nano import Schema, wrapped
from made_processor import NAMES, Analysis, write_files
from torch import nn

from coffea_conserv import Budget, Conserv, ConservProcessor, Feature, InputError
from coffea_conserv.solvers.transport.solver import Transport
from coffea_conserv.wrapper import variation_of


class Sum(nn.Module):
    """Large momenta are signal."""

    def forward(self, x):
        """Logits, shape (events,)."""
        return (x.clamp(min=0).sum(1) - 60) / 20


def run(fileset, processor, **options):
    """Run a processor in this process."""
    settings = {"schema": BaseSchema, "chunksize": 1000, **options}
    call = {"trace": settings.pop("trace")} if "trace" in settings else {}
    return Runner(IterativeExecutor(status=False), **settings)(fileset, processor, treename="Events", **call)


def test_parquet_is_read_as_root_is(tmp_path):
    """The same events and limits; seeds come from the file, so that attacks differ within their spread."""
    fileset = write_files(tmp_path, 400)
    tables = {}
    for dataset, entry in fileset.items():
        arrays = [uproot.open(f"{path}:Events").arrays() for path in entry["files"]]
        path = tmp_path / f"{dataset}.parquet"
        ak.to_parquet(ak.concatenate(arrays), path)
        tables[dataset] = {"files": [str(path)], "metadata": entry["metadata"]}
    made = conserv()
    root = run(fileset, Analysis(made))
    again, parquet = (run(tables, Analysis(made), format="parquet") for _ in range(2))
    assert difference(parquet["conserv"], again["conserv"]) == 0
    assert parquet["selected"] == root["selected"]
    results = [made.result(output["conserv"]) for output in (root, parquet)]
    assert all(result.verdict.passed for result in results)
    nominal = [r.hist("x")[{"variation": "nominal"}] for r in results]
    np.testing.assert_allclose(nominal[0].values(), nominal[1].values(), rtol=1e-12)
    moved = [r.fooling_of("all simulation", "low").moved_share for r in results]
    assert min(moved) > 0.1


def physlite(path, events=600):
    """A file in the layout of PHYSLITE: vectors of jets, and one missing momentum per event."""
    rng = np.random.default_rng(3)
    count = rng.integers(1, 5, events)

    def jagged(values):
        return ak.unflatten(values.astype(np.float32), count)

    total = int(count.sum())
    jets = {
        "pt": 20 + rng.exponential(40, total),
        "eta": rng.normal(size=total),
        "phi": rng.normal(size=total),
    }
    jets["m"] = np.full(total, 5.0)
    tree = {f"AnalysisJetsAuxDyn.{name}": jagged(values) for name, values in jets.items()}
    with uproot.recreate(path) as file:
        file.mktree("CollectionTree", tree)
    return path


def test_physlite_goes_through_call_and_wrapper(tmp_path):
    """Jets of ATLAS's PHYSLITE: read in process(), and written back by the wrapper."""
    path = physlite(tmp_path / "physlite.root")
    axis = hist.axis.Regular(30, 0, 300)
    attack = Conserv(
        model=Sum(),
        features=[Feature("first", axis), Feature("second", axis, missing=-1.0)],
        budget=Budget(rms=0.2, correlation=0.2),
        solver=Transport(steps=10),
    )
    metadata = {"dataset": "tt", "is_data": False, "fileuuid": "f", "entrystart": 0, "entrystop": 600}
    factory = NanoEventsFactory.from_root(
        {str(path): "CollectionTree"}, schemaclass=PHYSLITESchema, mode="virtual", metadata=metadata
    )
    events = factory.events()
    jets = events.Jets.pt
    columns = {"first": jets[:, 0], "second": ak.fill_none(ak.firsts(jets[:, 1:]), np.float32(-1))}
    everything = {"all": np.ones(len(events), dtype=bool)}
    inside = attack(columns, weight=np.ones(len(events)), regions=everything, events=events)
    around = ConservProcessor(
        lambda events: {"ht": hist.new.Reg(50, 0, 800).Weight().fill(ak.sum(events.Jets.pt, axis=1))},
        attack,
        columns={"first": "Jets.pt[0]", "second": "Jets.pt[1]"},
        regions=lambda events: {"all": np.ones(len(events), dtype=bool)},
        weight=lambda events: np.ones(len(events)),
    ).process(events)
    assert difference(around["conserv"], inside) == 0
    assert attack.result(inside).verdict.passed
    assert variation_of(around["ht"], "conservUp") != variation_of(around["ht"], "nominal")


def test_eager_and_virtual_events_give_one_answer(nano_path):
    """The mode decides when columns are read, and nothing else."""
    where = {"dataset": "tt", "is_data": False, "fileuuid": "f", "entrystart": 0, "entrystop": 400}
    found = {}
    for mode in ("virtual", "eager"):
        factory = NanoEventsFactory.from_root(
            {str(nano_path): "Events"}, schemaclass=Schema, mode=mode, metadata=where
        )
        found[mode] = wrapped().process(factory.events())
    virtual, eager = (found[mode] for mode in ("virtual", "eager"))
    assert difference(virtual.pop("conserv"), eager.pop("conserv")) == 0
    virtual.pop("conserv_migration")
    eager.pop("conserv_migration")
    assert virtual == eager


class Plain:
    """An analysis that needs no metadata of its own: coffea traces without those of the fileset."""

    def __init__(self, made):
        self.made = made

    def __call__(self, events):
        """Process one chunk."""
        columns = {name: events[name] for name in NAMES}
        everything = {"all": np.ones(len(events), dtype=bool)}
        return {"conserv": self.made(columns, weight=np.ones(len(events)), regions=everything, events=events)}


def around(made):
    """The wrapper, around an analysis that reads one column."""
    return ConservProcessor(
        lambda events: {"x": hist.new.Reg(20, -3, 3).Double().fill(events.x)},
        made,
        columns={name: name for name in NAMES},
        regions=lambda events: {"all": np.ones(len(events), dtype=bool)},
        weight=lambda events: np.ones(len(events)),
    )


@pytest.mark.filterwarnings("ignore:.*typetracer.*:RuntimeWarning")
@pytest.mark.parametrize("way", [Plain, around])
def test_a_run_that_reads_ahead_gives_one_answer(way, tmp_path):
    """Coffea's trace calls with no event and with one; columns that it finds are read at once."""
    fileset = {name: entry for name, entry in write_files(tmp_path).items() if name != "data"}
    processor = way(conserv())
    plain, traced = run(fileset, processor), run(fileset, processor, trace=trace)
    assert difference(traced["conserv"], plain["conserv"]) == 0
    chunks = list(
        Runner(IterativeExecutor(status=False), schema=BaseSchema).preprocess(
            fileset,
            treename="Events",
            trace=trace,
            processor_instance=processor if way is Plain else processor.process,
        )
    )
    assert all(set(NAMES) <= set(chunk.preload) for chunk in chunks)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_events_are_no_error(count):
    """In no event and in one nothing moves, and everything can be added and judged."""
    made = conserv()
    few, more = (_sums(made, n, f"c{n}") for n in (count, 300))
    result = made.result(few + more)
    assert result.verdict.passed
    assert few.counts["toy", "all", "conservUp"][0] == count
    assert few.counts["toy", "all", "conservUp"][-1] == 0


def _sums(made, count, chunk):
    rng = np.random.default_rng(count)
    columns = {"x": rng.normal(size=count), "y": rng.normal(size=count), "k": rng.integers(0, 4, count)}
    regions = {"all": np.ones(count, dtype=bool)}
    return made(columns, weight=np.ones(count), regions=regions, dataset="toy", chunk=chunk)


def test_dask_awkward_says_what_to_do(nano_path):
    """Where it is installed: its arrays have no values, and the error names coffea's Runner."""
    pytest.importorskip("dask_awkward", reason="dask-awkward is not installed: it needs an old Dask")
    events = NanoEventsFactory.from_root(
        {str(nano_path): "Events"}, schemaclass=Schema, mode="dask", metadata={"dataset": "tt"}
    ).events()
    made = conserv()
    columns = {"x": events.MET.pt, "y": events.MET.pt, "k": events.MET.pt}
    with pytest.raises(InputError, match="is a dask-awkward array; run the processor with coffea's Runner"):
        made(columns, weight=None, regions={"all": events.MET.pt > 0}, dataset="tt", chunk="c")
