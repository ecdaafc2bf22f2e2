"""The page: sections of tables and pictures, in one file without a network."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.files import replacing
from coffea_conserv.limits.verdict import Verdict
from coffea_conserv.report import tables
from coffea_conserv.report.tables import PageTable
from coffea_conserv.results.plain import plain_values
from coffea_conserv.templates.template import LABEL, MEANING

if TYPE_CHECKING:
    from coffea_conserv.evidence.gather import Evidence
    from coffea_conserv.exports.impact import FitImpact
    from coffea_conserv.plotting.style import Figure
    from coffea_conserv.results.result import Result
    from coffea_conserv.studies.controls import Control

__all__ = ("Picture", "write_page")

DPI = 80


@dataclass(frozen=True)
class Picture:
    """A picture of the page: PNG in base64, its text, and whether it is shown only when asked for."""

    data: str
    text: str
    wide: bool = True


@dataclass(frozen=True)
class _Section:
    """A part of the page."""

    name: str
    title: str
    text: str
    tables: Sequence[PageTable] = ()
    pictures: Sequence[Picture] = ()
    gallery: Sequence[Picture] = ()


def write_page(  # noqa: PLR0913 -- what there is of a run, all of it optional
    result: Result,
    path: str | Path,
    *,
    evidence: Evidence | None = None,
    impact: FitImpact | None = None,
    controls: Sequence[Control] = (),
    title: str = "Robustness of the classifier",
    label: str = "work in progress",
    regions: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the report of a run as one HTML page.

    Parameters
    ----------
    result
        The result of the run.
    path
        The file; it is there as a whole or not at all.
    evidence
        Of :func:`coffea_conserv.evidence.gather_evidence`.
    impact
        Of :func:`coffea_conserv.exports.fit_impact`.
    controls
        Of :func:`coffea_conserv.run_controls`.
    title, label
        Of the page, and status of its pictures.
    regions
        Regions that are drawn; all if not given. Verdict and tables hold all of them.
    progress
        Called with the number of pictures done and of all pictures.

    Raises
    ------
    ConfigurationError
        If jinja2, or what the pictures need, is not there.
    """
    try:
        import jinja2  # noqa: PLC0415 -- of an extra

        from coffea_conserv.report.pictures import draw_pictures  # noqa: PLC0415 -- matplotlib is optional
    except ImportError as error:
        msg = f"the report needs {error.name or 'matplotlib'}: pip install 'coffea-conserv[report]'"
        raise ConfigurationError(msg) from None
    chosen = result.regions if regions is None else tuple(regions)
    pictures = {
        name: [Picture(_encoded(draw), text, wide) for draw, text, wide in drawn]
        for name, drawn in draw_pictures(
            result, chosen, evidence=evidence, impact=impact, label=label, progress=progress
        ).items()
    }
    plain = result.to_dict()
    sections = _sections(result, plain, chosen, pictures, evidence=evidence, impact=impact, controls=controls)
    values: dict[str, Any] = {"result": plain, "evidence": None if evidence is None else evidence.to_dict()}
    values |= {"impact": None if impact is None else impact.to_dict()}
    values |= {"controls": [asdict(row) for row in controls]}
    folder = files("coffea_conserv.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    text = environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8")).render(
        title=title,
        label=label,
        meaning=MEANING,
        what=LABEL,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        mood=_mood(result.verdict),
        summary=result.verdict.summary,
        budget=result.settings.budget.meaning(),
        headlines=_headlines(result, chosen, evidence, impact),
        sections=sections,
        style=(folder / "page.css").read_text(encoding="utf-8"),
        script=(folder / "page.js").read_text(encoding="utf-8"),
        values=_script_safe(values),
    )
    with replacing(Path(path)) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


def _mood(verdict: Verdict) -> str:
    """Good only if every limit is kept and every group was attacked."""
    if not verdict.passed:
        return "bad"
    return "" if any(one.wholly for one in verdict.unattacked) else "good"


def _encoded(draw: Callable[[], Figure]) -> str:
    stream = io.BytesIO()
    draw().savefig(stream, format="png", dpi=DPI)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _script_safe(values: Any) -> str:
    """JSON that can stand in a script element."""
    text = json.dumps(plain_values(values), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _headlines(
    result: Result, regions: Sequence[str], evidence: Evidence | None, impact: FitImpact | None
) -> list[str]:
    """What a reviewer reads first, one sentence each."""
    lines = [line for region in regions if (line := _crossing(result, region))]
    if evidence is not None:
        plain = [row for row in evidence.detected if "correlation" in row.test or "marginal" in row.test]
        if plain:
            first = min(plain, key=lambda row: row.events)
            lines.append(
                f"Of marginals and linear correlations the first to see an attack is {first.test} "
                f"({first.what} in {first.region}, {first.variation}): {first.events:,.0f} events of data."
            )
        lines.append(_noticed(evidence))
        wrong = sorted(evidence.wrong_before, key=lambda row: row.found.p_syst)
        if wrong:
            shown = ", ".join(f"{row.quantity} in {row.region}" for row in wrong[:6])
            shown += f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
            lines.append(f"Data disagree with nominal simulation already, not by an attack: {shown}.")
    if impact is not None:
        lines.append(tables.impact_table(impact).note)
    return lines


def _crossing(result: Result, region: str) -> str:
    """One sentence on what crosses the working point in a region, of all simulation."""
    words = {"conservUp": "toward signal", "conservDown": "toward background"}
    point, parts = result.settings.points[0], []
    for row in result.fooling:
        if (row.level, row.region, row.working_point) == ("all", region, point) and row.ratio == row.ratio:
            share = f"{100 * row.ratio:.1f} ± {100 * row.error:.1f} %"
            parts.append(f"{share} {words[row.variation]} (mean score {row.score_shift:+.3f})")
    return f"{region}: {' and '.join(parts)} of the weight crosses the score {point:g}." if parts else ""


def _noticed(evidence: Evidence) -> str:
    noticed = evidence.noticed
    if not any(row.against == "data" for row in evidence.checks):
        return "There are no data to compare with."
    if not noticed:
        return "No one-dimensional check against data that passes nominal would fail attacked (5 %)."
    names = ", ".join(f"{row.quantity} in {row.region} ({row.variation})" for row in noticed)
    return f"Checks against data that pass nominal and would fail attacked (5 %): {names}."


def _sections(
    result: Result,
    plain: dict[str, Any],
    regions: Sequence[str],
    pictures: dict[str, list[Picture]],
    *,
    evidence: Evidence | None,
    impact: FitImpact | None,
    controls: Sequence[Control],
) -> list[_Section]:
    def shown(name: str) -> list[Picture]:
        return pictures.get(name, [])

    made = [
        _Section(
            "verdict",
            "Verdict",
            "Every limit, judged on the merged events of the run in every dataset, region and direction.",
            [tables.limits_table(result)],
            shown("verdict"),
        ),
        _Section(
            "systematic",
            "The systematic",
            f"Up and Down are the {MEANING}. How much of it is taken as uncertainty is the choice of the "
            "analysis.",
            [tables.systematics_table(result), tables.fooling_table(result), tables.warnings_table(result)],
            shown("systematic"),
        ),
    ]
    if impact is not None:
        text = "Score templates, fitted with the nuisances of the systematic and statistical errors only."
        made.append(_Section("fit", "In a fit", text, [tables.impact_table(impact)], shown("fit")))
    if evidence is not None:
        text = "How many events of data each test would need to see the attack, and what it would see first."
        made.append(
            _Section("detect", "Detectability", text, [tables.detected_table(evidence)], shown("detect"))
        )
        many = [tables.correlations_table(evidence), tables.worse_table(evidence)]
        many += [tables.tested_table(evidence)] if evidence.tested else []
        text = (
            "What the attack must evade (tier A), what is reported beyond (B), and what should catch it (C)."
        )
        made.append(_Section("evidence", "Evidence in all regions", text, many))
    for region in regions:
        rows = []
        if evidence is not None:
            kinds = {row.against for row in evidence.checks if row.region == region}
            rows = [tables.checks_table(evidence, region, kind) for kind in sorted(kinds, reverse=True)]
        text = "Distributions with data, nominal and attacked simulation, and linear correlations."
        first, rest = shown(f"region {region}")[:2], shown(f"region {region}")[2:]
        made.append(_Section(f"region-{region}", f"Region {region}", text, rows, first, rest))
    if controls:
        text = "What must have no effect, what chance does, and mismodellings that the limits would pass."
        made.append(_Section("controls", "Controls", text, [tables.controls_table(controls)]))
    text = "What was read, what the samples can tell by themselves, and how the run was configured."
    last = [tables.coverage_table(result), tables.statistics_table(result), tables.settings_table(plain)]
    made.append(_Section("run", "The run", text, last))
    return made
