"""Trial of models: on events that can be, as many at a time as they take; whatever they raise is told."""

from __future__ import annotations

import logging
import re
import sys

import hist
import numpy as np
import pytest
import torch
from coffea.processor import FuturesExecutor, IterativeExecutor
from hypothesis import given, settings
from hypothesis import strategies as st
from made_conserv import WithK, conserv, difference, events
from made_conserv import call as called
from made_models import NAMES, X, evaluated, exported, net, run_attack
from made_pages import importable, prepare
from made_processor import Analysis, write_files
from test_running import block, call
from test_workers import run
from torch import nn

from coffea_conserv import Budget, Callback, Conserv, Feature, ModelError, attack, baselines
from coffea_conserv.features.trial import COUNT, ranges, trials
from coffea_conserv.models.loading import make_handles
from coffea_conserv.solvers.search.solver import Search
from coffea_conserv.solvers.transport.solver import Transport

AXIS = hist.axis.Regular(40, -3, 3)
PDG = hist.axis.IntCategory([11, 13, 15])
BUDGET = Budget(rms=0.1, correlation=0.1)
QUICK = Transport(steps=5, rounds=2)
few = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def made(model, features, **options):
    """An attack; it is made, and with that the model is tried."""
    return Conserv(**{"model": model, "features": features, "budget": BUDGET, "solver": QUICK, **options})


# --- events that can be ------------------------------------------------------------------------------------


class Embedding(nn.Module):
    """One number for each of three particles, by their PDG id; no other id is known."""

    def __init__(self):
        super().__init__()
        self.register_buffer("ids", torch.tensor([11.0, 13.0, 15.0]))
        self.value = nn.Embedding(3, 1)
        with torch.no_grad():
            self.value.weight[:, 0] = torch.tensor([-2.0, 0.0, 2.0])

    def forward(self, x):
        """Logits, shape (events,)."""
        known = x[:, 1:] == self.ids
        index = torch.where(known.any(1), known.int().argmax(1), 99)  # 99: an IndexError
        return x[:, 0] + self.value(index)[:, 0]


def leptons(count=600):
    """A number and the id of a lepton."""
    rng = np.random.default_rng(1)
    return {"x": rng.normal(size=count), "id": rng.choice([11, 13, 15], count)}


def test_categories_are_those_of_the_axis():
    """An embedding of PDG ids is tried with them, and the nominal scores of a call are its own."""
    conserved = made(Embedding(), [Feature("x", AXIS), Feature("id", PDG, frozen=True)])
    columns = leptons()
    sums = conserved(
        columns,
        weight=np.ones(600),
        regions={"all": np.ones(600, bool)},
        dataset="toy",
        chunk="0",
    )
    logit = columns["x"] + (columns["id"] - 13)
    score = hist.Hist(hist.axis.Regular(20, 0, 1)).fill(1 / (1 + np.exp(-logit.astype(np.float32))))
    found = sums.hists["score"][0, 0, 0, :].values()
    np.testing.assert_array_equal(found, score.values())
    assert conserved.result(sums).verdict.passed


def test_a_category_that_the_model_does_not_know_is_found():
    """One id more on the axis, and the error has the ranges that were tried."""
    axis = hist.axis.IntCategory([11, 13, 15, 22])
    text = r"cannot take 2 features .* of \(256, 2\) with x in -2\.\d+ … 2\.\d+, id in 11 … 22: IndexError"
    with pytest.raises(ModelError, match=text):
        made(Embedding(), [Feature("x", AXIS), Feature("id", axis, frozen=True)])


def test_the_command_line_has_categories(tmp_path, monkeypatch):
    """``coffea-conserv plan`` tries an embedding with the ids of the file; one too many is told."""
    (tmp_path / "user").mkdir()
    folder = prepare(tmp_path / "user", 200, quick=True)
    text = block("file: conserv.yaml")
    old, new = "axis: {integers: [0, 10]}", "axis: {categories: [0, 1, 2, 3, 4, 5, 6, 7]}"
    assert old in text
    (folder / "good.yaml").write_text(text.replace(old, new))
    (folder / "bad.yaml").write_text(text.replace(old, new.replace("7]", "77]")))
    model = "model: {factory: my_counts:Counts, state: counts.pt}"
    (folder / "my_counts.py").write_text(COUNTS)
    monkeypatch.chdir(folder)
    with importable(folder):
        for name in ("good", "bad"):
            path = folder / f"{name}.yaml"
            path.write_text(path.read_text().replace("model: classifier.pt2", model))
        exec(COUNTS, namespace := {})  # noqa: S102 -- our own
        torch.save(namespace["Counts"]().state_dict(), folder / "counts.pt")
        done = [
            call("plan", "--config", f"{name}.yaml", "--fileset", "fileset.json") for name in ("good", "bad")
        ]
    sys.modules.pop("my_counts", None)
    assert done[0].exit_code == 0, done[0].output
    assert done[1].exit_code == 2
    assert re.search(r"njets in 0 … 77, .*: IndexError: index", " ".join(done[1].output.split()))


COUNTS = """
import torch


class Counts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.value = torch.nn.Embedding(8, 1)

    def forward(self, x):
        return self.value(x[:, 4].long())[:, 0] + x[:, 0] / 50 - 1
"""

KINDS = {
    "regular": (hist.axis.Regular(10, 20, 120), lambda v: (v >= 20) & (v <= 120)),
    "variable": (hist.axis.Variable([1, 10, 100]), lambda v: (v >= 1) & (v <= 100)),
    "circular": (hist.axis.Regular(8, -np.pi, np.pi, circular=True), lambda v: abs(v) <= np.pi),
    "integer": (hist.axis.Integer(-2, 5), lambda v: np.isin(v, np.arange(-2, 5))),
    "boolean": (hist.axis.Boolean(), lambda v: np.isin(v, [0, 1])),
    "category": (PDG, lambda v: np.isin(v, [11, 13, 15])),
}


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_axis(kind):
    """Inside of it, whole where it is one of whole numbers, from nearly the lowest to the highest."""
    axis, inside = KINDS[kind]
    (trial,) = trials([Feature("q", axis)])
    column = trial.x[:, 0]
    assert inside(column).all()
    assert len(column) == COUNT
    whole = np.unique(column)
    if not axis.traits.continuous:
        assert len(whole) == axis.size
    else:
        low, high = axis.edges[0], axis.edges[-1]
        assert column.min() < low + 0.05 * (high - low)
        assert column.max() > high - 0.05 * (high - low)


@few
@given(
    low=st.none() | st.floats(-4, 1.5, width=32),
    width=st.none() | st.floats(0.5, 6, width=32),
    missing=st.lists(st.sampled_from([-999.0, np.nan, -1.0, 0.5]), max_size=3, unique_by=repr),
)
def test_trial_events_obey_what_is_declared(low, width, missing):
    """Physical ranges, and each number that means missing, once with everything and once alone."""
    high = None if width is None else (low if low is not None else -3.0) + width
    features = [
        Feature("a", AXIS, low=low, high=high, missing=missing or None),
        Feature("b", hist.axis.Integer(0, 3), missing=-9),
    ]
    first, *others = trials(features)
    column = first.x[:, 0]
    assert low is None or (column >= low).all()
    assert high is None or (column <= high).all()
    for number in missing:
        gone = np.isnan if np.isnan(number) else lambda x, n=number: x == np.float32(n)
        assert not gone(column).any()
        sure = [one for one in others if one.sure and gone(one.x[:, 0]).all()]
        alone = [one for one in others if gone(one.x[:, 0]).all() and (one.x[:, 1] != -9).all()]
        assert len(sure) == len(alone) == 1
        assert (sure[0].x[:, 1] == -9).all()


def ordered(q):
    """The second momentum is below the first one."""
    return q["x"] > q["y"]


class Difference(nn.Module):
    """Not defined where the second value is above the first one."""

    def forward(self, x):
        """Logits, shape (events,)."""
        return (x[:, 0] - x[:, 1]).sqrt() - 1


def test_trial_events_are_valid():
    """A model that is defined for possible events only is taken with ``valid``, and refused without."""
    features = [Feature("x", AXIS), Feature("y", AXIS)]
    rng = np.random.default_rng(2)
    y, x = np.sort(rng.uniform(-2.5, 2.5, (2, 800)), axis=0).astype(np.float32)
    conserved = made(Difference(), features, valid=ordered)
    sums = conserved(
        {"x": x, "y": y},
        weight=np.ones(800),
        regions={"all": np.ones(800, bool)},
        dataset="toy",
        chunk="0",
    )
    score = hist.Hist(hist.axis.Regular(20, 0, 1)).fill(1 / (1 + np.exp(1 - np.sqrt(x - y))))
    np.testing.assert_array_equal(sums.hists["score"][0, 0, 0, :].values(), score.values())
    text = r"NaN or infinity for 1\d\d of 256 events; .* They have x in .*; tried were events with x in -2\."
    with pytest.raises(ModelError, match=text):
        made(Difference(), features)


def test_valid_with_a_context_cannot_be_asked():
    """It is known in the call only; the trial goes on without it."""
    assert made(net(), [Feature(name, AXIS) for name in NAMES], valid=lambda q: q["x"] < q["limit"])


def test_no_possible_event_is_found(caplog):
    """What fails is then a warning, as it may be no fault of the model."""
    features = [Feature("x", AXIS), Feature("y", AXIS)]
    narrow = {"valid": lambda q: (q["x"] - 1).abs() + (q["y"] + 1).abs() < 1e-7}
    with caplog.at_level(logging.WARNING):
        assert made(Difference(), features, **narrow)
    assert "No possible event was found inside of the axes" in caplog.text


class Absent(nn.Module):
    """Fails where some of its values are missing."""

    def __init__(self, broken):
        super().__init__()
        self.broken = broken

    def forward(self, x):
        """Logits, shape (events,)."""
        x = torch.where(x == -999, torch.nan, x)
        gone = torch.isnan(x)
        good = torch.where(gone, 0, x).sum(1)
        return torch.where(self.broken(gone), torch.nan, good)


def features_with(missing, **options):
    """Two jets, of which the second may be absent, and something else that may."""
    return [
        Feature("pt_1", AXIS),
        Feature("pt_2", AXIS, missing=missing),
        Feature("eta_2", AXIS, missing=missing, **options),
        Feature("met", AXIS, missing=missing),
    ]


@pytest.mark.parametrize("missing", [-999.0, np.nan, [1e9, -999.0], [np.nan, -999.0]])
def test_what_can_be_missing_is_missing_in_the_trial(missing):
    """A model that forgets one of the numbers that mean missing is refused, with the number."""
    with pytest.raises(
        ModelError, match=r"NaN or infinity for 8 of 8 events with pt_2 = (-999|nan), eta_2 = (-999|nan), met"
    ):
        made(Absent(lambda gone: gone.all(1) | gone[:, 1:].all(1)), features_with(missing))
    assert made(Absent(lambda gone: gone[:, 0]), features_with(missing))


def test_what_fails_with_some_missing_may_be_impossible(caplog):
    """Half of a jet: a warning with the remedy, and nothing where the features say that it does not exist."""
    half = Absent(lambda gone: gone[:, 1] != gone[:, 2])
    with caplog.at_level(logging.WARNING):
        made(half, features_with(-999.0))
    assert re.search(
        r"8 of 8 events with pt_2 = -999; .*say so with moves_with= of the features", caplog.text
    )
    caplog.clear()
    made(half, features_with(-999.0, moves_with="pt_2"))
    assert "moves_with" not in caplog.text
    made(half, features_with(-999.0), valid=lambda q: (q["pt_2"] == -999) == (q["eta_2"] == -999))
    assert "moves_with" not in caplog.text


def test_the_same_model_with_other_features_is_tried_again():
    """Another axis has other trial events."""
    model = Embedding()
    assert made(model, [Feature("x", AXIS), Feature("id", PDG, frozen=True)])
    with pytest.raises(ModelError, match="IndexError"):
        made(model, [Feature("x", AXIS), Feature("id", hist.axis.Integer(11, 16), frozen=True)])


def test_ranges_are_short():
    """Of many features the first ones; constants and what is always missing are told as such."""
    x = np.tile([[1.0, np.nan], [2.0, np.nan]], (1, 10))
    text = ranges([f"q{j}" for j in range(20)], x)
    assert text.startswith("q0 in 1 … 2, q1 = nan, ")
    assert text.endswith(", and 8 features more")


# --- as many events as a model takes ------------------------------------------------------------------------

RANGES = [(2, 32), (2, 500), (5, 64), (40, None)]


def program(low, high, module=None):
    """A program that was exported for some numbers of events."""
    dim = torch.export.Dim("events", min=low, max=high)
    example = torch.ones(max(4, low + 1), 3)
    module = net().eval() if module is None else module
    return torch.export.export(module, (example,), dynamic_shapes=({0: dim},))


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_the_range_of_an_export_is_read_and_kept(low, high, tmp_path):
    """Events come in parts that it takes, filled up if need be: the logits are those of the module."""
    path = tmp_path / "model.pt2"
    torch.export.save(program(low, high), path)
    (handle,) = make_handles(path)
    assert (handle.facts.least, handle.facts.most) == (low if low > 2 else 1, high)
    loaded = handle.load(torch.device("cpu"))
    if high is not None:
        with pytest.raises(Exception, match=r"Guard failed|Expected input"):
            loaded(X[:1].repeat(high + 1, 1))
    whole, part = run_attack(exported(net().eval())), run_attack(path)
    np.testing.assert_allclose(
        part.score_nominal, evaluated(net(), X.repeat_interleave(5, 0)).sigmoid(), rtol=1e-5
    )
    np.testing.assert_allclose(part.score_nominal, whole.score_nominal, rtol=1e-5)
    assert part.fooling_ratio == pytest.approx(whole.fooling_ratio, abs=0.05)
    assert part.verdict.passed
    search = run_attack(path, solver=Search(num_candidates=10, iterations=1))
    assert search.verdict.passed


@pytest.mark.slow
@pytest.mark.parametrize("executor", [IterativeExecutor, FuturesExecutor])
def test_workers_keep_to_the_range(executor, tmp_path):
    """Chunks of more events than the program takes at a time: the sums are those of the module itself."""
    files = write_files(tmp_path)
    torch.export.save(program(2, 64, WithK().eval()), tmp_path / "model.pt2")
    options = {"workers": 1} if executor is FuturesExecutor else {}
    found, expected = (
        run(executor(status=False, **options), files, Analysis(conserv(**settings_)))["conserv"]
        for settings_ in ({"model": tmp_path / "model.pt2"}, {})
    )
    assert found.chunks.keys() == expected.chunks.keys()
    for region in ("low", "high", "middle"):
        one, two = (sums.hists["score"][{"region": region}].values() for sums in (found, expected))
        assert one.sum() > 0
        np.testing.assert_allclose(one[:, 0], two[:, 0], rtol=1e-9)  # nominal
    assert difference(found, expected) < 0.2  # attacked events are others, rounding being another one


def test_the_command_line_keeps_to_the_range(tmp_path, monkeypatch):
    """``coffea-conserv plan`` tries a chunk of a file that takes 16 events at a time."""
    (tmp_path / "user").mkdir()
    folder = prepare(tmp_path / "user", 200, quick=True)
    (folder / "conserv.yaml").write_text(block("file: conserv.yaml"))
    module = torch.export.load(folder / "classifier.pt2").module()
    dim = torch.export.Dim("events", min=2, max=16)
    small = torch.export.export(module, (torch.ones(4, 6),), dynamic_shapes=({0: dim},))
    torch.export.save(small, folder / "classifier.pt2")
    monkeypatch.chdir(folder)
    with importable(folder):
        done = call("plan", "--config", "conserv.yaml", "--fileset", "fileset.json")
    assert done.exit_code == 0, done.output
    assert "600 events in 3 chunks" in done.output


# --- whatever a model raises --------------------------------------------------------------------------------


class StrangeError(Exception):
    """An error of a library, of no kind that Python has."""


STRANGE = (StrangeError, MemoryError, EOFError, UserWarning, OSError, RecursionError, SystemError)


class Failing(nn.Module):
    """Fails where the first feature is large."""

    def __init__(self, kind, limit):
        super().__init__()
        self.kind, self.limit = kind, limit

    def forward(self, x):
        """Logits, shape (events,)."""
        if bool((x[:, 0] > self.limit).any()):
            raise self.kind("strange")
        return x.sum(1)


def as_function(module):
    """The same as a function of NumPy."""
    return Callback(lambda x: module(torch.from_numpy(x)).numpy())


@pytest.mark.parametrize("form", [lambda module: module, as_function])
@pytest.mark.parametrize("kind", STRANGE)
def test_whatever_is_raised_is_a_model_error(kind, form):
    """At construction, in an attack and in a run: with the number of events and where they are."""
    features = [Feature(name, AXIS) for name in NAMES]
    model = form(Failing(kind, -2.5))
    tried = rf"\(256, 3\).* x in -2\.\d+ … 2\.\d+, y in|\(256, 3\): {kind.__name__}: strange; .* have x in"
    with pytest.raises(ModelError, match=tried) as caught:
        made(model, features)
    assert kind.__name__ in str(caught.value)
    assert not isinstance(caught.value.__cause__, OSError)
    later = form(Failing(kind, 50.0))
    conserved = made(later, features)
    columns = {name: X[:, j].repeat(8).numpy().copy() for j, name in enumerate(NAMES)}
    columns["x"][200] = 99.0
    options = {"weight": np.ones(320), "regions": {"all": np.ones(320, bool)}, "dataset": "d", "chunk": "c"}
    text = rf"\(320, 3\).* x in -\S+ … 99, y in|\(320, 3\): {kind.__name__}: strange; .* x in -\S+ … 99"
    with pytest.raises(ModelError, match=text):
        conserved(columns, **options)
    with pytest.raises(ModelError, match=text):
        attack(np.stack(list(columns.values()), 1), later, features, budget=BUDGET, solver=QUICK)


class Back(torch.autograd.Function):
    """Fails on the way back."""

    @staticmethod
    def forward(ctx, x):
        """Leave it as it is."""
        ctx.count = len(x)
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients):
        """Fail for more than a few events."""
        if ctx.count > 300:
            msg = "no way back"
            raise StrangeError(msg)
        return gradients[0]


class OneWay(nn.Module):
    """Has a gradient for a few events only."""

    def forward(self, x):
        """Logits, shape (events,)."""
        return Back.apply(x).sum(1)


def test_what_a_gradient_raises_is_a_model_error():
    """In the search, and in baselines that follow it."""
    features = [Feature(name, AXIS) for name in NAMES]
    x = X.repeat(20, 1).numpy()
    text = r"the gradient of the model fails for \d+ events at a time with x in .*: StrangeError: no way back"
    with pytest.raises(ModelError, match=text):
        attack(x, OneWay(), features, budget=BUDGET, solver=Search(num_candidates=5, iterations=1))
    with pytest.raises(ModelError, match=text):
        baselines(x, OneWay(), features, budget=BUDGET, names=["fgsm"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [StrangeError, OSError])
def test_a_run_ends_with_the_error(kind, tmp_path):
    """Coffea drops no chunk, even if the model raises what coffea takes for an unreadable file."""
    files = write_files(tmp_path, 500)
    made_ = conserv(model=Picky(kind))
    with pytest.raises(Exception, match=rf"cannot take 3 features .*k in 0 … 3: {kind.__name__}: strange"):
        run(IterativeExecutor(status=False), files, Analysis(made_), 1000, skipbadfiles=True)


class Picky(WithK):
    """Fails for more events than the trial has."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        """Logits, shape (events,)."""
        if len(x) > COUNT:
            raise self.kind("strange")
        return super().forward(x)


def unloadable():
    """Fail where there is no client."""
    msg = "no such library here"
    raise StrangeError(msg)


class Bound:
    """Cannot be unpickled where it is asked to fail."""

    fails = False

    def __init__(self, more=0.0):
        self.more = more

    def __call__(self, x):
        """Logits, shape (events,)."""
        return x.sum(1) + self.more

    def __setstate__(self, state):
        self.__dict__.update(state)
        if Bound.fails:
            unloadable()


def test_what_cannot_be_loaded_on_a_worker_is_a_model_error(monkeypatch):
    """A library that is not there: the kind of the model, and what workers need."""
    conserved = conserv(model=Callback(Bound(0.25)))
    monkeypatch.setattr("coffea_conserv.models.handle._cache", {})
    monkeypatch.setattr(Bound, "fails", True)
    with pytest.raises(
        ModelError, match=r"\(callback, \w{12}\) cannot be loaded here on cpu: StrangeError: no such"
    ):
        called(conserved, events())
