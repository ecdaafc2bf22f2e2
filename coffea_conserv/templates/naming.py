"""Names that every fit tool can hold, and the way back to those of the analysis.

Fit tools make files, parameters and objects of their own by joining names with ``_`` or ``/``. A name with a
dot, a blank or a slash, or two pairs that are joined to the same text, makes them overwrite or mix up
templates in silence.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.names import DATA
from coffea_conserv.templates.template import DATA_NAME, Template

__all__ = ("LONGEST", "SafeNames", "safe_names")

LONGEST = 48
"""Most characters of a safe name: files of cabinetry hold two of them twice, and a file system 255 bytes."""

_MARK = 8
"""Hexadecimal digits of the hash that tells names apart which would become the same."""

_ROUNDS = 5
"""How often names are changed until no two templates are joined to the same text."""


@dataclass(frozen=True)
class SafeNames:
    """Names of templates as fit tools get them: letters, digits and underscores, a letter first, none twice.

    Parameters
    ----------
    regions, processes, labels
        Name of the analysis → safe name, of regions, processes without data, and what Up and Down are called.
        Names that are safe already stay.

    Examples
    --------
    >>> names = safe_names([Template("ggH_M125.5", "SR µ", None), Template("W", "2ℓ", None)])
    >>> names.processes, names.regions
    ({'ggH_M125.5': 'ggH_M125_5', 'W': 'W'}, {'SR µ': 'SR_mu', '2ℓ': 'r2l'})
    """

    regions: Mapping[str, str]
    processes: Mapping[str, str]
    labels: Mapping[str, str]

    @property
    def changed(self) -> bool:
        """Whether any name is another one than that of the analysis."""
        every = (self.regions, self.processes, self.labels)
        return any(name != safe for names in every for name, safe in names.items())

    def template(self, entry: Template) -> Template:
        """Return the template under its safe names."""
        region, process = self.regions[entry.region], entry.process
        if process == DATA:
            return replace(entry, region=region)
        names = replace(entry.names, up=self.labels[entry.names.up], down=self.labels[entry.names.down])
        return replace(entry, region=region, process=self.processes[process], names=names)

    def to_dict(self) -> dict[str, dict[str, str]]:
        """Return safe name → name of the analysis, by kind, for JSON."""
        return {
            kind: {safe: name for name, safe in getattr(self, kind).items()}
            for kind in ("regions", "processes", "labels")
        }

    def lines(self) -> list[str]:
        """Say in a line of ASCII for each name that was changed what it is in the analysis."""
        kinds = {"region": self.regions, "process": self.processes, "variation": self.labels}
        return [
            f"{kind} {safe} is {json.dumps(name)} in the analysis"
            for kind, names in kinds.items()
            for name, safe in names.items()
            if name != safe
        ]


class _Owner(NamedTuple):
    """A process in a region, or the region alone."""

    process: str
    region: str


def safe_names(entries: Iterable[Template]) -> SafeNames:
    """Make safe names for templates, the same ones for every fit tool.

    They depend on the set of names only, not on their order. Where two would become the same, or tools would
    join two pairs of them to the same text, one gets a hash at its end. Upper and lower case alone do not
    tell names apart, since they do not on every file system.

    Parameters
    ----------
    entries
        Templates; those of data have no process of their own.

    Raises
    ------
    ConfigurationError
        If there are no such names.
    """
    listed = list(entries)
    marked: dict[str, set[str]] = {"region": set(), "process": set()}
    for _ in range(_ROUNDS):
        made = _made(listed, marked)
        clashes = list(_clashes(listed, made))
        if not clashes:
            return made
        for owners in clashes:
            regions = {owner.region for owner in owners}
            kind = "region" if len(regions) > 1 else "process"
            several = regions if len(regions) > 1 else {owner.process for owner in owners}
            marked[kind].update(sorted(several, key=lambda name: (len(name), name))[1:])
    shown = " and ".join(f"{owner.process!r} in {owner.region!r}" for owner in sorted(clashes[0]))
    msg = f"there are no names for fit tools that keep {shown} apart; rename one of them"
    raise ConfigurationError(msg)


def _made(entries: Sequence[Template], marked: Mapping[str, set[str]]) -> SafeNames:
    simulated = [entry for entry in entries if entry.process != DATA]
    labels = (label for entry in simulated for label in (entry.names.up, entry.names.down))
    return SafeNames(
        _unique((entry.region for entry in entries), "r", marked["region"]),
        _unique((entry.process for entry in simulated), "p", marked["process"], (DATA, DATA_NAME)),
        _unique(labels, "", set()),
    )


def _unique(names: Iterable[str], first: str, marked: set[str], taken: Sequence[str] = ()) -> dict[str, str]:
    """Name → safe name; ``first`` is the letter before one that has none in front."""
    plain = {name: _plain(name, first) for name in names}
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(plain):
        alike[plain[name].casefold()].append(name)
    made = {}
    for name, text in plain.items():
        same = alike[text.casefold()]
        owner = next((one for one in same if plain[one] == one), same[0] if len(same) == 1 else None)
        bad = len(text) > LONGEST or text.casefold() in taken or name in marked
        made[name] = text if name == owner and not bad else _hashed(text, name)
    if len({text.casefold() for text in made.values()}) < len(made):
        msg = f"there are no different names for fit tools for {', '.join(map(repr, made))}; rename them"
        raise ConfigurationError(msg)
    return made


def _hashed(text: str, name: str) -> str:
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_MARK]
    return f"{text[: LONGEST - _MARK - 1]}_{mark}"


def _plain(name: str, first: str) -> str:
    text = "".join(_ascii(character) for character in unicodedata.normalize("NFKD", name))
    return text if not first or re.match("[A-Za-z]", text) else first + text


def _ascii(character: str) -> str:
    """Letter, digit or underscore for a character; Greek letters by their name, accents not at all."""
    if character.isascii():
        return character if character.isalnum() else "_"
    words = unicodedata.name(character, "").split()
    if words[:1] == ["GREEK"] and "LETTER" in words:
        return words[-1].lower() if "SMALL" in words else words[-1].title()
    return "" if unicodedata.combining(character) else "_"


def _clashes(entries: Sequence[Template], names: SafeNames) -> Iterator[set[_Owner]]:
    """Templates that some tool would join to the same text."""
    owners: dict[str, set[_Owner]] = defaultdict(set)
    for entry in entries:
        for owner, texts in _joined(entry, names.template(entry)):
            for text in texts:
                owners[text.casefold()].add(owner)
    return (found for found in owners.values() if len(found) > 1)


def _joined(entry: Template, safe: Template) -> Iterator[tuple[_Owner, list[str]]]:
    """Texts that tools make of the names of a template, with what each is of.

    Files of cabinetry, of which it reads the one with ``_modified`` if there is one; keys of the ROOT files;
    parts of the model of Combine; nuisances by region.
    """
    region = safe.region
    yield _Owner("", entry.region), [f"channel {region}{end}" for end in ("", "_bonly", "_nuis")]
    if entry.process == DATA:
        files, keys, parts = [f"{region}_{DATA}"], [f"{region}/{DATA_NAME}"], []
    else:
        process = safe.process
        nuisances = ["conserv", f"conserv_{process}", f"conserv_{process}_{region}"]
        sides = [f"{nuisance}_{side}" for nuisance in nuisances for side in ("Up", "Down")]
        files = [f"{region}_{process}", *(f"{region}_{process}_{side}" for side in sides)]
        labels = [safe.names.up, safe.names.down, *(side.replace("_Up", "Up") for side in sides)]
        keys = [f"{region}/{process}", *(f"{region}/{process}_{label}" for label in labels)]
        parts = [f"part {process}_{region}", f"part bin{region}_proc_{process}"]
    files = [f"file {file}{end}" for file in files for end in ("", "_modified")]
    yield _Owner(entry.process, entry.region), [*files, *keys, *parts]
