"""Columns of an analysis as NumPy copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import InputError
from coffea_conserv.features.feature import Feature

__all__ = ("to_categories", "to_columns", "to_context", "to_folds", "to_numpy", "to_weights")


def to_numpy(
    name: str, values: Any, *, absent: float | None = None, remedy: str = "fill them, or select them away"
) -> NDArray[Any]:
    """Copy one value per event to NumPy.

    Parameters
    ----------
    name
        For messages.
    values
        Awkward, NumPy or torch array with one number per event, on any device, or whatever NumPy makes one
        of, such as a column of pandas or Arrow.
    absent
        What entries become that are ``None`` or masked; an error where not given.
    remedy
        What to do about such entries, for messages.

    Returns
    -------
    numpy.ndarray
        A copy, shape (events,): never a view of the event buffers, which would let an attack write into them.
        The type is kept, unless entries were absent and it is too short for single precision.

    Raises
    ------
    InputError
        If it is jagged or a record, has missing entries, holds no numbers, or has no values yet, as an array
        of dask and a typetracer of awkward.
    """
    array = _as_numpy(name, values)
    if array.ndim != 1:
        msg = f"{name} needs one value per event, got shape {array.shape}"
        raise InputError(msg)
    if array.dtype.kind not in "biuf":
        msg = f"{name} must hold numbers, got {array.dtype}"
        raise InputError(msg)
    mask = np.ma.getmaskarray(array)
    if not mask.any():
        return np.array(np.ma.getdata(array))
    if absent is None:
        msg = f"{name} has missing entries ({int(mask.sum())} of {len(mask)} are None or masked); {remedy}"
        raise InputError(msg)
    # Neither NaN nor -999.0 is a short integer, and half precision has no 999.9.
    filled = np.ma.getdata(array).astype(np.result_type(array.dtype, np.float32))
    filled[mask] = absent
    return filled


def _as_numpy(name: str, values: Any) -> NDArray[Any]:
    """Whatever holds values as an array of NumPy, a masked one where entries are missing; maybe a view."""
    _check_values(name, values)
    if isinstance(values, ak.Array):
        return _of_awkward(name, values)
    if hasattr(values, "detach"):
        return _of_torch(values)
    if hasattr(values, "__cuda_array_interface__"):
        values = values.get()
    try:
        return np.asanyarray(values)
    except ValueError:  # lists of different lengths
        msg = f"{name} has several values per event; pick one"
        raise InputError(msg) from None


def _check_values(name: str, values: Any) -> None:
    """Raise an InputError if there are no values yet."""
    package = type(values).__module__.partition(".")[0]
    msg = ""
    if package in ("dask", "dask_awkward", "dask_expr"):
        kind = package.replace("_", "-")
        msg = f"{name} is a {kind} array; run the processor with coffea's Runner (virtual arrays) instead"
    elif isinstance(values, ak.Array) and ak.backend(values) == "typetracer":
        msg = (
            f"{name} is a typetracer, which has no values; coffea's trace goes on with arrays of 0 and of 1 "
            "event by itself"
        )
    if msg:
        raise InputError(msg)


def _of_torch(values: Any) -> NDArray[Any]:
    """A tensor on any device, with or without gradient."""
    tensor = values.detach().cpu()
    try:
        array: NDArray[Any] = tensor.numpy()
    except TypeError:  # NumPy does not know every type of torch
        array = tensor.float().numpy()
    return array


def _of_awkward(name: str, values: Any) -> NDArray[Any]:
    """An awkward array of one value per event, a masked one if it is of option type."""
    msg = ""
    if values.ndim != 1:
        msg = f"{name} has several values per event ({values.type}); pick one, for example with ak.firsts"
    elif values.fields:
        msg = f"{name} is a record of {', '.join(values.fields)}; pick one of them"
    if msg:
        raise InputError(msg)
    array: NDArray[Any] = ak.to_numpy(ak.to_backend(values, "cpu"))
    return array


def to_columns(columns: Any, features: Sequence[Feature]) -> dict[str, NDArray[Any]]:
    """Copy the columns of the features.

    Parameters
    ----------
    columns
        A dict, a record or a record array of awkward, a structured array of NumPy, a table of pandas, polars
        or Arrow.
    features
        Whose columns. Entries that are ``None`` or masked become what a feature declares as missing, the
        first one if there are several.

    Raises
    ------
    InputError
        If one is missing, or has missing entries though its feature declares no value for them.
    """
    fields = _fields(columns)
    absent = [feature.name for feature in features if feature.name not in fields]
    if absent:
        msg = f"missing column(s) {', '.join(absent)}; given are {', '.join(sorted(fields)) or 'none'}"
        raise InputError(msg)
    return {
        feature.name: to_numpy(
            f"column {feature.name!r}",
            columns[feature.name],
            absent=feature.absent,
            remedy=f"declare what they become, Feature({feature.name!r}, …, missing=-999.0), or select these "
            "events away",
        )
        for feature in features
    }


def _fields(columns: Any) -> list[str]:
    _check_values("columns=", columns)
    names: Any = None
    if isinstance(columns, Mapping):
        names = columns
    elif isinstance(columns, np.ndarray):
        names = columns.dtype.names
    elif isinstance(columns, ak.Array | ak.Record):
        names = columns.fields or None
    else:
        # Arrow; pandas and polars
        names = getattr(columns, "column_names", getattr(columns, "columns", None))
    if names is None:
        got = f"an array of {columns.dtype}" if isinstance(columns, np.ndarray) else type(columns).__name__
        msg = f"columns need names: give a dict or a record array, got {got}"
        raise InputError(msg)
    return [str(name) for name in names]


def to_categories(name: str, values: Any) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Pairs of an event and a category that it belongs to.

    Parameters
    ----------
    name
        For messages.
    values
        Category of each event, or a list of its categories: integers, or texts. An event whose category is
        ``None`` or masked is in none.

    Returns
    -------
    tuple
        Position of the event and category, shape (pairs,) each.

    Raises
    ------
    InputError
        If there are neither integers nor texts, or records.
    """
    _check_values(name, values)
    event = None
    if isinstance(values, ak.Array) and values.ndim == 2:
        event = np.repeat(np.arange(len(values)), to_numpy(name, ak.num(values), absent=0).astype(np.int64))
        values = ak.flatten(values)
    array = _as_numpy(name, values)
    if array.ndim != 1 or array.dtype.names:
        msg = f"{name} needs one category per event, or an awkward list of them, got shape {array.shape}"
        raise InputError(msg)
    there = ~np.ma.getmaskarray(array)
    event = (np.arange(len(array)) if event is None else event)[there]
    category = np.ma.getdata(array)[there]
    if category.dtype.kind == "O" and all(isinstance(value, str) for value in category):
        category = category.astype(np.str_)
    if len(category) and category.dtype.kind not in "iuU":
        msg = f"{name} must hold integers or texts, got {category.dtype}"
        raise InputError(msg)
    return event, category


def to_weights(weight: Any, count: int, dataset: str, *, data: bool) -> NDArray[np.float64]:
    """Copy the weights of the events; 1 for real data if there are none.

    Raises
    ------
    InputError
        If simulation has none, if the number of events is another one, if one is NaN or infinite, or if real
        data have one that is not 1: then yields and errors of the data would not be those of counts.
    """
    if weight is None:
        if not data:
            msg = f"dataset {dataset!r}: weight= is needed for simulation; for real data say data=True"
            raise InputError(msg)
        return np.ones(count)
    if hasattr(weight, "weight") and callable(weight.weight):
        weight = weight.weight()  # coffea's Weights
    array = to_numpy("weight", weight).astype(np.float64)
    if array.shape != (count,):
        msg = (
            f"weight must have one value for each of the {count} events, got shape {array.shape}; select the "
            "same events, as in weights.weight()[mask]"
        )
        raise InputError(msg)
    bad = int((~np.isfinite(array)).sum())
    if bad:
        msg = f"dataset {dataset!r}: {bad} of {count} weights are NaN or infinite; select these events away"
        raise InputError(msg)
    other = int((array != 1).sum())
    if data and other:
        msg = (
            f"dataset {dataset!r}: {other} of {count} weights are not 1, but data=True says real data, which "
            "are counted; leave weight= out, or data=True if this is weighted simulation"
        )
        raise InputError(msg)
    return array


def to_folds(fold: Any, count: int, models: int) -> NDArray[np.int64] | None:
    """Copy the fold of each event; ``None`` with a single model, which takes the events of all folds.

    Raises
    ------
    InputError
        If several models have none, or if it is not one integer of 0 … models − 1 for each event; with a
        single model, if it is not one integer ≥ 0 for each event.
    """
    if fold is None and models == 1:
        return None
    if fold is None:
        msg = f"{models} models need fold=, the fold of each event in 0 … {models - 1}"
        raise InputError(msg)
    given = to_numpy("fold", fold)
    with np.errstate(invalid="ignore"):  # NaN is refused below
        array = given.astype(np.int64)
    whole = array.shape == (count,) and bool(((array == given) & (array >= 0)).all())
    if not whole or (models > 1 and bool((array >= models).any())):
        allowed = f"in 0 … {models - 1}" if models > 1 else "≥ 0"
        msg = f"fold must be one integer {allowed} for each of the {count} events"
        raise InputError(msg)
    return array if models > 1 else None


def to_context(
    context: Mapping[str, Any] | None, count: int, features: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Copy further columns.

    Raises
    ------
    InputError
        If one has the name of a feature, or another number of events.
    """
    copies = {name: to_numpy(f"context {name!r}", values) for name, values in (context or {}).items()}
    for name, array in copies.items():
        if name in features:
            msg = f"context {name!r} has the name of a feature, which moves; choose another name"
            raise InputError(msg)
        if array.shape != (count,):
            msg = f"context {name!r} must have one value for each of the {count} events, got {array.shape}"
            raise InputError(msg)
    return copies
