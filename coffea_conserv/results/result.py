"""The result of a run: verdict, fooling ratios, coverage and histograms, from the merged sums."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hist import Hist, storage
from hist import axis as axes
from numpy.typing import NDArray

from coffea_conserv.errors import InputError
from coffea_conserv.limits.displacement import Shift
from coffea_conserv.limits.measures import correlation
from coffea_conserv.limits.statistics import Statistics
from coffea_conserv.limits.verdict import Verdict
from coffea_conserv.results.blinding import Blinding, check_blinding
from coffea_conserv.results.coverage import Coverage, coverage_of, read_asked
from coffea_conserv.results.fooling import Fooling
from coffea_conserv.results.judging import Group, fooling_rows, judge_merged, shift_rows
from coffea_conserv.results.settings import Settings
from coffea_conserv.sums.groups import (
    ALL,
    DATA,
    Estimate,
    Term,
    as_estimates,
    check_estimates,
    check_merged,
    check_totals,
    check_weights,
    contents_of,
    group_datasets,
    simulated,
)
from coffea_conserv.sums.sums import VARIATIONS, Sums, score_axis
from coffea_conserv.templates.template import LABEL, RobustnessSystematic, bin_errors
from coffea_conserv.templates.templates import Templates, make_templates

__all__ = ("ALL", "DATA", "Coverage", "Estimate", "Fooling", "Result", "Settings", "make_result")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """Answer of a run. Made by :func:`make_result`.

    Parameters
    ----------
    sums, settings
        What was merged and how it was configured.
    processes
        Process → datasets; real data are the process ``"data"``, which comes last.
    estimates
        Processes estimated from data.
    regions
        Names of the regions, sorted.
    verdict
        Every limit with value and slack, by dataset, and by process where it has several datasets.
    fooling
        Fooling ratios of the same groups, of the totals and of all simulation. One of them by name:
        ``result.fooling_of("all simulation", "signal").ratio``.
    coverage
        What was processed, by dataset.
    shifts
        How far each feature moved, in the groups of the verdict.
    statistics
        What the samples of these groups can tell: effective events, share of negative weight, statistical
        floors, and features that are constant, collinear or missing.
    blinding
        Where data are hidden; nowhere if it is ``None``.
    """

    sums: Sums = field(repr=False)
    settings: Settings = field(repr=False)
    processes: Mapping[str, tuple[str, ...]]
    estimates: tuple[Estimate, ...]
    regions: tuple[str, ...]
    verdict: Verdict = field(repr=False)
    fooling: tuple[Fooling, ...] = field(repr=False)
    coverage: tuple[Coverage, ...]
    shifts: tuple[Shift, ...] = field(repr=False)
    statistics: tuple[Statistics, ...] = field(repr=False)
    blinding: Blinding | None = None

    @property
    def simulation(self) -> tuple[str, ...]:
        """Names of the simulated processes."""
        return tuple(name for name in self.processes if name != DATA)

    @property
    def places(self) -> Mapping[str, int]:
        """Where chunks were computed → their number: ``cpu``, ``cuda``, or with less memory than usual.

        Another place rounds in another way, so that a chunk has another attack of the same strength there.
        """
        return self.sums.places

    @property
    def process_names(self) -> tuple[str, ...]:
        """Simulated processes, estimates, then data if there are any."""
        estimates = (estimate.name for estimate in self.estimates)
        return (*self.simulation, *estimates, *((DATA,) if DATA in self.processes else ()))

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of features and watched quantities: the order of :meth:`correlation`."""
        return tuple(quantity.name for quantity in self.settings.quantities)

    def axis(self, name: str) -> Any:
        """Axis of a quantity or of the ``score``."""
        known = {quantity.name: quantity.axis for quantity in self.settings.quantities}
        known["score"] = self.settings.score
        _check_known("quantity", name, known)
        return known[name]

    def title(self, name: str) -> str:
        """Text for the axis of a quantity or of the ``score``."""
        axis = self.axis(name)
        known = {quantity.name: quantity.title for quantity in self.settings.quantities}
        return known.get(name) or axis.label or name

    def has(self, process: str, region: str) -> bool:
        """Whether a process is filled in a region: an estimate, or events, be it none of them selected."""
        _check_known("process", process, {*self.process_names, DATA})
        _check_known("region", region, self.regions)
        if process in (*self.processes, DATA):
            datasets = self.processes.get(process, ())
            return any((name, region, "nominal") in self.sums.counts for name in datasets)
        return any(e.name == process and region in e.regions for e in self.estimates)

    def hist(self, name: str, *, process_axis: bool = True, regions: Sequence[str] | None = None) -> Any:
        """Make a histogram of a quantity in all processes, regions and variations.

        Parameters
        ----------
        name
            Feature, watched quantity or ``score``.
        process_axis
            Whether to group datasets into processes and to add estimates. If not, the axis is ``dataset``.
        regions
            Which regions; all if not given.

        Returns
        -------
        hist.Hist
            Axes process, region, variation, as :class:`~coffea_conserv.Names` call them, and the quantity,
            with ``Weight`` storage. Data and regions without estimate have nothing in the attacked
            variations.
        """
        axis, names = self.axis(name), self.settings.names
        label = names.process if process_axis else names.dataset
        groups = self.process_names if process_axis else tuple(sorted(self.sums.chunks))
        chosen = self.regions if regions is None else tuple(regions)
        for region in chosen:
            _check_known("region", region, self.regions)
        made: Any = Hist(
            axes.StrCategory(groups, growth=True, name=label),
            axes.StrCategory(chosen, growth=True, name=names.region),
            axes.StrCategory(
                names.labels.values(), growth=True, name=names.variation, label=f"attacked: {LABEL}"
            ),
            copy.copy(axis),
            storage=storage.Weight(),
        )
        view, filled = made.view(flow=True), contents_of(self.sums, name)
        for i, group in enumerate(groups):
            for j, region in enumerate(chosen):
                for k, variation in enumerate(VARIATIONS):
                    terms: Sequence[Term] = [(1.0, group, region, variation)]
                    if process_axis:
                        terms = self._terms(group, region, variation)
                    view["value"][i, j, k], view["variance"][i, j, k] = filled(terms)
                if group == DATA or group in self.processes.get(DATA, ()):
                    for part in ("value", "variance"):
                        view[part][i, j][:, self.hidden(name, region)] = 0.0
        return made

    def hidden(self, quantity: str, region: str) -> NDArray[np.bool_]:
        """Bins of a quantity in which data are hidden, shape (bins with flow,)."""
        sums = np.zeros((2, self.axis(quantity).extent))
        if self.blinding is None:
            return np.zeros(sums.shape[1], dtype=bool)
        filled = contents_of(self.sums, quantity)
        for name in self.process_names:
            if name != DATA:
                terms = self._terms(name, region, "nominal")
                sums[int(name in self.blinding.signal)] += filled(terms)[0]
        return self.blinding.hides(sums[1], sums[0])

    def fooling_of(
        self,
        name: str,
        region: str,
        variation: str = "conservUp",
        *,
        working_point: float | None = None,
    ) -> Fooling:
        """Return the fooling ratio of one group, with its error.

        Parameters
        ----------
        name
            Dataset, process, one of ``totals``, or ``"all simulation"``.
        region, variation
            Where, and in which direction: ``conservUp``, ``conservDown``, or as ``Names`` call them.
        working_point
            One of those of the run; the main one if not given.

        Returns
        -------
        Fooling
            For backgrounds the ratio of ``conservUp`` is that of the correctly classified events: with
            ``totals={"backgrounds": [...]}`` it is ``result.fooling_of("backgrounds", "signal").ratio``.

        Raises
        ------
        InputError
            If there is none.
        """
        points = self.settings.points
        point = points[0] if working_point is None else working_point
        _check_known("working point", point, points)
        rows = (row for row in self.fooling if row.working_point == point)
        known = {(row.name, row.region, row.variation): row for row in rows}
        variation = self.settings.names.own(variation)
        if (name, region, variation) not in known:
            places = ", ".join(dict.fromkeys("/".join(key) for key in known)) or "none"
            msg = f"there is no fooling ratio of {name}/{region}/{variation}; there are {places}"
            raise InputError(msg)
        return known[name, region, variation]

    def correlation(self, process: str | None, region: str, variation: str) -> Floats:
        """Weighted Pearson matrix of features, then watched quantities, shape (quantities, quantities).

        Parameters
        ----------
        process, region, variation
            Which events. Without a process, all simulation and estimates together.

        Raises
        ------
        InputError
            If there are no such events, or if it is of data where some of their scores are hidden.
        """
        if process == DATA and self.hidden("score", region).any():
            msg = f"correlations of data are hidden in region {region!r}, where some bins of the score are"
            raise InputError(msg)
        size = len(self.quantities)
        total = np.zeros((4, size, size))
        names = [name for name in self.process_names if name != DATA] if process is None else [process]
        for name in names:
            for factor, *key in self._terms(name, region, variation):
                total = total + factor * self.sums.moments.get((key[0], key[1], key[2]), 0.0)
        return correlation(total)

    def paired_error(self, process: str, region: str, variation: str, *, flow: bool = False) -> Floats:
        """Statistical error of attacked − nominal, by bin of the score.

        Nominal and attacked are the same events, so only those that change the bin contribute: the variance
        of a bin is Σ w² of the events that leave or enter it.

        Parameters
        ----------
        process, region, variation
            Which template.
        flow
            Whether to include under- and overflow.

        Returns
        -------
        numpy.ndarray
            Shape (bins,), on :attr:`paired_axis`.
        """
        axis = self.paired_axis
        error = bin_errors(self.paired_squares(process, region, variation))
        first = int(axis.traits.underflow)
        return error if flow else error[first : first + axis.size]

    def paired_squares(self, process: str, region: str, variation: str) -> Floats:
        """Sums of w² by nominal and by attacked bin of the score, on :attr:`paired_axis` with its flow.

        Returns
        -------
        numpy.ndarray
            Shape (bins with flow, bins with flow); what is not on the diagonal changes its bin.
        """
        matrix = np.zeros((self.paired_axis.extent,) * 2)
        for factor, *key in self._terms(process, region, variation):
            pair = self.sums.paired.get((key[0], key[1], key[2]))
            matrix += 0.0 if pair is None else factor**2 * pair[1]
        return matrix

    @property
    def paired_axis(self) -> Any:
        """Axis of :meth:`paired_error`: that of the score if it has at most 20 bins, else 20 in 0 … 1."""
        return score_axis(self.settings.score)

    def templates(self, quantity: str = "score", *, regions: Sequence[str] | None = None) -> Templates:
        """Make nominal, Up and Down templates of every process; see :class:`Templates`."""
        return make_templates(self, quantity, regions)

    def systematic(self, process: str, region: str, quantity: str = "score") -> RobustnessSystematic:
        """The systematic of a process in a region, as it was found; print it, or ask for its ``impact()``."""
        return make_templates(self, quantity, [region]).systematic(process, region)

    def save(self, path: str | Path) -> Path:
        """Write everything to a file; see :func:`coffea_conserv.results.store.save_result`."""
        from coffea_conserv.results.store import save_result  # noqa: PLC0415 -- it imports this module

        return save_result(self, path)

    def _repr_html_(self) -> str:
        from coffea_conserv.results.tables import to_html  # noqa: PLC0415 -- the report imports this module

        return to_html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; see :func:`coffea_conserv.results.plain.to_dict`."""
        from coffea_conserv.results.plain import to_dict  # noqa: PLC0415 -- the report imports this module

        return to_dict(self)

    def to_json(self, path: str | Path) -> Path:
        """Write verdict, fooling ratios, coverage and settings to a JSON file."""
        from coffea_conserv.results.plain import write_json  # noqa: PLC0415 -- the report imports this module

        return write_json(self, Path(path))

    def _terms(self, process: str, region: str, variation: str) -> tuple[Term, ...]:
        """Factor, dataset, region and variation of everything that adds up to a process."""
        _check_known("process", process, self.process_names)
        _check_known("region", region, self.regions)
        variation = self.settings.names.own(variation)
        _check_known("variation", variation, VARIATIONS)
        if process == DATA and variation != "nominal":
            return ()
        if process in self.processes:
            return tuple((1.0, dataset, region, variation) for dataset in self.processes[process])
        estimate = next(estimate for estimate in self.estimates if estimate.name == process)
        if region not in estimate.regions:
            return ()
        control, scale = estimate.regions[region], estimate.scale
        data = [(scale, dataset, control, "nominal") for dataset in self.processes[DATA]]
        simulated = (dataset for name in self.simulation for dataset in self.processes[name])
        return (*data, *((-scale, dataset, control, variation) for dataset in simulated))


def make_result(
    sums: Sums,
    settings: Settings,
    *,
    processes: Mapping[str, Sequence[str]] | None = None,
    estimates: Estimate | Sequence[Estimate] = (),
    totals: Mapping[str, Sequence[str]] | None = None,
    asked: Mapping[str, int] | Iterable[Any] | None = None,
    blinding: Blinding | None = None,
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

    Raises
    ------
    ConfigurationError
        If processes, estimates or totals do not fit the datasets and regions, or ``asked`` is something else.
    InputError
        If these are no merged sums, a dataset mixes real data and simulation, or a region of a simulated
        dataset has events but no positive sum of weights.
    """
    check_merged(sums)
    grouped = group_datasets(sums, {} if processes is None else processes)
    regions = tuple(sorted({region for _, region, _ in sums.counts}))
    estimated = as_estimates(estimates)
    check_blinding(blinding, grouped)
    check_estimates(estimated, grouped, regions)
    summed = check_totals({} if totals is None else totals, grouped)
    wanted = read_asked(asked)
    check_weights(sums, grouped)
    groups: list[Group] = [("dataset", n, (n,)) for names in simulated(grouped).values() for n in names]
    groups += [("process", name, names) for name, names in simulated(grouped).items() if len(names) > 1]
    sums_of = [*groups, *(("all" if n == ALL else "total", n, names) for n, names in summed.items())]
    verdict, statistics = judge_merged(sums, settings, groups, regions)
    return Result(
        sums,
        settings,
        grouped,
        estimated,
        regions,
        verdict,
        fooling_rows(sums, settings, sums_of, regions),
        coverage_of(sums, wanted),
        shift_rows(sums, settings, groups, regions),
        statistics,
        blinding,
    )


def _check_known(kind: str, name: Any, known: Any) -> None:
    if name not in known:
        msg = f"there is no {kind} {name!r}; there are {', '.join(map(str, known)) or 'none'}"
        raise InputError(msg)
