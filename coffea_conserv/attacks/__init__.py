"""The attack on arrays and tensors: no coffea, no awkward."""

from __future__ import annotations

from coffea_conserv.attacks.api import Attacked, attack
from coffea_conserv.models.loading import Model

__all__ = ("Attacked", "Model", "attack")
