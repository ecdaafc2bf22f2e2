"""CONSERVAttack for coffea: what marginals and linear correlations of a classifier's inputs cannot see."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coffea_conserv.attacks.api import Attacked as Attacked
    from coffea_conserv.attacks.api import attack as attack
    from coffea_conserv.errors import ConfigurationError as ConfigurationError
    from coffea_conserv.errors import ConservError as ConservError
    from coffea_conserv.errors import InputError as InputError
    from coffea_conserv.errors import MergeError as MergeError
    from coffea_conserv.errors import ModelError as ModelError
    from coffea_conserv.errors import RunError as RunError
    from coffea_conserv.features.feature import Feature as Feature
    from coffea_conserv.features.folds import fold_index as fold_index
    from coffea_conserv.inputs.masks import Categories as Categories
    from coffea_conserv.inputs.masks import Cuts as Cuts
    from coffea_conserv.limits.band import Band as Band
    from coffea_conserv.limits.budget import Budget as Budget
    from coffea_conserv.limits.budget import Chi2 as Chi2
    from coffea_conserv.limits.projection import allowed as allowed
    from coffea_conserv.limits.verdict import Verdict as Verdict
    from coffea_conserv.models.callback import Callback as Callback
    from coffea_conserv.models.loading import Shared as Shared
    from coffea_conserv.models.model import Model as Model
    from coffea_conserv.models.model import Pickled as Pickled
    from coffea_conserv.models.output import Classes as Classes
    from coffea_conserv.names import Names as Names
    from coffea_conserv.plugin.conserv import Conserv as Conserv
    from coffea_conserv.results.blinding import Blinding as Blinding
    from coffea_conserv.results.loading import load_result as load_result
    from coffea_conserv.results.result import Estimate as Estimate
    from coffea_conserv.results.result import Result as Result
    from coffea_conserv.studies.baselines import Compared as Compared
    from coffea_conserv.studies.baselines import baselines as baselines
    from coffea_conserv.studies.baselines import compare as compare
    from coffea_conserv.studies.controls import run_controls as run_controls
    from coffea_conserv.studies.curve import fooling_curve as fooling_curve
    from coffea_conserv.sums.sums import Sums as Sums
    from coffea_conserv.templates.envelopes import envelope as envelope
    from coffea_conserv.templates.template import RobustnessSystematic as RobustnessSystematic
    from coffea_conserv.templates.templates import Templates as Templates
    from coffea_conserv.templates.treatment import Treatment as Treatment
    from coffea_conserv.wrapper.processor import ConservProcessor as ConservProcessor

__version__ = "0.1.0"

# Public name -> module that defines it. Names are imported at first use: a worker or a notebook that only
# needs a histogram does not wait for torch.
_HOME = {
    "Attacked": "coffea_conserv.attacks.api",
    "Band": "coffea_conserv.limits.band",
    "Blinding": "coffea_conserv.results.blinding",
    "Budget": "coffea_conserv.limits.budget",
    "Callback": "coffea_conserv.models.callback",
    "Categories": "coffea_conserv.inputs.masks",
    "Chi2": "coffea_conserv.limits.budget",
    "Classes": "coffea_conserv.models.output",
    "Compared": "coffea_conserv.studies.baselines",
    "Conserv": "coffea_conserv.plugin.conserv",
    "ConservProcessor": "coffea_conserv.wrapper.processor",
    "Cuts": "coffea_conserv.inputs.masks",
    "Estimate": "coffea_conserv.results.result",
    "Feature": "coffea_conserv.features.feature",
    "Model": "coffea_conserv.models.model",
    "Shared": "coffea_conserv.models.loading",
    "Names": "coffea_conserv.names",
    "Result": "coffea_conserv.results.result",
    "Pickled": "coffea_conserv.models.model",
    "RobustnessSystematic": "coffea_conserv.templates.template",
    "Sums": "coffea_conserv.sums.sums",
    "Templates": "coffea_conserv.templates.templates",
    "Treatment": "coffea_conserv.templates.treatment",
    "Verdict": "coffea_conserv.limits.verdict",
    "allowed": "coffea_conserv.limits.projection",
    "attack": "coffea_conserv.attacks.api",
    "envelope": "coffea_conserv.templates.envelopes",
    "fooling_curve": "coffea_conserv.studies.curve",
    "baselines": "coffea_conserv.studies.baselines",
    "compare": "coffea_conserv.studies.baselines",
    "ConfigurationError": "coffea_conserv.errors",
    "ConservError": "coffea_conserv.errors",
    "InputError": "coffea_conserv.errors",
    "MergeError": "coffea_conserv.errors",
    "ModelError": "coffea_conserv.errors",
    "RunError": "coffea_conserv.errors",
    "run_controls": "coffea_conserv.studies.controls",
    "load_result": "coffea_conserv.results.loading",
    "fold_index": "coffea_conserv.features.folds",
}

__all__ = ("__version__", *_HOME)  # noqa: PLE0604 -- every key is a string


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module 'coffea_conserv' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
