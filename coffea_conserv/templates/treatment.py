"""Treatment of templates before a fit: bins merged, sides, shape and norm, scale, smoothing."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from hist import Hist, storage
from hist import axis as axes
from numpy.typing import NDArray

from coffea_conserv.checks import as_flag
from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.templates.checks import TemplateWarning
from coffea_conserv.templates.template import Template

__all__ = ("Treatment", "treat", "with_contents")

Floats = NDArray[np.float64]

NEGATIVE = ("keep", "zero")
SIDES = ("both", "one", "mirror", "mirror ratio")
PARTS = ("all", "shape", "norm")
SOURCES = ("up", "down")

SMALLEST_TO_SMOOTH = 3
"""Bins that the running medians of 353QH need."""


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """What is done with templates before a fit. Nothing, if nothing is said.

    The steps come in the order of the parameters.

    Parameters
    ----------
    merge
        Number of neighbouring bins that become one, or the edges of the new bins, all of them edges already.
    negative
        ``keep``, or ``zero``: bins with a negative sum of weights become 0 in nominal, Up and Down, which is
        noted with their share of the content. Fit tools do so, or refuse them.
    smooth
        Whether Up/nominal and Down/nominal are smoothed by the algorithm 353QH twice (J. Friedman, 1974 CERN
        School of Computing, as cabinetry has it); yields stay.
    sides
        ``both``: Up toward signal, Down toward background, as attacked. ``one``: the other side is nominal.
        ``mirror``: the other side is 2·nominal − attacked, where that is negative 0, which is noted.
        ``mirror ratio``: the other side is nominal²/attacked; where attacked is not positive, nominal.
    source
        ``up`` or ``down``: the attack that ``one`` and the mirrors start from.
    part
        ``all``; ``shape``: Up and Down with the yield of nominal; ``norm``: nominal with the yield of Up and
        Down.
    inclusive
        Whether yields of ``part`` are those of all regions of the process together, so that events may go
        from one region to another. If not, of each region.
    scale
        Factor on Up − nominal and Down − nominal, above 0. How much of the largest shift found is taken as
        uncertainty is the choice of the analysis.
    prune
        Up and Down become nominal, which is noted, where no bin changes by more than this share of nominal.

    Raises
    ------
    ConfigurationError
        If one of them is something else, or if smoothing needs a package that is not there.

    Examples
    --------
    >>> Treatment(scale=-1)
    Traceback (most recent call last):
    ...
    coffea_conserv.errors.ConfigurationError: scale=-1 must be a finite number above 0
    """

    merge: int | Sequence[float] = 1
    negative: str = "keep"
    smooth: bool = False
    sides: str = "both"
    source: str = "up"
    part: str = "all"
    inclusive: bool = False
    scale: float = 1.0
    prune: float = 0.0

    def __post_init__(self) -> None:
        choices = {"negative": NEGATIVE, "sides": SIDES, "source": SOURCES, "part": PARTS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                msg = f"{name}={getattr(self, name)!r} is none of {', '.join(map(repr, known))}"
                raise ConfigurationError(msg)
        for name in ("smooth", "inclusive"):
            object.__setattr__(self, name, as_flag(name, getattr(self, name)))
        _check_number("scale", self.scale, positive=True)
        _check_number("prune", self.prune, positive=False)
        if not isinstance(self.merge, int):
            edges = np.asarray(self.merge, dtype=np.float64)
            if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
                msg = f"merge={self.merge!r:.80} must be a number of bins, or edges that rise"
                raise ConfigurationError(msg)
            object.__setattr__(self, "merge", tuple(edges.tolist()))
        elif isinstance(self.merge, bool) or self.merge < 1:
            msg = f"merge={self.merge!r} must be a number of bins from 1 on, or edges"
            raise ConfigurationError(msg)
        if self.smooth and importlib.util.find_spec("cabinetry") is None:
            msg = "smooth=True needs cabinetry: pip install 'coffea-conserv[fit]'"
            raise ConfigurationError(msg)


def _check_number(name: str, value: Any, *, positive: bool) -> None:
    number = not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
    if not number or value < 0 or (positive and value == 0):
        msg = f"{name}={value!r} must be a finite number {'above 0' if positive else 'from 0 on'}"
        raise ConfigurationError(msg)


def treat(
    entries: Sequence[Template], treatment: Treatment
) -> tuple[tuple[Template, ...], tuple[TemplateWarning, ...]]:
    """Treat the templates of all processes, and say what was clipped or pruned.

    Parameters
    ----------
    entries
        Templates of any processes and regions; those of data only get their bins merged.
    treatment
        What is done.

    Raises
    ------
    InputError
        If bins cannot be merged so, a template has too few of them to be smoothed, or a yield that is divided
        by is not positive.
    """
    notes: list[TemplateWarning] = []
    made = [_merged(entry, treatment.merge) for entry in entries]
    if treatment.negative == "zero":
        made = [_not_negative(entry, notes) for entry in made]
    if treatment.smooth:
        made = _attacked(made, _smoothed)
    if treatment.sides != "both":
        made = _attacked(made, lambda entry: _sided(entry, treatment, notes))
    if treatment.part != "all":
        made = _parted(made, treatment)
    if treatment.scale != 1:
        made = _attacked(made, lambda entry: _scaled(entry, treatment.scale))
    if treatment.prune:
        made = _attacked(made, lambda entry: _pruned(entry, treatment.prune, notes))
    return tuple(made), tuple(notes)


def _attacked(entries: Sequence[Template], change: Callable[[Template], Template]) -> list[Template]:
    """Change all templates that have Up and Down."""
    return [entry if entry.up is None else change(entry) for entry in entries]


def with_contents(histogram: Any, contents: Floats) -> Any:
    """Copy of a histogram with other contents, shape (bins with flow,), and the same relative errors.

    Variances of bins that were empty stay.
    """
    made = histogram.copy()
    view = made.view(flow=True)
    before = view["value"].copy()
    factor = np.divide(contents, before, out=np.ones_like(before), where=before != 0)
    view["variance"] *= factor**2
    view["value"] = contents
    return made


def _flow(histogram: Any) -> Floats:
    contents: Floats = np.array(histogram.view(flow=True)["value"], dtype=np.float64)
    return contents


def _inside(histogram: Any) -> slice:
    """Where in contents with flow the bins of the axis are."""
    axis = histogram.axes[0]
    first = int(axis.traits.underflow)
    return slice(first, first + axis.size)


def _pair(entry: Template, change: Callable[[Floats], Floats]) -> tuple[Floats, Floats] | None:
    if entry.paired is None:
        return None
    up, down = entry.paired
    return change(up), change(down)


def _varied(entry: Template, up: Floats, down: Floats, paired: Any = None) -> Template:
    return replace(entry, up=with_contents(entry.up, up), down=with_contents(entry.down, down), paired=paired)


# ------------------------------------------------------------------------------------------ merging bins


def _merged(entry: Template, merge: int | Sequence[float]) -> Template:
    if merge == 1:
        return entry
    before = np.asarray(entry.nominal.axes[0].edges, dtype=np.float64)
    kept = _kept_edges(before, merge, entry)
    nominal, up, down = (
        None if histogram is None else _rebinned(histogram, kept)
        for histogram in (entry.nominal, entry.up, entry.down)
    )
    return replace(entry, nominal=nominal, up=up, down=down, paired=_pair(entry, lambda m: _cells(m, kept)))


def _kept_edges(before: Floats, merge: int | Sequence[float], entry: Template) -> NDArray[np.int64]:
    """Which edges stay."""
    bins = len(before) - 1
    if isinstance(merge, int):
        if bins % merge:
            msg = f"{entry.region}/{entry.process} has {bins} bins, which do not become whole ones of {merge}"
            raise InputError(msg)
        return np.arange(0, bins + 1, merge)
    wanted = np.asarray(merge)
    kept = np.abs(before[None, :] - wanted[:, None]).argmin(axis=1)
    wrong = ~np.isclose(before[kept], wanted, rtol=1e-6, atol=1e-9 * (before[-1] - before[0]))
    if wrong.any():
        msg = (
            f"merge: {', '.join(f'{edge:g}' for edge in wanted[wrong])} is no edge of "
            f"{entry.region}/{entry.process}, whose edges are {', '.join(f'{edge:g}' for edge in before)}"
        )
        raise InputError(msg)
    return np.asarray(kept, dtype=np.int64)


def _rebinned(histogram: Any, kept: NDArray[np.int64]) -> Any:
    """Histogram with fewer bins; what is cut off at the ends goes to under- and overflow."""
    axis = histogram.axes[0]
    edges = np.asarray(axis.edges, dtype=np.float64)[kept]
    made: Any = Hist(
        axes.Variable(edges, name=axis.name, label=axis.label),
        storage=storage.Weight(),
        label=histogram.label,
    )
    view, into = histogram.view(flow=True), made.view(flow=True)
    sides = (1 - int(axis.traits.underflow), 1 - int(axis.traits.overflow))
    starts = np.concatenate([[0], kept + 1])
    for name in ("value", "variance"):
        into[name] = np.add.reduceat(np.pad(np.asarray(view[name]), sides), starts)
    return made


def _cells(matrix: Floats, kept: NDArray[np.int64]) -> Floats:
    starts = np.concatenate([[0], kept + 1])
    merged: Floats = np.add.reduceat(np.add.reduceat(matrix, starts, axis=0), starts, axis=1)
    return merged


# ------------------------------------------------------------------- negative bins, smoothing and sides


def _not_negative(entry: Template, notes: list[TemplateWarning]) -> Template:
    """Set negative bins to 0, with the variance that they had, and say how much that is."""
    if entry.up is None:
        return entry
    made, bins, share = [], set[int](), 0.0
    for histogram in (entry.nominal, entry.up, entry.down):
        contents = _flow(histogram)
        bins |= set(np.flatnonzero(contents[_inside(histogram)] < 0).tolist())
        share = max(share, -float(contents[contents < 0].sum()) / max(float(np.abs(contents).sum()), 1e-300))
        kept = histogram.copy()
        kept.view(flow=True)["value"] = np.maximum(contents, 0.0)
        made.append(kept)
    if not share:
        return entry
    text = f"negative bins were set to 0, at most {100 * share:.2g} % of the content"
    notes.append(TemplateWarning(entry.process, entry.region, "negative to zero", text, tuple(sorted(bins))))
    return replace(entry, nominal=made[0], up=made[1], down=made[2], paired=None)


def _smoothed(entry: Template) -> Template:
    from cabinetry.smooth import smooth_353qh_twice  # noqa: PLC0415 -- of an extra, and slow to import

    inside, nominal = _inside(entry.nominal), _flow(entry.nominal)
    bins = inside.stop - inside.start
    if bins < SMALLEST_TO_SMOOTH:
        msg = f"{entry.region}/{entry.process} has {bins} bins and smoothing needs {SMALLEST_TO_SMOOTH}"
        raise InputError(msg)
    made = []
    for histogram in (entry.up, entry.down):
        contents = _flow(histogram)
        base, before = nominal[inside], contents[inside]
        ratio = np.divide(before, base, out=np.ones_like(base), where=base != 0)
        smooth = np.where(base != 0, base * smooth_353qh_twice(ratio), before)
        total = smooth.sum()
        contents[inside] = smooth * (before.sum() / total if total else 1.0)
        made.append(contents)
    return _varied(entry, *made)


def _sided(entry: Template, treatment: Treatment, notes: list[TemplateWarning]) -> Template:
    source = getattr(entry, treatment.source)
    nominal, attacked = _flow(entry.nominal), _flow(source)
    if treatment.sides == "one":
        other = nominal
    elif treatment.sides == "mirror":
        other = 2 * nominal - attacked
        low = np.minimum(nominal, 0.0)  # where nominal itself is negative, that stays as it is
        below = other < low
        other = np.where(below, low, other)
        bins = np.flatnonzero(below[_inside(entry.nominal)])
        if len(bins):
            text = f"the mirror image of {treatment.source.title()} was negative and is 0 there"
            notes.append(TemplateWarning(entry.process, entry.region, "clipped", text, tuple(bins.tolist())))
    else:
        other = np.divide(nominal**2, attacked, out=nominal.copy(), where=(attacked > 0) & (nominal > 0))
    base = with_contents(entry.nominal, other)
    base.label = source.label
    pair = None
    if entry.paired is not None and treatment.sides != "mirror ratio":
        matrix = entry.paired[SOURCES.index(treatment.source)]
        still = np.diag(np.diag(matrix))
        pair = (matrix, still if treatment.sides == "one" else matrix)
    if treatment.source == "up":
        return replace(entry, down=base, paired=pair)
    return replace(entry, up=base, down=source, paired=pair and pair[::-1])


# ---------------------------------------------------------------------------- shape, norm, scale, pruning


def _parted(entries: Sequence[Template], treatment: Treatment) -> list[Template]:
    """Shape or norm of Up and Down, with yields of each region or of all regions of the process."""
    yields = {
        (entry.process, entry.region): np.array([_yield(h) for h in (entry.nominal, entry.up, entry.down)])
        for entry in entries
        if entry.up is not None
    }
    made = []
    for entry in entries:
        if entry.up is None:
            made.append(entry)
            continue
        keys = [key for key in yields if key[0] == entry.process] if treatment.inclusive else []
        total = np.sum([yields[key] for key in keys or [(entry.process, entry.region)]], axis=0)
        if treatment.part == "norm" and total.any():
            _check_yields(entry, total[:1])
            made.append(_varied(entry, *(_flow(entry.nominal) * value / total[0] for value in total[1:])))
        elif total.any():
            _check_yields(entry, total[1:])
            up, down = (
                _flow(h) * total[0] / value
                for h, value in zip((entry.up, entry.down), total[1:], strict=True)
            )
            made.append(_varied(entry, up, down))
        else:
            made.append(entry)
    return made


def _yield(histogram: Any) -> float:
    return float(histogram.values().sum())


def _check_yields(entry: Template, divisors: Floats) -> None:
    if (divisors <= 0).any():
        msg = (
            f"{entry.region}/{entry.process} has a yield of {divisors.min():g}, so shape and norm cannot be "
            "told apart; take inclusive=True, merge processes, or leave part='all'"
        )
        raise InputError(msg)


def _scaled(entry: Template, scale: float) -> Template:
    nominal = _flow(entry.nominal)
    up, down = (nominal + scale * (_flow(h) - nominal) for h in (entry.up, entry.down))
    return _varied(entry, up, down, _pair(entry, lambda matrix: scale**2 * matrix))


def _pruned(entry: Template, least: float, notes: list[TemplateWarning]) -> Template:
    nominal = np.asarray(entry.nominal.values())
    changes = [np.abs(np.asarray(h.values()) - nominal) for h in (entry.up, entry.down)]
    if any((change > least * np.abs(nominal)).any() for change in changes):
        return entry
    text = f"pruned: no bin changes by more than {100 * least:g} %"
    notes.append(TemplateWarning(entry.process, entry.region, "pruned", text))
    flow = _flow(entry.nominal)
    return _varied(entry, flow, flow)
