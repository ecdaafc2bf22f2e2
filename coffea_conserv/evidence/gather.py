"""All evidence of a run in one value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coffea_conserv.errors import InputError
from coffea_conserv.evidence.checks import (
    Check,
    CorrelationCheck,
    Detected,
    Worse,
    check_result,
    correlation_checks,
    detected,
    worse,
)
from coffea_conserv.evidence.effort import Effort, EventTest
from coffea_conserv.evidence.histograms import Comparison
from coffea_conserv.evidence.multivariate import compare_events
from coffea_conserv.evidence.two_samples import LEAST
from coffea_conserv.sums.attacked_events import check_events, read_events

if TYPE_CHECKING:
    from coffea_conserv.results.result import Result

__all__ = ("Evidence", "gather_evidence")


@dataclass(frozen=True)
class Evidence:
    """What a validation in control regions would see of the attacks of a run.

    Parameters
    ----------
    checks, correlations
        Tier A, against nominal simulation and against data.
    worse
        Where an attack makes the agreement with data worse.
    tested
        Tiers B and C; empty without attacked events.
    detected
        How many events every test needs, of all tiers.
    """

    checks: tuple[Check, ...]
    correlations: tuple[CorrelationCheck, ...]
    worse: tuple[Worse, ...]
    tested: tuple[EventTest, ...]
    detected: tuple[Detected, ...]

    @property
    def noticed(self) -> tuple[Worse, ...]:
        """Checks against data that pass nominal and would fail attacked."""
        return tuple(row for row in self.worse if row.noticed)

    @property
    def wrong_before(self) -> tuple[Check, ...]:
        """Checks against data that fail with nominal simulation already: not the attack's doing."""
        nominal = (row for row in self.checks if (row.against, row.variation) == ("data", "nominal"))
        return tuple(row for row in nominal if row.found.p_syst < 0.05)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what is not finite is the text ``inf`` or ``nan``."""
        return {name: [_plain(asdict(row)) for row in getattr(self, name)] for name in vars(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Evidence:
        """Make it again of what :meth:`to_dict` returned.

        Raises
        ------
        InputError
            If this is something else, as of another version.
        """
        kinds = (Check, CorrelationCheck, Worse, EventTest, Detected)
        names = ("checks", "correlations", "worse", "tested", "detected")
        try:
            parts = [
                tuple(kind(**{key: _restored(value) for key, value in row.items()}) for row in content[name])
                for name, kind in zip(names, kinds, strict=True)
            ]
        except (KeyError, TypeError, AttributeError) as error:
            msg = f"this is no evidence of this version ({type(error).__name__}: {error}); gather it again"
            raise InputError(msg) from None
        return cls(*parts)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _restored(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Comparison(**{key: _restored(part) for key, part in value.items()})
    if isinstance(value, list):
        return tuple(_restored(part) for part in value)
    return float(value) if value in ("inf", "-inf", "nan") else value


def gather_evidence(
    result: Result,
    events: str | Path | None = None,
    *,
    regions: Sequence[str] | None = None,
    uncertainty: float | None = None,
    effort: Effort | None = None,
    mapper: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]] = map,
    tested: Sequence[EventTest] | None = None,
) -> Evidence:
    """Gather the evidence of a run.

    Parameters
    ----------
    result
        The result of the run.
    events
        Folder of its attacked events, ``keep=`` of :class:`~coffea_conserv.Conserv`, for tiers B and C.
    regions
        Which regions; all if not given.
    uncertainty
        Relative systematic uncertainty of bins; what the budget allows if not given.
    effort
        Effort of tiers B and C.
    mapper
        How they are spread, see :func:`coffea_conserv.evidence.multivariate.compare_events`.
    tested
        What they said before, instead of doing them.

    Returns
    -------
    Evidence
        Regions with fewer than 40 events are left out of tiers B and C.

    Raises
    ------
    InputError
        If the events are of another configuration than the result, or cannot be read.
    """
    chosen = result.regions if regions is None else tuple(regions)
    unknown = [region for region in chosen if region not in result.regions]
    if unknown:
        msg = f"there is no region {', '.join(unknown)}; there are {', '.join(result.regions)}"
        raise InputError(msg)
    checks = check_result(result, uncertainty=uncertainty, regions=chosen)
    done = tuple(row for row in tested or () if row.region in chosen)
    if events is not None and tested is None:
        done = compare_events(events, _enough(result, events, chosen), effort, mapper=mapper)
    found = detected(result, regions=chosen)
    there = {row.region: row.there for row in found}
    more = [Detected(t.region, t.variation, t.test, t.what, t.needed, there.get(t.region, 0.0)) for t in done]
    order = {region: k for k, region in enumerate(chosen)}
    rows = sorted((*found, *more), key=lambda row: (order[row.region], row.variation != "conservUp"))
    return Evidence(checks, correlation_checks(result, regions=chosen), worse(checks), done, tuple(rows))


def _enough(result: Result, events: str | Path, regions: Sequence[str]) -> list[str]:
    """Regions with events enough for tests, from files of the same run."""
    check_events(events, result.sums)
    found = {region: read_events(events, region, names=()) for region in regions}
    return [region for region, one in found.items() if (one.weight != 0).sum() >= 2 * LEAST]
