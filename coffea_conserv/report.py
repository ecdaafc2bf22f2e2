"""Tables for the terminal and plain values for JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from coffea_conserv.features import Feature
from coffea_conserv.templates import MEANING, replacing
from coffea_conserv.verdict import Limit

if TYPE_CHECKING:
    from rich.console import Console

    from coffea_conserv.result import Result, Settings

__all__ = ("fooling_table", "print_report", "to_dict", "verdict_table", "worst_limits", "write_json")

_PACKAGES = ("coffea-conserv", "coffea", "numpy", "torch")


def usage(limit: Limit) -> float:
    """Share of a limit that is used: value / limit; 0 or infinite for a limit of 0."""
    if limit.limit > 0:
        return limit.value / limit.limit
    return math.inf if limit.value > 0 else 0.0


def worst_limits(result: Result) -> tuple[Limit, ...]:
    """Limit with the largest share used in each group, in the order of the verdict."""
    worst: dict[str, Limit] = {}
    for limit in result.verdict.limits:
        if limit.group not in worst or usage(limit) > usage(worst[limit.group]):
            worst[limit.group] = limit
    return tuple(worst.values())


def verdict_table(result: Result, *, all_limits: bool = False) -> Table:
    """Make a table of the limits.

    Parameters
    ----------
    result
        The result of a run.
    all_limits
        Whether to list every limit instead of the tightest one of each group.
    """
    verdict = result.verdict
    broken = len(verdict.broken)
    title = f"{len(verdict.limits)} limits kept" if verdict.passed else f"{broken} limit(s) broken"
    table = Table(title=title, caption=result.settings.budget.meaning())
    table.add_column("group", overflow="fold")
    table.add_column("limit" if all_limits else "tightest limit", overflow="fold")
    table.add_column("measure")
    for name in ("value", "allowed", "used"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for limit in verdict.limits if all_limits else worst_limits(result):
        used = usage(limit)
        table.add_row(
            escape(limit.group),
            escape(limit.name),
            limit.measure,
            f"{limit.value:.4g}",
            f"{limit.limit:.4g}",
            f"{used:.0%}" if math.isfinite(used) else "∞",
            "[green]kept[/]" if limit.passed else "[bold red]broken[/]",
        )
    return table


def fooling_table(result: Result) -> Table:
    """Make a table of the fooling ratios; "one chunk" stands where no error is possible."""
    table = Table(title="fooling ratio", caption=f"crossing the score {result.settings.working_point:g}")
    for name in ("group", "region", "variation"):
        table.add_column(name, overflow="fold")
    for name in ("fooled", "error", "returned", "net", "mean score", "unattacked", "moved"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result.fooling:
        shift = "–" if math.isnan(row.score_shift) else f"{row.score_shift:+.4f}"
        error = "one chunk" if math.isnan(row.error) else f"{row.error:.2%}"
        shares = (row.returned, row.net, row.unattacked_share, row.moved_share)
        returned, net, unattacked, moved = (_percent(share) for share in shares)
        names = (escape(row.name), escape(row.region), row.variation)
        cells = (*names, _percent(row.ratio), error, returned, net, shift)
        table.add_row(*cells, unattacked, moved)
    return table


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1%}"


def print_report(result: Result, console: Console, *, all_limits: bool = False) -> None:
    """Print verdict, fooling ratios and what is missing from the coverage to a console of rich."""
    console.print(verdict_table(result, all_limits=all_limits))
    console.print(fooling_table(result))
    for entry in result.coverage:
        if entry.repeated:
            named = escape(", ".join(entry.repeated))
            console.print(f"[bold red]{escape(entry.dataset)}: merged more than once: {named}[/]")
        elif entry.complete is False:
            dataset = escape(entry.dataset)
            console.print(f"[bold red]{dataset}: {entry.events} of {entry.events_asked} events[/]")
    console.print(f"The attacked templates are the {MEANING}.")


def to_dict(result: Result) -> dict[str, Any]:
    """Return a result as plain values.

    Returns
    -------
    dict
        ``meaning``, ``verdict``, ``fooling``, ``coverage``, ``processes``, ``estimates``, ``regions``,
        ``settings`` and ``versions``. What is not a finite number is ``None``.
    """
    plain: dict[str, Any] = _plain(
        {
            "meaning": MEANING,
            "verdict": result.verdict.to_dict(),
            "fooling": [asdict(row) for row in result.fooling],
            "coverage": [{**asdict(entry), "complete": entry.complete} for entry in result.coverage],
            "processes": result.processes,
            "estimates": [asdict(estimate) for estimate in result.estimates],
            "regions": result.regions,
            "settings": _settings(result.settings),
            "versions": _versions(),
        }
    )
    return plain


def write_json(result: Result, path: Path) -> Path:
    """Write :func:`to_dict` to a file, which is there as a whole or not at all."""
    text = json.dumps(to_dict(result), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return path


def _settings(settings: Settings) -> dict[str, Any]:
    budget = {name: getattr(settings.budget, name) for name in type(settings.budget).__dataclass_fields__}
    return {
        "features": [_feature(feature) for feature in settings.features],
        "watched": [{"name": watched.name, "edges": watched.axis.edges} for watched in settings.watched],
        "budget": {**budget, "meaning": settings.budget.meaning()},
        "score_edges": settings.score.edges,
        "working_point": settings.working_point,
        "objective": settings.objective,
        "seed": settings.seed,
        "config": settings.config,
    }


def _feature(feature: Feature) -> dict[str, Any]:
    fields = ("name", "unit", "label", "frozen", "low", "high")
    missing = [str(value) if math.isnan(value) else value for value in feature.missing_values]
    made = {name: getattr(feature, name) for name in fields}
    return {**made, "missing": missing, "edges": feature.axis.edges}


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _plain(value: Any) -> Any:
    """Replace containers by those of JSON, and what is not a finite number by ``None``."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
