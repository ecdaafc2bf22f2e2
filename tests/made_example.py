"""The command line of the example in this process, and small files of events for it."""

from __future__ import annotations

import json
import warnings

import numpy as np
import uproot
from typer.testing import CliRunner

from example_analysis.__main__ import app
from processors import ttbar_ww


def call(*arguments):
    """Run the command line in this process, on a wide terminal without colours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}).invoke(
            app, [str(argument) for argument in arguments]
        )


def said(answer):
    """Return what was printed, on one line."""
    return " ".join(answer.output.split())


def toy_fileset(folder, events=600):
    """Write a fileset with one file that has every branch the analysis needs, in three baskets."""
    folder.mkdir()
    write_toy(folder / "WW.root", (*ttbar_ww.BRANCHES, ttbar_ww.WEIGHT), events)
    metadata = {"is_data": False, "process": "WW", "xsec": 1.0, "lumi": 1.0, "sumw": 1.0}
    fileset = {"WW": {"files": {"WW.root": "Events"}, "metadata": metadata}}
    (folder / "fileset.json").write_text(json.dumps(fileset))
    return folder


def write_toy(path, branches, events=600, tree="Events"):
    """Write a file with random numbers in three baskets of each branch."""
    rng = np.random.default_rng(1)
    with uproot.recreate(path) as file:
        file.mktree(tree, dict.fromkeys(branches, "float32"))
        for _ in range(3):
            file[tree].extend({name: rng.random(events // 3).astype(np.float32) for name in branches})


def damage(path, branch, basket):
    """Overwrite one basket of a file."""
    with uproot.open(path) as file:
        where = file["Events"][branch].member("fBasketSeek")[basket]
        length = file["Events"][branch].member("fBasketBytes")[basket]
    content = bytearray(path.read_bytes())
    content[where + 100 : where + length] = bytes(length - 100)
    path.write_bytes(content)
