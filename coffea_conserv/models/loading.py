"""Models as given by the user, and as loaded in a process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coffea_conserv.errors import ModelError
from coffea_conserv.models.classifier import check_facts, read_as
from coffea_conserv.models.device import Place, isolated
from coffea_conserv.models.formats import make_handle
from coffea_conserv.models.handle import Handle, put_aside
from coffea_conserv.models.model import Model, Pickled
from coffea_conserv.models.output import Classes, Reader

__all__ = ("Handle", "Model", "Pickled", "Shared", "load_models", "make_handles", "settled")


@dataclass(frozen=True)
class Shared:
    """A model that does not travel with every chunk, but lies in a folder that client and workers see.

    coffea unpickles a processor for every chunk, and with it the bytes of its model. Of a large one that
    takes longer than a small chunk. As a file it is read once by each worker process.

    Parameters
    ----------
    model
        Anything that a model can be, or a list of such, one per fold.
    folder
        On a file system that all of them share. Files are called after the hash of what is in them, and can
        be removed when no run needs them.

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (handle,) = make_handles(Shared(torch.nn.Linear(2, 1), folder))
    ...     len(handle.payload), Path(handle.file).name == f"{handle.digest}.model"
    (0, True)
    """

    model: Any
    folder: str | Path


@isolated()
def make_handles(model: Any) -> tuple[Handle, ...]:
    """Make handles of a model or of a list of models, one per fold.

    Parameters
    ----------
    model
        File of torch.export, TorchScript or ONNX, ``nn.Module`` (compiled and scripted ones too), exported
        program, :class:`Model`, :class:`Callback`, :class:`Pickled`, :class:`Shared`, a fitted classifier of
        scikit-learn, XGBoost or LightGBM, or a list of such.

    Raises
    ------
    ModelError
        If the file does not exist or cannot be loaded, or if it is something else.
    """
    models = list(model) if isinstance(model, list | tuple) else [model]
    if not models:
        msg = "model=[] is empty; give one model, or one per fold"
        raise ModelError(msg)
    made: list[Handle] = []
    for entry in models:
        if isinstance(entry, Shared):
            made += [put_aside(handle, Path(entry.folder)) for handle in make_handles(entry.model)]
        else:
            made.append(make_handle(entry))
    return tuple(made)


def settled(handles: Sequence[Handle], output: str | Classes, names: Sequence[str]) -> str | Classes:
    """What models give, where they say so themselves, with their columns checked.

    Parameters
    ----------
    handles
        One model, or one per fold.
    output
        What was said that they give.
    names
        Names of the features.

    Raises
    ------
    ModelError
        If a classifier was trained on other columns, or it is not clear which class is signal.
    """
    check_facts([handle.facts for handle in handles], output, names)
    found = [read_as(handle.facts, output) for handle in handles]
    return found[0] if all(one == found[0] for one in found) else output


def load_models(
    handles: Sequence[Handle], output: str | Classes, place: Place, names: Sequence[str] = ()
) -> tuple[Reader, ...]:
    """Load models at a place, each as a function that gives one logit per event.

    Parameters
    ----------
    handles
        One model, or one per fold.
    output
        What they give.
    place
        Where to, and how many events they get at a time.
    names
        Names of the features, for messages.
    """
    several = len(handles) > 1
    return tuple(
        Reader(
            handle.load(place.device),
            read_as(handle.facts, output),
            handle.facts,
            handle.kind != "callback",
            f"model of fold {k}" if several else "model",
            place.batch,
            tuple(names),
        )
        for k, handle in enumerate(handles)
    )
