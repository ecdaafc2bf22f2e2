"""Clusters of Dask in which only some workers have what a run needs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

from coffea_conserv.errors import ConfigurationError

__all__ = ("workers_with",)

_PAUSE = 0.2
"""Seconds between looks at the workers."""


@contextmanager
def workers_with(
    client: Any, *, wait: float = 60.0, lost: float = 600.0, **resources: float
) -> Iterator[tuple[str, ...]]:
    """Run only on workers of Dask that offer something: ``with workers_with(client, GPU=1): run(…)``.

    Dask itself would wait without end for a worker that offers it. Here it is an error after some time, both
    before the run and while it goes on.

    Parameters
    ----------
    client
        Client of Dask.
    wait
        Seconds to wait for the first such worker, which on a batch system may have to start.
    lost
        Seconds after which the run fails if all such workers are gone; a limit that the scheduler has already
        stays.
    **resources
        What is asked for, by the name that workers were started with.

    Yields
    ------
    tuple of str
        Addresses of the workers that offer it.

    Raises
    ------
    ConfigurationError
        With the flag to start workers with, if no worker offers it.

    Examples
    --------
    >>> with workers_with(None):
    ...     pass
    Traceback (most recent call last):
    coffea_conserv.errors.ConfigurationError: workers_with: name a resource, as in workers_with(client, GPU=1)
    """
    import dask  # noqa: PLC0415 -- of an extra

    _check(resources, {"wait": wait, "lost": lost})
    found = _wait(client, resources, wait)
    before = client.run_on_scheduler(_limit, lost)
    try:
        with dask.annotate(resources=dict(resources)):
            yield found
    finally:
        client.run_on_scheduler(_restore, before)


def _check(resources: Mapping[str, Any], seconds: Mapping[str, Any]) -> None:
    msg = ""
    if not resources:
        msg = "name a resource, as in workers_with(client, GPU=1)"
    for name, amount in {**resources, **seconds}.items():
        least = "above" if name in resources else "at least"
        fine = not isinstance(amount, bool) and isinstance(amount, Real) and float(amount) >= 0
        if not fine or (name in resources and float(amount) == 0):
            msg = f"{name} must be a number {least} 0, got {amount!r}"
    if msg:
        msg = f"workers_with: {msg}"
        raise ConfigurationError(msg)


def _wait(client: Any, resources: Mapping[str, float], wait: float) -> tuple[str, ...]:
    """Addresses of the workers that offer something, as soon as there is one."""
    end = time.monotonic() + wait
    while True:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        found = [
            address
            for address, worker in workers.items()
            if all(worker["resources"].get(name, 0) >= amount for name, amount in resources.items())
        ]
        if found:
            return tuple(sorted(found))
        if time.monotonic() >= end:
            break
        time.sleep(_PAUSE)
    asked = " ".join(f"{name}={amount:g}" for name, amount in resources.items())
    offers = {tuple(sorted(worker["resources"].items())) for worker in workers.values()}
    shown = "; ".join(" ".join(f"{n}={a:g}" for n, a in offer) or "nothing" for offer in sorted(offers))
    there = f"there are {len(workers)} workers, which offer {shown}" if workers else "there are no workers"
    msg = (
        f"no worker offers {asked} after {wait:g} s: {there}. Start some with "
        f'dask worker {client.scheduler.address} --nthreads 1 --resources "{asked}", or in a job of '
        f'dask-jobqueue with worker_extra_args=["--resources", "{asked}"]; or leave workers_with out'
    )
    raise ConfigurationError(msg)


def _limit(seconds: float, dask_scheduler: Any = None) -> float | None:
    """Let tasks fail that no worker can do, on the scheduler; return what held before."""
    before: float | None = dask_scheduler.no_workers_timeout
    if before is None:
        dask_scheduler.no_workers_timeout = seconds
    return before


def _restore(before: float | None, dask_scheduler: Any = None) -> None:
    dask_scheduler.no_workers_timeout = before
