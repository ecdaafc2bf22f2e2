"""Names of axes, variations and of what has a fixed name, with the conventions of frameworks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

from coffea_conserv.errors import ConfigurationError

__all__ = ("ALL", "DATA", "VARIATIONS", "Names", "check_axes")

VARIATIONS = ("nominal", "conservUp", "conservDown")
"""As simulated, attacked toward signal, attacked toward background: what merged sums call them."""

DATA = "data"
"""Name of the process that holds all real data."""

ALL = "all simulation"
"""Name of the sum of all simulated datasets in the fooling ratios."""

_IN_SUMS = ("dataset", "region", "variation")
"""Axes of the histograms in merged sums, whatever they are called afterwards."""

_CONVENTIONS: dict[str, dict[str, str]] = {
    "coffea": {},
    "combine": {"region": "channel", "variation": "systematic"},
    "columnflow": {"region": "category", "variation": "shift"},
    "pocketcoffea": {"process": "sample", "region": "cat"},
    "topcoffea": {"region": "channel", "variation": "systematic"},
}
_SUFFIXES = {"columnflow": ("_up", "_down")}


@dataclass(frozen=True)
class Names:
    """Names of the axes of histograms, and of the three variations in them and in ROOT files.

    They are given when results are made, not when sums are: outputs of runs with different names add up.

    Parameters
    ----------
    process, dataset, region, variation
        Axes.
    nominal, up, down
        Categories of the axis of the variation; ``up`` and ``down`` are also what follows the name of the
        process in a ROOT file. Combine wants them to end in ``Up`` and ``Down``.

    Raises
    ------
    ConfigurationError
        If one is no text or is there twice.

    Examples
    --------
    >>> Names(variation="systematic", up="CONSERV_up", down="CONSERV_down").labels["conservUp"]
    'CONSERV_up'
    """

    process: str = "process"
    dataset: str = "dataset"
    region: str = "region"
    variation: str = "variation"
    nominal: str = "nominal"
    up: str = "conservUp"
    down: str = "conservDown"

    def __post_init__(self) -> None:
        labels = (self.nominal, self.up, self.down)
        grouped, single = (self.process, self.region, self.variation), self.dataset
        msg = ""
        if not all(isinstance(text, str) and text for text in astuple(self)):
            msg = "names must be texts that are not empty"
        elif len(set(grouped)) < 3 or single in grouped[1:]:
            msg = "the names of the axes must differ"
        elif len(set(labels)) < 3:
            msg = "the names of the three variations must differ"
        elif any(label in VARIATIONS and label != own for own, label in zip(VARIATIONS, labels, strict=True)):
            msg = f"a name of {', '.join(VARIATIONS)} cannot stand for another variation"
        if msg:
            msg = f"{msg}: {self}"
            raise ConfigurationError(msg)

    @staticmethod
    def preset(convention: str, systematic: str = "conserv") -> Names:
        """Names as a framework or a fit tool has them.

        Parameters
        ----------
        convention
            ``coffea`` (process, region, variation), ``combine`` and ``topcoffea`` (process, channel,
            systematic), ``columnflow`` (process, category, shift) or ``pocketcoffea`` (sample, cat,
            variation).
        systematic
            Name of the systematic, to which ``Up`` and ``Down`` are added, for columnflow ``_up`` and
            ``_down``.

        Raises
        ------
        ConfigurationError
            If there is no such convention.

        Examples
        --------
        >>> names = Names.preset("columnflow")
        >>> names.variation, names.up, names.down
        ('shift', 'conserv_up', 'conserv_down')
        """
        if convention not in _CONVENTIONS:
            msg = f"there are no names for {convention!r}; there are {', '.join(_CONVENTIONS)}"
            raise ConfigurationError(msg)
        given: Any = systematic
        if not isinstance(given, str) or not given:
            msg = f"systematic={systematic!r} must be a text that is not empty"
            raise ConfigurationError(msg)
        up, down = _SUFFIXES.get(convention, ("Up", "Down"))
        return Names(**_CONVENTIONS[convention], up=systematic + up, down=systematic + down)

    @property
    def labels(self) -> dict[str, str]:
        """Variation as this package calls it → its label."""
        return dict(zip(VARIATIONS, (self.nominal, self.up, self.down), strict=True))

    def own(self, label: Any) -> Any:
        """Variation that a label stands for, as this package calls it; anything else as it is."""
        return {label: own for own, label in self.labels.items()}.get(label, label)


def check_axes(names: Any, axes: Iterable[Any]) -> None:
    """Raise a ConfigurationError unless the axes of quantities can stand beside those that have names.

    Parameters
    ----------
    names
        What should be :class:`Names`.
    axes
        Axes of all quantities.
    """
    if not isinstance(names, Names):
        msg = f"names must be Names(…) or Names.preset(…), got {names!r:.80}"
        raise ConfigurationError(msg)
    taken = dict.fromkeys((*_IN_SUMS, names.process, names.dataset, names.region, names.variation))
    for axis in axes:
        if axis.name in taken:
            msg = (
                f"{axis!r} is called like another axis of its histogram ({', '.join(taken)}); rename it, or "
                "that one with names=Names(…)"
            )
            raise ConfigurationError(msg)
