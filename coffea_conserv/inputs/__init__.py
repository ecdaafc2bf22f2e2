"""Columns, masks and weights of a user as checked NumPy arrays."""

from __future__ import annotations

from coffea_conserv.inputs.masks import Categories, Cuts

__all__ = ("Categories", "Cuts")
