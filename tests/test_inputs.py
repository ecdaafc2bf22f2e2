"""Tests of kinematics, features, derived quantities and classifiers of the two example analyses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from coffea_conserv import Budget
from processors import htautau, htautau_inputs, ttbar_ww, ttbar_ww_inputs
from processors.classifier import export
from processors.kinematics import delta_r, magnitude, pair_mass, pair_pt, transverse_mass

INPUTS = {"htautau": htautau_inputs, "ttbar_ww": ttbar_ww_inputs}
MODELS = {"htautau": htautau_inputs.HiggsClassifier, "ttbar_ww": ttbar_ww_inputs.TopClassifier}
COLUMNS = {"htautau": htautau.COLUMNS, "ttbar_ww": ttbar_ww.COLUMNS}


def inputs(analysis, events=200, seed=3):
    """Make random but selectable primary quantities, with every pattern of missing jets."""
    random = np.random.default_rng(seed)
    x = {}
    for name in COLUMNS[analysis]:
        if "eta" in name:
            x[name] = random.uniform(-2, 2, events)
        elif "phi" in name:
            x[name] = random.uniform(-math.pi, math.pi, events)
        elif "pt" in name:
            x[name] = 30 + random.exponential(30, events)
        else:
            x[name] = random.integers(0, 3, events) if name.startswith("n") else random.uniform(0, 1, events)
    present = random.integers(0, 3, events)
    if analysis == "htautau":
        absent = {name: present < int(name[-1]) for name in x if name.startswith("j")}
    else:
        absent = {name: present < int(name[3]) - 2 for name in x if name.startswith("jet")}
    for name, mask in absent.items():
        x[name] = np.where(mask, -999.0, x[name])
    return {name: torch.tensor(values, dtype=torch.float32) for name, values in x.items()}


# --- kinematics -------------------------------------------------------------------------------------------


def test_transverse_mass_of_a_back_to_back_pair_is_the_largest_possible():
    """Opposite directions give √(4 p_T E_T^miss), equal ones 0."""
    pt, met = torch.tensor([30.0, 30.0]), torch.tensor([40.0, 40.0])
    angle = torch.tensor([math.pi, 0.0])
    mass = transverse_mass(pt, angle, met, torch.zeros(2))
    assert mass.tolist() == pytest.approx([math.sqrt(4 * 30 * 40), 0.0])


def test_torch_and_numpy_transverse_mass_agree():
    """The cut of the processor and the condition of the attack are the same quantity."""
    random = np.random.default_rng(1)
    arrays = [random.uniform(1, 100, 500), random.uniform(-3, 3, 500), random.uniform(0, 90, 500)]
    arrays.append(random.uniform(-3, 3, 500))
    ours = transverse_mass(*(torch.tensor(array) for array in arrays)).numpy()
    np.testing.assert_allclose(ours, htautau.transverse_mass(*arrays), rtol=1e-13)


def test_pair_mass_equals_the_sum_of_four_vectors():
    """The stable formula in single precision equals the textbook in double precision."""
    random = np.random.default_rng(2)
    pt, eta, phi, mass = (random.uniform(*r, (2, 300)) for r in ((20, 200), (-4, 4), (-3, 3), (-0.1, 2)))
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = np.sqrt(px**2 + py**2 + pz**2 + mass * np.abs(mass))
    expected = np.sqrt(energy.sum(0) ** 2 - px.sum(0) ** 2 - py.sum(0) ** 2 - pz.sum(0) ** 2)
    pairs = [tuple(torch.tensor(row, dtype=torch.float32) for row in q) for q in (pt, eta, phi, mass)]
    np.testing.assert_allclose(pair_mass(*pairs).numpy(), expected, rtol=2e-5)
    pair = pair_pt(pairs[0][0], pairs[2][0], pairs[0][1], pairs[2][1]).numpy()
    np.testing.assert_allclose(pair, np.hypot(px.sum(0), py.sum(0)), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [0, 1, 3])
def test_gradients_are_finite_at_singular_points(size):
    """Square roots of 0 have a finite gradient, for any number of events."""
    pt = torch.zeros(size, requires_grad=True)
    phi = torch.zeros(size, requires_grad=True)
    functions = (
        transverse_mass(pt, phi, pt, phi),
        pair_pt(pt, phi, pt, phi + math.pi),
        pair_mass((pt, pt), (phi, phi), (phi, phi)),
        delta_r(phi, phi, phi, phi),
        magnitude(pt, pt),
    )
    gradients = torch.autograd.grad(sum(value.sum() for value in functions), (pt, phi))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


# --- inputs and classifiers -------------------------------------------------------------------------------


@pytest.mark.parametrize("analysis", INPUTS)
def test_features_are_the_columns(analysis):
    """Processor, model and attack agree on the order of the primary quantities."""
    assert tuple(feature.name for feature in INPUTS[analysis].features()) == COLUMNS[analysis]


@pytest.mark.parametrize("analysis", INPUTS)
@pytest.mark.parametrize("events", [0, 1, 200])
def test_logits_and_gradients_are_finite(analysis, events):
    """Missing jets give finite logits and gradients, and the gradient of a missing value is 0."""
    torch.manual_seed(0)
    x = torch.stack(list(inputs(analysis, events).values()), dim=1).requires_grad_()
    logits = MODELS[analysis]()(x)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert logits.shape == (events,)
    assert torch.isfinite(logits).all()
    assert torch.isfinite(gradient).all()
    assert (gradient[x == -999] == 0).all()


@pytest.mark.parametrize("analysis", INPUTS)
def test_gradient_is_the_derivative(analysis):
    """The gradient by autograd is that of finite differences, in double precision."""
    torch.manual_seed(0)
    model = MODELS[analysis]().double()
    x = torch.stack(list(inputs(analysis, 5).values()), dim=1).double()
    with torch.no_grad():
        model.standardise(x, torch.ones(5).double())
    assert torch.autograd.gradcheck(model, x.requires_grad_(), atol=1e-4)


@pytest.mark.parametrize("analysis", INPUTS)
def test_classifier_does_not_change_when_the_event_turns_or_is_mirrored(analysis):
    """Only differences of azimuths count, and forward equals backward."""
    torch.manual_seed(0)
    x = inputs(analysis)
    turned = {
        name: torch.where(v == -999, v, v + 1.0 if "phi" in name else -v if "eta" in name else v)
        for name, v in x.items()
    }
    model = MODELS[analysis]()
    first, second = (model(torch.stack(list(q.values()), dim=1)) for q in (x, turned))
    torch.testing.assert_close(first, second, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("analysis", INPUTS)
def test_export_round_trip(analysis, tmp_path):
    """The written file gives the same logits and gradients for any number of events."""
    torch.manual_seed(0)
    x = torch.stack(list(inputs(analysis).values()), dim=1)
    model = MODELS[analysis]()
    model.standardise(x, torch.ones(len(x)))
    torch.export.save(export(model, x.shape[1]), tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    for size in (0, 1, 2, 3, 200):
        part = x[:size].clone().requires_grad_()
        torch.testing.assert_close(loaded(part), model(part))
        gradients = [torch.autograd.grad(m(part).sum(), part)[0] for m in (loaded, model)]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("analysis", INPUTS)
@pytest.mark.parametrize("events", [0, 1, 200])
def test_watched_quantities_have_finite_gradients(analysis, events):
    """Each watched quantity has one value per event, NaN only where it is undefined."""
    x = {name: value.requires_grad_() for name, value in inputs(analysis, events).items()}
    x |= {"jm_1": torch.full((events,), 5.0), "jm_2": torch.full((events,), -999.0)}
    for name, (function, _) in INPUTS[analysis].watch().items():
        value = function(x)
        assert value.shape == (events,)
        if name != "mjj":
            assert torch.isfinite(value).all()
        gradients = torch.autograd.grad(value.nansum(), list(x.values())[:-2], allow_unused=True)
        assert all(torch.isfinite(g).all() for g in gradients if g is not None)


def test_dijet_mass_is_undefined_without_two_jets():
    """NaN marks events where there is nothing to watch."""
    x = inputs("htautau") | {"jm_1": torch.full((200,), 5.0), "jm_2": torch.full((200,), 5.0)}
    defined = (x["jpt_1"] > 0) & (x["jpt_2"] > 0)
    assert torch.equal(htautau_inputs.mjj(x).isfinite(), defined)


@pytest.mark.parametrize("analysis", INPUTS)
def test_build_conserv_accepts_the_analysis(analysis):
    """The attack can be made from the functions of the module."""
    module = INPUTS[analysis]
    assert module.build_conserv(MODELS[analysis](), Budget(rms=0.05, correlation=0.006), seed=2) is not None
