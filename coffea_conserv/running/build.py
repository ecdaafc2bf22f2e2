"""Attack and processor of a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import hist

from coffea_conserv.attacks.registry import SOLVERS
from coffea_conserv.checks import as_flag
from coffea_conserv.errors import ConfigurationError
from coffea_conserv.features.feature import Feature
from coffea_conserv.limits.budget import Budget, Chi2
from coffea_conserv.models.loading import Shared
from coffea_conserv.models.model import Model
from coffea_conserv.models.output import Classes
from coffea_conserv.names import Names
from coffea_conserv.plugin.conserv import Conserv
from coffea_conserv.running.configuration import AxisEntry, Configuration, ProcessorEntry
from coffea_conserv.running.objects import imported, schema_of
from coffea_conserv.running.plan import Plan
from coffea_conserv.running.yamlfile import Document
from coffea_conserv.wrapper.processor import ConservProcessor

__all__ = ("check_names", "make_plan")

_PASSED = ("working_point", "objective", "target", "seed", "penalty", "device")


def make_plan(
    config: Configuration, document: Document, *, processor: str | None = None, model: Any = None
) -> Plan:
    """Make attack and processor of a configuration.

    Parameters
    ----------
    config, document
        What was read, and where it is written.
    processor, model
        In the place of those of the file.

    Raises
    ------
    ConfigurationError
        With file, line and setting.
    """
    entry = config.processor if processor is None else processor
    if entry is None:
        raise document.error((), "no processor: give processor: module:Class, or --processor")
    parts = ProcessorEntry(of=entry) if isinstance(entry, str) else entry
    with document.at("schema"):
        schema_of(config.schema_)
    conserv = _conserv(config, document, model)
    with document.at("processor"):
        kind = imported(parts.of)
        arguments = {**parts.arguments, **{n: imported(text) for n, text in parts.imports.items()}}

    def make(attack: Any) -> Any:
        with document.at("processor"):
            if config.wrapper is None:
                return _called(kind, parts.of, {**arguments, "conserv": attack})
            plain = _called(kind, parts.of, arguments) if isinstance(kind, type) else kind
        return _wrapped(config, document, plain, attack)

    make(conserv)  # what is wrong with it is said before anything starts
    return Plan(config, conserv, make, tuple(sorted(_modules(config, parts))))


def check_names(config: Configuration, document: Document, datasets: Mapping[str, Any]) -> None:
    """Raise unless processes are made of datasets that there are, totals of processes, and flags are such.

    Raises
    ------
    ConfigurationError
        With file, line and setting: after a run it would be late.
    """
    processes = config.processes or {}
    inside = {name for names in processes.values() for name in names}
    known = {*processes, *(name for name in datasets if name not in inside)}
    for setting, groups, there in (
        ("processes", processes, set(datasets)),
        ("totals", config.totals or {}, known),
    ):
        for group, names in groups.items():
            unknown = [name for name in names if name not in there]
            if unknown:
                text = f"there is no {unknown[0]!r}; there are {', '.join(sorted(there))}"
                raise document.error((setting, group), text)
    if config.wrapper is None or ":" in config.wrapper.data:
        return
    name = config.wrapper.data
    for dataset, entry in datasets.items():
        with document.at("wrapper", "data"):
            if name not in entry["metadata"]:
                msg = (
                    f"dataset {dataset!r}: its metadata have no {name!r}, which says whether it is real data"
                )
                raise ConfigurationError(msg)
            as_flag(f"dataset {dataset!r}: {name!r} of its metadata", entry["metadata"][name])


def _called(kind: Any, text: str, arguments: Mapping[str, Any]) -> Any:
    """Make a processor, or say which arguments its class takes."""
    try:
        return kind(**arguments)
    except TypeError as error:
        takes = ", ".join(inspect.signature(kind).parameters) if callable(kind) else "nothing"
        msg = (
            f"{text}({', '.join(f'{name}=' for name in arguments)}) cannot be made: {error}; it takes {takes}"
        )
        raise ConfigurationError(msg) from error


def _wrapped(config: Configuration, document: Document, analysis: Any, attack: Any) -> Any:
    entry = config.wrapper
    assert entry is not None  # noqa: S101 -- asked for by the caller
    functions = {}
    for name in ("regions", "select", "weight", "fold", "context", "cuts"):
        text = getattr(entry, name)
        if text is not None:
            with document.at("wrapper", name):
                functions[name] = imported(text)
    columns: dict[str, Any] = {}
    for name, text in entry.columns.items():
        with document.at("wrapper", "columns", name):
            columns[name] = imported(text) if ":" in text else text
    with document.at("wrapper"):
        data = imported(entry.data) if ":" in entry.data else entry.data
        return ConservProcessor(analysis, attack, columns=columns, order=entry.order, data=data, **functions)


def _conserv(config: Configuration, document: Document, model: Any) -> Conserv:
    with document.at("budget"):
        budget = _budget(config)
    settings: dict[str, Any] = {}
    for name in _PASSED:
        if getattr(config, name) is not None:
            settings[name] = getattr(config, name)
    if config.keep is not None:
        settings["keep"] = Path(config.keep)
    if config.score is not None:
        settings["score"] = _axis(config.score, "score")
    with document.at("solver"):
        settings |= _solver(config)
    with document.at("output"):
        settings |= _output(config)
    with document.at("names"):
        settings |= _names(config)
    found = _model(config, document, model)
    if config.build is not None:
        with document.at("build"):
            build = imported(config.build)
            return _called_build(build, config.build, found, budget, {**config.options, **settings})
    with document.at("features"):
        settings["features"] = _features(config, document)
    settings["watch"] = _watch(config, document)
    if config.valid is not None:
        with document.at("valid"):
            settings["valid"] = imported(config.valid)
    with document.at():
        return Conserv(model=found, budget=budget, **settings)


def _called_build(build: Any, text: str, model: Any, budget: Budget, options: Mapping[str, Any]) -> Conserv:
    try:
        made: Conserv = build(model, budget, **options)
    except TypeError as error:
        msg = f"{text}(model, budget, {', '.join(options)}) fails: {error}"
        raise ConfigurationError(msg) from error
    return made


def _budget(config: Configuration) -> Any:
    limits = config.budget.model_dump(exclude_unset=True)
    if limits.get("chi2"):
        limits["chi2"] = Chi2(**limits["chi2"])
    return Budget(**limits)


def _axis(entry: AxisEntry, name: str) -> Any:
    label: Any = entry.label or name
    regular: Any = (entry.bins, entry.start, entry.stop)
    if entry.integers is not None:
        return hist.axis.Integer(*entry.integers, name=name, label=label)
    if entry.categories is not None:
        return hist.axis.IntCategory(entry.categories, name=name, label=label)
    if entry.edges is not None:
        return hist.axis.Variable(entry.edges, circular=entry.circular, name=name, label=label)
    return hist.axis.Regular(*regular, circular=entry.circular, name=name, label=label)


def _features(config: Configuration, document: Document) -> list[Any]:
    made = []
    for name, entry in (config.features or {}).items():
        with document.at("features", name):
            rest = {field: getattr(entry, field) for field in entry.model_fields_set - {"axis"}}
            made.append(Feature(name, _axis(entry.axis, name), **rest))
    return made


def _watch(config: Configuration, document: Document) -> dict[str, tuple[Any, Any]]:
    made = {}
    for name, entry in (config.watch or {}).items():
        with document.at("watch", name):
            made[name] = (imported(entry.function), _axis(entry.axis, name))
    return made


def _solver(config: Configuration) -> dict[str, Any]:
    if config.solver is None or isinstance(config.solver, str):
        return {} if config.solver is None else {"solver": config.solver}
    rest = dict(config.solver)
    name = rest.pop("name", "transport")
    if name not in SOLVERS:
        msg = f"there is no solver {name!r}; there are {', '.join(SOLVERS)}"
        raise ConfigurationError(msg)
    rest = {key: tuple(value) if isinstance(value, list) else value for key, value in rest.items()}
    solver: Any = SOLVERS[name]
    try:
        return {"solver": replace(solver, **rest)}
    except TypeError as error:
        known = ", ".join(type(solver).__dataclass_fields__)
        msg = f"{name} does not take that ({error}); it takes {known}"
        raise ConfigurationError(msg) from error


def _output(config: Configuration) -> dict[str, Any]:
    if config.output is None or isinstance(config.output, str):
        return {} if config.output is None else {"output": config.output}
    return {"output": Classes(**config.output.model_dump())}


def _names(config: Configuration) -> dict[str, Any]:
    return {} if config.names is None else {"names": Names.preset(config.names)}


def _model(config: Configuration, document: Document, given: Any) -> Any:
    """Model, or one per fold; files are looked for where the configuration is."""
    entries = config.model if given is None else given
    if entries is None or entries == []:
        raise document.error((), "no model: give model: file, or --model")
    several = isinstance(entries, list | tuple)
    folder = document.path.parent if given is None else Path()
    made: list[Any] = []
    for k, entry in enumerate(entries if several else [entries]):
        with document.at("model", k):
            if isinstance(entry, str | Path):
                made.append(folder / entry)
                continue
            made.append(Model(imported(entry.factory), folder / entry.state))
    found = made if len(made) > 1 else made[0]
    if config.shared is None:
        return found
    return Shared(found, config.shared)


def _modules(config: Configuration, processor: ProcessorEntry) -> set[str]:
    """Top-level names of the modules that a run imports."""
    texts = [processor.of, *processor.imports.values(), config.build, config.valid, config.schema_]
    texts += [entry.function for entry in (config.watch or {}).values()]
    if config.wrapper is not None:
        texts += [str(text) for text in config.wrapper.model_dump().values() if isinstance(text, str)]
        texts += list(config.wrapper.columns.values())
    return {text.split(":")[0].split(".")[0] for text in texts if text and ":" in text}
