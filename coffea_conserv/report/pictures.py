"""Pictures of the page, section by section."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from coffea_conserv.evidence.gather import Evidence
from coffea_conserv.exports.impact import FitImpact
from coffea_conserv.plotting.distributions import control_plot, templates_plot
from coffea_conserv.plotting.evidence import detectability_plot, impact_plot
from coffea_conserv.plotting.heatmaps import limits_plot
from coffea_conserv.plotting.matrices import correlation_plot
from coffea_conserv.plotting.overview import overview_plot
from coffea_conserv.plotting.style import Figure
from coffea_conserv.results.result import Result

__all__ = ("draw_pictures",)

Drawn = tuple[Callable[[], Figure], str, bool]


def draw_pictures(
    result: Result,
    regions: Sequence[str],
    *,
    evidence: Evidence | None,
    impact: FitImpact | None,
    label: str,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[Drawn]]:
    """Return the pictures of each section, as functions that draw them, with their text and width.

    Parameters
    ----------
    result
        The result of a run.
    regions
        Which regions.
    evidence, impact
        What is drawn of them, where there are some.
    label
        Status of the pictures.
    progress
        Called with the number of pictures done and of all pictures whenever one is drawn.
    """
    made: dict[str, list[Drawn]] = {}
    for section, drawn in _all(result, regions, evidence, impact, label):
        made.setdefault(section, []).append(drawn)
    total, done = sum(len(drawn) for drawn in made.values()), [0]

    def counted(draw: Callable[[], Figure]) -> Figure:
        figure = draw()
        done[0] += 1
        if progress is not None:
            progress(done[0], total)
        return figure

    return {name: [(partial(counted, d), t, w) for d, t, w in drawn] for name, drawn in made.items()}


def _all(
    result: Result,
    regions: Sequence[str],
    evidence: Evidence | None,
    impact: FitImpact | None,
    label: str,
) -> Iterator[tuple[str, Drawn]]:
    yield "verdict", (partial(limits_plot, result, label=label), "used share of the tightest limits", True)
    yield "systematic", (partial(overview_plot, result, label=label), "score and fooling ratios", True)
    for region in regions:
        draw = partial(templates_plot, result, region, label=label)
        yield "systematic", (draw, f"score templates in {region}", True)
    if impact is not None:
        yield "fit", (partial(impact_plot, impact, label=label), "impacts and pulls", True)
    if evidence is not None and evidence.detected:
        draw = partial(detectability_plot, evidence.detected, label=label)
        yield "detect", (draw, "events that each test needs", True)
    for region in regions:
        draw = partial(correlation_plot, result, region, label=label)
        yield f"region {region}", (draw, f"correlations in {region}", True)
        for quantity in ("score", *result.quantities):
            draw = partial(control_plot, result, quantity, region, label=label)
            yield f"region {region}", (draw, f"{quantity} in {region}", False)
