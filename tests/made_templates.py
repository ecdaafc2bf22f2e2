"""Made-up templates of fits, and datacards read by their documented syntax."""

from __future__ import annotations

import re

import hist
import numpy as np

from coffea_conserv.templates.template import Template
from coffea_conserv.templates.templates import Templates


def filled(*contents, variance=None):
    """A histogram of the score."""
    made = hist.Hist(hist.axis.Regular(len(contents), 0, 1, name="score"), storage=hist.storage.Weight())
    made.view()["value"] = contents
    made.view()["variance"] = np.abs(contents) if variance is None else variance
    return made


def templates_of(*entries, share=0.01, data=None, region="SR"):
    """Templates of the score in one region from process, nominal, Up and Down, with small variances."""
    made = [
        Template(name, region, *(filled(*h, variance=share * np.abs(h)) for h in three))
        for name, *three in entries
    ]
    if data is not None:
        made.append(Template("data", region, filled(*data)))
    return Templates("score", "Score", tuple(made))


def parsed(path):
    """Read a datacard after its documented syntax: counts, shapes, observations, columns and nuisances."""
    blocks = [[]]
    for text in path.read_text().splitlines():
        line = text.split("#")[0].strip()
        if re.fullmatch(r"-+", line):
            blocks.append([])
        elif line:
            blocks[-1].append(line.split())
    head, shapes, seen, columns, nuisances = blocks
    assert [row[0] for row in head] == ["imax", "jmax", "kmax"]
    assert [row[0] for row in columns] == ["bin", "process", "process", "rate"]
    assert [row[0] for row in seen] == ["bin", "observation"]
    (shape,) = shapes
    assert shape[:3] == ["shapes", "*", "*"]
    rows = [row for row in nuisances if row[0] != "*"]
    return {
        "counts": [int(row[1]) for row in head],
        "file": shape[3],
        "patterns": shape[4:],
        "channels": seen[0][1:],
        "bins": columns[0][1:],
        "processes": columns[1][1:],
        "numbers": [int(number) for number in columns[2][1:]],
        "rates": columns[3][1:],
        "nuisances": {row[0]: (row[1], row[2:]) for row in rows},
        "others": [row for row in nuisances if row[0] == "*"],
    }


def looked_up(pattern, channel, process, systematic=""):
    """Key that Combine makes of a pattern."""
    parts = {"$CHANNEL": channel, "$PROCESS": process, "$SYSTEMATIC": systematic}
    return re.sub(r"\$[A-Z]+", lambda found: parts[found[0]], pattern)
