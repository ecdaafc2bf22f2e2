"""Progress of a run, and its fooling ratios so far: told by the workers, chunk by chunk."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coffea.processor import ProcessorABC

from coffea_conserv.sums.sums import FOOLING, Sums

__all__ = ("Progress", "Told", "find_sums", "to_file", "to_topic")

logger = logging.getLogger(__name__)

Message = dict[str, Any]

_PAUSE = 0.3
"""Seconds between looks into the file."""


def find_sums(output: Any) -> dict[str, Sums]:
    """Every :class:`~coffea_conserv.Sums` in an output, however deep in dictionaries it is, by its keys.

    Examples
    --------
    >>> found = find_sums({"n": 3, "tight": {"conserv": Sums("a")}, "conserv": Sums("a")})
    >>> list(found)
    ['tight/conserv', 'conserv']
    """
    if isinstance(output, Sums):
        return {"": output}
    if not isinstance(output, Mapping):
        return {}
    found = {}
    for key, value in output.items():
        for inner, sums in find_sums(value).items():
            found[f"{key}/{inner}" if inner else str(key)] = sums
    return found


@dataclass(frozen=True)
class ToFile:
    """Append messages to a file that workers on this machine share with the client."""

    path: str

    def __call__(self, message: Message) -> None:
        try:
            with Path(self.path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(message) + "\n")
        except OSError as error:  # a chunk must not be lost for a message
            logger.debug("no progress can be told: %s", error)


@dataclass(frozen=True)
class ToTopic:
    """Send messages as events of Dask."""

    topic: str

    def __call__(self, message: Message) -> None:
        from distributed import get_worker  # noqa: PLC0415 -- of an extra

        try:
            get_worker().log_event(self.topic, message)
        except ValueError as error:  # not on a worker
            logger.debug("no progress can be told: %s", error)


class Told(ProcessorABC):  # type: ignore[misc]
    """A processor that tells what each chunk was.

    Parameters
    ----------
    inner
        The processor.
    tell
        Where to.
    """

    def __init__(self, inner: Any, tell: Callable[[Message], None]) -> None:
        self.inner, self.tell = inner, tell

    def process(self, events: Any) -> Any:
        """Process one chunk, and tell."""
        output = self.inner.process(events)
        metadata = events.metadata
        read = int(metadata["entrystop"] - metadata["entrystart"])
        self.tell({"events": read, **_fooled(next(iter(find_sums(output).values()), None))})
        return output

    def postprocess(self, accumulator: Any) -> Any:
        """Do what the processor does."""
        return self.inner.postprocess(accumulator)


def _fooled(sums: Sums | None) -> Message:
    """Absolute weight of what could cross and of what crossed, by direction, at the main working point."""
    found: Message = {}
    for (_, _, variation), values in ({} if sums is None else sums.fooling).items():
        own = values[0].sum(axis=0)
        start, crossed = found.get(variation, (0.0, 0.0))
        found[variation] = (
            start + float(own[FOOLING.index("start")]),
            crossed + float(own[FOOLING.index("crossed")]),
        )
    return found


@dataclass
class Progress:
    """What has been told so far.

    Parameters
    ----------
    chunks, events
        Number of chunks, and of events that they read.
    fooled
        Direction → absolute weight of what could cross and of what crossed.
    reused
        Chunks that were taken from checkpoints.
    problems
        What is wrong with checkpoints, each once.
    """

    chunks: int = 0
    events: int = 0
    fooled: dict[str, tuple[float, float]] = field(default_factory=dict)
    reused: int = 0
    problems: list[str] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def add(self, message: Mapping[str, Any]) -> None:
        """Count one more chunk, or note what is wrong with checkpoints."""
        for name, text in (
            ("unsaved", "a chunk could not be kept: {}"),
            ("damaged", "{} is damaged: done again"),
        ):
            if name in message and text.format(message[name]) not in self.problems:
                self.problems.append(text.format(message[name]))
        if "events" not in message:
            return
        self.chunks += 1
        self.reused += int(message.get("reused", 0))
        self.events += int(message["events"])
        for name in ("conservUp", "conservDown"):
            if name in message:
                old, new = self.fooled.get(name, (0.0, 0.0)), message[name]
                self.fooled[name] = (old[0] + new[0], old[1] + new[1])

    @property
    def text(self) -> str:
        """Events per second, and fooling ratios."""
        rate = self.events / max(time.monotonic() - self.start, 1e-9)
        parts = [f"{self.events:,} events", f"{rate:,.0f} events/s"]
        for name, (start, crossed) in sorted(self.fooled.items(), reverse=True):
            if start > 0:
                parts.append(f"{name.removeprefix('conserv').lower()} {crossed / start:.1%}")
        return ", ".join([*parts[:2], *(["fooled " + " ".join(parts[2:])] if parts[2:] else [])])


@contextmanager
def to_file(path: Path, tell: Callable[[Message], None]) -> Iterator[ToFile]:
    """Hand on what processes of this machine write into a file."""
    path.touch()
    ended = threading.Event()

    def follow() -> None:
        with path.open(encoding="utf-8") as file:
            rest = ""
            while True:
                last = ended.is_set()
                rest += file.read()
                *lines, rest = rest.split("\n")
                for line in lines:
                    tell(json.loads(line))
                if last:
                    return
                ended.wait(_PAUSE)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield ToFile(str(path))
    finally:
        ended.set()
        thread.join()


@contextmanager
def to_topic(client: Any, topic: str, tell: Callable[[Message], None]) -> Iterator[ToTopic]:
    """Hand on what workers of Dask send."""

    def received(event: Sequence[Any]) -> None:  # time and message
        tell(event[1])

    client.subscribe_topic(topic, received)
    try:
        yield ToTopic(topic)
    finally:
        client.unsubscribe_topic(topic)
