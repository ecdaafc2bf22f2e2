"""Columns of an analysis as NumPy copies: the only module that knows awkward arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import InputError

__all__ = ("to_columns", "to_masks", "to_numpy")


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
    """Copy the named columns of a dict or of a record array.

    Raises
    ------
    InputError
        If one is missing.
    """
    fields = list(columns.fields) if isinstance(columns, ak.Array) else list(columns)
    absent = [name for name in names if name not in fields]
    if absent:
        msg = f"missing column(s) {', '.join(absent)}; given are {', '.join(sorted(fields)) or 'none'}"
        raise InputError(msg)
    return {name: to_numpy(f"column {name!r}", columns[name]) for name in names}


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
