"""Processes, estimates from data and totals: which datasets are summed before they are judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.names import ALL, DATA
from coffea_conserv.sums.sums import COUNTS, Sums

__all__ = (
    "Estimate",
    "Term",
    "as_estimates",
    "check_estimates",
    "check_merged",
    "check_totals",
    "content",
    "contents_of",
    "counts_of",
    "group_datasets",
    "simulated",
)


class Term(NamedTuple):
    """Factor, dataset, region and variation of something that adds up to a process."""

    factor: float
    dataset: str
    region: str
    variation: str


@dataclass(frozen=True)
class Estimate:
    """A process estimated from data: scale × (data − simulation) of a control region.

    It is made again for every variation, with the simulation of that variation and nominal data.

    Parameters
    ----------
    name
        Name of the process, for example ``"QCD"``.
    regions
        Region → control region from which its content is taken.
    scale
        Transfer factor from the control region, above 0.

    Raises
    ------
    ConfigurationError
        If one of them is something else.
    """

    name: str
    regions: Mapping[str, str]
    scale: float = 1.0

    def __post_init__(self) -> None:
        msg = ""
        given: Any = self
        if not isinstance(given.name, str) or not given.name:
            msg = f"an estimate needs the name of a process, got {self.name!r}"
        elif not isinstance(given.regions, Mapping) or not given.regions:
            got = f"{self.regions!r:.80}"
            msg = f"estimate {self.name!r}: regions must be a dict of region → control region, got {got}"
        elif isinstance(given.scale, bool) or not isinstance(given.scale, Real):
            msg = f"estimate {self.name!r}: scale must be a number, got {self.scale!r}"
        elif not (self.scale > 0 and math.isfinite(self.scale)):
            msg = f"estimate {self.name!r}: scale={self.scale} must be a finite number above 0"
        if msg:
            raise ConfigurationError(msg)


def check_merged(sums: Any) -> None:
    """Raise an InputError that says where the merged output is, if this is not it."""
    if isinstance(sums, Sums):
        return
    found = list(_places(sums))
    remedy = "give what the call of Conserv returned in process(), merged by coffea"
    if found:
        remedy = "it is in " + ", ".join(f"output{place}" for place in found) + ": give that"
    msg = f"this needs the merged output of Conserv (a Sums), got a {type(sums).__name__}; {remedy}"
    raise InputError(msg)


def _places(output: Any, depth: int = 3) -> Iterator[str]:
    """Where in an output of coffea there are sums, as they are indexed."""
    parts: Any = ()
    if isinstance(output, Mapping):
        parts = output.items()
    elif isinstance(output, (tuple, list)):
        parts = enumerate(output)
    for key, part in parts:
        if isinstance(part, Sums):
            yield f"[{key!r}]"
        elif depth > 1:
            yield from (f"[{key!r}]{place}" for place in _places(part, depth - 1))


def simulated(processes: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Processes without data."""
    return {name: datasets for name, datasets in processes.items() if name != DATA}


def _real(sums: Sums) -> set[str]:
    """Datasets of real data."""
    calls = {name: sum(int(chunk[1]) for chunk in chunks.values()) for name, chunks in sums.chunks.items()}
    mixed = sorted(name for name, count in sums.real.items() if 0 < count < calls[name])
    if mixed:
        msg = f"dataset(s) {', '.join(mixed)} hold both real data and simulation; give them different names"
        raise InputError(msg)
    return {name for name, count in sums.real.items() if count}


def group_datasets(sums: Sums, processes: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Process → datasets, in the order of the user, then the others sorted, then data."""
    real, owner, made = _real(sums), dict[str, str](), dict[str, tuple[str, ...]]()
    _check_lists("processes", processes, "datasets")
    for process, datasets in processes.items():
        for dataset in datasets:
            _check_member(process, dataset, owner, sums, real=dataset in real)
            owner[dataset] = process
        if process != DATA:
            made[process] = tuple(datasets)
    for dataset in sorted(set(sums.chunks) - set(owner) - real):
        if dataset in made or dataset == DATA:
            msg = f"dataset {dataset!r} is not in the process of that name; rename the process"
            raise ConfigurationError(msg)
        made[dataset] = (dataset,)
    clash = sorted(set(made) & {name for name in owner if made.get(name) != (name,)})
    if clash:
        msg = (
            f"process(es) {', '.join(clash)} have the name of a dataset that is not the whole process; "
            "rename the process"
        )
        raise ConfigurationError(msg)
    return {**made, DATA: tuple(sorted(real))} if real else made


def _check_lists(name: str, given: Any, members: str) -> None:
    """Raise unless this is a dict of lists of names."""
    if not isinstance(given, Mapping):
        msg = f"{name} must be a dict of name → list of {members}, got {given!r:.80}"
        raise ConfigurationError(msg)
    for key, listed in given.items():
        strings = isinstance(listed, Collection) and all(isinstance(member, str) for member in listed)
        if isinstance(listed, str) or not strings or not listed:
            remedy = f"; write [{listed!r}]" if isinstance(listed, str) and listed else ""
            msg = f"{name}[{key!r}] must be a list of {members}, got {listed!r:.80}{remedy}"
            raise ConfigurationError(msg)


def check_totals(
    totals: Mapping[str, Sequence[str]], processes: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Total → its datasets, from sums of simulated processes that the user wants to see.

    Raises
    ------
    ConfigurationError
        If a name is taken, or a member is no simulated process or listed twice.
    """
    _check_lists("totals", totals, "processes")
    known, made = simulated(processes), dict[str, tuple[str, ...]]()
    names = {*processes, *(dataset for datasets in processes.values() for dataset in datasets)}
    if ALL in names:
        msg = f"{ALL!r} is the name of the sum of all simulation; rename the process or dataset"
        raise ConfigurationError(msg)
    for name, members in totals.items():
        unknown = [member for member in members if member not in known]
        msg = ""
        if name in {*names, DATA, ALL}:
            msg = "this name belongs to something else already; choose another one"
        elif unknown:
            msg = (
                f"there is no simulated process {', '.join(unknown)}; there are {', '.join(known) or 'none'}"
            )
        elif len(set(members)) < len(members):
            msg = "a process is listed twice; leave it once"
        if msg:
            msg = f"totals[{name!r}]: {msg}"
            raise ConfigurationError(msg)
        made[name] = tuple(dataset for member in members for dataset in known[member])
    if known:
        made[ALL] = tuple(dataset for datasets in known.values() for dataset in datasets)
    return made


def _check_member(process: str, dataset: str, owner: Mapping[str, str], sums: Sums, *, real: bool) -> None:
    msg = ""
    if dataset not in sums.chunks:
        known = ", ".join(sorted(sums.chunks)) or "none"
        msg = f"processes[{process!r}]: there is no dataset {dataset!r} in the output; there are {known}"
    elif dataset in owner:
        msg = f"dataset {dataset!r} is in the processes {owner[dataset]!r} and {process!r}; leave it in one"
    elif real != (process == DATA):
        kind = "real data" if real else "simulation"
        msg = f"processes[{process!r}]: {dataset!r} is {kind}; the process {DATA!r} is for real data only"
    if msg:
        raise ConfigurationError(msg)


def check_estimates(
    estimates: Sequence[Estimate], processes: Mapping[str, tuple[str, ...]], regions: Sequence[str]
) -> None:
    """Raise a ConfigurationError if an estimate does not fit the processes and regions."""
    taken = {*processes, DATA, ALL}
    for estimate in estimates:
        given: Any = estimate
        if not isinstance(given, Estimate):
            msg = f"estimates must hold Estimate(name, regions, scale), got {estimate!r:.80}"
            raise ConfigurationError(msg)
        named = {*estimate.regions, *estimate.regions.values()}
        unknown = sorted(named - set(regions))
        msg = ""
        if estimate.name in taken:
            msg = "this name belongs to another process already; choose another one"
        elif DATA not in processes:
            msg = "an estimate needs real data, and there are none in the output"
        elif unknown:
            msg = f"there is no region {', '.join(unknown)}; there are {', '.join(regions)}"
        elif any(region == control for region, control in estimate.regions.items()):
            msg = "a region cannot be its own control region"
        if msg:
            msg = f"estimate {estimate.name!r}: {msg}"
            raise ConfigurationError(msg)
        taken.add(estimate.name)


def counts_of(sums: Sums, datasets: Sequence[str], region: str, variation: str) -> dict[str, float]:
    """Sum :data:`coffea_conserv.sums.sums.COUNTS` over datasets."""
    found = [sums.counts.get((dataset, region, variation), np.zeros(len(COUNTS))) for dataset in datasets]
    return dict(zip(COUNTS, np.sum(found, axis=0).tolist(), strict=True))


def content(sums: Sums, name: str, terms: Sequence[Term]) -> tuple[Any, Any]:
    """Sums of w and of w² of a quantity, shape (bins with flow,), or 0 where there is nothing."""
    return contents_of(sums, name)(terms)


def contents_of(sums: Sums, name: str) -> Callable[[Sequence[Term]], tuple[Any, Any]]:
    """:func:`content` of one quantity, to be asked for many groups."""
    merged = sums.hists.get(name)
    if merged is None:
        return lambda _: (0.0, 0.0)
    view = merged.view(flow=True)
    values, variances = np.asarray(view["value"]), np.asarray(view["variance"])
    places = [{label: k for k, label in enumerate(merged.axes[position])} for position in range(3)]

    def summed(terms: Sequence[Term]) -> tuple[Any, Any]:
        value: Any = 0.0
        variance: Any = 0.0
        for factor, *key in terms:
            found = tuple(known.get(label) for label, known in zip(key, places, strict=True))
            if None not in found:
                value, variance = value + factor * values[found], variance + factor**2 * variances[found]
        return value, variance

    return summed


def as_estimates(estimates: Any) -> tuple[Estimate, ...]:
    """Estimates as a tuple, be it a single one."""
    if isinstance(estimates, Estimate):
        return (estimates,)
    if isinstance(estimates, (str, Mapping)) or not isinstance(estimates, Iterable):
        msg = f"estimates must be a list of Estimate(name, regions, scale), got {estimates!r:.80}"
        raise ConfigurationError(msg)
    return tuple(estimates)
