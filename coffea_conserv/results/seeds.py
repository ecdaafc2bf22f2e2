"""Spread over seeds: the error of fooling ratios and score shifts that comes from the attack itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coffea_conserv.errors import InputError
from coffea_conserv.fingerprint import fingerprint
from coffea_conserv.group import Group
from coffea_conserv.results.result import Result
from coffea_conserv.results.settings import Settings

__all__ = ("SeedSpread", "seed_spread")


@dataclass(frozen=True)
class SeedSpread:
    """How much one group differs between runs with different seeds.

    Parameters
    ----------
    group, working_point
        As in :class:`~coffea_conserv.results.fooling.Fooling`.
    ratio, score_shift
        Mean over the seeds.
    ratio_spread, score_shift_spread
        Standard deviation over the seeds (n − 1), that is the error of one run. ``nan`` where a run has no
        value.
    """

    group: Group
    ratio: float
    ratio_spread: float
    score_shift: float
    score_shift_spread: float
    working_point: float


def seed_spread(results: Sequence[Result]) -> tuple[SeedSpread, ...]:
    """Spread of fooling ratios and score shifts over seeds: the error that comes from the attack itself.

    Call a second and third ``Conserv(..., seed=2)`` in the same ``process()``, each with a key of its own in
    the output, and give their results. Few seeds suffice for an impression: three know the spread to a half.

    Parameters
    ----------
    results
        Two or more, alike in everything but their seed.

    Returns
    -------
    tuple of SeedSpread
        One for each row of ``Result.fooling``.

    Raises
    ------
    InputError
        If there is one only, if seeds are equal, or if the results are those of different settings or groups.
    """
    _check_seeds(results)
    made = []
    for rows in zip(*(result.fooling for result in results), strict=True):
        ratio, shift = (np.array([getattr(row, name) for row in rows]) for name in ("ratio", "score_shift"))
        first = rows[0]
        made.append(
            SeedSpread(
                first.group,
                ratio=float(ratio.mean()),
                ratio_spread=float(ratio.std(ddof=1)),
                score_shift=float(shift.mean()),
                score_shift_spread=float(shift.std(ddof=1)),
                working_point=first.working_point,
            )
        )
    return tuple(made)


def _check_seeds(results: Sequence[Result]) -> None:
    seeds = [result.settings.seed for result in results]
    settings = {
        (fingerprint(r.budget), r.objective, r.points, r.penalty, r.target, r.output, *_names(r))
        for r in (result.settings for result in results)
    }
    groups = {tuple(row.group for row in result.fooling) for result in results}
    msg = ""
    if len(set(seeds)) < max(len(seeds), 2):
        msg = f"the spread needs results of two or more different seeds, got {seeds}"
    elif len(settings) > 1:
        msg = "the results differ in more than their seed; run with the same budget, objective and features"
    elif len(groups) > 1:
        msg = "the results have different groups; give the same processes and totals to each"
    if msg:
        raise InputError(msg)


def _names(settings: Settings) -> tuple[str, ...]:
    return tuple(quantity.name for quantity in settings.quantities)
