"""Models of ``coffea.ml_tools``, which get awkward arrays, as models of the attack, which get a matrix."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from coffea_conserv.errors import ModelError
from coffea_conserv.models.archive import clean_script

__all__ = ("from_wrapper",)

_lock = threading.Lock()


def from_wrapper(
    wrapper: Any, names: Sequence[str], inputs: Callable[[dict[str, Any]], tuple[Any, ...]] | None = None
) -> Callable[[Any], Any]:
    """Make a function of a matrix out of a ``torch_wrapper`` of coffea, for ``Callback``.

    The wrapper is called as the analysis calls it: its ``prepare_awkward`` gets awkward arrays, its
    ``postprocess_awkward`` gives the scores back. There are no gradients through awkward, which the solver
    ``transport`` does not need. The other wrappers of ``coffea.ml_tools`` work too.

    Parameters
    ----------
    wrapper
        An object of the class of yours. Its TorchScript file is read here and travels with it: workers do
        not need the file. Files that other wrappers open have to be there on the workers.
    names
        Names of the features, in their order.
    inputs
        Makes the arguments of the wrapper, a tuple, of a dictionary of awkward arrays by name, each a float32
        array with one value per event, in which an absent value is what ``Feature(missing=…)`` says. Without
        it the wrapper gets the arrays one after the other.

    Returns
    -------
    callable
        Takes a matrix, shape (events, features); gives a NumPy array, one row or value per event.

    Raises
    ------
    ModelError
        If it is no such wrapper, or its file cannot be read; later, if it gives no regular array.

    Examples
    --------
    >>> import awkward as ak, numpy as np
    >>> class Wrapper:  # as torch_wrapper of coffea.ml_tools
    ...     def prepare_awkward(self, pt, mass):
    ...         return ak.concatenate([pt[:, None], mass[:, None]], axis=1)
    ...     def __call__(self, *columns):
    ...         return ak.sum(self.prepare_awkward(*columns), axis=1)
    >>> model = from_wrapper(Wrapper(), ["pt", "mass"])
    >>> model(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)).tolist()
    [3.0, 7.0]
    """
    if isinstance(wrapper, type) or not (callable(wrapper) and hasattr(wrapper, "prepare_awkward")):
        msg = (
            f"from_wrapper: {wrapper!r:.80} is no wrapper; give an object of your subclass of "
            "coffea.ml_tools.torch_wrapper, which defines prepare_awkward"
        )
        raise ModelError(msg)
    content = _program(wrapper)
    return _Wrapped(_unloaded(wrapper) if content else wrapper, tuple(names), inputs, content)


def _program(wrapper: Any) -> bytes:
    """Bytes of the TorchScript file, if the wrapper has one."""
    path = getattr(wrapper, "torch_jit", None)
    if not isinstance(path, str | Path):
        return b""
    remedy = "write it with torch.jit.save(torch.jit.script(module), path)"
    name = f"the TorchScript file {path} of {type(wrapper).__name__}"
    try:
        return clean_script(Path(path).read_bytes())
    except OSError as error:
        msg = f"from_wrapper: {name} cannot be read ({error.strerror or error}); {remedy}"
    except ModelError as error:
        msg = f"from_wrapper: {name} is refused, because calling it could run code: {error}; {remedy}"
    raise ModelError(msg)


def _unloaded(wrapper: Any) -> Any:
    """Copy of a wrapper that knows no path: another path is no other model."""
    made = copy.copy(wrapper)  # without model and device, which coffea keeps out of the state
    made.torch_jit = None
    return made


@dataclass
class _Wrapped:
    """A wrapper as a function of a matrix, with the program that it loads."""

    wrapper: Any
    names: tuple[str, ...]
    inputs: Callable[[dict[str, Any]], tuple[Any, ...]] | None
    program: bytes = field(repr=False)

    def __call__(self, matrix: Any) -> Any:
        columns = {name: ak.Array(matrix[:, j].copy()) for j, name in enumerate(self.names)}
        given: Any = tuple(columns.values()) if self.inputs is None else self.inputs(columns)
        if not isinstance(given, tuple):
            msg = f"inputs= must give a tuple of arguments for the wrapper, got {type(given).__name__}"
            raise ModelError(msg)
        self._load()
        made = self.wrapper(*given)
        if isinstance(made, np.ndarray):
            return made
        try:
            return ak.to_numpy(made, allow_missing=False)
        except (ValueError, TypeError) as error:
            msg = f"{type(self.wrapper).__name__} must give one value or one row per event: {error}"
            raise ModelError(msg) from None

    def _load(self) -> None:
        """Let coffea load the program from what travelled, once."""
        with _lock:
            if self.program and self.wrapper.torch_jit is None:
                self.wrapper.torch_jit = io.BytesIO(self.program)
                self.wrapper.model  # noqa: B018 -- coffea loads it when it is asked for

    def __getstate__(self) -> dict[str, Any]:
        wrapper = _unloaded(self.wrapper) if self.program else self.wrapper
        return {**self.__dict__, "wrapper": wrapper}
