"""What a validation in control regions would see of an attack, test by test."""

from __future__ import annotations

from coffea_conserv.evidence.effort import Effort, EventTest
from coffea_conserv.evidence.gather import Evidence, gather_evidence

__all__ = ("Effort", "EventTest", "Evidence", "gather_evidence")
