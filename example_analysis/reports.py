"""The step ``report``: evidence, controls, and one page with all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from coffea.processor import IterativeExecutor, Runner, column_accumulator
from numpy.typing import NDArray
from rich.console import Console

from coffea_conserv import run_controls
from coffea_conserv.evidence import Effort, gather_evidence
from coffea_conserv.exports import FitImpact
from coffea_conserv.report import write_page
from coffea_conserv.results.derived import read_derived, write_derived
from example_analysis import record, steps
from example_analysis.train import ANALYSES

if TYPE_CHECKING:
    from coffea_conserv.results.result import Result
    from coffea_conserv.studies.controls import Control

__all__ = ("controls", "write_report")

EFFORT = Effort(events=20_000, permutations=59, slices=30)
"""Half a minute for each region instead of some."""

CONTROL_EVENTS = 4000
"""Events of the controls, which are attacked six times and judged some hundred times."""

Progress = Callable[[int, int], None]


class Background:
    """Takes the place of the attack in a processor and returns the background of one region instead."""

    def __init__(self, signals: tuple[str, ...], features: tuple[str, ...], region: str) -> None:
        self.signals, self.features, self.region = signals, features, region

    def __call__(self, columns: Mapping[str, NDArray[Any]], **extra: Any) -> dict[str, Any]:
        """Collect one chunk: ``x``, ``weight``, ``fold``, and the context by name."""
        if extra["data"] or extra["events"].metadata["process"] in self.signals:
            return {}
        mask = extra["regions"][self.region]
        made = {"x": np.stack([np.asarray(columns[n], np.float32)[mask] for n in self.features], axis=1)}
        made |= {name: np.asarray(extra[name])[mask] for name in ("weight", "fold")}
        made |= {f"context {name}": np.asarray(column)[mask] for name, column in extra["context"].items()}
        return {name: column_accumulator(array) for name, array in made.items()}


def controls(out: Path, region: str) -> tuple[Control, ...]:
    """Controls of the attack on the simulated background of a region.

    Parameters
    ----------
    out
        Folder of results.
    region
        Which region.
    """
    ran = record.read_run(out)
    analysis, attack = ANALYSES[ran["analysis"]], record.Attack(**ran["attack"])
    fileset = steps.load_fileset(record.Source(ran["analysis"], Path(ran["folder"])))
    simulation = {name: entry for name, entry in fileset.items() if not entry["metadata"]["is_data"]}
    models = out / ran["models"]
    conserv = steps.make_conserv(ran["analysis"], models, attack)
    collector = Background(analysis.signals, analysis.columns, region)
    runner = Runner(IterativeExecutor(status=False), schema=analysis.schema)
    found = runner(simulation, analysis.processor(collector), treename="Events")["conserv"]
    arrays = {name: entry.value for name, entry in found.items()}
    some = np.random.default_rng(attack.seed).permutation(len(arrays["x"]))[:CONTROL_EVENTS]
    arrays = {name: array[some] for name, array in arrays.items()}
    return run_controls(
        arrays["x"],
        [str(path) for path in steps.find_models(models)],
        conserv.features,
        budget=attack.budget,
        weights=arrays["weight"],
        fold=arrays["fold"],
        context={n.removeprefix("context "): a for n, a in arrays.items() if n.startswith("context ")},
        watch=conserv.watch,
        valid=conserv.valid,
        seed=attack.seed,
    )


def write_report(out: Path, console: Console, result: Result | None = None) -> Path:
    """Gather the evidence and write ``report.html``, with ``evidence.json`` and ``controls.json``.

    Parameters
    ----------
    out
        Folder of results, after the step ``judge``.
    console
        Where to report.
    result
        What ``judge`` returned, if it was called before.
    """
    result = result or steps.load_result(out)
    sources = {source for estimate in result.estimates for source in estimate.regions.values()}
    regions = [region for region in result.regions if region not in sources]
    with steps.bar(console, "tests") as advance:
        done = [0]

        def mapper(function: Callable[[Any], Any], todo: Any) -> list[Any]:
            listed, made = list(todo), []
            for one in listed:
                made.append(function(one))
                done[0] += 1
                advance(done[0], len(listed))
            return made

        evidence = gather_evidence(result, out / "attacked", regions=regions, effort=EFFORT, mapper=mapper)
    config = result.settings.config
    write_derived(out / "evidence.json", config, evidence.to_dict())
    rows = controls(out, regions[0])
    write_derived(out / "controls.json", config, {"rows": [asdict(row) for row in rows]})
    impact = read_derived(out / "fit" / "impact.json", config)
    with steps.bar(console, "pictures") as advance:
        path = write_page(
            result,
            out / "report.html",
            evidence=evidence,
            impact=None if impact is None else FitImpact.from_dict(impact),
            controls=rows,
            regions=regions,
            progress=advance,
        )
    console.print(f"report in [bold]{path}[/]")
    return path
