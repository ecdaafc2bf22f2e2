"""Device and batch size of a computation, and the state of torch meanwhile; less where memory runs out."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from coffea_conserv.errors import ConfigurationError

__all__ = (
    "BUFFER",
    "OUT_OF_MEMORY",
    "Place",
    "check_device",
    "in_memory",
    "isolated",
    "one_thread",
    "pick_device",
    "places",
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

BUFFER = {"cpu": 2**14, "cuda": 2**18}
"""Events that are evaluated at a time: they stay in the cache of a core, and keep a GPU busy."""

OUT_OF_MEMORY = torch.cuda.OutOfMemoryError
"""What torch raises when the memory of a GPU is used up."""

_LEAST = 2**12
"""A GPU that has no memory for so many events at a time is left for the CPU."""


@dataclass(frozen=True)
class Place:
    """Where an attack is computed.

    Parameters
    ----------
    device
        CPU or GPU.
    batch
        Events that are evaluated at a time.
    """

    device: torch.device
    batch: int

    def __str__(self) -> str:
        usual = self.batch == BUFFER[self.device.type]
        return self.device.type if usual else f"{self.device.type}, {self.batch} events at a time"


def check_device(device: Any) -> None:
    """Raise unless a device is named in a known way."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(device)):
        msg = f"device={device!r} is not known; choose one of auto, cpu, cuda"
        raise ConfigurationError(msg)


def pick_device(device: str) -> torch.device:
    """Device of a name; ``auto`` takes CUDA where there is one."""
    check_device(device)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made = torch.device(device)
    if made.type == "cuda" and not torch.cuda.is_available():
        msg = f"device={device!r}, but torch sees no CUDA device here; use device='auto' or 'cpu'"
        raise ConfigurationError(msg)
    return made


def places(device: str) -> Iterator[Place]:
    """Where to compute, and where else if there is no memory: half as much at a time, at last on the CPU.

    Examples
    --------
    >>> [str(place) for place in places("cpu")]
    ['cpu']
    """
    where = pick_device(device)
    batch = BUFFER[where.type]
    yield Place(where, batch)
    if where.type == "cpu":
        return
    while batch > _LEAST:
        batch //= 2
        yield Place(where, batch)
    yield Place(torch.device("cpu"), BUFFER["cpu"])


def in_memory(device: str, compute: Callable[[Place], T]) -> tuple[T, Place]:
    """Compute something where there is memory for it.

    It begins anew each time, so that what it gives depends on nothing but the place where it was computed.

    Parameters
    ----------
    device
        ``auto``, ``cpu`` or ``cuda``.
    compute
        Takes a place.

    Returns
    -------
    tuple
        What it gives, and the place.
    """
    left = places(device)
    place = next(left)
    while True:
        try:
            return compute(place), place
        except OUT_OF_MEMORY as error:
            following = next(left, None)
            if following is None:
                raise
            logger.warning("no memory on %s (%s); trying %s", place, str(error).split(". ")[0], following)
        place = following
        torch.cuda.empty_cache()  # of tensors that the traceback has held until now


class _Threads(threading.local):
    """Number of torch threads while some parts of the program want one: theirs nest and overlap.

    torch keeps a number for each thread of Python; a new thread begins with the one that was set last, which
    may be the 1 of another thread that is inside. So ``before`` is common to all threads, ``depth`` is not.
    """

    lock = threading.Lock()
    inside = before = 0

    def __init__(self) -> None:
        self.depth = 0

    def enter(self) -> None:
        self.depth += 1
        if self.depth > 1:
            return
        with self.lock:
            if not _Threads.inside:
                _Threads.before = torch.get_num_threads()
            _Threads.inside += 1
            torch.set_num_threads(1)

    def leave(self) -> None:
        self.depth -= 1
        if self.depth:
            return
        with self.lock:
            _Threads.inside -= 1
            torch.set_num_threads(_Threads.before)


_threads = _Threads()


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread while it lasts: small batches are fastest so, and sums have one order.

    Threads of Python that are in it at the same time all leave the number that the first one found.
    """
    _threads.enter()
    try:
        yield
    finally:
        _threads.leave()


@contextmanager
def isolated() -> Iterator[None]:
    """Be independent of inference mode, autocast and the number of threads while it lasts.

    Tensors that are made in inference mode can never have a gradient, autocast computes models in half
    precision, and sums on several threads are added in another order. Decorates functions, too.

    Examples
    --------
    >>> import torch
    >>> with torch.inference_mode(), isolated():
    ...     torch.ones(1).is_inference()
    False
    """
    with (
        one_thread(),
        torch.inference_mode(mode=False),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
        torch.no_grad(),
    ):
        yield
