"""Features that may move and quantities derived from them, as a user declares them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.checks import as_flag
from coffea_conserv.errors import ConfigurationError
from coffea_conserv.features.binning import FloatArray, check_axis

__all__ = ("Feature", "Watched", "blocks", "check_features", "make_watched", "present")


_SHIFTS = ("max_shift", "max_relative_shift", "resolution", "relative_resolution")


@dataclass(frozen=True)
class Feature:
    """A primary quantity that goes into the model.

    Parameters
    ----------
    name
        Name of the column.
    axis
        Any axis of :mod:`hist` with a bin for every number, under- and overflow included: those are the bins
        in which the marginal is conserved. A circular axis makes the feature periodic.
    unit
        Unit for labels.
    label
        Text for plots; the label of the axis or the name if empty.
    frozen
        The feature never moves. Quantities that define a region should be frozen.
    missing
        Value or values that mean "there is no such object". They never move and are left out of
        histograms, marginals and (pairwise) correlations. ``nan`` is possible. Entries of a column that are
        ``None`` or masked become this value, the first one if there are several.
    low, high
        Physical range. An event outside of it, whether nominal or attacked, is not attacked.
    moves_with
        Name of another feature whose values this one accompanies: an event that gets the other one's value
        of another event gets this one's of the same event. So a vector keeps its mass, and both stay as
        they are where one of them is missing.
    max_shift
        Largest |Δ| between the nominal and the attacked value of an event, in the unit of the feature; on the
        circle for a periodic one.
    max_relative_shift
        Largest |Δ| as a share of the nominal |value|. If both are given, both hold.
    resolution, relative_resolution
        σ of a measured value, in the unit of the feature and as a share of the nominal |value|; both together
        add in quadrature. Moves in units of σ are reported, and cost ``penalty`` where an attack has one.

    Examples
    --------
    >>> import hist
    >>> Feature("jpt_1", hist.axis.Regular(40, 30, 430), unit="GeV", missing=-999.0).title
    'jpt_1 [GeV]'
    """

    name: str
    axis: Any
    unit: str = ""
    label: str = ""
    frozen: bool = False
    missing: float | Sequence[float] | None = None
    low: float | None = None
    high: float | None = None
    moves_with: str | None = None
    max_shift: float | None = None
    max_relative_shift: float | None = None
    resolution: float | None = None
    relative_resolution: float | None = None

    def __post_init__(self) -> None:
        check_axis(self.name, self.axis)
        object.__setattr__(self, "frozen", as_flag(f"feature {self.name!r}: frozen", self.frozen))
        for name in _SHIFTS:
            if getattr(self, name) is not None:
                _check_shift(self, name, getattr(self, name))
        if self.low is not None and self.high is not None and not self.low < self.high:
            msg = f"feature {self.name!r}: low={self.low} must be below high={self.high}"
            raise ConfigurationError(msg)

    @property
    def title(self) -> str:
        """Text for plots, with the unit."""
        return _title(self.name, self.label or self.axis.label, self.unit)

    @property
    def capped(self) -> bool:
        """Whether there is a largest |Δ|."""
        return not (self.max_shift is None and self.max_relative_shift is None)

    @property
    def resolved(self) -> bool:
        """Whether there is a resolution."""
        return not (self.resolution is None and self.relative_resolution is None)

    @property
    def period(self) -> float:
        """Length of the circle; infinite if the feature is not periodic."""
        edges = self.axis.edges
        return float(edges[-1] - edges[0]) if self.axis.traits.circular else math.inf

    @property
    def missing_values(self) -> tuple[float, ...]:
        """Values that mean "no such object"."""
        if self.missing is None:
            return ()
        if isinstance(self.missing, Sequence):
            return tuple(float(value) for value in self.missing)
        return (float(self.missing),)

    @property
    def absent(self) -> float | None:
        """What an object becomes that is not there: the first of the missing values."""
        return self.missing_values[0] if self.missing_values else None


@dataclass(frozen=True)
class Watched:
    """A quantity derived from the features, which the attack must leave alone within a limit.

    Parameters
    ----------
    name
        Name of the quantity.
    function
        Torch function of a dict name → tensor (events,) of features and context; returns a tensor of shape
        (events,), NaN where the quantity is not defined.
    axis
        Any axis of :mod:`hist` with a bin for every number.
    """

    name: str
    function: Callable[[dict[str, Any]], Any]
    axis: Any

    def __post_init__(self) -> None:
        check_axis(self.name, self.axis)
        if not self.axis.traits.ordered:
            msg = (
                f"watch[{self.name!r}]: categories have no order; use hist.axis.Regular, Variable or Integer"
            )
            raise ConfigurationError(msg)
        given: Any = self.function
        if not callable(given):
            msg = f"watch[{self.name!r}]: a function of the features is needed, got {self.function!r}"
            raise ConfigurationError(msg)

    @property
    def title(self) -> str:
        """Text for plots."""
        return _title(self.name, self.axis.label, "")

    @property
    def missing_values(self) -> tuple[float, ...]:
        """A watched quantity is missing where it is not a number."""
        return (math.nan,)


def _title(name: str, label: str, unit: str) -> str:
    text = label or name
    return f"{text} [{unit}]" if unit and "[" not in text else text


def _check_shift(feature: Feature, name: str, value: Any) -> None:
    """Raise a ConfigurationError unless a size of moves means something for a feature."""
    traits, msg = feature.axis.traits, ""
    size = float(value) if not isinstance(value, bool) and isinstance(value, Real) else math.nan
    if not (math.isfinite(size) and size > 0):
        msg = "must be a finite number above 0; what never moves is frozen=True"
    elif not traits.ordered:
        msg = "means nothing for categories, which have no distance; leave it out"
    elif traits.circular and "relative" in name:
        msg = f"means nothing for a periodic feature; use {name.replace('relative_', '')}, in its unit"
    elif name == "max_shift" and not traits.continuous and size < 1:
        msg = "lets no whole number move; use 1 or more, or frozen=True"
    if msg:
        msg = f"feature {feature.name!r}: {name}={value!r} {msg}"
        raise ConfigurationError(msg)


def present(quantity: Feature | Watched, values: FloatArray) -> NDArray[np.bool_]:
    """Tell which values are there, that is not one of ``missing``, shape (events,)."""
    there = np.ones(values.shape, dtype=bool)
    for missing in quantity.missing_values:
        # The column may be in single precision, where -999.9 is another number.
        there &= ~np.isnan(values) if math.isnan(missing) else values != values.dtype.type(missing)
    return there


def check_features(features: Sequence[Feature]) -> tuple[Feature, ...]:
    """Check a list of features for duplicate names and return it as a tuple.

    Raises
    ------
    ConfigurationError
        If there is none, if something else is in the list, if a name is there twice, or if it is ``score``.
    """
    made = tuple(features)
    if not made:
        msg = "at least one feature is needed"
        raise ConfigurationError(msg)
    given: Any
    for given in made:
        if not isinstance(given, Feature):
            msg = f"features must be a list of Feature, got {given!r}"
            raise ConfigurationError(msg)
    names = [feature.name for feature in made]
    if "score" in names:
        msg = "a feature cannot be called 'score': this is the output of the model; choose another name"
        raise ConfigurationError(msg)
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        msg = f"feature names must differ, {', '.join(double)} is there more than once"
        raise ConfigurationError(msg)
    _check_companions(made)
    return made


def _check_companions(features: tuple[Feature, ...]) -> None:
    """Check which features say that they move with another one."""
    by_name = {feature.name: feature for feature in features}
    for feature in features:
        lead = by_name.get(feature.moves_with or feature.name)
        where = f"feature {feature.name!r}: moves_with={feature.moves_with!r}"
        if lead is None or (lead.moves_with is not None and lead is not feature):
            msg = f"{where} must name a feature that moves with no other one; {', '.join(by_name)} are there"
            raise ConfigurationError(msg)
        if feature.moves_with == feature.name:
            msg = f"{where} names the feature itself"
            raise ConfigurationError(msg)
        if lead.frozen is not feature.frozen:
            msg = f"{where}: one of the two is frozen; freeze both or none"
            raise ConfigurationError(msg)


def blocks(features: Sequence[Feature]) -> NDArray[np.int64]:
    """Features that move together.

    Returns
    -------
    numpy.ndarray
        For each feature the indices of its block, shape (features, members): the one that the others move
        with is first, and repeated where a block has fewer members than the largest one.

    Examples
    --------
    >>> import hist
    >>> axis = hist.axis.Regular(10, 0, 100)
    >>> blocks([Feature("pt", axis), Feature("eta", axis), Feature("mass", axis, moves_with="pt")])
    array([[0, 2],
           [1, 1],
           [0, 2]])
    """
    names = [feature.name for feature in features]
    leads = [names.index(feature.moves_with or feature.name) for feature in features]
    members = {lead: [lead] for lead in leads}
    for j, lead in enumerate(leads):
        if j != lead:
            members[lead].append(j)
    most = max(len(block) for block in members.values())
    rows = [members[lead] + [lead] * (most - len(members[lead])) for lead in leads]
    return np.array(rows, dtype=np.int64)


def make_watched(
    watch: Mapping[str, tuple[Any, Any]] | None, features: Sequence[Feature]
) -> tuple[Watched, ...]:
    """Make watched quantities from a dict name → (function, axis).

    Raises
    ------
    ConfigurationError
        If an entry is no such pair, or if a feature or the score has the same name.
    """
    made = []
    taken = {feature.name for feature in features} | {"score"}
    for name, entry in (watch or {}).items():
        if name in taken:
            msg = (
                f"watch[{name!r}]: this name belongs to a feature or to the score already; choose another one"
            )
            raise ConfigurationError(msg)
        given: Any = entry
        if not isinstance(given, tuple) or len(given) != 2:
            msg = f"watch[{name!r}] must be a pair (torch function, hist axis), got {entry!r}"
            raise ConfigurationError(msg)
        made.append(Watched(name, entry[0], entry[1]))
    return tuple(made)
