"""Evidence: tests that a validation in control regions could make, and how many events each needs."""

from __future__ import annotations

from coffea_conserv.evidence.effort import Effort, EventTest
from coffea_conserv.evidence.gather import Evidence, gather_evidence

__all__ = ("Effort", "EventTest", "Evidence", "gather_evidence")
