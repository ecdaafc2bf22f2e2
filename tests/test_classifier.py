"""Probabilities are never read as logits, and classifiers are taken as they are."""

from __future__ import annotations

from pathlib import Path

import hist
import numpy as np
import pytest
import torch
from coffea.processor import FuturesExecutor, IterativeExecutor
from made_conserv import call as called
from made_conserv import conserv, difference, events
from made_flat import Classifier
from made_pages import importable, prepare
from made_processor import Analysis, write_files
from test_running import block, call
from test_workers import run as run_processor
from torch import nn

from coffea_conserv import (
    Budget,
    Callback,
    Classes,
    Conserv,
    Feature,
    InputError,
    ModelError,
    attack,
    baselines,
    load_result,
)
from coffea_conserv.models.loading import make_handles
from coffea_conserv.solvers.transport.solver import Transport
from coffea_conserv.studies.bounds import fooling_bound

AXIS = hist.axis.Regular(30, -3, 3)
FEATURES = [Feature("x", AXIS), Feature("y", AXIS)]
X = np.random.default_rng(3).normal(size=(800, 2)).astype(np.float32)
LABEL = ((X**2).sum(1) + 0.5 * np.random.default_rng(4).normal(size=800) < 1.5).astype(int)


def run(model, x=X, features=FEATURES, **options):
    """Attack some events."""
    settings = {"budget": Budget(rms=0.05, correlation=0.02), "solver": Transport(steps=15), "seed": 2}
    return attack(x, model, features, **(settings | options))


def same(one, two):
    """Whether two results are equal, bit for bit, and not by being nothing."""
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.score, two.score)
    np.testing.assert_array_equal(one.score_nominal, two.score_nominal)
    assert one.fooling_ratio == two.fooling_ratio > 0.05
    assert not one.unattacked.any()
    return True


# --- probabilities that are said to be logits ---------------------------------------------------------------


class Ring(nn.Module):
    """Signal is near the origin; how the answer is given is a function of the logit."""

    def __init__(self, form=lambda logit: logit):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.form = form

    def forward(self, x):
        """Give what the form says."""
        return self.form(self.scale - (x**2).sum(1))


def pair(z):
    """Probabilities of background and signal, as of a softmax."""
    return torch.softmax(torch.stack([torch.zeros_like(z), z], 1), 1)


def triple(z):
    """Probabilities of three classes."""
    return torch.softmax(torch.stack([torch.zeros_like(z), z, z / 2 - 1], 1), 1)


def separate(z):
    """Scores of two classes, each on its own."""
    return torch.stack([torch.sigmoid(-z) / 2, torch.sigmoid(z)], 1)


SAYS = r"as probabilities are, and is said to give logits; say "
MISREAD = {
    "one": (torch.sigmoid, "logit", SAYS + "output='probability', or leave the sigmoid", "probability"),
    "column": (
        lambda z: torch.sigmoid(z)[:, None],
        "logit",
        SAYS + "output='probability'",
        "probability",
    ),
    "half precision": (lambda z: torch.sigmoid(z).half(), "logit", SAYS, "probability"),
    "two": (pair, "logit", r"probabilities, which sum to 1: say output='probability'$", "probability"),
    "two as classes": (
        pair,
        Classes(1),
        r"and 1 in the sum over its 2 classes, as .* output=Classes\(target=\(1,\).*output='probability'\)",
        Classes(1, output="probability"),
    ),
    "three": (
        triple,
        "logit",
        r"probabilities, which sum to 1: say output=Classes\(target=…, output='probability'\)$",
        Classes(1, output="probability"),
    ),
    "three as two": (
        triple,
        "probability",
        r"say output=Classes\(target=…, output='probability'\)$",
        Classes(1, output="probability"),
    ),
    "three as classes": (
        triple,
        Classes(1),
        r"and 1 in the sum over its 3 classes",
        Classes(1, output="probability"),
    ),
    "argmax": (
        triple,
        Classes(1, argmax=True),
        r"argmax=True, output='probability'\)",
        Classes(1, argmax=True, output="probability"),
    ),
    "not normalised": (separate, Classes(1), SAYS + "output=Classes", Classes(1, output="probability")),
}


def logits(form, output):
    """The logit that the remedy stands for, of the numbers that a form gives."""

    def function(matrix):
        with torch.no_grad():
            values = Ring(form)(torch.from_numpy(matrix)).double().reshape(len(matrix), -1)
        if output == "probability":
            two = values if values.shape[1] == 2 else torch.cat([1 - values, values], 1)
            return (two[:, 1] / two[:, 0]).log().float().numpy()
        others = values[:, [0, *range(2, values.shape[1])]]
        rest = others.amax(1) if output.argmax else others.sum(1)
        return (values[:, 1] / rest).log().float().numpy()

    return Callback(function)


@pytest.mark.parametrize("kind", MISREAD)
def test_a_probability_is_not_read_as_a_logit(kind):
    """In an attack and where Conserv is made; what the error says gives the numbers of the logit."""
    form, output, message, remedy = MISREAD[kind]
    with pytest.raises(ModelError, match=message):
        run(Ring(form), output=output)
    with pytest.raises(ModelError, match=message):
        Conserv(model=Ring(form), features=FEATURES, budget=Budget(rms=0.05), output=output)
    with pytest.raises(ModelError, match=message):
        baselines(X, Ring(form), FEATURES, budget=Budget(rms=0.05), output=output, names=["random"])
    mended, expected = run(Ring(form), output=remedy), run(logits(form, remedy))
    np.testing.assert_allclose(mended.score_nominal, expected.score_nominal, rtol=2e-3)
    assert expected.fooling_ratio > 0.05
    assert mended.fooling_ratio == pytest.approx(expected.fooling_ratio, abs=0.03)
    assert mended.verdict.passed


def test_two_columns_of_a_function():
    """``Callback(classifier.predict_proba)``: the error no longer recommends to take them for logits."""
    function = Callback(lambda x: pair(1.5 - torch.from_numpy(x**2).sum(1)).numpy())
    with pytest.raises(ModelError, match=r"which sum to 1: say output='probability'$"):
        run(function)
    mended, expected = run(function, output="probability"), run(Ring())
    np.testing.assert_allclose(mended.score_nominal, expected.score_nominal, rtol=1e-5)
    assert mended.fooling_ratio == pytest.approx(expected.fooling_ratio, abs=0.03)


def test_logits_of_several_classes_are_what_they_were():
    """Columns that are no probabilities are pointed to Classes, which reads them as logits."""
    form = lambda z: torch.stack([torch.zeros_like(z), z], 1)  # noqa: E731
    with pytest.raises(ModelError, match=r"; output=Classes\(target=…\) reads several classes$"):
        run(Ring(form))
    assert same(run(Ring(form), output=Classes(1)), run(Ring()))


@pytest.mark.parametrize("count", [3, 25, 400])
def test_logits_that_are_in_the_range_by_chance(count):
    """Events in the middle have logits in 0 … 1 only; events on all of the axes show what they are."""
    x = 0.3 * X[:count]
    values = Ring()(torch.from_numpy(x)).detach() - 0.5
    x = x[((values > 0) & (values < 1)).numpy()]
    result = run(Ring(lambda z: z - 0.5), x)
    np.testing.assert_allclose(result.score_nominal, 1 / (1 + np.exp((x**2).sum(1) - 1)), rtol=1e-5)


def test_a_network_that_has_learned_nothing_is_taken():
    """Its logits are all between 0 and 1 on the axes, and are not far beyond them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
    with torch.no_grad():
        network[2].weight *= 0.2
        network[2].bias.fill_(0.5)
        values = network(torch.from_numpy(X))[:, 0]
    assert 0 < float(values.min()) < float(values.max()) < 1
    result = run(network)
    np.testing.assert_allclose(result.score_nominal, torch.sigmoid(values), rtol=1e-5)
    made = Conserv(model=network, features=FEATURES, budget=Budget(rms=0.05))
    assert made.output == "logit"


def test_logits_that_never_leave_the_range_need_a_word():
    """``narrow logit`` insists: the scores are those of the numbers, one or one per class."""
    narrow = lambda z: 0.5 + 0.4 * torch.tanh(z)  # noqa: E731
    classes = lambda z: torch.stack([torch.zeros_like(z), narrow(z)], 1)  # noqa: E731
    with pytest.raises(ModelError, match=r"output='narrow logit' if they are logits all the same"):
        run(Ring(narrow))
    point = float(torch.sigmoid(torch.tensor(0.5)))  # z = 0
    one = run(Ring(narrow), output="narrow logit", working_point=point)
    two = run(Ring(classes), output=Classes(1, output="narrow logit"), working_point=point)
    expected = torch.sigmoid(narrow(1.5 - torch.from_numpy(X**2).sum(1)))
    np.testing.assert_allclose(one.score_nominal, expected, rtol=1e-5)
    assert same(one, two)


def test_a_bound_takes_logits():
    """A probability is nowhere on the other side, which would be a bound of 0."""
    x = X[(X**2).sum(1) < 1.2]
    with pytest.raises(
        InputError, match=r"gives only 0\.\d+ … 0\.\d+, as a probability does; give lambda x:"
    ):
        fooling_bound(x, Ring(torch.sigmoid), FEATURES, direction="background", cells=60)
    assert fooling_bound(x, Ring(), FEATURES, direction="background", cells=60).outer > 0


# --- classifiers as they are --------------------------------------------------------------------------------


def boosted(x=X, labels=LABEL):
    """Boosted trees of scikit-learn."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    return ensemble.GradientBoostingClassifier(n_estimators=15, random_state=0).fit(x, labels)


def forest(x=X, labels=LABEL):
    """A forest of scikit-learn."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    return ensemble.RandomForestClassifier(n_estimators=15, max_depth=5, random_state=0).fit(x, labels)


def piped(x=X, labels=LABEL):
    """Several steps of scikit-learn."""
    pipeline = pytest.importorskip("sklearn.pipeline")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    linear = pytest.importorskip("sklearn.linear_model")
    steps = (preprocessing.PolynomialFeatures(2), preprocessing.StandardScaler(), linear.LogisticRegression())
    return pipeline.make_pipeline(*steps).fit(x, labels)


def xgboost(x=X, labels=LABEL):
    """Boosted trees of XGBoost."""
    package = pytest.importorskip("xgboost")
    return package.XGBClassifier(n_estimators=15, max_depth=3, n_jobs=1).fit(x, labels)


def lightgbm(x=X, labels=LABEL):
    """Boosted trees of LightGBM."""
    package = pytest.importorskip("lightgbm")
    return package.LGBMClassifier(n_estimators=15, n_jobs=1, verbose=-1).fit(x, labels)


MAKERS = {f.__name__: f for f in (boosted, forest, piped, xgboost, lightgbm)}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_classifier_is_a_model(kind):
    """The attack is that of Callback with output='probability', bit for bit, by fold and of a table too."""
    pd = pytest.importorskip("pandas")
    make = MAKERS[kind]
    classifier = make()
    expected = run(Callback(classifier.predict_proba), output="probability")
    np.testing.assert_allclose(expected.score_nominal, classifier.predict_proba(X)[:, 1], rtol=1e-4)
    assert same(run(classifier), expected)
    assert same(run(classifier, output="probability"), expected)
    assert same(
        run(classifier, output=Classes(1)),
        run(Callback(classifier.predict_proba), output=Classes(1, output="probability")),
    )
    fold = np.arange(len(X)) % 2
    others = [make(X[::2], LABEL[::2]), make(X[1::2], LABEL[1::2])]
    functions = [Callback(one.predict_proba) for one in others]
    assert same(run(others, fold=fold), run(functions, fold=fold, output="probability"))
    named = make(pd.DataFrame(X, columns=["x", "y"]))
    assert same(run(named), expected)  # no warning of missing names, which would be an error here


@pytest.mark.parametrize("kind", MAKERS)
def test_hashes_are_those_of_what_was_learned(kind):
    """The same classifier is the same model, another one another."""
    make = MAKERS[kind]
    one, again, other = (make_handles(made)[0] for made in (make(), make(), make(X, 1 - LABEL)))
    assert one.content == again.content != other.content


def test_columns_are_those_of_the_training():
    """Names, their order and their number are compared; what is not there, or not known, is named."""
    pd = pytest.importorskip("pandas")
    for make in MAKERS.values():
        try:
            named, plain = make(pd.DataFrame(X, columns=["y", "x"])), make(np.tile(X, 2))
        except pytest.skip.Exception:
            continue
        with pytest.raises(
            ModelError, match=r"was trained on in the order y, x; the features are x, y: give"
        ):
            run(named)
        with pytest.raises(ModelError, match=r"was trained on 4 columns; there are 2 features: x, y"):
            run(plain)
        strange = [Feature("x", AXIS), Feature("pt", AXIS)]
        text = r"\(\w+\) was trained on y, x; of these there is no feature y, and it does not know pt: name"
        with pytest.raises(ModelError, match=text):
            Conserv(model=named, features=strange, budget=Budget(rms=0.05))
        text = r"model of fold 1 \(\w+\) was trained on"
        with pytest.raises(ModelError, match=text):
            run([make(), named], fold=np.arange(len(X)) % 2)
        swapped = run(named, X[:, ::-1].copy(), FEATURES[::-1])
        expected = named.predict_proba(pd.DataFrame(X[:, ::-1], columns=["y", "x"]))[:, 1]
        np.testing.assert_allclose(swapped.score_nominal, expected, rtol=1e-4)


def test_columns_are_picked_by_name():
    """A classifier that needs a table gets one."""
    pd = pytest.importorskip("pandas")
    compose = pytest.importorskip("sklearn.compose")
    pipeline = pytest.importorskip("sklearn.pipeline")
    linear = pytest.importorskip("sklearn.linear_model")
    chosen = compose.ColumnTransformer([("one", "passthrough", ["x"])])
    table = pd.DataFrame(X, columns=["x", "y"])
    classifier = pipeline.make_pipeline(chosen, linear.LogisticRegression()).fit(table, X[:, 0] > 0)
    result = run(classifier)
    np.testing.assert_allclose(result.score_nominal, classifier.predict_proba(table)[:, 1], rtol=1e-4)
    assert result.fooling_ratio > 0.05


def test_which_class_is_signal_has_to_be_clear():
    """1 beside 0 is; of texts it has to be said, and three classes are read by Classes as probabilities."""
    words = np.where(LABEL, "higgs", "top")
    classifier = boosted(X, words)
    with pytest.raises(ModelError, match=r"has the classes 'higgs', 'top', of which none is signal beyond"):
        run(classifier)
    expected = run(Callback(boosted().predict_proba), output="probability")
    told = run(classifier, output=Classes(target=0))
    assert told.fooling_ratio == pytest.approx(expected.fooling_ratio, abs=0.03)
    np.testing.assert_allclose(told.score_nominal, expected.score_nominal, atol=1e-5)
    several = boosted(X, np.digitize((X**2).sum(1), [1, 2.5]))
    text = (
        r"got \(64, 3\); its columns are probabilities, which sum to 1: say output=Classes\(target=…, output="
    )
    with pytest.raises(ModelError, match=text):
        run(several)
    explicit = run(Callback(several.predict_proba), output=Classes(0, output="probability"))
    np.testing.assert_allclose(explicit.score_nominal, several.predict_proba(X)[:, 0], rtol=1e-4)
    assert same(run(several, output=Classes(0)), explicit)


class Backwards:
    """A classifier of one's own, whose first column is signal."""

    classes_ = (1, 0)

    def predict_proba(self, x):
        """Probabilities of signal and background."""
        signal = 1 / (1 + np.exp((x**2).sum(1) - 1.5))
        return np.stack([signal, 1 - signal], axis=1)


def test_a_classifier_of_ones_own():
    """What has predict_proba is one; if its signal comes first, that has to be said."""
    with pytest.raises(
        ModelError, match=r"classes 1, 0, .* say output=Classes\(target=0\) for 1, or another"
    ):
        run(Backwards())
    told = run(Backwards(), output=Classes(0))
    np.testing.assert_allclose(told.score_nominal, Backwards().predict_proba(X)[:, 0], rtol=1e-5)
    assert told.fooling_ratio == pytest.approx(run(Ring()).fooling_ratio, abs=0.03)


def test_what_is_no_fitted_classifier():
    """The class, one that has not learned, a booster and one without probabilities are told what to do."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    svm = pytest.importorskip("sklearn.svm")
    with pytest.raises(ModelError, match=r"for this one a fitted GradientBoostingClassifier, not its class"):
        run(ensemble.GradientBoostingClassifier)
    with pytest.raises(
        ModelError, match=r"NotFittedError: This GradientBoostingClassifier instance is not fit"
    ):
        run(ensemble.GradientBoostingClassifier())
    with pytest.raises(ModelError, match=r"for this one a calibrated one, which has predict_proba"):
        run(svm.LinearSVC().fit(X, LABEL))


@pytest.mark.parametrize(("package", "method"), [("xgboost", "inplace_predict"), ("lightgbm", "predict")])
def test_a_booster_is_a_function(package, method):
    """The error names the method that takes a matrix, and it gives the numbers of the classifier."""
    classifier = MAKERS[package]()
    booster = classifier.get_booster() if package == "xgboost" else classifier.booster_
    with pytest.raises(ModelError, match=rf"Callback\(booster\.{method}\) with output='probability'"):
        run(booster)
    one = run(Callback(getattr(booster, method)), output="probability")
    np.testing.assert_allclose(one.score_nominal, classifier.predict_proba(X)[:, 1], rtol=1e-4)
    with pytest.raises(ModelError, match=SAYS + "output='probability'"):
        run(Callback(getattr(booster, method)))


# --- in a run, and on the command line ----------------------------------------------------------------------


def of_three(count=2000):
    """A classifier of the features of the small analysis."""
    columns = events(count)
    x = np.stack([columns[name] for name in "xyk"], axis=1)
    y = np.where(x[:, 1] == -999, 0, x[:, 1])
    return boosted(x, (x[:, 0] ** 2 + y**2 < 1.44).astype(int))


@pytest.mark.slow
def test_a_run_with_a_classifier(tmp_path):
    """Sums, in this process and in those of a pool, are those of Callback with output='probability'."""
    classifier = of_three()
    made = conserv(model=classifier)
    explicit = conserv(model=Callback(classifier.predict_proba), output="probability")
    assert made.output == explicit.output == "probability"
    assert difference(called(made, events()), called(explicit, events())) == 0
    files = write_files(tmp_path)
    expected = run_processor(IterativeExecutor(status=False), files, Analysis(explicit))["conserv"]
    for executor in (IterativeExecutor(status=False), FuturesExecutor(status=False, workers=1)):
        found = run_processor(executor, files, Analysis(made))["conserv"]
        assert difference(found, expected) <= 1e-12
    result = made.result(found)
    assert result.verdict.passed
    assert max(row.score_shift for row in result.fooling) > 0.001


class Sigmoid(Classifier):
    """The same with a sigmoid at its end."""

    def forward(self, x):
        """Probabilities, shape (events,)."""
        return torch.sigmoid(super().forward(x))


def write_sigmoid(path):
    """Write it as an analysis would export it."""
    rows = torch.export.Dim("events")
    exported = torch.export.export(Sigmoid().eval(), (torch.ones(4, 6),), dynamic_shapes=({0: rows},))
    torch.export.save(exported, path)


@pytest.mark.slow
def test_the_command_line_tells_probabilities(tmp_path, monkeypatch):
    """A sigmoid at the end is refused with its remedy, and with that the run has the scores of the logits."""
    (tmp_path / "user").mkdir()
    folder = prepare(tmp_path / "user", 600, quick=True)
    text = block("file: conserv.yaml") + "solver: {name: transport, steps: 8, rounds: 3}\ndevice: cpu\n"
    (folder / "conserv.yaml").write_text(text)
    write_sigmoid(folder / "sigmoid.pt2")
    (folder / "wrong.yaml").write_text(text.replace("classifier.pt2", "sigmoid.pt2"))
    right = text.replace("classifier.pt2", "sigmoid.pt2") + "output: probability\n"
    (folder / "right.yaml").write_text(right)
    monkeypatch.chdir(folder)
    with importable(folder):
        refused = call("run", "--config", "wrong.yaml", "--fileset", "fileset.json", "--out", "wrong")
        for name, out in (("conserv", "logits"), ("right", "probabilities")):
            done = call("run", "--config", f"{name}.yaml", "--fileset", "fileset.json", "--out", out)
            assert done.exit_code == 0, done.output
        results = [load_result(Path(out)) for out in ("logits", "probabilities")]
    assert refused.exit_code == 2
    assert "as probabilities are, and is said to give logits; say output='probability'" in " ".join(
        refused.output.split()
    )
    assert not Path("wrong").exists()
    first, second = (result.hist("score")[{"variation": "nominal"}].values() for result in results)
    assert first.sum() > 0
    np.testing.assert_allclose(second, first, rtol=1e-9)
    shifts = [max(abs(row.score_shift) for row in result.fooling) for result in results]
    assert shifts[0] > 0.001
    assert shifts[1] == pytest.approx(shifts[0], rel=0.3)
    assert results[1].verdict.passed
