"""What any attack can reach at most, for models of two features: a linear programme over a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import linprog

from coffea_conserv.errors import InputError
from coffea_conserv.features import Feature
from coffea_conserv.points import logit_of

__all__ = ("FoolingBound", "fooling_bound", "logits_of")

Floats = NDArray[np.float64]

_POINTS = 5
"""Points along each side of a cell at which the model is evaluated, corners included."""

_ROWS = 100_000
"""Events that the model is given at a time."""


@dataclass(frozen=True)
class FoolingBound:
    """Largest fooling ratio within the limits, bracketed by two programmes.

    Parameters
    ----------
    inner
        Counting cells of the grid that are wholly on the other side of the working point.
    outer
        Counting cells that are so in part.
    """

    inner: float
    outer: float


def fooling_bound(
    x: ArrayLike,
    model: Callable[[torch.Tensor], torch.Tensor],
    features: Sequence[Feature],
    *,
    band: float = 0.0,
    correlation: float = 0.006,
    working_point: float = 0.5,
    direction: str = "signal",
    cells: int = 100,
) -> FoolingBound:
    """Largest share of a sample that can cross the working point while marginals and correlation are kept.

    Maximise the mass in the cells of a grid that the model puts on the other side, subject to the marginals
    of the sample and to its correlation, which is linear to first order in what changes.

    Parameters
    ----------
    x
        Two features of unweighted events that are all on the side that is attacked, shape (events, 2).
    model
        Gives one logit per event from a float32 tensor of shape (events, 2).
    features
        The columns of ``x``. Bands hold in the bins of their axes.
    band
        Relative deviation that each bin may have; 0: marginals are kept exactly.
    correlation
        Largest ‖R′ − R‖ / ‖R‖ (Frobenius).
    working_point
        Score that has to be crossed.
    direction
        ``signal`` or ``background``.
    cells
        Least number of slices of each feature; every bin is cut into a whole number of them.

    Returns
    -------
    FoolingBound
        Inner and outer limit; they approach each other as the cells get smaller.

    Raises
    ------
    InputError
        If there are not two features.

    Examples
    --------
    >>> import hist, numpy as np
    >>> x = np.random.default_rng(0).normal(size=(5000, 2))
    >>> features = [Feature(name, hist.axis.Regular(30, -3, 3)) for name in "xy"]
    >>> bound = fooling_bound(x, lambda x: 0.5 - (x[:, 0] - x[:, 1]).abs(), features, cells=60)
    >>> bool(0.8 < bound.inner < bound.outer <= 1.0)
    True
    """
    sample = np.asarray(x, dtype=np.float64)
    if sample.ndim != 2 or sample.shape[1] != 2 or len(features) != 2:
        msg = (
            f"the bound is known for models of two features only, got {len(features)} features and x of "
            f"shape {sample.shape}"
        )
        raise InputError(msg)
    slices = [_Slices.make(column, f.axis.edges, cells) for column, f in zip(sample.T, features, strict=True)]
    some, whole = _across(model, slices, logit_of(working_point), 1.0 if direction == "signal" else -1.0)
    limit = _correlation(sample, slices, correlation)
    return FoolingBound(*(_solve(gain, slices, limit, band) for gain in (whole, some)))


def logits_of(model: Callable[[torch.Tensor], torch.Tensor], x: NDArray[np.float32]) -> Floats:
    """Logits of a plain function of a tensor, part by part, shape (events,)."""
    with torch.no_grad():
        parts = torch.split(torch.from_numpy(x), _ROWS)
        logit: Floats = torch.cat([model(part).reshape(-1) for part in parts]).double().numpy()
    return logit


@dataclass(frozen=True)
class _Slices:
    """Slices of one feature that hold events.

    Parameters
    ----------
    low, high
        Their edges, shape (slices,).
    bin
        Bin of each slice.
    share, mean, square
        Share of the events, and means of the standardised feature and of its square.
    """

    low: Floats
    high: Floats
    bin: NDArray[np.int64]
    share: Floats
    mean: Floats
    square: Floats

    @staticmethod
    def make(column: Floats, bins: ArrayLike, cells: int) -> _Slices:
        inside = np.asarray(bins, dtype=np.float64)
        inside = inside[(inside > column.min()) & (inside < column.max())]
        bins = np.concatenate([[column.min()], inside, [np.nextafter(column.max(), np.inf)]])
        parts = max(1, -(-cells // (len(bins) - 1)))
        edges = np.interp(np.arange((len(bins) - 1) * parts + 1) / parts, np.arange(len(bins)), bins)
        index = np.searchsorted(edges, column, side="right") - 1
        z = (column - column.mean()) / (column.std() or 1.0)
        count, first, second = (np.bincount(index, w, len(edges) - 1) for w in (np.ones(len(z)), z, z**2))
        some = np.flatnonzero(count)
        events = count[some]
        moments = first[some] / events, second[some] / events
        return _Slices(edges[some], edges[some + 1], some // parts, events / len(column), *moments)


def _across(
    model: Callable[[torch.Tensor], torch.Tensor], slices: list[_Slices], offset: float, sign: float
) -> tuple[Floats, Floats]:
    """Cells that are across the working point in part and wholly, shape (cells,)."""
    place = np.linspace(0, 1, _POINTS)
    fine = [part.low[:, None] + place * (part.high - part.low)[:, None] for part in slices]
    sizes = [len(part.low) for part in slices]
    grid = np.empty((sizes[0], sizes[1], _POINTS, _POINTS, 2), dtype=np.float32)
    grid[..., 0] = fine[0][:, None, :, None]
    grid[..., 1] = fine[1][None, :, None, :]
    logit = logits_of(model, grid.reshape(-1, 2))
    across: NDArray[np.bool_] = (sign * (logit - offset) > 0).reshape(sizes[0] * sizes[1], -1)
    return np.asarray(across.any(axis=1), np.float64), np.asarray(across.all(axis=1), np.float64)


def _correlation(sample: Floats, slices: list[_Slices], correlation: float) -> tuple[Floats, float]:
    """Row of the change of Pearson's r to first order, also where variances change, and its largest value."""
    first, second = slices
    z = (sample - sample.mean(0)) / sample.std(0)
    r = float(np.mean(z[:, 0] * z[:, 1]))
    row = np.outer(first.mean, second.mean) - r / 2 * np.add.outer(first.square, second.square)
    return np.asarray(row.reshape(-1)), correlation * float(np.sqrt(1 + r * r))


def _solve(gain: Floats, slices: list[_Slices], limit: tuple[Floats, float], band: float) -> float:
    first, second = slices
    sizes = len(first.share), len(second.share)
    rows = sparse.vstack(
        [
            sparse.kron(sparse.identity(sizes[0]), np.ones((1, sizes[1]))),
            sparse.kron(np.ones((1, sizes[0])), sparse.identity(sizes[1])),
        ]
    ).tocsr()
    share = np.concatenate([first.share, second.share])
    row, room = limit
    upper, values = [sparse.csr_array(row[None]), sparse.csr_array(-row[None])], [np.full(2, room)]
    equal: dict[str, Any] = {"A_eq": rows, "b_eq": share}
    if band:
        bins = np.unique(np.concatenate([first.bin, second.bin + first.bin.max() + 1]), return_inverse=True)[
            1
        ]
        summed = sparse.csr_array((np.ones(len(bins)), (bins, np.arange(len(bins)))))
        rows, share = summed @ rows, summed @ share
        upper, values = [*upper, rows, -rows], [*values, share * (1 + band), -share * (1 - band)]
        equal = {"A_eq": np.ones((1, sizes[0] * sizes[1])), "b_eq": np.ones(1)}
    found = linprog(-gain, A_ub=sparse.vstack(upper), b_ub=np.concatenate(values), **equal)
    if found.status != 0:
        msg = f"the linear programme has no solution on {sizes[0]} × {sizes[1]} cells: {found.message}"
        raise InputError(msg)
    return float(-found.fun)
