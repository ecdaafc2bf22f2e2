"""Problems of known difficulty: samples and small networks, the same for every benchmark."""

from __future__ import annotations

import functools
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest
import torch
import uproot
from torch import nn

from coffea_conserv import Feature


@dataclass(frozen=True)
class Problem:
    """Correctly classified events of one class, and the network that is to be fooled."""

    x: np.ndarray
    model: nn.Module
    features: tuple[Feature, ...]
    accuracy: float = float("nan")


class Standardised(nn.Module):
    """Multilayer perceptron on standardised inputs."""

    def __init__(self, x: np.ndarray, hidden: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        wide = x.shape[1]
        for narrow in hidden:
            layers += [nn.Linear(wide, narrow), nn.ReLU()]
            wide = narrow
        self.layers = nn.Sequential(*layers, nn.Linear(wide, 1))
        self.register_buffer("mean", torch.from_numpy(x.mean(0)))
        self.register_buffer("spread", torch.from_numpy(x.std(0)))

    def forward(self, x):
        """Logits, shape (events,)."""
        return self.layers((x - self.mean) / self.spread)[:, 0]


def train(x: np.ndarray, y: np.ndarray, hidden: tuple[int, ...], epochs: int) -> nn.Module:
    """Minimise the cross-entropy; the same network every time."""
    torch.manual_seed(0)
    model = Standardised(x, hidden)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y.astype(np.float32))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(x)), 1024):
            optimiser.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(model(inputs[batch]), labels[batch]).backward()
            optimiser.step()
    return model.eval()


def right(x: np.ndarray, model: nn.Module) -> np.ndarray:
    """Background that is classified as such."""
    with torch.no_grad():
        return x[(model(torch.from_numpy(x)) < 0).numpy()]


def accuracy(x: np.ndarray, y: np.ndarray, model: nn.Module) -> float:
    """Share of events on the right side."""
    with torch.no_grad():
        return float(((model(torch.from_numpy(x)) > 0).numpy() == y).mean())


@functools.cache
def donut() -> Problem:
    """Signal N(0, 0.5²) in two dimensions, background on a ring of radius N(1.8, 0.5); 50k each."""
    rng = np.random.default_rng(0)
    radius, angle = rng.normal(1.8, 0.5, 50_000), rng.uniform(0, 2 * np.pi, 50_000)
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)
    x = np.concatenate([rng.normal(0, 0.5, (50_000, 2)).astype(np.float32), ring])
    y = np.repeat([True, False], 50_000)
    model = train(x, y, (32, 16), 10)
    axis = hist.axis.Regular(60, -4, 4)
    return Problem(right(ring, model), model, (Feature("x", axis), Feature("y", axis)), accuracy(x, y, model))


class Stripe(nn.Module):
    """Fires for |x − y| < ½."""

    def forward(self, x):
        """Logits, shape (events,)."""
        return 20 * (0.5 - (x[:, 0] - x[:, 1]).abs())


@functools.cache
def stripe(events: int = 60_000) -> Problem:
    """Two independent standard Gaussians, those outside of the stripe."""
    x = np.random.default_rng(0).normal(size=(events, 2)).astype(np.float32)
    axis = hist.axis.Regular(60, -3, 3)
    return Problem(right(x, Stripe()), Stripe(), (Feature("x", axis), Feature("y", axis)))


@functools.cache
def shifted(events: int = 20_000, *, exponentials: int = 3) -> Problem:
    """Ten dimensions, two classes with a common random covariance, the first features exponentiated."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(10, 10)) / np.sqrt(10) + 0.5 * np.eye(10)
    shift = 0.18 * rng.normal(size=10)
    x = rng.normal(size=(2 * events, 10)) @ root.T
    x[:events] += shift
    x[:, :exponentials] = np.exp(x[:, :exponentials])
    y = np.repeat([True, False], events)
    x = x.astype(np.float32)
    model = train(x[::2], y[::2], (64, 32), 10)
    axes = [hist.axis.Regular(50, *np.quantile(column, [0.001, 0.999])) for column in x.T]
    features = tuple(Feature(f"x{j}", axis) for j, axis in enumerate(axes))
    test = x[1::2]
    return Problem(right(test[~y[1::2]], model), model, features, accuracy(test, y[1::2], model))


HTAUTAU = ("pt_1", "eta_1", "pt_2", "eta_2", "mt_1", "pt_met", "m_vis", "pt_vis", "mt_2", "npv")
_FILES = {
    "full/GluGluToHToTauTauSkim": True,
    "full/VBF_HToTauTauSkim": True,
    "DYJetsToLLSkim": False,
    "TTbarSkim": False,
    "W2JetsToLNuSkim": False,
    "full/W1JetsToLNuSkim": False,
    "full/W3JetsToLNuSkim": False,
}


def data_folder() -> Path | None:
    """Folder of the CMS Open Data skims, if there is one."""
    named = os.environ.get("COFFEA_CONSERV_DATA")
    return Path(named) / "htautau" if named else None


needs_data = pytest.mark.skipif(data_folder() is None, reason="COFFEA_CONSERV_DATA is not set")


@functools.cache
def htautau(events: int = 6000) -> Problem:
    """Higgs to tau tau, opposite sign, ten features that move independently, unweighted."""
    folder = data_folder()
    assert folder is not None
    samples, labels = [], []
    for name, signal in _FILES.items():
        arrays = uproot.open(folder / f"{name}.root")["Events"].arrays([*HTAUTAU, "q_1", "q_2"], library="np")
        opposite = arrays["q_1"] * arrays["q_2"] < 0
        samples.append(np.stack([arrays[column][opposite] for column in HTAUTAU], axis=1))
        labels.append(np.full(opposite.sum(), signal))
    x, y = np.concatenate(samples).astype(np.float32), np.concatenate(labels)
    order = np.random.default_rng(0).permutation(len(x))
    half = len(x) // 2
    model = train(x[order[:half]], y[order[:half]], (64, 32), 20)
    test, truth = x[order[half:]], y[order[half:]]
    sample = right(test[~truth], model)[:events]
    features = [
        Feature(name, hist.axis.Integer(0, 60))
        if name == "npv"
        else Feature(name, hist.axis.Regular(50, *np.quantile(sample[:, j], [0.001, 0.999])))
        for j, name in enumerate(HTAUTAU)
    ]
    return Problem(sample, model, tuple(features), accuracy(test, truth, model))


def unit(model: nn.Module, x: np.ndarray, repeats: int = 5) -> float:
    """Seconds of one forward and backward pass over a sample: the unit of cost; median."""

    def once() -> float:
        start = time.perf_counter()
        for part in torch.split(torch.from_numpy(x), 16_384):
            leaf = part.clone().requires_grad_(True)
            torch.autograd.grad(model(leaf).sum(), leaf)
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(repeats))


def timed(function: Any, repeats: int = 3) -> tuple[Any, float]:
    """Result and median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return result, statistics.median(times)
