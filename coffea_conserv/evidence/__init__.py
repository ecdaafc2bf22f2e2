"""What a validation in control regions would see of an attack, test by test."""

from __future__ import annotations

from coffea_conserv.evidence.effort import EventTest, Settings
from coffea_conserv.evidence.gather import Evidence, gather_evidence

__all__ = ("EventTest", "Evidence", "Settings", "gather_evidence")
