"""What a fit would stumble over in templates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_events import SETTINGS
from made_results import result_of

from coffea_conserv.templates.checks import check_objective, check_template

NOMINAL, UP, DOWN = np.array([10.0, 10, 10, 10]), np.array([8.0, 9, 11, 12]), np.array([12.0, 11, 9, 8])


def kinds(nominal=NOMINAL, up=UP, down=DOWN):
    """Kind and bins of everything that is found."""
    arrays = (np.asarray(content, dtype=float) for content in (nominal, up, down))
    return [(found.kind, found.bins) for found in check_template("W", "signal", *arrays)]


def test_sound_templates_give_no_warning():
    """Opposite changes of a few per cent are what a fit expects."""
    assert kinds() == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"nominal": [0, 0, 0, 0], "up": [0] * 4, "down": [0] * 4}, [("empty", ())]),
        (
            {"nominal": [-1, 10, 10, 10], "up": [-2, 9, 11, 12], "down": [0, 11, 9, 8]},
            [("negative", (0,))] * 2,
        ),
        ({"down": [12, 11, 9, -8]}, [("negative", (3,)), ("above 100 %", (3,)), ("yield", ())]),
        ({"nominal": [0, 10, 10, 20], "down": [0, 11, 9, 20]}, [("from nothing", (0,))]),
        ({"up": [8, 9, 2, 21]}, [("above 100 %", (3,)), ("same side", (2,))]),
        ({"down": [9.0, 11, 9, 11]}, [("same side", (0, 3))]),
        ({"down": [9.95, 10.05, 10, 10]}, []),
        ({"up": NOMINAL}, [("no effect", ())]),
        ({"up": DOWN}, [("same side", (0, 1, 2, 3)), ("no effect", ())]),
        ({"up": [9, 11, 13, 11]}, [("same side", (1,)), ("yield", ())]),
    ],
)
def test_what_is_wrong_is_found(change, expected):
    """Each check finds its own, with the bins."""
    assert kinds(**change) == expected


def test_warnings_say_where():
    """Process, region and a text that names the template."""
    (found,) = check_template("W", "signal", NOMINAL, NOMINAL, DOWN)
    assert (found.process, found.region, found.text) == ("W", "signal", "conservUp is the same as nominal")
    found = check_template("W", "signal", NOMINAL, UP, np.array([30.0, 11, 9, 8]))
    assert [entry.text for entry in found] == [
        "conservDown changes by more than 100 %",
        "conservDown changes the yield by +45%",
    ]


def test_templates_without_effect_are_one_warning():
    """Up and Down that both stay nominal are told once."""
    (found,) = check_template("W", "signal", NOMINAL, NOMINAL, NOMINAL)
    assert found.text == "conservUp and conservDown are the same as nominal"


def test_templates_carry_their_warnings():
    """Every process but data is checked, in every region where it is."""
    templates = result_of().templates("score")
    expected = [
        warning
        for entry in templates.entries
        if entry.process != "data"
        for warning in check_template(
            entry.process, entry.region, *(h.values() for h in (entry.nominal, entry.up, entry.down))
        )
    ]
    assert list(templates.warnings) == expected
    assert expected


def test_crossing_leaves_a_step_that_no_fit_should_see():
    """With objective "cross" the templates of the score, and only those, say so first."""
    assert check_objective("score") == ()
    (step,) = check_objective("cross")
    assert (step.kind, step.process, step.region) == ("step", "", "")
    result = result_of(settings=replace(SETTINGS, objective="cross"))
    assert result.templates("score").warnings[0] == step
    assert step not in result.templates("x").warnings
