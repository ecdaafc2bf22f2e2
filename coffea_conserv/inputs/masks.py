"""Regions, in the forms in which analyses have them: masks, cuts of a selection, categories."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import InputError
from coffea_conserv.inputs.columns import to_categories, to_numpy

__all__ = ("Categories", "Cuts", "Regions", "to_masks")

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Cuts:
    """Regions as cuts of a ``PackedSelection`` of coffea.

    Parameters
    ----------
    selection
        A ``PackedSelection``, or anything with its ``names`` and ``require``.
    regions
        Region → names of the cuts that its events pass; or a dict, name of the cut → whether they pass it.
        A cut that is not named does not matter.
    chosen
        If the selection knows more events than the call gets: which of its events those are, as a mask or by
        cuts, in the same form.

    Examples
    --------
    >>> import numpy as np
    >>> from coffea.analysis_tools import PackedSelection
    >>> selection = PackedSelection()
    >>> selection.add("lepton", np.array([True, True, True, False]))
    >>> selection.add("same sign", np.array([False, True, False, False]))
    >>> regions = Cuts(
    ...     selection,
    ...     {"signal": {"same sign": False}, "control": "same sign"},
    ...     chosen="lepton",
    ... )
    >>> {name: mask.tolist() for name, mask in to_masks(regions, 3).items()}
    {'signal': [True, False, True], 'control': [False, True, False]}
    """

    selection: Any
    regions: Mapping[str, str | Sequence[str] | Mapping[str, bool]]
    chosen: Any = None

    def masks(self, count: int) -> Iterator[tuple[str, Any]]:
        """Region and mask, for that many events.

        Raises
        ------
        InputError
            If a cut does not exist, a region names none, or the number of events is another one.
        """
        if not callable(getattr(self.selection, "require", None)):
            msg = f"Cuts takes a PackedSelection of coffea, got {type(self.selection).__name__}"
            raise InputError(msg)
        given: Any = self.regions
        if not isinstance(given, Mapping):
            msg = f"Cuts takes a dict of region → names of cuts, got {self.regions!r:.80}"
            raise InputError(msg)
        chosen = self._chosen(count)
        for name, cuts in self.regions.items():
            mask = self._passed(f"region {name!r}", cuts)
            yield name, mask if chosen is None else mask[chosen]

    def _chosen(self, count: int) -> Mask | None:
        names = list(self.selection.names)
        known = len(self._passed("the selection", names[0])) if names else 0
        if self.chosen is None:
            if known != count:
                msg = (
                    f"the selection knows {known} events and the call gets {count}; say which of them with "
                    "Cuts(…, chosen=), the mask or the cuts by which they were selected"
                )
                raise InputError(msg)
            return None
        if _is_cuts(self.chosen):
            mask = self._passed("chosen=", self.chosen)
        else:
            mask = to_numpy("chosen=", self.chosen)
        if mask.shape != (known,) or mask.dtype != np.bool_ or int(mask.sum()) != count:
            msg = (
                f"chosen= must be a Boolean mask of the {known} events that the selection knows, and select "
                f"the {count} of the call; got {mask.dtype} of {mask.shape}, which selects {int(mask.sum())}"
            )
            raise InputError(msg)
        return mask

    def _passed(self, where: str, cuts: Any) -> Mask:
        """Which events of the selection pass some cuts."""
        if not _is_cuts(cuts) or not cuts:
            msg = f"{where}: name the cuts of the selection, or a dict of cut → True or False, got {cuts!r}"
            raise InputError(msg)
        cuts = (cuts,) if isinstance(cuts, str) else cuts
        wanted = dict(cuts) if isinstance(cuts, Mapping) else dict.fromkeys(cuts, True)
        names = [str(name) for name in self.selection.names]
        for name in wanted:
            if name not in names:
                near = difflib.get_close_matches(str(name), names) or names
                msg = f"{where}: the selection has no cut {name!r}; there are {', '.join(near) or 'none'}"
                raise InputError(msg)
        passed: Mask = to_numpy(where, self.selection.require(**wanted))
        return passed


@dataclass(frozen=True, eq=False)
class Categories:
    """Regions as categories that events belong to.

    Parameters
    ----------
    values
        Category of each event, an integer or a text, or a list of several. An event without one (``None``,
        masked) and one of a category that is not named are in no region.
    regions
        Region → its category, or its categories. Or names of regions alone: the categories themselves if
        they are texts, else those of the categories 0, 1, 2, …

    Examples
    --------
    >>> import numpy as np
    >>> regions = Categories(np.array([0, 2, 1, -1]), {"signal": 2, "control": (0, 1)})
    >>> {name: mask.tolist() for name, mask in to_masks(regions, 4).items()}
    {'signal': [False, True, False, False], 'control': [True, False, True, False]}
    """

    values: Any
    regions: Mapping[str, int | str | Sequence[int | str]] | Sequence[str]

    def masks(self, count: int) -> Iterator[tuple[str, Any]]:
        """Region and mask, for that many events.

        Raises
        ------
        InputError
            If categories are neither integers nor texts, not of the kind that is asked for, or those of
            another number of events.
        """
        event, category = to_categories("the category", self.values)
        if len(self.values) != count:
            msg = f"Categories has {len(self.values)} events and the call {count}; select the same events"
            raise InputError(msg)
        for name, codes in self._codes(texts=category.dtype.kind == "U").items():
            mask = np.zeros(count, dtype=np.bool_)
            for code in codes:
                if len(category) and isinstance(code, str) != (category.dtype.kind == "U"):
                    msg = f"region {name!r} is the category {code!r}, but the categories are {category.dtype}"
                    raise InputError(msg)
                if len(category):
                    mask[event[category == code]] = True
            yield name, mask

    def _codes(self, *, texts: bool) -> dict[str, tuple[int | str, ...]]:
        """Region → its categories."""
        regions: Any = self.regions
        if isinstance(regions, str) or not isinstance(regions, Mapping | Sequence):
            msg = f"Categories takes a list of regions or a dict of region → category, got {regions!r:.80}"
            raise InputError(msg)
        if not isinstance(regions, Mapping):
            regions = dict(zip(regions, regions if texts else range(len(regions)), strict=True))
        single = (str, Integral)
        made = {name: (code,) if isinstance(code, single) else tuple(code) for name, code in regions.items()}
        for name, codes in made.items():
            if not codes or not all(isinstance(code, single) for code in codes):
                msg = f"region {name!r}: name its category, an integer or a text, or several, got {codes!r}"
                raise InputError(msg)
        return made


Regions: TypeAlias = Mapping[str, Any] | Cuts | Categories


def to_masks(regions: Regions | None, count: int) -> dict[str, Mask]:
    """Masks of the regions, as copies.

    Parameters
    ----------
    regions
        A dict of masks, :class:`Cuts` or :class:`Categories`.
    count
        Number of events.

    Raises
    ------
    InputError
        If there is no region, or if one has another length or is not Boolean.
    """
    given: Any = regions
    if not isinstance(given, Mapping | Cuts | Categories | None):
        form = "Cuts(selection, …)" if hasattr(regions, "require") else "a dict of masks, Cuts or Categories"
        msg = f"regions= is a {type(regions).__name__}; give {form}: regions have names"
        raise InputError(msg)
    masks: dict[str, Mask] = {}
    regions = regions or {}
    for name, values in regions.items() if isinstance(regions, Mapping) else regions.masks(count):
        mask = to_numpy(f"region {name!r}", values, remedy="say with ak.fill_none(mask, False) what they are")
        if mask.shape != (count,) or (mask.dtype != np.bool_ and count):
            got = f"{mask.dtype} of {mask.shape}"
            msg = f"region {name!r} must be a Boolean mask of the {count} events, got {got}"
            raise InputError(msg)
        masks[name] = mask.astype(np.bool_)
    if not masks:
        msg = "regions={name: mask} is needed: limits hold where somebody checks; regions={'all': …} for one"
        raise InputError(msg)
    return masks


def _is_cuts(given: Any) -> bool:
    """Whether something names cuts."""
    if isinstance(given, list | tuple):
        return all(isinstance(name, str) for name in given)
    return isinstance(given, str | Mapping)
