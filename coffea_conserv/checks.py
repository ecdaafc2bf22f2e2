"""Checks of single values, whose errors name the offender and the remedy."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from coffea_conserv.errors import ConfigurationError, InputError

__all__ = ("check_choice", "check_known")


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
