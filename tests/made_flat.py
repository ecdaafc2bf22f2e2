"""Flat files and a classifier for the code that README and pages show."""

from __future__ import annotations

import numpy as np
import torch
import uproot

DATASETS = ("W1Jets", "W2Jets", "Run2012B")


class Classifier(torch.nn.Module):
    """Wants a large transverse mass."""

    def forward(self, x):
        """Logits, shape (events,)."""
        angle = torch.cos(x[:, 1] - x[:, 3])
        return (x[:, 0] * x[:, 2] * (1 - angle)) / 1000 - 1.5 + 0.1 * x[:, 4]


def write_model(path, features):
    """Write the classifier as an analysis would export it."""
    rows = torch.export.Dim("events")
    example = (torch.ones(4, features),)
    torch.export.save(
        torch.export.export(Classifier().eval(), example, dynamic_shapes=({0: rows},)), str(path)
    )


def write_events(path, count, seed):
    """Write a flat tree with the columns of the examples."""
    rng = np.random.default_rng(seed)
    njets = rng.poisson(0.8, count)
    columns = {
        "pt_1": 20 + rng.exponential(25, count),
        "phi_1": rng.uniform(-np.pi, np.pi, count),
        "pt_met": rng.exponential(35, count),
        "phi_met": rng.uniform(-np.pi, np.pi, count),
        "njets": njets,
        "jpt_1": np.where(njets > 0, 30 + rng.exponential(40, count), -999.0),
        "weight": np.full(count, 0.5),
    }
    with uproot.recreate(path) as file:
        file.mktree("Events", dict.fromkeys(columns, np.float32))
        file["Events"].extend({name: values.astype(np.float32) for name, values in columns.items()})


def write_files(folder, count=1500):
    """Write two simulated datasets and real data; return coffea's fileset."""
    for seed, name in enumerate(DATASETS):
        write_events(folder / f"{name}.root", count, seed)
    return {
        name: {"files": {str(folder / f"{name}.root"): "Events"}, "metadata": {"is_data": name[0] == "R"}}
        for name in DATASETS
    }
