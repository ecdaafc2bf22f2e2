"""The systematic as weights of events, for analyses that do not run the attack (correctionlib)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from coffea_conserv.errors import InputError, of_extra
from coffea_conserv.files import replacing
from coffea_conserv.templates.template import MEANING, Template
from coffea_conserv.templates.templates import Templates

__all__ = ("make_weights", "write_weights")

DIRECTIONS = ("nominal", "up", "down")


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
        and the quantity. Nominal events with these weights have the attacked template of this quantity in
        these bins. Outside of the axis the weight is that of the last bin; where nominal is empty, it is 1.

    Raises
    ------
    InputError
        If there is no simulated process.
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
            schema.Variable(name=templates.quantity, type="real", description=f"nominal {templates.title}"),
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
        As :func:`make_weights`.
    """
    text = make_weights(templates, name=name).model_dump_json(exclude_unset=True, indent=1)
    with replacing(Path(path)) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return Path(path)


def _category(schema: Any, name: str, content: dict[str, Any]) -> Any:
    entries = [{"key": key, "value": value} for key, value in content.items()]
    return schema.Category(nodetype="category", input=name, content=entries)


def _directions(schema: Any, templates: Templates, entry: Template) -> Any:
    edges = [float(edge) for edge in entry.nominal.axes[0].edges]
    nominal = np.asarray(entry.nominal.values())
    made: dict[str, Any] = {}
    for direction in DIRECTIONS:
        contents = np.asarray(getattr(entry, direction).values())
        ratio = np.divide(contents, nominal, out=np.ones_like(nominal), where=nominal != 0)
        made[direction] = schema.Binning(
            nodetype="binning", input=templates.quantity, edges=edges, content=ratio.tolist(), flow="clamp"
        )
    return _category(schema, "direction", made)
