"""Plan of a run: its configuration, the attack, and how its processor is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coffea_conserv.running.configuration import Configuration

if TYPE_CHECKING:
    from coffea_conserv.plugin.conserv import Conserv

__all__ = ("Plan",)


@dataclass(frozen=True)
class Plan:
    """What is run.

    Parameters
    ----------
    config
        As it was read.
    conserv
        The attack.
    make
        Makes the processor with an attack.
    modules
        Names of the modules that were imported for it.
    """

    config: Configuration
    conserv: Conserv
    make: Callable[[Any], Any]
    modules: tuple[str, ...]
