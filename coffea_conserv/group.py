"""Group of events on which limits hold together, and its name for a reader."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ("ARRAY", "LEVELS", "Group", "row_of")

ARRAY = "array"
"""Level of the groups of an attack on arrays, which are numbers."""

LEVELS = ("dataset", "process", "total", "all", ARRAY)
"""What a group can be made of: one dataset, the datasets of a process, the processes of a total of the user,
all simulation, or rows of an array."""


@dataclass(frozen=True, order=True)
class Group:
    """Events on which limits hold together. Two groups are equal if all four of their fields are.

    Parameters
    ----------
    name
        Dataset, process or total, or the number of a group of an attack on arrays.
    level
        One of :data:`LEVELS`.
    region
        Region; empty for a group of arrays.
    variation
        ``conservUp`` or ``conservDown``; empty where only nominal events count, and for a group of arrays.

    Examples
    --------
    >>> print(Group("W", "dataset", "signal", "conservUp"), Group("0"))
    W/signal/conservUp 0

    A part that could be read as several is quoted, so that different groups have different texts.

    >>> print(Group("A", "dataset", "b/c"), Group("A/b", "dataset", "c"))
    A/'b/c' 'A/b'/c
    """

    name: str
    level: str = ARRAY
    region: str = ""
    variation: str = ""

    def __str__(self) -> str:
        parts = (self.name, *((self.region,) if self.level != ARRAY else ()))
        parts = (*parts, *((self.variation,) if self.variation else ()))
        return "/".join(part if part and not set(part) & set("/'\"") else repr(part) for part in parts)

    def nominal(self) -> Group:
        """Return the same group without a variation: what its nominal events are called."""
        return Group(self.name, self.level, self.region)


def row_of(value: Any) -> dict[str, Any]:
    """Return the fields of a value with a group for a table or for JSON.

    Parameters
    ----------
    value
        A dataclass with a field ``group``.

    Returns
    -------
    dict
        Its fields, with the text of the group as ``group``, and the group's own fields as ``where``.
    """
    found = {field.name: getattr(value, field.name) for field in fields(value)}
    return {**found, "group": str(value.group), "where": asdict(value.group)}
