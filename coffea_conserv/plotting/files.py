"""The pictures of a result, written to a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from coffea_conserv.errors import InputError
from coffea_conserv.names import DATA
from coffea_conserv.plotting.distributions import control_plot, template_plot, templates_plot
from coffea_conserv.plotting.heatmaps import limits_plot
from coffea_conserv.plotting.matrices import correlation_plot
from coffea_conserv.plotting.overview import overview_plot
from coffea_conserv.plotting.style import STATUS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from coffea_conserv.results.result import Result

__all__ = ("save_all",)

_Picture = tuple[tuple[str, ...], Callable[[], "Figure"]]

_DPI = 100


def save_all(
    result: Result,
    folder: str | Path,
    *,
    regions: Sequence[str] | None = None,
    quantities: Sequence[str] | None = None,
    each_process: bool = False,
    label: str = STATUS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write the pictures of a result as PNG.

    ::

        overview.png                       the effect on the score, and the fooling ratios: look here first
        limits.png                         how much of its limits each group uses
        <region>/templates.png             score of each process, nominal and attacked
        <region>/correlations.png          linear correlations and what the attacks change
        <region>/control_<quantity>.png    data and simulation, nominal and attacked

    Parameters
    ----------
    result
        The result of a run.
    folder
        Where to write; made if it is not there. Pictures of the same name are replaced, others stay.
    regions
        Regions to draw; all if not given.
    quantities
        Quantities of the control plots; the score, all features and watched quantities if not given.
    each_process
        Whether to write ``<region>/template_<process>.png`` and ``<region>/correlations_<process>.png`` too.
    label
        Status of the pictures.
    progress
        Called with the number of pictures done and of all pictures.

    Returns
    -------
    list of pathlib.Path
        The files in the order in which they were written. Characters of names that are no letters, digits or
        ``_.+-`` become ``-``; names that would then be equal get a number.

    Raises
    ------
    InputError
        If there is no such region or quantity.
    """
    regions = tuple(result.regions if regions is None else regions)
    quantities = tuple(("score", *result.quantities) if quantities is None else quantities)
    _check(result, regions, quantities)
    todo = list(_pictures(result, regions, quantities, label))
    if each_process:
        todo += _by_process(result, regions, label)
    made = []
    for path, (_, draw) in zip(_paths(Path(folder), [names for names, _ in todo]), todo, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        draw().savefig(path, dpi=_DPI)
        made.append(path)
        if progress is not None:
            progress(len(made), len(todo))
    return made


def _check(result: Result, regions: Sequence[str], quantities: Sequence[str]) -> None:
    for region in regions:
        if region not in result.regions:
            msg = f"there is no region {region!r}; there are {', '.join(result.regions) or 'none'}"
            raise InputError(msg)
    for quantity in quantities:
        result.axis(quantity)


def _pictures(
    result: Result, regions: Sequence[str], quantities: Sequence[str], label: str
) -> Iterator[_Picture]:
    """Folder and name, and drawing function, of every picture of the default set."""
    yield ("overview",), partial(overview_plot, result, label=label)
    yield ("limits",), partial(limits_plot, result, label=label)
    for region in regions:
        yield (region, "templates"), partial(templates_plot, result, region, label=label)
        yield (region, "correlations"), partial(correlation_plot, result, region, label=label)
        for quantity in quantities:
            yield (
                (region, f"control_{quantity}"),
                partial(control_plot, result, quantity, region, label=label),
            )


def _by_process(result: Result, regions: Sequence[str], label: str) -> Iterator[_Picture]:
    """Pictures of single processes where they are filled."""
    for region in regions:
        for process in result.process_names:
            if process != DATA and result.has(process, region):
                draw = partial(template_plot, result, process, region, label=label)
                yield (region, f"template_{process}"), draw
                draw = partial(correlation_plot, result, region, process, label=label)
                yield (region, f"correlations_{process}"), draw


def _paths(folder: Path, names: Sequence[tuple[str, ...]]) -> Iterator[Path]:
    """Files of the pictures: no name leaves the folder, and no two are the same on any file system."""
    chosen: dict[tuple[str, ...], str] = {}
    taken: set[str] = set()
    for parts in names:
        for depth in range(1, len(parts) + 1):
            if parts[:depth] not in chosen:
                above = f"{chosen[parts[: depth - 1]]}/" if depth > 1 else ""
                name = above + _plain(parts[depth - 1])
                chosen[parts[:depth]] = _free(name, taken)
        yield folder / f"{chosen[parts]}.png"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", name).lstrip(".") or "-"


def _free(name: str, taken: set[str]) -> str:
    """Return the name, with a number if another one differs in nothing but upper and lower case."""
    number = 1
    while (found := name if number == 1 else f"{name}-{number}").casefold() in taken:
        number += 1
    taken.add(found.casefold())
    return found
