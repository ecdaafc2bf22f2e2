"""Contents of a picture, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coffea_conserv.names import DATA
from coffea_conserv.plotting.style import ATTACKED, Floats, edges_of

if TYPE_CHECKING:
    from coffea_conserv.results.result import Result

__all__ = ("Filling", "contents")


@dataclass(frozen=True)
class Filling:
    """Filling and variances of a quantity in a region by (process, variation), without flow bins.

    Parameters
    ----------
    axis, title
        Axis of the quantity and its text.
    edges
        Edges to draw, shape (bins + 1,).
    value, variance
        Arrays of shape (bins,).
    lacking
        Names of estimates that are not made here, though they are elsewhere. Where there are any, data hold
        events that nothing in the picture stands for.
    """

    axis: Any
    title: str
    edges: Floats
    value: dict[tuple[str, str], Floats]
    variance: dict[tuple[str, str], Floats]
    lacking: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Simulated processes and estimates."""
        return tuple(name for name, variation in self.value if variation == "nominal" and name != DATA)

    @property
    def remark(self) -> str:
        """What to write where data would be compared with a total that lacks something; else nothing."""
        return f"no estimate of {', '.join(self.lacking)} here" if self.lacking and self.data else ""

    @property
    def data(self) -> tuple[Floats, Floats] | None:
        """Content and error of data; ``None`` where there are none."""
        key = (DATA, "nominal")
        return (self.value[key], np.sqrt(self.variance[key])) if key in self.value else None

    def total(self, names: tuple[str, ...], variation: str) -> Floats:
        """Sum of some processes."""
        total: Floats = np.sum(
            [np.zeros(len(self.edges) - 1), *(self.value[n, variation] for n in names)], axis=0
        )
        return total

    def error(self, names: tuple[str, ...], variation: str) -> Floats:
        """Statistical error of :meth:`total`."""
        parts = (self.variance[name, variation] for name in names)
        error: Floats = np.sqrt(np.sum([np.zeros(len(self.edges) - 1), *parts], axis=0))
        return error


def contents(result: Result, quantity: str, region: str) -> Filling:
    """Filling of a quantity in a region."""
    value, variance = {}, {}
    for entry in result.templates(quantity, regions=[region]).entries:
        histograms = (entry.nominal, entry.up, entry.down)
        for variation, histogram in zip(("nominal", *ATTACKED), histograms, strict=True):
            if histogram is not None:
                value[entry.process, variation] = np.asarray(histogram.values(), dtype=np.float64)
                variance[entry.process, variation] = np.asarray(histogram.variances(), dtype=np.float64)
    axis = result.axis(quantity)
    lacking = tuple(estimate.name for estimate in result.estimates if region not in estimate.regions)
    return Filling(axis, result.title(quantity), edges_of(axis), value, variance, lacking)
