"""Loaded models, one or one per fold, evaluated in mini-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coffea_conserv.errors import FAILURES, ModelError
from coffea_conserv.features.trial import ranges
from coffea_conserv.models.device import BUFFER, OUT_OF_MEMORY

__all__ = ("Network", "slopes")


@dataclass(frozen=True)
class Network:
    """Model, or models by fold, evaluated in mini-batches.

    Parameters
    ----------
    models
        One model, or one per fold.
    fold
        Fold of each event, shape (events,); ``None`` with one model.
    batch
        Events per evaluation.
    """

    models: tuple[Callable[[Tensor], Tensor], ...]
    fold: Tensor | None
    batch: int = BUFFER["cpu"]

    def __call__(self, x: Tensor, event: Tensor) -> Tensor:
        """Give logits of candidates, shape (candidates,).

        Parameters
        ----------
        x
            Features, shape (candidates, features).
        event
            Index of the event of each candidate, which routes it to its fold's model.
        """
        if not len(x):
            return x.new_zeros(0)
        with torch.set_grad_enabled(x.requires_grad):
            if self.fold is None or len(self.models) == 1:
                return self._evaluate(0, x)
            fold = self.fold[event]
            logits = x.new_zeros(len(x))
            for k in range(len(self.models)):
                of = (fold == k).nonzero()[:, 0]
                if len(of):
                    logits = logits.index_copy(0, of, self._evaluate(k, x[of]))
            return logits

    @property
    def gradient(self) -> bool:
        """Whether all models can have a gradient."""
        return all(getattr(model, "gradient", True) for model in self.models)

    def _evaluate(self, k: int, x: Tensor) -> Tensor:
        parts = [_logit(self.models[k], part) for part in torch.split(x, self.batch)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _logit(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return model(x).reshape(-1).to(x.dtype)


def slopes(
    logit: Callable[[Tensor, Tensor], Tensor], x: Tensor, event: Tensor, names: Sequence[str]
) -> Tensor | None:
    """Gradient of the logit of each event, shape (events, features); ``None`` if there is none.

    Parameters
    ----------
    logit
        Gives logits of candidates for events, shape (candidates,).
    x, event
        Features, shape (events, features), and the index of each event.
    names
        Names of the features, for messages.

    Raises
    ------
    ModelError
        Whatever the model raises on the way back.
    """
    leaf = x.clone().requires_grad_(True)
    with torch.enable_grad():
        total = logit(leaf, event).sum()
    if not total.requires_grad:
        return None
    try:
        return torch.autograd.grad(total, leaf, allow_unused=True)[0]
    except OUT_OF_MEMORY:
        raise
    except FAILURES as error:
        where = ranges(names, x.detach().cpu().double().numpy())
        msg = (
            f"the gradient of the model fails for {len(x)} events at a time with {where}: "
            f"{type(error).__name__}: {error}"
        )
        raise ModelError(msg) from (None if isinstance(error, OSError) else error)
