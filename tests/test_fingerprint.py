"""The hash of settings, functions and models: what counts, and what does not."""

from __future__ import annotations

import math
from functools import partial

import hist
import numpy as np
import pytest
import torch

from coffea_conserv.fingerprint import fingerprint

EDGES = np.linspace(0, 1, 2001)
MOVED = np.where(np.arange(2001) == 1000, EDGES + 1e-9, EDGES)


class Cut:
    """A function with settings of its own."""

    def __init__(self, value):
        self.value = value

    def __call__(self, x):
        """Cut."""
        return x > self.value


class OtherCut(Cut):
    """The same settings, another function."""

    def __call__(self, x):
        """Cut."""
        return x < self.value


def above(value):
    """Make a function that encloses a number."""
    return lambda x: x > value


def documented(x):
    """Say something."""
    return x + 1


def _documented(x):
    """Say something else."""
    # with a comment
    return x + 1


_documented.__qualname__ = "documented"

SAME = {
    "numbers": (1, 1.0),
    "numbers of NumPy": (0.5, np.float64(0.5)),
    "zeros": (0.0, -0.0),
    "NaN": (math.nan, float("nan")),
    "order of a dict": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "order of a set": ({"a", "b", "c"}, {"c", "b", "a"}),
    "axes": (hist.axis.Variable(EDGES, name="x"), hist.axis.Variable(EDGES.copy(), name="x")),
    "functions made twice": (above(1), above(1)),
    "partial functions": (partial(above, 1), partial(above, 1)),
    "objects": (Cut(1), Cut(1)),
    "arrays": (np.arange(3), np.arange(6)[::2] // 2),
    "tensors": (torch.ones(2), torch.ones(2, requires_grad=True)),
    "documentation": (documented, _documented),
}


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_what_does_not_count(pair):
    """Two values that mean the same have one hash."""
    assert fingerprint(pair[0]) == fingerprint(pair[1])


OTHER = {
    "numbers": (1, 1.5),
    "small differences": (0.1, 0.1 + 1e-16),
    "large integers": (2**60, 2**60 + 1),
    "number and text": (1, "1"),
    "nothing": (None, 0),
    "keys": ({"a": 1}, {"b": 1}),
    "order of a list": ([1, 2], [2, 1]),
    "places": ([1, [2, 3]], [[1, 2], 3]),
    "an edge in the middle": (hist.axis.Variable(EDGES), hist.axis.Variable(MOVED)),
    "the last edge": (hist.axis.Regular(3, 0, 1 / 3), hist.axis.Regular(3, 0, 1 / 3 + 1e-9)),
    "flow": (hist.axis.Regular(3, 0, 1), hist.axis.Regular(3, 0, 1, flow=False)),
    "circular": (hist.axis.Regular(3, 0, 1), hist.axis.Regular(3, 0, 1, circular=True)),
    "kind of axis": (hist.axis.Regular(3, 0, 3), hist.axis.Integer(0, 3)),
    "categories": (hist.axis.IntCategory([1, 2]), hist.axis.IntCategory([1, 3])),
    "enclosed numbers": (above(1), above(2)),
    "arguments of partial functions": (partial(above, 1), partial(above, 2)),
    "settings of objects": (Cut(1), Cut(2)),
    "methods of objects": (Cut(1), OtherCut(1)),
    "bound methods": (Cut(1).__call__, Cut(2).__call__),
    "defaults": (lambda x, y=1: x + y, lambda x, y=2: x + y),
    "type of tensors": (torch.ones(2), torch.ones(2).double()),
    "type without NumPy": (torch.ones(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.bfloat16)),
    "shapes": (torch.ones(2, 3), torch.ones(3, 2)),
    "arrays of objects": (np.array([1, "a"], dtype=object), np.array([1, "b"], dtype=object)),
}


@pytest.mark.parametrize("pair", OTHER.values(), ids=OTHER)
def test_what_counts(pair):
    """Two values that mean something else have two hashes."""
    assert fingerprint(pair[0]) != fingerprint(pair[1])


def test_parts_are_kept_apart():
    """The hash of two values is not that of one."""
    assert fingerprint(1, 2) != fingerprint([1, 2])
    assert fingerprint("a", "b") != fingerprint("a\nb")


def test_a_value_inside_of_itself():
    """Circles end."""
    circle = Cut(1)
    circle.value = [circle]
    again = []
    again.append(again)
    assert fingerprint(circle) == fingerprint(circle)
    assert fingerprint(again) != fingerprint([])

    def recursive(n):
        return recursive(n - 1) if n else 0

    assert len(fingerprint(recursive)) == 64
