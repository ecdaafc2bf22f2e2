"""Templates have no step at the working point with objective "score", and have one with "cross"."""

from __future__ import annotations

from functools import cache

import hist
import numpy as np
import pytest
import torch
from made_steps import excess_at
from torch import nn

from coffea_conserv import Budget, Feature, attack
from coffea_conserv.solvers.transport.solver import Transport

EDGES = np.linspace(0, 1, 21)
POINT = 0.5


class Products(nn.Module):
    """Two linear terms and two products, which neither marginals nor correlations pin down."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.8))

    def forward(self, x):
        """Give logits."""
        return self.scale * (x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3] + x[:, 4] + x[:, 5])


@cache
def scores(objective, direction):
    """Scores of six Gaussian features before and after the attack."""
    x = np.random.default_rng(2).normal(size=(10_000, 6)).astype(np.float32)
    features = [Feature(f"x{k}", hist.axis.Regular(40, -4, 4)) for k in range(6)]
    options = {"budget": Budget(rms=0.0, correlation=0.006), "solver": Transport(steps=40), "seed": 1}
    result = attack(
        x, Products(), features, direction=direction, objective=objective, working_point=POINT, **options
    )
    assert result.verdict.passed
    return result.score_nominal, result.score


def excess(objective, direction):
    """Significance by which the step at the working point exceeds the others."""
    pair = scores(objective, direction)
    before, after = (np.histogram(score, EDGES)[0] for score in pair)
    moves = np.histogram2d(*pair, bins=(EDGES, EDGES))[0]
    np.fill_diagonal(moves, 0)
    error = np.sqrt(moves.sum(0) + moves.sum(1))
    return excess_at(POINT, EDGES, before, after, error)


@pytest.mark.parametrize("direction", ["signal", "background"])
def test_the_mean_score_moves_without_a_step_at_the_working_point(direction):
    """What a fit sees is as smooth there as elsewhere."""
    before, after = scores("score", direction)
    shift = after.mean() - before.mean()
    assert abs(shift) > 0.05
    assert (shift > 0) == (direction == "signal")
    assert excess("score", direction) < 3


@pytest.mark.parametrize("direction", ["signal", "background"])
def test_crossing_the_working_point_leaves_a_step_there(direction):
    """The same criterion finds what templates must not have."""
    assert excess("cross", direction) > 4


def test_the_criterion_of_a_step():
    """A straight ratio has none, a jump has one, and one within the errors is none."""
    before, error = np.full(20, 1000.0), np.full(20, 10.0)
    straight = before * np.linspace(0.8, 1.2, 20)
    jump = np.where(EDGES[:-1] < POINT - 1e-9, 0.5, 2.0) * before
    assert excess_at(POINT, EDGES, before, straight, error) < 1
    assert excess_at(POINT, EDGES, before, jump, error) > 10
    assert excess_at(POINT, EDGES, before, jump, 50 * error) < 3
