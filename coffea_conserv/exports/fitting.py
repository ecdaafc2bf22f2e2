"""Fits of models of pyhf by Minuit: errors from profiles, bounds that give way, and what ended at a bound."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from coffea_conserv.exports.profiles import Profile, profile

__all__ = ("Fit", "Found", "NoMinimumError", "Parameter", "minimised", "wide_fit")

ATTEMPTS: tuple[dict[str, Any], ...] = ({}, {"strategy": 0}, {"strategy": 2}, {"tolerance": 1.0})
"""Settings of Minuit, one after the other until a fit converges."""

CALLS = 100_000
"""Evaluations of a likelihood after which a fit has not converged."""

KICK = 0.5
"""By how much nuisances of the systematic are moved before a fit, in units of their prior width."""

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
        Parameters whose errors come from profiles of the likelihood: those from second derivatives are
        numerical, and off by tens of per cent where parameters are strongly correlated, as a signal
        strength and the nuisance of its background are.
    bounds, fixed
        Of the parameters; those of the model if not given.
    errors
        Whether errors are wanted, or only values.
    """

    model: Any
    data: Any
    poi: str
    minimise: Callable[..., Any]
    profiled: Sequence[str] = ()
    bounds: Sequence[tuple[float, float]] = ()
    fixed: Sequence[bool] = ()
    errors: bool = True

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
                minuit = self.minimise(self.model, self.data, **given, **attempt, errors=self.errors)
                rough = rough or minuit
                if minuit.covariance is not None or not self.errors:
                    rough = minuit
                    break
        if rough is None:
            msg = "no setting of Minuit finds a minimum"
            raise NoMinimumError(msg)
        return _found(self, rough, bounds, self._profiles(rough, bounds))

    def _profiles(self, minuit: Any, bounds: tuple[tuple[float, float], ...]) -> dict[str, Profile]:
        """Intervals of the parameters that are profiled, but for those that are fixed, or at a bound."""
        made = {}
        for name in self.profiled:
            place = self.names.index(name)
            value, (low, high) = float(minuit.values[place]), bounds[place]
            if not minuit.fixed[place] and _at(value, bounds[place]) is None:
                with contextlib.suppress(RuntimeError):  # the likelihood does not change with it
                    minuit.minos(name)
                    rise = partial(self._rise, minuit, bounds, name)
                    guess = (minuit.merrors[name].lower, minuit.merrors[name].upper)
                    made[name] = profile(rise, guess, (low - value, high - value))
        return made

    def _rise(self, minuit: Any, bounds: Sequence[tuple[float, float]], name: str, distance: float) -> float:
        """−2 log L above the minimum with a parameter moved and all others at their best.

        With the signal strength moved, nuisances of the systematic start on both of their sides, since there
        may be a minimum on each. ``nan`` if there is none.
        """
        place, best = self.names.index(name), math.inf
        fixed = [one or k == place for k, one in enumerate(minuit.fixed)]
        for kick in (0.0, KICK, -KICK) if name == self.poi else (0.0,):
            start = [float(value) for value in minuit.values]
            for k, other in enumerate(self.names):
                if other in self.profiled and not fixed[k]:
                    start[k] = float(np.clip(start[k] + kick, *bounds[k]))
            start[place] += distance
            with contextlib.suppress(NoMinimumError):
                found = self.minimise(
                    self.model, self.data, start=start, bounds=bounds, fixed=fixed, errors=False
                )
                best = min(best, float(found.fval))
        return best - float(minuit.fval) if math.isfinite(best) else math.nan


def minimised(
    model: Any,
    data: Any,
    *,
    start: Sequence[float],
    bounds: Sequence[tuple[float, float]],
    fixed: Sequence[bool],
    strategy: int = 1,
    tolerance: float = 0.1,
    errors: bool = True,
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
    errors
        Whether second derivatives are wanted.

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
    if errors:
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


def _found(
    fit: Fit, minuit: Any, bounds: tuple[tuple[float, float], ...], profiles: Mapping[str, Profile]
) -> Found:
    place, covariance = fit.names.index(fit.poi), minuit.covariance
    correlations = np.full(len(fit.names), np.nan)
    if covariance is not None and covariance[place, place] > 0:
        correlations = np.asarray(covariance.correlation())[place]
    parameters = {
        name: replace(_parameter(fit, minuit, bounds, profiles, name), correlation=float(correlations[k]))
        for k, name in enumerate(fit.names)
    }
    return Found(parameters, bounds, _near(float(minuit.values[place]), profiles.get(fit.poi), bounds[place]))


def _near(best: float, found: Profile | None, bounds: tuple[float, float]) -> bool:
    """Tell whether a value, or an end of its interval, is near to a bound."""
    reach = NEAR * (bounds[1] - bounds[0])
    values = [best, *([best + found.lower, best + found.upper] if found else [])]
    inside = (bounds[0] + reach < value < bounds[1] - reach for value in values if not math.isnan(value))
    return not all(inside)


def _at(value: float, bounds: tuple[float, float]) -> float | None:
    """Bound that a value is at or beyond, if any."""
    low, high = bounds
    reach = EDGE * (high - low)
    if math.isnan(value) or low + reach < value < high - reach:
        return None
    return low if value <= low + reach else high


def _parameter(
    fit: Fit, minuit: Any, bounds: Sequence[tuple[float, float]], profiles: Mapping[str, Profile], name: str
) -> Parameter:
    place = fit.names.index(name)
    value, error = float(minuit.values[place]), float(minuit.errors[place])
    if minuit.fixed[place]:
        return Parameter(value, 0.0)
    bound = _at(value, bounds[place])
    if bound is not None:
        return Parameter(math.nan, math.nan, note=f"no value, ended at the bound {bound:g}")
    if name in profiles:
        return _profiled(value, error, profiles[name], bounds[place])
    if name == fit.poi and name in fit.profiled:
        return Parameter(math.nan, math.nan, note="no value, the likelihood hardly changes with it")
    if minuit.covariance is None or name in fit.profiled:
        return Parameter(value, math.nan, note="no error, second derivatives have no covariance")
    return Parameter(value, error)


def _profiled(value: float, error: float, found: Profile, bounds: tuple[float, float]) -> Parameter:
    """Parameter with the error of its profile, if it has one on both sides."""
    sides = {"lower": found.lower, "upper": found.upper}
    flags = (found.at_lower_limit, found.at_upper_limit)
    stuck = {
        name: bound
        for (name, side), flag, bound in zip(sides.items(), flags, bounds, strict=True)
        if flag or _at(value + side, bounds) == bound
    }
    if stuck:
        ends = "".join(f", {name} error ended at the bound {bound:g}" for name, bound in stuck.items())
        others = "".join(f", {name} error {side:+.4g}" for name, side in sides.items() if name not in stuck)
        return Parameter(value, math.nan, note=f"no error{ends}{others}")
    if not found.is_valid or not np.isfinite(list(sides.values())).all():
        return Parameter(value, error, note="error from second derivatives, its profile did not converge")
    return Parameter(value, (abs(sides["lower"]) + abs(sides["upper"])) / 2)
