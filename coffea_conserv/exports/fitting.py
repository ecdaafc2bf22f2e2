"""Fits of models of pyhf by Minuit: errors from profiles, bounds that give way, and what ended at a bound."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

__all__ = ("Fit", "Found", "NoMinimumError", "Parameter", "minimised", "wide_fit")

ATTEMPTS: tuple[dict[str, Any], ...] = ({}, {"strategy": 0}, {"strategy": 2}, {"tolerance": 1.0})
"""Settings of Minuit, one after the other until a fit converges."""

CALLS = 100_000
"""Evaluations of a likelihood after which a fit has not converged."""

EDGE = 1e-3
"""Share of the range of a parameter within which it is at its bound."""

NEAR = 0.05
"""Share of the range of the signal strength within which its bounds give way."""

WIDER = 10.0
WIDEST = 1e7
"""How much wider the bounds of the signal strength become at a time, and how far from 0 they end."""


class NoMinimumError(Exception):
    """A fit that does not converge."""


@dataclass(frozen=True)
class Parameter:
    """Value of a parameter after a fit.

    Parameters
    ----------
    value
        The best one, ``nan`` if it ended at a bound.
    error
        Half of the interval in which 2 Δ log L is below 1 if it was profiled, else from second derivatives;
        0 for a parameter that is fixed, ``nan`` where it has none.
    correlation
        With the signal strength, ``nan`` where second derivatives have no covariance.
    note
        What is wrong with it, to stand behind its name.
    """

    value: float
    error: float
    correlation: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Found:
    """Parameters after a fit.

    Parameters
    ----------
    parameters
        By name, in the order of the model.
    bounds
        Of the parameters.
    near
        Whether the signal strength, or an end of its interval, is near to its bounds.
    """

    parameters: Mapping[str, Parameter]
    bounds: tuple[tuple[float, float], ...]
    near: bool


@dataclass(frozen=True)
class Fit:
    """What is fitted, and how.

    Parameters
    ----------
    model, data
        Of pyhf.
    poi
        Name of the signal strength.
    minimise
        Makes a Minuit that has converged, or raises NoMinimumError: :func:`minimised`.
    profiled
        Parameters whose errors come from profiles of the likelihood (MINOS): those from second derivatives
        are numerical, and off by tens of per cent where parameters are strongly correlated, as a signal
        strength and the nuisance of its background are.
    bounds, fixed
        Of the parameters; those of the model if not given.
    """

    model: Any
    data: Any
    poi: str
    minimise: Callable[..., Any]
    profiled: Sequence[str] = ()
    bounds: Sequence[tuple[float, float]] = ()
    fixed: Sequence[bool] = field(default=())

    @property
    def names(self) -> list[str]:
        """Names of the parameters."""
        return list(self.model.config.par_names)

    def run(self, start: Sequence[float] | None = None) -> Found:
        """Fit, in another way where one does not converge.

        Templates of few events have bins that hardly matter to the likelihood, in which a minimiser without
        gradients gets stuck now and then, with one strategy and not with another.

        Raises
        ------
        NoMinimumError
            If none converges.
        """
        config = self.model.config
        bounds = tuple((float(low), float(high)) for low, high in self.bounds or config.suggested_bounds())
        fixed = list(self.fixed or config.suggested_fixed())
        given = {"start": list(start or config.suggested_init()), "bounds": bounds, "fixed": fixed}
        rough = None
        for attempt in ATTEMPTS:
            with contextlib.suppress(NoMinimumError):
                minuit = self.minimise(self.model, self.data, **given, **attempt)
                rough = rough or minuit
                if minuit.covariance is not None:
                    rough = minuit
                    break
        if rough is None:
            msg = "no setting of Minuit finds a minimum"
            raise NoMinimumError(msg)
        for name in self.profiled:
            place = self.names.index(name)
            if not fixed[place] and _at(float(rough.values[place]), bounds[place]) is None:
                with contextlib.suppress(RuntimeError):  # which has no error then
                    rough.minos(name)
        return _found(self, rough, bounds)


def minimised(
    model: Any,
    data: Any,
    *,
    start: Sequence[float],
    bounds: Sequence[tuple[float, float]],
    fixed: Sequence[bool],
    strategy: int = 1,
    tolerance: float = 0.1,
) -> Any:
    """Minimise −2 log L of a model of pyhf.

    Parameters
    ----------
    model, data
        Of pyhf.
    start, bounds, fixed
        Of the parameters; those that are fixed stay where they start.
    strategy, tolerance
        Of Minuit; it stops where the distance to the minimum is estimated to be 0.002 × tolerance.

    Returns
    -------
    iminuit.Minuit
        With covariance, unless second derivatives have none.

    Raises
    ------
    NoMinimumError
        If it does not converge.
    """
    import iminuit  # noqa: PLC0415 -- slow to import

    def objective(values: Any) -> float:
        return -2 * float(model.logpdf(values, data)[0])

    minuit = iminuit.Minuit(objective, np.asarray(start, dtype=np.float64), name=model.config.par_names)
    minuit.limits, minuit.fixed = list(bounds), list(fixed)
    minuit.errordef, minuit.strategy, minuit.tol, minuit.print_level = 1, strategy, tolerance, 0
    minuit.migrad(ncall=CALLS)
    if not minuit.valid:
        msg = f"Minuit: distance to the minimum {minuit.fmin.edm:.2g} after {minuit.nfcn} calls"
        raise NoMinimumError(msg)
    minuit.hesse()
    return minuit


def wide_fit(fit: Fit, start: Sequence[float] | None = None) -> Found:
    """Fit with bounds of the signal strength that are far from it and from the ends of its interval.

    They are those of the model at first, and become wider as long as the fit comes near to them.
    """
    place = fit.names.index(fit.poi)
    found = fit.run(start)
    while found.near:
        low, high = found.bounds[place]
        middle, half = (high + low) / 2, WIDER * (high - low) / 2
        if abs(middle) + half > WIDEST:
            break
        bounds = list(found.bounds)
        bounds[place] = (middle - half, middle + half)
        fit = replace(fit, bounds=tuple(bounds))
        found = fit.run(start)
    return found


def _found(fit: Fit, minuit: Any, bounds: tuple[tuple[float, float], ...]) -> Found:
    place, covariance = fit.names.index(fit.poi), minuit.covariance
    correlations = np.full(len(fit.names), np.nan)
    if covariance is not None and covariance[place, place] > 0:
        correlations = np.asarray(covariance.correlation())[place]
    parameters = {
        name: replace(_parameter(fit, minuit, name, bounds[k]), correlation=float(correlations[k]))
        for k, name in enumerate(fit.names)
    }
    return Found(parameters, bounds, _near(minuit, place, bounds[place]))


def _ends(minuit: Any, place: int) -> list[float]:
    """Lower and upper end of the interval of a parameter that was profiled, else nothing."""
    found = minuit.params[place].merror
    return [] if found is None else [float(minuit.values[place] + side) for side in found]


def _near(minuit: Any, place: int, bounds: tuple[float, float]) -> bool:
    reach = NEAR * (bounds[1] - bounds[0])
    values = [float(minuit.values[place]), *_ends(minuit, place)]
    inside = (bounds[0] + reach < value < bounds[1] - reach for value in values if not math.isnan(value))
    return not all(inside)


def _at(value: float, bounds: tuple[float, float]) -> float | None:
    """Bound that a value is at or beyond, if any."""
    low, high = bounds
    reach = EDGE * (high - low)
    if math.isnan(value) or low + reach < value < high - reach:
        return None
    return low if value <= low + reach else high


def _parameter(fit: Fit, minuit: Any, name: str, bounds: tuple[float, float]) -> Parameter:
    place = fit.names.index(name)
    value, error = float(minuit.values[place]), float(minuit.errors[place])
    if minuit.fixed[place]:
        return Parameter(value, 0.0)
    bound = _at(value, bounds)
    if bound is not None:
        return Parameter(math.nan, math.nan, note=f"no value, ended at the bound {bound:g}")
    if name in minuit.merrors:
        return _profiled(value, error, minuit.merrors[name], bounds)
    if name == fit.poi and name in fit.profiled:
        return Parameter(math.nan, math.nan, note="no value, the likelihood hardly changes with it")
    if minuit.covariance is None or name in fit.profiled:
        return Parameter(value, math.nan, note="no error, second derivatives have no covariance")
    return Parameter(value, error)


def _profiled(value: float, error: float, profile: Any, bounds: tuple[float, float]) -> Parameter:
    """Parameter with the error of its profile, of which Minuit calls valid what stopped at a bound."""
    sides = {"lower": float(profile.lower), "upper": float(profile.upper)}
    flags = (profile.at_lower_limit, profile.at_upper_limit)
    stuck = {
        name: bound
        for (name, side), flag, bound in zip(sides.items(), flags, bounds, strict=True)
        if flag or _at(value + side, bounds) == bound
    }
    if stuck:
        ends = "".join(f", {name} error ended at the bound {bound:g}" for name, bound in stuck.items())
        others = "".join(f", {name} error {side:+.4g}" for name, side in sides.items() if name not in stuck)
        return Parameter(value, math.nan, note=f"no error{ends}{others}")
    if not profile.is_valid or not np.isfinite(list(sides.values())).all():
        return Parameter(value, error, note="error from second derivatives, its profile did not converge")
    return Parameter(value, (abs(sides["lower"]) + abs(sides["upper"])) / 2)
