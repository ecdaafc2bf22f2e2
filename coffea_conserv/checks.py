"""Checks of single values, whose errors name the offender and the remedy."""

from __future__ import annotations

from collections.abc import Sequence

from coffea_conserv.errors import ConfigurationError

__all__ = ("check_choice",)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise unless the value is one of the choices."""
    if value not in choices:
        msg = f"{name}={value!r} is not known; choose one of {', '.join(choices)}"
        raise ConfigurationError(msg)
