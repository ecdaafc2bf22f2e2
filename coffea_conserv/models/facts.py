"""Facts that a model says of itself: how many events it takes, of which columns, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ("Facts", "facts_of_program")

_ENDLESS = 2**40
"""A largest number of events from which on there is none: torch has several numbers for it."""


@dataclass(frozen=True)
class Facts:
    """What a model says of itself.

    Parameters
    ----------
    least, most
        Fewest and most events that it takes at a time; ``None``: any number.
    dtype
        Precision that it wants its inputs in.
    gives
        What its numbers are, if it says so.
    columns, count
        Names and number of the columns that it was trained on, if it says so.
    labels
        Its classes, if none of them is signal beyond doubt.
    name
        What it is called.
    """

    least: int = 1
    most: int | None = None
    dtype: torch.dtype = torch.float32
    gives: str | None = None
    columns: tuple[str, ...] = ()
    count: int | None = None
    labels: tuple[Any, ...] = ()
    name: str = ""


def facts_of_program(program: torch.export.ExportedProgram) -> Facts:
    """Facts of an exported program: its range of the number of events, and its precision."""
    inputs = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.name in inputs and isinstance(value, Tensor) and value.is_floating_point() and value.dim():
            least, most = _range(value.shape[0], program.range_constraints)
            return Facts(least, most, value.dtype)
    return Facts()


def _range(size: Any, constraints: Any) -> tuple[int, int | None]:
    """Smallest and largest value of a size of torch."""
    if isinstance(size, int):
        return size, size
    found = constraints.get(size.node.expr)
    if found is None:  # a product of sizes, for example; the trial shows whether any number is taken
        return 1, None
    least = _whole(found.lower) or 1
    return (least if least > 2 else 1), _whole(found.upper)  # a range from 2 includes a single event


def _whole(bound: Any) -> int | None:
    try:
        value = int(bound)
    except (TypeError, ValueError, OverflowError, AttributeError):
        return None
    return value if value < _ENDLESS else None
