"""What the plugin refuses, when it is made and when it is called: the offender and the remedy are told."""

from __future__ import annotations

from types import SimpleNamespace

import awkward as ak
import hist
import numpy as np
import pytest
import torch
from made_conserv import MISSING, WithK, call, conserv, contents, distance, events, features, near, regions
from torch import nn

from coffea_conserv import Budget, ConfigurationError, Feature, InputError, ModelError

AXIS = hist.axis.Regular(20, 0, 4)
EVERYWHERE = {"all": np.ones(400, dtype=bool)}


@pytest.fixture(scope="module")
def plain():
    """Return an attack that moves nothing, which is all that errors need."""
    return conserv(budget=Budget(move=0))


# --- the call ----------------------------------------------------------------------------------------------


def without(name):
    """Columns without one."""
    return {key: value for key, value in events().items() if key != name}


SELECTED = np.arange(400) % 2 == 0
CALLS = {
    r"dataset 'toy': weight= is needed for simulation; for real data say data=True": {"weight": None},
    r"dataset 'toy': 2 of 400 weights are NaN or infinite; select": {
        "weight": np.where(np.arange(400) == 3, np.nan, np.where(np.arange(400) == 7, np.inf, 1.0))
    },
    r"dataset 'toy': 399 of 400 weights are not 1, but data=True says real data": {
        "weight": np.where(np.arange(400) == 3, 1.0, 2.0),
        "data": True,
    },
    r"weight must have one value for each of the 400 events, got shape \(399,\)": {"weight": np.ones(399)},
    r"weight needs one value per event, got shape \(400, 1\)": {"weight": np.ones((400, 1))},
    r"regions=\{name: mask\} is needed: limits hold where somebody checks": {"regions": {}},
    r"regions=\{name: mask\} is needed": {"regions": None},
    r"region 'all' must be a Boolean mask of the 400 events, got bool of \(200,\)": {
        "regions": {"all": np.ones(200, dtype=bool)}
    },
    r"region 'all' must be a Boolean mask of the 400 events, got int64 of \(400,\)": {
        "regions": {"all": np.ones(400, dtype=np.int64)}
    },
    r"region 'all' must be a Boolean mask .* got int64 of \(200,\)": {
        "regions": {"all": np.flatnonzero(SELECTED)}
    },
    r"region 'all' has missing entries": {"regions": {"all": ak.Array([True] * 399 + [None])}},
    r"missing column\(s\) x, y; given are k": {"columns": {"k": events()["k"]}},
    r"missing column\(s\) y; given are k, x": {"columns": ak.Array(without("y"))},
    r"columns need names: give a dict or a record array, got an array of float64": {
        "columns": np.ones((400, 3))
    },
    r"column 'x' has several values per event .*ak\.firsts": {
        "columns": {**events(), "x": ak.Array([[1.0]] * 400)}
    },
    r"all columns need one value per selected event, got shapes": {
        "columns": {**events(), "x": np.ones(300)}
    },
    r"NaN or infinity in x \(1 events\); select these events away or declare them with missing=": {
        "columns": {**events(), "x": np.where(np.arange(400) == 5, np.nan, 1.0)}
    },
    r"400 values of k are not integers": {"columns": {**events(), "k": np.full(400, 1.5)}},
    r"context 'limit' must have one value for each of the 400 events, got \(2,\)": {
        "context": {"limit": np.ones(2)}
    },
    r"context 'x' has the name of a feature, which moves; choose another name": {
        "context": {"x": np.ones(400)}
    },
    r"no dataset: give events= \(their metadata name it\) or dataset=": {"dataset": None},
    r"no chunk identity: give events= as coffea's Runner hands them out, or chunk=": {"chunk": None},
    r"no chunk identity": {"chunk": None, "events": SimpleNamespace(metadata={"dataset": "W"})},
    r"no chunk identity: .*": {
        "chunk": None,
        "events": SimpleNamespace(metadata={"dataset": "W", "fileuuid": "u", "entrystart": 0}),
    },
}


@pytest.mark.parametrize("message", CALLS)
def test_calls_that_are_refused(plain, message):
    """Weights, regions, columns, context and identity: nothing is guessed."""
    options = dict(CALLS[message])
    with pytest.raises(InputError, match=message):
        call(plain, events(), **{"regions": EVERYWHERE, **options}) if "columns" not in options else plain(
            weight=np.ones(400), regions=EVERYWHERE, dataset="toy", chunk="c", **options
        )


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (None, r"2 models need fold=, the fold of each event in 0 … 1"),
        (np.arange(400) % 3, r"fold must be one integer in 0 … 1 for each of the 400 events"),
        (-np.ones(400), "fold must be one integer"),
        (np.zeros(399), "fold must be one integer"),
        (np.full(400, 0.5), "fold must be one integer"),
        (np.full(400, np.nan), "fold must be one integer"),
        (np.array(["a"] * 400), "fold must hold numbers"),
    ],
)
def test_folds_that_are_refused(fold, message):
    """With several models each event has a fold, and one that exists."""
    two = conserv(model=[WithK(), WithK(1.0)], budget=Budget(move=0))
    with pytest.raises(InputError, match=message):
        call(two, events(), fold=fold)


@pytest.mark.parametrize("fold", [np.full(400, 0.7), -np.ones(400), np.zeros(399), np.full(400, np.nan)])
def test_folds_are_checked_with_a_single_model_too(plain, fold):
    """A fold that is none would be an error once there are more models; a good one makes no difference."""
    with pytest.raises(InputError, match="fold must be one integer ≥ 0 for each of the 400 events"):
        call(plain, events(), fold=fold)
    assert contents(call(plain, events(), fold=np.arange(400) % 3))


@pytest.mark.parametrize("cut", [lambda score: score > 0.5, lambda score: score < 0.3])
@pytest.mark.parametrize("data", [True, False])
def test_a_region_that_is_a_cut_on_the_score(plain, cut, data):
    """Such a region is left by what is attacked: the text says to use bins of the score."""
    columns = events()
    with torch.no_grad():
        logit = WithK()(torch.tensor(np.stack([columns[n] for n in "xyk"], axis=1), dtype=torch.float32))
    score = torch.sigmoid(logit).numpy()
    with pytest.raises(InputError, match=r"region 'sr' is a cut on the score.*bins of the score"):
        call(plain, columns, regions={"sr": cut(score)}, data=data)
    few = cut(score) & (np.arange(400) < 60)
    assert call(plain, columns, regions={"sr": few})  # too few to tell


def test_a_model_that_gives_nan_for_some_events():
    """The number of events is told; nothing is filled."""

    class Root(nn.Module):
        def forward(self, x):
            return torch.where(x[:, 0] > 2.9, torch.nan, x[:, 0] + x[:, 1] + x[:, 2])

    columns = events()
    columns["x"][:] = np.where(np.arange(400) < 3, 2.95, columns["x"].clip(max=2.5))
    with pytest.raises(InputError, match=r"the model gives NaN or infinity for 3 of 400 events"):
        call(conserv(model=Root(), budget=Budget(move=0)), columns)


# --- settings ----------------------------------------------------------------------------------------------

SETTINGS = {
    r"objective='both' is not known; choose one of score, cross": {"objective": "both"},
    r"solver='magic' is not known; choose one of transport": {"solver": "magic"},
    r"solver must be a name or the settings of one, got 3": {"solver": 3},
    r"working_point=1.0 must lie between 0 and 1": {"working_point": 1.0},
    r"budget must be a Budget, such as Budget\(rms=0.05\), got 0.05": {"budget": 0.05},
    r"seed must be an integer, got None": {"seed": None},
    r"seed must be an integer, got 1.5": {"seed": 1.5},
    r"device='gpu' is not known; choose one of auto, cpu, cuda": {"device": "gpu"},
    r"at least one feature is needed": {"features": []},
    r"features must be a list of Feature, got 'x'": {"features": ["x"]},
    r"feature names must differ, x is there more than once": {"features": [*features(), features()[0]]},
    r"a feature cannot be called 'score'": {"features": [*features()[:2], Feature("score", AXIS)]},
    r"band= has no entry for feature 'y'; it has x": {"budget": Budget(band={"x": 0.1})},
    r"watch\['x'\]: this name belongs to a feature": {"watch": {"x": (distance, AXIS)}},
    r"watch\['r'\] must be a pair \(torch function, hist axis\)": {"watch": {"r": distance}},
    r"watch\['r'\]: a function of the features is needed, got 3": {"watch": {"r": (3, AXIS)}},
    r"'r': .* has no bin for every number": {
        "watch": {"r": (distance, hist.axis.Regular(3, 0, 1, flow=False))}
    },
    r"'score': the axis must be one of hist\.axis, got 20": {"score": 20},
    r"'score': a growing axis has no fixed bins": {"score": hist.axis.Regular(20, 0, 1, growth=True)},
    r"'score': .* has no bins in the score; use hist\.axis\.Regular or Variable": {
        "score": hist.axis.Integer(0, 1)
    },
    r"'score': .* has no bins in the score": {"score": hist.axis.Regular(20, 0, 1, circular=True)},
    r"'score': .* must be one of hist|'score': .* has no bins": {"score": hist.axis.StrCategory(["a"])},
    r"'score': edges must be finite": {"score": hist.axis.Variable([0, 0.5, np.inf])},
    r"'score': .* loses events.* holds 0.2 to 1 without under- or overflow; cover 0 to 1": {
        "score": hist.axis.Regular(20, 0.2, 1, flow=False)
    },
    r"'score': .* loses events": {"score": hist.axis.Regular(20, 0, 0.9, overflow=False)},
    r"'score': .* loses events: .*": {"score": hist.axis.Variable([0.1, 0.5, 1], underflow=False)},
}


@pytest.mark.parametrize("message", SETTINGS)
def test_settings_that_are_refused(message):
    """Told when the attack is made, that is on the client and before any task is sent."""
    with pytest.raises(ConfigurationError, match=message):
        conserv(**SETTINGS[message])


@pytest.mark.parametrize(
    "axis",
    [
        hist.axis.Regular(20, 0, 1, flow=False),
        hist.axis.Regular(20, -1, 2, flow=False),
        hist.axis.Regular(4, 0.2, 0.8),
        hist.axis.Variable([0, 0.9, 0.99, 1], underflow=False, overflow=False),
        hist.axis.Variable([0.5, 1], overflow=False),
    ],
)
def test_score_axes_on_which_no_event_is_lost(axis):
    """Any axis that covers 0 to 1, or has flow where it does not, holds every event."""
    columns = events()
    columns["x"][:9] = 1e-6 * np.arange(9)
    columns["x"][9:18] = 30 + np.arange(9)
    sure = WithK(radius=9.0)  # a logit above 17 is 1 in single precision
    made = call(conserv(model=sure, score=axis, budget=Budget(move=0)), columns, weight=np.ones(400))
    for region, mask in regions(columns).items():
        assert contents(made)["hist", "score", "toy", region, "nominal"][0].sum() == mask.sum()


def test_a_model_is_checked_when_the_attack_is_made():
    """Wrong inputs and missing gradients are told on the client; a good model is checked once only."""
    with pytest.raises(
        ModelError, match=r"model cannot take 3 features .* with x in .*, y in .*, k in 0 … 3: "
    ):
        conserv(model=nn.Linear(5, 1))
    with pytest.raises(ModelError, match=r"model of fold 1 cannot take 3 features"):
        conserv(model=[WithK(), nn.Linear(5, 1)])
    with pytest.raises(ModelError, match=r"nothing\.pt2 does not exist"):
        conserv(model="nothing.pt2")


# --- functions of the user ---------------------------------------------------------------------------------


def raising(_):
    """Fail."""
    msg = "boom"
    raise ZeroDivisionError(msg)


def unreadable(_):
    """Fail in a way that coffea would take for a bad file."""
    msg = "table.txt"
    raise FileNotFoundError(msg)


def in_place(x):
    """Change what is given."""
    return x["x"].mul_(2)


WRONG = {
    r"fails: ZeroDivisionError: boom. It gets the columns x, y, k": raising,
    r"fails: FileNotFoundError: table.txt": unreadable,
    r"fails: RuntimeError: .*(3|5)": lambda x: x["x"] + torch.ones(5),
    r"returns ndarray, not a tensor; it must return one value per event, a tensor of": lambda x: np.ones(16),
    r"returns NoneType, not a tensor": lambda x: None,
    r"returns shape \(24, 1\) for 24 events": lambda x: x["x"][:, None] > 0,
    r"returns shape \(\) for 24 events": lambda x: (x["x"] > 0).all(),
    r"returns shape \(23,\) for 24 events": lambda x: x["x"][1:] > 0,
    r"returns torch\.complex64": lambda x: x["x"] * 1j,
    r"gives an event another value where others are beside it": lambda x: x["x"] > x["x"].mean(),
    r"changes its columns in place, which moves the events": in_place,
}


@pytest.mark.parametrize("message", WRONG)
def test_functions_that_are_refused_when_the_attack_is_made(message):
    """A function that fails, returns something else or mixes events is named before any task is sent."""
    function = WRONG[message]
    with pytest.raises(ConfigurationError, match=rf"watch\['r'\] {message}") as caught:
        conserv(watch={"r": (function, AXIS)})
    assert not isinstance(caught.value.__cause__, OSError)
    if function is not in_place:
        with pytest.raises(ConfigurationError, match=f"valid {message}"):
            conserv(valid=function)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8])
def test_valid_returns_booleans(dtype):
    """Numbers are refused: 0.3 would count as possible."""
    with pytest.raises(ConfigurationError, match=rf"valid returns {dtype}; .* a tensor of Booleans"):
        conserv(valid=lambda x: near(x).to(dtype))
    assert conserv(valid=near)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bool])
def test_watched_quantities_of_any_number_type(dtype):
    """A count or a flag can be watched as well."""
    made = conserv(watch={"r": (lambda x: (x["x"].abs() * 2).to(dtype), AXIS)}, budget=Budget(move=0))
    expected = hist.Hist(AXIS).fill((torch.tensor(events()["x"]).abs() * 2).to(dtype).double().numpy())
    found = call(made, events(), regions=EVERYWHERE, weight=np.ones(400)).hists["r"]
    assert np.array_equal(found[0, 0, 0, :].values(flow=True), expected.values(flow=True))


def below(x, limit, **_):
    """Cut on a column of the context."""
    return x < limit


CONTEXT = {
    "item": lambda x: x["x"] < x["limit"],
    "get": lambda x: x["x"] < x.get("limit"),
    "in": lambda x: x["x"] < x["limit"] if "limit" in x else None,
    "keywords": lambda x: below(**x),
    "keys": lambda x: x["x"] < x[next(key for key in x.keys() if key.startswith("l"))],  # noqa: SIM118
    "items": lambda x: next(x["x"] < value for key, value in x.items() if key == "limit"),
    "copy": lambda x: below(**dict(x)),
    "merged": lambda x: below(**(x | {"z": x["x"]})),
}


@pytest.mark.parametrize("way", CONTEXT)
def test_functions_that_need_context_are_tried_at_the_call(way):
    """However a column of the context is asked for, nothing is misreported before there is a context."""
    function = CONTEXT[way]
    made = conserv(valid=function, watch={"r": (lambda x: function(x).float(), AXIS)})
    assert call(made, events(), context={"limit": np.full(400, 9.0)})
    with pytest.raises(InputError, match=r"watch\['r'\] (asks for 'limit'|fails)"):
        call(made, events())


def test_a_missing_context_column_is_named_at_the_call():
    """Function, column and the columns that there are."""
    made = conserv(valid=lambda x: x["x"] < x["limit"], watch=None)
    message = r"valid asks for 'limit', which is not among its columns \(x, y, k, cut\); give it in context="
    with pytest.raises(InputError, match=message):
        call(made, events(), context={"cut": np.ones(400)})
    made = conserv(watch={"r": (lambda x: x["x"] * x["scale"], AXIS)})
    with pytest.raises(InputError, match=r"watch\['r'\] asks for 'scale'.*\(x, y, k\)"):
        call(made, events())
    with pytest.raises(InputError, match=r"watch\['r'\] asks for 'scale'"):
        call(made, events(), data=True)


LATE = {
    r"returns shape \(1,\) for 400 events": lambda x: x["limit"][:1] > 0,
    r"returns torch\.float32": lambda x: x["limit"].float(),
    r"fails: RuntimeError": lambda x: x["limit"] + torch.ones(7),
    r"fails: FileNotFoundError: table\.txt": lambda x: unreadable(x["limit"]),
}


@pytest.mark.parametrize("message", LATE)
def test_functions_that_are_refused_at_the_call(message):
    """What could not be tried before is told at the call, and never as an OSError."""
    made = conserv(valid=LATE[message])
    with pytest.raises(InputError, match=f"valid {message}") as caught:
        call(made, events(), context={"limit": np.ones(400)})
    assert not isinstance(caught.value.__cause__, OSError)
    real = call(made, events(), context={"limit": np.ones(400)}, data=True)
    assert real.real == {"toy": 1}


def test_functions_are_not_asked_about_no_event():
    """A function need not know what to do with an empty chunk."""
    made = conserv(
        watch={"r": (lambda x: x["x"] * x["limit"].max(), AXIS)}, valid=lambda x: x["x"] < x["limit"].max()
    )
    assert call(made, events(0), context={"limit": []})


def test_missing_values_reach_the_functions():
    """A function sees what is declared as missing, and decides what to do with it."""
    seen = []

    def look(x):
        seen.append(bool((x["y"] == MISSING).any()))
        return x["x"]

    call(conserv(watch={"r": (look, AXIS)}, budget=Budget(move=0)), events())
    assert seen[-1]


# --- the result --------------------------------------------------------------------------------------------


def test_the_whole_output_is_no_sums(plain):
    """The likeliest slip: the output of the run instead of what the call returned."""
    output = {"conserv": call(plain, events()), "cutflow": {"toy": 400}}
    with pytest.raises(InputError, match=r"got a dict; it is in output\['conserv'\]: give that"):
        plain.result(output)
    assert plain.result(output["conserv"]).verdict.passed
