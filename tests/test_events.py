"""Attacked events as files: what is in them, who reads them, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import awkward as ak
import numpy as np
import pandas as pd
import pytest
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner
from made_conserv import WEIGHT, call, conserv, contents, difference, events, regions
from pyarrow import parquet

from coffea_conserv import ConfigurationError, ConservError, InputError
from coffea_conserv.sums.attacked_events import check_events, index_events, keep_events, read_events

VARIATIONS = ("nominal", "conservUp", "conservDown")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with the events of three chunks of two datasets, the attack and its output."""
    folder = tmp_path_factory.mktemp("kept") / "events"
    made = conserv(keep=folder)
    sums = [call(made, events(seed=s), chunk=f"f:{s}", dataset="WZ"[s % 2]) for s in range(3)]
    call(made, events(seed=9), dataset="data", data=True, weight=None)
    return folder, made, sums[0] + sums[1] + sums[2]


def test_keeping_events_changes_no_sum(kept):
    """The configuration and the merged output are those of a run that keeps nothing."""
    plain = conserv()
    sums = [call(plain, events(seed=s), chunk=f"f:{s}", dataset="WZ"[s % 2]) for s in range(3)]
    assert plain.config == kept[1].config
    assert difference(sums[0] + sums[1] + sums[2], kept[2]) == 0


def test_the_sums_can_be_made_again_of_the_files(kept):
    """Histograms of the events in the files are those of the run, in every region and variation."""
    folder, made, sums = kept
    result = made.result(sums, processes={"all": ["W", "Z"]})
    for region in ("low", "high", "middle"):
        read = read_events(folder, region)
        assert read.config == made.config
        assert len(read) == sum(regions(events(seed=s))[region].sum() for s in range(3))
        for name in (*result.quantities, "score"):
            whole = result.hist(name)
            for variation in VARIATIONS:
                column = read.score if name == "score" else read.x
                values = column[variation]
                values = values if name == "score" else values[:, read.names.index(name)]
                there = ~np.isin(values, [-999.0]) & ~np.isnan(values)
                axis = result.axis(name)
                filled = np.histogram(values[there], axis.edges, weights=read.weight[there])[0]
                found = whole["all", region, variation, :].values()
                np.testing.assert_allclose(filled[:-1], found[:-1], rtol=1e-9, atol=1e-9)


def test_real_data_are_not_kept(kept):
    """Only simulation is attacked, and only simulation is written; the same chunk is one file."""
    folder, made, _ = kept
    files = sorted(path.relative_to(folder).parts[0] for path in folder.glob("*/*.parquet"))
    assert files == ["W", "W", "Z"]
    call(made, events(seed=0), chunk="f:0", dataset="W")
    assert len(list(folder.glob("*/*.parquet"))) == 3
    assert not [path for path in folder.glob("**/*") if path.name.startswith(".")]


def test_pandas_awkward_and_coffea_read_the_files(kept):
    """Each of them finds the same rows."""
    folder, _, _ = kept
    path = next(folder.glob("Z/*.parquet"))
    frame = pd.read_parquet(path)
    array = ak.from_parquet(path)
    assert {"x", "y", "k", "score", "weight", "direction", "row", "region_low"} <= set(frame.columns)
    assert frame["direction"].value_counts().to_dict() == {0: 400, 1: 400, -1: 400}
    assert (frame["weight"] == WEIGHT).all()
    np.testing.assert_array_equal(frame["x"], ak.to_numpy(array["x"]))

    def total(columns):
        up = columns.direction == 1
        return {"n": len(columns), "up": float(ak.sum(columns.score[up]))}

    runner = Runner(IterativeExecutor(status=False), schema=BaseSchema, format="parquet")
    found = runner({"Z": {"files": {str(path): None}}}, total)
    assert found["n"] == 1200
    assert found["up"] == pytest.approx(frame["score"][frame["direction"] == 1].sum())


def test_the_index_lists_every_file(kept):
    """File, dataset, chunk, rows and configuration."""
    folder, made, _ = kept
    rows = json.loads(index_events(folder).read_text())
    assert sorted((row["dataset"], row["chunk"], row["rows"]) for row in rows) == [
        ("W", "f:0", 1200),
        ("W", "f:2", 1200),
        ("Z", "f:1", 1200),
    ]
    assert {row["config"] for row in rows} == {made.config}
    assert all((folder / row["file"]).is_file() for row in rows)


def test_some_events_some_quantities_and_some_datasets(kept):
    """A drawn part keeps the sum of weights, and the same seed draws the same events."""
    folder, _, _ = kept
    whole = read_events(folder, "low")
    part = read_events(folder, "low", names=["y", "x"], most=50, seed=3)
    again = read_events(folder, "low", names=["y", "x"], most=50, seed=3)
    assert (part.names, len(part)) == (("y", "x"), 50)
    assert part.weight.sum() == pytest.approx(whole.weight.sum())
    for variation in VARIATIONS:
        np.testing.assert_array_equal(part.x[variation], again.x[variation])
    assert len(read_events(folder, "low", datasets=["W"])) + len(
        read_events(folder, "low", datasets=["Z"])
    ) == len(whole)


def test_event_numbers_are_kept_where_they_are_known(tmp_path):
    """From NanoEvents of the selected events, or from the context."""
    columns = events(seed=1)
    numbers = np.arange(400, dtype=np.uint64) + 10**12
    nano = ak.Array({"run": np.ones(400, np.uint32), "event": numbers})
    for k, given in enumerate(({"events": nano}, {"context": {"event": numbers}})):
        folder = tmp_path / str(k)
        call(conserv(keep=folder), columns, **given)
        frame = pd.read_parquet(next(folder.glob("*/*.parquet")))
        np.testing.assert_array_equal(frame["event"], np.tile(numbers, 3))
        assert ("run" in frame.columns) == (k == 0)
    call(conserv(keep=tmp_path / "some"), columns, events=nano[:10])
    assert "event" not in pd.read_parquet(next((tmp_path / "some").glob("*/*.parquet"))).columns


def test_what_cannot_be_written_is_no_oserror(tmp_path):
    """Coffea would drop the chunk silently; the folder is named instead."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConservError, match=r"attacked events cannot be written to .*file.*; give another"):
        call(conserv(keep=tmp_path / "file"), events())
    assert not issubclass(ConservError, OSError)


def test_names_of_own_columns_are_refused_on_the_client():
    """A feature that is called like a column of the files."""
    plain = conserv()
    features = (replace(plain.features[0], name="weight"), *plain.features[1:])
    with pytest.raises(ConfigurationError, match="keep=: weight would be two columns of one name"):
        replace(plain, features=features, watch=None, keep="events")


def test_files_are_those_of_the_sums(kept, tmp_path):
    """Missing, of another chunk size, copied, shortened, of a dataset that was left out: all are named."""
    folder, _, sums = kept
    check_events(folder, sums)
    remedy = "; run again with an empty folder as keep=, or give the folder of the same run"

    def refused(message, of=sums, where=None):
        with pytest.raises(InputError, match=message):
            check_events(where or mine, of)

    mine = tmp_path / "missing"
    shutil.copytree(folder, mine)
    next(mine.glob("Z/*.parquet")).unlink()
    refused("1 chunks are not there, the first of them f:1 of dataset Z" + remedy)
    mine = tmp_path / "sizes"
    shutil.copytree(folder, mine)
    call(conserv(keep=mine), events(200, seed=0), chunk="f:0:200", dataset="W")
    refused("1 chunks are not of the result, the first of them f:0:200 of dataset W" + remedy)
    refused("not of the result, the first of them f:1 of dataset Z", sums.without(["Z"]), folder)
    mine = tmp_path / "copied"
    shutil.copytree(folder, mine)
    file = next(mine.glob("Z/*.parquet"))
    shutil.copy(file, file.with_name("copy.parquet"))
    message = r"copy\.parquet and .*\.parquet are of one chunk, which would count twice; remove one of them"
    refused(f"{message}|.*copy.parquet are of one chunk")
    with pytest.raises(InputError, match="which would count twice"):
        read_events(mine, "low")
    file.with_name("copy.parquet").unlink()
    content = parquet.read_table(file)
    inside = np.flatnonzero(content["region_low"].to_numpy() & (content["direction"].to_numpy() == -1))
    parquet.write_table(content.filter(np.arange(len(content)) != inside[0]), file)
    whole = int(regions(events(seed=1))["low"].sum())
    wrong = f"conservDown of dataset Z in region low has {whole - 1} events in the files and {whole} in the"
    refused(wrong)
    refused("are of another configuration", replace(sums, config="other"), folder)


@pytest.mark.parametrize("dataset", ["..", ".", "../..", "/etc", "", ".hidden", "W/e.g.", "a\\b"])
def test_files_of_any_dataset_are_inside_of_the_folder(dataset, tmp_path):
    """Whatever it is called; they are found again, and are those of the sums."""
    folder = tmp_path / "events"
    sums = call(conserv(keep=folder), events(), dataset=dataset or "-")
    (file,) = tmp_path.rglob("*.parquet")
    assert file.parent.parent == folder
    assert not file.parent.name.startswith(".")
    assert read_events(folder, "low").config == sums.config
    check_events(folder, sums)


def test_what_cannot_be_read_is_named(kept, tmp_path):
    """Nothing there, another region, quantity or dataset, other files, other configurations."""
    folder, made, _ = kept
    with pytest.raises(InputError, match=r"there are no attacked events in .*; run with Conserv\(keep="):
        read_events(tmp_path, "low")
    with pytest.raises(InputError, match=r"there is no region 'lows' in .*; there are high, low, middle"):
        read_events(folder, "lows")
    with pytest.raises(InputError, match="there is no quantity z in "):
        read_events(folder, "low", names=["x", "z"])
    with pytest.raises(InputError, match=r"no events of dataset T in .*; there are W, Z"):
        read_events(folder, "low", datasets=["T"])
    call(conserv(keep=tmp_path / "two"), events(), dataset="W")
    call(conserv(keep=tmp_path / "two", seed=5), events(), dataset="Z")
    with pytest.raises(InputError, match="holds events of different configurations"):
        read_events(tmp_path / "two", "low")
    (tmp_path / "two" / "W" / "other.parquet").write_text("nothing")
    with pytest.raises(InputError, match=r"other\.parquet is no file of attacked events"):
        index_events(tmp_path / "two")
    assert contents(kept[2])
    assert made.keep == folder
    assert keep_events.__doc__
