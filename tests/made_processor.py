"""A small analysis of flat files that workers can import, and the files."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import uproot
from coffea.processor import ProcessorABC
from made_conserv import MISSING, regions

NAMES = ("x", "y", "k")


def write_files(folder, chunk=150):
    """Write two simulated datasets, one in two files, and real data; return coffea's fileset."""
    made = {}
    sizes = {"W": (2 * chunk + 40, chunk), "Z": (2 * chunk,), "data": (chunk + 1,)}
    for number, (dataset, counts) in enumerate(sizes.items()):
        files = {}
        for k, count in enumerate(counts):
            path = folder / f"{dataset}{k}.root"
            rng = np.random.default_rng([number, k])
            x, y = rng.normal(size=(2, count)).astype(np.float32)
            y[rng.random(count) < 0.1] = MISSING
            table = {"x": x, "y": y, "k": rng.integers(0, 4, count).astype(np.int32)}
            # The random state of a chunk comes from the name of its file, which must not change by the hour.
            with uproot.recreate(path, uuid_function=lambda n=10 * number + k: uuid.UUID(int=n + 1)) as file:
                file.mktree("Events", {name: values.dtype for name, values in table.items()})
                file["Events"].extend(table)
            files[str(path)] = "Events"
        made[dataset] = {"files": files, "metadata": {"is_data": dataset == "data", "scale": 0.5 + number}}
    return made


class Analysis(ProcessorABC):
    """Select events near the centre and attack them.

    Parameters
    ----------
    conserv
        The attack.
    marks
        Folder of marks: the second chunk of each file fails the first time that it is tried.
    """

    def __init__(self, conserv, marks=None):
        self.conserv = conserv
        self.marks = marks

    def process(self, events):
        """Process one chunk."""
        metadata = events.metadata
        if self.marks is not None and metadata["entrystart"]:
            mark = Path(self.marks) / f"{metadata['fileuuid']}-{metadata['entrystart']}"
            if not mark.exists():
                mark.touch()
                msg = "the first attempt fails"
                raise RuntimeError(msg)
        events = events[abs(events.x) < 2.5]
        columns = {name: events[name] for name in NAMES}
        weight = None if metadata["is_data"] else np.full(len(events), metadata["scale"])
        made = self.conserv(
            columns, weight=weight, regions=regions(columns), events=events, data=metadata["is_data"]
        )
        return {"conserv": made, "selected": {metadata["dataset"]: len(events)}}

    def postprocess(self, accumulator):
        """Return the merged output as it is."""
        return accumulator
