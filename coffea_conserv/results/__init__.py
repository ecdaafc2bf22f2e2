"""Result of a run: verdict, fooling ratios, coverage and histograms of the merged sums."""

from __future__ import annotations

from coffea_conserv.results.blinding import Blinding
from coffea_conserv.results.loading import load_result
from coffea_conserv.results.result import Estimate, Result
from coffea_conserv.results.seeds import seed_spread

__all__ = ("Blinding", "Estimate", "Result", "load_result", "seed_spread")
