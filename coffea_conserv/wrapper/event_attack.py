"""Attack on events: which ones of a chunk, where their features are, and the events afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.checks import as_flag
from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.inputs.call import Selection
from coffea_conserv.inputs.masks import to_masks
from coffea_conserv.plugin.conserv import Conserv
from coffea_conserv.sums.sums import Sums
from coffea_conserv.wrapper.bindings import Bindings, Places, make_bindings
from coffea_conserv.wrapper.copies import Copy

__all__ = ("AttackedEvents", "EventAttack", "Function", "Masks", "Selected", "check_functions")

Function = Callable[[Any], Any]
Masks = dict[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Selected:
    """What is attacked of one chunk.

    Parameters
    ----------
    chosen
        Which events, shape (events,).
    places
        Their values, and where those are.
    given
        Regions, weights and the like of the chosen events.
    """

    chosen: NDArray[np.bool_]
    places: Places
    given: Selection


@dataclass(frozen=True)
class AttackedEvents:
    """Events of a chunk in all variations.

    Parameters
    ----------
    sums
        What adds up over chunks, for ``Conserv.result``.
    events
        ``conservUp`` and ``conservDown`` → all events of the chunk, in which the attacked values have
        replaced the others; empty for real data.
    """

    sums: Sums
    events: Mapping[str, Any]


@dataclass(frozen=True)
class EventAttack:
    """An attack on columns of events: what is attacked, and where it is.

    Parameters
    ----------
    conserv
        The attack.
    columns
        Feature → its column: ``"MET.pt"``, ``"Jet.pt[0]"``, ``"pt_1"``, a
        :class:`~coffea_conserv.wrapper.Bound`, or a function of the selected events for a frozen feature.
    regions
        Function of the selected events; where limits hold, as in :class:`~coffea_conserv.Conserv`.
    select
        Function of the events; mask of those that are attacked. Default: all.
    weight
        Function of the selected events; their weights. Needed for simulation.
    fold, context
        Functions of the selected events, for models by fold, and for columns that ``valid`` and ``watch``
        get.
    data
        Function of the events or name of an entry of their metadata: whether they are real data.

    Raises
    ------
    ConfigurationError
        When it is made, that is on the client and before any task is sent.

    Notes
    -----
    Functions are called with copies of the events: no one sees what another one writes.

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
    >>> attack = EventAttack(
    ...     conserv,
    ...     columns={"met": "MET.pt", "jet": "Jet.pt[0]"},
    ...     select=lambda events: events.nJet > 0,
    ...     regions=lambda events: {"all": np.ones(len(events), dtype=bool)},
    ...     weight=lambda events: events.genWeight,
    ... )
    >>> attack.moving
    ('MET.pt', 'Jet.pt')
    """

    conserv: Conserv
    columns: Mapping[str, Any] = field(kw_only=True, repr=False)
    regions: Function = field(kw_only=True)
    select: Function | None = field(default=None, kw_only=True)
    weight: Function | None = field(default=None, kw_only=True)
    fold: Function | None = field(default=None, kw_only=True)
    context: Function | None = field(default=None, kw_only=True)
    data: str | Function = field(default="is_data", kw_only=True)
    bindings: Bindings = field(init=False, repr=False)

    def __post_init__(self) -> None:
        given: Any = self
        if not isinstance(given.conserv, Conserv):
            msg = f"conserv must be a Conserv, got {type(self.conserv).__name__}"
            raise ConfigurationError(msg)
        optional = {name: getattr(self, name) for name in ("select", "weight", "fold", "context")}
        check_functions({"regions": self.regions}, optional)
        if not callable(given.data) and not isinstance(given.data, str):
            wanted = "the name of an entry of the metadata, or a function of the events"
            msg = f"data={self.data!r} must be {wanted}"
            raise ConfigurationError(msg)
        object.__setattr__(self, "bindings", make_bindings(self.conserv.features, self.columns))

    @property
    def moving(self) -> tuple[str, ...]:
        """Columns into which attacked values are written."""
        return self.bindings.moving

    def __call__(self, events: Any) -> AttackedEvents:
        """Attack the events of a chunk, which stay as they are.

        Raises
        ------
        InputError
            With the offender and the remedy.
        """
        return self.attacked(events, self.selected(events, data=self.is_data(events)))

    def attacked(self, events: Any, selected: Selected) -> AttackedEvents:
        """Attack what is selected of a chunk."""
        moved = self.conserv.moved(selected.places.values, selected.given)
        written = {
            variation: self.bindings.written(events, selected.places, moved.nominal, values)[0]
            for variation, values in moved.attacked.items()
        }
        return AttackedEvents(moved.sums, written)

    def is_data(self, events: Any) -> bool:
        """Whether the events are real data."""
        metadata = events.metadata
        where = f"dataset {metadata.get('dataset')!r}"
        if callable(self.data):
            return as_flag(f"{where}: what data= returns", self.data(Copy(events).events), error=InputError)
        if self.data not in metadata and len(events) < 2:  # of coffea's trace, which leaves them out
            return False
        if self.data not in metadata:
            msg = (
                f"{where}: its metadata have no {self.data!r}, which says "
                "whether it is real data; add it to the metadata of the fileset, or give data= a function"
            )
            raise InputError(msg)
        return as_flag(f"{where}: {self.data!r} of its metadata", metadata[self.data], error=InputError)

    def selected(self, events: Any, *, data: bool) -> Selected:
        """What is attacked of a chunk."""
        copied = Copy(events)
        chosen = self.chosen(copied.events)
        some = copied.events[chosen]
        regions = self.masks(some)
        weight = None if data or self.weight is None else self.weight(some)
        fold, context = (None if part is None else part(some) for part in (self.fold, self.context))
        given = Selection(regions, weight, events, data, fold, context)
        return Selected(chosen, self.bindings.read(events, chosen, some), given)

    def chosen(self, events: Any) -> NDArray[np.bool_]:
        """Which events are attacked, shape (events,)."""
        if self.select is None:
            return np.ones(len(events), dtype=bool)
        return to_masks({"select": self.select(events)}, len(events))["select"]

    def masks(self, some: Any) -> Masks:
        """Regions of selected events."""
        return to_masks(self.regions(some), len(some))


def check_functions(needed: Mapping[str, Any], optional: Mapping[str, Any]) -> None:
    """Raise a ConfigurationError for what should be a function of the events and is none."""
    for name, function in {**needed, **optional}.items():
        if not callable(function) and (function is not None or name in needed):
            msg = f"{name}= must be a function of the events, got {function!r}"
            raise ConfigurationError(msg)
