"""A small classifier whose module starts from primary quantities and derives everything else inside."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

__all__ = ("Classifier", "export")


class Classifier(nn.Module, ABC):
    """Multilayer perceptron on derived quantities of the primary ones.

    Because m_T, m_vis and the like are computed here, an attack that moves a primary quantity moves them
    along and can never contradict them.

    Parameters
    ----------
    derived
        Number of derived quantities, the second dimension of :meth:`derive`.
    hidden
        Widths of the hidden layers. Their activation is SiLU: its gradient is smooth and never exactly 0.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, derived: int, hidden: tuple[int, ...] = (64, 32)) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(derived))
        self.register_buffer("scale", torch.ones(derived))
        widths = (derived, *hidden)
        layers: list[nn.Module] = []
        for wide, narrow in itertools.pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    @abstractmethod
    def derive(self, x: Tensor) -> Tensor:
        """Compute the inputs of the first layer.

        Parameters
        ----------
        x
            Primary quantities, shape (events, features).

        Returns
        -------
        torch.Tensor
            Derived quantities, shape (events, derived), finite for missing objects too.
        """

    @torch.no_grad()
    def standardise(self, x: Tensor, weight: Tensor) -> None:
        """Take centre and scale of the derived quantities from training events.

        Parameters
        ----------
        x
            Primary quantities, shape (events, features).
        weight
            Non-negative training weights, shape (events,).
        """
        derived = self.derive(x)
        share = (weight / weight.sum()).unsqueeze(1)
        center = (share * derived).sum(0)
        spread = (share * (derived - center).square()).sum(0).sqrt()
        self.center.copy_(center)
        self.scale.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    def forward(self, x: Tensor) -> Tensor:
        """Give one logit per event, above 0 toward signal.

        Parameters
        ----------
        x
            Primary quantities, shape (events, features), in the order of the analysis' columns.

        Returns
        -------
        torch.Tensor
            Logits, shape (events,).
        """
        logits: Tensor = self.layers((self.derive(x) - self.center) / self.scale)
        return logits.squeeze(-1)


def export(model: Classifier, features: int) -> torch.export.ExportedProgram:
    """Export a classifier with a dynamic number of events.

    Parameters
    ----------
    model
        The trained classifier; it is put into evaluation mode.
    features
        Number of primary quantities.

    Returns
    -------
    torch.export.ExportedProgram
        To be written with :func:`torch.export.save`.
    """
    model.eval()
    example = torch.ones(4, features)
    return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("events")},))
