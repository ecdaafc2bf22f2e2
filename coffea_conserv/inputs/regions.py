"""Regions of a chunk: their atoms, and the search for one that is cut on the score."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import InputError

__all__ = ("atoms", "check_regions", "has_edge")

Mask = NDArray[np.bool_]

_WINDOWS = (40, 64, 96, 128, 192, 256, 384, 512)
"""Numbers of events of the region, next to the edge, among which the step is looked for."""

_SIGMAS = 6.0
"""Significance of a step. In made-up regions with smooth edges it was not reached in 20,000 chunks."""

_COUNTS = 32
"""Number of different values up to which a quantity is a count, such as that of jets."""

_FEW = 0.1
"""Share of the events outside that are beyond the range of a region in a column by chance."""


def atoms(masks: Mapping[str, Mask]) -> NDArray[np.int64]:
    """Number the groups of events with the same membership in the regions; −1 for events in none."""
    code = np.column_stack(list(masks.values()))
    if not len(code):
        return np.zeros(0, dtype=np.int64)
    index = np.unique(code, axis=0, return_inverse=True)[1].reshape(-1)
    return np.where(code.any(axis=1), index, -1).astype(np.int64)


def check_regions(
    masks: Mapping[str, Mask],
    score: NDArray[Any],
    columns: Mapping[str, NDArray[Any]] | None = None,
    frozen: Collection[str] = (),
) -> None:
    """Refuse a region that is cut on the score: the attack moves events across it.

    A region has an edge in the score if none of its events lies beyond some score, many other events do, and
    the share of its events does not fade toward it (see :func:`has_edge`). This is looked for at both ends of
    each region, among all selected events and within each other region. An edge does not count if it is that
    of a number of jets or of a frozen feature: if it is gone among the events that are within the range of
    the region in these. Cuts on other quantities make no edge, as the score depends on further ones as well.

    Parameters
    ----------
    masks
        Region → mask of shape (events,).
    score
        Nominal scores, shape (events,).
    columns
        Features and watched quantities, shape (events,) each.
    frozen
        Names of those that do not move.

    Raises
    ------
    InputError
        With the name of the region.

    Notes
    -----
    Some cuts cannot be told from a selection that is correlated with the score, and pass: with fewer than 40
    events of the region, or fewer others, next to the cut; where only a part of the events above the cut are
    in the region and the chunk is small (for one half it takes about 500 events, for a tenth about 5,000); a
    cut that is smeared, or on the score of another model; the union of a cut and something else; a cut along
    with one on a frozen feature that leaves no others to compare with. On the other hand, a cut on a quantity
    that alone makes the score is taken for one on the score, which it is.
    """
    order = np.argsort(score, kind="stable")
    sorted_masks = {name: mask[order] for name, mask in masks.items()}
    scores = score[order]
    for name, inside, within in _populations(sorted_masks):
        if not _cut(scores[within], inside[within]):
            continue
        sorted_columns = {key: np.asarray(column)[order][within] for key, column in (columns or {}).items()}
        alike = _comparable(sorted_columns, inside[within], frozen)
        if _cut(scores[within][alike], inside[within][alike]):
            msg = (
                f"region {name!r} is a cut on the score, which the attack moves; leave the cut out and use "
                "bins of the score instead"
            )
            raise InputError(msg)


def _populations(masks: Mapping[str, Mask]) -> Iterator[tuple[str, Mask, Mask]]:
    """Name and mask of each region with the events among which it is looked at, if both are numerous."""
    for name, inside in masks.items():
        others = (mask for other, mask in masks.items() if other != name)
        for within in (np.ones(len(inside), dtype=bool), *others):
            count = int((inside & within).sum())
            if min(count, int(within.sum()) - count) >= _WINDOWS[0]:
                yield name, inside, within


def _cut(score: NDArray[Any], inside: Mask) -> bool:
    """Tell whether the events inside have an edge at either end; all sorted by score."""
    return has_edge(score, inside) or has_edge(-score[::-1], inside[::-1])


def has_edge(score: NDArray[Any], inside: Mask) -> bool:
    """Tell whether the share of events inside jumps from nothing to something at the lowest score inside.

    Windows of some numbers of events inside begin at their lowest score. The share inside, as a straight line
    through the window, is extended to that score. It is compatible with 0 where the share fades toward the
    edge, and far above where it jumps. As many events as the window holds must lie beyond the edge: without
    them nothing is known there.

    Parameters
    ----------
    score
        Shape (events,), rising.
    inside
        Shape (events,).

    Examples
    --------
    >>> import numpy as np
    >>> score = np.linspace(0, 1, 200)
    >>> has_edge(score, score > 0.5), has_edge(score, np.arange(200) % 2 == 0)
    (True, False)
    """
    place = np.flatnonzero(inside)
    if len(place) < _WINDOWS[0]:
        return False
    beyond = int(np.searchsorted(score, score[place[0]]))
    for size in _WINDOWS[: np.searchsorted(_WINDOWS, len(place), side="right")]:
        start, stop = int(place[0]), int(place[size - 1]) + 1
        width = stop - start
        if width > beyond:
            return False
        # Scores of a few values only jump by themselves.
        smooth = len(np.unique(score[beyond - width : stop])) >= width
        if smooth and _jump(inside[start:stop]) > _SIGMAS:
            return True
    return False


def _jump(inside: Mask) -> float:
    """Share inside at the beginning of a window by a straight line, over its statistical error."""
    width = len(inside)
    share = inside.astype(np.float64)
    share[0] = 0.0  # the event that marks the edge is there by construction
    x = (np.arange(width) + 0.5) / width - 0.5
    first = share.mean() - 0.5 * float((x * share).sum() / (x**2).sum())
    typical = (inside.sum() + 1) / (width + 2)  # never 0 or 1
    return float(first / (2 * np.sqrt(typical * (1 - typical) / width)))


def _comparable(columns: Mapping[str, NDArray[Any]], inside: Mask, frozen: Collection[str]) -> Mask:
    """Events within the range of those inside in every column that can make an edge of its own."""
    alike = np.ones(len(inside), dtype=np.bool_)
    for name, column in columns.items():
        there = np.isfinite(column) & inside
        if not there.any() or (name not in frozen and len(np.unique(column)) > _COUNTS):
            continue
        beyond = (column < column[there].min()) | (column > column[there].max())
        if beyond[~inside].mean() > _FEW:
            alike &= ~beyond
    return alike
