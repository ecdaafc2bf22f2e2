"""The call inside a coffea processor: attack the selected events and fill what the systematic needs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hist
import numpy as np
import torch

from coffea_conserv.attacks.batch import Batch
from coffea_conserv.attacks.functions import check_functions, trial_events
from coffea_conserv.attacks.registry import named_solver
from coffea_conserv.attacks.settings import OBJECTIVES, TARGETS, check_moves, check_settings
from coffea_conserv.attacks.task import Task
from coffea_conserv.checks import as_flag, check_choice
from coffea_conserv.errors import InputError
from coffea_conserv.features.binning import check_score_axis
from coffea_conserv.features.feature import Feature, Watched, check_features, make_watched
from coffea_conserv.features.working_point import as_points
from coffea_conserv.inputs.call import Selection, event_ids, read_inputs
from coffea_conserv.inputs.masks import Regions
from coffea_conserv.inputs.regions import atoms
from coffea_conserv.limits.budget import Budget
from coffea_conserv.models.checks import try_models
from coffea_conserv.models.device import Place, in_memory, isolated
from coffea_conserv.models.loading import Handle, load_models, make_handles, settled
from coffea_conserv.models.output import Classes, check_output
from coffea_conserv.names import Names, check_axes
from coffea_conserv.plugin.chunk import Moved, identity, stacked
from coffea_conserv.plugin.variations import Attack, Varied, values_by_variation
from coffea_conserv.results.blinding import Blinding
from coffea_conserv.results.making import make_result
from coffea_conserv.results.result import Estimate, Result
from coffea_conserv.results.settings import Settings, hash_of
from coffea_conserv.solvers.protocol import Solver
from coffea_conserv.sums.attacked_events import check_names, keep_events
from coffea_conserv.sums.groups import check_merged
from coffea_conserv.sums.sums import Sample, Sums, fill_sums

__all__ = ("Conserv",)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Conserv:
    """The robustness systematic of a classifier, to be called in ``process()``.

    Parameters
    ----------
    model
        From a float32 matrix (events, features): the file of torch.export with a dynamic batch, an
        ``nn.Module``, ``Model(factory, state)``, ``Callback(function of a NumPy matrix)``, a fitted
        classifier of scikit-learn, XGBoost or LightGBM, or a list of these, one per fold. Held as bytes; each
        worker process loads it once.
    features
        Primary quantities in the order of the model.
    budget
        Limits that hold in every region of every dataset.
    watch
        Derived quantity → (torch function of a dict name → tensor, axis). The function computes event by
        event and leaves its columns as they are; it is tried when the attack is made.
    score
        Axis of the score, sigmoid(logit), with a bin for every score from 0 to 1.
    working_point
        Score above which an event counts as signal, or several, of which the first is the main one. There is
        a fooling ratio for each.
    output
        What the model gives: one ``logit`` per event, above 0 toward signal, one ``probability``, or several
        classes, of which :class:`coffea_conserv.Classes` makes one logit. Of a classifier it is known.
        Logits that never leave 0 … 1 are refused; ``narrow logit`` insists.
    objective
        ``score``: move the mean score, for templates. ``cross``: cross the working point, or as many as can
        be.
    target
        ``all`` events move, or the ``correct`` ones: those that are not yet on the side of the main working
        point that the attack moves to. Limits hold for the regions as they are in both cases. Templates of
        ``correct`` ones have a step at the working point.
    valid
        Torch function of a dict name → tensor; returns Booleans, which events are possible. Attacked events
        all are.
    seed
        Same seed, same chunks: same events.
    solver
        ``transport``, ``search``, or the settings of one.
    penalty
        λ of a price on moves in units of the resolution, see :func:`coffea_conserv.attack`; 0: they are free.
    device
        ``auto`` (CUDA if the worker sees one), ``cpu`` or ``cuda``.
    keep
        Folder for the attacked events, one parquet file for each chunk of simulation, see
        :mod:`coffea_conserv.sums.attacked_events`; workers must be able to write there.
    names
        What axes and variations are called in histograms, in templates and by
        :class:`~coffea_conserv.ConservProcessor`; ``Names.preset("columnflow")`` follows a framework. Sums do
        not depend on it.

    Raises
    ------
    ConfigurationError, ModelError
        When it is made, that is on the client and before any task is sent.

    Examples
    --------
    >>> import hist, numpy as np, torch
    >>> class Sum(torch.nn.Module):
    ...     def forward(self, x):
    ...         return x.sum(1)
    >>> conserv = Conserv(
    ...     model=Sum(),
    ...     features=[Feature("x", hist.axis.Regular(20, -3, 3)), Feature("y", hist.axis.Regular(20, -3, 3))],
    ...     budget=Budget(rms=0.05),
    ... )
    >>> rng = np.random.default_rng(1)
    >>> columns = {"x": rng.normal(size=500), "y": rng.normal(size=500)}
    >>> sums = conserv(
    ...     columns, weight=np.ones(500), regions={"all": np.ones(500, bool)}, dataset="toy", chunk="0"
    ... )
    >>> conserv.result(sums).verdict.passed
    True
    """

    model: Any
    features: Sequence[Feature]
    budget: Budget
    watch: Mapping[str, tuple[Any, Any]] | None = None
    score: Any = field(default_factory=lambda: hist.axis.Regular(20, 0, 1, name="score", label="score"))
    working_point: float | Sequence[float] = 0.5
    output: str | Classes = "logit"
    objective: str = "score"
    target: str = "all"
    valid: Callable[[dict[str, Any]], Any] | None = None
    seed: int = 1
    solver: str | Solver = "transport"
    penalty: float = 0.0
    device: str = "auto"
    keep: str | Path | None = None
    names: Names = field(default_factory=Names)
    config: str = field(init=False, repr=False)

    @isolated()
    def __post_init__(self) -> None:
        check_choice("objective", self.objective, OBJECTIVES)
        check_choice("target", self.target, TARGETS)
        check_output(self.output)
        points = as_points(self.working_point)
        check_score_axis(self.score)
        check_settings(self.budget, self.seed, self.device)
        features = check_features(self.features)
        put = object.__setattr__  # a frozen value is completed while it is made
        put(self, "features", features)
        put(self, "working_point", points if len(points) > 1 else points[0])
        put(self, "watch", {w.name: (w.function, w.axis) for w in make_watched(self.watch, features)})
        put(self, "solver", named_solver(self.solver))
        check_moves(self.penalty, features, named_solver(self.solver))
        axes = [self.score, *(f.axis for f in features), *(w.axis for w in self.watched)]
        check_axes(self.names, axes)
        if self.keep is not None:
            check_names([*(f.name for f in features), *(w.name for w in self.watched)])
        self.budget.check_features([feature for feature in features if not feature.frozen])
        task = self._task()
        tried = trial_events(task)
        some = [one.x[:16] for k, one in enumerate(tried) if one.sure or not k]
        check_functions(task, torch.from_numpy(np.concatenate(some)))
        put(self, "model", make_handles(self.model))
        put(self, "output", settled(self.handles, self.output, [feature.name for feature in features]))
        put(self, "config", self._hash())
        try_models(self.handles, self.output, features, tried)

    def _hash(self) -> str:
        """Hash of everything that the output depends on."""
        others = (
            self.valid,
            self.score,
            self.working_point,
            self.output,
            self.objective,
            self.target,
            self.seed,
            repr(self.solver),
            self.penalty,
        )
        models = [handle.content for handle in self.handles]
        return hash_of(models, self.features, self.watched, self.budget, others)

    @property
    def handles(self) -> tuple[Handle, ...]:
        """Models as bytes."""
        handles: tuple[Handle, ...] = self.model
        return handles

    @property
    def watched(self) -> tuple[Watched, ...]:
        """Watched quantities."""
        return make_watched(self.watch, self.features)

    def _task(self) -> Task:
        assert not isinstance(self.solver, str)  # noqa: S101 -- made so in __post_init__
        return Task(
            tuple(self.features),
            self.watched,
            self.budget,
            self.objective,
            as_points(self.working_point),
            self.valid,
            solver=self.solver,
            composes=True,
            penalty=float(self.penalty),
            score_edges=np.asarray(self.score.edges, dtype=np.float64),
        )

    def __call__(  # noqa: PLR0913 -- the one call of the plugin; keywords with defaults
        self,
        columns: Any,
        *,
        regions: Regions,
        weight: Any = None,
        events: Any = None,
        data: bool = False,
        fold: Any = None,
        context: Mapping[str, Any] | None = None,
        dataset: str | None = None,
        chunk: str | None = None,
    ) -> Sums:
        """Attack the selected events of one chunk in both directions and sum up.

        Parameters
        ----------
        columns
            Feature → one value per selected event: awkward, NumPy or torch; a dict or a record array. What is
            ``None`` or masked becomes what the feature declares as missing. Nothing is written into it.
        regions
            Name → Boolean mask of the selected events, or :class:`~coffea_conserv.Cuts` of a
            ``PackedSelection``, or :class:`~coffea_conserv.Categories`. Regions may overlap; events in none
            are left alone. A region that is cut on the score is refused, as far as
            :func:`coffea_conserv.inputs.regions.check_regions` can tell.
        weight
            One weight per event, any sign, or coffea's ``Weights``. Needed for simulation. Real data are
            counted: they have none.
        events
            The NanoEvents, whose metadata give dataset and chunk.
        data
            Real data: nominal histograms are filled, nothing is attacked.
        fold
            Fold of each event, with a list of models. A single model takes the events of all folds.
        context
            Further columns that ``valid`` and ``watch`` get; they do not move.
        dataset, chunk
            Name of the dataset, and of the chunk within it, where there are no coffea events.

        Returns
        -------
        Sums
            One value that adds up over chunks.

        Raises
        ------
        InputError
            With the offender and the remedy.
        """
        given = Selection(regions, weight, events, data, fold, context, dataset, chunk)
        return self.moved(columns, given).sums

    @isolated()
    def moved(self, columns: Any, given: Selection) -> Moved:
        """Do what the call does, and return the attacked features too.

        Parameters
        ----------
        columns
            Feature → one value per selected event.
        given
            The arguments of the call.

        Raises
        ------
        InputError
            With the offender and the remedy.
        """
        dataset, chunk, read, file = identity(given.events, given.dataset, given.chunk)
        data = as_flag(f"dataset {dataset!r}: data", given.data, error=InputError)
        given = replace(given, data=data)
        inputs = read_inputs(columns, given, self.features, models=len(self.handles), dataset=dataset)
        masks, matrix = inputs.regions, inputs.matrix
        batch = Batch(matrix, inputs.weight, atoms(masks), inputs.fold, inputs.context)

        def at(place: Place) -> Varied:
            models = load_models(self.handles, self.output, place, [f.name for f in self.features])
            attack = Attack(self._task(), models, self.target, self.seed, place)
            return values_by_variation(batch, attack, masks, dataset=dataset, chunk=chunk, data=data)

        (values, unattacked), place = in_memory(self.device, at)
        sample = Sample(
            dataset,
            chunk,
            inputs.weight,
            masks,
            values,
            unattacked,
            as_points(self.working_point),
            len(matrix) if read is None else read,
            data,
            str(place),
            file,
        )
        if self.keep is not None and not data:
            keep_events(self.keep, self.config, sample, event_ids(given, len(matrix)))
        sums = fill_sums(self.config, sample, (*self.features, *self.watched), self.score)
        return Moved(sums, matrix, {v: stacked(values[v], self.features) for v in values if v != "nominal"})

    def result(
        self,
        sums: Sums,
        *,
        processes: Mapping[str, Sequence[str]] | None = None,
        estimates: Estimate | Sequence[Estimate] = (),
        totals: Mapping[str, Sequence[str]] | None = None,
        asked: Mapping[str, int] | Iterable[Any] | None = None,
        blinding: Blinding | None = None,
        without: Sequence[str] = (),
    ) -> Result:
        """Judge merged outputs and make templates of them.

        Parameters
        ----------
        sums
            Merged output of the call.
        processes, estimates
            Process → its datasets, every other dataset being a process of its own; and processes that are
            estimated from data minus simulation, or one.
        totals
            Name → processes whose sum gets fooling ratios of its own. With ``{"backgrounds": ["W", "DY"]}``,
            ``result.fooling_of("backgrounds", "signal").ratio`` is the weighted fooling ratio of all
            correctly classified background events in the region ``signal``.
        asked
            What the run was asked to read: dataset → number of events, or the chunks that coffea's
            ``Runner.preprocess(fileset, …)`` yields.
        blinding
            ``Blinding(signal, above)``: where data are hidden. Nowhere if not given.
        without
            Datasets that are left out, as if they had not been processed.

        Raises
        ------
        InputError, ConfigurationError
            With the offender and the remedy, for example if this is the whole output.
        """
        check_merged(sums)
        if sums.config != self.config:
            msg = (
                f"this output was made with another configuration ({sums.config}) than this Conserv "
                f"({self.config}); use the one that the processor was run with"
            )
            raise InputError(msg)
        settings = Settings(
            tuple(self.features),
            self.watched,
            self.budget,
            self.score,
            self.working_point,
            self.objective,
            self.seed,
            self.config,
            float(self.penalty),
            self.target,
            str(self.output),
            self.names,
        )
        more: Any = {"totals": totals, "asked": asked, "blinding": blinding, "without": without}
        return make_result(sums, settings, processes=processes, estimates=estimates, **more)
