"""Signal strength and its error as they are expected before any fit, and the bounds that it needs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.exports.measurement import Measurement, of_region
from coffea_conserv.names import DATA
from coffea_conserv.templates.templates import Templates

__all__ = ("LARGEST", "bounds")

LARGEST = 20
"""Bound of the signal strength where nothing larger is expected."""

_SIGMAS = 5
"""Errors of the signal strength that have to lie within the bounds, and as many again."""


def bounds(fitted: Templates, measurement: Measurement) -> tuple[int, int]:
    """Bounds of the signal strength in the files of a fit: ±20, or wider where its error will be large.

    Parameters
    ----------
    fitted
        What :func:`observed` returned.
    measurement
        Signal and nuisances.

    Returns
    -------
    tuple of int
        Lowest and highest value, in units of the signal of the templates.
    """
    expected = _expected(fitted, measurement)
    need = abs(expected[0]) + _SIGMAS * expected[1]
    if not need > LARGEST:
        return -LARGEST, LARGEST
    size = 10 ** math.floor(math.log10(2 * need))
    largest = size * math.ceil(2 * need / size)
    return -largest, largest


class _Expected(NamedTuple):
    """Signal strength and its error."""

    value: float
    error: float


def _expected(fitted: Templates, measurement: Measurement) -> _Expected:
    """Signal strength in the limit of many events, with nuisances that shift expectations linearly.

    The weighted least squares of observed − expected, whose covariance holds the statistical errors of data
    and templates, and (Up − Down)/2 of every nuisance; 1 ± ``nan`` where there is no signal.
    """
    signal, total, variance, data = np.zeros((4, sum(_bins(fitted, region) for region in fitted.regions)))
    shifts: dict[str, NDArray[np.float64]] = {}
    start = 0
    for region in fitted.regions:
        here = slice(start, start := start + _bins(fitted, region))
        for entry in of_region(fitted, region):
            contents = np.asarray(entry.nominal.values())
            if entry.process == DATA:
                data[here] = contents
                continue
            total[here] += contents
            variance[here] += np.asarray(entry.nominal.variances())
            signal[here] += contents * (entry.process in measurement.signal)
            nuisance = measurement.parts(entry.process, entry.region)
            shift = shifts.setdefault("/".join(map(repr, nuisance)), np.zeros_like(total))
            shift[here] += (np.asarray(entry.up.values()) - np.asarray(entry.down.values())) / 2
    used = total > 0
    covariance = np.diag((total + variance)[used])
    for shift in shifts.values():
        covariance += np.outer(shift[used], shift[used])
    weighted = np.linalg.lstsq(covariance, signal[used], rcond=None)[0]
    information = float(weighted @ signal[used])
    if not information > 0:
        return _Expected(1.0, math.nan)
    return _Expected(1 + float(weighted @ (data - total)[used]) / information, information**-0.5)


def _bins(fitted: Templates, region: str) -> int:
    return len(of_region(fitted, region)[0].nominal.axes[0])
