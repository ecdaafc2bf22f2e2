"""Sums of chunks, which add up to the whole run, and the attacked events."""

from __future__ import annotations

from coffea_conserv.sums.sums import Sums

__all__ = ("Sums",)
