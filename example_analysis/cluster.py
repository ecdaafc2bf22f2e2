"""Where the chunks are processed: in this process, on a local Dask cluster, or on one that runs already."""

from __future__ import annotations

import importlib.util
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coffea.processor import DaskExecutor, IterativeExecutor

import processors
from coffea_conserv import ConfigurationError

__all__ = ("EXECUTORS", "Where", "check", "executor")

EXECUTORS = ("dask", "iterative")
CONNECT, WAIT = 20, 60  # seconds for the scheduler to answer, and for the first worker


@dataclass(frozen=True)
class Where:
    """Where the chunks are processed.

    Parameters
    ----------
    executor
        ``dask`` or ``iterative``, the latter in this process, one chunk after the other.
    workers
        Number of worker processes of the local Dask cluster, one thread each.
    client
        Address of a Dask scheduler that runs already, such as ``tcp://host:8786``; replaces the local
        cluster.

    Raises
    ------
    ConfigurationError
        If a value is out of its range, or if a scheduler is given to the iterative executor.
    """

    executor: str = "dask"
    workers: int = 2
    client: str | None = None

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            msg = f"unknown executor {self.executor!r}: choose from {', '.join(EXECUTORS)}"
            raise ConfigurationError(msg)
        if self.workers < 1:
            msg = f"{self.workers} workers can do nothing: ask for at least one"
            raise ConfigurationError(msg)
        if self.client and self.executor != "dask":
            msg = f"the scheduler {self.client} needs executor 'dask', got {self.executor!r}"
            raise ConfigurationError(msg)


def check(where: Where) -> None:
    """Find out before the work starts whether it could be done there.

    Parameters
    ----------
    where
        Which place; a scheduler given by address has to answer and to have a worker with this package.

    Raises
    ------
    ConfigurationError
        If Dask is not installed, or whatever is wrong with the cluster.
    """
    if where.executor != "dask":
        return
    if importlib.util.find_spec("distributed") is None:
        msg = "executor 'dask' needs Dask: pip install 'coffea-conserv[dask]', or take --executor iterative"
        raise ConfigurationError(msg)
    if where.client:
        with _client(where):
            pass


@contextmanager
def executor(where: Where, *, status: bool = True) -> Iterator[Any]:
    """Give coffea's executor; a cluster that was started for it stops at the end.

    Parameters
    ----------
    where
        Which one.
    status
        Show coffea's progress bar.
    """
    if where.executor == "iterative":
        yield IterativeExecutor(status=status)
        return
    with _client(where) as client:
        yield DaskExecutor(client=client, status=status)


@contextmanager
def _client(where: Where) -> Iterator[Any]:
    from distributed import Client, LocalCluster  # noqa: PLC0415 -- optional, and slow to import

    if where.client is None:
        # One thread each: torch and awkward in two threads of one process slow each other down. Any free
        # port, because another cluster on this machine may have the usual one.
        cluster = LocalCluster(n_workers=where.workers, threads_per_worker=1, dashboard_address=":0")
        with cluster, Client(cluster) as client:
            yield client
        return
    try:
        client = Client(where.client, timeout=CONNECT)
    except (OSError, ValueError) as error:
        msg = f"no Dask scheduler answers at {where.client!r}: check the address, or leave it out"
        raise ConfigurationError(msg) from error
    with client:
        _prepare(client)
        yield client


def _prepare(client: Any) -> None:
    """Check that the workers have the plugin, and send them the processors, which nobody installs."""

    def has_plugin() -> bool:  # defined here, it travels by value: workers cannot import this module
        import importlib.util  # noqa: PLC0415

        return importlib.util.find_spec("coffea_conserv") is not None

    try:
        client.wait_for_workers(1, timeout=WAIT)
    except TimeoutError as error:
        msg = f"the Dask scheduler has no worker after {WAIT} s: start some, or leave the address out"
        raise ConfigurationError(msg) from error
    found = client.run(has_plugin)
    # The scheduler unpickles the schema, which is defined in processors and imports the plugin.
    found["the scheduler"] = client.run_on_scheduler(has_plugin)
    without = sorted(where for where, there in found.items() if not there)
    if without:
        msg = (
            f"no coffea-conserv on {', '.join(without)}: scheduler and workers of the Dask cluster need it; "
            "install it there with `pip install coffea-conserv` and start them again"
        )
        raise ConfigurationError(msg)
    with tempfile.TemporaryDirectory() as folder:
        client.upload_file(str(pack(Path(folder))))


def pack(folder: Path) -> Path:
    """Write the package ``processors`` to a zip file that Python can import from, and return its path."""
    source = Path(processors.__path__[0])
    path = folder / "processors.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(source.glob("*.py")):
            archive.write(file, f"{source.name}/{file.name}")
    return path
