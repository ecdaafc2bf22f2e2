"""Bands of single bins: what they say, what they refuse, and where they come from."""

from __future__ import annotations

import copy
import pickle

import hist
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coffea_conserv import Band, Budget, ConfigurationError, Feature, attack
from coffea_conserv.fingerprint import fingerprint

AXIS = hist.axis.Regular(3, 0, 3)
PHI = hist.axis.Regular(4, -np.pi, np.pi, circular=True)


@pytest.mark.parametrize(
    ("band", "axis", "expected"),
    [
        (Band(0.1, 0.2), AXIS, [[0.1] * 5, [0.2] * 5]),
        (Band([0.1, 0.2, 0.3], 0.5), AXIS, [[0.1, 0.1, 0.2, 0.3, 0.3], [0.5] * 5]),
        (Band([0.1, 0.2, 0.3, 0, 1], [0, 0, 0, 0, 2]), AXIS, [[0.1, 0.2, 0.3, 0, 1], [0, 0, 0, 0, 2]]),
        (Band([0.1, 0.2, 0.3, 0.4], 0), PHI, [[0.1, 0.2, 0.3, 0.4, 0.4], [0] * 5]),
        (Band([0.1, 0.2], 0), hist.axis.Integer(0, 2, flow=False), [[0.1, 0.2], [0, 0]]),
    ],
)
def test_numbers_by_bin(band, axis, expected):
    """One number for all bins, one per bin with flow, or without: then the bin beside counts for it."""
    np.testing.assert_array_equal(band.over("x", axis), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": -0.1, "high": 0}, r"low= must hold finite numbers from 0, got -0.1$"),
        ({"low": 0, "high": [0.1, -0.2]}, r"high= must hold finite numbers from 0, got -0.2 in bin 1"),
        ({"low": [0.1, np.nan], "high": 0}, r"low= must hold finite numbers from 0, got nan in bin 1"),
        ({"low": [1.5, 0.1], "high": 0}, r"low= holds 1.5, but no bin can lose more than all; 5 % is 0.05"),
        ({"low": 0, "high": 5}, r"high=5 is a fraction, so that 5 % is 0.05"),
        ({"low": [0.1] * 3, "high": [0.1] * 4}, r"low= and high= must have as many bins, got 3 and 4"),
        ({"low": "5%", "high": 0}, r"low= must be a number or one number per bin, got '5%'"),
        ({"low": [[0.1]], "high": 0}, r"low= must be a number or one number per bin, got shape \(1, 1\)"),
    ],
)
def test_numbers_that_mean_nothing(options, message):
    """What is no band is refused with the bin."""
    with pytest.raises(ConfigurationError, match=rf"^Band\(\): {message}"):
        Band(**options)


@pytest.mark.parametrize(
    ("band", "message"),
    [
        (Band([0.1] * 4, 0.1), r"^band\['pt'\] has 4 bins; the axis has 3, or 5 with under- and overflow"),
        (
            Band(0.1, 0.1, [0, 1, 2]),
            r"^band\['pt'\] has been made of histograms with 2 bins in 0 … 2; ",
        ),
        (Band(0.1, 0.1, [0, 1, 2.5, 3]), r"^band\['pt'\] has been made of histograms .* other edges between"),
    ],
)
def test_bands_of_another_binning_name_the_feature(band, message):
    """Before anything is attacked: at the array level, and whatever else the budget says."""
    x = np.zeros((100, 2), np.float32)
    features = [Feature("pt", AXIS), Feature("eta", AXIS)]
    with pytest.raises(ConfigurationError, match=message):
        attack(x, None, features, budget=Budget(band={"pt": band, "eta": 0.1}))


def filled(contents, axis=AXIS):
    """A histogram with given contents, flow bins included."""
    made = hist.Hist(axis, storage=hist.storage.Weight())
    made.view(flow=True)["value"] = contents
    return made


def test_a_band_from_histograms():
    """Variations span a band on both sides; flow bins and edges come along; empty bins stay empty."""
    nominal = filled([10.0, 100.0, 50.0, 0.0, 20.0])
    up, down = filled([11.0, 90.0, 55.0, 3.0, 20.0]), filled([12.0, 95.0, 40.0, 0.0, 10.0])
    band = Band.from_histograms(nominal, up, down)
    np.testing.assert_allclose(band.low, [0.0, 0.1, 0.2, 0.0, 0.5])
    np.testing.assert_allclose(band.high, [0.2, 0.0, 0.1, 0.0, 0.0])
    assert band.edges == (0.0, 1.0, 2.0, 3.0)
    np.testing.assert_array_equal(band.over("x", AXIS), [band.low, band.high])
    plain = Band.from_histograms(*(h.values(flow=True) for h in (nominal, up, down)))
    assert (plain.low, plain.high, plain.edges) == (band.low, band.high, None)
    assert Band.from_histograms(up, nominal, down) == Band.from_histograms(up, down, nominal)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (([1, 2], [1, 2, 3], [1, 2]), r"up has another binning than nominal: 3 and 2 bins$"),
        (([1, 2], [1, 2], [1]), r"down has another binning than nominal: 1 and 2 bins$"),
        (([0, 0], [0, 0], [0, 0]), r"nominal is empty"),
        (([1, -2], [1, 2], [1, 2]), r"nominal has -2 in bin 1; contents must be finite and not negative"),
        (([1, 2], [1, np.inf], [1, 2]), r"up has inf in bin 1"),
        (([[1, 2]], [1, 2], [1, 2]), r"nominal must be a histogram or an array \(bins,\), got \(1, 2\)"),
        ((hist.Hist(AXIS, PHI), [1], [1]), r"nominal has 2 axes; project it onto one"),
        (
            (filled([1.0] * 5), filled([1.0] * 5, hist.axis.Regular(3, 0, 4)), filled([1.0] * 5)),
            r"up has another binning than nominal: 5 and 5 bins of other edges",
        ),
    ],
)
def test_histograms_that_make_no_band(parts, message):
    """The offender is named."""
    with pytest.raises(ConfigurationError, match=r"^Band.from_histograms\(\): " + message):
        Band.from_histograms(*parts)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.floats(0.5, 100)] * 3), min_size=1, max_size=6))
def test_variations_are_inside_of_their_band(rows):
    """Both of them, in every bin, and none of the limits could be smaller."""
    nominal, up, down = np.array(rows).T
    band = Band.from_histograms(nominal, up, down)
    low, high = np.asarray(band.low), np.asarray(band.high)
    for variation in (up, down):
        assert (variation >= nominal * (1 - low) - 1e-9).all()
        assert (variation <= nominal * (1 + high) + 1e-9).all()
    used = np.maximum(np.abs(up - nominal), np.abs(down - nominal)) / nominal
    np.testing.assert_allclose(np.maximum(low, high), used, atol=1e-12)


def test_a_band_is_a_value():
    """It compares, travels, and counts in the hash of a configuration, to the last bin."""
    band = Band([0.1, 0.2, 0.3], 0.5)
    same = Band(np.array([0.1, 0.2, 0.3]), np.float64(0.5))
    assert band == same
    assert hash(band) == hash(same)
    assert pickle.loads(pickle.dumps(band)) == copy.deepcopy(band) == band  # noqa: S301 -- written above
    assert fingerprint(Budget(band={"x": band})) == fingerprint(Budget(band={"x": same}))
    others = [
        Budget(band={"x": Band([0.1, 0.2, 0.31], 0.5)}),
        Budget(band=band),
        Budget(band={"x": Band(0.5, [0.1, 0.2, 0.3])}),
    ]
    hashes = {fingerprint(budget) for budget in (Budget(band={"x": band}), *others)}
    assert len(hashes) == 4
    assert repr(band) == "Band(3 bins, −30.0% … +50.0%)"
    assert repr(Band(0, 0.1)) == "Band(−0.0% … +10.0%)"
