"""The call inside of a coffea processor, and a chunk in all of its variations."""

from __future__ import annotations

from coffea_conserv.plugin.conserv import Conserv

__all__ = ("Conserv",)
