"""Envelope of several attacks: other seeds, budgets or models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.templates.template import Template
from coffea_conserv.templates.templates import Templates, check_templates
from coffea_conserv.templates.treatment import with_contents

__all__ = ("envelope",)

Floats = NDArray[np.float64]

HOW = ("bins", "whole")


def envelope(several: Sequence[Templates], *, how: str = "bins") -> Templates:
    """Largest shift of several attacks, for every process, region and direction.

    Nominal is that of the first one. Where the others have the same, as with other seeds and budgets, shifts
    are compared as they are; where not, as with other models, shifts relative to their own nominal are, and
    where that is empty, none.

    Parameters
    ----------
    several
        Templates of one quantity with the same processes, regions and bins, treated alike.
    how
        ``bins``: of each bin the shift that is farthest from nominal, with its sign. Bins may then come from
        different attacks, and the yield is that of none of them. ``whole``: the template of one attack, that
        with the largest Σ |attacked − nominal|.

    Raises
    ------
    ConfigurationError
        If there are fewer than two, or ``how`` is something else.
    InputError
        If quantity, processes, regions or bins differ.

    Examples
    --------
    >>> import hist
    >>> def filled(*contents):
    ...     made = hist.Hist(hist.axis.Regular(2, 0, 1, name="score"), storage=hist.storage.Weight())
    ...     made.view()["value"] = contents
    ...     return made
    >>> one, two = (
    ...     Templates("score", "score", (Template("W", "signal", filled(8, 2), up, filled(9, 1)),))
    ...     for up in (filled(6, 4), filled(7.5, 5))
    ... )
    >>> envelope([one, two]).get("W", "signal").up.values().tolist()
    [6.0, 5.0]
    """
    if how not in HOW:
        msg = f"how={how!r} is none of {', '.join(map(repr, HOW))}"
        raise ConfigurationError(msg)
    given: list[Templates] = list(several) if isinstance(several, (list, tuple)) else []
    if len(given) < 2 or not all(isinstance(one, Templates) for one in given):
        msg = "envelope needs a list of two or more Templates, as result.templates() gives them"
        raise ConfigurationError(msg)
    first = given[0]
    for other in given[1:]:
        _check_alike(first, other)
    entries = tuple(
        entry if entry.up is None else _widest([one.entries[i] for one in given], how)
        for i, entry in enumerate(first.entries)
    )
    return replace(first, entries=entries, warnings=check_templates(entries))


def _check_alike(first: Templates, other: Templates) -> None:
    keys, others = ([(e.region, e.process) for e in one.entries] for one in (first, other))
    msg = ""
    if first.quantity != other.quantity:
        msg = f"{first.quantity!r} and {other.quantity!r} are different quantities; take one of them"
    elif keys != others:
        different = sorted(set(keys) ^ set(others))
        which = ", ".join("/".join(key) for key in different) or "the order"
        msg = f"processes and regions differ ({which}); take the same ones from all results"
    else:
        for entry, same in zip(first.entries, other.entries, strict=True):
            if entry.nominal.axes[0] != same.nominal.axes[0]:
                msg = f"the bins of {entry.region}/{entry.process} differ; run or merge with the same ones"
                break
    if msg:
        raise InputError(msg)


def _widest(entries: Sequence[Template], how: str) -> Template:
    """Template of one process and region with the largest shifts of several."""
    base = _flow(entries[0], "nominal")
    made, pairs = [], []
    for k, name in enumerate(("up", "down")):
        shifts = np.stack([_shift(entry, name, base) for entry in entries])
        sizes = np.abs(shifts)
        if how == "whole":
            best = int(sizes.sum(axis=1).argmax())
            shift = shifts[best]
            pairs.append(None if (pair := entries[best].paired) is None else pair[k])
        else:
            shift = np.take_along_axis(shifts, sizes.argmax(axis=0)[None], axis=0)[0]
            pairs.append(None)
        made.append(with_contents(getattr(entries[0], name), base + shift))
    up, down = pairs
    paired = None if up is None or down is None else (up, down)
    return replace(entries[0], up=made[0], down=made[1], paired=paired)


def _flow(entry: Template, name: str) -> Floats:
    return np.array(getattr(entry, name).view(flow=True)["value"], dtype=np.float64)


def _shift(entry: Template, name: str, base: Floats) -> Floats:
    """Attacked − nominal of a template, at the size of another nominal if its own is not the same."""
    nominal = _flow(entry, "nominal")
    shift: Floats = _flow(entry, name) - nominal
    if np.allclose(nominal, base, rtol=1e-9, atol=0):
        return shift
    return base * np.divide(shift, nominal, out=np.zeros_like(shift), where=nominal != 0)
