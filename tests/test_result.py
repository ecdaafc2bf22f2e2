"""The result of a run: histograms, estimates, correlations, paired errors and verdict from merged sums."""

from __future__ import annotations

import itertools
from dataclasses import replace

import hist
import numpy as np
import pytest
from made_events import CONFIG, FEATURES, QUANTITIES, SETTINGS, made, scored, summed, with_budget
from made_results import ESTIMATES, PROCESSES, SAMPLES, events_of, result_of

from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.limits.measures import correlation_shift, js_distance
from coffea_conserv.names import VARIATIONS
from coffea_conserv.results.making import make_result
from coffea_conserv.results.result import Estimate
from coffea_conserv.sums.sums import Sums, fill_sums
from coffea_conserv.templates.template import LABEL

RESULT = result_of()
REGIONS = ("control", "signal")
SIMULATION = ("W1", "W2", "Z")
NAMES = ("x", "y", "total", "score")


def cell(filled, *key):
    """Contents and variances of one process or dataset with flow bins."""
    view = filled[(*key, slice(None))].view(flow=True)
    return view["value"], view["variance"]


def weighted_pearson(samples):
    """Pairwise-complete weighted correlation of (columns, weights) with factors, pair by pair."""
    count = len(QUANTITIES)
    matrix = np.eye(count)
    for j, k in itertools.permutations(range(count), 2):
        rows = []
        for factor, columns, weight in samples:
            a, b = (columns[QUANTITIES[i].name] for i in (j, k))
            there = ~np.isnan(a) & ~np.isnan(b) & (a != -999.0) & (b != -999.0)
            rows.append((a[there], b[there], factor * weight[there]))
        a, b, w = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        a, b = a - np.average(a, weights=w), b - np.average(b, weights=w)
        matrix[j, k] = np.sum(w * a * b) / np.sqrt(np.sum(w * a * a) * np.sum(w * b * b))
    return matrix


def test_processes_regions_and_quantities():
    """Names come in a fixed order: simulation, estimates, data; regions sorted; features, then watched."""
    assert RESULT.simulation == ("W", "Z")
    assert RESULT.process_names == ("W", "Z", "QCD", "data")
    assert RESULT.regions == REGIONS
    assert RESULT.quantities == ("x", "y", "total")
    assert RESULT.title("x") == "Momentum [GeV]"
    assert (RESULT.title("total"), RESULT.title("score")) == ("total", "Score")
    assert RESULT.axis("score") is SETTINGS.score
    assert RESULT.axis("x") is FEATURES[0].axis


@pytest.mark.parametrize("name", NAMES)
def test_a_process_is_the_sum_of_its_datasets(name):
    """Contents and variances of a process are those of its datasets together, with flow bins."""
    grouped, single = RESULT.hist(name), RESULT.hist(name, process_axis=False)
    assert list(single.axes["dataset"]) == ["Mu", "W1", "W2", "Z"]
    for region, variation in itertools.product(REGIONS, VARIATIONS):
        for process, datasets in RESULT.processes.items():
            found = cell(grouped, process, region, variation)
            parts = [cell(single, dataset, region, variation) for dataset in datasets]
            np.testing.assert_allclose(found[0], sum(part[0] for part in parts), atol=1e-12)
            np.testing.assert_allclose(found[1], sum(part[1] for part in parts), atol=1e-12)


def test_histograms_hold_all_events():
    """The axes are those of the run, and every event is in exactly one bin, flow included."""
    filled = RESULT.hist("score")
    assert [axis.name for axis in filled.axes] == ["process", "region", "variation", "score"]
    assert isinstance(filled.storage_type(), hist.storage.Weight)
    assert LABEL in filled.axes["variation"].label
    for process, datasets in (("W", ("W1", "W2")), ("Z", ("Z",)), ("data", ("Mu",))):
        for region in REGIONS:
            _, weight = events_of(datasets, region)
            value, variance = cell(filled, process, region, "nominal")
            assert value.sum() == pytest.approx(weight.sum())
            assert variance.sum() == pytest.approx((weight**2).sum())


def test_data_are_never_attacked():
    """Real data have nothing in the attacked variations."""
    for name, region, variation in itertools.product(NAMES, REGIONS, VARIATIONS[1:]):
        assert not cell(RESULT.hist(name), "data", region, variation)[0].any()
        assert not RESULT.correlation("data", region, variation)[0, 1]


def test_regions_can_be_chosen():
    """A histogram of some regions is that part of the one of all regions."""
    part, whole = RESULT.hist("x", regions=["signal"]), RESULT.hist("x")
    assert list(part.axes["region"]) == ["signal"]
    for process, variation in itertools.product(RESULT.process_names, VARIATIONS):
        key = (process, "signal", variation)
        np.testing.assert_array_equal(cell(part, *key), cell(whole, *key))


@pytest.mark.parametrize(("name", "variation"), list(itertools.product(NAMES, VARIATIONS)))
def test_an_estimate_is_made_again_for_every_variation(name, variation):
    """An estimate is scale × (data − simulation) of its control region, with the simulation attacked."""
    single = RESULT.hist(name, process_axis=False)
    data = cell(single, "Mu", "control", "nominal")
    simulated = [cell(single, dataset, "control", variation) for dataset in SIMULATION]
    value, variance = cell(RESULT.hist(name), "QCD", "signal", variation)
    np.testing.assert_allclose(value, 1.5 * (data[0] - sum(part[0] for part in simulated)), atol=1e-12)
    np.testing.assert_allclose(variance, 1.5**2 * (data[1] + sum(part[1] for part in simulated)), atol=1e-12)


def test_an_estimate_is_in_its_regions_only():
    """Elsewhere it is empty, has no template, and is not there."""
    assert not cell(RESULT.hist("score"), "QCD", "control", "nominal")[0].any()
    assert (RESULT.has("QCD", "signal"), RESULT.has("QCD", "control")) == (True, False)
    kept = {(entry.process, entry.region) for entry in RESULT.templates().entries}
    assert ("QCD", "signal") in kept
    assert ("QCD", "control") not in kept


def test_data_of_a_region_that_was_not_filled_are_not_there():
    """Data that were given no mask for a region, as when it is blinded, have no template in it."""
    data = SAMPLES[-1]
    blinded = replace(data, regions={"control": data.regions["control"]})
    result = result_of(*SAMPLES[:-1], blinded)
    assert (result.has("data", "control"), result.has("data", "signal")) == (True, False)
    found = {(entry.process, entry.region) for entry in result.templates().entries}
    assert ("data", "control") in found
    assert ("data", "signal") not in found
    assert RESULT.has("data", "signal")


@pytest.mark.parametrize(("region", "variation"), list(itertools.product(REGIONS, VARIATIONS)))
def test_correlations_are_those_of_the_events(region, variation):
    """Merged sums give the weighted correlation of all events of a process, pairwise complete."""
    for process, datasets in (("W", ("W1", "W2")), ("Z", ("Z",))):
        values, weight = events_of(datasets, region)
        expected = weighted_pearson([(1.0, values[variation], weight)])
        np.testing.assert_allclose(RESULT.correlation(process, region, variation), expected, atol=1e-9)


@pytest.mark.parametrize("variation", VARIATIONS)
def test_correlations_of_everything_include_estimates(variation):
    """Without a process, all simulation and the estimates count, each with its factor."""
    parts = []
    for name in SIMULATION:
        for factor, region in ((1.0, "signal"), (-1.5, "control")):
            values, weight = events_of([name], region)
            parts.append((factor, values[variation], weight))
    values, weight = events_of(["Mu"], "control")
    parts.append((1.5, values["nominal"], weight))
    np.testing.assert_allclose(
        RESULT.correlation(None, "signal", variation), weighted_pearson(parts), atol=1e-9
    )


@pytest.mark.parametrize(("process", "region"), [("W", "signal"), ("Z", "control"), ("QCD", "signal")])
def test_the_paired_error_counts_events_that_change_the_bin(process, region):
    """It is the root of Σ w² over the events that leave or enter a bin, found event by event."""
    datasets = {"W": ("W1", "W2"), "Z": ("Z",), "QCD": SIMULATION}[process]
    factor, source = (1.5, "control") if process == "QCD" else (1.0, region)
    values, weight = events_of(datasets, source)
    axis = RESULT.paired_axis
    for variation in VARIATIONS[1:]:
        expected = np.zeros(axis.extent)
        for before, after, w in zip(
            values["nominal"]["score"], values[variation]["score"], weight, strict=True
        ):
            if axis.index(before) != axis.index(after):
                for score in (before, after):
                    expected[axis.index(score) + 1] += (factor * w) ** 2
        found = RESULT.paired_error(process, region, variation, flow=True)
        np.testing.assert_allclose(found, np.sqrt(expected))
        np.testing.assert_allclose(RESULT.paired_error(process, region, variation), found[1:-1])


def test_paired_errors_are_smaller_than_those_of_the_templates():
    """Events that stay in their bin cancel: without moves across bins the error is exactly 0."""
    still = scored([0.1, 0.3, 0.6], [0.15, 0.3, 0.6], [0.1, 0.3, 0.6])
    result = result_of(still, processes={}, estimates=())
    assert not result.paired_error("W", "signal", "conservUp", flow=True).any()


def test_a_fine_score_has_paired_errors_in_twenty_bins():
    """With more than 20 bins of the score the paired error is on an axis of 20."""
    settings = replace(SETTINGS, score=hist.axis.Regular(50, 0, 1, name="score"))
    sums = fill_sums(CONFIG, SAMPLES[0], QUANTITIES, settings.score)
    result = make_result(sums, settings)
    assert result.paired_error("W1", "signal", "conservUp").shape == (20,)
    assert result.hist("score").axes[3].size == 50


@pytest.mark.parametrize("name", NAMES)
def test_templates_add_up_to_the_merged_histograms(name):
    """Templates of all processes together are the merged histogram of all datasets and the estimate."""
    templates = RESULT.templates(name)
    single, grouped = RESULT.hist(name, process_axis=False), RESULT.hist(name)
    for region, (attribute, variation) in itertools.product(
        REGIONS, zip(("nominal", "up", "down"), VARIATIONS, strict=True)
    ):
        total = np.zeros((2, RESULT.axis(name).extent))
        for process in ("W", "Z"):
            view = getattr(templates.get(process, region), attribute).view(flow=True)
            total += view["value"], view["variance"]
            np.testing.assert_array_equal(view["value"], cell(grouped, process, region, variation)[0])
        expected = sum(np.array(cell(single, dataset, region, variation)) for dataset in SIMULATION)
        np.testing.assert_allclose(total, expected, atol=1e-12)


def test_limits_are_judged_by_dataset_and_by_process():
    """Every dataset is judged, and a process of several datasets once more; data are not."""
    groups = list(dict.fromkeys(str(limit.group) for limit in RESULT.verdict.limits))
    expected = [f"{n}/{r}/{v}" for n in ("W1", "W2", "Z", "W") for r in REGIONS for v in VARIATIONS[1:]]
    assert groups == expected
    everything = [f"all simulation/{r}/{v}" for r in REGIONS for v in VARIATIONS[1:]]
    assert [f"{row.name}/{row.region}/{row.variation}" for row in RESULT.fooling] == expected + everything
    assert [row.level for row in RESULT.fooling[::4]] == ["dataset", "dataset", "dataset", "process", "all"]
    names = [limit.name for limit in RESULT.verdict.limits if str(limit.group) == groups[0]]
    assert names == ["marginal x", "marginal y", "watched total", "correlation"]


def test_fooling_ratios_of_totals_are_those_of_their_datasets():
    """Backgrounds of the user and all simulation can be read in one line, weighted, with an error."""
    result = result_of(totals={"backgrounds": ["W"]})
    assert [row.level for row in result.fooling[-8::4]] == ["total", "all"]
    for name, datasets in (("backgrounds", ("W1", "W2")), ("all simulation", SIMULATION)):
        values, weight = events_of(datasets, "signal")
        below = values["nominal"]["score"] <= 0.5
        crossed = below & (values["conservUp"]["score"] > 0.5)
        found = result.fooling_of(name, "signal")
        assert found.ratio == pytest.approx(weight[crossed].sum() / weight[below].sum())
        assert 0 < found.error < 0.1
    same = (result.fooling_of(name, "signal", "conservDown") for name in ("W", "backgrounds"))
    assert len({(row.ratio, row.error) for row in same}) == 1


def test_a_fooling_ratio_that_is_not_there():
    """The error tells which there are."""
    with pytest.raises(
        InputError, match=r"no fooling ratio of Z/top/conservUp; there are W1/control/conservUp"
    ):
        RESULT.fooling_of("Z", "top")


def test_a_single_estimate_needs_no_list():
    """It is taken as a list of one; anything else is refused."""
    assert result_of(estimates=ESTIMATES[0]).estimates == ESTIMATES
    assert result_of(estimates=(estimate for estimate in ESTIMATES)).estimates == ESTIMATES
    for wrong in ("QCD", {"QCD": 1}, 3):
        with pytest.raises(
            ConfigurationError, match=r"estimates must be a list of Estimate\(name, regions, scale"
        ):
            result_of(estimates=wrong)


def test_limits_are_those_of_the_events():
    """Values of the limits of a process are the measures of all of its events."""
    values, weight = events_of(("W1", "W2"), "signal")
    found = {
        limit.name: limit.value for limit in RESULT.verdict.limits if str(limit.group) == "W/signal/conservUp"
    }
    columns = [values[variation] for variation in VARIATIONS[:2]]
    edges = [-np.inf, *QUANTITIES[2].axis.edges, np.inf]
    histograms = [np.histogram(c["total"], edges, weights=weight * ~np.isnan(c["total"]))[0] for c in columns]
    assert found["marginal y"] == 0
    assert found["watched total"] == pytest.approx(js_distance(*histograms))
    matrices = [weighted_pearson([(1.0, c, weight)])[:2, :2] for c in columns]
    assert found["correlation"] == pytest.approx(correlation_shift(*matrices))
    assert found["marginal x"] < 0.05


def test_the_control_reproduces_nominal():
    """Where no event moved, every value is exactly 0, the verdict passes and nothing was fooled."""
    samples = [made("W1", "a", 100, strength=0.0), made("Z", "b", 60, seed=2, weight=0.4)]
    samples = [replace(s, values=dict.fromkeys(s.values, s.values["nominal"])) for s in samples]
    result = result_of(*samples, settings=with_budget(move=0), processes={}, estimates=())
    assert result.verdict.passed
    assert {limit.value for limit in result.verdict.limits} == {0.0}
    assert {row.ratio for row in result.fooling} == {0.0}
    for entry in result.templates().entries:
        np.testing.assert_array_equal(entry.nominal.view(flow=True), entry.up.view(flow=True))


def test_the_order_of_merging_does_not_matter():
    """Any order of the chunks gives the same numbers to rounding."""
    other = result_of(*reversed(SAMPLES))
    assert other.process_names == RESULT.process_names
    for one, two in zip(RESULT.verdict.limits, other.verdict.limits, strict=True):
        assert (one.name, one.group) == (two.name, two.group)
        assert one.value == pytest.approx(two.value, abs=1e-9)
    for one, two in zip(RESULT.fooling, other.fooling, strict=True):
        assert (one.ratio, one.error) == pytest.approx((two.ratio, two.error), nan_ok=True)


def test_an_empty_region_is_not_judged():
    """A region without events of a dataset has no limits and no fooling ratio."""
    sample = SAMPLES[0]
    regions = {**sample.regions, "empty": np.zeros(100, dtype=bool)}
    result = result_of(replace(sample, regions=regions), processes={}, estimates=())
    assert result.regions == ("control", "empty", "signal")
    assert not [row for row in result.fooling if row.region == "empty"]
    assert not [limit for limit in result.verdict.limits if limit.group.region == "empty"]


def test_coverage_is_part_of_the_result():
    """What was asked and what was read are compared by dataset."""
    result = result_of(asked={"W1": 160, "W2": 200})
    assert {c.dataset: c.complete for c in result.coverage} == {
        "W1": True,
        "W2": False,
        "Z": None,
        "Mu": None,
    }


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.axis("none"), "there is no quantity 'none'; there are x, y, total, score"),
        (lambda r: r.title("none"), "there is no quantity 'none'"),
        (lambda r: r.hist("none"), "there is no quantity 'none'"),
        (lambda r: r.hist("x", regions=["no"]), "there is no region 'no'; there are control, signal"),
        (lambda r: r.correlation("no", "signal", "nominal"), "no process 'no'; there are W, Z, QCD, data"),
        (lambda r: r.correlation("W", "no", "nominal"), "there is no region 'no'"),
        (lambda r: r.correlation("W", "signal", "up"), "no variation 'up'; there are nominal, conservUp"),
        (lambda r: r.paired_error("W1", "signal", "conservUp"), "there is no process 'W1'"),
        (lambda r: r.has("no", "signal"), "there is no process 'no'"),
        (lambda r: r.has("W", "no"), "there is no region 'no'"),
        (lambda r: r.templates("none"), "there is no quantity 'none'"),
        (lambda r: r.templates(regions=["no", "signal"]), "there is no region no; there are control, signal"),
    ],
)
def test_unknown_names_are_refused(call, message):
    """The error names what is unknown and what there is."""
    with pytest.raises(InputError, match=message):
        call(RESULT)


def test_what_does_not_fit_is_refused():
    """Processes and estimates are checked when the result is made."""
    sums = summed(*SAMPLES)
    with pytest.raises(ConfigurationError, match="there is no dataset 'W3'"):
        make_result(sums, SETTINGS, processes={"W": ["W3"]})
    with pytest.raises(ConfigurationError, match="there is no region side"):
        make_result(sums, SETTINGS, estimates=[Estimate("Q", {"signal": "side"})])


def test_an_empty_output_gives_an_empty_result():
    """Nothing processed is a result without groups, and its coverage says so."""
    result = make_result(Sums(CONFIG), SETTINGS, asked={"W": 10})
    assert (result.process_names, result.regions, result.fooling) == ((), (), ())
    assert result.coverage[0].complete is False
    assert result.templates().entries == ()
    assert result.hist("x").axes[0].size == 0


def test_a_result_keeps_what_it_was_made_of():
    """Processes, estimates, sums and settings can be looked up."""
    assert dict(RESULT.processes) == {"W": ("W1", "W2"), "Z": ("Z",), "data": ("Mu",)}
    assert RESULT.processes["W"] == tuple(PROCESSES["W"])
    assert RESULT.estimates == ESTIMATES
    assert RESULT.settings is SETTINGS
    assert RESULT.sums.config == CONFIG
