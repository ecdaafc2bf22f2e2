"""All pictures of a result, written to a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from coffea_conserv.plotting.distributions import control_plot, template_plot
from coffea_conserv.plotting.matrices import correlation_plot
from coffea_conserv.plotting.style import STATUS
from coffea_conserv.plotting.usage import limits_plot
from coffea_conserv.sums import VARIATIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from coffea_conserv.result import Result

__all__ = ("save_all",)


def save_all(
    result: Result,
    folder: str | Path,
    *,
    label: str = STATUS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write every picture of a result as PNG.

    Parameters
    ----------
    result
        The result of a run.
    folder
        Where to write; made if it is not there.
    label
        Status of the pictures.
    progress
        Called with the number of pictures done and of all pictures.

    Returns
    -------
    list of pathlib.Path
        The files: control plots of all quantities and regions, templates of the score, correlations, limits.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    todo = list(_pictures(result, label))
    made = []
    for count, (name, draw) in enumerate(todo, start=1):
        path = target / f"{re.sub(r'[^A-Za-z0-9_.+-]', '-', name)}.png"
        draw().savefig(path, dpi=110)
        made.append(path)
        if progress is not None:
            progress(count, len(todo))
    return made


def _pictures(result: Result, label: str) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Name and drawing function of every picture."""
    yield "limits", partial(limits_plot, result, label=label)
    for region in result.regions:
        for quantity in (*result.quantities, "score"):
            yield f"control_{region}_{quantity}", partial(control_plot, result, quantity, region, label=label)
        for process in result.simulation:
            name = f"{region}_{process}"
            yield f"template_{name}", partial(template_plot, result, process, region, label=label)
            for variation in VARIATIONS[1:]:
                draw = partial(correlation_plot, result, process, region, variation, label=label)
                yield f"correlation_{name}_{variation}", draw
