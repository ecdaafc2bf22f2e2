"""The procedure of the paper: events moved one by one in their histograms."""

from __future__ import annotations

from coffea_conserv.solvers.search.solver import Search

__all__ = ("Search",)
