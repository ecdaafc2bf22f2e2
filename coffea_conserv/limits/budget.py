"""Budget: limits on marginals, on correlations and on watched quantities."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.limits.band import Band
from coffea_conserv.limits.measures import RMS_PER_JSD
from coffea_conserv.limits.noise import Floors

__all__ = ("Band", "Budget", "Chi2")

_MARGINAL = ("rms", "band", "jsd")

CORRELATION_ZERO = 1e-6
"""Change of correlations that a limit of 0 means: every exchange changes them by something, and what is 0 but
for the last exchanges is 0 to whoever looks at it."""


class _Declared(Protocol):
    """What is asked of a feature."""

    @property
    def name(self) -> str: ...

    @property
    def axis(self) -> Any: ...

    @property
    def frozen(self) -> bool: ...


@dataclass(frozen=True)
class Chi2:
    """Largest χ² of a marginal in a test with a declared number of events.

    Parameters
    ----------
    limit
        Largest n Σ (q − p)² / p over bins with nominal content, p and q normalised, above 0.
    events
        n: effective number of events of the sample in which the test is made, above 0.

    Notes
    -----
    With a number of events of its own the limit is the size of an effect, which does not grow with the
    sample: it is an r.m.s. deviation of √(limit / n), and merged chunks keep it.

    Examples
    --------
    >>> Chi2(20.0, events=50_000).rms
    0.02
    """

    limit: float
    events: float

    def __post_init__(self) -> None:
        for name, value in (("limit", self.limit), ("events", self.events)):
            if not 0 < _number(value) < math.inf:
                msg = f"Chi2(): {name}={value!r} must be a finite number above 0"
                raise ConfigurationError(msg)

    @property
    def rms(self) -> float:
        """The limit as an r.m.s. relative deviation of the bins."""
        return math.sqrt(self.limit / self.events)


@dataclass(frozen=True)
class Budget:
    """Limits that the attacked sample keeps in every dataset and region.

    Exactly one of ``rms``, ``band`` and ``jsd`` limits the marginals; ``ks`` and ``chi2`` limit them further.

    Parameters
    ----------
    rms
        Largest r.m.s. relative deviation of the bins of a marginal, weighted by their content: 0.05 is 5 %.
    band
        Largest relative deviation of any bin: one number, a :class:`Band` of limits by bin and side, or a
        dict feature → number or band.
    jsd
        Largest Jensen–Shannon distance (base 2) of a marginal. About rms / 2.355.
    ks
        Largest difference of the cumulative distributions of a marginal over its bins, flow bins included,
        above 0. Of periodic features, which have no beginning, that of Kuiper: the largest difference of the
        content of any arc. Categories have no order and no such limit.
    chi2
        Largest χ² of a marginal at a declared number of events, :class:`Chi2`. Infinite, as ``rms``, where a
        bin fills that is empty nominally; bins with a negative nominal sum of weights are left out.
    correlation
        Largest ‖R′ − R‖ / ‖R‖ (Frobenius) of the weighted Pearson matrices of the features.
    correlation_element
        Largest |R′_jk − R_jk| of any pair of features. For both, less than 10⁻⁶, and 0 too, means 10⁻⁶.
    watch
        Limit of watched quantities, as an r.m.s. relative deviation; judged as a Jensen–Shannon distance,
        which is finite where an empty bin fills.
    move
        ``0``: no event may move. The control that must reproduce nominal exactly.

    Notes
    -----
    A marginal limit of 0 is kept exactly where all weights of a group are equal. Where they vary, it means
    a tenth of the statistical floor of the sample (see :func:`coffea_conserv.limits.measures.jsd_floor`).

    Examples
    --------
    >>> Budget(rms=0.05, ks=0.01, chi2=Chi2(20.0, events=50_000)).kind
    'rms'
    >>> Budget(rms=0.05, jsd=0.02)
    Traceback (most recent call last):
        ...
    coffea_conserv.errors.ConfigurationError: give exactly one of rms=, band=, jsd=, got rms=0.05, jsd=0.02
    """

    rms: float | None = None
    band: float | Band | Mapping[str, float | Band] | None = None
    jsd: float | None = None
    ks: float | None = None
    chi2: Chi2 | None = None
    correlation: float = 0.006
    correlation_element: float | None = None
    watch: float = 0.05
    move: float | None = None

    def __post_init__(self) -> None:
        if self.move not in (None, 0):
            msg = f"move=0 forbids every move and is the only value there is, got move={self.move}"
            raise ConfigurationError(msg)
        given = [name for name in _MARGINAL if getattr(self, name) is not None]
        if len(given) != 1 and not (not given and self.move == 0):
            named = ", ".join(f"{name}={getattr(self, name)}" for name in given) or "none"
            msg = f"give exactly one of rms=, band=, jsd=, got {named}"
            raise ConfigurationError(msg)
        for name in ("rms", "jsd", "ks", "correlation_element"):
            if getattr(self, name) is not None:
                _check_limit(name, getattr(self, name))
        for name in ("correlation", "watch"):
            _check_limit(name, getattr(self, name))
        self._check_band()
        if self.ks is not None and not self.ks > 0:
            msg = "ks=0 would keep marginals as they are, which is rms=0; give a number above 0"
            raise ConfigurationError(msg)
        chi2: Any = self.chi2
        if not (chi2 is None or isinstance(chi2, Chi2)):
            msg = (
                f"chi2={self.chi2!r} must be Chi2(limit, events=…): a χ² means nothing without a sample size"
            )
            raise ConfigurationError(msg)

    def _check_band(self) -> None:
        parts = self.band if isinstance(self.band, Mapping) else {"": self.band}
        for feature, part in parts.items():
            if part is not None and not isinstance(part, Band):
                _check_limit(f"band[{feature!r}]" if feature else "band", part)
        if not parts:
            msg = "band={} limits no feature; give one number, or a dict feature → number or Band"
            raise ConfigurationError(msg)

    @property
    def kind(self) -> str:
        """Which measure limits the marginals: ``rms``, ``band`` or ``jsd``."""
        return next((name for name in _MARGINAL if getattr(self, name) is not None), "jsd")

    @property
    def frozen(self) -> bool:
        """Whether no event may move at all."""
        return self.move == 0

    def marginal(self, feature: str) -> float:
        """Limit of the marginal of one feature, in the measure :attr:`kind`; the largest one of a band."""
        value = self._given(feature)
        return value.largest if isinstance(value, Band) else float(value or 0.0)

    def sides(self, feature: str, axis: Any) -> NDArray[np.float64] | None:
        """Limits of the bins of one feature, down and up, shape (2, bins); ``None`` for a single number."""
        value = self._given(feature)
        return value.over(feature, axis) if isinstance(value, Band) else None

    def _given(self, feature: str) -> float | Band | None:
        value: float | Band | Mapping[str, float | Band] | None = getattr(self, self.kind)
        if not isinstance(value, Mapping):
            return value
        if feature not in value:
            msg = f"band= has no entry for feature {feature!r}; it has {', '.join(sorted(value))}"
            raise ConfigurationError(msg)
        return value[feature]

    def limits(self, feature: _Declared) -> bool:
        """Whether there is a limit for the marginal of a feature: a frozen one needs none."""
        return not (feature.frozen and isinstance(self.band, Mapping) and feature.name not in self.band)

    def check_features(self, features: Collection[_Declared]) -> None:
        """Raise unless the limits of single features name features, all that may move, and fit their bins.

        Parameters
        ----------
        features
            Features that may move.
        """
        if self.frozen or self.band is None:
            return
        names = [feature.name for feature in features]
        for feature in features:
            self.sides(feature.name, feature.axis)
        unknown = sorted(set(self.band) - set(names)) if isinstance(self.band, Mapping) else []
        if unknown:
            msg = (
                f"band= has entries for {', '.join(unknown)}, which are no features that may move; "
                f"those are {', '.join(names)}"
            )
            raise ConfigurationError(msg)

    def contains(self, other: Budget, features: Sequence[_Declared]) -> bool:
        """Whether everything that another budget allows is allowed here too, for features that may move.

        Examples
        --------
        >>> Budget(rms=0.1, ks=0.02).contains(Budget(rms=0.1), [])
        False
        """
        if other.frozen:
            return True
        if self.frozen or self.kind != other.kind:
            return False
        names = ("ks", "correlation", "correlation_element", "watch")
        pairs = [(other._free(name), self._free(name)) for name in names]
        pairs.append((other.chi2.rms if other.chi2 else math.inf, self.chi2.rms if self.chi2 else math.inf))
        if not all(small <= large for small, large in pairs):
            return False
        return all(bool(np.all(other._by_bin(f) <= self._by_bin(f))) for f in features)

    def _free(self, name: str) -> float:
        value = getattr(self, name)
        return math.inf if value is None else float(value)

    def _by_bin(self, feature: _Declared) -> NDArray[np.float64]:
        sides = self.sides(feature.name, feature.axis)
        return np.array(self.marginal(feature.name)) if sides is None else sides

    @property
    def correlation_limit(self) -> float:
        """Limit of the change of the correlation matrix, with what 0 means."""
        return max(float(self.correlation), CORRELATION_ZERO)

    @property
    def element_limit(self) -> float | None:
        """Limit of the change of single correlations, with what 0 means; ``None`` if there is none."""
        given = self.correlation_element
        return None if given is None else max(float(given), CORRELATION_ZERO)

    @property
    def watch_distance(self) -> float:
        """Limit of watched quantities as a Jensen–Shannon distance."""
        return self.watch / RMS_PER_JSD

    def below(self, floors: Floors) -> tuple[str, ...]:
        """Names of the limits that are smaller than what samples differ by, by chance; 0 is no such limit."""
        value = getattr(self, self.kind)
        parts = [self.marginal(name) for name in value] if isinstance(value, Mapping) else [self.marginal("")]
        limits = {
            self.kind: (min(parts), getattr(floors, self.kind)),
            "ks": (self._free("ks"), floors.ks),
            "chi2": (self.chi2.rms if self.chi2 else math.inf, floors.rms),
            "correlation": (self.correlation, floors.correlation),
            "correlation_element": (self._free("correlation_element"), floors.element),
        }
        if self.frozen:
            return ()
        return tuple(name for name, (limit, floor) in limits.items() if 0 < limit < floor)

    def meaning(self, *, events: float | None = None, bins: int = 40, features: int | None = None) -> str:
        r"""Say in the analyst's terms what the limits mean, and what a sample could see of them.

        Parameters
        ----------
        events
            Effective number of events (Σw)² / Σw² of a sample. If it is given, the text says what two such
            samples differ by, by chance, and which limits are below that.
        bins, features
            Number of bins with content, and of features.

        Examples
        --------
        >>> print(Budget(rms=0.05).meaning(events=1e4).split("; ")[-1].replace(" (", "\n("))
        two samples of 10,000 events differ by chance by 8.8% r.m.s. of 40 bins
        (distance 0.0375), 1.23% in KS: more than rms allow
        """
        if self.frozen:
            return "no event may move"
        rest = f"correlation matrix within {self.correlation_limit:g}"
        if self.element_limit is not None:
            rest += f", no element by more than {self.element_limit:g}"
        parts = [self._marginals(), *self._further(), rest, f"watched within {self.watch:.1%} r.m.s."]
        if events is not None:
            parts.append(self._chance(Floors(events, bins, features or 0), features))
        return "; ".join(parts)

    def _chance(self, floors: Floors, features: int | None) -> str:
        text = (
            f"two samples of {floors.events:,.0f} events differ by chance by {floors.rms:.1%} r.m.s. of "
            f"{floors.bins} bins (distance {floors.jsd:.4f}), {floors.ks:.2%} in KS"
        )
        if features is not None:
            text += f", {floors.correlation:.4f} in the correlation matrix"
        below = self.below(floors)
        return f"{text}: more than {', '.join(below)} allow" if below else text

    def _marginals(self) -> str:
        value = getattr(self, self.kind)
        if isinstance(value, Mapping):
            low, high = (pick(self.marginal(name) for name in value) for pick in (min, max))
            sides = (
                ", by bin and side where declared" if any(isinstance(v, Band) for v in value.values()) else ""
            )
            return f"bins within {low:.1%} … {high:.1%} by feature{sides}"
        if isinstance(value, Band):
            return f"every bin within −{np.max(value.low):.1%} … +{np.max(value.high):.1%} at most"
        if not value:
            return "marginals exactly as nominal (a tenth of the statistical floor where weights vary)"
        if self.kind == "jsd":
            return f"Jensen-Shannon distance ≤ {value:g}, about {value * RMS_PER_JSD:.1%} r.m.s. per bin"
        measure = "r.m.s. of the bins" if self.kind == "rms" else "every bin"
        return f"{measure} within {value:.1%} (Jensen-Shannon distance about {value / RMS_PER_JSD:.4f})"

    def _further(self) -> list[str]:
        found = []
        if self.ks is not None:
            found.append(f"cumulative distributions within {self.ks:.2%}")
        if self.chi2 is not None:
            limit, events = self.chi2.limit, self.chi2.events
            found.append(f"χ² ≤ {limit:g} at {events:,.0f} events, {self.chi2.rms:.1%} r.m.s. of the bins")
        return found


def _number(value: Any) -> float:
    return float(value) if not isinstance(value, bool) and isinstance(value, Real) else math.nan


def _check_limit(name: str, value: Any) -> None:
    number = float(value) if isinstance(value, Real) else math.nan
    if not (number >= 0 and math.isfinite(number)):
        msg = f"{name}={value} must be a finite number ≥ 0"
        raise ConfigurationError(msg)
    if number > 1 and name not in ("correlation", "correlation_element", "watch"):
        msg = f"{name}={value} is a fraction, so that 5 % is 0.05; jsd=1 leaves marginals free"
        raise ConfigurationError(msg)
