"""Hash of settings, functions and models: the same value gives the same hash in every process."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

__all__ = ("fingerprint",)

_KNOWN = ("builtins", "hist", "numpy", "torch")
"""Packages whose classes are known by their name; of all others the code counts too."""


def fingerprint(*parts: Any) -> str:
    """Hash what some values are, not where they lie or how they are written.

    Numbers count by their value, mappings and sets whatever their order, axes by their edges, arrays and
    tensors by their bytes, functions by name, code and what they enclose, objects by class and attributes.

    Parameters
    ----------
    *parts
        The values.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": 0.5}) == fingerprint({"b": 0.5, "a": 1.0})
    True
    >>> fingerprint(lambda x: x > 1) == fingerprint(lambda x: x > 2)
    False
    """
    return _hash("\n".join(_Describer()(part) for part in parts).encode())


class _Describer:
    """Text of a value; a value inside of itself is only named."""

    def __init__(self) -> None:
        self.path: set[int] = set()

    def __call__(self, value: Any) -> str:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | str | bytes):
            return repr(value)
        if isinstance(value, int | float):
            whole = math.isfinite(value) and value == int(value)
            return repr(int(value) if whole else float(value))
        if id(value) in self.path:
            return "…"
        self.path.add(id(value))
        try:
            return f"{type(value).__qualname__}({self._inside(value)})"
        finally:
            self.path.remove(id(value))

    def _inside(self, value: Any) -> str:
        kinds: tuple[tuple[Any, Callable[[Any], str]], ...] = (
            (type, lambda kind: str(kind.__qualname__)),
            (np.ndarray, self._array),
            (Mapping, self._mapping),
            ((set, frozenset), lambda values: ", ".join(sorted(self(part) for part in values))),
            ((list, tuple), lambda values: ", ".join(self(part) for part in values)),
            (partial, lambda part: self([part.func, part.args, part.keywords])),
            (MethodType, lambda method: self([method.__func__, method.__self__])),
            (BuiltinFunctionType, lambda function: str(function.__qualname__)),
            (FunctionType, self._function),
        )
        for kind, describe in kinds:
            if isinstance(value, kind):
                return describe(value)
        if hasattr(value, "detach") and hasattr(value, "dtype"):
            return self._tensor(value)
        if hasattr(value, "edges") and hasattr(value, "traits"):
            return self._axis(value)
        return f"{self._class(type(value))}, {self(_attributes(value))}"

    def _array(self, values: Any) -> str:
        content = values.tolist() if values.dtype.hasobject else _hash(np.ascontiguousarray(values).tobytes())
        return f"{values.dtype.str}, {values.shape}, {self(content)}"

    def _mapping(self, values: Mapping[Any, Any]) -> str:
        return ", ".join(sorted(f"{self(key)}: {self(part)}" for key, part in values.items()))

    def _tensor(self, tensor: Any) -> str:
        tensor = tensor.detach().cpu()
        try:
            values = tensor.numpy()
        except TypeError:  # NumPy does not know every type of torch
            values = tensor.float().numpy()
        return f"{tensor.dtype}, {self(values)}"

    def _axis(self, axis: Any) -> str:
        bins = np.asarray(axis.edges) if axis.traits.ordered else list(axis)
        traits = {name: getattr(axis.traits, name) for name in ("underflow", "overflow", "circular")}
        # Histograms whose axes differ in name or label cannot be added.
        return self([axis.name, axis.label, bins, traits])

    def _function(self, function: Any) -> str:
        if _is_known(function):
            return str(function.__qualname__)
        cells = [_content(cell) for cell in function.__closure__ or ()]
        parts = [function.__qualname__, function.__defaults__, function.__kwdefaults__, cells]
        return f"{self(parts)}, {self._code(function.__code__, function.__doc__)}"

    def _code(self, code: CodeType, doc: str | None = None) -> str:
        constants = [
            self._code(part) if isinstance(part, CodeType) else self(part)
            for part in code.co_consts
            if doc is None or part != doc
        ]
        return f"{_hash(code.co_code)}, {code.co_names}, {constants}"

    def _class(self, kind: type) -> str:
        """Code of a class and of those that it is made from."""
        parts: list[str] = []
        for base in kind.__mro__:
            if not _is_known(base):
                inner = {name: getattr(part, "fget", None) or part for name, part in vars(base).items()}
                functions = {n: part for n, part in inner.items() if isinstance(part, FunctionType)}
                parts += [base.__qualname__, self(functions)]
        return ", ".join(parts)


def _attributes(value: Any) -> Any:
    """Attributes of an object, or what it is pickled as if it says that itself, as compiled classes do."""
    kind = type(value)
    plain = all(
        getattr(kind, name, None) is getattr(object, name, None)
        for name in ("__getstate__", "__reduce__", "__reduce_ex__")
    )
    if plain and hasattr(value, "__dict__"):
        return value.__dict__
    try:
        reduced = value.__reduce_ex__(4)
    except TypeError:  # it is pickled by its name, or not at all
        return getattr(value, "__name__", None)
    if isinstance(reduced, str):
        return reduced
    made, *parts = reduced
    return made, *(list(part) if isinstance(part, Iterator) else part for part in parts)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_known(thing: Any) -> bool:
    return str(thing.__module__).split(".")[0] in _KNOWN


def _content(cell: Any) -> Any:
    """Value that a function encloses, if it has one already."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
