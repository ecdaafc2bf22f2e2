"""The attack on arrays and tensors, without coffea or awkward."""

from __future__ import annotations

from coffea_conserv.attacks.api import Attacked, attack

__all__ = ("Attacked", "attack")
