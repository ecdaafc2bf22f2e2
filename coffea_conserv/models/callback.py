"""Models without gradients: any function of a NumPy matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coffea_conserv.errors import FAILURES, ModelError

__all__ = ("Callback", "Called", "hint")


@dataclass(frozen=True)
class Callback:
    """A model given as a function of a NumPy matrix, for which there are no gradients.

    Parameters
    ----------
    function
        Takes a float32 matrix (events, features), its own copy, and gives one number per event, or one per
        event and class: a formula, a function around a booster, several models together. A fitted classifier
        is a model as it is, ``model=classifier``. What the numbers are is said by ``output=`` of
        :func:`coffea_conserv.attack` and :class:`coffea_conserv.Conserv`. It travels to the workers by
        cloudpickle.

    Raises
    ------
    ModelError
        If it cannot be called, or is a wrapper of coffea, whose ``prepare_awkward`` a matrix would pass by.

    Examples
    --------
    >>> import hist, numpy as np
    >>> from coffea_conserv import Budget, Feature, attack
    >>> def probability(x):
    ...     return np.exp(-0.7 * (x**2).sum(axis=1))
    >>> x = np.random.default_rng(0).normal(size=(2000, 2))
    >>> axis = hist.axis.Regular(50, -3, 3)
    >>> features = [Feature("x", axis), Feature("y", axis)]
    >>> result = attack(
    ...     x, Callback(probability), features, budget=Budget(rms=0.0, correlation=0.01), output="probability"
    ... )
    >>> result.verdict.passed, result.fooling_ratio > 0.05
    (True, True)
    """

    function: Callable[[Any], Any]

    def __post_init__(self) -> None:
        given: Any = self.function
        if not callable(given):
            which = f"{self.function!r:.80} cannot be called"
            msg = f"Callback: {which}; give a function of a matrix{hint(self.function)}"
            raise ModelError(msg)
        if hasattr(self.function, "prepare_awkward"):
            kind = type(self.function).__name__
            msg = f"Callback: {kind} would not use its prepare_awkward on a matrix{hint(self.function)}"
            raise ModelError(msg)


def hint(model: Any) -> str:
    """Say how a classifier, a booster or a wrapper of coffea is given, where it was given in another way."""
    package = type(model).__module__.partition(".")[0]
    if hasattr(model, "prepare_awkward"):
        return ", for this one Callback(coffea_conserv.adapters.from_wrapper(wrapper, names))"
    if isinstance(model, type) and hasattr(model, "predict_proba"):
        return f", for this one a fitted {model.__name__}, not its class"
    if hasattr(model, "predict_proba"):
        return ", for this one model=classifier as it is"
    for method in ("inplace_predict", "predict"):  # of XGBoost and of LightGBM
        if (
            type(model).__name__ == "Booster"
            and package in ("xgboost", "lightgbm")
            and hasattr(model, method)
        ):
            return f", for this one Callback(booster.{method}) with output='probability'"
    if hasattr(model, "decision_function"):
        return ", for this one a calibrated one, which has predict_proba"
    return ""


@dataclass(frozen=True)
class Called:
    """A function of NumPy as a function of torch.

    Parameters
    ----------
    function
        As for :class:`Callback`.
    """

    function: Callable[[Any], Any]

    def __call__(self, x: Tensor) -> Tensor:
        """Give what the function gives, without a gradient.

        Raises
        ------
        ModelError
            If it fails, whatever it raises, or does not give numbers.
        """
        matrix = np.array(x.detach().cpu().numpy(), order="C")  # the function may write into its own copy
        try:
            values = np.asarray(self.function(matrix))
        except FAILURES as error:
            msg = (
                f"the function {_name(self.function)} of the model fails for a float32 matrix (events, "
                f"features) of shape {matrix.shape}: {type(error).__name__}: {error}"
            )
            # coffea takes an OSError for an unreadable file and skips the chunk.
            raise ModelError(msg) from (None if isinstance(error, OSError) else error)
        if values.dtype.kind not in "fiu":
            msg = f"the function {_name(self.function)} of the model must give numbers, got {values.dtype}"
            raise ModelError(msg)
        return torch.as_tensor(np.array(values), device=x.device)


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
