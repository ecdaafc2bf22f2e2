"""What axes and variations are called: in histograms, in ROOT files and around an analysis."""

from __future__ import annotations

import pickle
from dataclasses import replace

import hist
import numpy as np
import pytest
import uproot
from made_conserv import call, conserv, events, features
from made_results import result_of

from coffea_conserv import ConfigurationError, Feature, InputError, Names
from coffea_conserv.names import VARIATIONS

CONVENTIONS = {
    "coffea": ("process", "region", "variation", "conservUp", "conservDown"),
    "combine": ("process", "channel", "systematic", "conservUp", "conservDown"),
    "columnflow": ("process", "category", "shift", "conserv_up", "conserv_down"),
    "pocketcoffea": ("sample", "cat", "variation", "conservUp", "conservDown"),
    "topcoffea": ("process", "channel", "systematic", "conservUp", "conservDown"),
}
RESULT = result_of()
OTHER = Names("p", "d", "r", "v", "central", "CONSERV_up", "CONSERV_down")


def renamed(names):
    """The same result under other names."""
    return replace(RESULT, settings=replace(RESULT.settings, names=names))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_conventions(convention):
    """Axes and labels are those of the framework; the systematic may be called otherwise."""
    names = Names.preset(convention)
    found = (names.process, names.region, names.variation, names.up, names.down)
    assert found == CONVENTIONS[convention]
    assert names.labels == dict(zip(VARIATIONS, ("nominal", *found[-2:]), strict=True))
    other = Names.preset(convention, "Robust")
    assert (other.up, other.down) == tuple(t.replace("conserv", "Robust") for t in found[-2:])
    assert replace(other, up=names.up, down=names.down) == names
    assert pickle.loads(pickle.dumps(other)) == other  # noqa: S301 -- written here


def test_what_is_not_named_stays():
    """The default is the convention of coffea."""
    assert Names() == Names.preset("coffea")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"up": ""}, "names must be texts that are not empty: Names"),
        ({"region": None}, "names must be texts"),
        ({"region": "process"}, "names of the axes must differ"),
        ({"variation": "dataset"}, "names of the axes must differ"),
        ({"up": "x", "down": "x"}, "names of the three variations must differ"),
        ({"up": "conservDown", "down": "conservUp"}, "cannot stand for another variation"),
        ({"nominal": "conservUp", "up": "x"}, "cannot stand for another variation"),
    ],
)
def test_names_that_are_refused(options, message):
    """With the offender."""
    with pytest.raises(ConfigurationError, match=message):
        Names(**options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("root",), "there are no names for 'root'; there are coffea, combine, columnflow"),
        (("coffea", ""), "systematic='' must be a text"),
        (("coffea", 3), "systematic=3 must be a text"),
    ],
)
def test_presets_that_are_refused(arguments, message):
    """With those that there are."""
    with pytest.raises(ConfigurationError, match=message):
        Names.preset(*arguments)


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("quantity", ["score", "x"])
def test_histograms_differ_in_their_names_alone(quantity, grouped):
    """Every number is where it was."""
    before = RESULT.hist(quantity, process_axis=grouped)
    after = renamed(OTHER).hist(quantity, process_axis=grouped)
    assert after.axes.name[:3] == ("p" if grouped else "d", "r", "v")
    assert list(after.axes[2]) == ["central", "CONSERV_up", "CONSERV_down"]
    assert [list(axis) for axis in after.axes[:2]] == [list(axis) for axis in before.axes[:2]]
    assert np.array_equal(after.view(flow=True), before.view(flow=True))


def test_keys_of_templates_in_root(tmp_path):
    """Those of the attacked ones change; contents do not."""
    files = {}
    for names in (Names(), OTHER):
        path = renamed(names).templates().to_root(tmp_path / f"{names.up}.root")
        with uproot.open(path) as file:
            files[names] = {key: file[key].to_hist() for key in file.keys(cycle=False) if key.count("/") == 1}
    expected = {
        key.replace("conservUp", "CONSERV_up").replace("conservDown", "CONSERV_down"): content
        for key, content in files[Names()].items()
    }
    assert files[OTHER].keys() == expected.keys()
    assert sum(key.endswith("_CONSERV_up") for key in expected) > 1
    assert all(files[OTHER][key] == content for key, content in expected.items())


def test_warnings_are_about_the_names_in_the_file():
    """The same findings, in the words of the reader."""
    before, after = (renamed(names).templates("x").warnings for names in (Names(), OTHER))
    texts = [w.text.replace("conservUp", "CONSERV_up").replace("conservDown", "CONSERV_down") for w in before]
    assert [warning.text for warning in after] == texts
    assert any("CONSERV_up" in text for text in texts)


def test_a_result_can_be_asked_by_either_name():
    """What merged sums call a variation always works."""
    result = renamed(OTHER)
    first = result.fooling[0]
    place = (first.name, first.region)
    for own, label in OTHER.labels.items():
        if own != "nominal":
            assert result.fooling_of(*place, label) == RESULT.fooling_of(*place, own)
        for name in (own, label):
            process = result.simulation[0]
            matrix = result.correlation(process, first.region, name)
            assert np.array_equal(matrix, RESULT.correlation(process, first.region, own), equal_nan=True)
            error = result.paired_error(process, first.region, name)
            assert np.array_equal(error, RESULT.paired_error(process, first.region, own))
    with pytest.raises(InputError, match="there is no variation 'up'"):
        result.correlation(None, first.region, "up")
    written, before = result.to_dict(), RESULT.to_dict()
    for part in (written, before):
        del part["warnings"]  # which are about templates
    assert written == before


def test_sums_do_not_depend_on_names():
    """Runs with different names are one configuration and add up; each result has its own names."""
    made = [conserv(), conserv(names=OTHER)]
    first, second = (call(one, events(60), chunk=one.names.up) for one in made)
    assert made[0].config == made[1].config
    merged = first + second
    for one in made:
        assert list(one.result(merged).hist("x").axes[2]) == list(one.names.labels.values())


@pytest.mark.parametrize("name", ["region", "variation", "dataset", "shift"])
def test_axes_of_quantities_that_are_called_the_same(name):
    """A histogram cannot have two axes of one name: told when the attack is made."""
    axis = hist.axis.Regular(20, -3, 3, name=name)
    names = Names.preset("columnflow")
    with pytest.raises(ConfigurationError, match=f"'{name}'.* is called like another axis"):
        conserv(features=[Feature("x", axis), *features()[1:]], names=names)
    with pytest.raises(ConfigurationError, match=f"'{name}'.* is called like another axis"):
        conserv(score=hist.axis.Regular(20, 0, 1, name=name), names=names)


def test_names_are_names():
    """A text is a likely slip."""
    with pytest.raises(ConfigurationError, match=r"names must be Names\(…\) or .*, got 'columnflow'"):
        conserv(names="columnflow")
