"""Impact of the systematic on a signal strength: fits of a model of pyhf with and without it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from coffea_conserv.errors import InputError, of_extra
from coffea_conserv.exports.fitting import Fit, Found, NoMinimumError, minimised, wide_fit
from coffea_conserv.exports.histfactory import make_workspace
from coffea_conserv.exports.measurement import Measurement
from coffea_conserv.exports.naming import FitNames, fit_names
from coffea_conserv.exports.ranking import Nuisance, listed, ranked
from coffea_conserv.templates.templates import Templates

__all__ = ("WARNING", "FitImpact", "Nuisance", "fit_impact")

logger = logging.getLogger(__name__)

WARNING = "WARNING"
"""Beginning of the lines of a printed impact on numbers that are missing."""

LEAST = 1e-9
"""Events that a bin is expected to have at least: a large shift, extrapolated, would make it negative."""


@dataclass(frozen=True)
class FitImpact:
    """A signal strength with and without the systematic.

    Parameters
    ----------
    poi
        Name of the signal strength.
    value, error
        With the systematic. No number comes from a parameter that ended at its bound: it is ``nan``.
    value_without, error_without
        With its nuisances at 0.
    ranking
        All nuisances, those with the largest impact first.
    blind
        Whether the sum of nominal templates was fitted in the place of data.
    notes
        Sentences on numbers that are missing, or are of another kind than the others.
    """

    poi: str
    value: float
    error: float
    value_without: float
    error_without: float
    ranking: tuple[Nuisance, ...]
    blind: bool
    notes: tuple[str, ...] = ()

    @property
    def systematic_error(self) -> float:
        """√(error² − error without²): what the systematic adds; 0 where that is negative by rounding."""
        added = self.error**2 - self.error_without**2
        return math.nan if math.isnan(added) else math.sqrt(max(added, 0.0))

    @property
    def nuisances(self) -> tuple[Nuisance, ...]:
        """Those of the systematic, the largest impact first."""
        return tuple(row for row in self.ranking if row.kind == "systematic")

    @property
    def text(self) -> str:
        """Signal strength and error with the systematic."""
        return _text(self.value, self.error)

    @property
    def text_without(self) -> str:
        """Signal strength and error without the systematic."""
        return _text(self.value_without, self.error_without)

    @property
    def headline(self) -> str:
        """The result in one sentence, without its full stop."""
        which = f"{self.poi} = {self.text} with and {self.text_without} without the systematic"
        if math.isnan(self.systematic_error):
            return f"{which}; what it adds is not known"
        return f"{which}, which adds {self.systematic_error:.3f}"

    def __str__(self) -> str:
        kind = "sum of nominal templates" if self.blind else "data"
        lines = [f"{self.headline} (fit to {kind})", *(f"{WARNING}: {note}" for note in self.notes)]
        for rank, row in enumerate(self.ranking, 1):
            if row in self.nuisances:
                pull = f"{row.name}: pull {_shown(row.pull, '+.2f')} ± {_shown(row.constraint, '.2f')}"
                change = f"changes {self.poi} by {_shown(row.up, '+.3f')} and {_shown(row.down, '+.3f')}"
                lines.append(f"  {pull}, {change}, rank {rank} of {len(self.ranking)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what is not known is ``None``."""
        rows = [_plain({**asdict(row), "impact": row.impact}) for row in self.ranking]
        values = {**asdict(self), "systematic_error": self.systematic_error}
        return {**_plain(values), "ranking": rows, "notes": list(self.notes)}

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
                Nuisance(**_restored({n: row[n] for n in Nuisance.__dataclass_fields__}))
                for row in content["ranking"]
            ]
            plain = _restored({name: content[name] for name in cls.__dataclass_fields__})
        except (KeyError, TypeError) as error:
            msg = f"this is no impact of a fit of this version ({error}); export again"
            raise InputError(msg) from None
        return cls(**{**plain, "ranking": tuple(rows), "notes": tuple(plain["notes"])})


def _shown(value: float, form: str) -> str:
    return "unknown" if math.isnan(value) else format(value, form)


def _text(value: float, error: float) -> str:
    if math.isnan(value):
        return "no value"
    return f"{value:.3f} ± {_shown(error, '.3f')}"


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in values.items()}


def _restored(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in values.items()}


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

    Returns
    -------
    FitImpact
        Its numbers are ``nan``, and its ``notes`` say why, where a parameter ended at its bound. Bounds of
        the signal strength give way: they become ten times wider as long as the fit comes near to them.

    Raises
    ------
    InputError
        If a template is negative somewhere, which no Poisson probability can be, a fit fails, or the
        workspace is that of another measurement.
    ConfigurationError
        If cabinetry or pyhf is not there, or names cannot be kept apart.
    """
    with of_extra():
        import pyhf  # noqa: PLC0415 -- slow to import
    names = fit_names(templates, measurement)
    spec = make_workspace(templates, measurement) if workspace is None else dict(workspace)
    _check_positive(spec, names)
    model = pyhf.Workspace(spec).model(clip_bin_data=LEAST)
    own = _nuisances(model.config.par_names, measurement, names)
    fixed = model.config.suggested_fixed()
    fit = Fit(
        model,
        pyhf.Workspace(spec).data(model),
        measurement.poi,
        minimised,
        (measurement.poi, *own),
    )
    held = [one or name in own for name, one in zip(fit.names, fixed, strict=True)]
    try:
        found = wide_fit(fit)
        without = wide_fit(replace(fit, fixed=held))
        ranking = ranked(replace(fit, profiled=(), bounds=found.bounds), found, names)
    except NoMinimumError as error:
        msg = f"the fit of {measurement.poi} does not converge ({error}); look at the warnings"
        raise InputError(msg) from None
    fits = {"": found, " without the systematic": without}
    whole = [note for which, one in fits.items() for note in _notes(one, which, measurement.poi, names)]
    notes = (*whole, *ranking.notes)
    for note in notes:
        logger.warning(note)
    first, second = (one.parameters[measurement.poi] for one in (found, without))
    values = (first.value, first.error, second.value, second.error)
    return FitImpact(measurement.poi, *values, ranking.rows, measurement.blind, notes)


def _nuisances(parameters: Sequence[str], measurement: Measurement, names: FitNames) -> tuple[str, ...]:
    """Nuisances of the systematic in a model, which has to have all that its templates have."""
    own = tuple(name for name in parameters if name in names.nuisances)
    absent = [name for name in (measurement.poi, *names.nuisances) if name not in parameters]
    if absent:
        msg = (
            f"the workspace has no parameter {', '.join(absent)}; make it of these templates and measurement"
        )
        raise InputError(msg)
    return own


def _notes(found: Found, which: str, poi: str, names: FitNames) -> tuple[str, ...]:
    """Sentences on parameters with a note, the signal strength first; those with the same note share it."""
    noted: dict[str, list[str]] = {}
    for name, parameter in sorted(found.parameters.items(), key=lambda item: item[0] != poi):
        if parameter.note:
            noted.setdefault(parameter.note, []).append(names.shown(name))
    return tuple(f"{listed(several)}{which}: {note}" for note, several in noted.items())


def _check_positive(spec: Mapping[str, Any], names: FitNames) -> None:
    """Raise if the sum of all processes is not positive in a bin that has data."""
    regions = names.to_dict()["regions"]
    observed = {entry["name"]: np.asarray(entry["data"]) for entry in spec["observations"]}
    for channel in spec["channels"]:
        total = np.sum([sample["data"] for sample in channel["samples"]], axis=0)
        bad = np.flatnonzero((total <= 0) & (observed[channel["name"]] > 0) | (total < 0))
        if len(bad):
            bins = ", ".join(str(place) for place in bad)
            region = regions.get(channel["name"], channel["name"])
            msg = (
                f"the sum of processes in region {region!r} is not positive in bin(s) {bins}, which "
                "no fit can describe; merge bins with Treatment(merge=…)"
            )
            raise InputError(msg)
