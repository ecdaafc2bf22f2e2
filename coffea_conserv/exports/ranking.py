"""Ranking of the nuisances of a fit by their impact on the signal strength."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from coffea_conserv.exports.fitting import Fit, Found, NoMinimumError
from coffea_conserv.exports.naming import FitNames

__all__ = ("Nuisance", "Ranking", "listed", "ranked")

NAMED = 3
"""Nuisances that a note names; the others are counted."""


@dataclass(frozen=True)
class Nuisance:
    """What a fit says of one nuisance.

    Parameters
    ----------
    name
        Of the parameter, with region and process as the analysis calls them; bin by bin statistical errors
        end in the number of the bin.
    pull, constraint
        Value and error after the fit, in units of its prior width; ``nan`` where it ended at a bound.
    up, down
        Change of the signal strength when it is moved up and down by its error after the fit; ``nan`` where
        it cannot be moved so far, or the signal strength ended at a bound.
    kind
        ``systematic`` for those of the attack, ``statistical`` for errors of the templates, or ``other``.
    """

    name: str
    pull: float
    constraint: float
    up: float
    down: float
    kind: str

    @property
    def impact(self) -> float:
        """The larger of both changes; ``nan`` if neither is known."""
        known = [abs(change) for change in (self.up, self.down) if not math.isnan(change)]
        return max(known, default=math.nan)


@dataclass(frozen=True)
class Ranking:
    """Nuisances, the largest impact first, and sentences on impacts that are missing or approximate."""

    rows: tuple[Nuisance, ...]
    notes: tuple[str, ...]


class _Change(NamedTuple):
    """Change of the signal strength, and what is special about it."""

    value: float
    kind: str = ""


_NOTES = {
    "moved": "no impact on the side on which the error passes the bound",
    "poi": "no impact on the side on which the signal strength ends at its bound",
    "linear": "impact to first order only, no fit converges where the nuisance is moved by its error",
}
"""Kind of what is special about an impact → what stands behind the names of the nuisances."""


def listed(names: Sequence[str]) -> str:
    """Name the first ones, and count the others."""
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + rest


def ranked(fit: Fit, found: Found, names: FitNames) -> Ranking:
    """Rank nuisances by their impact: the signal strength with each fixed at ± its error after the fit.

    ``cabinetry.fit.ranking`` does the same, but fails where that is outside of the bounds of a parameter, as
    for bins whose statistical error is above 100 %. Here such a side has no impact, which is noted, as is
    where no fit converges and the covariance of the fit says it to first order.

    Parameters
    ----------
    fit
        What is fitted, with bounds that the signal strength does not come near to.
    found
        The fit with all parameters free.
    names
        What parameters are called for a reader.
    """
    rows, special = [], defaultdict[str, list[str]](list)
    for name, parameter in found.parameters.items():
        if name == fit.poi or parameter.error == 0:  # fixed: nothing is known about it but its value
            continue
        shown = names.shown(name)
        up, down = (_change(fit, found, name, sign) for sign in (1, -1))
        for kind in sorted({up.kind, down.kind} - {""}):
            special[kind].append(shown)
        values = (parameter.value, parameter.error, up.value, down.value)
        rows.append(Nuisance(shown, *values, names.kind(name)))
    rows.sort(key=lambda row: (math.isnan(row.impact), -row.impact))
    return Ranking(
        tuple(rows), tuple(f"{listed(several)}: {_NOTES[kind]}" for kind, several in special.items())
    )


def _change(fit: Fit, found: Found, name: str, sign: int) -> _Change:
    """Change of the signal strength if a nuisance is fixed where its error after the fit moves it."""
    parameters, place = found.parameters, fit.names.index(name)
    poi, parameter = parameters[fit.poi], parameters[name]
    moved = parameter.value + sign * parameter.error
    low, high = found.bounds[place]
    if math.isnan(moved) or math.isnan(poi.value):  # which has a note of its own
        return _Change(math.nan)
    if not low <= moved <= high:
        return _Change(math.nan, "moved")
    start = [one.value for one in parameters.values()]
    start[place] = moved
    fixed = [
        one or other == name
        for one, other in zip(fit.model.config.suggested_fixed(), parameters, strict=True)
    ]
    try:
        there = replace(fit, fixed=fixed, errors=False).run(start).parameters[fit.poi]
    except NoMinimumError:
        return _Change(sign * parameter.correlation * poi.error, "linear")
    return _Change(there.value - poi.value, "poi" if math.isnan(there.value) else "")
