"""A criterion for a step in an attacked template at a given score."""

from __future__ import annotations

import numpy as np


def excess_at(point, edges, before, after, error):
    """Significance by which the step at a score exceeds the largest step between neighbouring bins elsewhere.

    A step is the change of ln(after / before) from one bin to the next. The steps on the far sides of the two
    bins beside the score are not elsewhere: they are part of a hole or a pile there.

    Parameters
    ----------
    point
        Score; an edge of the bins.
    edges, before, after
        Bins, and content of each in the nominal and in the attacked template.
    error
        Error of after − before.

    Returns
    -------
    float
        In units of the error of the step at the score; negative if another step is larger.
    """
    # One event more in each bin keeps empty ones from being infinitely different.
    before, after = np.asarray(before) + 1.0, np.asarray(after) + 1.0
    (place,) = np.flatnonzero(np.isclose(edges[1:-1], point))
    steps = np.abs(np.diff(np.log(after / before)))
    spread = np.hypot(error, 1) / np.minimum(before, after)
    elsewhere = np.delete(steps, [place - 1, place, place + 1])
    return (steps[place] - elsewhere.max()) / np.hypot(spread[place], spread[place + 1])
