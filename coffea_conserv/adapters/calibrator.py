"""The attack as a calibrator: a class after the public interface of PocketCoffea, which is not needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.checks import as_flag
from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.sums.sums import Sums
from coffea_conserv.wrapper.bindings import column_of
from coffea_conserv.wrapper.event_attack import EventAttack

__all__ = ("ConservCalibrator",)


class ConservCalibrator:
    """A calibrator that has two variations, the attacked events, and leaves the nominal ones alone.

    It has the attributes and methods that PocketCoffea's ``CalibratorsManager`` uses. A class of one's own
    says what is attacked, and derives from the framework's ``Calibrator`` too where that is installed
    (``class Robustness(ConservCalibrator, Calibrator)``). It belongs at the end of the list of calibrators:
    the attack works on what those before it have made.

    Attributes
    ----------
    attack
        What is attacked, and where it is: an :class:`~coffea_conserv.adapters.EventAttack`.
    name
        Name of the calibrator.
    calibrated_collections
        Columns that are returned, as in ``["Jet.pt", "MET.pt"]``: those of features that move.
    sums
        After the first attacked variation: what the processor has to return for ``Conserv.result``. A
        framework knows nothing of it; see the notes.

    Parameters
    ----------
    params
        Parameters of the framework; not used.
    metadata
        Metadata of the chunk, of which ``isMC`` is used.
    do_variations
        Whether the variations are wanted; if not, nothing is attacked.
    **kwargs
        Whatever else the framework passes on; not used.

    Notes
    -----
    Written after the interface and the documentation of PocketCoffea (``Calibrator``, ``CalibratorsManager``)
    and tested with a small driver that does what its manager does: it makes the calibrators of a chunk, calls
    them in order for every variation, puts the columns into the events and takes them out again. It was not
    run within PocketCoffea, whose releases need a coffea older than this package does.

    Limits are judged on ``sums``. In a workflow of the framework they are at
    ``next(c for c in self.calibrators_manager.calibrator_sequence if c.name == "conserv").sums``, to be put
    into its output.

    Examples
    --------
    >>> import hist, numpy as np, torch
    >>> from coffea_conserv import Budget, Conserv, Feature
    >>> class Sum(torch.nn.Module):
    ...     def forward(self, x):
    ...         return x.sum(1)
    >>> axis = hist.axis.Regular(20, 0, 200)
    >>> class Robustness(ConservCalibrator):
    ...     name = "conserv"
    ...     attack = EventAttack(
    ...         Conserv(model=Sum(), features=[Feature("met", axis)], budget=Budget(rms=0.05)),
    ...         columns={"met": "MET.pt"},
    ...         regions=lambda events: {"all": np.ones(len(events), dtype=bool)},
    ...         weight=lambda events: events.genWeight,
    ...     )
    >>> Robustness.calibrated_collections
    ['MET.pt']
    >>> Robustness(metadata={"isMC": True, "dataset": "W"}).variations
    ['conservUp', 'conservDown']
    """

    attack: ClassVar[EventAttack | None] = None
    name: ClassVar[str | None] = None
    has_variations: ClassVar[bool] = True
    isMC_only: ClassVar[bool] = True  # noqa: N815 -- name of the interface
    calibrated_collections: ClassVar[list[str]] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.attack is None:  # a base of others, or a class that cloudpickle is about to fill
            return
        given: Any = cls.attack
        if not isinstance(given, EventAttack):
            msg = f"{cls.__name__}.attack must be an EventAttack, got {type(cls.attack).__name__}"
            raise ConfigurationError(msg)
        if not isinstance(cls.name, str) or not cls.name:
            msg = f"{cls.__name__} needs a name, such as name = 'conserv'"
            raise ConfigurationError(msg)
        cls.calibrated_collections = list(cls.attack.moving)

    def __init__(
        self,
        params: Any = None,
        metadata: Mapping[str, Any] | None = None,
        do_variations: bool = True,  # noqa: FBT001, FBT002 -- the framework's signature
        **kwargs: Any,  # noqa: ARG002 -- whatever the framework passes on
    ) -> None:
        if self.attack is None:
            msg = (
                f"{type(self).__name__} says nothing about what is attacked; give it attack = EventAttack(…)"
            )
            raise ConfigurationError(msg)
        self.params, self.metadata, self.do_variations = params, dict(metadata or {}), do_variations
        self.sums: Sums | None = None
        self._before: Mapping[str, NDArray[Any]] = {}
        self._columns: dict[str, dict[str, Any]] = {}

    @property
    def variations(self) -> list[str]:
        """Labels of the attacked variations, as the names of the attack have them."""
        names = self._attack.conserv.names
        return [names.up, names.down] if self.do_variations else []

    @property
    def _attack(self) -> EventAttack:
        assert self.attack is not None  # noqa: S101 -- checked when it was made
        return self.attack

    def initialize(self, events: Any) -> None:
        """Nothing is prepared, since the events are not calibrated yet.

        Parameters
        ----------
        events
            Events of the chunk.

        Raises
        ------
        InputError
            If these are real data, which a framework should leave out by ``isMC_only``.
        """
        dataset = events.metadata.get("dataset")
        if not as_flag(
            f"dataset {dataset!r}: 'isMC' of its metadata", self.metadata.get("isMC", True), error=InputError
        ):
            msg = f"calibrator {self.name!r} is for simulation; leave it out for {dataset!r}, real data"
            raise InputError(msg)
        self.sums, self._before, self._columns = None, {}, {}

    def calibrate(
        self,
        events: Any,
        events_original_collections: Mapping[str, Any],  # noqa: ARG002 -- the framework's signature
        variation: str,
        already_applied_calibrators: Sequence[str] | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Columns of one variation: attacked ones for those of this calibrator, else as they are.

        Parameters
        ----------
        events
            Events as the calibrators before have left them. They are not written to.
        events_original_collections, already_applied_calibrators
            Not used.
        variation
            Its label.

        Returns
        -------
        dict
            Column → values of all events.

        Raises
        ------
        InputError
            With the offender and the remedy.
        """
        if variation in self.variations:
            return dict(self._attacked(events, self._attack.conserv.names.own(variation)))
        return {column: column_of(events, column) for column in self.calibrated_collections}

    def _attacked(self, events: Any, variation: str) -> dict[str, Any]:
        """Columns of an attack on the events, which is made once for both directions."""
        selected = self._attack.selected(events, data=False)
        values = selected.places.values
        same = all(_equal(values[name], self._before.get(name)) for name in values)
        if self.sums is None or not same:
            done = self._attack.attacked(events, selected)
            self.sums, self._before = done.sums, values
            self._columns = {
                direction: {column: column_of(written, column) for column in self.calibrated_collections}
                for direction, written in done.events.items()
            }
        return self._columns[variation]


def _equal(one: NDArray[Any], other: NDArray[Any] | None) -> bool:
    return other is not None and np.array_equal(one, other, equal_nan=True)
