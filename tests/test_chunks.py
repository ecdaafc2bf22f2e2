"""What was asked of a run and what it did; the other half of this room is tested with the plugin."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from coffea.processor.executor import WorkItem
from made_events import CONFIG, made, summed

from coffea_conserv.errors import ConfigurationError
from coffea_conserv.plugin.chunk import seed_of
from coffea_conserv.results.coverage import Asked, coverage_of, median_chunk, read_asked
from coffea_conserv.sums.sums import Sums


def items(*parts):
    """Chunks as coffea hands them out: (dataset, start, stop)."""
    return [WorkItem(dataset, "f.root", "Events", start, stop, "uuid") for dataset, start, stop in parts]


CHUNKS = (("W", 0, 60), ("W", 60, 100), ("Z", 0, 30))


def test_what_was_asked_is_read_from_numbers_or_chunks():
    """Numbers of events, chunks in a list or as they are yielded, and nothing at all."""
    assert read_asked(None) == {}
    assert read_asked({"W": 100}) == {"W": Asked(100)}
    expected = {"W": Asked(100, 2), "Z": Asked(30, 1)}
    assert read_asked(items(*CHUNKS)) == read_asked(chunk for chunk in items(*CHUNKS)) == expected
    rows = [dict(zip(("dataset", "entrystart", "entrystop"), chunk, strict=True)) for chunk in CHUNKS]
    assert read_asked(rows) == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["W"], r"asked holds 'W', which is no chunk .*Runner\.preprocess\(fileset, …\) yields"),
        ([SimpleNamespace(dataset="W", entrystart=0)], "which is no chunk"),
        ("W", "asked must be a dict of dataset → number of events, a fileset, what Runner"),
        (7, "asked must be a dict of dataset → number of events"),
        ({"W": 1.5}, r"asked\['W'\] must be a number of events, got 1.5"),
        ({"W": -1}, r"asked\['W'\] must be a number of events, got -1"),
        ({"W": True}, r"asked\['W'\] must be a number of events, got True"),
        ({"W": {"files": 3}}, r"asked\['W'\] is no entry of a fileset, dataset → files, got \{'files'"),
    ],
)
def test_other_things_that_were_asked_are_refused(asked, message):
    """A name and a number are no chunks; the error says what is."""
    with pytest.raises(ConfigurationError, match=message):
        read_asked(asked)


def test_coverage_compares_with_what_was_asked():
    """A dataset is complete if all of its events were read, and unknown if nothing was announced."""
    sums = summed(made("W", "a:0-60", 60), made("W", "a:60-100", 40), made("Z", "b:0-30", 30))
    whole, part, unknown = (
        coverage_of(sums, read_asked(asked)) for asked in ({"W": 100, "Z": 30}, {"Z": 31}, None)
    )
    assert [(c.dataset, c.chunks, c.events, c.complete) for c in whole] == [
        ("W", 2, 100, True),
        ("Z", 1, 30, True),
    ]
    assert [(c.events_asked, c.complete) for c in part] == [(None, None), (31, False)]
    assert {(c.chunks_asked, c.complete) for c in unknown} == {(None, None)}
    assert [c.events_per_chunk for c in whole] == [50, 30]


def test_chunks_count_as_well_as_events():
    """Where chunks are known, all of them must be there."""
    sums = summed(made("W", "a:0-60", 60), made("W", "a:60-100", 40), made("Z", "b:0-30", 30))
    whole, other = (
        coverage_of(sums, read_asked(items(*chunks)))
        for chunks in (CHUNKS, (*CHUNKS[:1], ("W", 60, 80), ("W", 80, 100), ("Z", 0, 30), ("V", 0, 5)))
    )
    assert [(c.chunks, c.chunks_asked, c.complete) for c in whole] == [(2, 2, True), (1, 1, True)]
    assert [(c.dataset, c.chunks, c.chunks_asked, c.complete) for c in other] == [
        ("V", 0, 1, False),
        ("W", 2, 3, False),
        ("Z", 1, 1, True),
    ]


def test_repeated_chunks_are_named():
    """A chunk that was merged twice is named; its events are read once but count twice."""
    one = made("W", "a:0-60", 60)
    sums = summed(one, made("W", "a:60-100", 40), one)
    (found,) = coverage_of(sums, {"W": Asked(100)})
    assert (found.chunks, found.events, found.repeated) == (2, 100, ("a:0-60",))
    assert found.complete is False


def test_a_dataset_that_is_missing_is_reported():
    """A dataset of which nothing was processed is there with no events."""
    (found,) = coverage_of(Sums(CONFIG), {"W": Asked(100)})
    assert (found.dataset, found.chunks, found.events, found.complete) == ("W", 0, 0, False)
    assert found.events_per_chunk == 0


def test_the_size_of_chunks_is_a_median():
    """It is that of all chunks of the datasets together, each counted once."""
    one = made("W", "a:0-60", 60)
    sums = summed(one, one, made("W", "a:60-100", 40), made("Z", "b:0-30", 30))
    assert (median_chunk(sums, ["W"]), median_chunk(sums, ["W", "Z"]), median_chunk(sums, [])) == (50, 40, 0)


def test_seeds_differ_by_every_part():
    """The same parts give the same seed, others another one."""
    assert seed_of(1, "W", "a:0-60", "signal") == seed_of(1, "W", "a:0-60", "signal")
    parts = [(1, "W", "a"), (2, "W", "a"), (1, "Z", "a"), (1, "W", "b"), (1, "Wa", "")]
    assert len({seed_of(*part) for part in parts}) == len(parts)
