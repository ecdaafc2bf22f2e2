"""Limits as declared, as measured, and as judged, in double precision."""

from __future__ import annotations

from coffea_conserv.limits.band import Band
from coffea_conserv.limits.budget import Budget, Chi2
from coffea_conserv.limits.projection import allowed
from coffea_conserv.limits.verdict import Verdict

__all__ = ("Band", "Budget", "Chi2", "Verdict", "allowed")
