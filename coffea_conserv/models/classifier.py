"""Classifiers in the manner of scikit-learn, taken as they are: what they give, and of which columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from coffea_conserv.errors import FAILURES, ModelError
from coffea_conserv.models.facts import Facts
from coffea_conserv.models.output import Classes

__all__ = ("Probabilities", "check_facts", "facts_of_classifier", "is_classifier", "read_as")


@dataclass(frozen=True)
class Probabilities:
    """Probabilities that a classifier gives, as a function of a matrix.

    Parameters
    ----------
    classifier
        With ``predict_proba``.
    columns
        Names of the columns that it was trained on, if it knows them: it then gets a table.
    """

    classifier: Any
    columns: tuple[str, ...] = ()

    def __call__(self, matrix: Any) -> Any:
        """Give the probability of every class, shape (events, classes)."""
        return self.classifier.predict_proba(_table(matrix, self.columns))


def _table(matrix: Any, columns: Sequence[str]) -> Any:
    """The matrix as a table, for classifiers that pick columns by name, or warn where there are none."""
    if not columns:
        return matrix
    try:
        import pandas as pd  # noqa: PLC0415 -- only where one was trained on a table
    except ImportError:
        return matrix
    return pd.DataFrame(matrix, columns=list(columns))


def is_classifier(model: Any) -> bool:
    """Whether something is a classifier in the manner of scikit-learn, and not the class of one."""
    return not isinstance(model, type) and callable(_told(model, "predict_proba"))


def facts_of_classifier(classifier: Any) -> Facts:
    """What a classifier says of itself: probabilities, its columns, and its classes."""
    columns, labels = _told(classifier, "feature_names_in_"), _told(classifier, "classes_")
    count = _told(classifier, "n_features_in_")
    names = () if columns is None else tuple(str(name) for name in np.asarray(columns).ravel())
    if all(re.fullmatch(rf"\D*{j}", name) for j, name in enumerate(names)):  # made up, where there were none
        names = ()
    ordered = labels is None or _ascending(np.asarray(labels))
    return Facts(
        gives="probability",
        columns=names,
        count=None if count is None else int(count),
        labels=() if ordered else tuple(np.asarray(labels).ravel().tolist()),
        name=type(classifier).__name__,
    )


def _told(model: Any, name: str) -> Any:
    """An attribute, if it has one: those of an unfitted classifier may raise anything."""
    try:
        return getattr(model, name, None)
    except FAILURES:
        return None


def _ascending(labels: Any) -> bool:
    """Whether the last of two classes is signal beyond doubt, as 1 is beside 0."""
    return (
        labels.dtype.kind in "biuf" and labels.ndim == 1 and bool((np.diff(labels.astype(float)) > 0).all())
    )


def read_as(facts: Facts, output: str | Classes) -> str | Classes:
    """What the numbers of a model are: as was said, unless the model knows better."""
    if facts.gives is None:
        return output
    return replace(output, output=facts.gives) if isinstance(output, Classes) else facts.gives


def check_facts(facts: Sequence[Facts], output: str | Classes, names: Sequence[str]) -> None:
    """Raise a ModelError unless classifiers were trained on these columns, and it is clear what is signal.

    Parameters
    ----------
    facts
        Of each model.
    output
        What was said that they give.
    names
        Names of the features.
    """
    for k, one in enumerate(facts):
        where = f"model of fold {k} ({one.name})" if len(facts) > 1 else f"model ({one.name})"
        _check_columns(one, where, tuple(names))
        if one.labels and not isinstance(output, Classes):
            said = ", ".join(f"{label!r}" for label in one.labels)
            msg = (
                f"{where} has the classes {said}, of which none is signal beyond doubt; say "
                f"output=Classes(target=0) for {one.labels[0]!r}, or another one"
            )
            raise ModelError(msg)


def _check_columns(facts: Facts, where: str, names: tuple[str, ...]) -> None:
    columns, msg = facts.columns, ""
    if columns and set(columns) == set(names) and columns != names:
        here = ", ".join(names)
        msg = (
            f"in the order {', '.join(columns)}; the features are {here}: give them in the order of training"
        )
    elif columns and columns != names:
        lacking = ", ".join(name for name in columns if name not in names) or "none"
        more = ", ".join(name for name in names if name not in columns) or "none"
        msg = (
            f"{', '.join(columns)}; of these there is no feature {lacking}, and it does not know {more}: "
            "name the features as it does, or give Callback(model.predict_proba) with output='probability'"
        )
    elif facts.count is not None and facts.count != len(names):
        msg = f"{facts.count} columns; there are {len(names)} features: {', '.join(names)}"
    if msg:
        msg = f"{where} was trained on {msg}"
        raise ModelError(msg)
