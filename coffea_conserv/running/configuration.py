"""Configuration of a run in YAML, checked by pydantic, errors with their line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.running.yamlfile import Document, read_yaml

__all__ = ("AxisEntry", "Configuration", "Imported", "read_configuration")

Imported = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")]
"""``module:name`` of something that can be imported."""

Limit = Annotated[float, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AxisEntry(_Strict):
    """An axis: ``bins``, ``start``, ``stop``; ``edges``; ``integers``, first, last + 1; or ``categories``."""

    bins: Annotated[int, Field(gt=0)] | None = None
    start: float | None = None
    stop: float | None = None
    edges: Annotated[list[float], Field(min_length=2)] | None = None
    integers: tuple[int, int] | None = None
    categories: Annotated[list[int], Field(min_length=1)] | None = None
    circular: bool = False
    label: str = ""

    @model_validator(mode="after")
    def _one_kind(self) -> AxisEntry:
        regular = [self.bins, self.start, self.stop]
        others = (self.edges, self.integers, self.categories)
        kinds = [any(part is not None for part in regular), *(part is not None for part in others)]
        if sum(kinds) != 1 or (kinds[0] and None in regular):
            msg = "give bins, start and stop, or edges, or integers, or categories"
            raise ValueError(msg)
        return self


class FeatureEntry(_Strict):
    """A feature, with the settings of ``coffea_conserv.Feature``."""

    axis: AxisEntry
    unit: str = ""
    label: str = ""
    frozen: bool = False
    missing: float | list[float] | None = None
    low: float | None = None
    high: float | None = None
    moves_with: str | None = None
    max_shift: float | None = None
    max_relative_shift: float | None = None
    resolution: float | None = None
    relative_resolution: float | None = None


class WatchEntry(_Strict):
    """A watched quantity: a torch function of a dict of columns, and its axis."""

    function: Imported
    axis: AxisEntry


class Chi2Entry(_Strict):
    """Largest χ² at a declared number of events."""

    limit: float
    events: float


class BudgetEntry(_Strict):
    """Limits, with the names of ``coffea_conserv.Budget``."""

    rms: Limit | None = None
    band: Limit | dict[str, Limit] | None = None
    jsd: Limit | None = None
    ks: Limit | None = None
    chi2: Chi2Entry | None = None
    correlation: Limit = 0.006
    correlation_element: Limit | None = None
    watch: Limit = 0.05
    move: Literal[0] | None = None


class ModelEntry(_Strict):
    """A model made by a factory of its parameters."""

    factory: Imported
    state: str


class ClassesEntry(_Strict):
    """A model of several classes."""

    target: int | list[int]
    source: int | list[int] | None = None
    argmax: bool = False
    output: Literal["logit", "probability", "narrow logit"] = "logit"


class ProcessorEntry(_Strict):
    """A processor, and what its class is made with beside ``conserv=``."""

    of: Imported
    arguments: dict[str, Any] = Field(default_factory=dict)
    imports: dict[str, Imported] = Field(default_factory=dict)


class WrapperEntry(_Strict):
    """Where features are in the events of an analysis that stays as it is; see ``docs/wrapper.md``."""

    columns: dict[str, str]
    regions: Imported
    select: Imported | None = None
    weight: Imported | None = None
    fold: Imported | None = None
    context: Imported | None = None
    cuts: Imported | None = None
    order: dict[str, str] | None = None
    data: str = "is_data"


class EstimateEntry(_Strict):
    """A process estimated from data minus simulation."""

    regions: dict[str, str]
    factor: float = 1.0


class Configuration(_Strict):
    """A whole run; each name is that of the argument in Python."""

    processor: Imported | ProcessorEntry | None = None
    schema_: str = Field("NanoAODSchema", alias="schema")
    treename: str = "Events"
    chunksize: Annotated[int, Field(gt=0)] = 100_000

    model: str | ModelEntry | list[str | ModelEntry] | None = None
    shared: str | None = None
    build: Imported | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    features: dict[str, FeatureEntry] | None = None
    watch: dict[str, WatchEntry] | None = None
    valid: Imported | None = None
    budget: BudgetEntry
    score: AxisEntry | None = None
    working_point: float | list[float] | None = None
    output: Literal["logit", "probability", "narrow logit"] | ClassesEntry | None = None
    objective: Literal["score", "cross"] | None = None
    target: Literal["all", "correct"] | None = None
    seed: int | None = None
    solver: Literal["transport", "search"] | dict[str, Any] | None = None
    penalty: Limit | None = None
    device: str | None = None
    keep: str | None = None
    names: str | None = None

    wrapper: WrapperEntry | None = None
    processes: dict[str, list[str]] | None = None
    totals: dict[str, list[str]] | None = None
    estimates: dict[str, EstimateEntry] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Configuration:
        if (self.build is None) == (self.features is None):
            msg = "give either features: or build:, a function that makes the attack of model and budget"
            raise ValueError(msg)
        if self.build is not None and (self.watch or self.valid):
            msg = "watch: and valid: belong to features:; with build: the function says them"
            raise ValueError(msg)
        return self


def read_configuration(path: Path) -> tuple[Configuration, Document]:
    """Read and check a configuration.

    Raises
    ------
    ConfigurationError
        With file, line and setting of everything that is wrong.
    """
    document = read_yaml(path)
    try:
        return Configuration.model_validate(document.content), document
    except ValidationError as error:
        found = [_described(document, one) for one in error.errors()]
    msg = "\n".join(dict.fromkeys(found))
    raise ConfigurationError(msg)


def _described(document: Document, error: Any) -> str:
    """One line about one error."""
    text, place = str(error["msg"]), error["loc"]
    if error["type"] == "extra_forbidden":
        name = str(place[-1])
        near = difflib.get_close_matches(name, sorted(set(_names(Configuration))), n=1)
        text = "no such setting" + (f"; did you mean {near[0]}?" if near else "")
    elif error["type"] == "missing":
        text = "is missing"
    elif error["type"] == "string_pattern_mismatch":
        text = f"write it as module:name, got {error['input']!r}"
    elif error["type"] == "value_error":
        text = text.removeprefix("Value error, ")
    else:
        text = f"{text}, got {error['input']!r:.80}"
    made = document.error(place, text)
    if error["type"] == "missing":  # it is not in the file: its name would be lost
        return str(made).replace(": is missing", f": {place[-1]} is missing")
    return str(made)


def _names(model: type[BaseModel]) -> Iterator[str]:
    """Names of all settings."""
    for kind in (model, *_Strict.__subclasses__()):
        for name, entry in kind.model_fields.items():
            yield entry.alias or name
