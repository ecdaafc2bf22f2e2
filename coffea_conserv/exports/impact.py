"""Impact of the systematic on a signal strength: fits of pyhf, by cabinetry, with and without it."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from coffea_conserv.errors import InputError, of_extra
from coffea_conserv.exports.histfactory import make_workspace
from coffea_conserv.exports.measurement import Measurement
from coffea_conserv.templates.templates import Templates

__all__ = ("FitImpact", "Nuisance", "fit_impact")

logger = logging.getLogger(__name__)

_ATTEMPTS: tuple[dict[str, Any], ...] = ({}, {"strategy": 0}, {"strategy": 2}, {"tolerance": 1.0})
"""Settings of Minuit, one after the other until a fit converges."""

LEAST = 1e-9
"""Events that a bin is expected to have at least: a large shift, extrapolated, would make it negative."""


@dataclass(frozen=True)
class Nuisance:
    """What a fit says of one nuisance.

    Parameters
    ----------
    name
        Of the parameter; bin by bin statistical errors end in the number of the bin.
    pull, constraint
        Value and error after the fit, in units of its prior width.
    up, down
        Change of the signal strength when it is moved up and down by its error after the fit.
    """

    name: str
    pull: float
    constraint: float
    up: float
    down: float

    @property
    def impact(self) -> float:
        """The larger of both changes."""
        return max(abs(self.up), abs(self.down))


@dataclass(frozen=True)
class FitImpact:
    """A signal strength with and without the systematic.

    Parameters
    ----------
    poi
        Name of the signal strength.
    value, error
        With the systematic.
    value_without, error_without
        With its nuisances at 0.
    ranking
        All nuisances, those with the largest impact first.
    blind
        Whether the sum of nominal templates was fitted in the place of data.
    """

    poi: str
    value: float
    error: float
    value_without: float
    error_without: float
    ranking: tuple[Nuisance, ...]
    blind: bool

    @property
    def systematic_error(self) -> float:
        """√(error² − error without²): what the systematic adds; 0 where that is negative by rounding."""
        return math.sqrt(max(self.error**2 - self.error_without**2, 0.0))

    @property
    def nuisances(self) -> tuple[Nuisance, ...]:
        """Those of the systematic, the largest impact first."""
        return tuple(row for row in self.ranking if row.name.startswith("conserv"))

    def __str__(self) -> str:
        kind = "sum of nominal templates" if self.blind else "data"
        with_it, without = (
            f"{value:.3f} ± {error:.3f}"
            for value, error in ((self.value, self.error), (self.value_without, self.error_without))
        )
        head = f"{self.poi} = {with_it} with and {without} without the systematic"
        lines = [f"{head}, which adds {self.systematic_error:.3f} (fit to {kind})"]
        for rank, row in enumerate(self.ranking, 1):
            if row in self.nuisances:
                pull = f"{row.name}: pull {row.pull:+.2f} ± {row.constraint:.2f}"
                change = f"changes {self.poi} by {row.up:+.3f} and {row.down:+.3f}"
                lines.append(f"  {pull}, {change}, rank {rank} of {len(self.ranking)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        rows = [{**asdict(row), "impact": row.impact} for row in self.ranking]
        return {**asdict(self), "ranking": rows, "systematic_error": self.systematic_error}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> FitImpact:
        """Make it again of what :meth:`to_dict` returned.

        Raises
        ------
        InputError
            If this is something else.
        """
        try:
            rows = [
                Nuisance(**{n: row[n] for n in Nuisance.__dataclass_fields__}) for row in content["ranking"]
            ]
            plain = {name: content[name] for name in cls.__dataclass_fields__}
        except (KeyError, TypeError) as error:
            msg = f"this is no impact of a fit of this version ({error}); export again"
            raise InputError(msg) from None
        return cls(**{**plain, "ranking": tuple(rows)})


def fit_impact(
    templates: Templates, measurement: Measurement, *, workspace: Mapping[str, Any] | None = None
) -> FitImpact:
    """Fit the signal strength with and without the systematic, and rank all nuisances by their impact.

    Parameters
    ----------
    templates
        What is fitted.
    measurement
        Signal, nuisances and data.
    workspace
        What :func:`make_workspace` made, if it was called before; other systematics may have been added.

    Raises
    ------
    InputError
        If a template is negative somewhere, which no Poisson probability can be, or a fit fails.
    ConfigurationError
        If cabinetry is not there.
    """
    with of_extra():
        import cabinetry  # noqa: PLC0415 -- slow to import
        import pyhf  # noqa: PLC0415
    spec = make_workspace(templates, measurement) if workspace is None else dict(workspace)
    _check_positive(spec)
    model = pyhf.Workspace(spec).model(clip_bin_data=LEAST)
    data = pyhf.Workspace(spec).data(model)
    names = [measurement.poi, *(name for name in model.config.par_names if name.startswith("conserv"))]
    fixed = [
        before or name in names[1:]
        for name, before in zip(model.config.par_names, model.config.suggested_fixed(), strict=True)
    ]
    failures = pyhf.exceptions.FailedMinimization
    fit = partial(_steady, cabinetry.fit.fit, failures)
    try:
        found = _with_profiles(fit(model, data, minos=names))
        without = _with_profiles(fit(model, data, minos=names[:1], fix_pars=fixed))
        ranking = _ranked(_Fit(model, data, measurement.poi, fit, failures), found)
    except failures as error:
        msg = f"the fit of {measurement.poi} does not converge ({error}); look at the warnings"
        raise InputError(msg) from None
    place = model.config.par_names.index(measurement.poi)
    first, second, third, fourth = (
        float(one[place]) for fit in (found, without) for one in (fit.bestfit, fit.uncertainty)
    )
    return FitImpact(measurement.poi, first, second, third, fourth, ranking, measurement.blind)


def _steady(fit: Callable[..., Any], failures: type[Exception], *given: Any, **options: Any) -> Any:
    """Fit, in another way where one does not converge.

    Templates of few events have bins that hardly matter to the likelihood, in which a minimiser without
    gradients gets stuck now and then, with one strategy and not with another.
    """
    log = logging.getLogger("pyhf.optimize.mixins")  # it prints tables of fits that failed
    before, log.disabled = log.disabled, True
    try:
        for attempt in _ATTEMPTS[:-1]:
            with contextlib.suppress(failures):
                return fit(*given, **options, **attempt)
        return fit(*given, **options, **_ATTEMPTS[-1])
    finally:
        log.disabled = before


def _with_profiles(found: Any) -> Any:
    """Take errors from profiles of the likelihood (MINOS, the mean of both sides) where they were made.

    Second derivatives, from which the others come, are numerical and off by tens of per cent where parameters
    are strongly correlated, as a signal strength and the nuisance of its background are.
    """
    uncertainty = np.array(found.uncertainty, dtype=np.float64)
    for name, sides in found.minos_uncertainty.items():
        if np.isfinite(sides).all():
            uncertainty[found.labels.index(name)] = np.mean(np.abs(sides))
    values = (found.bestfit, uncertainty, found.labels, found.corr_mat, found.best_twice_nll)
    return type(found)(*values, minos_uncertainty=found.minos_uncertainty)


@dataclass(frozen=True)
class _Fit:
    """Model and data of pyhf, the signal strength, how to fit them, and what a fit that fails raises."""

    model: Any
    data: Any
    poi: str
    run: Callable[..., Any]
    failures: type[Exception]


def _ranked(fit: _Fit, found: Any) -> tuple[Nuisance, ...]:
    """Impacts of all nuisances: the signal strength with each of them fixed at ± its error after the fit.

    Where no such fit converges, the covariance of the fit says it to first order.

    ``cabinetry.fit.ranking`` does the same, but fails where that is outside of the bounds of a parameter, as
    for bins whose statistical error is above 100 %. Here the parameter stops at its bound.
    """
    model, names, bounds = fit.model, fit.model.config.par_names, fit.model.config.suggested_bounds()
    place = names.index(fit.poi)
    rows = []
    for k, name in enumerate(names):
        if k == place or found.uncertainty[k] == 0:  # fixed: nothing is known about it but its value
            continue
        changes = []
        for sign in (1, -1):
            start = list(map(float, found.bestfit))
            start[k] = float(np.clip(start[k] + sign * found.uncertainty[k], *bounds[k]))
            fixed = [one or i == k for i, one in enumerate(model.config.suggested_fixed())]
            try:
                moved = fit.run(model, fit.data, init_pars=start, fix_pars=fixed).bestfit[place]
                changes.append(float(moved - found.bestfit[place]))
            except fit.failures:
                logger.warning("impact of %s to first order: no fit converges where it is moved", name)
                changes.append(sign * float(found.corr_mat[place, k] * found.uncertainty[place]))
        rows.append(Nuisance(name, float(found.bestfit[k]), float(found.uncertainty[k]), *changes))
    return tuple(sorted(rows, key=lambda row: -row.impact))


def _check_positive(spec: Mapping[str, Any]) -> None:
    """Raise if the sum of all processes is not positive in a bin that has data."""
    observed = {entry["name"]: np.asarray(entry["data"]) for entry in spec["observations"]}
    for channel in spec["channels"]:
        total = np.sum([sample["data"] for sample in channel["samples"]], axis=0)
        bad = np.flatnonzero((total <= 0) & (observed[channel["name"]] > 0) | (total < 0))
        if len(bad):
            bins = ", ".join(str(place) for place in bad)
            msg = (
                f"the sum of processes in region {channel['name']!r} is not positive in bin(s) {bins}, which "
                "no fit can describe; merge bins with Treatment(merge=…)"
            )
            raise InputError(msg)
