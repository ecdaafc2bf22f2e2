"""Pictures as they should look, pixel by pixel within a tolerance.

``pytest tests/test_images.py --mpl-generate-path=tests/baseline`` draws the expected ones anew: look at them.
"""

from __future__ import annotations

import hist
import numpy as np
import pytest
from made_figures import FIGURES, RESULT
from test_plotting_curves import LIMITS, curve
from test_reporting import parts

from coffea_conserv import Budget, Feature, attack
from coffea_conserv.errors import InputError
from coffea_conserv.plotting import curve_plot, detectability_plot, impact_plot, plane_plot

__all__ = ("curve", "parts")  # fixtures

compared = pytest.mark.mpl_image_compare(baseline_dir="baseline", tolerance=6, savefig_kwargs={"dpi": 50})
AXIS = hist.axis.Regular(40, -3, 3, label="$x$")


class Donut:
    """Fires on a ring; a function of a NumPy matrix too."""

    @staticmethod
    def scores(x):
        """Scores, shape (events,)."""
        return 1 / (1 + np.exp(4 * (np.abs(np.hypot(x[:, 0], x[:, 1]) - 1.5) - 0.4)))


def donut_events():
    """Events of two features before and after an attack."""
    from coffea_conserv import Callback  # noqa: PLC0415

    x = np.random.default_rng(1).normal(size=(3000, 2)).astype(np.float32)
    features = [Feature("x", AXIS), Feature("y", AXIS)]
    model = Callback(lambda matrix: Donut.scores(np.asarray(matrix, dtype=np.float64)))
    found = attack(x, model, features, budget=Budget(rms=0.0), output="probability", seed=1)
    return x, found.x


@compared
@pytest.mark.parametrize("kind", ["control", "templates", "correlation", "limits", "overview"])
def test_pictures_of_a_result(kind):
    """The pictures that every run gets."""
    return FIGURES[kind](RESULT)


@compared
def test_detectability(parts):
    """Tests of all tiers, in two regions."""
    return detectability_plot(parts[0].detected)


@compared
def test_impact(parts):
    """Nuisances of a fit."""
    return impact_plot(parts[1], most=6)


@compared
def test_fooling_against_budget(curve):
    """A line with its band."""
    return curve_plot({"ring": curve}, LIMITS, "r.m.s. of the bins")


@compared
def test_yield_against_budget(curve):
    """The same as a change of the yield."""
    return curve_plot({"ring": curve}, LIMITS, "r.m.s. of the bins", weights=np.ones(1000))


@compared
def test_a_plane_before_and_after():
    """The donut: marginals are the same, the plane is not, and the line is that of the working point."""
    before, after = donut_events()
    for column in range(2):
        np.testing.assert_array_equal(np.sort(before[:, column]), np.sort(after[:, column]))
    return plane_plot(before, after, (AXIS, AXIS), score=Donut.scores)


def test_the_change_of_the_yield_is_that_of_the_events(curve):
    """By hand, with weights."""
    weights = np.random.default_rng(1).uniform(0.5, 2, 1000)
    line = curve_plot({"ring": curve}, LIMITS, "", weights=weights).axes[0].lines[0]
    found = curve[1]
    above = [weights[score > 0.5].sum() for score in (found.score_nominal, found.score)]
    assert line.get_ydata()[1] == pytest.approx(above[1] / above[0] - 1)


def test_planes_of_other_shapes_are_refused():
    """Two columns, the same events."""
    with pytest.raises(InputError, match=r"must have one shape \(events, 2\), got \(3, 2\) and \(4, 2\)"):
        plane_plot(np.zeros((3, 2)), np.zeros((4, 2)), (AXIS, AXIS))
