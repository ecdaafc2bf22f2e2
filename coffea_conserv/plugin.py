"""The call inside a coffea processor: attack the selected events and fill what the systematic needs."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hist
import numpy as np
import torch
from numpy.typing import NDArray

from coffea_conserv.attacks.api import OBJECTIVES, SOLVERS, check_choice, check_working_point, pick_device
from coffea_conserv.attacks.batch import Batch, Task, scores, watched_values
from coffea_conserv.attacks.engine import perturb
from coffea_conserv.attacks.model import Handle, check_network, make_handles
from coffea_conserv.attacks.transport import Transport
from coffea_conserv.budget import Budget
from coffea_conserv.columns import to_columns, to_masks, to_numpy
from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.features import Feature, Watched, check_features, feature_matrix, make_watched
from coffea_conserv.sums import Sample, Sums, fill_sums

if TYPE_CHECKING:
    from coffea_conserv.result import Estimate, Result

__all__ = ("Conserv",)

logger = logging.getLogger(__name__)

DIRECTIONS = {"conservUp": "signal", "conservDown": "background"}

_REGION_CUT = 64
"""A region needs this many events on either side for the test whether it is a cut on the score."""

_checked: set[str] = set()


@dataclass(frozen=True, kw_only=True)
class Conserv:
    """The robustness systematic of a classifier, to be called in ``process()``.

    Parameters
    ----------
    model
        One logit per event, above 0 toward signal, from a float32 matrix (events, features): the file of
        torch.export with a dynamic batch, an ``nn.Module``, ``Model(factory, state)``, or a list of these,
        one per fold. Held as bytes; each worker process loads it once.
    features
        Primary quantities in the order of the model.
    budget
        Limits that hold in every region of every dataset.
    watch
        Derived quantity → (torch function of a dict name → tensor, axis).
    score
        Axis of the score, sigmoid(logit).
    working_point
        Score above which an event counts as signal.
    objective
        ``score``: move the mean score, for templates. ``cross``: cross the working point.
    valid
        Torch function of a dict name → tensor; returns which events are possible. Attacked events all are.
    seed
        Same seed, same chunks: same events.
    solver
        ``transport``, or its settings.
    device
        ``auto`` (CUDA if the worker sees one), ``cpu`` or ``cuda``.

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
    working_point: float = 0.5
    objective: str = "score"
    valid: Callable[[dict[str, Any]], Any] | None = None
    seed: int = 1
    solver: str | Transport = "transport"
    device: str = "auto"
    config: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_choice("objective", self.objective, OBJECTIVES)
        check_working_point(self.working_point)
        if not isinstance(self.budget, Budget):
            msg = f"budget must be a Budget, got {self.budget!r}"
            raise ConfigurationError(msg)
        features = check_features(self.features)
        solver = self.solver
        if isinstance(solver, str):
            check_choice("solver", solver, tuple(SOLVERS))
            solver = SOLVERS[solver]
        put = object.__setattr__  # a frozen value is completed while it is made
        put(self, "features", features)
        put(self, "watch", {w.name: (w.function, w.axis) for w in make_watched(self.watch, features)})
        put(self, "solver", solver)
        for feature in features:
            if not feature.frozen and not self.budget.frozen:
                self.budget.marginal(feature.name)
        put(self, "model", make_handles(self.model))
        put(self, "config", self._hash())
        _check_models(self.model, features)

    def _hash(self) -> str:
        """Hash of everything that the output depends on."""
        parts = [
            *(handle.digest for handle in self.handles),
            *(repr((f.name, f.axis, f.frozen, f.missing_values, f.low, f.high)) for f in self.features),
            *(repr((w.name, w.axis)) for w in self.watched),
            repr((self.budget, self.score, self.working_point, self.objective, self.seed, self.solver)),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

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
        assert isinstance(self.solver, Transport)  # noqa: S101 -- made so in __post_init__
        return Task(
            tuple(self.features),
            self.watched,
            self.budget,
            self.objective,
            self.working_point,
            self.valid,
            self.solver,
            composes=True,
        )

    def __call__(  # noqa: PLR0913 -- the one call of the plugin; keywords with defaults
        self,
        columns: Any,
        *,
        regions: Mapping[str, Any],
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
            Feature → one value per selected event: awkward, NumPy or torch; a dict or a record array.
        regions
            Name → Boolean mask of the selected events. Regions may overlap; events in none are left alone.
        weight
            One weight per event, any sign. Needed for simulation.
        events
            The NanoEvents, whose metadata give dataset and chunk.
        data
            Real data: nominal histograms are filled, nothing is attacked.
        fold
            Fold of each event, with a list of models.
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
        dataset, chunk, read = _identity(events, dataset, chunk)
        arrays = to_columns(columns, [feature.name for feature in self.features])
        matrix = feature_matrix(arrays, self.features)
        masks = to_masks(regions, len(matrix))
        weights = _weights(weight, len(matrix), (data, dataset))
        batch = Batch(
            matrix, weights, _atoms(masks), _folds(fold, len(matrix), len(self.handles)), _extra(context)
        )
        values, unattacked = self._values(batch, masks, (dataset, chunk), data=data)
        sample = Sample(
            dataset,
            chunk,
            weights,
            masks,
            values,
            unattacked,
            self.working_point,
            len(matrix) if read is None else read,
            data,
        )
        return fill_sums(self.config, sample, (*self.features, *self.watched), self.score)

    def _values(
        self, batch: Batch, masks: Mapping[str, NDArray[np.bool_]], origin: tuple[str, str], *, data: bool
    ) -> tuple[dict[str, dict[str, NDArray[Any]]], dict[str, NDArray[np.bool_]]]:
        """All quantities in every variation, and which events stayed nominal."""
        device = pick_device(self.device)
        models = [handle.load(device) for handle in self.handles]
        task = self._task()
        values = {"nominal": self._quantities(batch, task, models, batch.x)}
        unattacked: dict[str, NDArray[np.bool_]] = {}
        _check_regions(masks, values["nominal"]["score"])
        if data:
            return values, unattacked
        for variation, direction in DIRECTIONS.items():
            seed = _seed(self.seed, *origin, direction)
            outcome = perturb(batch, task, models, direction, seed, device)
            values[variation] = self._quantities(batch, task, models, outcome.x)
            unattacked[variation] = outcome.unattacked
        return values, unattacked

    def _quantities(
        self, batch: Batch, task: Task, models: Sequence[Any], x: NDArray[np.float32]
    ) -> dict[str, NDArray[Any]]:
        device = pick_device(self.device)
        named: dict[str, NDArray[Any]] = {f.name: x[:, j] for j, f in enumerate(self.features)}
        named |= watched_values(batch, task, x)
        named["score"] = scores(batch, models, x, device)
        bad = int((~np.isfinite(named["score"])).sum())
        if bad:
            msg = f"the model gives NaN or infinity for {bad} of {len(x)} events; check its inputs"
            raise InputError(msg)
        return named

    def result(
        self,
        sums: Sums,
        *,
        processes: Mapping[str, Sequence[str]] | None = None,
        estimates: Sequence[Estimate] = (),
        asked: Mapping[str, int] | None = None,
    ) -> Result:
        """Judge merged outputs and make templates of them.

        Parameters
        ----------
        sums
            Merged output of the call.
        processes
            Process → its datasets; every other dataset is a process of its own.
        estimates
            Processes that are estimated from data minus simulation.
        asked
            Dataset → number of events that the run was asked to read, for the coverage.
        """
        from coffea_conserv.result import Settings, make_result  # noqa: PLC0415 -- workers do not need it

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
        )
        return make_result(sums, settings, processes=processes, estimates=estimates, asked=asked)


def _check_models(handles: tuple[Handle, ...], features: tuple[Feature, ...]) -> None:
    """Check the models on the client, once for each: a processor is unpickled for every chunk."""
    key = ":".join(handle.digest for handle in handles) + str(len(features))
    if key in _checked:
        return
    device = torch.device("cpu")
    x = torch.from_numpy(_examples(features))
    check_network([handle.load(device) for handle in handles], x, [feature.name for feature in features])
    _checked.add(key)


def _examples(features: tuple[Feature, ...]) -> NDArray[np.float32]:
    """Events inside of the axes, to try a model on before there is any."""
    rng = np.random.default_rng(0)
    columns = []
    for feature in features:
        low, high = float(feature.axis.edges[0]), float(feature.axis.edges[-1])
        low = max(low, -math.inf if feature.low is None else feature.low)
        high = min(high, math.inf if feature.high is None else feature.high)
        column = low + (high - low) * rng.uniform(0.02, 0.6, size=16)
        columns.append(column if feature.axis.traits.continuous else np.floor(column))
    return np.stack(columns, axis=1).astype(np.float32)


def _identity(events: Any, dataset: str | None, chunk: str | None) -> tuple[str, str, int | None]:
    """Dataset, chunk and number of events read, from the metadata of the events where there are some."""
    metadata = getattr(events, "metadata", None) or {}
    dataset = dataset or metadata.get("dataset")
    if dataset is None:
        msg = "no dataset: give events= (their metadata name it) or dataset="
        raise InputError(msg)
    if chunk is None and "fileuuid" in metadata:
        chunk = f"{metadata['fileuuid']}:{metadata['entrystart']}-{metadata['entrystop']}"
    if chunk is None:
        msg = "no chunk identity: give events= as coffea's Runner hands them out, or chunk="
        raise InputError(msg)
    read = None
    if "entrystart" in metadata:
        read = int(metadata["entrystop"]) - int(metadata["entrystart"])
    return str(dataset), str(chunk), read


def _weights(weight: Any, count: int, which: tuple[bool, str]) -> NDArray[np.float64]:
    data, dataset = which
    if weight is None:
        if not data:
            msg = f"dataset {dataset!r}: weight= is needed for simulation; for real data say data=True"
            raise InputError(msg)
        return np.ones(count)
    if hasattr(weight, "weight") and callable(weight.weight):
        weight = weight.weight()  # coffea's Weights
    array = to_numpy("weight", weight).astype(np.float64)
    if array.shape != (count,):
        msg = f"weight must have one value for each of the {count} events, got shape {array.shape}"
        raise InputError(msg)
    bad = int((~np.isfinite(array)).sum())
    if bad:
        msg = f"dataset {dataset!r}: {bad} of {count} weights are NaN or infinite; select these events away"
        raise InputError(msg)
    return array


def _atoms(masks: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.int64]:
    """Events with the same membership in the regions; −1 for events in none."""
    code = np.column_stack(list(masks.values()))
    if not len(code):
        return np.zeros(0, dtype=np.int64)
    index = np.unique(code, axis=0, return_inverse=True)[1].reshape(-1)
    return np.where(code.any(axis=1), index, -1).astype(np.int64)


def _folds(fold: Any, count: int, models: int) -> NDArray[np.int64] | None:
    if models == 1:
        return None
    if fold is None:
        msg = f"{models} models need fold=, the fold of each event in 0 … {models - 1}"
        raise InputError(msg)
    array = to_numpy("fold", fold).astype(np.int64)
    if array.shape != (count,) or (count and not (array.min() >= 0 and array.max() < models)):
        msg = f"fold must be one integer in 0 … {models - 1} for each of the {count} events"
        raise InputError(msg)
    return array


def _extra(context: Mapping[str, Any] | None) -> dict[str, NDArray[Any]]:
    return {name: to_numpy(f"context {name!r}", values) for name, values in (context or {}).items()}


def _seed(*parts: Any) -> int:
    """Seed of a chunk and direction: the same whatever worker runs it, and in whatever order."""
    digest = hashlib.sha256("\n".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") % (2**63)


def _check_regions(masks: Mapping[str, NDArray[np.bool_]], score: NDArray[np.float32]) -> None:
    """Refuse a region that is a cut on the score: the attack moves events across it."""
    for name, mask in masks.items():
        inside, outside = score[mask], score[~mask]
        if min(len(inside), len(outside)) < _REGION_CUT:
            continue
        if inside.min() > outside.max() or inside.max() < outside.min():
            msg = (
                f"region {name!r} is a cut on the score, which the attack moves; leave the cut out and use "
                "bins of the score instead"
            )
            raise InputError(msg)
