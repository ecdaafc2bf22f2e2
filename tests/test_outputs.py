"""What a model gives, and the one logit that is made of it: probabilities, and several classes."""

from __future__ import annotations

import math

import hist
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_twins import class_score
from torch import nn

from coffea_conserv import Budget, Classes, ConfigurationError, Feature, ModelError, attack
from coffea_conserv.models.checks import check_network
from coffea_conserv.models.output import Reader, to_logit
from coffea_conserv.solvers.transport.solver import Transport

AXIS = hist.axis.Regular(30, -3, 3)
FEATURES = [Feature("x", AXIS), Feature("y", AXIS)]
X = np.random.default_rng(3).normal(size=(600, 2)).astype(np.float32)
PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
few = settings(max_examples=50, deadline=None, derandomize=True, database=None)


class Ring(nn.Module):
    """Signal is near the origin; how the answer is given is a function of the logit."""

    def __init__(self, form=lambda logit: logit):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.form = form

    def forward(self, x):
        """Give what the form says."""
        return self.form(self.scale - (x**2).sum(1))


FORMS = {
    "two classes": (lambda z: torch.stack([torch.zeros_like(z), z], 1), Classes(1)),
    "source and target": (lambda z: torch.stack([z, 5 * z, torch.zeros_like(z)], 1), Classes(0, 2)),
    "argmax": (lambda z: torch.stack([torch.zeros_like(z), z], 1), Classes(1, argmax=True)),
}


def run(model, **options):
    """Attack some events."""
    return attack(
        X, model, FEATURES, budget=Budget(rms=0.05, correlation=0.02), solver=Transport(steps=15), **options
    )


# --- probabilities -----------------------------------------------------------------------------------------


@few
@given(st.floats(-80, 16))
def test_a_probability_is_undone_to_its_own_precision(logit):
    """The score of the logit is the probability that the model gave."""
    given_ = torch.sigmoid(torch.tensor([logit], dtype=torch.float32))
    found = torch.sigmoid(to_logit(given_, "probability", 1))
    assert float(found) == pytest.approx(float(given_), rel=1e-6)
    if logit < 10:
        assert float(to_logit(given_, "probability", 1)) == pytest.approx(logit, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_probabilities_at_the_edge_are_finite_and_beyond_all_others(dtype):
    """0 and 1 are neither infinite nor equal to the next number that the precision knows."""
    kind = torch.finfo(dtype)
    next_to = [kind.smallest_normal, 0.25, 0.5, 1 - kind.eps / 2]
    values = torch.tensor([0.0, *next_to, 1.0], dtype=torch.float64).to(dtype)
    found = to_logit(values, "probability", len(values))
    assert bool(torch.isfinite(found.float()).all())
    assert bool((found.diff() > 0.3).all())
    assert float(found[3]) == 0
    gradient = values.clone().requires_grad_()
    to_logit(gradient, "probability", len(values)).sum().backward()
    assert bool(torch.isfinite(gradient.grad).all() | torch.tensor(dtype == torch.float16))


def test_two_columns_are_background_and_signal():
    """What predict_proba gives is as precise near 1 as near 0, because the background has a column."""
    background = torch.tensor([0.3, 1e-20, 1.0, 0.0])
    pair = torch.stack([1 - background, background], 1)
    found = to_logit(pair.flip(1), "probability", 4)
    assert found[0] == pytest.approx(math.log(0.7 / 0.3), rel=1e-6)
    assert found[1] == pytest.approx(-math.log(1e-20), rel=1e-6)
    assert found[2] == -found[3]
    assert found[3] > 100
    torch.testing.assert_close(to_logit(pair, "probability", 4), -found)


def test_a_probability_gives_the_attack_of_its_logit():
    """The same network with a sigmoid is fooled as far, with the same scores before."""
    plain, other = run(Ring()), run(Ring(torch.sigmoid), output="probability")
    np.testing.assert_allclose(other.score_nominal, plain.score_nominal, rtol=1e-5)
    assert other.verdict.passed
    assert other.fooling_ratio == pytest.approx(plain.fooling_ratio, abs=0.03)
    assert plain.fooling_ratio > 0.05


def test_saturated_probabilities_are_told(caplog):
    """Events that cannot be told apart are counted; nothing is said where there are none."""
    x = torch.from_numpy(X[:16])
    check_network([Reader(Ring(torch.sigmoid), "probability")], x, ["x", "y"])
    assert not caplog.text
    check_network([Reader(Ring(lambda z: torch.sigmoid(9 * z)), "probability")], x, ["x", "y"])
    assert "exactly 0 or 1 for" in caplog.text
    assert "of 16 events, which cannot be told apart" in caplog.text


# --- several classes ---------------------------------------------------------------------------------------

LOGITS = torch.randn(50, 5, generator=torch.Generator().manual_seed(1)) * 4


@pytest.mark.parametrize("argmax", [False, True])
@pytest.mark.parametrize(
    ("target", "source"), [(2, None), (2, 0), ((1, 3), None), ((1, 3), (0, 4)), (0, (1, 2, 3, 4))]
)
def test_the_score_is_a_ratio_of_probabilities(target, source, argmax):
    """Sums or largest nodes of a softmax, from logits as from probabilities, as a loop counts them."""
    chosen = Classes(target, source, argmax=argmax)
    expected = [class_score(row, target, source, argmax=argmax) for row in LOGITS.double().tolist()]
    found = torch.sigmoid(to_logit(LOGITS, chosen, 50))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    probabilities = torch.softmax(LOGITS.double(), 1)
    other = Classes(target, source, argmax=argmax, output="probability")
    np.testing.assert_allclose(torch.sigmoid(to_logit(probabilities, other, 50)), expected, rtol=1e-9)
    # what does not change a softmax does not change a score
    torch.testing.assert_close(torch.sigmoid(to_logit(LOGITS + 300, chosen, 50)), found, rtol=1e-3, atol=1e-4)


def test_argmax_is_crossed_where_the_largest_node_changes():
    """Score 0.5 is the border of the decision, which it is not for sums."""
    logits = LOGITS / 4
    target = logits.argmax(1) == 2
    assert bool(((to_logit(logits, Classes(2, argmax=True), 50) > 0) == target).all())
    assert not bool(((to_logit(logits, Classes(2), 50) > 0) == target).all())


def test_the_other_direction_is_the_other_class():
    """Target and source exchanged have the opposite logit: both directions of the systematic are defined."""
    for argmax in (True, False):
        one, two = (to_logit(LOGITS, Classes(*pair, argmax=argmax), 50) for pair in ((1, 3), (3, 1)))
        assert torch.equal(one, -two)


@pytest.mark.parametrize("direction", ["signal", "background"])
@pytest.mark.parametrize("form", FORMS)
def test_classes_that_hold_one_logit_are_attacked_like_it(form, direction):
    """The same events move, bit for bit, whatever way the same logit is given."""
    how, classes = FORMS[form]
    plain = run(Ring(), direction=direction)
    other = run(Ring(how), output=classes, direction=direction)
    assert plain.fooling_ratio > 0.05
    np.testing.assert_array_equal(other.x, plain.x)
    np.testing.assert_array_equal(other.score, plain.score)


def test_saturated_classes_are_finite():
    """A softmax of which nothing is left in some classes has a score all the same."""
    values = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found = to_logit(values, Classes(0, output="probability"), 2)
    assert bool(torch.isfinite(found).all())
    assert found[0] > 100
    assert found[1] < -100


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": -1}, r"target must be the index of a class from 0, .*got -1"),
        ({"target": True}, r"target must be the index of a class from 0, .*got True"),
        ({"target": ()}, r"target must be the index .*got \(\)"),
        ({"target": 1, "source": (0, 0)}, r"source must be .* several different ones, got \(0, 0\)"),
        ({"target": 1, "source": "QCD"}, r"source must be the index .*got 'QCD'"),
        ({"target": (1, 2), "source": 2}, r"class 2 is both target and source"),
        ({"target": 1, "argmax": "yes"}, r"argmax must be true or false, got 'yes'"),
        (
            {"target": 1, "output": "softmax"},
            r"output='softmax' is not known; choose one of logit, probability",
        ),
    ],
)
def test_classes_that_make_no_sense(options, message):
    """The offending class is named."""
    with pytest.raises(ConfigurationError, match=f"Classes: {message}"):
        Classes(**options)


def test_one_class_is_the_same_alone_or_in_a_tuple():
    """A class and the tuple of it are one value, which has one hash."""
    assert Classes(2, 1) == Classes((2,), [1])
    assert hash(Classes(2, 1)) == hash(Classes((2,), (1,)))


REFUSED = {
    r"one logit per event, .* got \(64, 3\); output=Classes\(target=…\) reads several": (
        lambda z: torch.stack([z, z, z], 1),
        "logit",
    ),
    r"one probability per event, .* \(or \(64, 2\) .*got \(64, 3\)": (
        lambda z: torch.stack([z, z, z], 1),
        "probability",
    ),
    r"a logit per event and class, shape \(64, classes\), got \(64,\)": (lambda z: z, Classes(1)),
    r"a probability per event and class, .*got \(64, 1\)": (
        lambda z: z[:, None],
        Classes(0, output="probability"),
    ),
    r"gives 2 classes, so that there is no class 4 of": (
        lambda z: torch.stack([z, z], 1),
        Classes(4),
    ),
    r"gives 2 classes, and Classes.* leaves none to tell the target from": (
        lambda z: torch.stack([z, z], 1),
        Classes((0, 1)),
    ),
    r"gives -?[\d.]+ … [\d.]+, which are no probabilities; if these are logits, say output='logit'": (
        lambda z: z,
        "probability",
    ),
    r"got torch\.int64": (lambda z: (z > 0).long(), "probability"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_models_that_give_something_else(message):
    """Shape, number of classes and range are told before anything starts."""
    form, output = REFUSED[message]
    with pytest.raises(ModelError, match=f"model .*{message}"):
        run(Ring(form), output=output)


@pytest.mark.parametrize("output", ["proba", 1, None, ["logit"]])
def test_outputs_that_are_not_known(output):
    """The text says what there is."""
    with pytest.raises(ConfigurationError, match=r"output=.* is not known; choose one of logit, probability"):
        run(Ring(), output=output)


def test_what_leaves_the_range_of_a_probability_later_is_refused():
    """Nothing is clipped: an event without a probability is named with its features."""
    lowest = float(Ring()(torch.from_numpy(X[:64])).detach().min())
    with pytest.raises(ValueError, match=r"the model gives NaN or infinity for \d+ of 600 events"):
        run(Ring(lambda z: torch.where(z < lowest, 2.0, torch.sigmoid(z))), output="probability")
    assert torch.isnan(to_logit(torch.tensor([1.01, -0.01]), "probability", 2)).all()
    assert not torch.isnan(to_logit(torch.tensor([1.000001, -0.000001]), "probability", 2)).any()
