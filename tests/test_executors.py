"""Every executor of coffea gives the same attacked events, also when a chunk is tried again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from coffea.nanoevents import BaseSchema
from coffea.processor import FuturesExecutor, IterativeExecutor, Runner
from made_conserv import call, conserv, contents, difference, events
from made_processor import Analysis, write_files

from coffea_conserv import ConfigurationError
from example_analysis.cluster import Where, executor

CHUNK = 150
ROUNDING = 1e-12


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Fileset of small flat files."""
    return write_files(tmp_path_factory.mktemp("files"), CHUNK)


@contextmanager
def place(name):
    """Give the executor of the example: on a cluster of its own, or on one that runs already."""
    distributed = pytest.importorskip("distributed")
    if name == "two workers":
        with executor(Where(workers=2), status=False) as made:
            yield made
        return
    settings = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with (
        distributed.LocalCluster(n_workers=1, **settings) as cluster,
        executor(Where(client=cluster.scheduler_address), status=False) as made,
    ):
        yield made


class Unreadable(Exception):  # noqa: N818 -- nothing raises it
    """What a file would be skipped for."""


def run(using, files, processor):
    """Run the analysis; every chunk is processed."""
    # Without skipbadfiles, coffea 2026.5 tries a chunk again on Dask only.
    runner = Runner(using, schema=BaseSchema, chunksize=CHUNK, skipbadfiles=(Unreadable,))
    chunks = list(runner.preprocess(files, treename="Events"))
    done = runner.run(chunks, processor, treename="Events")
    assert done["processed"] == set(chunks)
    return done["out"]


@pytest.fixture(scope="module")
def reference(files):
    """Output of one chunk after the other in this process."""
    return run(IterativeExecutor(status=False), files, Analysis(conserv()))


def assert_same(output, reference):
    """Events, moved events and unattacked events are identical, and so are sums but for their rounding."""
    assert output["selected"] == reference["selected"]
    found, expected = contents(output["conserv"]), contents(reference["conserv"])
    assert found.keys() == expected.keys()
    for key, value in found.items():
        if key[0] == "counts":  # numbers of events, among them those that have moved, are integers
            assert np.array_equal(value[[0, 4, 6]], expected[key][[0, 4, 6]])
        if key[0] == "hist" or key[0] == "paired":  # weights of a dataset are equal: exact sums
            assert np.array_equal(value, expected[key]), key
        assert np.allclose(value, expected[key], rtol=ROUNDING, atol=ROUNDING)


def test_the_attack_does_something(reference):
    """The comparisons below are of attacked events: all limits kept, and many have moved."""
    result = conserv().result(reference["conserv"], asked={"W": 490, "Z": 300, "data": 151})
    assert result.verdict.passed
    assert all(coverage.complete for coverage in result.coverage)
    assert {fooling.name for fooling in result.fooling} == {"W", "Z", "all simulation"}
    assert np.mean([fooling.moved_share for fooling in result.fooling]) > 0.2


def test_one_chunk_after_the_other(files, reference):
    """The same run again gives the same events, with another copy of the attack."""
    assert_same(run(IterativeExecutor(status=False), files, Analysis(conserv())), reference)


def test_the_order_of_files_does_not_matter(files, reference):
    """Files and datasets in another order give the same events."""
    turned = {
        name: {**entry, "files": dict(reversed(entry["files"].items()))}
        for name, entry in reversed(files.items())
    }
    assert_same(run(IterativeExecutor(status=False), turned, Analysis(conserv())), reference)


def test_another_seed_gives_other_events(files, reference):
    """What differs is what was attacked, and nothing else."""
    output = run(IterativeExecutor(status=False), files, Analysis(conserv(seed=2)))
    found, expected = contents(output["conserv"]), contents(reference["conserv"])
    scores = [key for key in expected if key[:2] == ("hist", "score")]
    same = {key: np.array_equal(found[key], expected[key]) for key in scores}
    assert all(same[key] for key in scores if key[-1] == "nominal" or key[2] == "data")
    assert not all(same.values())


def test_a_chunk_that_is_tried_again(files, reference, tmp_path):
    """A chunk that fails once gives the events of the first time."""
    output = run(IterativeExecutor(status=False), files, Analysis(conserv(), str(tmp_path)))
    assert len(list(tmp_path.iterdir())) == 2
    assert_same(output, reference)


def test_threads_of_one_process():
    """Four threads that share attack and model give the sums of one."""
    made, chunks = conserv(), [events(300, seed=seed) for seed in range(8)]
    one = [call(made, columns, chunk=str(k)) for k, columns in enumerate(chunks)]
    with ThreadPoolExecutor(4) as pool:
        four = list(pool.map(lambda k: call(made, chunks[k], chunk=str(k)), range(8)))
    assert [difference(*pair) for pair in zip(one, four, strict=True)] == [0] * 8


@pytest.mark.slow
def test_processes_of_loky(files, reference, tmp_path):
    """Two processes of the FuturesExecutor give the events of one, also for chunks that are tried again."""
    processor = Analysis(conserv(), str(tmp_path))
    assert_same(run(FuturesExecutor(workers=2, status=False), files, processor), reference)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one worker", "two workers"])
def test_workers_of_dask(files, reference, tmp_path, name):
    """One or two workers give the events of this process, also in a second run and when tried again."""
    with place(name) as using:
        for processor in (Analysis(conserv()), Analysis(conserv(), str(tmp_path))):
            assert_same(run(using, files, processor), reference)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("address", ["nowhere", ""])
def test_an_address_without_a_scheduler(address):
    """The address is in the text, with what to do."""
    message = f"no Dask scheduler answers at '{address}': check the address, or leave it out"
    with pytest.raises(ConfigurationError, match=message), executor(Where(client=address)):
        pass
