"""Copies of events that an analysis may write into, with cross-references that stay within the copy."""

from __future__ import annotations

import copy
import functools
import logging
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

__all__ = ("Copy", "ordered")

logger = logging.getLogger(__name__)

_FACTORY = "@events_factory"


class _Source:
    """Stands in for coffea's factory of events, so that references lead into a copy.

    coffea resolves ``events.Muon.matched_jet`` in the events that its factory has made, which would be the
    nominal ones.

    Parameters
    ----------
    factory
        The factory itself.
    events
        Where references lead to, as a function that returns the events. That is a weak reference for events
        that hold this object themselves: nothing then keeps itself in memory.
    """

    def __init__(self, factory: Any, events: Callable[[], Any]) -> None:
        self._factory, self._copy = factory, events

    def events(self) -> Any:
        """The copy that references lead to."""
        found = self._copy()
        return self._factory.events() if found is None else found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._factory, name)


class Copy:
    """Events of a chunk for one run of an analysis.

    Parameters
    ----------
    events
        Events, which stay as they are whatever the analysis writes into its copy.
    refer
        Events that cross-references lead to, of the same order in each collection as in the file; the copy
        itself if ``None``.
    """

    def __init__(self, events: Any, refer: Any = None) -> None:
        self.events = copy.copy(events)
        factory = events.attrs.get(_FACTORY)
        if factory is None or len(factory.events()) != len(events):
            _unreferred(type(events).__name__)
            return
        if refer is None:
            source = _Source(factory, weakref.ref(self.events))
        else:
            other = Copy(refer).events
            source = _Source(factory, lambda: other)
        self.events.attrs = {**self.events.attrs, _FACTORY: source}


@functools.cache
def _unreferred(kind: str) -> None:
    """Say once what cannot be followed."""
    logger.warning(
        "%s is not what coffea made, or a part of it: cross-references such as Muon.matched_jet, if there "
        "are any, show nominal values in the attacked events too; select events in the processor",
        kind,
    )


def ordered(events: Any, by: Mapping[str, str], touched: Mapping[str, NDArray[np.bool_]]) -> Any:
    """Events in which collections are in falling order again wherever one of their objects has moved.

    Parameters
    ----------
    events
        Attacked events.
    by
        Collection → field by which it is ordered.
    touched
        Collection → which events have an object that moved. All others keep the order that they have.

    Returns
    -------
    awkward.Array
        The events; cross-references that others hold to these collections count in the old order.
    """
    for collection, field in by.items():
        moved = touched.get(collection)
        if moved is None or not moved.any():
            continue
        objects = events[collection]
        falling = ak.argsort(objects[field], axis=1, ascending=False, stable=True)
        order = ak.where(moved, falling, ak.local_index(objects[field], axis=1))
        events = ak.with_field(events, objects[order], collection)
    return events
