"""Templates of one process, and the systematic that they make: small values that say what they are."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import InputError
from coffea_conserv.names import DATA, Names

__all__ = ("DATA_NAME", "LABEL", "MEANING", "RobustnessSystematic", "Template", "YieldShift")

Floats = NDArray[np.float64]

LABEL = "largest shift found within the limits"
"""What the attacked templates are, for pictures and titles. Goes wherever they go."""

MEANING = f"{LABEL} (a lower estimate of the worst case, not a 1 sigma, not a bound)"
"""The same in full."""

DATA_NAME = "data_obs"
"""Name of data in a ROOT file, as fit tools expect it."""


@dataclass(frozen=True)
class Template:
    """Histograms of one process in one region.

    Parameters
    ----------
    process, region
        Which.
    nominal, up, down
        One-dimensional :class:`hist.Hist` with ``Weight`` storage. Data have no ``up`` and ``down``, whose
        ``label`` says what they are.
    names
        What the attacked ones are called in a ROOT file.
    paired
        Σ w² of the events by nominal bin and by bin in Up, and the same for Down, shape (bins + 2, bins + 2)
        with under- and overflow. Nominal and attacked are the same events, so the errors of differences come
        from those that change the bin. ``None`` where it is not known.
    """

    process: str
    region: str
    nominal: Any
    up: Any = None
    down: Any = None
    names: Names = field(default_factory=Names)
    paired: tuple[Floats, Floats] | None = field(default=None, repr=False, compare=False)

    @property
    def errors(self) -> tuple[Floats, Floats]:
        """Statistical errors of Up − nominal and of Down − nominal, shape (bins,) each, or ``nan``."""
        if self.paired is None:
            unknown = np.full(len(self.nominal.axes[0]), np.nan)
            return unknown, unknown
        up, down = (bin_errors(matrix)[1:-1] for matrix in self.paired)
        return up, down

    @property
    def histograms(self) -> dict[str, Any]:
        """Name in a ROOT file → histogram."""
        if self.process == DATA:
            return {DATA_NAME: self.nominal}
        up, down = (f"{self.process}_{label}" for label in (self.names.up, self.names.down))
        return {self.process: self.nominal, up: self.up, down: self.down}


@dataclass(frozen=True)
class YieldShift:
    """Change of a yield, relative to nominal.

    Parameters
    ----------
    above
        Value of the quantity from which events count.
    nominal
        Sum of weights from there on.
    up, down
        (Up − nominal) / nominal and (Down − nominal) / nominal.
    up_error, down_error
        Statistical errors of these for the attack as it is; ``nan`` where they are not known.
    """

    above: float
    nominal: float
    up: float
    down: float
    up_error: float
    down_error: float

    def __str__(self) -> str:
        texts = []
        for name, value, error in (("Up", self.up, self.up_error), ("Down", self.down, self.down_error)):
            sure = "" if np.isnan(error) else f" ± {100 * error:.2g}"
            texts.append(f"{name} {100 * value:+.2f}{sure} %")
        return ", ".join(texts)


@dataclass(frozen=True, repr=False)
class RobustnessSystematic:
    """The systematic of one process in one region: the largest shift found within the limits.

    That is a lower estimate of the worst case, not a 1 sigma and not a bound.

    Parameters
    ----------
    template
        Nominal, Up and Down.
    quantity
        What was filled.
    working_point
        Where :meth:`impact` starts to count if nothing else is said.

    Examples
    --------
    >>> import hist
    >>> def filled(contents):
    ...     made = hist.Hist(hist.axis.Regular(2, 0, 1, name="score"), storage=hist.storage.Weight())
    ...     made.view()["value"] = contents
    ...     return made
    >>> template = Template("W", "signal", filled([8, 2]), filled([6, 4]), filled([9, 1]))
    >>> systematic = RobustnessSystematic(template, "score", 0.5)
    >>> systematic
    conserv_W in signal (score): largest shift found within the limits
      yield 10: Up +0.00 %, Down +0.00 %
      above 0.5, yield 2: Up +100.00 %, Down -50.00 %
      largest change of a bin: Up +100.0 % in 0.5 … 1, Down -50.0 % in 0.5 … 1
    >>> systematic.impact().up
    1.0
    """

    template: Template
    quantity: str
    working_point: float

    @property
    def name(self) -> str:
        """Name of the nuisance, ``conserv_<process>``."""
        return f"conserv_{self.template.process}"

    @property
    def up(self) -> Any:
        """Template of the attack toward signal, a :class:`hist.Hist`."""
        return self.template.up

    @property
    def down(self) -> Any:
        """Template of the attack toward background, a :class:`hist.Hist`."""
        return self.template.down

    @property
    def relative(self) -> tuple[Floats, Floats]:
        """Up/nominal and Down/nominal, shape (bins,) each; ``nan`` where nominal is empty."""
        return relative(self.template)

    def impact(self, above: float | None = None) -> YieldShift:
        """Change of the yield above a value of the quantity.

        Parameters
        ----------
        above
            Lower edge of a bin; the working point if not given.

        Raises
        ------
        InputError
            If no bin starts there, or nominal has no events above it.
        """
        template, above = self.template, self.working_point if above is None else above
        edges = np.asarray(template.nominal.axes[0].edges)
        first = int(np.argmin(np.abs(edges[:-1] - above)))
        if not np.isclose(edges[first], above, rtol=1e-6, atol=1e-9 * float(edges[-1] - edges[0])):
            msg = (
                f"no bin of {self.quantity!r} starts at {above:g}; the nearest edge is {edges[first]:g}. "
                "Take an axis with an edge there, or ask for the impact above an edge"
            )
            raise InputError(msg)
        nominal, *varied = (
            float(one.values()[first:].sum()) for one in (template.nominal, template.up, template.down)
        )
        if nominal <= 0:
            msg = f"{template.region}/{template.process} has no yield above {above:g} to compare with"
            raise InputError(msg)
        up, down = ((value - nominal) / nominal for value in varied)
        up_error = down_error = float("nan")
        if template.paired is not None:
            up_error, down_error = (_crossing(matrix, first + 1) / nominal for matrix in template.paired)
        return YieldShift(above, nominal, up, down, up_error, down_error)

    def __repr__(self) -> str:
        return "\n".join(_lines(self))

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def relative(template: Template) -> tuple[Floats, Floats]:
    """Up/nominal and Down/nominal of a template, ``nan`` where nominal is empty."""
    nominal = np.asarray(template.nominal.values())
    up, down = (
        np.divide(varied.values(), nominal, out=np.full(nominal.shape, np.nan), where=nominal != 0)
        for varied in (template.up, template.down)
    )
    return up, down


def bin_errors(matrix: Floats) -> Floats:
    """Errors of attacked − nominal by bin, from Σ w² of nominal × attacked bin: of events that change it."""
    moved = matrix - np.diag(np.diag(matrix))
    errors: Floats = np.sqrt(moved.sum(axis=0) + moved.sum(axis=1))
    return errors


def _crossing(matrix: Floats, first: int) -> float:
    """Error of the change of a yield in bins from ``first`` to the last but one: of events in or out."""
    there = np.zeros(len(matrix), dtype=bool)
    there[first:-1] = True
    return float(np.sqrt(matrix[np.ix_(there, ~there)].sum() + matrix[np.ix_(~there, there)].sum()))


def _lines(systematic: RobustnessSystematic) -> list[str]:
    template, quantity = systematic.template, systematic.quantity
    lines = [f"{systematic.name} in {template.region} ({quantity}): {LABEL}"]
    edges = np.asarray(template.nominal.axes[0].edges)
    for above, what in ((float(edges[0]), "yield"), (systematic.working_point, "above")):
        try:
            shift = systematic.impact(above)
        except InputError:  # no bin starts there, or nothing is in it: a text need not have it
            continue
        head = (
            f"yield {shift.nominal:.4g}" if what == "yield" else f"above {above:g}, yield {shift.nominal:.4g}"
        )
        lines.append(f"  {head}: {shift}")
    largest = []
    for name, ratio in zip(("Up", "Down"), systematic.relative, strict=True):
        change = np.nan_to_num(ratio - 1)
        place = int(np.argmax(np.abs(change)))
        largest.append(f"{name} {100 * change[place]:+.1f} % in {edges[place]:g} … {edges[place + 1]:g}")
    lines.append(f"  largest change of a bin: {', '.join(largest)}")
    return lines
