"""Small classifiers of three features, in every form in which a model can be given."""

from __future__ import annotations

import hist
import torch
from torch import nn

from coffea_conserv import Budget, Feature, attack
from coffea_conserv.solvers.transport.solver import Transport

CPU = torch.device("cpu")
NAMES = ["x", "y", "z"]
X = torch.randn(40, 3, generator=torch.Generator().manual_seed(4))


class Net(nn.Module):
    """A classifier of three features whose answer in training mode is another one."""

    def __init__(self, width=8):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, width), nn.BatchNorm1d(width), nn.SiLU(), nn.Dropout(0.5), nn.Linear(width, 1)
        )

    def forward(self, x):
        """Give logits."""
        return self.layers(x).squeeze(-1)


def net(seed=0, width=8):
    """Make a classifier in training mode whose batch norm has seen something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Net(width)
        made(2 + 3 * torch.randn(100, 3))
    return made


def evaluated(module, x=X):
    """Logits in evaluation mode, of a copy."""
    copy = Net(module.layers[0].out_features)
    copy.load_state_dict(module.state_dict())
    with torch.no_grad():
        return copy.eval()(x)


def exported(module, **options):
    """Export with a dynamic number of events."""
    options = {"dynamic_shapes": ({0: torch.export.Dim("events")},), **options}
    return torch.export.export(module, (torch.ones(4, 3),), **options)


class Dead(nn.Module):
    """A module of one's own, made to fail in some way."""

    def __init__(self, forward=None, scale=1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.how = forward

    def forward(self, x):
        """Give what is asked for."""
        return self.scale * x.sum(1) if self.how is None else self.how(x)


AXIS = hist.axis.Regular(20, -3, 3)
FEATURES = [Feature(name, AXIS) for name in NAMES]


def run_attack(model, **options):
    """Attack a few events, not well."""
    options = {"budget": Budget(rms=0.1), "seed": 1, "solver": Transport(steps=5), **options}
    return attack(X.numpy().repeat(5, axis=0), model, FEATURES, **options)
