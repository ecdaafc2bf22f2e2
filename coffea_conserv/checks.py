"""Checks of single values, whose errors name the offender and the remedy."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from coffea_conserv.errors import ConfigurationError, ConservError, InputError

__all__ = ("as_flag", "check_choice", "check_known", "check_whole")


def as_flag(name: str, value: Any, *, error: type[ConservError] = ConfigurationError) -> bool:
    """Read what says yes or no: a text such as ``"False"`` would count as yes.

    Parameters
    ----------
    name
        What the flag is called, for the message.
    value
        ``True``, ``False``, a Boolean of NumPy, 1 or 0.
    error
        What is raised for anything else.

    Examples
    --------
    >>> as_flag("data", 1), as_flag("data", False)
    (True, False)
    """
    if isinstance(value, bool | np.bool_) or (isinstance(value, Integral) and value in (0, 1)):
        return bool(value)
    msg = f"{name} must be true or false, got {value!r:.80}; write it without quotes"
    raise error(msg)


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise a ConfigurationError unless a value is a whole number that is not too small."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        msg = f"{name}={value!r:.80} must be a whole number from {least} on"
        raise ConfigurationError(msg)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise unless the value is one of the choices."""
    if value not in choices:
        msg = f"{name}={value!r} is not known; choose one of {', '.join(choices)}"
        raise ConfigurationError(msg)


def check_known(kind: str, name: Any, known: Collection[Any]) -> None:
    """Raise an InputError unless a name is among those that there are.

    Parameters
    ----------
    kind
        What the name is of, for the message.
    name, known
        The name, and all that there are.
    """
    if name not in known:
        msg = f"there is no {kind} {name!r}; there are {', '.join(map(str, known)) or 'none'}"
        raise InputError(msg)
