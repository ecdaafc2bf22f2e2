"""How far events may move: limits on marginals, on correlations and on watched quantities."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.measures import RMS_PER_JSD

__all__ = ("Budget",)

_MARGINAL = ("rms", "band", "jsd")


@dataclass(frozen=True)
class Budget:
    """Limits that the attacked sample keeps in every dataset and region.

    Exactly one of ``rms``, ``band`` and ``jsd`` limits the marginals.

    Parameters
    ----------
    rms
        Largest r.m.s. relative deviation of the bins of a marginal, weighted by their content: 0.05 is 5 %.
    band
        Largest relative deviation of any bin: one number, or a dict feature → number.
    jsd
        Largest Jensen–Shannon distance (base 2) of a marginal. About rms / 2.355.
    correlation
        Largest ‖R′ − R‖ / ‖R‖ (Frobenius) of the weighted Pearson matrices of the features.
    watch
        Limit of watched quantities, as an r.m.s. relative deviation; judged as a Jensen–Shannon distance,
        which is finite where an empty bin fills.
    move
        ``0``: no event may move. The control that must reproduce nominal exactly.

    Notes
    -----
    A marginal limit of 0 is kept exactly where all weights of a group are equal. Where they vary, it means
    a tenth of the statistical floor of the sample (see :func:`coffea_conserv.measures.jsd_floor`).

    Examples
    --------
    >>> Budget(rms=0.05).kind
    'rms'
    >>> Budget(rms=0.05, jsd=0.02)
    Traceback (most recent call last):
        ...
    coffea_conserv.errors.ConfigurationError: give exactly one of rms=, band=, jsd=, got rms=0.05, jsd=0.02
    """

    rms: float | None = None
    band: float | Mapping[str, float] | None = None
    jsd: float | None = None
    correlation: float = 0.006
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
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "band" and isinstance(value, Mapping):
                for feature, part in value.items():
                    _check_limit(f"band[{feature!r}]", part)
            elif value is not None or field.default is not None:
                _check_limit(field.name, value)
        if isinstance(self.band, Mapping) and not self.band:
            msg = "band={} limits no feature; give one number, or a dict feature → number"
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
        """Limit of the marginal of one feature, in the measure :attr:`kind`."""
        value = getattr(self, self.kind)
        if isinstance(value, Mapping):
            if feature not in value:
                msg = f"band= has no entry for feature {feature!r}; it has {', '.join(sorted(value))}"
                raise ConfigurationError(msg)
            value = value[feature]
        return float(value or 0.0)

    def check_features(self, names: Collection[str]) -> None:
        """Raise unless the limits of single features name features, all that may move.

        Parameters
        ----------
        names
            Features that may move.
        """
        if not isinstance(self.band, Mapping) or self.frozen:
            return
        for name in names:
            self.marginal(name)
        unknown = sorted(set(self.band) - set(names))
        if unknown:
            msg = (
                f"band= has entries for {', '.join(unknown)}, which are no features that may move; "
                f"those are {', '.join(names)}"
            )
            raise ConfigurationError(msg)

    @property
    def watch_distance(self) -> float:
        """Limit of watched quantities as a Jensen–Shannon distance."""
        return self.watch / RMS_PER_JSD

    def meaning(self) -> str:
        """Say in the analyst's terms what the limits mean."""
        if self.frozen:
            return "no event may move"
        value = getattr(self, self.kind)
        if isinstance(value, Mapping):
            marginal = f"bins within {min(value.values()):.1%} … {max(value.values()):.1%} by feature"
        elif not value:
            marginal = "marginals exactly as nominal (a tenth of the statistical floor where weights vary)"
        elif self.kind == "jsd":
            marginal = f"Jensen-Shannon distance ≤ {value:g}, about {value * RMS_PER_JSD:.1%} r.m.s. per bin"
        else:
            measure = "r.m.s. of the bins" if self.kind == "rms" else "every bin"
            marginal = (
                f"{measure} within {value:.1%} (Jensen-Shannon distance about {value / RMS_PER_JSD:.4f})"
            )
        rest = f"correlation matrix within {self.correlation:g}; watched within {self.watch:.1%} r.m.s."
        return f"{marginal}; {rest}"


def _check_limit(name: str, value: Any) -> None:
    number = float(value) if isinstance(value, Real) else math.nan
    if not (number >= 0 and math.isfinite(number)):
        msg = f"{name}={value} must be a finite number ≥ 0"
        raise ConfigurationError(msg)
    if number > 1 and name not in ("correlation", "watch"):
        msg = f"{name}={value} is a fraction, so that 5 % is 0.05; jsd=1 leaves marginals free"
        raise ConfigurationError(msg)
