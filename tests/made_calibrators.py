"""What a framework with calibrators does, after the public interface of PocketCoffea."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import ClassVar

import numpy as np


class Registry(ABCMeta):
    """Knows calibrators by name."""

    known: ClassVar = {}

    def __new__(cls, name, bases, content):
        """Register what derives from the base class and has a name."""
        made = super().__new__(cls, name, bases, content)
        if content.get("name") and any(base.__name__ == "Calibrator" for base in bases):
            Registry.known[content["name"]] = made
        return made


class Calibrator(metaclass=Registry):
    """The base class of calibrators."""

    name = "base"
    has_variations = False
    isMC_only = False  # noqa: N815 -- name of the interface
    calibrated_collections: ClassVar = []
    labels: ClassVar = []

    def __init__(self, params=None, metadata=None, do_variations=True, **kwargs):  # noqa: FBT002
        self.metadata = metadata

    @property
    def variations(self):
        """Labels of the variations."""
        return self.labels

    @abstractmethod
    def initialize(self, events):
        """Prepare a chunk."""

    @abstractmethod
    def calibrate(self, events, events_original_collections, variation, already_applied_calibrators=None):
        """Give the columns of a variation."""


class Scale(Calibrator):
    """A scale of the missing momentum, with its uncertainty."""

    name = "scale"
    has_variations = True
    calibrated_collections: ClassVar = ["MET.pt"]
    labels: ClassVar = ["scaleUp", "scaleDown"]

    def initialize(self, events):
        """Nothing to prepare."""

    def calibrate(self, events, events_original_collections, variation, already_applied_calibrators=None):
        """Scale; up and down are 10 % of it."""
        factor = {"scaleUp": 1.2, "scaleDown": 1.0}.get(variation, 1.1)
        return {"MET.pt": events.MET.pt * np.float32(factor)}


def driver(classes, events, metadata, wanted=None):
    """Make the calibrators of a chunk; label, events and calibrators of every variation, nominal first.

    Columns are put into the events in place, and taken out again before the next variation.
    """
    made = [
        kind(None, metadata, do_variations=wanted is None or kind.name in wanted, jme_factory=None)
        for kind in classes
        if metadata["isMC"] or not kind.isMC_only
    ]
    for calibrator in made:
        calibrator.initialize(events)
    labels = dict.fromkeys(v for c in made if c.has_variations for v in c.variations)
    for label in ("nominal", *labels):
        originals, applied = {}, []
        for calibrator in made:
            columns = calibrator.calibrate(events, originals, label, already_applied_calibrators=applied)
            assert set(columns) <= set(calibrator.calibrated_collections)
            for column, values in columns.items():
                place = tuple(column.split("."))
                originals.setdefault(column, events[place])
                events[place] = values
            applied.append(calibrator.name)
        yield label, events, made
        for column, values in originals.items():
            events[tuple(column.split("."))] = values
