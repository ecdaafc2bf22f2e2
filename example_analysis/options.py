"""Options of the command line; each is declared once, for every command that takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

__all__ = (
    "Band",
    "Chunksize",
    "Client",
    "Control",
    "Correlation",
    "Data",
    "Epochs",
    "Events",
    "Executor",
    "Jobs",
    "Jsd",
    "Maxchunks",
    "Models",
    "Objective",
    "Out",
    "Rms",
    "Scale",
    "Seed",
    "Watch",
    "Workers",
)


def _option(text: str, panel: str | None = None, **more: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=panel, **more)


FILES, ATTACK, WHERE, QUICK = "Input and output", "The attack", "Where it runs", "Quick tries"

Events: TypeAlias = Annotated[
    Path, _option("Folder of the generated events, about 11 MB; it can be moved.", FILES)
]
Data: TypeAlias = Annotated[
    Path | None,
    _option(
        "Folder of the skims of CERN Open Data record 12350: analyse H → ττ, generate nothing. "
        "Of files that are also in its subfolder full, those are read.",
        FILES,
        show_default=False,
    ),
]
Out: TypeAlias = Annotated[Path, _option("Folder of all results; made if it is not there.", FILES)]
Models: TypeAlias = Annotated[
    Path | None,
    _option("Folder of the models, if it is not <out>/models.", FILES, show_default=False),
]
Seed: TypeAlias = Annotated[
    int, _option("Seed of the random numbers of this step; all: of generation, training and attack.", min=0)
]

Rms: TypeAlias = Annotated[
    float | None,
    _option(
        "Limit of every marginal: r.m.s. relative deviation of its bins, weighted by content. 0.05 is 5 %, "
        "and holds if no limit is given. 0: exactly kept where weights are equal.",
        ATTACK,
        show_default=False,
    ),
]
Jsd: TypeAlias = Annotated[
    float | None,
    _option(
        "Instead: Jensen-Shannon distance of every marginal, 0 to 1 (base 2). 0.021 is about 5 % r.m.s.",
        ATTACK,
        show_default=False,
    ),
]
Band: TypeAlias = Annotated[
    float | None,
    _option("Instead: relative deviation of every single bin. 0.05 is 5 %.", ATTACK, show_default=False),
]
Correlation: TypeAlias = Annotated[
    float,
    _option("Limit of the change of the correlation matrix R of the features: ‖R′ − R‖ / ‖R‖.", ATTACK),
]
Watch: TypeAlias = Annotated[
    float,
    _option("Limit of derived quantities such as m_T: r.m.s. relative deviation, 0.05 is 5 %.", ATTACK),
]
Objective: TypeAlias = Annotated[
    str,
    _option(
        "score: move the mean score, for templates. cross: move events over the working point 0.5, for the "
        "fooling ratio; its templates have a step there.",
        ATTACK,
    ),
]
Control: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--control",
        help="No event may move, whatever the limits: Up and Down must be nominal.",
        rich_help_panel=ATTACK,
    ),
]

Executor: TypeAlias = Annotated[
    str, _option("dask: in worker processes. iterative: in this process, to debug.", WHERE)
]
Workers: TypeAlias = Annotated[
    int, _option("Workers of the local Dask cluster, one thread each.", WHERE, min=1)
]
Client: TypeAlias = Annotated[
    str | None,
    _option(
        "Scheduler of a Dask cluster that runs already, such as tcp://host:8786, in place of --workers. It "
        "and its workers need coffea-conserv and must see the files; the processors are sent there.",
        WHERE,
        show_default=False,
    ),
]
Chunksize: TypeAlias = Annotated[
    int,
    _option(
        "Events per chunk, at most. Each chunk is attacked alone: larger ones are attacked better, more of "
        "them run side by side.",
        WHERE,
        min=1,
    ),
]

Jobs: TypeAlias = Annotated[
    int, _option("Processes that generate; 0: one per core, at most 8.", WHERE, min=0)
]
Maxchunks: TypeAlias = Annotated[
    int | None,
    _option("Read at most this many chunks per dataset; all if not given.", QUICK, min=1, show_default=False),
]
Scale: TypeAlias = Annotated[
    float,
    _option(
        "Generate this share of the default: 22,000 ttbar, 52,000 WW and 18,000 events of pseudo-data.",
        QUICK,
        min=1e-4,
    ),
]
Epochs: TypeAlias = Annotated[int, _option("Passes over the training events.", QUICK, min=1)]
