"""Interval of a parameter: where the profile of −2 log L has risen by 1, and not where a search has stopped.

An attack that changes yields or shapes in one direction only, as ``sides="one"`` makes of any, leads to a
likelihood with a kink at the best value. MINOS then follows the other side of the kink, into a minimum that
is none, and calls an end valid that is several times too near or too far. Its ends are a first guess here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ("Profile", "profile")

CLOSE = 0.03
"""How far from 1 the rise at an end may be: 1.5 % of the distance."""

FALL = -0.1
"""Rise below which there is another minimum elsewhere."""

STEPS = 30
"""Most points of a profile that are looked at on one side."""


@dataclass(frozen=True)
class Profile:
    """Interval of a parameter about its best value.

    Parameters
    ----------
    lower, upper
        Distances of its ends, the lower one negative.
    is_valid
        Whether the profile could be followed to both of them.
    at_lower_limit, at_upper_limit
        Whether it was not above 1 even at the bound of the parameter.
    """

    lower: float
    upper: float
    is_valid: bool
    at_lower_limit: bool
    at_upper_limit: bool


class _End(NamedTuple):
    """Distance of an end, and whether it is that of the bound."""

    distance: float
    stuck: bool = False


def profile(
    rise: Callable[[float], float], guess: tuple[float, float], bounds: tuple[float, float]
) -> Profile:
    """Find the interval of a parameter.

    Parameters
    ----------
    rise
        Distance from the best value → −2 log L above that of the best value, with all other parameters at
        their best; ``nan`` where there is no fit.
    guess, bounds
        Distances of the ends, roughly, and of the bounds, the lower ones negative.

    Examples
    --------
    >>> profile(lambda x: x**2 / 4 if x > 0 else x**2, (-1.5, 1.5), (-10.0, 10.0))
    Profile(lower=-1.0, upper=2.0, is_valid=True, at_lower_limit=False, at_upper_limit=False)
    """
    lower, upper = (_end(rise, one, bound) for one, bound in zip(guess, bounds, strict=True))
    valid = not (math.isnan(lower.distance) or math.isnan(upper.distance))
    return Profile(lower.distance, upper.distance, valid, lower.stuck, upper.stuck)


def _end(rise: Callable[[float], float], guess: float, bound: float) -> _End:
    """Walk outward until the rise is above 1, then go between: the root of the rise is nearly linear."""
    near, far, low, here = 0.0, math.nan, 0.0, _within(guess, bound)
    for _ in range(STEPS):
        height = rise(here)
        if math.isnan(height) or height < FALL:
            break
        if abs(height - 1) <= CLOSE:
            return _End(here)
        if height < 1 and here == bound:
            return _End(bound, stuck=True)
        if height < 1:
            near, low = here, math.sqrt(max(height, 0.0))
        else:
            far = here
            top = math.sqrt(height)
        if math.isnan(far):
            here = _within(2 * here, bound)
        else:
            share = min(max((1 - low) / (top - low), 0.1), 0.9)
            here = near + share * (far - near)
    return _End(math.nan)


def _within(distance: float, bound: float) -> float:
    return math.copysign(min(abs(distance), abs(bound)), bound)
