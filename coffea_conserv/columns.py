"""Columns of an analysis as NumPy copies: the only module that knows awkward arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import InputError

__all__ = ("to_columns", "to_context", "to_folds", "to_masks", "to_numpy", "to_weights")


def to_numpy(name: str, values: Any) -> NDArray[Any]:
    """Copy one value per event to NumPy.

    Parameters
    ----------
    name
        For messages.
    values
        Awkward, NumPy or torch array with one number per event.

    Returns
    -------
    numpy.ndarray
        A copy, shape (events,): never a view of the event buffers, which would let an attack write into them.

    Raises
    ------
    InputError
        If it is jagged or a record, has missing entries, holds no numbers, or belongs to dask-awkward.
    """
    if type(values).__module__.startswith("dask_awkward"):
        msg = (
            f"{name} is a dask-awkward array; run the processor with coffea's Runner (virtual arrays) instead"
        )
        raise InputError(msg)
    if isinstance(values, ak.Array):
        values = _flat(name, values)
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.getmaskarray(values).any():
            msg = f"{name} has masked entries; fill them with a number that Feature(missing=…) declares"
            raise InputError(msg)
        values = np.ma.getdata(values)
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    array = np.array(values, copy=True)
    if array.ndim != 1:
        msg = f"{name} needs one value per event, got shape {array.shape}"
        raise InputError(msg)
    if array.dtype.kind not in "biuf":
        msg = f"{name} must hold numbers, got {array.dtype}"
        raise InputError(msg)
    return array


def _flat(name: str, values: Any) -> Any:
    """Make an awkward array one of NumPy, a masked one (with nothing masked) if it is of option type."""
    msg = ""
    if values.ndim != 1:
        msg = f"{name} has several values per event ({values.type}); pick one, for example with ak.firsts"
    elif values.fields:
        msg = f"{name} is a record of {', '.join(values.fields)}; pick one of them"
    elif ak.any(ak.is_none(values)):
        msg = f"{name} has missing entries; fill them with a number that Feature(missing=…) declares"
    if msg:
        raise InputError(msg)
    return ak.to_numpy(values)


def to_columns(columns: Any, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Copy the named columns of a dict, a table or a record array of awkward or NumPy.

    Raises
    ------
    InputError
        If one is missing.
    """
    fields = _fields(columns)
    absent = [name for name in names if name not in fields]
    if absent:
        msg = f"missing column(s) {', '.join(absent)}; given are {', '.join(sorted(fields)) or 'none'}"
        raise InputError(msg)
    return {name: to_numpy(f"column {name!r}", columns[name]) for name in names}


def _fields(columns: Any) -> list[str]:
    names: Any = columns
    if isinstance(columns, ak.Array):
        names = columns.fields
    elif isinstance(columns, np.ndarray):
        names = columns.dtype.names
        if names is None:
            msg = f"columns need names: give a dict or a record array, got an array of {columns.dtype}"
            raise InputError(msg)
    return [str(name) for name in names]


def to_masks(regions: Mapping[str, Any] | None, count: int) -> dict[str, NDArray[np.bool_]]:
    """Copy the masks of the regions.

    Raises
    ------
    InputError
        If there is none, or if one has another length or is not Boolean.
    """
    if not regions:
        msg = "regions={name: mask} is needed: limits hold where somebody checks; regions={'all': …} for one"
        raise InputError(msg)
    masks = {}
    for name, values in regions.items():
        mask = to_numpy(f"region {name!r}", values)
        if mask.shape != (count,) or (mask.dtype != np.bool_ and count):
            got = f"{mask.dtype} of {mask.shape}"
            msg = f"region {name!r} must be a Boolean mask of the {count} events, got {got}"
            raise InputError(msg)
        masks[name] = mask.astype(np.bool_)
    return masks


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
        msg = f"weight must have one value for each of the {count} events, got shape {array.shape}"
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
