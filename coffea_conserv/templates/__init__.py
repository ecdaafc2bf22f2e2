"""Nominal, Up and Down templates, and what is done to them before a fit."""

from __future__ import annotations

from coffea_conserv.templates.envelopes import envelope
from coffea_conserv.templates.naming import SafeNames, safe_names
from coffea_conserv.templates.template import RobustnessSystematic
from coffea_conserv.templates.templates import Templates
from coffea_conserv.templates.treatment import Treatment

__all__ = ("RobustnessSystematic", "SafeNames", "Templates", "Treatment", "envelope", "safe_names")
