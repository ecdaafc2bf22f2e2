"""Solvers: events moved toward a goal within limits, as tensors on one device."""

from __future__ import annotations

from coffea_conserv.solvers.protocol import Solver

__all__ = ("Solver",)
