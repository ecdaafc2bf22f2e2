"""Classifiers: forms in which one can be given, how it travels, and its output as one logit."""

from __future__ import annotations

from coffea_conserv.models.callback import Callback
from coffea_conserv.models.loading import Shared
from coffea_conserv.models.model import Model, Pickled
from coffea_conserv.models.output import Classes

__all__ = ("Callback", "Classes", "Model", "Pickled", "Shared")
