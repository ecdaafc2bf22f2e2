"""The attack on arrays and tensors: propose, obey the rules of events, judge what is returned."""

from __future__ import annotations

from coffea_conserv.attacks.api import Attacked, attack

__all__ = ("Attacked", "attack")
