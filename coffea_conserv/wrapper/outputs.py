"""Outputs of one analysis in several variations, joined into one and taken apart again."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping
from typing import Any

import hist

from coffea_conserv.errors import InputError

__all__ = ("Variations", "joined", "variation_of")

_NOTHING = object()
"""Stands for what does not exist in a variation."""


class Variations(dict[str, Any]):
    """What an analysis returned in place of one value: label of the variation → value.

    A dictionary of its own type, so that it is never mistaken for one of the analysis. coffea merges it key
    by key.
    """


def joined(outputs: Mapping[str, Any], axis: str) -> Any:
    """Join what an analysis returned in each variation.

    Histograms get an axis for the variation, in front; dictionaries are joined key by key; everything else is
    put into a :class:`Variations`.

    Parameters
    ----------
    outputs
        Label of the variation → output of the analysis.
    axis
        Name of the new axis.

    Raises
    ------
    InputError
        If a histogram has an axis of that name already.
    """
    values = list(outputs.values())
    if all(isinstance(value, MutableMapping) for value in values):
        made = copy.copy(values[0])
        made.clear()
        for key in dict.fromkeys(key for value in values for key in value):
            made[key] = joined({name: value[key] for name, value in outputs.items() if key in value}, axis)
        return made
    if all(isinstance(value, hist.Hist) for value in values):
        return _with_axis(outputs, axis)
    return Variations(outputs)


def _with_axis(histograms: Mapping[str, Any], axis: str) -> Any:
    """One histogram with an axis for the variation in front; growing axes have all categories of all."""
    empty = None
    for histogram in histograms.values():
        if any(own.name == axis for own in histogram.axes):
            msg = (
                f"a histogram of the analysis has an axis {axis!r} already ({histogram.axes.name}); give it "
                "another name, with Conserv(names=Names(variation=…))"
            )
            raise InputError(msg)
        blank = histogram.copy().reset()
        empty = blank if empty is None else empty + blank
    assert empty is not None  # noqa: S101 -- there is at least the nominal one
    first = hist.axis.StrCategory(list(histograms), growth=True, name=axis)
    made = hist.Hist(first, *empty.axes, storage=empty.storage_type())
    for k, histogram in enumerate(histograms.values()):
        made.view(flow=True)[k, ...] = (empty + histogram).view(flow=True)
    example = next(iter(histograms.values()))
    made.name, made.label = example.name, example.label
    return made


def variation_of(output: Any, variation: str, *, axis: str = "variation") -> Any:
    """What the analysis returned in one variation.

    Parameters
    ----------
    output
        Output of a :class:`~coffea_conserv.wrapper.ConservProcessor`, or a part of it, merged or not.
    variation
        Label of the variation.
    axis
        Name of the axis of the variation.

    Returns
    -------
    object
        The output as the analysis alone would have made it, without what has no such variation, as datasets
        of real data in ``conservUp``.

    Examples
    --------
    >>> variation_of({"events": Variations(nominal=10, conservUp=9)}, "conservUp")
    {'events': 9}
    """
    taken = _taken(output, variation, axis)
    return {} if taken is _NOTHING else taken


def _taken(output: Any, variation: str, axis: str) -> Any:
    if isinstance(output, Variations):
        return output.get(variation, _NOTHING)
    if isinstance(output, MutableMapping):
        made = copy.copy(output)
        made.clear()
        for key, value in output.items():
            part = _taken(value, variation, axis)
            if part is not _NOTHING:
                made[key] = part
        return made if made or not output else _NOTHING
    if isinstance(output, hist.Hist) and axis in output.axes.name:
        own = next(one for one in output.axes if one.name == axis)
        return output[{axis: variation}] if variation in own else _NOTHING
    return output
