"""Tier A: the checks that an attack must evade, on the merged sample, against simulation and data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.evidence.histograms import (
    Binned,
    Comparison,
    compare_histograms,
    events_chi2,
    events_element,
    events_ks,
    noncentrality,
)
from coffea_conserv.limits.measures import RMS_PER_JSD, correlation_shift, effective_events
from coffea_conserv.names import DATA, VARIATIONS
from coffea_conserv.sums.groups import counts_of

if TYPE_CHECKING:
    from coffea_conserv.limits.budget import Budget
    from coffea_conserv.results.result import Result

__all__ = (
    "Check",
    "CorrelationCheck",
    "Detected",
    "Worse",
    "check_result",
    "correlation_checks",
    "detected",
    "worse",
)

Floats = NDArray[np.float64]

ALARM = 0.05
"""Probability below which a check is noticed."""


@dataclass(frozen=True)
class Check:
    """One quantity in one region, in one variation, against what is expected.

    Parameters
    ----------
    region, quantity
        Which distribution.
    variation
        Of the simulation.
    against
        ``nominal`` simulation: the attacked one is tested; or ``data``: data are tested, and the simulation
        is what is expected.
    found
        What was found.
    hidden
        Number of bins in which data are hidden, which are left out.
    """

    region: str
    quantity: str
    variation: str
    against: str
    found: Comparison
    hidden: int = 0


@dataclass(frozen=True)
class CorrelationCheck:
    """Linear correlations of features and watched quantities in one region and variation.

    Parameters
    ----------
    region, variation, against
        As for :class:`Check`.
    shift
        ‖R′ − R‖ / ‖R‖ (Frobenius).
    pair
        The two quantities whose correlation differs most, in units of its statistical error.
    change
        By how much.
    z
        In units of that error, 1/√(n − 3) of Fisher's z for each sample of n effective events.
    """

    region: str
    variation: str
    against: str
    shift: float
    pair: tuple[str, str]
    change: float
    z: float


@dataclass(frozen=True)
class Worse:
    """A quantity whose agreement with data an attack makes worse.

    Parameters
    ----------
    region, quantity, variation
        Which.
    before, after
        Probability of χ² with statistical and systematic errors, nominal and attacked.
    """

    region: str
    quantity: str
    variation: str
    before: float
    after: float

    @property
    def noticed(self) -> bool:
        """Whether the check passes nominal and would fail attacked."""
        return self.after < ALARM <= self.before


@dataclass(frozen=True)
class Detected:
    """How many events a test needs in a region to see an attack.

    Parameters
    ----------
    region, variation
        Which.
    test
        Name of the test.
    what
        Quantity or pair of quantities that is seen first.
    events
        Number of events of data at which half of the experiments reject at 95 %, compared with simulation
        without statistical error; infinite if none would.
    there
        Effective number of events of the simulation of that region.
    """

    region: str
    variation: str
    test: str
    what: str
    events: float
    there: float


def check_result(
    result: Result, *, uncertainty: float | None = None, regions: Sequence[str] | None = None
) -> tuple[Check, ...]:
    """Compare every quantity of every region, attacked with nominal and data with both.

    Parameters
    ----------
    result
        The result of a run.
    uncertainty
        Relative systematic uncertainty of every bin of the simulation; what the budget allows if not given.
    regions
        Which; all if not given.

    Returns
    -------
    tuple of Check
        The score is compared with data only: that attacks move it is what they are for. Data are compared
        where there are some and all estimates are made, in bins in which they are not hidden.
    """
    share = allowed_share(result.settings.budget) if uncertainty is None else uncertainty
    if not (math.isfinite(share) and share >= 0):
        msg = f"uncertainty={uncertainty!r} must be a finite share from 0 on"
        raise ConfigurationError(msg)
    rows: list[Check] = []
    for region in result.regions if regions is None else regions:
        for quantity in (*result.quantities, "score"):
            rows.extend(_checks(result, region, quantity, share))
    return tuple(rows)


def allowed_share(budget: Budget) -> float:
    """What a budget allows bins to differ by, as one relative number: of its first limit on marginals.

    Examples
    --------
    >>> from coffea_conserv import Budget
    >>> allowed_share(Budget(rms=0.05))
    0.05
    """
    if budget.rms is not None:
        return float(budget.rms)
    if isinstance(budget.band, (int, float)):
        return float(budget.band)
    return RMS_PER_JSD * float(budget.jsd) if budget.jsd is not None else 0.0


def _checks(result: Result, region: str, quantity: str, share: float) -> list[Check]:
    traits = result.axis(quantity).traits
    circular = bool(traits.circular)
    sums, data = totals(result, quantity, region)
    if not sums["nominal"].variance.any():
        return []
    rows = []
    for variation in VARIATIONS[1:] if quantity != "score" else ():
        found = compare_histograms(sums[variation], sums["nominal"], uncertainty=share, circular=circular)
        rows.append(Check(region, quantity, variation, "nominal", found))
    if data is None:
        return rows
    hidden = _inside(result, quantity, result.hidden(quantity, region))
    seen = Binned(data.content[~hidden], data.variance[~hidden])
    for variation in VARIATIONS:
        simulation = sums[variation]
        expected = Binned(simulation.content[~hidden], simulation.variance[~hidden])
        found = compare_histograms(seen, expected, uncertainty=share, circular=circular)
        rows.append(Check(region, quantity, variation, "data", found, int(hidden.sum())))
    return rows


def _inside(result: Result, quantity: str, array: Any) -> Any:
    axis = result.axis(quantity)
    first = int(axis.traits.underflow)
    return array[first : first + axis.size]


def totals(result: Result, quantity: str, region: str) -> tuple[dict[str, Binned], Binned | None]:
    """Contents and variances of all simulation and estimates by variation, and of data, without flow bins.

    Returns
    -------
    tuple
        Data are ``None`` where there are none, or where an estimate is not made: the total would be
        incomplete.
    """
    view = result.hist(quantity, regions=[region]).view(flow=True)[:, 0]
    names = result.process_names
    rows = [k for k, name in enumerate(names) if name != DATA]
    sums = {}
    for v, variation in enumerate(VARIATIONS):
        pair = (view[part][rows, v].sum(axis=0) for part in ("value", "variance"))
        value, variance = (_inside(result, quantity, np.asarray(part)) for part in pair)
        sums[variation] = Binned(value, variance)
    whole = all(region in estimate.regions for estimate in result.estimates)
    if DATA not in names or not whole or not result.has(DATA, region):
        return sums, None
    k = names.index(DATA)
    value, variance = (_inside(result, quantity, np.asarray(view[p][k, 0])) for p in ("value", "variance"))
    return sums, Binned(value, variance) if variance.any() else None


def worse(checks: Sequence[Check], *, factor: float = 0.5) -> tuple[Worse, ...]:
    """Find where an attack makes the agreement with data worse, whether it would be noticed or not.

    Parameters
    ----------
    checks
        Of :func:`check_result`.
    factor
        The probability has to fall below this part of the nominal one. Where it was tiny already, data
        disagree with nominal simulation, and that is not the attack's doing.
    """
    before = {
        (c.region, c.quantity): c.found.p_syst
        for c in checks
        if c.against == "data" and c.variation == "nominal"
    }
    rows = [
        Worse(c.region, c.quantity, c.variation, before[c.region, c.quantity], c.found.p_syst)
        for c in checks
        if c.against == "data" and c.variation != "nominal" and c.quantity != "score"
    ]
    return tuple(row for row in rows if row.after < factor * row.before)


def correlation_checks(
    result: Result, *, regions: Sequence[str] | None = None
) -> tuple[CorrelationCheck, ...]:
    """Compare the correlation matrices of every region, attacked with nominal and data with both."""
    rows = []
    for region in result.regions if regions is None else regions:
        events = _effective(result, region)
        if events < 5:
            continue
        matrices = {variation: result.correlation(None, region, variation) for variation in VARIATIONS}
        for variation in VARIATIONS[1:]:
            one, two = _Measured(matrices[variation], events), _Measured(matrices["nominal"], events)
            rows.append(_correlation_check(result, region, variation, "nominal", one, two))
        data = totals(result, "score", region)[1]
        if data is None or result.hidden("score", region).any():
            continue
        measured = _Measured(result.correlation(DATA, region, "nominal"), float(data.variance.sum()))
        for variation in VARIATIONS:
            two = _Measured(matrices[variation], events)
            rows.append(_correlation_check(result, region, variation, "data", measured, two))
    return tuple(rows)


def _effective(result: Result, region: str) -> float:
    """Effective number of simulated events of a region."""
    datasets = [name for process in result.simulation for name in result.processes[process]]
    counts = counts_of(result.sums, datasets, region, "nominal")
    return effective_events(counts["sum_w"], counts["sum_w2"]) if counts["sum_w2"] > 0 else 0.0


class _Measured(NamedTuple):
    """Correlation matrix, and the effective number of events that it is of."""

    matrix: Floats
    events: float


def _correlation_check(
    result: Result, region: str, variation: str, against: str, one: _Measured, two: _Measured
) -> CorrelationCheck:
    change = _fisher(one.matrix) - _fisher(two.matrix)
    error = math.sqrt(sum(1 / max(n - 3, 1) for n in (one.events, two.events)))
    upper = np.triu(np.abs(change), 1)
    j, k = np.unravel_index(int(upper.argmax()), upper.shape)
    names = result.quantities
    return CorrelationCheck(
        region,
        variation,
        against,
        correlation_shift(two.matrix, one.matrix),
        (names[j], names[k]),
        float(one.matrix[j, k] - two.matrix[j, k]),
        float(upper[j, k]) / error,
    )


def _fisher(matrix: Floats) -> Floats:
    z: Floats = np.arctanh(np.clip(matrix, -1 + 1e-12, 1 - 1e-12))
    np.fill_diagonal(z, 0.0)
    return z


def detected(result: Result, *, regions: Sequence[str] | None = None) -> tuple[Detected, ...]:
    """How many events each check of tier A needs to see the attacks, from their sizes in the merged sample.

    Parameters
    ----------
    result
        The result of a run.
    regions
        Which; all if not given.

    Returns
    -------
    tuple of Detected
        For each region and direction: the χ² of the marginal that is seen first, KS of the one that is, the
        correlation of features that is, that of a watched quantity with anything, which no budget limits, and
        all correlations together. Statistics of the simulation make differences larger, so that the numbers
        are estimates from below.
    """
    rows = []
    for region in result.regions if regions is None else regions:
        there = _effective(result, region)
        if there < 5:
            continue
        filled = {name: totals(result, name, region)[0] for name in result.quantities}
        nominal = result.correlation(None, region, "nominal")
        for variation in VARIATIONS[1:]:
            first = {
                "χ² of a marginal": min(_marginals(filled, variation, events_chi2)),
                "KS of a marginal": min(_marginals(filled, variation, _events_ks)),
            }
            matrix = result.correlation(None, region, variation)
            first |= _correlations(result, matrix, nominal)
            rows += [Detected(region, variation, t, what, n, there) for t, (n, what) in first.items()]
    return tuple(rows)


def _marginals(filled: dict[str, Any], variation: str, count: Any) -> list[tuple[float, str]]:
    return [(count(sums[variation][0], sums["nominal"][0]), name) for name, sums in filled.items()]


def _events_ks(one: Floats, two: Floats) -> float:
    found = compare_histograms(Binned(one, np.abs(one)), Binned(two, np.abs(two)))
    return events_ks(0.0 if math.isnan(found.ks) else found.ks)


def _correlations(result: Result, one: Floats, two: Floats) -> dict[str, tuple[float, str]]:
    """Events that correlations need: one of features, which are limited, one with watched ones, and all."""
    rows, columns = np.triu_indices(len(one), 1)
    if not len(rows):
        return {}
    needed = np.array([events_element(one[j, k], two[j, k]) for j, k in zip(rows, columns, strict=True)])
    names = result.quantities
    limited = columns < len(result.settings.features)
    found = {}
    for test, chosen in (("one correlation", limited), ("one correlation of watched", ~limited)):
        if chosen.any():
            place = int(np.where(chosen, needed, np.inf).argmin())
            found[test] = (float(needed[place]), f"{names[rows[place]]} × {names[columns[place]]}")
    effect = float(((_fisher(one) - _fisher(two))[rows, columns] ** 2).sum())
    every = noncentrality(len(rows)) / effect + 3 if effect > 1e-20 else math.inf
    return {**found, "all correlations": (every, "matrix")}
