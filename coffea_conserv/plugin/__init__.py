"""The call inside a coffea processor."""

from __future__ import annotations

from coffea_conserv.plugin.conserv import Conserv

__all__ = ("Conserv",)
