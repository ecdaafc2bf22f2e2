"""A coffea processor around an unmodified one, which runs it on nominal and on attacked events."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
from coffea.processor import ProcessorABC
from numpy.typing import NDArray

from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.inputs.columns import to_weights
from coffea_conserv.inputs.masks import to_masks
from coffea_conserv.plugin.conserv import Conserv
from coffea_conserv.wrapper.copies import Copy, ordered
from coffea_conserv.wrapper.event_attack import EventAttack, Function, Masks, Selected, check_functions
from coffea_conserv.wrapper.migration import counted
from coffea_conserv.wrapper.outputs import joined, variation_of

__all__ = ("ConservProcessor",)

_OWN = ("conserv", "conserv_migration")
"""What is put beside the output of the analysis."""


class ConservProcessor(ProcessorABC):  # type: ignore[misc]
    """Run an analysis as it is on nominal and on attacked events.

    The columns that hold the features are replaced in copies of the events, so that whatever the analysis
    computes of them follows, cross-references such as ``Muon.matched_jet`` included. What a file holds ready
    made does not: bind it too (``"MET.pt"``), or have the analysis compute it. Nothing is read twice.

    Parameters
    ----------
    analysis
        A coffea processor, or a function of the events.
    conserv
        The attack.
    columns
        Feature → its column: ``"MET.pt"``, ``"Jet.pt[0]"``, ``"pt_1"``, a
        :class:`~coffea_conserv.wrapper.Bound`, or a function of the selected events for a frozen feature.
    regions
        Function of the selected events; name → mask of those, as in
        :class:`~coffea_conserv.Conserv`: where limits hold.
    select
        Function of the events; mask of those that are attacked. Default: all.
    weight
        Function of the selected events; their weights. Needed for simulation.
    fold, context
        Functions of the selected events, for models by fold, and for columns that ``valid`` and ``watch``
        get.
    cuts
        Function of the selected events; name → mask of further cuts of the analysis. How many events change
        sides of these, of the regions and of ``select`` comes back in ``conserv_migration``.
    order
        Collection → field by which its objects are put into falling order where one of them has moved, as in
        ``{"Jet": "pt"}`` for an analysis that takes the first jet for the hardest one.
    data
        Function of the events or name of an entry of their metadata: whether they are real data.

    Raises
    ------
    ConfigurationError
        When it is made, that is on the client and before any task is sent.

    Notes
    -----
    The output is that of the analysis, in which every histogram has a further axis, in front, named by
    ``names`` of the attack, and every other value is a :class:`~coffea_conserv.wrapper.Variations`; with
    ``conserv``, for ``Conserv.result``, and ``conserv_migration``, for
    :func:`~coffea_conserv.wrapper.migrations`. Real data are in the nominal variation alone. ``postprocess``
    of the analysis runs once per variation.

    Functions are called with copies of the events as well: no one sees what another one writes.

    Examples
    --------
    >>> import hist, numpy as np, torch
    >>> from coffea_conserv import Budget, Conserv, Feature
    >>> class Sum(torch.nn.Module):
    ...     def forward(self, x):
    ...         return x.sum(1)
    >>> axis = hist.axis.Regular(20, 0, 200)
    >>> conserv = Conserv(
    ...     model=Sum(), features=[Feature("met", axis), Feature("jet", axis)], budget=Budget(rms=0.05)
    ... )
    >>> wrapped = ConservProcessor(
    ...     lambda events: {"met": hist.Hist(axis).fill(events.MET.pt)},
    ...     conserv,
    ...     columns={"met": "MET.pt", "jet": "Jet.pt[0]"},
    ...     select=lambda events: events.nJet > 0,
    ...     regions=lambda events: {"all": np.ones(len(events), dtype=bool)},
    ...     weight=lambda events: events.genWeight,
    ... )
    """

    def __init__(  # noqa: PLR0913 -- the one call of the wrapper; keywords with defaults
        self,
        analysis: Any,
        conserv: Conserv,
        *,
        columns: Mapping[str, Any],
        regions: Function,
        select: Function | None = None,
        weight: Function | None = None,
        fold: Function | None = None,
        context: Function | None = None,
        cuts: Function | None = None,
        order: Mapping[str, str] | None = None,
        data: str | Function = "is_data",
    ) -> None:
        run = analysis.process if isinstance(analysis, ProcessorABC) else analysis
        if not callable(run):
            msg = f"analysis= must be a coffea processor or a function of the events, got {analysis!r}"
            raise ConfigurationError(msg)
        check_functions({}, {"cuts": cuts})
        self.analysis, self.cuts, self.order = analysis, cuts, dict(order or {})
        self.attack = EventAttack(
            conserv,
            columns=columns,
            regions=regions,
            select=select,
            weight=weight,
            fold=fold,
            context=context,
            data=data,
        )

    @property
    def conserv(self) -> Conserv:
        """The attack."""
        return self.attack.conserv

    def process(self, events: Any) -> dict[str, Any]:
        """Run the analysis on one chunk in every variation.

        Raises
        ------
        InputError
            With the offender and the remedy; and whatever the analysis raises.
        """
        data = self.attack.is_data(events)
        selected = self.attack.selected(events, data=data)
        cuts = {} if data else self._cuts(events, selected.chosen)
        outputs = {"nominal": self._run(Copy(events))}  # its errors come before anything expensive
        moved = self.conserv.moved(selected.places.values, selected.given)
        after = {}
        for variation, values in moved.attacked.items():
            attacked, refer = self._attacked(events, selected, moved.nominal, values)
            outputs[variation] = self._run(Copy(attacked, refer))
            after[variation] = self._cuts(attacked, selected.chosen)
        output: dict[str, Any] = self._joined(outputs)
        output["conserv"] = moved.sums
        if not data:
            weight = to_weights(selected.given.weight, int(selected.chosen.sum()), "", data=False)
            (dataset,) = moved.sums.real
            output["conserv_migration"] = counted(dataset, weight, cuts, after)
        return output

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Run ``postprocess`` of the analysis on the merged output of each variation."""
        if not isinstance(self.analysis, ProcessorABC):
            return accumulator
        rest = copy.copy(accumulator)
        own = {name: rest.pop(name) for name in _OWN if name in rest}
        outputs = {}
        simulated = not all(own["conserv"].real.values())
        for variation, label in self.conserv.names.labels.items():
            if variation != "nominal" and not simulated:
                continue
            part = variation_of(rest, label, axis=self.conserv.names.variation)
            done = self.analysis.postprocess(part)
            outputs[variation] = part if done is None else done
        merged: dict[str, Any] = self._joined(outputs)
        merged.update(own)
        return merged

    def _cuts(self, events: Any, chosen: NDArray[np.bool_]) -> Masks:
        """Which of the chosen events pass the selection, the regions and further cuts."""
        copied = Copy(events)
        masks: Masks = {}
        if self.attack.select is not None:
            masks["select"] = self.attack.chosen(copied.events)[chosen]
        some = copied.events[chosen]
        masks |= self.attack.masks(some)
        if self.cuts is not None:
            masks |= to_masks(self.cuts(some), len(some))
        return masks

    def _attacked(
        self, events: Any, selected: Selected, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> tuple[Any, Any]:
        """Attacked events, and those that cross-references lead to."""
        written, touched = self.attack.bindings.written(events, selected.places, before, after)
        if not self.order:
            return written, None
        return ordered(written, self.order, touched), written

    def _run(self, copied: Copy) -> Any:
        run = self.analysis.process if isinstance(self.analysis, ProcessorABC) else self.analysis
        return run(copied.events)

    def _joined(self, outputs: Mapping[str, Any]) -> Any:
        names = self.conserv.names
        for output in outputs.values():
            if not isinstance(output, MutableMapping):
                msg = f"the analysis must return a dictionary, not {type(output).__name__}: {{'output': …}}"
                raise InputError(msg)
            clash = set(_OWN) & set(output)
            if clash:
                msg = f"the analysis returns {', '.join(sorted(clash))} itself; leave that to the wrapper"
                raise InputError(msg)
        return joined({names.labels[v]: output for v, output in outputs.items()}, names.variation)
