"""Classifiers: what can be given as one, how it travels, and what it returns."""

from __future__ import annotations

from coffea_conserv.models.callback import Callback
from coffea_conserv.models.loading import Shared
from coffea_conserv.models.model import Model, Pickled
from coffea_conserv.models.output import Classes

__all__ = ("Callback", "Classes", "Model", "Pickled", "Shared")
