"""What was not attacked is no robustness: said by reason, at the top; and no group aborts a result."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import hist
import numpy as np
import pytest
import torch
from made_conserv import conserv, features
from made_events import made, scored, with_budget
from made_results import result_of
from rich.console import Console

from coffea_conserv import Budget, ConfigurationError, Feature, InputError, attack
from coffea_conserv.group import Group
from coffea_conserv.limits.verdict import REASONS, Limit, Unattacked, Verdict
from coffea_conserv.plotting import limits_plot
from coffea_conserv.plotting.heatmaps import limit_cells
from coffea_conserv.report import print_report, write_page
from coffea_conserv.solvers.search.solver import Search
from coffea_conserv.solvers.transport.solver import Transport

W, Z = (Group(name, "dataset", "signal", "conservUp") for name in "WZ")
OPEN = with_budget(jsd=1.0, correlation=10.0, watch=10.0)


def kept(group):
    """A limit that nominal events keep as well."""
    return Limit("correlation", group, 0.0, 0.1, "frobenius")


def idle(group, share=1.0, reason=REASONS[0]):
    """A group of which a share was not attacked."""
    return Unattacked(group, 10, share, {reason: share})


# --- the verdict --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "passed", "summary"),
    [
        (Verdict((kept(W), kept(Z))), True, "2 limits kept"),
        (Verdict((kept(W), kept(Z)), unattacked=(idle(W, 0.4),)), True, "2 limits kept"),
        (
            Verdict((kept(W), kept(Z)), unattacked=(idle(W),)),
            True,
            "2 limits kept, 1 of 2 groups not attacked",
        ),
        (
            Verdict((kept(W), kept(Z)), unattacked=(idle(W), idle(Z, reason=REASONS[3]))),
            False,
            "nothing was attacked: few events, nothing gained",
        ),
        (
            Verdict((), unattacked=(idle(W, reason=REASONS[1]),)),
            False,
            "nothing was attacked: no positive weight",
        ),
        (
            Verdict((kept(Z),), unjudged=(W,)),
            False,
            "not judged, since the sum of weights is not positive: W/signal/conservUp",
        ),
        (Verdict((replace(kept(W), value=1.0),), unattacked=(idle(Z),)), False, "1 of 1 limits broken"),
        (Verdict(()), False, "nothing was attacked: no events of simulation"),
    ],
)
def test_the_verdict_fails_closed(verdict, passed, summary):
    """Nominal events keep every limit; a verdict on nothing else does not pass."""
    assert (verdict.passed, verdict.summary) == (passed, summary)
    plain = json.loads(json.dumps(verdict.to_dict()))
    assert (plain["passed"], plain["summary"], len(plain["unattacked"])) == (
        passed,
        summary,
        len(verdict.unattacked),
    )


# --- of arrays ----------------------------------------------------------------------------------------------


class Radius(torch.nn.Module):
    """Signal is far from the centre."""

    def forward(self, x):
        """Give logits."""
        return (x**2).sum(1) - 2


def events(count=400):
    """Two features."""
    return np.random.default_rng(2).normal(size=(count, 2)).astype(np.float32)


AXIS = hist.axis.Regular(20, -4, 4)
TWO = [Feature("x", AXIS), Feature("y", AXIS)]


@pytest.mark.parametrize("solver", [Transport(steps=0), Search(iterations=0)])
def test_no_step_is_no_robustness(solver):
    """Nothing is gained, which is said; a solver that moves fools some."""
    none = attack(events(), Radius(), TWO, budget=Budget(rms=0.1, correlation=0.1), solver=solver)
    assert (none.fooling_ratio, none.unattacked.all(), none.verdict.passed) == (0.0, True, False)
    assert none.verdict.summary == "nothing was attacked: nothing gained"
    assert none.verdict.unattacked == (
        Unattacked(Group("0"), 400, 1.0, {**dict.fromkeys(REASONS, 0.0), REASONS[3]: 1.0}),
    )
    some = attack(
        events(), Radius(), TWO, budget=Budget(rms=0.1, correlation=0.1), solver=Transport(steps=10)
    )
    assert (some.fooling_ratio > 0.02, some.verdict.unattacked, some.verdict.passed) == (True, (), True)


@pytest.mark.parametrize("steps", [-5, 2.5, True, "10"])
def test_steps_are_a_number(steps):
    """A negative number of steps did nothing, without a word."""
    with pytest.raises(ConfigurationError, match=r"steps=.* must be a whole number from 0 on"):
        Transport(steps=steps)
    with pytest.raises(ConfigurationError, match="iterations must be a whole number from 0"):
        Search(iterations=steps)


def test_every_reason_is_found():
    """Few events, no net weight, all others attacked: shares by |weight|, as plain sums give them."""
    x, weight = events(500), np.ones(500)
    groups = np.repeat([0, 1, 2], [10, 90, 400])
    weight[10:60] = -2.0  # of the second group: its net sum is negative
    weight[100:130] = -0.5  # of the third one: few enough to be a stratum that moves
    weight[100:110] = -0.25
    found = attack(
        x,
        Radius(),
        TWO,
        budget=Budget(rms=0.2, correlation=0.2),
        weights=weight,
        groups=groups,
        solver=Transport(steps=8),
    )
    rows = {one.group.name: one for one in found.verdict.unattacked}
    assert rows["0"].reasons[REASONS[0]] == 1.0
    assert (rows["0"].events, rows["0"].wholly) == (10, True)
    assert rows["1"].reasons[REASONS[1]] == 1.0
    assert rows["1"].events == 90
    for name, row in rows.items():
        of = groups == int(name)
        share = np.abs(weight[of & found.unattacked]).sum() / np.abs(weight[of]).sum()
        assert row.share == pytest.approx(share)
        assert sum(row.reasons.values()) == pytest.approx(share)
    assert found.verdict.passed
    assert found.verdict.summary.endswith("of 2 groups not attacked")  # the second one has no limits


def test_a_control_in_which_nothing_may_move_is_kept():
    """It is not idle: nothing was to be attacked."""
    found = attack(events(), Radius(), TWO, budget=Budget(move=0))
    assert (found.verdict.passed, found.verdict.unattacked) == (True, ())


# --- of a run -----------------------------------------------------------------------------------------------


def signed(dataset, weight, *, moved):
    """Events without net weight, attacked or not."""
    sample = made(dataset, f"{dataset}:0-100", strength=0.2 if moved else 0.0)
    values = sample.values if moved else dict.fromkeys(sample.values, sample.values["nominal"])
    reason = np.full(100, 0 if moved else 2, dtype=np.int8)
    return replace(sample, weight=weight, values=values, unattacked=dict.fromkeys(sample.unattacked, reason))


NEGATIVE = np.where(np.arange(100) % 2, 1.0, -1.5)


def test_a_dataset_without_net_weight_does_not_abort_the_result():
    """It is reported; its process, where the sum is positive, and all others are judged as without it."""
    others = (made("W1", "a:0-100", weight=2.0), made("Z", "c:0-100"))
    odd = signed("W2", NEGATIVE, moved=False)
    result = result_of(*others, odd, processes={"W": ["W1", "W2"]}, estimates=(), settings=OPEN)
    alone = result_of(*others, processes={}, estimates=(), settings=OPEN)
    limits = {(limit.group, limit.name): limit.value for limit in result.verdict.limits}
    for limit in alone.verdict.limits:
        assert limits[limit.group, limit.name] == limit.value
    judged = {group.name for group, _ in limits}
    assert judged == {"W1", "Z", "W"}
    assert result.verdict.passed
    rows = {(row.group.name, row.group.region): row for row in result.verdict.unattacked}
    assert rows["W2", "signal"].reasons[REASONS[1]] == 1.0
    whole = np.abs(NEGATIVE[odd.regions["signal"]]).sum()
    all_of_it = whole + 2.0 * others[0].regions["signal"].sum()
    assert rows["W", "signal"].share == pytest.approx(whole / all_of_it)
    without = result_of(*others, odd, processes={"W": ["W1"]}, estimates=(), settings=OPEN, without=["W2"])
    np.testing.assert_array_equal(
        without.hist("score")["W", "signal", "conservUp", :].values(),
        alone.hist("score")["W1", "signal", "conservUp", :].values(),
    )
    assert not without.verdict.unattacked
    with pytest.raises(InputError, match=r"there is no dataset 'none'; there are W1, Z, W2"):
        result_of(*others, odd, processes={}, estimates=(), without=["none"])


def test_what_cannot_be_judged_does_not_pass():
    """Chunks of it had a positive sum and were attacked; together they have none."""
    result = result_of(
        made("Z", "c:0-100"), signed("W", NEGATIVE, moved=True), processes={}, estimates=(), settings=OPEN
    )
    assert {str(group) for group in result.verdict.unjudged} >= {"W/signal/conservUp", "W/signal/conservDown"}
    assert not result.verdict.passed
    assert result.verdict.summary.startswith(
        "not judged, since the sum of weights is not positive: W/control/conservUp"
    )
    assert result_of(
        made("Z", "c:0-100"),
        signed("W", NEGATIVE, moved=True),
        processes={},
        estimates=(),
        settings=OPEN,
        without=["W"],
    ).verdict.passed


def test_a_run_in_which_nothing_moved_is_not_green(tmp_path):
    """On the terminal, on the page, in JSON and in pictures."""
    sample = scored(*[np.linspace(0.05, 0.95, 60)] * 3)
    sample = replace(sample, unattacked=dict.fromkeys(sample.unattacked, np.full(60, 4, dtype=np.int8)))
    result = result_of(sample, processes={}, estimates=(), settings=OPEN)
    assert not result.verdict.passed
    stream = io.StringIO()
    print_report(result, Console(file=stream, width=150))
    text = stream.getvalue()
    assert "nothing was attacked: nothing gained" in text
    assert "W/signal/conservUp: 100% (nothing gained 100%)" in text
    assert "kept" not in text.split("fooling ratio")[0]
    page = write_page(result, tmp_path / "r.html", regions=[]).read_text()
    assert '<p class="verdict bad">Nothing was attacked: nothing gained.</p>' in page
    assert json.loads(result.to_json(tmp_path / "v.json").read_text())["verdict"]["passed"] is False
    assert {text for _, text in limit_cells(result).cells.values()} == {"not\nattacked"}
    assert limits_plot(result).axes


def test_the_reason_travels_through_a_chunk():
    """A chunk of few events in a run: Σ|w| by reason is in the sums, and adds up over chunks."""
    attack_ = conserv()
    rng = np.random.default_rng(0)

    def chunk(name, count):
        columns = {feature.name: rng.integers(0, 3, count).astype(float) for feature in features()}
        return attack_(
            columns,
            weight=np.full(count, 0.5),
            regions={"all": np.ones(count, bool)},
            dataset="W",
            chunk=name,
        )

    result = attack_.result(chunk("0", 10) + chunk("1", 12))
    (up, down) = result.verdict.unattacked
    assert (up.events, up.share, up.reasons[REASONS[0]]) == (22, 1.0, 1.0)
    assert down.group.variation == "conservDown"
    assert result.verdict.summary == "nothing was attacked: few events"
