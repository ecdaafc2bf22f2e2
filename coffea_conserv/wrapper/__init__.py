"""An unmodified analysis, run on nominal and on attacked events in one coffea processor.

``bindings`` finds the values of features in the columns of events and writes new ones back, ``event_attack``
says which events are attacked and makes the attacked ones, ``copies`` hands out events that an analysis may
write into, ``outputs`` joins what it returns, ``migration`` counts who changes sides, and ``processor`` puts
all of it into one coffea processor.
"""

from __future__ import annotations

from coffea_conserv.wrapper.bindings import Bound
from coffea_conserv.wrapper.event_attack import AttackedEvents, EventAttack
from coffea_conserv.wrapper.migration import Migration, migrations
from coffea_conserv.wrapper.outputs import Variations, variation_of
from coffea_conserv.wrapper.processor import ConservProcessor

__all__ = (
    "AttackedEvents",
    "Bound",
    "ConservProcessor",
    "EventAttack",
    "Migration",
    "Variations",
    "migrations",
    "variation_of",
)
