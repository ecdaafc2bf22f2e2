"""The twin of the judge finds what is wrong: its verdict is made again in every test that attacks arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import slow_verdict
from made_problems import CPU, Ring, features, made_batch, made_task

from coffea_conserv import Budget, attack
from coffea_conserv.attacks.engine import signed_scores
from coffea_conserv.attacks.judging import judge_groups
from coffea_conserv.limits.budget import Band, Chi2
from coffea_conserv.solvers.transport.solver import Transport

QUICK = Transport(steps=10)
WIDE = Budget(rms=1.0, ks=0.5, chi2=Chi2(1e6, 1000), correlation=3.0, correlation_element=1.0)
BAND = Band(low=0.1, high=[0.0, *[0.3] * 22, 0.1])
BUDGETS = {
    "exact": Budget(rms=0.0),
    "everything": WIDE,
    "by side": Budget(band={"x": BAND, "y": 0.2, "z": 0.2, "n": 0.2}),
    "distance": Budget(jsd=0.1),
    "nothing moves": Budget(move=0),
}


def moved(batch, seed=0):
    """Somebody moves features of some events without asking."""
    rng, x = np.random.default_rng(seed), batch.x.copy()
    some = rng.uniform(size=len(x)) < 0.2
    x[some, :2] += rng.normal(size=(some.sum(), 2)).astype(np.float32)
    return x


@pytest.mark.parametrize("loops", [0, 10**9])
@pytest.mark.parametrize("weights", ["equal", "two", "varying", "signed"])
@pytest.mark.parametrize("name", BUDGETS)
def test_both_judges_agree_also_about_what_is_broken(name, weights, loops, monkeypatch):
    """Every kind of limit with weights of all kinds; correlations by plain loops and by NumPy's sums."""
    monkeypatch.setattr(slow_verdict, "LOOPS", loops)
    batch = made_batch(300, weights=weights)
    task = made_task(BUDGETS[name])
    if name == "everything":
        caps = replace(task.features[0], max_shift=0.1), replace(task.features[1], max_relative_shift=0.1)
        task = replace(task, features=(*caps, *task.features[2:]))
    x = moved(batch)
    scores = signed_scores(batch, x, [Ring()], CPU)
    limits = judge_groups(batch, task, x, scores)
    slow_verdict.assert_judged(batch, task, x, limits, scores)
    assert not all(limit.passed for limit in limits)


@pytest.mark.parametrize("change", ["value", "limit", "name", "lost"])
def test_a_wrong_verdict_is_found(change):
    """A judge that gives another value or limit, another name, or that forgets one."""
    batch, task = made_batch(300), made_task()
    limits = judge_groups(batch, task, batch.x)
    slow_verdict.assert_judged(batch, task, batch.x, limits)
    wrong = limits[:-1]
    if change == "name":
        wrong = (*wrong, replace(limits[-1], name="nothing"))
    elif change != "lost":
        wrong = (*wrong, replace(limits[-1], **{change: getattr(limits[-1], change) + 1e-6}))
    with pytest.raises(AssertionError):
        slow_verdict.assert_judged(batch, task, batch.x, wrong)


@pytest.mark.parametrize(
    ("column", "value"), [(4, 0.5), (2, 0.5), (2, -999.0), (3, 1.5), (0, np.nan), (0, 2.5)]
)
def test_an_event_that_may_not_be_so_is_found(column, value):
    """Frozen, not there, not there any more, fractional, undefined, out of range."""
    batch, task = made_batch(300), made_task()
    x = batch.x.copy()
    gone = (x[:, 2] == -999.0) != (value == -999.0)
    x[gone if column == 2 else slice(None, 5), column] = value
    limited = replace(task, features=(replace(task.features[0], high=2.0), *task.features[1:]))
    with pytest.raises(AssertionError):
        slow_verdict.assert_events(batch, limited, x)


def test_every_attack_is_judged_twice(monkeypatch):
    """A judge that is wrong about an attack does not go unnoticed in any test."""
    batch = made_batch(300)
    options = {"budget": Budget(rms=0.0, correlation=0.05), "solver": QUICK}
    attack(batch.x, Ring(), features(), **options)
    monkeypatch.setattr(
        "coffea_conserv.limits.judge.correlation_shifts", lambda nominal, _: np.full(len(nominal), 0.001)
    )
    with pytest.raises(AssertionError, match=r"correlation.*0\.001"):
        attack(batch.x, Ring(), features(), **options)
