"""Tests of the example's files: they may move, and what is wrong with one of them is said first, by name."""

from __future__ import annotations

import shutil

import pytest
from made_example import call, damage, said, toy_fileset, write_toy

from coffea_conserv import ConfigurationError
from example_analysis.inputs import check_files, read_fileset
from processors import ttbar_ww


@pytest.mark.parametrize("content", [b"", b"no ROOT file at all, but long enough to be read as one" * 10])
def test_an_unreadable_file_is_named_with_its_dataset(tmp_path, content):
    """Empty and foreign files are told before the training, not in the middle of the run."""
    path = toy_fileset(tmp_path / "events") / "WW.root"
    path.write_bytes(content)
    answer = call("train", "--events", tmp_path / "events", "--out", tmp_path / "out")
    assert answer.exit_code == 2
    assert f"dataset WW: {path} cannot be read as a ROOT file" in said(answer)
    assert "get or make it again" in said(answer)


@pytest.mark.parametrize("command", ["train", "run"])
@pytest.mark.parametrize("basket", [0, 2])
def test_damaged_baskets_are_found_before_training_and_running(tmp_path, command, basket):
    """The first and the last event of each branch are read, not only the header."""
    path = toy_fileset(tmp_path / "events") / "WW.root"
    check_files("ttbar_ww", read_fileset("ttbar_ww", tmp_path / "events"))
    damage(path, "MET_pt", basket)
    answer = call(command, "--events", tmp_path / "events", "--out", tmp_path / "out")
    assert answer.exit_code == 2
    assert f"dataset WW: {path} cannot be read as a ROOT file" in said(answer)
    assert "get or make it again" in said(answer)


def test_a_vanished_file_is_named(tmp_path):
    """A file of the fileset that is not there is named, with the command that makes it."""
    folder = toy_fileset(tmp_path / "events")
    (folder / "WW.root").unlink()
    answer = call("train", "--events", folder, "--out", tmp_path / "out")
    assert answer.exit_code == 2
    assert f"missing in {folder}: WW.root" in said(answer)
    assert f"python -m example_analysis generate --events {folder}" in said(answer)


@pytest.mark.parametrize("content", ["{", "[]", '{"WW": {"files": ["WW.root"]}}'])
def test_a_damaged_fileset_is_named(tmp_path, content):
    """So is one that does not say what it should."""
    folder = toy_fileset(tmp_path / "events")
    (folder / "fileset.json").write_text(content)
    answer = call("train", "--events", folder, "--out", tmp_path / "out")
    assert answer.exit_code == 2
    assert f"{folder / 'fileset.json'} is damaged" in said(answer)
    assert "make it again with" in said(answer)


def test_a_copied_folder_reads_its_own_files(tmp_path):
    """Neither a moved nor a copied folder of events reads those of the original."""
    old = toy_fileset(tmp_path / "events")
    new = tmp_path / "elsewhere"
    shutil.copytree(old, new)
    assert list(read_fileset("ttbar_ww", new)["WW"]["files"]) == [str(new / "WW.root")]
    shutil.rmtree(old)
    check_files("ttbar_ww", read_fileset("ttbar_ww", new))
    path = new / "WW.root"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ConfigurationError, match=f"{path} cannot be read as a ROOT file"):
        check_files("ttbar_ww", read_fileset("ttbar_ww", new))


def test_a_file_of_something_else_is_named(tmp_path):
    """A ROOT file without the tree, or without a column, is told as such; real data need no weight."""
    path = toy_fileset(tmp_path / "events") / "WW.root"
    fileset = read_fileset("ttbar_ww", tmp_path / "events")
    write_toy(path, ["event"], tree="Other")
    with pytest.raises(ConfigurationError, match="has no tree 'Events'"):
        check_files("ttbar_ww", fileset)
    write_toy(path, ttbar_ww.BRANCHES[1:])
    with pytest.raises(ConfigurationError, match=f"{path} has no branch run, genWeight"):
        check_files("ttbar_ww", fileset)
    write_toy(path, ttbar_ww.BRANCHES)
    fileset["WW"]["metadata"]["is_data"] = True
    check_files("ttbar_ww", fileset)
