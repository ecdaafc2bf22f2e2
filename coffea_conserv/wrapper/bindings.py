"""Bindings of features to columns of events: read their values, and write others back.

A value is one number per event: a flat column, or one object of a collection. Only values that an attack has
changed are written, so that all others keep their bits.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.features.feature import Feature
from coffea_conserv.inputs.columns import to_numpy

__all__ = ("Bindings", "Bound", "Places", "column_of", "column_path", "make_bindings")

_TEXT = re.compile(r"(?P<column>[^\[\]]+?)\s*(?:\[\s*(?P<at>\d+)\s*\])?")

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Bound:
    """Where a feature is in the events.

    Parameters
    ----------
    column
        ``"MET.pt"`` (a field of a record), ``"Jet.pt"`` (of a collection) or ``"pt_1"`` (a flat branch).
    at
        Which object of a collection: its position in the file, counted from 0, or a function of the selected
        events that returns it for each of them, −1 or ``None`` where there is no such object. ``None`` if the
        column has one value per event.

    Examples
    --------
    >>> Bound.parse("Jet.pt[1]")
    Bound(column='Jet.pt', at=1)
    """

    column: str
    at: int | Function | None = None

    @staticmethod
    def parse(text: str) -> Bound:
        """Read ``"MET.pt"``, ``"Jet.pt[0]"`` or ``"pt_1"``.

        Raises
        ------
        ConfigurationError
            If it is none of these.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            msg = f"{text!r} names no column; write 'MET.pt', 'Jet.pt[0]' or 'pt_1'"
            raise ConfigurationError(msg)
        at = found["at"]
        return Bound(found["column"], None if at is None else int(at))


@dataclass(frozen=True)
class Places:
    """Values of the features in the selected events of a chunk, and where they were found.

    Parameters
    ----------
    values
        Feature → one value per selected event.
    index
        Feature → position in its column, flattened, −1 where there is no object. Only features that are bound
        to a column are in it.
    """

    values: Mapping[str, NDArray[Any]]
    index: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Bindings:
    """Columns of all features.

    Parameters
    ----------
    features
        In the order of the model.
    bound
        Feature → its column, or a function of the selected events for one that is frozen.
    """

    features: tuple[Feature, ...]
    bound: Mapping[str, Bound | Function]

    @property
    def moving(self) -> tuple[str, ...]:
        """Columns of features that move, each once."""
        bound = (self.bound[feature.name] for feature in self.features if not feature.frozen)
        return tuple(dict.fromkeys(one.column for one in bound if isinstance(one, Bound)))

    def read(self, events: Any, chosen: NDArray[np.bool_], selected: Any) -> Places:
        """Values of the selected events.

        Parameters
        ----------
        events
            All events of the chunk.
        chosen
            Which of them are selected, shape (events,).
        selected
            The selected ones, for functions.

        Raises
        ------
        InputError
            If a column does not exist, has another shape, or has no object where the feature knows of no
            missing value.
        """
        values, index = {}, {}
        for feature in self.features:
            bound = self.bound[feature.name]
            if not isinstance(bound, Bound):
                values[feature.name] = to_numpy(f"columns[{feature.name!r}]", bound(selected))
                continue
            where = f"feature {feature.name!r}"
            flat, first, count = _flattened(where, bound, column_of(events, bound.column, where))
            place = _place(where, bound, first, count, chosen, selected)
            values[feature.name] = _picked(feature, bound, flat, place)
            index[feature.name] = place
        self._distinct(index)
        return Places(values, index)

    def _distinct(self, index: Mapping[str, NDArray[np.int64]]) -> None:
        """Raise if two features that move are the same value of the same event."""
        seen: dict[str, list[str]] = {}
        for feature in self.features:
            bound = self.bound[feature.name]
            if isinstance(bound, Bound) and not feature.frozen:
                seen.setdefault(bound.column, []).append(feature.name)
        for column, names in seen.items():
            for k, name in enumerate(names):
                for other in names[:k]:
                    if bool(((index[name] == index[other]) & (index[name] >= 0)).any()):
                        msg = f"features {other!r} and {name!r} are the same value of {column} in some events"
                        raise InputError(msg)

    def written(
        self, events: Any, places: Places, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> tuple[Any, dict[str, NDArray[np.bool_]]]:
        """Events in which values that changed are written back.

        Parameters
        ----------
        events
            All events of the chunk; they stay as they are.
        places
            What was read.
        before, after
            Features of the selected events as they were and as they are now, shape (selected, features).

        Returns
        -------
        tuple
            New events, and by collection in which events one of its objects changed.

        Raises
        ------
        InputError
            If a column of integers would have to hold another number.
        """
        columns: dict[str, list[int]] = {}
        for j, feature in enumerate(self.features):
            bound = self.bound[feature.name]
            if isinstance(bound, Bound) and not feature.frozen:
                columns.setdefault(bound.column, []).append(j)
        touched: dict[str, NDArray[np.bool_]] = {}
        for column, numbers in columns.items():
            values = column_of(events, column, column)
            flat, first, _ = _flattened(column, Bound(column, 0 if values.ndim > 1 else None), values)
            flat = flat.copy()
            for j in numbers:
                place = places.index[self.features[j].name]
                moved = (before[:, j] != after[:, j]) & ~(np.isnan(before[:, j]) & np.isnan(after[:, j]))
                flat[place[moved]] = _cast(self.features[j].name, after[moved, j], flat.dtype)
                changed = touched.setdefault(
                    column_path(events, column)[0], np.zeros(len(events), dtype=bool)
                )
                changed[np.searchsorted(first, place[moved], side="right") - 1] = True
            events = _replaced(events, column, flat, values)
        return events, touched


def make_bindings(features: Sequence[Feature], columns: Mapping[str, Any]) -> Bindings:
    """Check what features are bound to.

    Raises
    ------
    ConfigurationError
        If a feature is bound to nothing, something unknown is bound, or a feature that moves is bound to a
        function, into which nothing can be written.
    """
    names = [feature.name for feature in features]
    absent, unknown = [n for n in names if n not in columns], [n for n in columns if n not in names]
    if absent or unknown:
        msg = (
            f"columns= must name each feature once; not bound: {', '.join(absent) or 'none'}; "
            f"no such feature: {', '.join(map(str, unknown)) or 'none'}"
        )
        raise ConfigurationError(msg)
    bound: dict[str, Bound | Function] = {}
    for feature in features:
        given = columns[feature.name]
        given = Bound.parse(given) if isinstance(given, str) else given
        where = f"columns[{feature.name!r}]"
        if not isinstance(given, Bound) and not callable(given):
            msg = f"{where} must be a column such as 'Jet.pt[0]', a Bound or a function, got {given!r}"
            raise ConfigurationError(msg)
        if not isinstance(given, Bound) and not feature.frozen:
            msg = f"{where} is a function, which takes no new values; name a column, or freeze the feature"
            raise ConfigurationError(msg)
        bound[feature.name] = given
    return Bindings(tuple(features), bound)


def column_path(events: Any, column: str) -> tuple[str, ...]:
    """Names that lead to a column: itself, or a collection and its field."""
    if column in events.fields or "." not in column:
        return (column,)
    collection, field = column.split(".", 1)
    return collection, field


def column_of(events: Any, column: str, where: str = "columns=") -> Any:
    """A column of the events, which is a flat one or a field of a record or collection.

    Raises
    ------
    InputError
        With similar names, if there is none.
    """
    at = events
    for k, name in enumerate(path := column_path(events, column)):
        if name not in at.fields:
            near = difflib.get_close_matches(name, at.fields, n=5) or sorted(at.fields)[:20]
            what = f"{path[0]} has" if k else "events have"
            msg = f"{where}: {what} no {name!r} (for the column {column!r}); there are {', '.join(near)}"
            raise InputError(msg)
        at = at[name]
    return at


def _flattened(
    where: str, bound: Bound, values: Any
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """A column without its structure, where each event begins in it, and its number of objects.

    Raises
    ------
    InputError
        If it holds no numbers, entries are missing, or it has other dimensions than the binding says.
    """
    if values.fields:
        msg = f"{where}: {bound.column!r} is a record of {', '.join(values.fields[:10])}; name one of them"
        raise InputError(msg)
    wanted = 1 if bound.at is None else 2
    if values.ndim != wanted:
        hints = {1: "leave the position out", 2: "name one object, as in 'Jet.pt[0]'"}
        hint = hints.get(values.ndim, "only one value per event or one list of values can be bound")
        msg = f"{where}: {bound.column!r} has the type {values.type}; {hint}"
        raise InputError(msg)
    if bound.at is None:
        flat = to_numpy(f"{where}: {bound.column!r}", values)
        return flat, np.arange(len(flat)), np.ones(len(flat), dtype=np.int64)
    count = to_numpy(f"{where}: number of objects in {bound.column!r}", ak.num(values)).astype(np.int64)
    flat = to_numpy(f"{where}: {bound.column!r}", ak.flatten(values))
    return flat, np.cumsum(count) - count, count


def _place(
    where: str,
    bound: Bound,
    first: NDArray[np.int64],
    count: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    selected: Any,
) -> NDArray[np.int64]:
    """Position of the value of each selected event in the flat column, −1 where there is none."""
    first, count = first[chosen], count[chosen]
    at: Any = 0 if bound.at is None else bound.at
    if callable(at):
        given = ak.fill_none(ak.Array(at(selected)), -1)
        at = to_numpy(f"{where}: position in {bound.column!r}", given)
        if at.shape != count.shape or at.dtype.kind not in "iu" or bool((at >= count).any()):
            msg = (
                f"{where}: the function for {bound.column!r} must return an integer below the number of "
                f"objects for each of the {len(count)} selected events, −1 or None where there is none"
            )
            raise InputError(msg)
        return np.where(at < 0, -1, first + at)
    return np.where(at < count, first + at, -1)


def _picked(feature: Feature, bound: Bound, flat: NDArray[Any], place: NDArray[np.int64]) -> NDArray[Any]:
    """Values at some places; the feature's missing value where there is no object."""
    absent = place < 0
    if not absent.any():
        return np.asarray(flat[place])
    if feature.absent is None:
        msg = (
            f"feature {feature.name!r}: {int(absent.sum())} of {len(place)} selected events have no such "
            f"object in {bound.column!r}; select them away, or declare Feature(missing=-999.0)"
        )
        raise InputError(msg)
    values = np.full(len(place), feature.absent, dtype=np.float64)
    values[~absent] = flat[place[~absent]]
    return values


def _cast(name: str, values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in the type of their column."""
    if dtype.kind == "f":
        return values.astype(dtype)
    whole = values.astype(np.float64).astype(np.int64)
    info = np.iinfo(dtype) if dtype.kind in "iu" else np.iinfo(np.int8)
    low, high = (0, 1) if dtype.kind == "b" else (info.min, info.max)
    if bool((whole != values).any()) or bool(((whole < low) | (whole > high)).any()):
        msg = f"feature {name!r} moved to a value that its column of {dtype} cannot hold; use an Integer axis"
        raise InputError(msg)
    return whole.astype(dtype)


def _replaced(events: Any, column: str, flat: NDArray[Any], like: Any) -> Any:
    """Events with other values in one column; everything else is shared with the old ones."""
    new = ak.Array(flat) if like.ndim == 1 else ak.unflatten(flat, ak.num(like))
    path = column_path(events, column)
    if len(path) == 1:
        return ak.with_field(events, new, path[0])
    return ak.with_field(events, ak.with_field(events[path[0]], new, path[1]), path[0])
