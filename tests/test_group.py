"""Groups as values: no two of them can be taken for each other, whatever datasets and regions are called."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_events import SETTINGS, made, with_budget
from made_results import result_of

from coffea_conserv import InputError
from coffea_conserv.group import ARRAY, LEVELS, Group
from coffea_conserv.limits.verdict import worst_limits
from coffea_conserv.plotting import limits_plot
from coffea_conserv.plotting.heatmaps import fooling_cells, limit_cells
from coffea_conserv.results import seed_spread

HOSTILE = ["A", "A/b", "b/c", "c", "/A/B/C", "'A'", 'a"b', "a b", "ß…", "W/signal/conservUp", "\\", "'"]


def moved(dataset, region, *, destroyed):
    """Events of a dataset in one region, attacked a little, or with a feature that is all in one bin."""
    sample = made(dataset, f"{dataset}:0-100")
    values = {variation: dict(columns) for variation, columns in sample.values.items()}
    if destroyed:
        for variation in ("conservUp", "conservDown"):
            values[variation]["x"] = np.full_like(values[variation]["x"], 0.5)
    return replace(sample, regions={region: np.ones(100, dtype=bool)}, values=values)


@pytest.mark.parametrize("destroyed", [0, 1])
def test_a_dataset_and_a_region_are_not_taken_for_others(destroyed):
    """Dataset A in region b/c and dataset A/b in region c: the limits of both are judged."""
    names = (("A", "b/c"), ("A/b", "c"))
    samples = [moved(*name, destroyed=k == destroyed) for k, name in enumerate(names)]
    result = result_of(
        *samples, processes={}, estimates=(), settings=with_budget(rms=0.5, correlation=10.0, watch=5.0)
    )
    groups = {limit.group for limit in result.verdict.limits}
    assert {(group.name, group.region) for group in groups} == set(names)
    assert len(groups) == 4
    assert not result.verdict.passed
    assert {limit.group.name for limit in result.verdict.broken} == {names[destroyed][0]}
    assert len(worst_limits(result.verdict)) == 4
    assert [(row.group.name, row.group.region) for row in result.statistics] == list(names)
    assert {(row.group.name, row.group.region) for row in result.shifts} == set(names)
    for cells in (limit_cells(result), fooling_cells(result)):
        assert {(group.name, group.region) for group in cells.cells} >= set(names)
    assert limits_plot(result).axes


def test_what_is_written_can_be_told_apart():
    """JSON has the fields of a group; tables have a text that no other group has."""
    samples = [moved("A", "b/c", destroyed=True), moved("A/b", "c", destroyed=False)]
    result = result_of(*samples, processes={}, estimates=())
    plain = json.loads(json.dumps(result.to_dict()))
    for rows in (plain["verdict"]["limits"], plain["shifts"], plain["statistics"]):
        texts = {(row["where"]["name"], row["where"]["region"]): row["group"] for row in rows}
        assert len(texts) == len(set(texts.values())) == 2
    assert {(row["name"], row["region"]) for row in plain["fooling"]} >= {("A", "b/c"), ("A/b", "c")}
    assert result.fooling_of("A/b", "c").group == Group("A/b", "dataset", "c", "conservUp")
    with pytest.raises(InputError, match=r"no fooling ratio of A/c/conservUp; there are A/'b/c'/conservUp"):
        result.fooling_of("A", "c")


def test_seeds_are_compared_group_by_group():
    """The spread has the groups of the fooling ratios."""
    results = [result_of(settings=replace(SETTINGS, seed=seed)) for seed in (1, 2)]
    assert [row.group for row in seed_spread(results)] == [row.group for row in results[0].fooling]


@given(
    *[
        st.tuples(
            st.sampled_from(HOSTILE) | st.text(max_size=6), st.sampled_from(HOSTILE) | st.text(max_size=6)
        )
    ]
    * 2
)
def test_different_names_have_different_texts(one, two):
    """As texts, too, groups are equal only if names and regions are."""
    first, second = (Group(name, "dataset", region, "conservUp") for name, region in (one, two))
    assert (str(first) == str(second)) == (one == two)


@pytest.mark.parametrize("level", LEVELS)
def test_a_group_is_a_value(level):
    """It is equal to another one with the same fields, has an order, and no variation where none matters."""
    group = Group("W", level, "signal", "conservUp")
    assert {group: 1}[Group("W", level, "signal", "conservUp")] == 1
    assert group != replace(group, region="control")
    assert group.nominal() == Group("W", level, "signal")
    assert sorted([group, replace(group, name="A")])[0].name == "A"
    assert str(Group("7", ARRAY)) == "7"
