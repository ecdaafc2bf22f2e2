"""Exchanges and copies of single values at the price that the limits put on them."""

from __future__ import annotations

from coffea_conserv.solvers.transport.solver import Transport

__all__ = ("Transport",)
