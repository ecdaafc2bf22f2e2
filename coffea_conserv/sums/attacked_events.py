"""Attacked events as parquet files: written by workers, one file for each chunk, and read for tests."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import ConfigurationError, ConservError, InputError
from coffea_conserv.files import replacing
from coffea_conserv.names import VARIATIONS

if TYPE_CHECKING:
    from coffea_conserv.sums.sums import Sample, Sums

__all__ = ("Events", "check_events", "check_names", "index_events", "keep_events", "read_events")

Floats = NDArray[np.float64]

DIRECTIONS = dict(zip(VARIATIONS, (0, 1, -1), strict=True))
"""Variation → what the column ``direction`` holds."""

OWN = ("direction", "row", "weight", "score", "run", "luminosityBlock", "event")
REGION = "region_"


@dataclass(frozen=True)
class Events:
    """Events of some files in one region.

    Parameters
    ----------
    names
        Quantities, in the order of the columns of ``x``.
    x
        Variation → shape (events, quantities), the same events in the same order for all.
    score
        Variation → shape (events,).
    weight
        Shape (events,).
    config
        Hash of the configuration.
    """

    names: tuple[str, ...]
    x: Mapping[str, Floats] = field(repr=False)
    score: Mapping[str, Floats] = field(repr=False)
    weight: Floats = field(repr=False)
    config: str

    def __len__(self) -> int:
        return len(self.weight)


def check_names(quantities: Sequence[str]) -> None:
    """Raise a ConfigurationError if a quantity is called like a column of its own."""
    taken = [name for name in quantities if name in OWN or name.startswith(REGION)]
    if taken:
        msg = f"keep=: {', '.join(taken)} would be two columns of one name in the files; rename the feature"
        raise ConfigurationError(msg)


def keep_events(folder: str | Path, config: str, sample: Sample, identity: Mapping[str, Any]) -> Path:
    """Write the events of one chunk, nominal and attacked, to a file of its own.

    Parameters
    ----------
    folder
        Of the run; made if it is not there. Workers and client must see the same one.
    config
        Hash of the configuration.
    sample
        The events.
    identity
        Run, luminosity block and event, shape (events,) each, where they are known.

    Returns
    -------
    Path
        ``<folder>/<dataset>/<hash>.parquet``; the same chunk is always the same file, which is there as a
        whole or not at all.

    Raises
    ------
    ConservError
        If it cannot be written. It is no ``OSError``, for which coffea may drop the chunk.
    """
    from pyarrow import parquet, table  # noqa: PLC0415 -- slow to import and used only here

    name = hashlib.sha256(f"{sample.dataset}\n{sample.chunk}".encode()).hexdigest()[:20]
    path = Path(folder) / _folder_of(sample.dataset) / f"{name}.parquet"
    about = {"config": config, "dataset": sample.dataset, "chunk": sample.chunk}
    content = table(_columns(sample, identity)).replace_schema_metadata({"conserv": json.dumps(about)})
    try:
        with replacing(path) as part:
            parquet.write_table(content, part, compression="zstd")
    except OSError as error:
        msg = f"attacked events cannot be written to {path} ({error.strerror or error}); give another keep="
        raise ConservError(msg) from None
    return path


def _folder_of(dataset: str) -> str:
    """Name of a folder inside of another one, and one that is not hidden, for a dataset of any name."""
    return re.sub(r"^\.+|[^\w.+-]", "-", dataset) or "-"


def _columns(sample: Sample, identity: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Columns of the file: the events of nominal, then those of Up, then those of Down."""
    values, count = sample.values, len(sample.weight)
    made: dict[str, NDArray[Any]] = {
        name: np.concatenate([np.asarray(values[v][name]) for v in values]) for name in values["nominal"]
    }
    made["direction"] = np.repeat(np.array([DIRECTIONS[v] for v in values], dtype=np.int8), count)
    repeated: dict[str, NDArray[Any]] = {"row": np.arange(count, dtype=np.uint32), "weight": sample.weight}
    repeated |= {f"{REGION}{name}": mask for name, mask in sample.regions.items()}
    repeated |= {name: np.asarray(column) for name, column in identity.items()}
    return made | {name: np.tile(column, len(values)) for name, column in repeated.items()}


def _about(path: Path) -> dict[str, Any]:
    from pyarrow import ArrowInvalid, parquet  # noqa: PLC0415

    try:
        found = parquet.ParquetFile(path)
        made: dict[str, Any] = json.loads(found.schema_arrow.metadata[b"conserv"])
    except (ArrowInvalid, KeyError, TypeError) as error:
        msg = f"{path} is no file of attacked events ({type(error).__name__}); take it out of the folder"
        raise InputError(msg) from None
    return {**made, "rows": found.metadata.num_rows, "file": str(path)}


def index_events(folder: str | Path) -> Path:
    """Write ``index.json``: file, dataset, chunk, rows and configuration of every file in a folder.

    Raises
    ------
    InputError
        If there is no file, one of them is something else, or two are of one chunk.
    """
    folder = Path(folder)
    rows = [{**one, "file": str(Path(one["file"]).relative_to(folder))} for one in _files(folder)]
    with replacing(folder / "index.json") as part:
        part.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return folder / "index.json"


def _files(folder: Path) -> list[dict[str, Any]]:
    found = [_about(path) for path in sorted(folder.glob("*/*.parquet"))]
    if not found:
        msg = f"there are no attacked events in {folder}; run with Conserv(keep={str(folder)!r})"
        raise InputError(msg)
    first: dict[tuple[str, str], str] = {}
    for one in found:
        other = first.setdefault((one["dataset"], one["chunk"]), one["file"])
        if other != one["file"]:
            msg = f"{other} and {one['file']} are of one chunk, which would count twice; remove one of them"
            raise InputError(msg)
    return found


def check_events(folder: str | Path, sums: Sums) -> None:
    """Compare the files of a folder with the sums of a run: every chunk of simulation, and all of its events.

    Parameters
    ----------
    folder
        Which :class:`~coffea_conserv.Conserv` was given as ``keep=``.
    sums
        Merged output of the run.

    Raises
    ------
    InputError
        If a file is missing, of another run, there twice, or does not hold the events that were summed: with
        dataset, chunk and remedy.
    """
    files = _files(Path(folder))
    configs = sorted({one["config"] for one in files} - {sums.config})
    if configs:
        msg = (
            f"the events in {folder} are of another configuration ({', '.join(configs)}) than the result "
            f"({sums.config}); give the folder of the same run"
        )
        raise InputError(msg)
    there = {(one["dataset"], one["chunk"]) for one in files}
    summed = {(name, chunk) for name, some in sums.chunks.items() if not sums.real[name] for chunk in some}
    remedy = "run again with an empty folder as keep=, or give the folder of the same run"
    for which, what in ((summed - there, "not there"), (there - summed, "not of the result")):
        if which:
            dataset, chunk = min(which)
            msg = (
                f"attacked events in {folder}: {len(which)} chunks are {what}, the first of them {chunk} of "
                f"dataset {dataset}; {remedy}"
            )
            raise InputError(msg)
    found = _counted(files)
    for (dataset, region, variation), counts in sums.counts.items():
        rows = found.get((dataset, region, variation), 0)
        if not sums.real[dataset] and rows != counts[0]:
            msg = (
                f"attacked events in {folder}: {variation} of dataset {dataset} in region {region} has "
                f"{rows} events in the files and {counts[0]:.0f} in the result; {remedy}"
            )
            raise InputError(msg)


def _counted(files: Sequence[Mapping[str, Any]]) -> Counter[tuple[str, str, str]]:
    """Rows of all files by dataset, region and variation."""
    from pyarrow import parquet  # noqa: PLC0415

    found: Counter[tuple[str, str, str]] = Counter()
    for one in files:
        file = parquet.ParquetFile(one["file"])
        regions = [name for name in file.schema_arrow.names if name.startswith(REGION)]
        content = file.read(columns=["direction", *regions])
        direction = content["direction"].to_numpy()
        for region in regions:
            inside = direction[content[region].to_numpy()]
            for variation, number in DIRECTIONS.items():
                key = (one["dataset"], region.removeprefix(REGION), variation)
                found[key] += int((inside == number).sum())
    return found


def read_events(
    folder: str | Path,
    region: str,
    *,
    names: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    most: int | None = None,
    seed: int = 1,
) -> Events:
    """Read the attacked events of a region.

    Parameters
    ----------
    folder
        Which :class:`~coffea_conserv.Conserv` was given as ``keep=``.
    region
        Which region.
    names
        Which quantities; all but the score if not given.
    datasets
        Which datasets; all if not given.
    most
        Number of events to keep at most, drawn at random without replacement; all if not given. Weights are
        scaled so that their sum stays.
    seed
        Of the drawing.

    Raises
    ------
    InputError
        If there are none, files are of different configurations, two are of one chunk, or there is no such
        region, quantity or dataset.
    """
    files = _files(Path(folder))
    configs = {one["config"] for one in files}
    if len(configs) > 1:
        msg = (
            f"{folder} holds events of different configurations ({', '.join(sorted(configs))}); give every "
            "run a folder of its own"
        )
        raise InputError(msg)
    known = sorted({one["dataset"] for one in files})
    unknown = sorted(set(datasets or ()) - set(known))
    if unknown:
        msg = f"there are no events of dataset {', '.join(unknown)} in {folder}; there are {', '.join(known)}"
        raise InputError(msg)
    chosen = [one["file"] for one in files if datasets is None or one["dataset"] in datasets]
    parts = list(_parts(chosen, region, names))
    quantities = parts[0][0]
    weight = np.concatenate([part[2] for part in parts])
    stacked = {v: np.concatenate([part[1][v] for part in parts]) for v in VARIATIONS}
    kept, scale = np.arange(len(weight)), 1.0
    if most is not None and most < len(weight):
        kept = np.sort(np.random.default_rng(seed).choice(len(weight), most, replace=False))
        scale = float(weight.sum() / weight[kept].sum())
    x = {v: rows[kept, :-1] for v, rows in stacked.items()}
    score = {v: rows[kept, -1] for v, rows in stacked.items()}
    return Events(quantities, x, score, weight[kept] * scale, configs.pop())


def _parts(
    files: Sequence[str], region: str, names: Sequence[str] | None
) -> Iterator[tuple[tuple[str, ...], dict[str, Floats], Floats]]:
    """Names, values by variation with the score last, and weights of every file."""
    from pyarrow import parquet  # noqa: PLC0415

    for file in files:
        content = parquet.read_table(file)
        there = set(content.column_names)
        regions = sorted(name.removeprefix(REGION) for name in there if name.startswith(REGION))
        if region not in regions:
            msg = f"there is no region {region!r} in {file}; there are {', '.join(regions)}"
            raise InputError(msg)
        own = {*OWN, *(f"{REGION}{one}" for one in regions)}
        quantities = tuple(name for name in content.column_names if name not in own)
        unknown = [name for name in names or () if name not in quantities]
        if unknown:
            msg = f"there is no quantity {', '.join(unknown)} in {file}; there are {', '.join(quantities)}"
            raise InputError(msg)
        quantities = quantities if names is None else tuple(names)
        inside = content[f"{REGION}{region}"].to_numpy()
        direction = content["direction"].to_numpy()
        rows = np.stack([content[name].to_numpy().astype(np.float64) for name in (*quantities, "score")], 1)
        chosen = {v: inside & (direction == number) for v, number in DIRECTIONS.items()}
        weight = content["weight"].to_numpy()[chosen["nominal"]].astype(np.float64)
        yield quantities, {v: rows[mask] for v, mask in chosen.items()}, weight
