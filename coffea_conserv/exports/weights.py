"""The systematic as weights of events, for analyses that do not run the attack (correctionlib)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coffea_conserv.errors import InputError, of_extra
from coffea_conserv.files import replacing
from coffea_conserv.templates.rootfile import check_contents
from coffea_conserv.templates.template import MEANING, Template
from coffea_conserv.templates.templates import Templates

__all__ = ("make_weights", "write_weights")

Floats = NDArray[np.float64]

DIRECTIONS = ("nominal", "up", "down")

ROUNDING = 1e-12
"""Largest relative difference of a weight that correctionlib reads, whose parser rounds the last digits."""

LARGEST = float(np.finfo(np.float64).max)
"""Stands for infinity, where an axis has no end."""


def make_weights(templates: Templates, *, name: str = "conserv") -> Any:
    """Make weights attacked/nominal of an event as a function of its nominal score.

    Parameters
    ----------
    templates
        Templates of the score, or of another quantity.
    name
        Name of the correction.

    Returns
    -------
    correctionlib.schemav2.CorrectionSet
        One correction with the inputs ``process``, ``region``, ``direction`` (``nominal``, ``up``, ``down``)
        and the quantity; processes and regions have the names of the analysis, whatever is in them. Nominal
        events with these weights have the attacked template of this quantity in these bins. Outside of the
        axis the weight is that of the last bin; where nominal is empty, it is 1.

    Raises
    ------
    InputError
        If there is no simulated process, or a weight is not finite.
    ConfigurationError
        If correctionlib is not there.
    """
    with of_extra():
        from correctionlib import schemav2 as schema  # noqa: PLC0415 -- slow to import
    entries = [entry for entry in templates.entries if entry.up is not None]
    if not entries:
        msg = "there is no simulated process to make weights of"
        raise InputError(msg)
    processes = dict.fromkeys(entry.process for entry in entries)
    correction = schema.Correction(
        name=name,
        version=1,
        description=f"attacked/nominal as a function of {templates.title}; {MEANING}",
        inputs=[
            schema.Variable(name="process", type="string"),
            schema.Variable(name="region", type="string"),
            schema.Variable(name="direction", type="string", description=", ".join(DIRECTIONS)),
            schema.Variable(name=_input(templates), type="real", description=f"nominal {templates.title}"),
        ],
        output=schema.Variable(name="weight", type="real", description="factor on the weight of an event"),
        data=_category(
            schema,
            "process",
            {
                process: _category(
                    schema,
                    "region",
                    {e.region: _directions(schema, templates, e) for e in entries if e.process == process},
                )
                for process in processes
            },
        ),
    )
    return schema.CorrectionSet(schema_version=2, description=MEANING, corrections=[correction])


def write_weights(templates: Templates, path: str | Path, *, name: str = "conserv") -> Path:
    """Write :func:`make_weights` to a JSON file, which ``correctionlib.CorrectionSet.from_file`` reads.

    Parameters
    ----------
    templates
        Templates of the score, or of another quantity.
    path
        The file; it is there as a whole or not at all.
    name
        Name of the correction.

    Raises
    ------
    InputError, ConfigurationError
        As :func:`make_weights`; or if correctionlib reads other weights from the file.
    """
    text = make_weights(templates, name=name).model_dump_json(exclude_unset=True, indent=1)
    with replacing(Path(path)) as part:
        part.write_text(text + "\n", encoding="utf-8")
        _check(part, templates, name)
    return Path(path)


def _check(path: Path, templates: Templates, name: str) -> None:
    """Raise unless a file gives the right weight in the middle of every bin."""
    import correctionlib  # noqa: PLC0415 -- slow to import

    found = correctionlib.CorrectionSet.from_file(str(path))[name]
    for entry in templates.entries:
        if entry.up is None:
            continue
        edges = np.asarray(entry.nominal.axes[0].edges, dtype=np.float64)
        middle = np.clip((edges[1:] + edges[:-1]) / 2, -LARGEST, LARGEST)
        for direction, wanted in _ratios(entry).items():
            there = found.evaluate(entry.process, entry.region, direction, middle)
            what = f"weight {direction} of process {entry.process!r} in region {entry.region!r}"
            check_contents(there, wanted, what, rounding=ROUNDING)


def _input(templates: Templates) -> str:
    """Name of the input of the quantity; the others have names of their own already."""
    taken = templates.quantity in ("process", "region", "direction")
    return f"nominal_{templates.quantity}" if taken else templates.quantity


def _category(schema: Any, name: str, content: dict[str, Any]) -> Any:
    entries = [{"key": key, "value": value} for key, value in content.items()]
    return schema.Category(nodetype="category", input=name, content=entries)


def _directions(schema: Any, templates: Templates, entry: Template) -> Any:
    edges = [
        float(e) if np.isfinite(e) else f"{e:f}" for e in entry.nominal.axes[0].edges
    ]  # as it wants them
    made = {
        direction: schema.Binning(
            nodetype="binning", input=_input(templates), edges=edges, content=ratio.tolist(), flow="clamp"
        )
        for direction, ratio in _ratios(entry).items()
    }
    return _category(schema, "direction", made)


def _ratios(entry: Template) -> dict[str, Floats]:
    """Direction → attacked/nominal, shape (bins,)."""
    nominal, made = np.asarray(entry.nominal.values()), {}
    for direction in DIRECTIONS:
        contents = np.asarray(getattr(entry, direction).values())
        ratio = np.divide(contents, nominal, out=np.ones_like(nominal), where=nominal != 0)
        bad = np.flatnonzero(~np.isfinite(ratio))
        if len(bad):
            where = (
                f"{direction} of process {entry.process!r} in region {entry.region!r}, bin {bad[0]} (from 0)"
            )
            msg = f"the weight {where} is {ratio[bad[0]]}; look at the weights of events"
            raise InputError(msg)
        made[direction] = ratio
    return made
