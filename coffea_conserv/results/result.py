"""The result of a run: verdict, fooling ratios, coverage and histograms, from the merged sums."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from hist import Hist, storage
from hist import axis as axes
from numpy.typing import NDArray

from coffea_conserv.checks import check_known
from coffea_conserv.errors import InputError
from coffea_conserv.group import Group, row_of
from coffea_conserv.limits.displacement import Shift
from coffea_conserv.limits.measures import correlation
from coffea_conserv.limits.statistics import Statistics
from coffea_conserv.limits.verdict import Verdict
from coffea_conserv.names import ALL, DATA, VARIATIONS
from coffea_conserv.results.blinding import Blinding
from coffea_conserv.results.coverage import Coverage, median_chunk
from coffea_conserv.results.fooling import Fooling
from coffea_conserv.results.plain import plain_values, versions, write_json
from coffea_conserv.results.settings import Settings
from coffea_conserv.results.store import save_value
from coffea_conserv.results.tables import fooling_table, tables_html, verdict_table
from coffea_conserv.sums.groups import Estimate, Term, contents_of
from coffea_conserv.sums.sums import Sums, score_axis
from coffea_conserv.templates.template import LABEL, MEANING, RobustnessSystematic, bin_errors
from coffea_conserv.templates.templates import Filled, Templates, make_templates

__all__ = ("ALL", "DATA", "Coverage", "Estimate", "Fooling", "Result", "Settings")

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
        check_known("quantity", name, known)
        return known[name]

    def title(self, name: str) -> str:
        """Text for the axis of a quantity or of the ``score``."""
        axis = self.axis(name)
        known = {quantity.name: quantity.title for quantity in self.settings.quantities}
        return known.get(name) or axis.label or name

    def has(self, process: str, region: str) -> bool:
        """Whether a process is filled in a region: an estimate, or events, be it none of them selected."""
        check_known("process", process, {*self.process_names, DATA})
        check_known("region", region, self.regions)
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
            check_known("region", region, self.regions)
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
                    terms: Sequence[Term] = [Term(1.0, group, region, variation)]
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
        check_known("working point", point, points)
        rows = (row for row in self.fooling if row.working_point == point)
        variation = self.settings.names.own(variation)
        known = {row.group: row for row in rows}
        for group, row in known.items():
            if (group.name, group.region, group.variation) == (name, region, variation):
                return row
        asked, there = Group(name, "total", region, variation), ", ".join(map(str, known)) or "none"
        msg = f"there is no fooling ratio of {asked}; there are {there}"
        raise InputError(msg)

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
        """Make nominal, Up and Down templates of every process; see :class:`Templates`.

        Parameters
        ----------
        quantity
            Feature, watched quantity or ``score``.
        regions
            Which regions; all if not given. Control regions of an estimate can be left out here.

        Raises
        ------
        InputError
            If there is no such quantity or region.
        """
        unknown = sorted(set(regions or ()) - set(self.regions))
        if unknown:
            msg = f"there is no region {', '.join(unknown)}; there are {', '.join(self.regions)}"
            raise InputError(msg)
        chosen = self.regions if regions is None else tuple(regions)
        groups = [
            (process, region)
            for region in chosen
            for process in self.process_names
            if process in self.simulation or self.has(process, region)
        ]
        on_paired = quantity == "score" and self.paired_axis is self.axis("score")
        filled = Filled(
            quantity,
            self.title(quantity),
            self.hist(quantity, regions=chosen),
            groups,
            self.settings.names,
            {group: self._paired(*group) for group in groups if on_paired and group[0] != DATA},
        )
        settings = self.settings
        return make_templates(filled, objective=settings.objective, working_point=settings.points[0])

    def _paired(self, process: str, region: str) -> tuple[Floats, Floats]:
        """Σ w² of nominal × attacked bin in both directions, with under- and overflow of any axis."""
        traits = self.paired_axis.traits
        sides = (1 - int(traits.underflow), 1 - int(traits.overflow))
        up, down = (np.pad(self.paired_squares(process, region, v), sides) for v in VARIATIONS[1:])
        return up, down

    def systematic(self, process: str, region: str, quantity: str = "score") -> RobustnessSystematic:
        """The systematic of a process in a region, as it was found; print it, or ask for its ``impact()``."""
        return self.templates(quantity, regions=[region]).systematic(process, region)

    def save(self, path: str | Path) -> Path:
        """Write everything to a file, as a whole or not at all; ``coffea.util.load`` can read it too.

        Functions of watched quantities are left out: nothing of it needs them.
        """
        return save_value(replace(self, settings=self.settings.without_functions()), path)

    def _repr_html_(self) -> str:
        verdict = verdict_table(self.verdict, self.settings.budget.meaning())
        return tables_html(verdict, fooling_table(self.fooling, self.settings.points))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON.

        Returns
        -------
        dict
            ``meaning``, ``verdict``, ``fooling``, ``shifts`` (how far each feature moved), ``statistics``
            (what the samples can tell), ``coverage``, ``events_per_chunk`` (median over the chunks of
            simulation), ``computed_on`` (chunks by device), ``warnings`` (of the score templates),
            ``processes``, ``estimates``, ``regions``, ``settings`` and ``versions``. What is not a finite
            number is ``None``.
        """
        simulation = [dataset for name in self.simulation for dataset in self.processes[name]]
        plain: dict[str, Any] = plain_values(
            {
                "meaning": MEANING,
                "verdict": self.verdict.to_dict(),
                "fooling": [row.to_dict() for row in self.fooling],
                "shifts": [row_of(row) for row in self.shifts],
                "statistics": [row_of(row) for row in self.statistics],
                "coverage": [{**asdict(entry), "complete": entry.complete} for entry in self.coverage],
                "events_per_chunk": median_chunk(self.sums, simulation),
                "computed_on": self.places,
                "warnings": [{**asdict(w), "remedy": w.remedy} for w in self.templates("score").warnings],
                "processes": self.processes,
                "estimates": self.estimates,
                "regions": self.regions,
                "settings": self.settings.to_dict(),
                "versions": versions(),
            }
        )
        return plain

    def to_json(self, path: str | Path) -> Path:
        """Write verdict, fooling ratios, coverage and settings to a JSON file."""
        return write_json(self.to_dict(), Path(path))

    def _terms(self, process: str, region: str, variation: str) -> tuple[Term, ...]:
        """Factor, dataset, region and variation of everything that adds up to a process."""
        check_known("process", process, self.process_names)
        check_known("region", region, self.regions)
        variation = self.settings.names.own(variation)
        check_known("variation", variation, VARIATIONS)
        if process == DATA and variation != "nominal":
            return ()
        if process in self.processes:
            return tuple(Term(1.0, dataset, region, variation) for dataset in self.processes[process])
        estimate = next(estimate for estimate in self.estimates if estimate.name == process)
        if region not in estimate.regions:
            return ()
        control, scale = estimate.regions[region], estimate.scale
        data = [Term(scale, dataset, control, "nominal") for dataset in self.processes[DATA]]
        simulated = (dataset for name in self.simulation for dataset in self.processes[name])
        return (*data, *(Term(-scale, dataset, control, variation) for dataset in simulated))
