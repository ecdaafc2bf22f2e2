"""The number of threads that a process has decides nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_CHILD = """
import hashlib
import hist, numpy as np, torch
from coffea_conserv import Budget, Feature, attack
from coffea_conserv.solvers.search.solver import Search
from coffea_conserv.solvers.transport.solver import Transport

assert torch.get_num_threads() == {threads}, torch.get_num_threads()
torch.manual_seed(0)

class Normed(torch.nn.Module):
    # A sum over all parameters has another order, and other bits, on two threads than on one.
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(4, 100_000), torch.nn.Linear(32, 1)

    def forward(self, x):
        hidden = torch.relu(torch.nn.functional.linear(x, self.first.weight[:32]))
        return self.last(hidden)[:, 0] + self.first.weight.sum() / 1e4

model = Normed().eval()
rng = np.random.default_rng(0)
x = rng.normal(size=({events}, 4)).astype(np.float32)
features = [Feature(name, hist.axis.Regular(20, -3, 3)) for name in "abcd"]
solver = {solver}
result = attack(
    x, model, features, weights=rng.uniform(0.5, 2, len(x)), groups=np.arange(len(x)) % 3,
    budget=Budget(rms=0.05, correlation=0.02), solver=solver, seed=1,
)
assert result.verdict.passed and (result.x != x).any()
assert torch.get_num_threads() == {threads}
bits = result.x.tobytes() + result.score.tobytes() + str(result.verdict.limits).encode()
print(hashlib.sha256(bits).hexdigest())
"""


def bits_of(threads, solver, events):
    """Hash of what an attack gives in a process of so many threads."""
    child = _CHILD.format(threads=threads, solver=solver, events=events)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", child]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("solver", "events"),
    [("Transport(steps=6)", 60_000), ("Search(num_candidates=5, iterations=1)", 6_000)],
)
def test_the_number_of_threads_changes_no_bit(solver, events):
    """Events, scores and limits of a sample that is large enough for threads to share it."""
    assert bits_of(1, solver, events) == bits_of(2, solver, events)
