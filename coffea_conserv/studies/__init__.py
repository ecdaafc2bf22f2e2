"""Studies of an attack: baselines, controls, budgets side by side, and bounds."""

from __future__ import annotations

from coffea_conserv.studies.baselines import Compared, compare
from coffea_conserv.studies.bounds import fooling_bound, linear_bound
from coffea_conserv.studies.controls import run_controls
from coffea_conserv.studies.curve import fooling_curve

__all__ = ("Compared", "compare", "fooling_bound", "fooling_curve", "linear_bound", "run_controls")
