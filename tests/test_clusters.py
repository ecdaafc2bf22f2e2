"""Clusters in which only some workers have a GPU: chunks go there, and nothing waits for ever."""

from __future__ import annotations

import time

import pytest
from coffea.nanoevents import BaseSchema
from coffea.processor import DaskExecutor, ProcessorABC, Runner
from made_flat import write_files

from coffea_conserv import ConfigurationError
from coffea_conserv.running import workers_with

distributed = pytest.importorskip("distributed")
NoValidWorkerError = pytest.importorskip("distributed.scheduler").NoValidWorkerError

PLAIN = {"nthreads": 1, "dashboard_address": None}


class Where(ProcessorABC):
    """Counts events by worker."""

    def __init__(self, wait=0.0):
        self.wait = wait

    def process(self, events):
        """Count the events of a chunk under the name of the worker."""
        time.sleep(self.wait)
        return {distributed.get_worker().name: len(events)}

    def postprocess(self, accumulator):
        """Return the counts as they are."""
        return accumulator


@pytest.fixture
def cluster():
    """Two workers, one of which offers a GPU."""
    workers = {
        "with": {"cls": distributed.Worker, "options": PLAIN | {"resources": {"GPU": 1}}},
        "without": {"cls": distributed.Worker, "options": PLAIN},
    }
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard_address": ":0"}}
    with distributed.SpecCluster(workers=workers, scheduler=scheduler) as made:
        yield made


@pytest.fixture
def client(cluster):
    """Its client."""
    with distributed.Client(cluster) as made:
        made.wait_for_workers(2)
        yield made


def run(client, processor, fileset):
    """Run a processor over chunks of two events."""
    return Runner(DaskExecutor(client=client, status=False), schema=BaseSchema, chunksize=2)(
        fileset, processor, treename="Events"
    )


def timeout(dask_scheduler=None):
    """Seconds after which the scheduler gives up."""
    return dask_scheduler.no_workers_timeout


def test_chunks_go_where_the_resource_is(client, tmp_path):
    """And anywhere again afterwards."""
    fileset = write_files(tmp_path, count=20)
    with workers_with(client, GPU=1) as found:
        assert len(found) == 1
        assert client.run_on_scheduler(timeout) == 600
        assert run(client, Where(), fileset) == {"with": 60}
    assert client.run_on_scheduler(timeout) is None
    assert set(run(client, Where(0.01), fileset)) == {"with", "without"}


def test_no_such_worker_is_an_error_with_the_flag(client):
    """At once, or after as long as was asked."""
    with (
        pytest.raises(
            ConfigurationError, match=r'2 workers, which offer nothing; GPU=1.*--resources "GPU=2"'
        ),
        workers_with(client, wait=0, GPU=2),
    ):
        pytest.fail("there is one GPU")
    start = time.monotonic()
    with (
        pytest.raises(ConfigurationError, match=r'no worker offers FPGA=1 after 0\.5 s: .*"FPGA=1"'),
        workers_with(client, wait=0.5, FPGA=1),
    ):
        pytest.fail("there is none")
    assert time.monotonic() - start >= 0.5


def test_a_worker_that_starts_late_is_waited_for(cluster, client, tmp_path):
    """As on a batch system."""
    late = {"cls": distributed.Worker, "options": PLAIN | {"resources": {"TPU": 2}}}
    cluster.new_worker_spec = lambda: {"late": late}
    cluster.scale(3)
    with workers_with(client, wait=30, TPU=2) as found:
        assert len(found) == 1
        assert run(client, Where(), write_files(tmp_path, count=4)) == {"late": 12}


def test_a_run_whose_workers_are_gone_fails(client, tmp_path):
    """Instead of waiting for ever."""
    fileset = write_files(tmp_path, count=20)
    with workers_with(client, GPU=1, lost=1.0) as (address,):
        client.run_on_scheduler(gone, address)
        with pytest.raises(NoValidWorkerError, match="valid worker"):
            run(client, Where(), fileset)
    assert client.run_on_scheduler(timeout) is None


async def gone(address, dask_scheduler=None):
    """Remove a worker."""
    await dask_scheduler.remove_worker(address, stimulus_id="test", close=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "name a resource, as in"),
        ({"GPU": 0}, "GPU must be a number above 0, got 0"),
        ({"GPU": "one"}, "GPU must be a number above 0, got 'one'"),
        ({"GPU": 1, "wait": -1}, "wait must be a number at least 0, got -1"),
    ],
)
def test_what_is_asked_for_has_to_be_a_number(options, message):
    """Before the cluster is asked."""
    with pytest.raises(ConfigurationError, match=message), workers_with(None, **options):
        pytest.fail("not reached")
