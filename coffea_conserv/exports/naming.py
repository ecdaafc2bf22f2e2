"""Names of a fit: those that its files and parameters have, and those that a reader sees."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.exports.measurement import Measurement
from coffea_conserv.files import replacing
from coffea_conserv.names import DATA, Names
from coffea_conserv.templates.naming import SafeNames, safe_names
from coffea_conserv.templates.template import Template
from coffea_conserv.templates.templates import Templates

__all__ = ("FitNames", "fit_names", "write_names")

NAMES_FILE = "names.json"


@dataclass(frozen=True)
class FitNames:
    """Names in the files of a fit, and what they are in the analysis.

    Parameters
    ----------
    templates
        Names of regions, processes and variations.
    nuisances
        Name of a nuisance of the systematic in the files → the same for a reader.
    variations
        What Up and Down are called in the ROOT file of cabinetry, in all regions and processes.
    """

    templates: SafeNames
    nuisances: Mapping[str, str]
    variations: Names

    def combine(self, entry: Template, measurement: Measurement) -> Template:
        """Return the template as Combine finds it, Up and Down called after the nuisance."""
        safe = self.templates.template(entry)
        if entry.process == DATA:
            return safe
        nuisance = measurement.nuisance(safe.process, safe.region)
        return replace(safe, names=Names(up=f"{nuisance}Up", down=f"{nuisance}Down"))

    def cabinetry(self, entry: Template) -> Template:
        """Return the template as cabinetry finds it."""
        return replace(self.templates.template(entry), names=self.variations)

    def kind(self, parameter: str) -> str:
        """Tell whether a parameter is of the ``systematic``, ``statistical``, or any ``other``."""
        if parameter in self.nuisances:
            return "systematic"
        return "statistical" if self._bin(parameter) else "other"

    def shown(self, parameter: str) -> str:
        """Name of a parameter of the fit for a reader; those that others have added stay."""
        place = self._bin(parameter)
        if place:
            return f"staterror_{self.to_dict()['regions'][place[1]]}{place[2]}"
        return self.nuisances.get(parameter, parameter)

    def _bin(self, parameter: str) -> re.Match[str] | None:
        found = re.fullmatch(r"staterror_(\w+?)((?:\[\d+\])?)", parameter)
        return found if found and found[1] in self.templates.regions.values() else None

    def to_dict(self) -> dict[str, dict[str, str]]:
        """Return name in the files → name for a reader, by kind, for JSON."""
        return {**self.templates.to_dict(), "nuisances": dict(self.nuisances)}

    def lines(self) -> list[str]:
        """Say in a line of ASCII for each name that was changed what it is in the analysis."""
        changed = ((safe, name) for safe, name in self.nuisances.items() if safe != name)
        return [
            *self.templates.lines(),
            *(f"nuisance {safe} is {json.dumps(name)} in the analysis" for safe, name in changed),
        ]


def fit_names(templates: Templates, measurement: Measurement) -> FitNames:
    """Make the names that regions, processes and nuisances have in all files of a fit.

    Parameters
    ----------
    templates
        What is fitted, with all regions that the files are to have.
    measurement
        Nuisances and signal strength.

    Raises
    ------
    ConfigurationError
        If the signal strength is called like a nuisance, or names cannot be kept apart.

    Examples
    --------
    >>> templates = Templates("score", "score", (Template("W+jets", "SR", None, True, True),))
    >>> names = fit_names(templates, Measurement(signal="W+jets"))
    >>> names.nuisances, names.shown("conserv_W_jets"), names.shown("staterror_SR[3]")
    ({'conserv_W_jets': 'conserv_W+jets'}, 'conserv_W+jets', 'staterror_SR[3]')
    """
    safe = safe_names(templates.entries)
    simulated = [entry for entry in templates.entries if entry.process != DATA]
    parts: dict[str, tuple[str, ...]] = {}
    for entry in simulated:
        renamed = safe.template(entry)
        nuisance = measurement.nuisance(renamed.process, renamed.region)
        given = measurement.parts(entry.process, entry.region)
        if parts.setdefault(nuisance, given) != given:
            msg = f"{parts[nuisance]} and {given} would be one nuisance {nuisance!r}; rename one of them"
            raise ConfigurationError(msg)
    shown = {nuisance: measurement.joined(given) for nuisance, given in parts.items()}
    twice = Counter(shown.values())
    quoted = {n: measurement.joined(tuple(map(repr, given))) for n, given in parts.items()}
    nuisances = {n: quoted[n] if twice[text] > 1 else text for n, text in shown.items()}
    taken = {*nuisances, *(f"staterror_{region}" for region in safe.regions.values())}
    if measurement.poi in taken:
        msg = f"poi={measurement.poi!r} is the name of a nuisance too; call the signal strength otherwise"
        raise ConfigurationError(msg)
    called = {safe.template(entry).names for entry in simulated}
    return FitNames(safe, nuisances, called.pop() if len(called) == 1 else Names())


def write_names(names: FitNames, folder: Path) -> Path:
    """Write ``names.json`` beside the files: name in them → name of the analysis, by kind."""
    path = folder / NAMES_FILE
    with replacing(path) as part:
        text = json.dumps(names.to_dict(), indent=1, ensure_ascii=False)
        part.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    return path
