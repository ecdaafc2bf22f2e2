"""Arrays as a user gives them: into a batch, and back in the kind that was given."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coffea_conserv.attacks.batch import Batch
from coffea_conserv.errors import InputError
from coffea_conserv.features.feature import Feature
from coffea_conserv.features.matrix import feature_matrix

__all__ = ("like", "make_batch", "make_matrix")


def make_matrix(x: Any, features: tuple[Feature, ...]) -> NDArray[np.float32]:
    """Features of an array or a tensor in single precision, a copy of shape (events, features)."""
    array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    if array.ndim != 2 or array.shape[1] != len(features):
        msg = f"x must have shape (events, {len(features)}) for {len(features)} features, got {array.shape}"
        raise InputError(msg)
    return feature_matrix({f.name: array[:, j] for j, f in enumerate(features)}, features)


def make_batch(
    matrix: NDArray[np.float32], *, weights: Any, groups: Any, fold: Any, context: Any, models: int
) -> Batch:
    """Events with their weights, groups, folds and context, as many ``models`` as folds."""
    count = len(matrix)
    weight = np.ones(count) if weights is None else np.array(weights, dtype=np.float64)
    group = np.zeros(count, dtype=np.int64) if groups is None else _whole("groups", groups)
    if models > 1 and fold is None:
        msg = f"{models} models need fold=, the fold of each event in 0 … {models - 1}"
        raise InputError(msg)
    folds = None if fold is None else _whole("fold", fold)
    columns = {name: np.asarray(values) for name, values in (context or {}).items()}
    for name, array in {"weights": weight, "groups": group, "fold": folds, **columns}.items():
        if array is not None and array.shape != (count,):
            msg = f"{name} must have shape ({count},), one value per event, got {array.shape}"
            raise InputError(msg)
    if not np.isfinite(weight).all():
        bad = int((~np.isfinite(weight)).sum())
        msg = f"weights: {bad} of {count} are NaN or infinite; select these events away"
        raise InputError(msg)
    if folds is not None and count and models > 1 and not (folds.min() >= 0 and folds.max() < models):
        msg = f"fold must lie in 0 … {models - 1} for {models} models, got {folds.min()} … {folds.max()}"
        raise InputError(msg)
    return Batch(matrix, weight, group, folds, columns)


def _whole(name: str, values: Any) -> NDArray[np.int64]:
    """Whole numbers, −1 at least."""
    array = np.asarray(values)
    fine = array.dtype.kind in "iub" or (array.dtype.kind == "f" and bool((array == np.floor(array)).all()))
    if not fine or (array.size and array.min() < -1):
        example = array.reshape(-1)[:3].tolist()
        msg = f"{name} must be whole numbers from 0, or −1 for events that are left alone, got {example} …"
        raise InputError(msg)
    return array.astype(np.int64)


def like(moved: NDArray[np.float32], nominal: NDArray[np.float32], given: Any) -> Any:
    """Attacked features in the kind and precision that was given; what did not move is unchanged."""
    if isinstance(given, torch.Tensor):
        array = _restored(moved, nominal, given.detach().cpu().numpy())
        return torch.from_numpy(array).to(given.device)
    return _restored(moved, nominal, np.asarray(given))


def _restored(moved: NDArray[np.float32], nominal: NDArray[np.float32], given: NDArray[Any]) -> NDArray[Any]:
    """Replace single-precision values by the given ones that they were rounded from."""
    if given.dtype == np.float32:
        return moved
    restored = given.copy()
    for j in range(given.shape[1]):
        rows = np.flatnonzero((moved[:, j] != nominal[:, j]) & ~np.isnan(nominal[:, j]))
        donors = np.argsort(nominal[:, j], kind="stable")
        among = donors[np.isin(donors, rows)]
        into = rows[np.argsort(moved[rows, j], kind="stable")]
        if np.array_equal(moved[into, j], nominal[among, j]):  # a permutation stays one
            restored[into, j] = given[among, j]
        else:
            place = np.minimum(np.searchsorted(nominal[donors, j], moved[rows, j]), len(donors) - 1)
            copied = nominal[donors[place], j] == moved[rows, j]
            if restored.dtype.kind != "f" and not copied.all():  # new values of whole numbers may be none
                restored = restored.astype(np.float64)
            restored[rows, j] = np.where(copied, given[donors[place], j], moved[rows, j])
    return restored
