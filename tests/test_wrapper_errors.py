"""What the wrapper of an analysis refuses: the offender and the remedy are told."""

from __future__ import annotations

import hist
import numpy as np
import pytest
from made_nano import COLUMNS, WHERE, conserv, opened, wrapped

from coffea_conserv import Budget, ConfigurationError, InputError
from coffea_conserv.wrapper import Bound


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (None, "the analysis must return a dictionary, not NoneType"),
        (3, "the analysis must return a dictionary, not int"),
        ({"conserv": 1}, "the analysis returns conserv itself"),
        (
            {"h": hist.new.StrCat(["a"], name="variation").Double()},
            r"has an axis 'variation' already .*Conserv\(names=Names\(variation=",
        ),
    ],
)
def test_outputs_that_cannot_be_joined_are_refused(nano, output, message):
    """With what to do about it."""
    with pytest.raises(InputError, match=message):
        wrapped(lambda _: output, attack=conserv(budget=Budget(move=0))).process(nano)


def test_real_data_have_to_be_told(nano_path):
    """A dataset that says nothing about it could be either."""
    factory, events = opened(nano_path, **WHERE)
    with pytest.raises(InputError, match="dataset 'tt': its metadata have no 'real'"):
        wrapped(data="real").process(events)
    output = wrapped(data=lambda _: True).process(events)
    assert list(output["histograms"]["ht"].axes[0]) == ["nominal"]
    assert "conserv_migration" not in output
    del factory


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"met": "MET.sum"}, r"feature 'met': MET has no 'sum' .*there are .*pt"),
        (
            {"met": "Met.pt"},
            r"feature 'met': events have no 'Met' \(for the column 'Met.pt'\); there are Jet",
        ),
        ({"met": "MET"}, "'MET' is a record of"),
        ({"met": "Jet.pt"}, r"'Jet.pt' has the type .*; name one object, as in 'Jet.pt\[0\]'"),
        ({"met": "MET.pt[0]"}, "leave the position out"),
        (
            {"jet1": "Jet.pt[2]"},
            r"feature 'jet1': \d+ of \d+ selected events have no such object in",
        ),
        ({"jet2": "Jet.pt[0]"}, "features 'jet1' and 'jet2' are the same value of Jet.pt in some events"),
        ({"jet1": Bound("Jet.pt", lambda e: np.full(len(e), 9))}, "must return an integer below the number"),
    ],
)
def test_columns_that_are_not_there_are_named(nano, columns, message):
    """Before the attack, with similar names."""
    with pytest.raises(InputError, match=message):
        wrapped(columns={**COLUMNS, **columns}).process(nano)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"met": "MET.pt"}}, "not bound: jet1, jet2, nvtx; no such feature: none"),
        ({"columns": {**COLUMNS, "mass": "Jet.mass[0]"}}, "no such feature: mass"),
        ({"columns": {**COLUMNS, "met": "MET.pt[x]"}}, "names no column; write 'MET.pt'"),
        ({"columns": {**COLUMNS, "met": 3}}, "must be a column such as"),
        ({"columns": {**COLUMNS, "met": len}}, "is a function, which takes no new values"),
        ({"regions": None}, "regions= must be a function of the events, got None"),
        ({"cuts": {"a": 1}}, "cuts= must be a function"),
        ({"data": 1}, "data=1 must be the name"),
        ({"analysis": 3}, "analysis= must be a coffea processor or a function"),
        ({"attack": 3}, "conserv must be a Conserv, got int"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    """When the processor is made."""
    with pytest.raises(ConfigurationError, match=message):
        wrapped(**options)
