"""Treatments of templates: identities, known answers and errors."""

from __future__ import annotations

from dataclasses import replace

import hist
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_events import scored
from made_results import result_of

from coffea_conserv import Treatment, envelope
from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.templates.template import RobustnessSystematic, Template
from coffea_conserv.templates.templates import Templates
from coffea_conserv.templates.treatment import treat

RESULT = result_of()
TEMPLATES = RESULT.templates()


def filled(*contents, flow=(0.0, 0.0), name="score"):
    """A histogram with given contents and Poisson variances."""
    made = hist.Hist(hist.axis.Regular(len(contents), 0, 1, name=name), storage=hist.storage.Weight())
    made.view(flow=True)["value"] = (flow[0], *contents, flow[1])
    made.view(flow=True)["variance"] = np.abs((flow[0], *contents, flow[1]))
    return made


def template(nominal=(8, 2), up=(6, 4), down=(9, 1), process="W", region="signal"):
    """Template of given contents."""
    return Template(process, region, filled(*nominal), filled(*up), filled(*down))


def treated(entry, **options):
    """One template after a treatment, and its notes."""
    (made,), notes = treat([entry], Treatment(**options))
    return made, notes


def values(entry):
    """Contents of nominal, Up and Down."""
    return tuple(np.asarray(h.values()).tolist() for h in (entry.nominal, entry.up, entry.down))


def test_nothing_said_is_nothing_done():
    """Without arguments every template stays as it was, to the bit."""
    made = TEMPLATES.treated(Treatment())
    assert made.warnings == TEMPLATES.warnings
    for before, after in zip(TEMPLATES.entries, made.entries, strict=True):
        for name in ("nominal", "up", "down"):
            assert getattr(before, name) == getattr(after, name)


@pytest.mark.parametrize(
    ("options", "up", "down"),
    [
        ({"sides": "one"}, [6, 4], [8, 2]),
        ({"sides": "one", "source": "down"}, [8, 2], [9, 1]),
        ({"sides": "mirror"}, [6, 4], [10, 0]),
        ({"sides": "mirror", "source": "down"}, [7, 3], [9, 1]),
        ({"sides": "mirror ratio"}, [6, 4], [64 / 6, 1]),
        ({"scale": 0.5}, [7, 3], [8.5, 1.5]),
        ({"scale": 2}, [4, 6], [10, 0]),
        ({"prune": 0.99}, [6, 4], [9, 1]),
        ({"prune": 1.0}, [8, 2], [8, 2]),
    ],
)
def test_known_answers(options, up, down):
    """Contents by hand; nominal stays."""
    made, _ = treated(template(), **options)
    assert values(made) == ([8, 2], pytest.approx(up), pytest.approx(down))


def test_shape_and_norm_are_parted():
    """Shape has the yield of nominal, norm its shape, and together they are what they came from."""
    entry = template((8, 2), (9, 6), (4, 1))
    shape, norm = (treated(entry, part=part)[0] for part in ("shape", "norm"))
    assert values(shape) == ([8, 2], [6, 4], [8, 2])
    assert values(norm) == ([8, 2], [12, 3], [4, 1])
    for name, total in (("up", 15), ("down", 5)):
        product = getattr(shape, name).values() * getattr(norm, name).values() / entry.nominal.values()
        np.testing.assert_allclose(product, getattr(entry, name).values())
        assert getattr(norm, name).values().sum() == pytest.approx(total)


def test_an_inclusive_shape_lets_events_change_the_region():
    """Yields of all regions together stay; those of single regions need not. Processes are on their own."""
    entries = [template((8, 2), (6, 2)), template((10, 0), (11, 1), region="control"), template(process="Z")]
    made, _ = treat(entries, Treatment(part="shape", inclusive=True))
    assert [one.up.values().sum() for one in made] == [8, 12, 10]
    single, _ = treat(entries, Treatment(part="shape"))
    assert [one.up.values().sum() for one in single] == pytest.approx([10, 10, 10])
    scaled, _ = treat(
        [replace(one, up=one.up * 2) for one in entries], Treatment(part="shape", inclusive=True)
    )
    assert [one.up.values().sum() for one in scaled] == pytest.approx([8, 12, 10])


def test_a_mirror_image_below_zero_is_cut_and_said():
    """Where 2 nominal − Up is negative it is 0, with a note; negative nominal stays as it is."""
    made, notes = treated(template((8, 2, -1), (6, 5, -3)), sides="mirror")
    assert values(made)[2] == [10, 0, 1]
    assert [(note.kind, note.bins) for note in notes] == [("clipped", (1,))]
    made, notes = treated(template((8, 2, -1), (6, 5, 3)), sides="mirror")
    assert values(made)[2] == [10, 0, -1]
    assert notes[0].bins == (1, 2)


def test_negative_bins_become_zero_when_asked_and_are_counted():
    """Contents below 0 are 0 in all three, variances stay, and the note gives the share."""
    entry = template((8, -1, 1), (8, -2, 0), (9, 1, 0))
    assert values(treated(entry)[0]) == values(entry)
    made, (note,) = treated(entry, negative="zero")
    assert values(made) == ([8, 0, 1], [8, 0, 0], [9, 1, 0])
    assert made.nominal.variances().tolist() == [8, 1, 1]
    assert (note.kind, note.bins) == ("negative to zero", (1,))
    assert "at most 20 % of the content" in note.text
    good, notes = treated(template(), negative="zero")
    assert (values(good), notes) == (values(template()), ())


@given(
    st.lists(st.tuples(st.floats(0.1, 50), st.floats(0.1, 50)), min_size=1, max_size=8),
    st.floats(0.1, 1),
    st.sampled_from(["up", "down"]),
)
@settings(max_examples=50, deadline=None)
def test_mirroring_twice_is_the_source(pairs, scale, source):
    """The mirror image of a mirror image that was not cut is the attack; scaling commutes with it."""
    nominal, attacked = np.array(pairs).T
    attacked = np.minimum(attacked, 2 * nominal)
    entry = template(nominal, attacked, attacked)
    once, notes = treated(entry, sides="mirror", source=source)
    other = "down" if source == "up" else "up"
    twice, _ = treated(once, sides="mirror", source=other)
    np.testing.assert_allclose(getattr(twice, source).values(), attacked, rtol=1e-9, atol=1e-9)
    assert not notes
    one, _ = treated(once, scale=scale)
    two, _ = treated(treated(entry, scale=scale)[0], sides="mirror", source=source)
    np.testing.assert_allclose(one.down.values(), two.down.values(), rtol=1e-9, atol=1e-9)


def test_merged_bins_add_up_with_flow_and_pairs():
    """Merging by number or by edges adds contents and variances; what is cut off goes to the flow."""
    entry = Template("W", "s", *(filled(1, 2, 3, 4, flow=(0.5, 0.25)) for _ in range(3)))
    pair = np.arange(36.0).reshape(6, 6)
    entry = replace(entry, paired=(pair, pair.T))
    made, _ = treated(entry, merge=2)
    assert made.up.view(flow=True)["value"].tolist() == [0.5, 3, 7, 0.25]
    assert made.up.view(flow=True)["variance"].tolist() == [0.5, 3, 7, 0.25]
    assert made.paired[0].sum() == pair.sum()
    assert made.paired[0][1, 2] == pair[1:3, 3:5].sum()
    made, _ = treated(entry, merge=[0.25, 0.5, 1.0])
    assert made.nominal.view(flow=True)["value"].tolist() == [1.5, 2, 7, 0.25]
    assert made.nominal.axes[0].edges.tolist() == [0.25, 0.5, 1.0]
    assert made.nominal.axes[0].name == "score"


def test_the_bins_of_data_are_merged_too():
    """All templates of a region keep the same bins; data are otherwise left alone."""
    made = TEMPLATES.treated(Treatment(merge=2, scale=0.5, sides="one"))
    for before, after in zip(TEMPLATES.entries, made.entries, strict=True):
        assert len(after.nominal.axes[0]) == len(before.nominal.axes[0]) // 2
        assert after.nominal.sum(flow=True).value == pytest.approx(before.nominal.sum(flow=True).value)


def test_errors_of_differences_follow_the_treatment():
    """Merged: of events that change the merged bin. Scaled: in proportion. One side: none on the other."""
    sample = scored([0.1, 0.1, 0.6, 0.6], [0.3, 0.1, 0.9, 0.1], [0.1, 0.1, 0.6, 0.6], [1, 3, 2, 5])
    templates = result_of(sample, processes={}, estimates=()).templates()
    error = [np.hypot(1, 5), 1, np.hypot(2, 5), 2]
    np.testing.assert_allclose(templates.get("W", "signal").errors[0], error)
    merged = templates.treated(Treatment(merge=2, scale=0.5, sides="one")).get("W", "signal")
    np.testing.assert_allclose(merged.errors[0], [2.5, 2.5])
    np.testing.assert_array_equal(merged.errors[1], [0, 0])
    assert np.isnan(templates.treated(Treatment(part="norm")).get("W", "signal").errors[0]).all()


def test_smoothing_keeps_yields_and_what_is_smooth():
    """A constant ratio stays as it is, a single wild bin is tamed, the yield stays."""
    nominal = np.linspace(20, 4, 10)
    wild = nominal * 1.1
    wild[4] *= 2
    made, _ = treated(template(nominal, wild, nominal * 0.9), smooth=True)
    np.testing.assert_allclose(made.down.values(), nominal * 0.9)
    assert made.up.values().sum() == pytest.approx(wild.sum())
    ratio = made.up.values() / nominal
    assert np.ptp(ratio) < 0.05
    with pytest.raises(InputError, match=r"signal/W has 2 bins and smoothing needs 3"):
        treated(template(), smooth=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sides": "left"}, "sides='left' is none of 'both', 'one', 'mirror', 'mirror ratio'"),
        ({"source": "Up"}, "source='Up' is none of 'up', 'down'"),
        ({"part": "rate"}, "part='rate' is none of 'all', 'shape', 'norm'"),
        ({"scale": 0}, "scale=0 must be a finite number above 0"),
        ({"scale": float("nan")}, "scale=nan must be a finite number above 0"),
        ({"prune": -0.1}, "prune=-0.1 must be a finite number from 0 on"),
        ({"merge": 0}, "merge=0 must be a number of bins from 1 on, or edges"),
        ({"merge": [1, 0]}, r"merge=\[1, 0\] must be a number of bins, or edges that rise"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    """Each error names the argument and what it may be."""
    with pytest.raises(ConfigurationError, match=message):
        Treatment(**options)


def test_what_does_not_fit_is_refused():
    """Bins that do not divide, edges that are none, and yields that cannot be divided by."""
    with pytest.raises(InputError, match="signal/W has 2 bins, which do not become whole ones of 3"):
        treated(template(), merge=3)
    with pytest.raises(InputError, match=r"merge: 0.3 is no edge of signal/W, whose edges are 0, 0.5, 1"):
        treated(template(), merge=[0, 0.3, 1])
    with pytest.raises(
        InputError, match="signal/W has a yield of -1, so shape and norm cannot be told apart"
    ):
        treated(template((8, 2), (-3, 2)), part="shape")
    empty = template((0, 0), (0, 0), (0, 0))
    assert values(treated(empty, part="shape")[0]) == values(empty)


def test_a_pruned_template_says_so():
    """Both directions become nominal, to the bit, and the warnings name it."""
    made = TEMPLATES.treated(Treatment(prune=1e6))
    kinds = {(w.process, w.region) for w in made.warnings if w.kind == "pruned"}
    assert kinds == {(e.process, e.region) for e in TEMPLATES.entries if e.up is not None}
    for entry in made.entries:
        if entry.up is not None:
            np.testing.assert_array_equal(entry.up.values(), entry.nominal.values())


def with_entries(*entries):
    """Templates of the score."""
    return Templates("score", "score", entries)


def test_an_envelope_is_the_largest_of_its_parts_in_any_order():
    """Of each bin the farthest shift; of one attack with itself the attack."""
    one = with_entries(template((8, 2), (6, 4), (9, 1)))
    two = with_entries(template((8, 2), (7, 5), (12, 2)))
    for several in ([one, two], [two, one], [one, two, one]):
        assert values(envelope(several).entries[0]) == ([8, 2], [6, 5], [12, 1])
        first = [6, 4] if several[0] is one else [7, 5]  # their shifts are as large as each other
        assert values(envelope(several, how="whole").entries[0]) == ([8, 2], first, [12, 2])
    assert values(envelope([one, one]).entries[0]) == values(one.entries[0])


def test_an_envelope_over_models_compares_relative_shifts():
    """Where nominal differs, shifts are taken relative to it; an empty bin gives none."""
    one = with_entries(template((8, 2), (8, 2), (8, 2)))
    two = with_entries(template((4, 0), (5, 3), (2, 0)))
    assert values(envelope([one, two]).entries[0]) == ([8, 2], [10, 2], [4, 2])


def test_an_envelope_of_different_things_is_refused():
    """Different quantities, processes or bins, or too few, are errors with a remedy."""
    one = with_entries(template())
    for wrong in ([one], one, [one, "two"]):
        with pytest.raises(ConfigurationError, match="envelope needs a list of two or more Templates"):
            envelope(wrong)
    with pytest.raises(ConfigurationError, match="how='max' is none of 'bins', 'whole'"):
        envelope([one, one], how="max")
    with pytest.raises(InputError, match="'score' and 'x' are different quantities"):
        envelope([one, replace(one, quantity="x")])
    with pytest.raises(InputError, match=r"processes and regions differ \(signal/W, signal/Z\)"):
        envelope([one, with_entries(template(process="Z"))])
    with pytest.raises(InputError, match="the bins of signal/W differ"):
        envelope([one, with_entries(template((8, 1, 1), (8, 1, 1), (8, 1, 1)))])


def test_the_systematic_says_what_it_is():
    """Yields, errors of differences and the largest bin, readable; impact above an edge only."""
    sample = scored([0.1, 0.1, 0.6, 0.6], [0.3, 0.1, 0.9, 0.1], [0.1, 0.1, 0.6, 0.6], [1, 3, 2, 5])
    systematic = result_of(sample, processes={}, estimates=()).systematic("W", "signal")
    assert isinstance(systematic, RobustnessSystematic)
    impact = systematic.impact()
    assert (impact.above, impact.nominal, impact.up, impact.down) == (0.5, 7, pytest.approx(-5 / 7), 0)
    assert (impact.up_error, impact.down_error) == (pytest.approx(5 / 7), 0)
    assert systematic.impact(0).up == 0
    text = repr(systematic)
    assert text.startswith("conserv_W in signal (score): largest shift found within the limits\n")
    assert "above 0.5, yield 7: Up -71.43 ± 71 %, Down +0.00 ± 0 %" in text
    assert systematic.name == "conserv_W"
    assert systematic.up is systematic.template.up
    with pytest.raises(InputError, match=r"no bin of 'score' starts at 0.6; the nearest edge is 0.5"):
        systematic.impact(0.6)
    with pytest.raises(InputError, match=r"signal/W has no yield above 0.75 to compare with"):
        systematic.impact(0.75)


def test_a_text_of_a_template_without_the_working_point():
    """Where no bin starts at the working point, the line is left out rather than the text refused."""
    text = repr(RobustnessSystematic(template((8, 2, 1), (7, 3, 1), (8, 2, 1)), "score", 0.5))
    assert "above" not in text
    assert "yield 11: Up +0.00 %, Down +0.00 %" in text
