"""New values that an event could have: on the correct side, inside of the room that there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.features.binning import flow_index
from coffea_conserv.features.feature import Feature, present
from coffea_conserv.limits.displacement import allowed, within
from coffea_conserv.solvers.problem import Problem

__all__ = ("Column", "check_single")

Floats = NDArray[np.float64]
Changes = Callable[[Floats, Floats], Floats]
"""Wanted changes: ``changes(room, spread) -> (events, candidates)`` from two columns of shape (events, 1)."""


@dataclass(frozen=True)
class Column:
    """A feature as its candidates need it.

    Parameters
    ----------
    feature
        Its declaration.
    low, high
        Edges of each group, shape (groups,): of the axis, of the physical range or of the nominal values,
        whichever is the narrowest.
    spread
        Spread in each group, shape (groups,).
    whole
        Whether values are whole numbers and stay so.
    """

    feature: Feature
    low: Floats
    high: Floats
    spread: Floats
    whole: bool

    @staticmethod
    def make(problem: Problem, j: int) -> Column | None:
        """Column of a problem; ``None`` if nothing of it can move, or if its values have no order."""
        feature, there = problem.features[j], problem.there[:, j].cpu().numpy()
        if not (feature.axis.traits.ordered and bool(problem.free[:, j].any())):
            return None
        x = problem.x[:, j].cpu().numpy()[there].astype(np.float64)
        group = problem.group.cpu().numpy()[there]
        edges = np.asarray(feature.axis.edges, dtype=np.float64)
        low, high = np.full(problem.groups, np.inf), np.full(problem.groups, -np.inf)
        np.minimum.at(low, group, x)
        np.maximum.at(high, group, x)
        if feature.axis.traits.circular:
            low[:], high[:] = -np.inf, np.inf
        else:
            low, high = np.maximum(low, edges[0]), np.minimum(high, edges[-1])
        low = low if feature.low is None else np.maximum(low, feature.low)
        high = high if feature.high is None else np.minimum(high, feature.high)
        whole = not feature.axis.traits.continuous or bool((x == np.floor(x)).all())
        return Column(feature, low, high, problem.spread[:, j].cpu().numpy(), whole)

    def draw(
        self,
        x: NDArray[np.float32],
        nominal: NDArray[np.float32],
        group: NDArray[np.int64],
        sign: NDArray[Any],
        changes: Changes,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Candidates and which of them can be, shape (events, candidates) each.

        Parameters
        ----------
        x, nominal, group
            Values now and nominally, and groups of the events, shape (events,) each.
        sign
            +1 where a value is to rise, −1 where it is to fall, same shape.
        changes
            How far the candidates are to go.
        """
        now, up = x.astype(np.float64)[:, None], sign.astype(np.float64)[:, None]
        low, high, spread = (edge[group][:, None] for edge in (self.low, self.high, self.spread))
        axis, period = self.feature.axis, 0.0
        room = np.where(up > 0, high - now, now - low)
        if axis.traits.circular:  # half of the way round is as far as one can go
            period = float(axis.edges[-1] - axis.edges[0])
            room = np.minimum(room, period / 2)
        if self.feature.capped:
            room = np.minimum(room, self._left(x, nominal, sign)[:, None])
        change = changes(np.maximum(room, 0.0), spread)
        if self.whole:
            change = np.maximum(np.ceil(change - 1e-9), 1.0)
        fine = (change > 0) & (change <= room)
        moved = now + up * change
        if period:
            moved = axis.edges[0] + np.mod(moved - axis.edges[0], period)
        values = np.where(fine, moved, now).astype(np.float32)
        fine &= (values != x[:, None]) & present(self.feature, values)
        fine &= (values >= low) & (values <= high)
        if self.feature.capped:
            fine &= np.stack([within(self.feature, nominal, new) for new in values.T], axis=1)
        return values, fine

    def _left(self, x: NDArray[np.float32], nominal: NDArray[np.float32], sign: NDArray[Any]) -> Floats:
        """How far values can go on before they are at their cap, shape (events,)."""
        gone, period = x.astype(np.float64) - nominal, self.feature.period
        if np.isfinite(period):
            gone = np.mod(gone + period / 2, period) - period / 2
        return np.asarray(allowed(self.feature, nominal) - sign * gone)

    def bins(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Bins of the axis itself, of the shape of the values."""
        return flow_index(self.feature.axis, values.reshape(-1)).reshape(values.shape)


def check_single(features: Sequence[Feature]) -> None:
    """Raise if features move together: new values are made for one feature at a time."""
    names = [feature.name for feature in features if feature.moves_with is not None]
    if names:
        msg = (
            f"solver 'search' makes new values feature by feature and cannot keep {', '.join(names)} with "
            "what moves_with= names; use 'transport', or freeze both"
        )
        raise ConfigurationError(msg)
