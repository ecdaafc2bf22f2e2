"""Bands of single bins: how far each may fall and rise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coffea_conserv.errors import ConfigurationError

__all__ = ("Band", "contents")

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Band:
    """Largest relative deviations of the bins of a feature, downward and upward.

    Parameters
    ----------
    low, high
        How far a bin may fall below and rise above its nominal content, as shares of it: one number for all
        bins, or one for each, shape (bins,), from 0. With as many entries as the axis has bins, flow bins
        included, they are taken as they are; with as many as without flow bins, under- and overflow take
        the limit of the bin beside them.
    edges
        Edges of the bins that the numbers belong to; the axis of the feature must have the same ones.

    Raises
    ------
    ConfigurationError
        If a number is negative, not finite or no share, or the lengths differ.

    Notes
    -----
    Where a side is 0 the bin stays on the other side: exactly where all weights of a group are equal, else
    within a tenth of what its content fluctuates by (:func:`coffea_conserv.limits.measures.bin_floor`).

    Examples
    --------
    >>> Band(low=0.05, high=[0.1, 0.2, 0.0])
    Band(3 bins, −5.0% … +20.0%)
    """

    low: ArrayLike
    high: ArrayLike
    edges: ArrayLike | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        if self.edges is not None:
            object.__setattr__(self, "edges", tuple(float(e) for e in np.asarray(self.edges)))
        sizes = sorted({part.size for part in (np.asarray(self.low), np.asarray(self.high)) if part.ndim})
        if len(sizes) > 1:
            msg = f"Band(): low= and high= must have as many bins, got {sizes[0]} and {sizes[1]}"
            raise ConfigurationError(msg)

    def __repr__(self) -> str:
        bins = max(np.size(self.low), np.size(self.high))
        text = f"−{np.max(self.low):.1%} … +{np.max(self.high):.1%}"
        flat = not (np.ndim(self.low) or np.ndim(self.high))
        return f"Band({text})" if flat else f"Band({bins} bins, {text})"

    @staticmethod
    def from_histograms(nominal: Any, up: Any, down: Any) -> Band:
        """Band that the variations of a systematic span, on both sides of nominal.

        Parameters
        ----------
        nominal, up, down
            Histograms of one axis, as of ``hist`` with flow bins, or arrays of bin contents, shape (bins,).

        Returns
        -------
        Band
            In each bin the larger one of the two upward deviations, and of the downward ones: 0 where both
            variations are on the other side. Bins without nominal content have limits of 0: they stay empty.

        Raises
        ------
        ConfigurationError
            If the binnings differ, a content is negative or not finite, or nominal is empty.

        Examples
        --------
        >>> Band.from_histograms([100.0, 50.0], [105.0, 55.0], [98.0, 51.0]).high
        (0.05, 0.1)
        """
        parts = [
            contents("Band.from_histograms()", *given)
            for given in (("nominal", nominal), ("up", up), ("down", down))
        ]
        first, edges = parts[0]
        for name, (content, other) in zip(("up", "down"), parts[1:], strict=True):
            alike = edges is None or other is None or edges == other
            if len(content) != len(first) or not alike:
                msg = (
                    f"Band.from_histograms(): {name} has another binning than nominal: {len(content)} and "
                    f"{len(first)} bins" + ("" if alike else " of other edges")
                )
                raise ConfigurationError(msg)
        if not first.any():
            msg = "Band.from_histograms(): nominal is empty"
            raise ConfigurationError(msg)
        relative = [
            np.divide(content - first, first, out=np.zeros_like(first), where=first > 0)
            for content, _ in parts[1:]
        ]
        low, high = np.minimum(*relative), np.maximum(*relative)
        return Band(np.maximum(-low, 0.0), np.maximum(high, 0.0), edges)

    @property
    def largest(self) -> float:
        """Largest deviation of any bin."""
        return float(max(np.max(self.low), np.max(self.high)))

    def over(self, name: str, axis: Any) -> Floats:
        """Limits of the bins of an axis, flow bins included, down and up: shape (2, bins).

        Parameters
        ----------
        name, axis
            Of the feature, for the error.

        Raises
        ------
        ConfigurationError
            If the band has been made for another binning.
        """
        if self.edges is not None:
            mine, other = np.asarray(self.edges), np.asarray(axis.edges)
            if mine.shape != other.shape or not np.allclose(mine, other, rtol=1e-9, atol=1e-12):
                msg = (
                    f"band[{name!r}] has been made of histograms with {len(mine) - 1} bins in {mine[0]:g} … "
                    f"{mine[-1]:g}; the axis of the feature has {axis.size} in {other[0]:g} … {other[-1]:g} "
                    "or other edges between; fill them on the axis of the feature"
                )
                raise ConfigurationError(msg)
        return np.stack([_spread(name, axis, np.asarray(part, np.float64)) for part in (self.low, self.high)])


def _spread(name: str, axis: Any, limits: Floats) -> Floats:
    """Limits of all bins of an axis from one number, or from one for each bin with or without flow."""
    if limits.ndim == 0:
        return np.full(axis.extent, float(limits))
    if len(limits) == axis.extent:
        return limits
    if len(limits) == axis.size:
        first = int(axis.traits.underflow)
        return np.pad(limits, (first, axis.extent - axis.size - first), mode="edge")
    msg = (
        f"band[{name!r}] has {len(limits)} bins; the axis has {axis.size}, or {axis.extent} with "
        "under- and overflow"
    )
    raise ConfigurationError(msg)


def _numbers(name: str, given: Any) -> float | tuple[float, ...]:
    """Limits as a number or a tuple, so that a band is a value."""
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"Band(): {name}= must be a number or one number per bin, got {given!r:.80}"
        raise ConfigurationError(msg) from error
    if values.ndim > 1 or not values.size:
        msg = f"Band(): {name}= must be a number or one number per bin, got shape {values.shape}"
        raise ConfigurationError(msg)
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(bad):
        where = f" in bin {bad[0]}" if values.ndim else ""
        msg = f"Band(): {name}= must hold finite numbers from 0, got {values.reshape(-1)[bad[0]]:g}{where}"
        raise ConfigurationError(msg)
    if name == "low" and values.max() > 1:
        msg = f"Band(): low= holds {values.max():g}, but no bin can lose more than all; 5 % is 0.05"
        raise ConfigurationError(msg)
    if not values.ndim and values > 1:
        msg = f"Band(): {name}={values:g} is a fraction, so that 5 % is 0.05; give bins that may do more each"
        raise ConfigurationError(msg)
    return tuple(values.tolist()) if values.ndim else float(values)


def contents(caller: str, name: str, given: Any) -> tuple[Floats, tuple[float, ...] | None]:
    """Bin contents of a histogram, with flow bins and its edges, or of an array, without edges.

    Parameters
    ----------
    caller, name
        For messages.
    given
        Histogram of one axis, as of ``hist``, or array, shape (bins,).

    Raises
    ------
    ConfigurationError
        If it has other axes, no numbers, or negative or infinite entries.
    """
    edges = None
    if callable(getattr(given, "values", None)) and hasattr(given, "axes"):
        if len(given.axes) != 1:
            msg = f"{caller}: {name} has {len(given.axes)} axes; project it onto one"
            raise ConfigurationError(msg)
        content = np.asarray(given.values(flow=True), dtype=np.float64)
        edges = tuple(float(e) for e in given.axes[0].edges)
    else:
        try:
            content = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError) as error:
            msg = f"{caller}: {name} must be a histogram or an array (bins,) of numbers, got {given!r:.80}"
            raise ConfigurationError(msg) from error
    if content.ndim != 1 or not len(content):
        msg = f"{caller}: {name} must be a histogram or an array (bins,), got {content.shape}"
        raise ConfigurationError(msg)
    bad = np.flatnonzero(~(np.isfinite(content) & (content >= 0)))
    if len(bad):
        msg = (
            f"{caller}: {name} has {content[bad[0]]:g} in bin {bad[0]}; contents must be "
            "finite and not negative"
        )
        raise ConfigurationError(msg)
    return content, edges
