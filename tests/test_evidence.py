"""Evidence in control regions: known answers, slow twins, and tests that see what they must."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import slow_evidence
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import result_of
from scipy import stats

from coffea_conserv import Blinding, Budget
from coffea_conserv.errors import ConfigurationError, InputError
from coffea_conserv.evidence.checks import (
    allowed_share,
    check_result,
    correlation_checks,
    detected,
    totals,
    worse,
)
from coffea_conserv.evidence.effort import Effort
from coffea_conserv.evidence.histograms import (
    Binned,
    compare_histograms,
    events_chi2,
    events_element,
    events_ks,
    noncentrality,
)
from coffea_conserv.evidence.multivariate import (
    classifier_test,
    compare_events,
    energy_test,
    sliced_tests,
)
from coffea_conserv.evidence.pairs import pair_tests
from coffea_conserv.evidence.two_samples import make_samples, standardised
from coffea_conserv.limits.measures import js_distance
from coffea_conserv.sums.attacked_events import Events

RESULT = result_of()
FAST = Effort(permutations=39, slices=20, energy=150, bins=5)
content = st.just(0.0) | st.floats(0.01, 100)
contents = st.lists(st.tuples(content, content), min_size=1, max_size=12)


# ------------------------------------------------------------------------------------------ histograms


@given(contents)
@settings(max_examples=80, deadline=None)
def test_chi2_equals_its_twin(pairs):
    """Contents with their own variances, empty bins included; of a histogram with itself it is 0."""
    a, b = np.array(pairs).T
    found = compare_histograms(Binned(a, 2 * a), Binned(b, b))
    chi2, used = slow_evidence.chi2((a, 2 * a), (b, b))
    assert (found.chi2, found.ndf) == (pytest.approx(chi2), used)
    if used:
        assert found.p == pytest.approx(stats.chi2.sf(chi2, used))
    same = compare_histograms(Binned(a, a), Binned(a, a))
    assert (same.chi2, same.pull, same.band) == (0, 0, 0)
    if a.any():
        assert (same.jsd, same.ks, same.ks_p) == (0, 0, 1)
        if b.any():
            assert found.jsd == pytest.approx(js_distance(a, b))


def test_a_systematic_uncertainty_makes_agreement():
    """(a − b)² / (σ² + (u b)²) by hand; the largest pull names its bin."""
    found = compare_histograms(
        Binned(np.array([110.0, 40.0]), np.array([110.0, 40.0])),
        Binned(np.array([100.0, 50.0]), np.array([10.0, 5.0])),
        uncertainty=0.1,
    )
    assert found.chi2 == pytest.approx(100 / 120 + 100 / 45)
    assert found.chi2_syst == pytest.approx(100 / (120 + 100) + 100 / (45 + 25))
    assert (found.bin, found.pull, found.band) == (1, pytest.approx(10 / math.sqrt(45)), pytest.approx(0.2))
    assert found.effective == (pytest.approx(150.0), pytest.approx(150**2 / 15))


def test_empty_histograms_have_no_shape():
    """Without content there is nothing to measure, and no NaN in the χ²."""
    nothing = np.zeros(3)
    found = compare_histograms(Binned(nothing, nothing), Binned(nothing, nothing))
    assert (found.chi2, found.ndf, found.p, found.effective) == (0, 0, 1, (0, 0))
    assert math.isnan(found.jsd)
    assert math.isnan(found.ks_p)


def test_the_number_of_events_for_chi2_is_that_of_half_of_all_experiments():
    """Multinomial data of that many events reject in half of the cases."""
    p, q = np.array([0.25, 0.25, 0.3, 0.2]), np.array([0.28, 0.22, 0.31, 0.19])
    needed = events_chi2(q, p)
    rng = np.random.default_rng(1)
    drawn = rng.multinomial(round(needed), q, 20_000)
    expected = round(needed) * p
    chi2 = ((drawn - expected) ** 2 / expected).sum(axis=1)
    assert (chi2 > stats.chi2.isf(0.05, 3)).mean() == pytest.approx(0.5, abs=0.02)
    assert events_chi2(7 * q, p) == pytest.approx(needed)
    assert events_chi2(p, p) == math.inf
    assert events_chi2(p, 0 * p) == math.inf
    assert stats.ncx2.sf(stats.chi2.isf(0.05, 7), 7, noncentrality(7)) == pytest.approx(0.5)


def test_an_empty_bin_that_fills_is_seen_by_its_first_event():
    """Where nominal is empty one event is enough: half of all samples of ln 2 / −ln(1 − q) have one."""
    p, q = np.array([1.0, 1.0, 0.0]), np.array([1.0, 0.98, 0.02])
    assert events_chi2(q, p) == pytest.approx(math.log(2) / -math.log(0.99))
    assert events_chi2(np.array([0.0, 1.0]), np.array([1.0, 0.0])) == 1


def test_the_number_of_events_for_ks_is_that_at_which_the_distance_is_critical():
    """(1.358 / D)², the 95 % quantile of Kolmogorov's distribution over the distance."""
    needed = events_ks(0.1)
    assert needed == pytest.approx((1.3581 / 0.1) ** 2, rel=1e-3)
    assert events_ks(0.0) == math.inf


def test_the_number_of_events_for_a_correlation_is_that_of_half_of_all_experiments():
    """Gaussian samples of that size differ from the expected correlation by 1.96 σ in half of the cases."""
    needed = round(events_element(0.3, 0.2))
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4000, needed, 2))
    y = 0.3 * x[..., 0] + math.sqrt(1 - 0.09) * x[..., 1]
    r = np.array([np.corrcoef(one, two)[0, 1] for one, two in zip(x[..., 0], y, strict=True)])
    z = np.abs(np.arctanh(r) - math.atanh(0.2)) * math.sqrt(needed - 3)
    assert (z > 1.96).mean() == pytest.approx(0.5, abs=0.03)
    assert events_element(0.5, 0.5) == math.inf


# ---------------------------------------------------------------------------------------------- tier A


def test_checks_see_the_merged_sample():
    """Sums of all processes and estimates, data in their regions, in every variation."""
    rows = check_result(RESULT)
    found = {(c.region, c.quantity, c.variation, c.against): c for c in rows}
    expected = {("signal", q, v, "nominal") for q in RESULT.quantities for v in ("conservUp", "conservDown")}
    expected |= {
        ("signal", q, v, "data")
        for q in (*RESULT.quantities, "score")
        for v in ("nominal", "conservUp", "conservDown")
    }
    assert {key for key in found if key[0] == "signal"} == expected
    # the control region has no estimate of QCD: data would be compared with less than all
    assert {key[3] for key in found if key[0] == "control"} == {"nominal"}
    whole = RESULT.hist("x")
    total = sum(whole[p, "signal", "nominal", :].values() for p in ("W", "Z", "QCD"))
    error = sum(whole[p, "signal", "nominal", :].variances() for p in ("W", "Z", "QCD"))
    data = whole["data", "signal", "nominal", :]
    one = compare_histograms(Binned(data.values(), data.variances()), Binned(total, error), uncertainty=0.0)
    assert found["signal", "x", "nominal", "data"].found.chi2 == pytest.approx(one.chi2)
    np.testing.assert_allclose(totals(RESULT, "x", "signal")[0]["nominal"][0], total)


def test_an_attack_that_moves_nothing_is_seen_by_nothing():
    """Marginals that stay exactly give χ² 0 and infinite numbers of events."""
    rows = check_result(result_of(estimates=()), regions=["signal"])
    for row in rows:
        if row.quantity == "x" and row.against == "nominal":
            assert (row.found.chi2, row.found.ks, row.found.p) == (0, 0, 1)
    for row in detected(RESULT, regions=["signal"]):
        if "marginal" not in row.test:
            assert row.events > 0
    assert not worse([row for row in rows if row.against == "nominal"])


def test_hidden_bins_are_left_out_of_comparisons_with_data():
    """Bins with signal do not count, and how many is said; correlations of data are not there."""
    filled = RESULT.hist("score")
    z, w, qcd = (filled[p, "signal", "nominal", :].values() for p in ("Z", "W", "QCD"))
    blind = result_of(blinding=Blinding("Z", above=float(np.median(z / (z + np.maximum(w + qcd, 0))))))
    hidden = blind.hidden("score", "signal")[1:-1]
    assert 0 < hidden.sum() < len(hidden)
    row = next(
        c for c in check_result(blind) if (c.quantity, c.against, c.region) == ("score", "data", "signal")
    )
    assert (row.hidden, row.found.ndf) == (hidden.sum(), len(hidden) - hidden.sum())
    assert {c.against for c in correlation_checks(blind) if c.region == "signal"} == {"nominal"}
    assert {c.against for c in correlation_checks(RESULT) if c.region == "signal"} == {"nominal", "data"}


def test_correlations_are_those_of_the_result():
    """Shift and largest element are the difference of the matrices of the result."""
    row = next(
        c
        for c in correlation_checks(RESULT)
        if (c.region, c.variation, c.against) == ("signal", "conservUp", "nominal")
    )
    difference = RESULT.correlation(None, "signal", "conservUp") - RESULT.correlation(
        None, "signal", "nominal"
    )
    j, k = (RESULT.quantities.index(name) for name in row.pair)
    assert row.change == pytest.approx(difference[j, k])
    assert row.z > 0


def test_worse_agreement_is_found_and_noticed_only_where_it_was_good():
    """A row needs a probability that falls; noticed is what falls from above 5 % to below."""
    rows = [row for row in check_result(RESULT) if row.quantity == "x" and row.against == "data"]
    before = replace(rows[0], found=replace(rows[0].found, p_syst=0.5))
    after = [
        replace(row, found=replace(row.found, p_syst=p)) for row, p in zip(rows[1:], (0.3, 0.01), strict=True)
    ]
    (found,) = worse([before, *after])
    assert (found.before, found.after, found.noticed) == (0.5, 0.01, True)
    bad = replace(before, found=replace(before.found, p_syst=0.04))
    assert [row.noticed for row in worse([bad, *after])] == [False]


def test_the_allowed_share_is_that_of_the_budget():
    """r.m.s., band and Jensen–Shannon distance as one relative number."""
    assert allowed_share(Budget(band=0.1)) == 0.1
    assert allowed_share(Budget(jsd=0.01)) == pytest.approx(0.01 * math.sqrt(8 * math.log(2)))
    assert allowed_share(Budget(move=0)) == 0
    with pytest.raises(ConfigurationError, match="uncertainty=-1 must be a finite share from 0 on"):
        check_result(RESULT, uncertainty=-1)


# ----------------------------------------------------------------------------------- two samples of events


def made_events(count=600, seed=1, *, weights=True):
    """Two correlated quantities, the second one missing at times; the attack turns the correlation round."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3))
    x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    x[rng.random(count) < 0.1, 2] = -999.0
    turned = x.copy()
    turned[:, 1] = 0.6 * rng.permutation(x[:, 1]) - 0.8 * x[:, 0]
    weight = rng.uniform(0.5, 1.5, count) if weights else np.ones(count)
    score = {v: np.full(count, 0.5) for v in ("nominal", "conservUp", "conservDown")}
    return Events(
        ("a", "b", "c"), {"nominal": x, "conservUp": turned, "conservDown": x.copy()}, score, weight, "c"
    )


def samples_of(variation, **options):
    """Two samples of made-up events."""
    return make_samples(made_events(**options), variation, seed=3)


def test_two_samples_are_halves_of_different_events():
    """No event is in both; one half is nominal, the other one attacked; missing values are 0."""
    events = made_events()
    samples = make_samples(events, "conservUp", 3)
    assert len(samples.weight) == len(events)
    assert samples.attacked.sum() == 300
    nominal = {tuple(row) for row in events.x["nominal"]}
    attacked = {tuple(row) for row in events.x["conservUp"]}
    assert all(tuple(row) in nominal for row in samples.raw[~samples.attacked])
    assert all(tuple(row) in attacked for row in samples.raw[samples.attacked])
    np.testing.assert_allclose(np.average(samples.x, axis=0, weights=samples.weight), 0, atol=1e-9)
    assert (samples.x[samples.raw[:, 2] == -999, 2] == 0).all()
    assert samples.effective == pytest.approx(150, rel=0.15)
    with pytest.raises(InputError, match="30 events with a weight are too few for tests of two samples; 40"):
        make_samples(made_events(30), "conservUp", 1)


def test_constant_columns_are_zero():
    """Nothing to standardise gives no NaN."""
    x = np.array([[1.0, np.nan], [1.0, np.nan]])
    np.testing.assert_array_equal(standardised(x, np.ones(2)), np.zeros((2, 2)))


@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(0.1, 2), st.booleans()), min_size=2, max_size=25))
@settings(max_examples=60, deadline=None)
def test_sliced_distances_equal_their_twins(rows):
    """In one dimension, with ties and weights: the first value is that of the samples as they are."""
    values, weight, attacked = (np.array(column) for column in zip(*rows, strict=True))
    if attacked.all() or not attacked.any():
        return
    from coffea_conserv.evidence.multivariate import _distances  # noqa: PLC0415

    order = np.argsort(values, kind="stable")
    sums = weight[attacked].sum(), weight[~attacked].sum()
    signed = np.where(attacked, weight / sums[0], -weight / sums[1])
    ks, wasserstein = _distances(values[order].astype(float), signed[order])
    assert ks == pytest.approx(slow_evidence.ks(values, weight, attacked), abs=1e-12)
    assert wasserstein == pytest.approx(slow_evidence.wasserstein(values, weight, attacked), abs=1e-12)


def test_the_energy_distance_equals_its_twin():
    """All events of two small samples, by a double loop."""
    samples = samples_of("conservUp", count=60)
    found = energy_test(samples, replace(FAST, energy=30))
    slow = slow_evidence.energy(samples.x, samples.weight, samples.attacked)
    assert found.statistic == pytest.approx(slow)


@pytest.mark.parametrize("weights", [True, False])
def test_a_turned_correlation_is_seen_by_all_tests(weights):
    """Marginals agree, yet every test of several dimensions rejects, and says how few events it takes."""
    events = made_events(weights=weights)
    samples = make_samples(events, "conservUp", 3)
    rows = [
        pair_tests(events, samples, "conservUp", FAST),
        *sliced_tests(samples, FAST),
        energy_test(samples, FAST),
        classifier_test(samples, FAST),
    ]
    for row in rows:
        assert row.p < 0.05, row
        assert row.needed < row.effective, row
    assert rows[0].what == "a × b"


def test_what_does_not_differ_is_not_seen():
    """Down is nominal: no sign of a difference beyond chance, and pairs need infinitely many events."""
    events = made_events()
    samples = make_samples(events, "conservDown", 3)
    pairs = pair_tests(events, samples, "conservDown", FAST)
    assert pairs.needed == math.inf
    for row in (
        pairs,
        *sliced_tests(samples, FAST),
        energy_test(samples, FAST),
        classifier_test(samples, FAST),
    ):
        assert row.p > 0.01, row


def test_probabilities_of_permutations_are_flat_where_nothing_differs():
    """Over many samples of one distribution a tenth of the probabilities is below 0.1."""
    found = [
        sliced_tests(make_samples(made_events(80, seed=s), "conservDown", s), replace(FAST, slices=5))[0].p
        for s in range(120)
    ]
    assert (np.array(found) <= 0.1).mean() == pytest.approx(0.1, abs=0.075)


def test_the_same_seed_gives_the_same_answer():
    """And another one another."""
    samples = samples_of("conservUp")
    one, two = (sliced_tests(samples, FAST) for _ in range(2))
    assert one == two
    assert sliced_tests(samples, replace(FAST, seed=2)) != one


@pytest.mark.parametrize("name", ["events", "bins", "slices", "permutations", "energy", "folds"])
def test_too_little_effort_is_refused(name):
    """Every number has a least value."""
    with pytest.raises(ConfigurationError, match=f"{name}=0 must be "):
        Effort(**{name: 0})


def test_files_of_a_run_are_tested_region_by_region(tmp_path):
    """From the files to rows, with any mapper; regions and directions are named."""
    from made_conserv import call, conserv, events  # noqa: PLC0415

    made = conserv(keep=tmp_path)
    for seed in range(2):
        call(made, events(seed=seed), chunk=f"f:{seed}", dataset="W")
    rows = compare_events(tmp_path, ["low", "high"], FAST)
    assert [(row.region, row.variation) for row in rows[::5]] == [
        (r, v) for r in ("low", "high") for v in ("conservUp", "conservDown")
    ]
    assert {row.test for row in rows} == {
        "χ² of pairs",
        "sliced KS",
        "sliced Wasserstein",
        "energy distance",
        "classifier",
    }
    spread = compare_events(tmp_path, ["low", "high"], FAST, mapper=lambda f, todo: [f(one) for one in todo])
    assert spread == rows
