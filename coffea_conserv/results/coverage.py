"""Coverage: what was asked of a run, and what it did."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.sums.sums import Sums

__all__ = ("Asked", "Coverage", "coverage_of", "median_chunk", "read_asked")


@dataclass(frozen=True)
class Asked:
    """What a run was asked to read of one dataset.

    Parameters
    ----------
    events
        Number of events.
    chunks
        Number of chunks, ``None`` if unknown.
    """

    events: int
    chunks: int | None = None


@dataclass(frozen=True)
class Coverage:
    """What was processed of one dataset.

    Parameters
    ----------
    dataset
        Its name.
    chunks, events
        Number of different chunks and of events read in them.
    chunks_asked, events_asked
        The same as the run was asked to read, ``None`` if unknown.
    events_per_chunk
        Median number of events read in a chunk. What is attacked together, and hence the result, depends on
        where chunks begin and end. 0 without chunks.
    repeated
        Chunks that were merged more than once, and therefore count more than once in every histogram.
    """

    dataset: str
    chunks: int
    chunks_asked: int | None
    events: int
    events_asked: int | None
    events_per_chunk: float
    repeated: tuple[str, ...]

    @property
    def complete(self) -> bool | None:
        """Whether all that was asked for was read once; ``None`` if that is unknown."""
        if self.repeated:
            return False
        if self.events_asked is None:
            return None
        return self.events == self.events_asked and self.chunks_asked in (None, self.chunks)


def read_asked(asked: Any) -> dict[str, Asked]:
    """Read what a run was asked for.

    Parameters
    ----------
    asked
        Dataset → number of events; or chunks as coffea's ``Runner.preprocess`` yields them, each with
        ``dataset``, ``entrystart`` and ``entrystop``, or a dict of these; or ``None``.

    Raises
    ------
    ConfigurationError
        If it is neither.

    Examples
    --------
    >>> read_asked({"W": 100})
    {'W': Asked(events=100, chunks=None)}
    """
    if asked is None:
        return {}
    if isinstance(asked, Mapping):
        return {str(dataset): Asked(_count(dataset, events)) for dataset, events in asked.items()}
    if isinstance(asked, str) or not isinstance(asked, Iterable):
        msg = (
            "asked must be a dict of dataset → number of events, or what Runner.preprocess(fileset, …) "
            f"yields, got {asked!r:.80}"
        )
        raise ConfigurationError(msg)
    found: dict[str, Asked] = {}
    for item in asked:
        dataset, events = _chunk(item)
        before = found.get(dataset, Asked(0, 0))
        found[dataset] = Asked(before.events + events, (before.chunks or 0) + 1)
    return found


def _count(dataset: str, events: Any) -> int:
    if isinstance(events, bool) or not isinstance(events, Integral) or events < 0:
        msg = f"asked[{dataset!r}] must be a number of events, got {events!r:.80}"
        raise ConfigurationError(msg)
    return int(events)


def _chunk(item: Any) -> tuple[str, int]:
    """Dataset and number of events of one chunk that was asked for."""
    read = item.get if isinstance(item, Mapping) else partial(getattr, item)
    dataset, start, stop = (read(name, None) for name in ("dataset", "entrystart", "entrystop"))
    if dataset is None or start is None or stop is None:
        msg = (
            f"asked holds {item!r:.80}, which is no chunk (dataset, entrystart, entrystop); give what "
            "Runner.preprocess(fileset, …) yields, or a dict of dataset → number of events"
        )
        raise ConfigurationError(msg)
    return str(dataset), int(stop) - int(start)


def coverage_of(sums: Sums, asked: Mapping[str, Asked]) -> tuple[Coverage, ...]:
    """Compare what was processed with what was asked for, by dataset."""
    made = []
    for dataset in sorted({*sums.chunks, *asked}):
        chunks = sums.chunks.get(dataset, {})
        events = round(sum(_events(sums, dataset)))
        repeated = tuple(sorted(name for name, (_, calls) in chunks.items() if calls > 1))
        wanted = asked.get(dataset)
        goal = (None, None) if wanted is None else (wanted.chunks, wanted.events)
        median = median_chunk(sums, (dataset,))
        made.append(Coverage(dataset, len(chunks), goal[0], events, goal[1], median, repeated))
    return tuple(made)


def median_chunk(sums: Sums, datasets: Iterable[str]) -> float:
    """Median number of events read in a chunk of some datasets; 0 without chunks."""
    sizes = [events for dataset in datasets for events in _events(sums, dataset)]
    return float(statistics.median(sizes)) if sizes else 0.0


def _events(sums: Sums, dataset: str) -> list[float]:
    """Events read in each chunk, once for a chunk that was merged repeatedly."""
    return [float(read / calls) for read, calls in sums.chunks.get(dataset, {}).values()]
