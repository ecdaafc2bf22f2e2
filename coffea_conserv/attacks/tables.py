"""Bins of the limited tables for candidate events."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from coffea_conserv.attacks.batch import below_one, named
from coffea_conserv.attacks.task import Task
from coffea_conserv.features.feature import Feature, Watched

__all__ = ("Binning",)


class Binning:
    """Bins of the limited tables: marginals that can change, watched quantities, the score if asked for.

    The last bin means "not there". Bins of marginals come from the axes themselves and travel with the
    values, so that no rounding can put a value into another bin than a histogram does.
    """

    def __init__(
        self,
        task: Task,
        marginals: list[int],
        context: dict[str, Tensor],
        device: torch.device,
        *,
        scored: bool = False,
    ) -> None:
        self.watched, self.context = task.watched, context
        self.names = [feature.name for feature in task.features]
        self.marginals = torch.tensor(marginals, dtype=torch.long, device=device)
        self.of = torch.full((len(task.features),), -1, dtype=torch.long, device=device)
        self.of[self.marginals] = torch.arange(len(marginals), device=device)
        quantities: list[Feature | Watched] = [*(task.features[j] for j in marginals), *task.watched]
        self.extra = len(task.watched) + int(scored)
        self.scored = torch.as_tensor(task.score_edges, device=device) if scored else None
        self.size = max([*(q.axis.extent for q in quantities), len(task.score_edges) if scored else 0]) + 1
        self.dtype = torch.int16 if self.size < 2**15 else torch.int32  # one per event and table is a lot
        edges = [np.asarray(w.axis.edges, dtype=np.float64) for w in task.watched]
        self.edges = [torch.as_tensor(edge, device=device) for edge in edges]

    def nominal(self, x: Tensor, bins: Iterable[Tensor], logit: Tensor) -> Tensor:
        """Bins of the nominal events, shape (events, tables); −1 in ``bins`` means "not there"."""
        columns = [torch.where(column < 0, self.size - 1, column).to(self.dtype) for column in bins]
        columns += self.derived(x, logit, torch.arange(len(x), device=x.device)).unbind(1)
        return torch.stack(columns, dim=1) if columns else x.new_zeros((len(x), 0), dtype=self.dtype)

    def tables(self, feature: Tensor) -> Tensor:
        """Tables in which something changes with these features, shape (pairs, columns)."""
        count = len(self.marginals)
        derived = torch.arange(count, count + self.extra, device=feature.device).expand(len(feature), -1)
        if not count:
            return derived
        return torch.cat([self.of[feature], derived], dim=1)

    def derived(self, x: Tensor, logit: Tensor, event: Tensor) -> Tensor:
        """Bins of what is derived from candidates of given events, shape (candidates, derived)."""
        columns = self._watch(x, event) + self._score(logit)
        if not columns:
            return x.new_zeros((len(x), 0), dtype=self.dtype)
        return torch.stack([column.to(self.dtype) for column in columns], dim=1)

    def _watch(self, x: Tensor, event: Tensor) -> list[Tensor]:
        found = []
        with torch.no_grad():
            columns = named(x, self.names, self.context, event) if self.watched else {}
            for watched, edges in zip(self.watched, self.edges, strict=True):
                value = watched.function(columns).reshape(-1).double()
                if watched.axis.traits.circular:
                    value = edges[0] + torch.remainder(value - edges[0], edges[-1] - edges[0])
                cell = torch.bucketize(value, edges, right=True) - 1 + int(watched.axis.traits.underflow)
                cell = cell.clamp(0, watched.axis.extent - 1)
                found.append(torch.where(torch.isnan(value), self.size - 1, cell))
        return found

    def _score(self, logit: Tensor) -> list[Tensor]:
        if self.scored is None:
            return []
        cell = torch.bucketize(below_one(torch.sigmoid(logit)).double(), self.scored, right=True) - 1
        return [cell.clamp(0, len(self.scored) - 2)]
