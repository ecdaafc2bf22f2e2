"""Datasets in processes, estimates, and sums over both."""

from __future__ import annotations

import numpy as np
import pytest
from made_events import CONFIG, made, summed

from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.sums.groups import (
    Estimate,
    check_estimates,
    check_merged,
    check_totals,
    content,
    counts_of,
    group_datasets,
    simulated,
)
from coffea_conserv.sums.sums import COUNTS, Sums

SUMS = summed(
    made("W1", "a", 30, 1),
    made("W2", "b", 30, 2, weight=0.5),
    made("Z", "c", 30, 3),
    made("Mu", "d", 30, 4, real=True),
    made("El", "e", 30, 5, real=True),
)


def test_every_dataset_is_a_process_of_its_own_by_default():
    """Simulation is sorted by name; all real data are one process, the last one."""
    grouped = group_datasets(SUMS, {})
    assert grouped == {"W1": ("W1",), "W2": ("W2",), "Z": ("Z",), "data": ("El", "Mu")}
    assert list(grouped)[-1] == "data"


def test_processes_come_in_the_order_of_the_user():
    """Named processes keep their order, the other datasets follow."""
    grouped = group_datasets(SUMS, {"Z": ["Z"], "W": ["W2", "W1"]})
    assert list(grouped) == ["Z", "W", "data"]
    assert grouped["W"] == ("W2", "W1")
    assert list(group_datasets(SUMS, {"W": ["W2"]})) == ["W", "W1", "Z", "data"]


def test_without_real_data_there_is_no_process_for_them():
    """The process of data exists only if there are data, and simulation is everything else."""
    assert group_datasets(summed(made("Z")), {}) == {"Z": ("Z",)}
    assert group_datasets(Sums(CONFIG), {}) == {}
    assert list(simulated(group_datasets(SUMS, {}))) == ["W1", "W2", "Z"]


def test_data_may_be_named():
    """Real data can be listed as the process of data, all of them are in it."""
    assert group_datasets(SUMS, {"data": ["Mu"]})["data"] == ("El", "Mu")


@pytest.mark.parametrize(
    ("processes", "message"),
    [
        (["W1"], r"processes must be a dict of name → list of datasets, got \['W1'\]"),
        ({"W": "W1"}, r"processes\['W'\] must be a list of datasets, got 'W1'; write \['W1'\]"),
        ({"W": 3}, r"processes\['W'\] must be a list of datasets, got 3"),
        ({"W": [3]}, r"processes\['W'\] must be a list of datasets, got \[3\]"),
        ({"W": []}, r"processes\['W'\] must be a list of datasets, got \[\]"),
        ({"W": ["W3"]}, r"there is no dataset 'W3' in the output; there are El, Mu, W1, W2, Z"),
        ({"W": ["W1"], "V": ["W1"]}, r"dataset 'W1' is in the processes 'W' and 'V'; leave it in one"),
        ({"W": ["W1", "W1"]}, r"dataset 'W1' is in the processes 'W' and 'W'"),
        ({"W": ["W1", "Mu"]}, r"'Mu' is real data; the process 'data' is for real data only"),
        ({"data": ["W1"]}, r"'W1' is simulation; the process 'data' is for real data only"),
        ({"Z": ["W1"]}, r"dataset 'Z' is not in the process of that name; rename the process"),
        ({"W1": ["W1", "W2"]}, r"W1 have the name of a dataset that is not the whole process"),
        ({"W1": ["W2"], "W2": ["W1"]}, r"W1, W2 have the name of a dataset"),
    ],
)
def test_processes_that_do_not_fit_are_refused(processes, message):
    """The error names the process or dataset and what to do."""
    with pytest.raises(ConfigurationError, match=message):
        group_datasets(SUMS, processes)


def test_simulation_cannot_be_called_data():
    """A simulated dataset with the name of the process of data is refused."""
    with pytest.raises(ConfigurationError, match="dataset 'data' is not in the process of that name"):
        group_datasets(summed(made("data")), {})


def test_a_dataset_cannot_be_both_real_and_simulated():
    """Chunks of real data and of simulation under one name are an error."""
    mixed = summed(made("W", "a", 30, 1), made("W", "b", 30, 2, real=True))
    with pytest.raises(InputError, match=r"dataset\(s\) W hold both real data and simulation"):
        group_datasets(mixed, {})


@pytest.mark.parametrize(
    ("estimates", "message"),
    [
        ([Estimate("Z", {"signal": "control"})], "'Z': this name belongs to another process"),
        ([Estimate("data", {"signal": "control"})], "'data': this name belongs to another process"),
        ([Estimate("Q", {"signal": "control"})] * 2, "'Q': this name belongs to another process"),
        ([Estimate("Q", {"signal": "side"})], "'Q': there is no region side; there are control, signal"),
        ([Estimate("Q", {"top": "side"})], "there is no region side, top"),
        ([Estimate("Q", {"signal": "signal"})], "a region cannot be its own control region"),
        ([Estimate("all simulation", {"signal": "control"})], "this name belongs to another process"),
        ([("Q", {"signal": "control"})], r"estimates must hold Estimate\(name, regions, scale\), got \('Q'"),
    ],
)
def test_estimates_that_do_not_fit_are_refused(estimates, message):
    """The error names the estimate and what is wrong with it."""
    grouped = group_datasets(SUMS, {})
    with pytest.raises(ConfigurationError, match=message):
        check_estimates(estimates, grouped, ("control", "signal"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": ""}, "an estimate needs the name of a process, got ''"),
        ({"name": 3}, "an estimate needs the name of a process, got 3"),
        (
            {"regions": ["signal"]},
            r"'Q': regions must be a dict of region → control region, got \['signal'\]",
        ),
        ({"regions": {}}, r"'Q': regions must be a dict of region → control region, got \{\}"),
        ({"scale": float("nan")}, "'Q': scale=nan must be a finite number above 0"),
        ({"scale": float("inf")}, "'Q': scale=inf must be a finite number above 0"),
        ({"scale": -0.8}, "'Q': scale=-0.8 must be a finite number above 0"),
        ({"scale": 0}, "'Q': scale=0 must be a finite number above 0"),
        ({"scale": "0.8"}, "'Q': scale must be a number, got '0.8'"),
        ({"scale": True}, "'Q': scale must be a number, got True"),
    ],
)
def test_estimates_that_make_no_sense_are_refused(given, message):
    """Name, regions and scale are checked when the estimate is made."""
    with pytest.raises(ConfigurationError, match=message):
        Estimate(**{"name": "Q", "regions": {"signal": "control"}, "scale": 0.8, **given})


def test_totals_are_sums_of_processes():
    """Datasets of the processes in their order, and all simulation as the last one."""
    grouped = group_datasets(SUMS, {"W": ["W2", "W1"]})
    everything = {"all simulation": ("W2", "W1", "Z")}
    assert check_totals({}, grouped) == everything
    assert check_totals({"some": ["Z", "W"], "one": ["W"]}, grouped) == {
        "some": ("Z", "W2", "W1"),
        "one": ("W2", "W1"),
        **everything,
    }
    assert check_totals({}, group_datasets(summed(made("Mu", real=True)), {})) == {}


@pytest.mark.parametrize(
    ("totals", "message"),
    [
        ({"all": ["W1"]}, r"totals\['all'\]: there is no simulated process W1; there are W, Z"),
        ({"all": ["Z", "data"]}, "there is no simulated process data"),
        ({"all": ["Z", "Z"]}, "a process is listed twice; leave it once"),
        ({"W": ["Z"]}, r"totals\['W'\]: this name belongs to something else already"),
        ({"W1": ["Z"]}, "this name belongs to something else already"),
        ({"data": ["Z"]}, "this name belongs to something else already"),
        ({"all simulation": ["Z"]}, "this name belongs to something else already"),
        ({"all": "Z"}, r"totals\['all'\] must be a list of processes, got 'Z'; write \['Z'\]"),
        (["Z"], "totals must be a dict of name → list of processes"),
    ],
)
def test_totals_that_do_not_fit_are_refused(totals, message):
    """The error names the total and what is wrong with it."""
    with pytest.raises(ConfigurationError, match=message):
        check_totals(totals, group_datasets(SUMS, {"W": ["W1", "W2"]}))


def test_the_name_of_all_simulation_is_taken():
    """No dataset can have it."""
    grouped = group_datasets(summed(made("all simulation")), {})
    with pytest.raises(ConfigurationError, match="'all simulation' is the name of the sum of all simulation"):
        check_totals({}, grouped)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"conserv": SUMS, "cutflow": {}}, r"got a dict; it is in output\['conserv'\]: give that"),
        ({"out": {"conserv": SUMS}}, r"it is in output\['out'\]\['conserv'\]: give that"),
        (({"a": SUMS, "b": SUMS}, {}), r"got a tuple; it is in output\[0\]\['a'\], output\[0\]\['b'\]"),
        ({"cutflow": 1}, r"got a dict; give what the call of Conserv returned in process\(\)"),
        (None, "got a NoneType; give what the call"),
    ],
)
def test_something_else_than_merged_sums_is_refused(output, message):
    """The error says where in the output they are."""
    with pytest.raises(InputError, match=message):
        check_merged(output)
    check_merged(SUMS)


def test_an_estimate_needs_data():
    """Without real data there is nothing to estimate from."""
    grouped = group_datasets(summed(made("Z")), {})
    with pytest.raises(ConfigurationError, match="an estimate needs real data, and there are none"):
        check_estimates([Estimate("Q", {"signal": "control"})], grouped, ("control", "signal"))


def test_counts_add_up_over_datasets():
    """Counts of several datasets are the sum of theirs; what is not there counts as 0."""
    one, two = (counts_of(SUMS, [name], "signal", "conservUp") for name in ("W1", "W2"))
    both = counts_of(SUMS, ["W1", "W2"], "signal", "conservUp")
    assert both == {name: one[name] + two[name] for name in COUNTS}
    assert both["events"] == 40
    assert both["sum_w"] == pytest.approx(30)
    assert counts_of(SUMS, ["none"], "signal", "nominal") == dict.fromkeys(COUNTS, 0.0)


def test_content_is_a_linear_combination():
    """Contents add with their factors, variances with the squares of them."""
    terms = [(1.0, "W1", "signal", "nominal"), (-2.0, "W2", "control", "conservUp")]
    value, variance = content(SUMS, "y", terms)
    parts = [SUMS.hists["y"][key[1], key[2], key[3], :].view(flow=True) for key in terms]
    np.testing.assert_allclose(value, parts[0]["value"] - 2 * parts[1]["value"])
    np.testing.assert_allclose(variance, parts[0]["variance"] + 4 * parts[1]["variance"])


def test_what_is_not_there_has_no_content():
    """An unknown quantity, dataset or region contributes nothing."""
    assert content(SUMS, "none", [(1.0, "W1", "signal", "nominal")]) == (0.0, 0.0)
    assert content(SUMS, "x", [(1.0, "none", "signal", "nominal")]) == (0.0, 0.0)
    assert content(SUMS, "x", [(1.0, "W1", "none", "nominal")]) == (0.0, 0.0)
