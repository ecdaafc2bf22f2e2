"""Settings of the second solver, the candidates that it draws, and how solvers are found."""

from __future__ import annotations

import functools
import hashlib
import math
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import hist
import numpy as np
import pytest
from made_problems import (
    CPU,
    Ring,
    made_batch,
    made_problem,
    made_task,
)
from test_transport import assert_kept

from coffea_conserv import Budget, ConfigurationError, Feature
from coffea_conserv.attacks.batch import Batch
from coffea_conserv.attacks.engine import perturb
from coffea_conserv.attacks.registry import SOLVERS, named_solver
from coffea_conserv.solvers.search import arrays
from coffea_conserv.solvers.search.candidates import Column
from coffea_conserv.solvers.search.solver import PRESETS, Search

OPEN = {"rms": Budget(rms=0.05, correlation=0.02, watch=0.2)}


def attacked(batch, task, direction="signal", seed=1):
    """Attacked features."""
    return perturb(batch, task, [Ring()], direction, seed, CPU).x


def test_candidates_use_the_room_on_their_own_side():
    """Upward and downward draws reach up to the edge of their side and not beyond; angles go round."""
    axes = hist.axis.Regular(20, -3, 5), hist.axis.Regular(8, -np.pi, np.pi, circular=True)
    axes += (hist.axis.Regular(4, -1, 3), hist.axis.Integer(0, 9))
    f = tuple(Feature(name, axis) for name, axis in zip("abcd", axes, strict=True))
    x = np.random.default_rng(0).uniform(-2, 2, (300, 4)).astype(np.float32)
    x[:, 2], x[:, 3] = x[:, 2] > 0, np.arange(300) % 7
    task = made_task(Budget(rms=0.1), features=f, watched=())
    _, problem = made_problem(Batch(x, np.ones(300), np.zeros(300, dtype=np.int64)), task)
    for j in range(4):
        column, now = Column.make(problem, j), problem.x[:, j].numpy()
        for sign in (1.0, -1.0):
            changes = functools.partial(Search(num_candidates=400).changes, np.random.default_rng(1))
            values, fine = column.draw(now, now, np.zeros(300, dtype=np.int64), np.full(300, sign), changes)
            change = values.astype(float) - now[:, None]
            if j == 1:
                assert fine.all()
                assert (np.abs(values) <= np.float32(np.pi)).all()
                change = sign * np.mod(sign * change, 2 * np.pi)
                assert np.abs(change).max() == pytest.approx(np.pi, rel=0.01)
                continue
            assert (sign * change[fine] > 0).all()
            assert values[fine].min() >= now.min()
            assert values[fine].max() <= now.max()
            if j >= 2:
                assert set(np.unique(values[fine])) <= set(np.unique(now))
            far = (sign * change).max(1)
            room = now.max() - now if sign > 0 else now - now.min()
            np.testing.assert_allclose(far[room > 1e-3], room[room > 1e-3], rtol=0.1)


def test_a_grid_is_what_it_says():
    """From the smallest change on in equal steps, in standard deviations, up to the edge of all events."""
    settings = Search(num_candidates=None, min_change=0.2, step=0.5)
    rng = np.random.default_rng(0)
    found = settings.changes(rng, np.array([[1.0], [4.0]]), np.array([[2.0], [2.0]]))
    np.testing.assert_allclose(found, [[0.4, 1.4, 2.4, 3.4]] * 2)
    first = replace(settings, min_change=0.0).changes(rng, np.array([[1.0]]), np.array([[1.0]]))
    np.testing.assert_allclose(first[0, :2], [0.5, 1.0])
    batch, task = made_batch(1000), made_task(OPEN["rms"], solver=replace(settings, iterations=3))
    x = attacked(batch, task)
    assert_kept(batch, task, x)
    assert (x != batch.x).any()


def test_presets_are_the_ends_of_the_public_code():
    """By name, with the parameters that both have in common."""
    assert set(PRESETS) == {"tight", "loose"}
    for name, limits in {"tight": (0.005, 0.005), "loose": (0.01, 0.05)}.items():
        found = Search.preset(name)
        assert (found.limit_jsd, found.limit_frobenius) == limits
        assert (found.alpha, found.beta, found.num_candidates, found.iterations) == (6, 1, 150, 10)
    with pytest.raises(ConfigurationError, match=r"preset 'best' of search .* choose one of tight, loose"):
        Search.preset("best")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limit_jsd": -1}, r"search: limit_jsd must be a finite number from 0, got -1"),
        ({"limit_frobenius": math.nan}, r"search: limit_frobenius must be a finite number from 0, got nan"),
        ({"alpha": "6"}, r"search: alpha must be a finite number from 0, got '6'"),
        ({"step": 0.0}, r"search: step must be a finite number above 0, got 0.0"),
        ({"iterations": 1.5}, r"search: iterations must be a whole number from 0, got 1.5"),
        ({"num_candidates": 0}, r"search: num_candidates must be a whole number from 1, or None for a grid"),
        ({"beta": True}, r"search: beta must be a finite number from 0, got True"),
    ],
)
def test_wrong_parameters_are_named(change, message):
    """Before anything starts."""
    with pytest.raises(ConfigurationError, match=message):
        Search(**change)


def test_solvers_are_found_by_name_and_a_third_one_needs_no_change():
    """Names, settings, and anything else that can be bound and shows what it is."""
    assert list(SOLVERS) == ["transport", "search"]
    assert named_solver("search") == Search()

    @dataclass(frozen=True)
    class Idle:
        def bind(self, problem, seed):
            return Search(iterations=0).bind(problem, seed)

    class Nameless:
        bind = Idle.bind

    batch = made_batch(300)
    x = attacked(batch, made_task(OPEN["rms"], solver=named_solver(Idle())))
    np.testing.assert_array_equal(x, batch.x)
    with pytest.raises(ConfigurationError, match=r"'magic' is not known; choose one of transport, search$"):
        named_solver("magic")
    with pytest.raises(ConfigurationError, match=r"a name or the settings of one, got <class .*Search'>"):
        named_solver(Search)
    with pytest.raises(ConfigurationError, match=r"must show its settings; make it a frozen dataclass"):
        named_solver(Nameless())


def test_the_compiler_starts_with_the_search_only():
    """Whoever does not search does not wait for numba."""
    code = (
        "import sys, coffea_conserv.attacks.api as a; a.named_solver('search'); print('numba' in sys.modules)"
    )
    out = subprocess.run(  # noqa: S603 -- our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "False"


def test_compiled_code_of_another_version_is_not_looked_at():
    """Files on disk are named by the source of all that was compiled, so that old ones are never opened."""
    kernels = pytest.importorskip("coffea_conserv.solvers.search.kernels")
    text = (Path(arrays.__file__).read_bytes() + Path(kernels.__file__).read_bytes()).decode()
    stamp = hashlib.sha256(text.encode()).hexdigest()[:12]
    for function in (kernels.measure, kernels.sweep, kernels.undo):
        assert function.stats.cache_path
        assert stamp in function._cache._impl.filename_base
