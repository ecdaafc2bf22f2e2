"""Failure of a run: what coffea and Dask say of it, as dataset, file, events and reason."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from coffea_conserv import errors
from coffea_conserv.errors import ConservError

__all__ = ("Failure", "failure_of")

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_CHUNK = re.compile(
    rf"dataset=(?P<dataset>{_QUOTED}), filename=(?P<file>{_QUOTED}).*?"
    r"entrystart=(?P<start>\d+), entrystop=(?P<stop>\d+)",
    re.DOTALL,
)
"""Chunk that coffea names in the texts of its errors, as Python writes values."""

_REASON = re.compile(r"The error was: (?P<kind>\w+)\((?P<text>.*)\)\.$", re.DOTALL)


@dataclass(frozen=True)
class Failure:
    """What failed in a run.

    Parameters
    ----------
    reason
        What was raised, with its text.
    dataset, file
        Where; empty if it is not known.
    start, stop
        Events of the chunk.
    kind
        Name of what was raised.
    text
        Its text alone.
    """

    reason: str
    dataset: str = ""
    file: str = ""
    start: int = 0
    stop: int = 0
    kind: str = ""
    text: str = ""

    @property
    def where(self) -> str:
        """Dataset, file and events, as far as they are known."""
        if not self.dataset:
            return "in a chunk that is not named"
        return f"dataset {self.dataset}, file {self.file}, events {self.start} to {self.stop}"

    @property
    def own(self) -> ConservError | None:
        """Error of this package that was raised on a worker: causes do not travel, texts do."""
        kind = getattr(errors, self.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, ConservError)):
            return None
        made: ConservError = kind(f"dataset {self.dataset}, {self.file}: {self.text}")
        return made


def failure_of(error: BaseException) -> Failure:
    r"""Read what was raised around a chunk.

    Examples
    --------
    >>> item = "WorkItem(dataset='W', filename=\"d'or.root\", entrystart=0, entrystop=9)"
    >>> failure = failure_of(Exception(f"Failed processing file: {item}. The error was: KeyError('x')."))
    >>> failure.where, failure.reason
    ("dataset W, file d'or.root, events 0 to 9", "KeyError('x')")
    """
    said = str(error)
    reason = f"{type(error).__name__}: {said}" if said else type(error).__name__
    chunk, raised = _CHUNK.search(said), _REASON.search(said)
    kind, text = (raised["kind"], raised["text"]) if raised else ("", "")
    reason = f"{kind}({text})" if raised else reason
    if chunk is None:
        return Failure(reason, kind=kind, text=_unquoted(text))
    dataset, file = (_unquoted(chunk[name]) for name in ("dataset", "file"))
    return Failure(reason, dataset, file, int(chunk["start"]), int(chunk["stop"]), kind, _unquoted(text))


def _unquoted(text: str) -> str:
    """Value of a text that Python has written, or the text as it is."""
    try:
        return str(ast.literal_eval(text))
    except (SyntaxError, ValueError):
        return text
