"""Regions that are cut on the score are found, and others are not taken for one."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coffea_conserv.errors import InputError
from coffea_conserv.inputs.regions import atoms, check_regions, has_edge

SIZES = st.sampled_from([100, 300, 1000, 5000])
SEEDS = st.integers(0, 10**6)


def logistic(x):
    """Score of a logit."""
    return (1 / (1 + np.exp(-x))).astype(np.float32)


def sample(count, seed=1, features=6):
    """Features and the score of a model that uses all of them."""
    x = np.random.default_rng(seed).normal(size=(count, features)).astype(np.float32)
    logit = 1.5 * x[:, 0] + x[:, 1] - x[:, 2] * x[:, 3] + 0.5 * x[:, 4] ** 2 - 0.5
    return {f"x{j}": column for j, column in enumerate(x.T)}, logistic(logit)


def is_cut(masks, score, columns=None):
    """Whether a region is refused, which must be the one named ``sr``."""
    text = ""
    try:
        check_regions(masks, score, columns)
    except InputError as error:
        text = str(error)
    assert not text or re.match("region 'sr' is a cut on the score, .* use bins of the score instead$", text)
    return bool(text)


CUTS = {
    "above": lambda x, score: score > 0.5,
    "below": lambda x, score: score < 0.4,
    "window": lambda x, score: (score > 0.2) & (score < 0.6),
    "with a feature": lambda x, score: (score > 0.5) & (x["x0"] > 0),
    "with what is no feature": lambda x, score: (score > 0.5) & (np.arange(len(score)) % 2 == 0),
    "with two features": lambda x, score: (score > 0.5) & (x["x0"] > 0) & (x["x1"] > -0.5),
}


@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize("seed", range(5))
def test_cuts_are_found(kind, seed):
    """Alone or with other requirements, as one of several regions."""
    x, score = sample(3000, seed)
    others = {"all": np.ones(3000, bool), "half": x["x1"] > 0}
    assert is_cut({**others, "sr": CUTS[kind](x, score)}, score, x)
    assert not is_cut(others, score, x)


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_alone_is_found_in_a_hundred_events(seed):
    """One half of the events against the other."""
    _, score = sample(100, seed)
    assert is_cut({"sr": score > np.median(score)}, score)


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_within_another_region_is_found(seed):
    """A rare region that is cut further is looked at by itself: among all events it is hardly seen."""
    x, score = sample(4000, seed)
    rare = np.random.default_rng(seed).random(4000) < 0.06
    cut = rare & (score > np.median(score))
    assert is_cut({"base": rare, "sr": cut}, score, x)


@given(SIZES, SEEDS, st.floats(0, 2), st.sampled_from([0.1, 0.3, 0.5, 0.8]))
@settings(deadline=None, max_examples=60)
def test_shifted_scores_are_no_cut(count, seed, shift, share):
    """Regions whose scores are far from those of the others, but overlap, are left alone."""
    rng = np.random.default_rng(seed)
    inside = rng.random(count) < share
    score = logistic(rng.normal(size=count) + shift * inside)
    assert not is_cut({"a": inside, "b": ~inside, "c": rng.random(count) < 0.5}, score)


@given(SIZES, SEEDS, st.integers(0, 5), st.floats(-1.5, 1.5))
@settings(deadline=None, max_examples=60)
def test_cuts_on_features_are_no_cut_on_the_score(count, seed, feature, threshold):
    """Neither on a feature that moves the score a lot, nor on one that the score does not see."""
    x, score = sample(count, seed)
    regions = {"a": x[f"x{feature}"] > threshold, "b": np.abs(x["x0"]) < 0.5, "c": x["x0"] + x["x1"] > 1}
    assert not is_cut(regions, score, x)


@given(SIZES, SEEDS, st.floats(0, 4))
@settings(deadline=None, max_examples=60)
def test_numbers_of_jets_are_no_cut(count, seed, strength):
    """A region of some numbers of jets ends where the score of these numbers ends, which is seen in them."""
    rng = np.random.default_rng(seed)
    jets, radius = rng.integers(0, 4, count), rng.exponential(size=count)
    score = logistic(1.0 - radius + strength * (jets - 1.5))
    columns = {"jets": jets, "x": np.sqrt(radius) * np.cos(rng.random(count) * 2 * math.pi)}
    assert not is_cut(
        {"none": jets == 0, "few": jets < 2, "many": jets >= 2, "all": jets >= 0}, score, columns
    )


def test_the_end_of_the_score_of_some_jets_is_an_edge_of_them_alone():
    """Without the column of jets the same region is taken for a cut: the columns are what tells."""
    rng = np.random.default_rng(1)
    jets, radius = rng.integers(0, 4, 5000), rng.exponential(size=5000)
    score = logistic(1.0 - radius + (jets - 1.5))
    assert not is_cut({"sr": jets < 2}, score, {"jets": jets})
    assert is_cut({"sr": jets < 2}, score)
    assert is_cut({"sr": (jets < 2) & (score > 0.3)}, score, {"jets": jets})


def test_only_counts_and_frozen_features_excuse():
    """A watched quantity that is the score in another form is cut along with it; a frozen one may be."""
    x, score = sample(2000)
    columns = {**x, "logit": np.log(score / (1 - score)), "none": np.full(2000, np.nan)}
    assert is_cut({"sr": score > 0.5}, score, columns)
    check_regions({"sr": score > 0.5}, score, columns, frozen=["logit"])


def test_scores_of_few_values_have_no_edges():
    """A model of a number of jets jumps by itself, and a constant one has ties everywhere."""
    rng = np.random.default_rng(2)
    jets = rng.integers(0, 4, 3000)
    assert not is_cut({"sr": jets >= 2}, logistic(jets - 1.5))
    assert not is_cut({"sr": np.arange(3000) < 1500}, np.full(3000, 0.5, np.float32))


@pytest.mark.parametrize("count", [0, 1, 79])
def test_few_events_are_left_alone(count):
    """Nothing can be said about them."""
    x, score = sample(count)
    assert not is_cut(
        {"sr": score > 0.5, "none": np.zeros(count, bool), "all": np.ones(count, bool)}, score, x
    )


def test_an_edge_needs_events_beyond_it():
    """The end of all scores, and a share that fades, are no edge; a jump is."""
    score = np.linspace(0, 1, 4000)
    assert not has_edge(score, np.ones(4000, bool))
    assert has_edge(score, score >= 0.5)
    assert not has_edge(score, np.random.default_rng(3).random(4000) < np.maximum(score - 0.5, 0))
    assert has_edge(score, np.random.default_rng(3).random(4000) < 0.5 * (score > 0.5))


def test_atoms_are_events_of_the_same_regions():
    """Overlaps are atoms of their own, events in no region are −1."""
    a, b = np.array([1, 1, 0, 0, 1], bool), np.array([0, 1, 1, 0, 0], bool)
    found = atoms({"a": a, "b": b})
    assert found[3] == -1
    assert found[0] == found[4]
    assert len(set(found[[0, 1, 2]])) == 3
    assert not len(atoms({"a": np.zeros(0, bool)}))
