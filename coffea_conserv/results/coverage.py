"""Coverage: what was asked of a run, and what it did."""

from __future__ import annotations

import fnmatch
import glob
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
    events, chunks
        Their number; ``None`` if unknown.
    files
        Names of the files, with ``*`` as coffea takes them; ``None`` if unknown.
    """

    events: int | None = None
    chunks: int | None = None
    files: tuple[str, ...] | None = None


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
    files, files_asked
        Number of files that were read, and of those that the run was asked to read; ``None`` if unknown.
    missing
        Files that were asked for and not read: left out because they could not be opened, or have no tree.
    """

    dataset: str
    chunks: int
    chunks_asked: int | None
    events: int
    events_asked: int | None
    events_per_chunk: float
    repeated: tuple[str, ...]
    files: int | None = None
    files_asked: int | None = None
    missing: tuple[str, ...] = ()

    @property
    def complete(self) -> bool | None:
        """Whether all that was asked for was read once; ``None`` if that is unknown."""
        if self.repeated or self.missing:
            return False
        if self.events_asked is None:
            return None
        return self.events == self.events_asked and self.chunks_asked in (None, self.chunks)


def read_asked(asked: Any) -> dict[str, Asked]:
    """Read what a run was asked for.

    Parameters
    ----------
    asked
        Dataset → number of events; a fileset; chunks as coffea's ``Runner.preprocess`` yields them, each with
        ``dataset``, ``entrystart`` and ``entrystop``, or a dict of these; a list of some of them, such as
        ``[fileset, chunks]``; or ``None``. Files that fell out while they were opened are in the fileset
        only.

    Raises
    ------
    ConfigurationError
        If it is neither.

    Examples
    --------
    >>> read_asked({"W": 100})
    {'W': Asked(events=100, chunks=None, files=None)}
    >>> read_asked([{"W": {"files": {"w.root": "Events"}}}, {"W": 100}])
    {'W': Asked(events=100, chunks=None, files=('w.root',))}
    """
    if asked is None:
        return {}
    if isinstance(asked, Mapping):
        if any(isinstance(entry, Mapping | list | tuple | set) for entry in asked.values()):
            return {str(dataset): Asked(files=_files(dataset, entry)) for dataset, entry in asked.items()}
        return {str(dataset): Asked(_count(dataset, events)) for dataset, events in asked.items()}
    if isinstance(asked, str) or not isinstance(asked, Iterable):
        msg = (
            "asked must be a dict of dataset → number of events, a fileset, what "
            "Runner.preprocess(fileset, …) "
            f"yields, or both in a list, got {asked!r:.80}"
        )
        raise ConfigurationError(msg)
    found: dict[str, Asked] = {}
    for item in asked:
        for dataset, one in _asked_of(item).items():
            found[dataset] = _joined(found.get(dataset, Asked()), one)
    return found


def _asked_of(item: Any) -> dict[str, Asked]:
    """What one entry of a list asks for: a chunk, or a whole fileset, or many chunks."""
    if (isinstance(item, Mapping) and "entrystart" not in item) or isinstance(item, list | tuple):
        return read_asked(item)
    dataset, events = _chunk(item)
    return {dataset: Asked(events, 1)}


def _joined(one: Asked, two: Asked) -> Asked:
    """Numbers add up; the files are those of the fileset."""
    files = [part.files for part in (one, two) if part.files]
    events, chunks = (
        None if a is None and b is None else (a or 0) + (b or 0)
        for a, b in ((one.events, two.events), (one.chunks, two.chunks))
    )
    return Asked(events, chunks, tuple(dict.fromkeys(f for part in files for f in part)) if files else None)


def _files(dataset: str, entry: Any) -> tuple[str, ...]:
    """Files of a dataset in a fileset, in its long or in its short forms."""
    files = entry.get("files") if isinstance(entry, Mapping) and "files" in entry else entry
    if isinstance(files, Mapping | list | tuple | set) and all(isinstance(file, str) for file in files):
        return tuple(files)
    msg = f"asked[{dataset!r}] is no entry of a fileset, dataset → files, got {entry!r:.80}"
    raise ConfigurationError(msg)


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
        goal = Asked() if wanted is None else wanted
        median = median_chunk(sums, (dataset,))
        read = tuple(sums.files.get(dataset, ()))
        missing = tuple(file for file in goal.files or () if not fnmatch.filter(read, _pattern(file)))
        made.append(
            Coverage(
                dataset,
                len(chunks),
                goal.chunks,
                events,
                goal.events,
                median,
                repeated,
                len(read) if read else None,
                None if goal.files is None else len(goal.files),
                missing,
            )
        )
    return tuple(made)


def _pattern(file: str) -> str:
    """Pattern that a name of a file stands for: only ``*`` has a meaning to coffea."""
    return "*".join(glob.escape(part) for part in file.split("*"))


def median_chunk(sums: Sums, datasets: Iterable[str]) -> float:
    """Median number of events read in a chunk of some datasets; 0 without chunks."""
    sizes = [events for dataset in datasets for events in _events(sums, dataset)]
    return float(statistics.median(sizes)) if sizes else 0.0


def _events(sums: Sums, dataset: str) -> list[float]:
    """Events read in each chunk, once for a chunk that was merged repeatedly."""
    return [float(read / calls) for read, calls in sums.chunks.get(dataset, {}).values()]
