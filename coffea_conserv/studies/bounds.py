"""Bounds on any attack: a linear programme for models of two features, Chebyshev's for linear ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import linprog

from coffea_conserv.attacks.settings import DIRECTIONS
from coffea_conserv.checks import check_choice
from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.features.feature import Feature
from coffea_conserv.features.working_point import logit_of

__all__ = (
    "FoolingBound",
    "LinearBound",
    "cantelli",
    "check_least",
    "checked_sample",
    "fooling_bound",
    "linear_bound",
    "logits_of",
)

Floats = NDArray[np.float64]

_POINTS = 5
"""Points along each side of a cell at which the model is evaluated, corners included."""

_ROWS = 100_000
"""Events that the model is given at a time."""

_ROUNDING = 1e-4
"""Difference of single-precision logits, evaluated in parts or at once, that is rounding."""


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
        If there are not two features, a value or a logit is not finite, or events are across the working
        point already.
    ConfigurationError
        If a limit, the working point or the number of cells is out of range, or the direction unknown.

    Examples
    --------
    >>> import hist, numpy as np
    >>> x = np.random.default_rng(0).normal(size=(5000, 2))
    >>> x = x[abs(x[:, 0] - x[:, 1]) > 0.5]
    >>> features = [Feature(name, hist.axis.Regular(30, -3, 3)) for name in "xy"]
    >>> bound = fooling_bound(x, lambda x: 0.5 - (x[:, 0] - x[:, 1]).abs(), features, cells=60)
    >>> bool(0.8 < bound.inner < bound.outer <= 1.0)
    True
    """
    for name, value in {"band": band, "correlation": correlation}.items():
        check_least(name, value, 0.0)
    check_least("cells", cells, 1)
    sample = checked_sample(x, working_point, direction)
    if sample.shape[1] != 2 or len(features) != 2 or len(sample) < 2:
        msg = (
            f"the bound is known for models of two features only, got {len(features)} features and x of "
            f"shape {sample.shape}"
        )
        raise InputError(msg)
    sign, offset = 1.0 if direction == "signal" else -1.0, logit_of(working_point)
    _check_short(sign * (logits_of(model, sample.astype(np.float32)) - offset), working_point)
    slices = [_Slices.make(column, f.axis.edges, cells) for column, f in zip(sample.T, features, strict=True)]
    some, whole = _across(model, slices, offset, sign)
    row, room = _correlation(sample, slices, correlation)
    return FoolingBound(*(_solve(gain, slices, row, room, band) for gain in (whole, some)))


def check_least(name: str, value: Any, least: float) -> None:
    """Raise unless a number is finite and not too small."""
    if not (isinstance(value, Real) and least <= float(value) < np.inf):
        msg = f"{name}={value!r} must be a number ≥ {least:g}"
        raise ConfigurationError(msg)


def checked_sample(x: ArrayLike, working_point: float, direction: str) -> Floats:
    """Events in double precision, shape (events, features), where these and what else is asked make sense."""
    given: Any = working_point
    if not (isinstance(given, Real) and 0 < float(given) < 1):
        msg = f"working_point={working_point!r} must be between 0 and 1"
        raise ConfigurationError(msg)
    check_choice("direction", direction, DIRECTIONS)
    try:
        sample = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"x must hold finite numbers, shape (events, features), got {x!r:.80}"
        raise InputError(msg) from error
    if sample.ndim != 2 or not np.isfinite(sample).all():
        msg = f"x must hold finite numbers, shape (events, features), got shape {sample.shape}"
        raise InputError(msg)
    return sample


def _check_short(ahead: Floats, working_point: float) -> None:
    """Raise if events are across the working point, other than by rounding."""
    across = int((ahead > _ROUNDING * np.maximum(1.0, np.abs(ahead).max(initial=0.0))).sum())
    if across:
        msg = (
            f"{across} of {len(ahead)} events are across working_point={working_point:g} already; leave them "
            "out: the bound is for those that are to cross it"
        )
        raise InputError(msg)


def logits_of(model: Callable[[torch.Tensor], torch.Tensor], x: NDArray[np.float32]) -> Floats:
    """Logits of a plain function of a tensor, part by part, shape (events,); each has to be finite."""
    with torch.no_grad():
        parts = torch.split(torch.from_numpy(x), _ROWS)
        logit: Floats = torch.cat([model(part).reshape(-1) for part in parts]).double().numpy()
    if len(logit) != len(x) or not np.isfinite(logit).all():
        msg = f"the model must give one finite logit for each of the {len(x)} events, got {logit.shape}"
        raise InputError(msg)
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
    if ((logit >= 0) & (logit <= 1)).all():
        msg = (
            f"the model gives only {logit.min():g} … {logit.max():g}, as a probability does; give "
            "lambda x: torch.logit(model(x)), because the bound takes logits"
        )
        raise InputError(msg)
    across: NDArray[np.bool_] = (sign * (logit - offset) > 0).reshape(sizes[0] * sizes[1], -1)
    return np.asarray(across.any(axis=1), np.float64), np.asarray(across.all(axis=1), np.float64)


def _correlation(sample: Floats, slices: list[_Slices], correlation: float) -> tuple[Floats, float]:
    """Row of the change of Pearson's r to first order, also where variances change, and its largest value."""
    first, second = slices
    spread = sample.std(0)
    if not (spread > 0).all():  # a constant has correlation 0 by definition, whatever else moves
        return np.zeros(len(first.share) * len(second.share)), 0.0
    z = (sample - sample.mean(0)) / spread
    r = float(np.mean(z[:, 0] * z[:, 1]))
    row = np.outer(first.mean, second.mean) - r / 2 * np.add.outer(first.square, second.square)
    return np.asarray(row.reshape(-1)), correlation * float(np.sqrt(1 + r * r))


def _solve(gain: Floats, slices: list[_Slices], row: Floats, room: float, band: float) -> float:
    first, second = slices
    sizes = len(first.share), len(second.share)
    rows = sparse.vstack(
        [
            sparse.kron(sparse.identity(sizes[0]), np.ones((1, sizes[1]))),
            sparse.kron(np.ones((1, sizes[0])), sparse.identity(sizes[1])),
        ]
    ).tocsr()
    share = np.concatenate([first.share, second.share])
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


@dataclass(frozen=True)
class LinearBound:
    """Largest share of a sample that a linear model could have beyond its working point.

    Parameters
    ----------
    share
        The bound, in 0 … 1.
    r2
        Share of the variance of the logits that the linear fit explains. The bound is one for the model
        itself only where this is 1: what is not linear may put more events beyond the working point.
    distance
        Distance of the working point from the mean of the fitted logits, in standard deviations of theirs.
    """

    share: float
    r2: float
    distance: float


def cantelli(distance: float) -> float:
    """Largest probability to be at least so many standard deviations above the mean.

    1 / (1 + d²) for d > 0, else 1. It is attained by two values, one of which is at this distance
    (F. P. Cantelli, Sui confini della probabilità, Atti del Congresso Internazionale dei Matematici 6 (1928)
    47).

    Examples
    --------
    >>> cantelli(2.0), cantelli(-1.0)
    (0.2, 1.0)
    """
    return 1.0 / (1.0 + distance**2) if distance > 0 else 1.0


def linear_bound(
    x: ArrayLike,
    model: Callable[[torch.Tensor], torch.Tensor],
    *,
    correlation: float = 0.006,
    working_point: float = 0.5,
    direction: str = "signal",
) -> LinearBound:
    """What any attack could reach at most with exact marginals, if the model were linear.

    With s = a·z + b on standardised features the mean of s is fixed by the means and its variance aᵀRa by the
    correlation matrix R. A change with ‖R′ − R‖ ≤ ε ‖R‖ raises the variance by at most
    ε ‖R‖ ‖aaᵀ − diag(aaᵀ)‖ (Cauchy and Schwarz; the diagonal of R stays 1). The rest is Chebyshev's one-sided
    inequality.

    Parameters
    ----------
    x
        Unweighted events, shape (events, features).
    model
        Gives one logit per event from a float32 tensor of shape (events, features).
    correlation
        ε, the largest ‖R′ − R‖ / ‖R‖ (Frobenius).
    working_point
        Score that has to be crossed.
    direction
        ``signal`` or ``background``.

    Returns
    -------
    LinearBound
        The bound for the linear fit (least squares on these events), and how good the fit is.

    Raises
    ------
    InputError
        If there are fewer events than features, or a value or a logit is not finite.
    ConfigurationError
        If the correlation limit or the working point is out of range, or the direction unknown.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    >>> bound = linear_bound(x, lambda x: x.sum(1) - 3.0, correlation=0.0)
    >>> print(f"{bound.share:.2f} at R² = {bound.r2:.2f}")
    0.26 at R² = 1.00
    """
    check_least("correlation", correlation, 0.0)
    sample = checked_sample(x, working_point, direction)
    if len(sample) <= sample.shape[1]:
        msg = f"x must hold more events than features, got shape {sample.shape}"
        raise InputError(msg)
    logit = logits_of(model, sample.astype(np.float32))
    spread = sample.std(0)
    z = np.where(spread > 0, sample - sample.mean(0), 0.0) / np.where(spread > 0, spread, 1.0)
    slope = np.linalg.lstsq(z, logit - logit.mean(), rcond=None)[0]
    r = z.T @ z / len(z)
    crossed = np.outer(slope, slope)
    explained = float((crossed * r).sum())
    room = correlation * np.linalg.norm(r) * np.linalg.norm(crossed - np.diag(np.diag(crossed)))
    gap = logit_of(working_point) - float(logit.mean())
    gap = gap if direction == "signal" else -gap
    deviation = float(np.sqrt(explained + room))
    # without spread all events are on one side, those at the working point itself have not crossed it
    nowhere = math.inf if gap >= 0 else -math.inf
    distance = gap / deviation if deviation > 0 else nowhere
    variance = float(logit.var())
    return LinearBound(cantelli(distance), explained / variance if variance > 0 else 1.0, float(distance))
