"""Checks of templates: what a fit would stumble over.

The checks are those of Combine's ValidateDatacards, as far as they apply to templates of the same events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.names import VARIATIONS

__all__ = ("TemplateWarning", "check_objective", "check_template")

Floats = NDArray[np.float64]

NO_EFFECT = 0.001
"""Σ 2|varied − nominal| / (|varied| + |nominal|) below which templates are the same."""

ONE_SIDED = 0.01
"""Share of nominal by which Up and Down must both change a bin to count as on the same side."""

YIELD = 0.1
"""Change of the yield above which it is worth a look."""

REMEDIES = {
    "empty": "leave the process out of this region",
    "negative": "merge bins, or process more events; fit tools set such bins to 0 or refuse them",
    "from nothing": "merge bins: a fit cannot scale an empty bin",
    "above 100 %": "merge bins, or take a smaller scale; a fit extrapolates such changes badly",
    "same side": "take sides='one' or 'mirror', or 'whole' templates of an envelope",
    "same direction": "take part='shape', or sides='one'",
    "no effect": "leave the nuisance out, or prune it",
    "yield": "take part='shape' if the yield is constrained elsewhere",
    "step": "take objective='score'",
    "no background": "merge bins: a fit of a signal without background there is unstable",
    "clipped": "take 'mirror ratio' or 'one', or merge bins",
    "negative to zero": "merge bins, or process more events, if it is more than you would neglect",
    "pruned": "nothing to do; take a smaller prune= to keep it",
}
"""Kind of a finding → what to do about it."""


@dataclass(frozen=True)
class TemplateWarning:
    """One thing to look at in the templates of a process in a region.

    Parameters
    ----------
    process, region
        Where; both empty if it is about all of them.
    kind
        One of :data:`REMEDIES`.
    text
        What was found.
    bins
        Where in the template, from 0, without under- and overflow.
    """

    process: str
    region: str
    kind: str
    text: str
    bins: tuple[int, ...] = ()

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return REMEDIES[self.kind]


def check_objective(objective: str) -> tuple[TemplateWarning, ...]:
    """Warn of score templates of an attack that moves events across the working point and no further."""
    if objective != "cross":
        return ()
    text = (
        "objective 'cross' leaves a step in the score at the working point; use these templates for the "
        "fooling ratio only, and objective 'score' for a fit"
    )
    return (TemplateWarning("", "", "step", text),)


def check_template(
    process: str,
    region: str,
    nominal: Floats,
    up: Floats,
    down: Floats,
    labels: Sequence[str] = VARIATIONS[1:],
) -> tuple[TemplateWarning, ...]:
    """Check the templates of one process in one region.

    Parameters
    ----------
    process, region
        Which templates.
    nominal, up, down
        Contents, shape (bins,).
    labels
        What Up and Down are called.

    Examples
    --------
    >>> import numpy as np
    >>> nominal, up, down = np.array([[4.0, 4.0, 1.0], [3.0, 3.0, 3.0], [5.0, 4.0, 0.0]])
    >>> [(found.kind, found.bins) for found in check_template("W", "signal", nominal, up, down)]
    [('above 100 %', (2,))]
    """
    if not nominal.any() and not up.any() and not down.any():
        return (TemplateWarning(process, region, "empty", "there are no events"),)
    varied = dict(zip(labels, (up, down), strict=True))
    checks = (_bin_checks(nominal, varied), _shape_checks(nominal, varied))
    return tuple(TemplateWarning(process, region, *found) for check in checks for found in check)


def _bin_checks(nominal: Floats, varied: Mapping[str, Floats]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Kind, text and bins of what is wrong with single bins."""
    for name, content in {"nominal": nominal, **varied}.items():
        yield from _found("negative", f"{name} is negative", content < 0)
    for name, content in varied.items():
        yield from _found("from nothing", f"nominal is empty, {name} is not", (nominal == 0) & (content != 0))
        large = (nominal > 0) & (np.abs(content - nominal) > nominal)
        yield from _found("above 100 %", f"{name} changes by more than 100 %", large)
    up, down = (content - nominal for content in varied.values())
    both = np.minimum(np.abs(up), np.abs(down)) > ONE_SIDED * np.abs(nominal)
    same = both & (up * down > 0) & (nominal != 0)
    yield from _found("same side", "Up and Down are on the same side of nominal", same)


def _found(kind: str, text: str, bins: NDArray[np.bool_]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    if bins.any():
        yield kind, text, tuple(int(place) for place in np.flatnonzero(bins))


def _same(one: Floats, two: Floats) -> bool:
    """Tell whether there is no genuine difference of shape."""
    size = np.abs(one) + np.abs(two)
    change = np.divide(2 * np.abs(one - two), size, out=np.zeros_like(size), where=size > 0)
    return bool(change.sum() < NO_EFFECT)


def _shape_checks(nominal: Floats, varied: Mapping[str, Floats]) -> Iterator[tuple[str, str]]:
    """Kind and text of what is wrong with whole templates."""
    same = [name for name, content in varied.items() if _same(content, nominal)]
    if same:
        yield "no effect", f"{' and '.join(same)} {'is' if len(same) == 1 else 'are'} the same as nominal"
    elif _same(*varied.values()):
        yield "no effect", f"{' is the same as '.join(varied)}"
    total = nominal.sum()
    changes = [content.sum() / total - 1 if total > 0 else 0.0 for content in varied.values()]
    if min(changes) > NO_EFFECT or max(changes) < -NO_EFFECT:
        yield "same direction", f"Up and Down both {'raise' if changes[0] > 0 else 'lower'} the yield"
    for name, content in varied.items():
        if total > 0 and abs(content.sum() / total - 1) > YIELD:
            yield "yield", f"{name} changes the yield by {content.sum() / total - 1:+.0%}"
