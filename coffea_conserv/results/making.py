"""Result of a run, made of merged sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coffea_conserv.names import ALL
from coffea_conserv.results.blinding import Blinding, check_blinding
from coffea_conserv.results.coverage import coverage_of, read_asked
from coffea_conserv.results.judging import Merged, fooling_rows, judge_merged, shift_rows
from coffea_conserv.results.result import Result
from coffea_conserv.results.settings import Settings
from coffea_conserv.sums.groups import (
    Estimate,
    as_estimates,
    check_estimates,
    check_merged,
    check_totals,
    group_datasets,
    simulated,
)
from coffea_conserv.sums.sums import Sums

__all__ = ("make_result",)


def make_result(
    sums: Sums,
    settings: Settings,
    *,
    processes: Mapping[str, Sequence[str]] | None = None,
    estimates: Estimate | Sequence[Estimate] = (),
    totals: Mapping[str, Sequence[str]] | None = None,
    asked: Mapping[str, int] | Iterable[Any] | None = None,
    blinding: Blinding | None = None,
    without: Sequence[str] = (),
) -> Result:
    """Judge merged sums and make the result of a run.

    Parameters
    ----------
    sums
        Merged output of all chunks.
    settings
        The configuration of the run.
    processes
        Process → datasets. A dataset that is not named is a process of its own.
    estimates
        Processes estimated from data, or one.
    totals
        Name → simulated processes whose sum gets fooling ratios of its own.
    asked
        What the run was asked to read, for the coverage; see
        :func:`coffea_conserv.results.coverage.read_asked`.
    blinding
        Where data are hidden.
    without
        Datasets that are left out, as if they had not been processed.

    Raises
    ------
    ConfigurationError
        If processes, estimates or totals do not fit the datasets and regions, or ``asked`` is something else.
    InputError
        If these are no merged sums, or a dataset mixes real data and simulation.
    """
    check_merged(sums)
    sums = sums.without(without)
    grouped = group_datasets(sums, {} if processes is None else processes)
    regions = tuple(sorted({region for _, region, _ in sums.counts}))
    estimated = as_estimates(estimates)
    check_blinding(blinding, grouped)
    check_estimates(estimated, grouped, regions)
    summed = check_totals({} if totals is None else totals, grouped)
    wanted = read_asked(asked)
    merged = [Merged(n, "dataset", (n,)) for names in simulated(grouped).values() for n in names]
    merged += [Merged(n, "process", names) for n, names in simulated(grouped).items() if len(names) > 1]
    totals_too = [*merged, *(Merged(n, "all" if n == ALL else "total", names) for n, names in summed.items())]
    verdict, statistics = judge_merged(sums, settings, merged, regions)
    return Result(
        sums,
        settings,
        grouped,
        estimated,
        regions,
        verdict,
        fooling_rows(sums, settings, totals_too, regions),
        coverage_of(sums, wanted),
        shift_rows(sums, settings, merged, regions),
        statistics,
        blinding,
    )
