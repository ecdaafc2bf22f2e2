"""The attack as a systematic of coffea's NanoEvents, beside those that an analysis has already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import awkward as ak
import numpy as np

from coffea_conserv.errors import InputError
from coffea_conserv.names import VARIATIONS
from coffea_conserv.sums.sums import Sums
from coffea_conserv.wrapper.bindings import column_path
from coffea_conserv.wrapper.event_attack import EventAttack

__all__ = ("add_systematic",)


def add_systematic(events: Any, attack: EventAttack, name: str = "conserv") -> Sums:
    """Attack the events of a chunk, and give them the result as a systematic.

    Afterwards ``events.systematics.conserv.up`` and ``….down`` are the events with attacked values, all
    columns of one attack together: coffea's kind ``UpDownMultiSystematic``, of the collections and flat
    branches that hold features that move. The events themselves stay nominal. Only these columns are read.

    Parameters
    ----------
    events
        NanoEvents as coffea's ``Runner`` hands them out. The systematic is registered with this object, and
        not with copies of it that were made before.
    attack
        What is attacked, and where it is.
    name
        Name of the systematic.

    Returns
    -------
    Sums
        To be returned by the processor, for ``Conserv.result``. Real data get no systematic.

    Raises
    ------
    InputError
        If there is such a systematic already, the events take none, or something is wrong with the columns.

    Notes
    -----
    It is one pair of up and down, made of one attack: coffea cannot combine it with a systematic of a single
    collection, ``events.Jet.add_systematic(…)``, which does not see it. Cross-references of the varied events
    (``….up.Muon.matched_jet``) lead to nominal objects, as with any systematic of coffea;
    :class:`~coffea_conserv.ConservProcessor` follows them.
    """
    if not hasattr(events, "add_systematic"):
        msg = f"{type(events).__name__} takes no systematics; give the NanoEvents of a Runner"
        raise InputError(msg)
    if "__systematics__" in events.fields and name in events.systematics.fields:
        msg = f"these events have a systematic {name!r} already; give name= another one"
        raise InputError(msg)
    attacked = attack(events)
    if attacked.events:
        pair = [attacked.events[direction] for direction in VARIATIONS[1:]]
        fields = list(dict.fromkeys(column_path(events, column)[0] for column in attack.moving))
        varied = _up_and_down(pair, fields)
        events.add_systematic(name, "UpDownMultiSystematic", fields, lambda _: varied)
    return attacked.sums


def _up_and_down(pair: Sequence[Any], fields: Sequence[str]) -> Any:
    """Two events as coffea wants them: a list of both for each event, of one field or a record of several."""
    parts = [
        one[fields[0]] if len(fields) == 1 else ak.zip({name: one[name] for name in fields}, depth_limit=1)
        for one in pair
    ]
    return ak.concatenate([part[:, np.newaxis] for part in parts], axis=1)
