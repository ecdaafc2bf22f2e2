"""Caps and resolutions through process(), the merge and the result."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import slow_twins
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner
from made_conserv import MISSING, call, conserv, events, features
from made_processor import Analysis, write_files

from coffea_conserv import Budget, ConfigurationError, InputError
from coffea_conserv.plugin import conserv as module_under_test
from coffea_conserv.results.seeds import seed_spread
from coffea_conserv.solvers.transport.solver import Transport

CHUNK = 150


def capped(**options):
    """Make the attack with a cap and a resolution of each kind."""
    made = features()
    made[0] = replace(made[0], max_shift=0.4, resolution=0.3)
    made[1] = replace(made[1], max_shift=0.6, max_relative_shift=0.5, relative_resolution=0.2)
    settings = {"features": made, "budget": Budget(rms=0.15, correlation=0.2), "solver": Transport(steps=15)}
    return conserv(**(settings | options))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run the small analysis; the attack, the merged output, and the samples that were summed."""
    samples, fill_sums = [], module_under_test.fill_sums

    def recording(config, sample, *rest):
        samples.append(sample)
        return fill_sums(config, sample, *rest)

    made = capped()
    files = write_files(tmp_path_factory.mktemp("files"), CHUNK)
    runner = Runner(IterativeExecutor(status=False), schema=BaseSchema, chunksize=CHUNK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module_under_test, "fill_sums", recording)
        output = runner(files, Analysis(made), treename="Events")
    return made, output["conserv"], samples


def pairs_of(samples, datasets, region, variation, name):
    """Nominal value, attacked value and weight of all events of a group."""
    found = []
    for sample in samples:
        if sample.dataset in datasets:
            mask = sample.regions[region]
            columns = (sample.values[v][name][mask] for v in ("nominal", variation))
            found += zip(*columns, sample.weight[mask], strict=True)
    return found


def test_the_merged_result_knows_the_largest_moves_of_all_events(run):
    """Caps are limits of the verdict; moves, shares and pulls are those of plain loops over all chunks."""
    made, sums, samples = run
    assert len(samples) > 5
    result = made.result(sums, processes={"all": ["W", "Z"]})
    assert result.verdict.passed
    limits = {
        (m.name, str(m.group), m.measure): m for m in result.verdict.limits if m.name.startswith("shift")
    }
    groups = {"W": ["W"], "Z": ["Z"], "all": ["W", "Z"]}
    assert len(result.shifts) == len(groups) * 3 * 2 * 3
    assert len(limits) == len(groups) * 3 * 2 * 3
    for row in result.shifts:
        name, region, variation = row.group.name, row.group.region, row.group.variation
        feature = next(f for f in made.features if f.name == row.feature)
        pairs = pairs_of(samples, groups[name], region, variation, row.feature)
        moved = [slow_twins.shift(a, b) for a, b, _ in pairs]
        total = math.fsum(w for _, _, w in pairs)
        assert row.largest == pytest.approx(max(moved), rel=1e-12)
        assert row.moved_share == pytest.approx(
            math.fsum(w for m, (_, _, w) in zip(moved, pairs, strict=True) if m) / total
        )
        noise, scale = feature.resolution or 0.0, feature.relative_resolution or 0.0
        pulls = (
            [w * slow_twins.pull2(a, b, noise, scale) for a, b, w in pairs]
            if feature.resolved
            else [math.nan]
        )
        assert row.pull2 == pytest.approx(math.fsum(pulls) / total, rel=1e-9, nan_ok=True)
        assert (row.largest > 0) == (row.feature != "k")
        assert all(slow_twins.kept(a, b, feature.max_shift, feature.max_relative_shift) for a, b, _ in pairs)
        if feature.capped:
            limit = limits[f"shift {row.feature}", str(row.group), "absolute"]
            assert (limit.value, limit.limit, limit.passed) == (row.largest, feature.max_shift, True)
        if feature.max_relative_shift:
            limit = limits[f"shift {row.feature}", str(row.group), "relative"]
            assert (limit.value, limit.limit) == (row.largest_relative, 0.5)
    assert max(row.largest for row in result.shifts if row.feature == "x") > 0.35


def test_a_move_that_is_too_large_breaks_the_verdict(run):
    """What is judged are the merged sums, whatever the chunks were told."""
    made, sums, _ = run
    key = ("Z", "low", "conservUp")
    largest = dict(sums.largest)
    largest[key] = largest[key] + np.array([[0.5, 0.0], [0.0, 0.5], [0.0, 0.0]])
    result = made.result(replace(sums, largest=largest))
    broken = {(limit.name, str(limit.group), limit.measure) for limit in result.verdict.broken}
    assert broken == {("shift x", "Z/low/conservUp", "absolute"), ("shift y", "Z/low/conservUp", "relative")}


def test_json_and_settings_tell_of_caps(run, tmp_path):
    """Declarations, price and moves are written; what is not a number is null."""
    made, sums, _ = run
    read = json.loads(made.result(sums).to_json(tmp_path / "verdict.json").read_text())
    x, y, k = read["settings"]["features"]
    assert (x["max_shift"], x["resolution"], x["max_relative_shift"]) == (0.4, 0.3, None)
    assert (y["max_relative_shift"], y["relative_resolution"]) == (0.5, 0.2)
    assert k["max_shift"] is None
    assert read["settings"]["penalty"] == 0.0
    rows = [row for row in read["shifts"] if row["group"] == "Z/low/conservUp"]
    assert [row["feature"] for row in rows] == ["x", "y", "k"]
    assert rows[2]["pull2"] is None
    assert 0 < rows[0]["largest"] <= 0.4


def test_a_price_makes_moves_smaller():
    """The penalty of the plugin is that of the solver, and part of what has to be the same to be merged."""
    columns = events(1000)
    plain, dear = capped(), capped(penalty=0.3)
    one, two = (made.result(call(made, columns)) for made in (plain, dear))
    pulls = [np.nansum([row.pull2 for row in result.shifts]) for result in (one, two)]
    assert 0 < pulls[1] < 0.7 * pulls[0]
    assert plain.config != dear.config
    assert capped(penalty=0).config == plain.config
    with pytest.raises(InputError, match="another configuration"):
        dear.result(call(plain, columns))
    with pytest.raises(InputError, match="differ in more than their seed"):
        seed_spread([one, replace(two, settings=replace(two.settings, seed=2))])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": -1}, "penalty=-1 must be a finite number from 0"),
        (
            {"penalty": 0.1, "features": features()},
            r"penalty=0\.1 is a price .* no feature that may move has one",
        ),
        ({"penalty": 0.1, "solver": "search"}, r"penalty=0\.1: search does not weigh moves"),
    ],
)
def test_prices_that_mean_nothing_are_refused_on_the_client(options, message):
    """When the attack is made."""
    with pytest.raises(ConfigurationError, match=message):
        capped(**options)


def test_real_data_have_no_moves():
    """Nothing is attacked, nothing is summed."""
    sums = call(capped(), events(100), data=True)
    assert not sums.shifts
    assert not sums.largest


def test_missing_values_in_double_precision_do_not_count_as_moves():
    """A value that single precision cannot hold is missing before and after."""
    made = features()
    made[1] = replace(made[1], missing=-999.9, max_shift=0.5)
    columns = events(400)
    columns["y"] = np.where(columns["y"] == MISSING, -999.9, columns["y"].astype(np.float64))
    attack = conserv(features=made, watch=None, budget=Budget(rms=0.15, correlation=0.2))
    result = attack.result(call(attack, columns))
    assert result.verdict.passed
    assert 0 < max(row.largest for row in result.shifts if row.feature == "y") <= 0.5
