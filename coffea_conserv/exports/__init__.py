"""Files for fit tools, the impact on a signal strength, and event weights."""

from __future__ import annotations

from coffea_conserv.exports.combine import write_combine
from coffea_conserv.exports.histfactory import (
    cabinetry_config,
    make_workspace,
    write_cabinetry,
    write_workspace,
)
from coffea_conserv.exports.impact import FitImpact, fit_impact
from coffea_conserv.exports.measurement import Measurement, check_measurement
from coffea_conserv.exports.naming import FitNames, fit_names
from coffea_conserv.exports.weights import make_weights, write_weights

__all__ = (
    "FitImpact",
    "FitNames",
    "Measurement",
    "cabinetry_config",
    "check_measurement",
    "fit_impact",
    "fit_names",
    "make_weights",
    "make_workspace",
    "write_cabinetry",
    "write_combine",
    "write_weights",
    "write_workspace",
)
