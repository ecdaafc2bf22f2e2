"""Folds of events by a hash of their values, so that a fold does not depend on files or chunks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coffea_conserv.errors import InputError

__all__ = ("fold_index",)

# Multipliers of the 64-bit finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def fold_index(*columns: ArrayLike, folds: int = 2) -> NDArray[np.int64]:
    """Assign each event to a fold by a hash of its values.

    The same event gets the same fold in whatever file, chunk or order it is read, which is what k-fold
    models need: model *k* is trained on the events outside of fold *k* and applied to those inside.

    Parameters
    ----------
    *columns
        Arrays of shape (events,), integer or floating. Values that identify an event: event number, or
        a few continuous quantities that are never attacked in place.
    folds
        Number of folds.

    Returns
    -------
    numpy.ndarray
        Fold of each event, shape (events,), in ``0 … folds - 1``.

    Raises
    ------
    InputError
        If no column is given, if the lengths differ, or if ``folds`` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> event = np.arange(6)
    >>> fold = fold_index(event, folds=2)
    >>> bool((fold[::-1] == fold_index(event[::-1], folds=2)).all())
    True
    """
    if folds < 1:
        msg = f"folds must be at least 1, got {folds}"
        raise InputError(msg)
    if not columns:
        msg = "fold_index needs at least one column of values that identify an event"
        raise InputError(msg)
    arrays = [np.asarray(column) for column in columns]
    lengths = {array.shape for array in arrays}
    if len(lengths) > 1 or arrays[0].ndim != 1:
        msg = f"columns of one length and one dimension are needed, got shapes {sorted(lengths)}"
        raise InputError(msg)
    state = np.zeros(arrays[0].shape, dtype=np.uint64)
    for array in arrays:
        state = _mix(state ^ _bits(array))
    return (state % np.uint64(folds)).astype(np.int64)


def _bits(array: NDArray[np.generic]) -> NDArray[np.uint64]:
    """Bit pattern of each value as an unsigned 64-bit integer; −0 and 0 are the same value."""
    if array.dtype.kind in "iub":
        return array.astype(np.int64).view(np.uint64)
    # Through float32: a value must not change its fold because somebody reads it in double precision.
    return (array.astype(np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        mixed = state + _GAMMA
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    return mixed ^ (mixed >> np.uint64(31))
