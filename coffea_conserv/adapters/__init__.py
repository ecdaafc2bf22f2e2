"""Forms that frameworks have for systematics and models of their own, made of the wrapper.

``systematics`` registers it with the events of coffea, ``calibrator`` is a calibrator after the interface of
PocketCoffea. Both are made of an :class:`~coffea_conserv.wrapper.EventAttack`. ``wrapped`` takes the models
of ``coffea.ml_tools``. No framework but coffea is imported.
"""

from __future__ import annotations

from coffea_conserv.adapters.calibrator import ConservCalibrator
from coffea_conserv.adapters.systematics import add_systematic
from coffea_conserv.adapters.wrapped import from_wrapper
from coffea_conserv.wrapper.event_attack import EventAttack

__all__ = ("ConservCalibrator", "EventAttack", "add_systematic", "from_wrapper")
