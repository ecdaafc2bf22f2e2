"""What mean and variance allow: Chebyshev's one-sided inequality for the linear part of a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from coffea_conserv.attacks.bounds import check_least, checked_sample, logits_of
from coffea_conserv.errors import InputError
from coffea_conserv.features.working_point import logit_of

__all__ = ("LinearBound", "cantelli", "linear_bound")

Floats = NDArray[np.float64]


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
