"""Inputs of the model as a user declares them, and their binning."""

from __future__ import annotations

from coffea_conserv.features.feature import Feature
from coffea_conserv.features.folds import fold_index

__all__ = ("Feature", "fold_index")
