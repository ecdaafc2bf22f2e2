"""Outlook of a run: expected sizes of groups, cost and memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from coffea_conserv.limits.budget import Budget
from coffea_conserv.limits.noise import Floors

__all__ = ("SENSIBLE", "Cost", "ExpectedGroup", "Outlook")


SENSIBLE = 1000
"""Events of a group in a chunk: an attack on so many has four fifths and more of its strength on 6,000; see
``docs/commands.md``."""


@dataclass(frozen=True)
class ExpectedGroup:
    """What is to be expected of one dataset in one region.

    Parameters
    ----------
    dataset, region
        Which one.
    events
        Of the whole run, scaled up from those that were read.
    effective_events
        The same of (Σw)² / Σw².
    per_chunk
        Events of an average chunk.
    negative_share
        Share of negative weight.
    floors
        What two samples of the size of the whole run differ by, by chance.
    below
        Limits of the budget that are below that.
    chunk
        Smallest sensible number of events that a chunk should read, so that the group has
        :data:`SENSIBLE` events in it, or all that there are.
    """

    dataset: str
    region: str
    events: float
    effective_events: float
    per_chunk: float
    negative_share: float
    floors: Floors
    below: tuple[str, ...]
    chunk: float


@dataclass(frozen=True)
class Cost:
    """What the run takes, from what a part of it took here.

    Parameters
    ----------
    seconds
        One core, all chunks, the analysis included.
    attack
        Share of it that the attack takes.
    memory
        Largest memory of this process [bytes] after one chunk of each dataset, libraries included.
    tried
        Events that were read to find out.
    model
        Bytes of the models that each chunk carries.
    """

    seconds: float
    attack: float
    memory: int
    tried: int
    model: int


@dataclass(frozen=True)
class Outlook:
    """What a run will be.

    Parameters
    ----------
    config
        Hash of the configuration.
    datasets
        Dataset → number of events, and of chunks.
    budget
        The limits.
    groups
        Simulated datasets by region.
    cost
        Time and memory.
    """

    config: str
    datasets: Mapping[str, tuple[int, int]]
    budget: Budget
    groups: tuple[ExpectedGroup, ...]
    cost: Cost

    @property
    def chunk(self) -> float:
        """Smallest sensible number of events that a chunk should read."""
        return max((group.chunk for group in self.groups), default=math.nan)
