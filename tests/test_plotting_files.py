"""The files of save_all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_events import SETTINGS, summed
from made_figures import RESULT, plt, points
from made_results import SAMPLES, result_of

from coffea_conserv.errors import InputError
from coffea_conserv.plotting import control_plot, save_all
from coffea_conserv.results.making import make_result


def test_save_all_writes_what_it_promises(tmp_path):
    """The files of the docstring are there, in this order, and progress counts them."""
    counted = []
    made_files = save_all(
        RESULT, tmp_path / "plots", progress=lambda done, total: counted.append((done, total))
    )
    expected = ["overview", "limits"]
    for region in ("control", "signal"):
        expected += [f"{region}/templates", f"{region}/correlations"]
        expected += [f"{region}/control_{name}" for name in ("score", "x", "y", "total")]
    assert made_files == [tmp_path / "plots" / f"{name}.png" for name in expected]
    assert counted == [(number + 1, len(expected)) for number in range(len(expected))]
    on_disk = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert on_disk == sorted(made_files)
    for path in made_files:
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert plt.get_fignums() == []


def test_save_all_draws_what_is_asked(tmp_path):
    """Regions, quantities and pictures of single processes can be chosen."""
    made_files = save_all(RESULT, tmp_path, regions=["signal"], quantities=["x"], each_process=True)
    names = [path.relative_to(tmp_path).with_suffix("").as_posix() for path in made_files]
    assert names[:5] == [
        "overview",
        "limits",
        "signal/templates",
        "signal/correlations",
        "signal/control_x",
    ]
    expected = [f"signal/{kind}_{p}" for p in ("W", "Z", "QCD") for kind in ("template", "correlations")]
    assert names[5:] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regions": ["no"]}, "there is no region 'no'; there are control, signal"),
        ({"quantities": ["no"]}, "there is no quantity 'no'; there are x, y, total, score"),
    ],
)
def test_save_all_refuses_unknown_names_before_it_writes(tmp_path, options, message):
    """A wrong name is an error now, not after half of the pictures."""
    with pytest.raises(InputError, match=message):
        save_all(RESULT, tmp_path / "plots", **options)
    assert not list(tmp_path.iterdir())


def test_the_same_result_gives_the_same_files(tmp_path):
    """Pictures of one result are equal byte by byte."""
    one, two = (save_all(RESULT, tmp_path / name, regions=["signal"], quantities=["x"]) for name in "ab")
    for first, second in zip(one, two, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_names_cannot_leave_the_folder_or_overwrite_each_other(tmp_path):
    """Slashes and dots become harmless, and names that differ in case only get a number."""
    masks = SAMPLES[4].regions
    regions = {"../a": masks["signal"], "..-A": masks["control"]}
    result = result_of(replace(SAMPLES[4], regions=regions), processes={}, estimates=())
    made_files = save_all(result, tmp_path / "plots", quantities=["score"])
    folders = list(dict.fromkeys(path.parent.name for path in made_files[2:]))
    assert folders == ["-A", "-a-2"]
    assert len({str(path).casefold() for path in made_files}) == len(made_files)
    assert [entry.name for entry in tmp_path.iterdir()] == ["plots"]


def test_a_region_without_simulation_can_be_drawn(tmp_path):
    """Data alone are points over nothing."""
    result = make_result(summed(SAMPLES[-1]), SETTINGS)
    made_files = save_all(result, tmp_path, quantities=["x"])
    assert len(made_files) == 2 + 2 * 3
    assert len(points(control_plot(result, "x", "signal").axes[0])) == 1
