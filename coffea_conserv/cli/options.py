"""Options of the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = (
    "Above",
    "Checkpoints",
    "ChunkSize",
    "Client",
    "Config",
    "Events",
    "FilesetFile",
    "Label",
    "Merge",
    "ModelFile",
    "Negative",
    "Nuisances",
    "Out",
    "Part",
    "Permutations",
    "Processor",
    "Regions",
    "Resources",
    "Results",
    "Scale",
    "Seed",
    "Sides",
    "Signal",
    "Size",
    "Slices",
    "Smooth",
    "Source",
    "Unblind",
    "Uncertainty",
    "Workers",
)

TREATMENT, TESTS, FIT = "Treatment of templates", "Tests of events", "Signal and data"
WHAT, PLACE = "What is run", "Where"

Config: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--config",
        help="YAML: features, budget, …; docs/commands.md.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
FilesetFile: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--fileset", help="JSON: dataset → files, metadata.", show_default=False, rich_help_panel=WHAT
    ),
]
Processor: TypeAlias = Annotated[
    str | None,
    typer.Option(help="module:Class, instead of that of the file.", show_default=False, rich_help_panel=WHAT),
]
ModelFile: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--model",
        help="File of a model instead of that of the configuration; one per fold.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
ChunkSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Events of a chunk, instead of that of the file.",
        show_default=False,
        min=1,
        rich_help_panel=WHAT,
    ),
]
Out: TypeAlias = Annotated[Path, typer.Option(help="Folder of the results.")]
Client: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Address of a Dask scheduler, tcp://host:8786.", show_default=False, rich_help_panel=PLACE
    ),
]
Workers: TypeAlias = Annotated[int, typer.Option(help="Processes of this machine.", rich_help_panel=PLACE)]
Resources: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--resource",
        help="What workers of Dask have to offer, GPU=1.",
        show_default=False,
        rich_help_panel=PLACE,
    ),
]
Checkpoints: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Folder, seen by all workers, for finished chunks: a second run goes on from there.",
        show_default=False,
        rich_help_panel=PLACE,
    ),
]
Results: TypeAlias = Annotated[
    Path,
    typer.Argument(
        help="Folder with result.coffea, which result.save() writes, or the file.", show_default=False
    ),
]
Regions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--region", help="A region; several times for several. All if not given.", show_default=False
    ),
]
Events: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Folder of attacked events, keep= of Conserv. <results>/attacked if that is there.",
        show_default=False,
        rich_help_panel=TESTS,
    ),
]
Uncertainty: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Relative systematic uncertainty of bins; what the budget allows if not given.",
        show_default=False,
        rich_help_panel=TESTS,
    ),
]
Size: TypeAlias = Annotated[
    int, typer.Option("--size", help="Events of a region that are drawn at most.", rich_help_panel=TESTS)
]
Permutations: TypeAlias = Annotated[
    int, typer.Option(help="For probabilities; 1/(n + 1) is the smallest.", rich_help_panel=TESTS)
]
Slices: TypeAlias = Annotated[int, typer.Option(help="Random directions.", rich_help_panel=TESTS)]
Seed: TypeAlias = Annotated[int, typer.Option(help="Of everything random.", rich_help_panel=TESTS)]
Signal: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--signal",
        help="A process that is signal; several times for several.",
        show_default=False,
        rich_help_panel=FIT,
    ),
]
Above: TypeAlias = Annotated[
    float,
    typer.Option(
        "--blind-above", help="Share of signal above which data of a bin stay hidden.", rich_help_panel=FIT
    ),
]
Unblind: TypeAlias = Annotated[
    bool, typer.Option("--unblind", help="Show and fit data everywhere.", rich_help_panel=FIT)
]
Nuisances: TypeAlias = Annotated[
    str,
    typer.Option(help="process, region or one: what has a nuisance of its own.", rich_help_panel=FIT),
]
Merge: TypeAlias = Annotated[
    int, typer.Option(help="Number of neighbouring bins that become one.", rich_help_panel=TREATMENT)
]
Sides: TypeAlias = Annotated[
    str, typer.Option(help="both, one, mirror or 'mirror ratio'.", rich_help_panel=TREATMENT)
]
Source: TypeAlias = Annotated[
    str,
    typer.Option(
        help="up or down: the attack that one side and mirrors start from.", rich_help_panel=TREATMENT
    ),
]
Part: TypeAlias = Annotated[str, typer.Option(help="all, shape or norm.", rich_help_panel=TREATMENT)]
Scale: TypeAlias = Annotated[float, typer.Option(help="Factor on the shift.", rich_help_panel=TREATMENT)]
Negative: TypeAlias = Annotated[
    str, typer.Option(help="keep or zero: bins with a negative sum of weights.", rich_help_panel=TREATMENT)
]
Smooth: TypeAlias = Annotated[
    bool, typer.Option("--smooth", help="Smooth the shift by 353QH twice.", rich_help_panel=TREATMENT)
]
Label: TypeAlias = Annotated[str, typer.Option(help="Status above every picture.")]
