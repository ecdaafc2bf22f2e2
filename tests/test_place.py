"""A GPU without enough memory: half as much at a time, at last the CPU, and the result says so."""

from __future__ import annotations

import hist
import numpy as np
import pytest
import torch
from made_conserv import Ring, WithK, call, conserv, difference, events, features
from rich.console import Console

from coffea_conserv import Budget, ConfigurationError, Feature, attack, compare, fooling_curve, run_controls
from coffea_conserv.models import device as module_under_test
from coffea_conserv.models.device import Place, check_device, in_memory, places
from coffea_conserv.report.console import print_report

CPU = torch.device("cpu")
STAGES = [Place(CPU, 128), Place(CPU, 64), Place(CPU, module_under_test.BUFFER["cpu"])]


def full():
    """The error of torch."""
    return torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has none")


class Hungry(WithK):
    """The model of a GPU with memory for 100 events, and of a CPU that is known by its large batches."""

    def forward(self, x):
        """Logits, shape (events,)."""
        if 100 < len(x) <= 128:
            raise full()
        return super().forward(x)


class Starving(WithK):
    """No memory on the GPU, which is known by the 16 events that both of its batches leave of 400."""

    def forward(self, x):
        """Logits, shape (events,)."""
        if len(x) == 16:
            raise full()
        return super().forward(x)


@pytest.fixture
def small_gpu(monkeypatch):
    """The stages of a GPU, for 128 events, then 64, then the CPU, all of them on the CPU of this machine."""
    monkeypatch.setattr(module_under_test, "places", lambda device: iter(STAGES))


def test_stages_are_halves_and_at_last_the_cpu(monkeypatch):
    """Of a GPU; a CPU has one stage."""
    assert [str(place) for place in places("cpu")] == ["cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    names = [str(place) for place in places("auto")]
    assert names[:2] == ["cuda", "cuda, 131072 events at a time"]
    assert names[-2:] == ["cuda, 4096 events at a time", "cpu"]
    assert [place.batch for place in places("cuda:0")][:-1] == [2**k for k in range(18, 11, -1)]


def test_it_begins_anew_and_says_where_it_ended(monkeypatch, caplog):
    """Each attempt gets its place; what is no lack of memory is raised, and so is a lack on the CPU."""
    monkeypatch.setattr(module_under_test, "places", lambda device: iter(STAGES))
    tried = []

    def compute(place):
        tried.append(place)
        if len(tried) < 3:
            raise full()
        return 7

    assert in_memory("auto", compute) == (7, STAGES[2])
    assert tried == STAGES
    assert "no memory on cpu, 128 events at a time (CUDA out of memory); trying cpu, 64 events" in caplog.text

    def never(place):
        raise full()

    with pytest.raises(torch.cuda.OutOfMemoryError):
        in_memory("auto", never)

    def wrong(place):
        raise RuntimeError("of the user")

    tried.clear()
    with pytest.raises(RuntimeError, match="of the user"):
        in_memory("auto", wrong)


@pytest.mark.usefixtures("small_gpu")
def test_an_attack_without_memory_is_that_of_a_smaller_batch():
    """The result says where it was computed, and is what that place gives by itself."""
    x = np.stack([events(400)[name] for name in ("x", "y", "k")], axis=1).astype(np.float32)
    options = {"budget": Budget(rms=0.1, correlation=0.1), "objective": "score", "seed": 1}
    found = attack(x, Hungry(), features(), **options)
    assert found.place == "cpu, 64 events at a time"
    assert found.verdict.passed
    assert (found.x != x).any()
    last = attack(x, Starving(), features(), **options)
    assert last.place == "cpu"
    same = attack(x, WithK(), features(), **options)
    assert same.place == "cpu, 128 events at a time"
    np.testing.assert_allclose(last.score_nominal, same.score_nominal, rtol=1e-5)


@pytest.mark.usefixtures("small_gpu")
def test_all_calls_of_arrays_fall_back():
    """Baselines, curves and controls too."""
    x = np.random.default_rng(1).normal(size=(300, 2)).astype(np.float32)
    axis = hist.axis.Regular(20, -3, 3)
    two = [Feature("x", axis), Feature("y", axis)]

    class Two(Ring):
        def forward(self, x):
            if 100 < len(x) <= 128:
                raise full()
            return super().forward(x)

    options = {"budget": Budget(rms=0.1, correlation=0.1)}
    assert next(row.name for row in compare(x, Two(), two, **options)) == "attack"
    curve = fooling_curve(x, Two(), two, budgets=[options["budget"]])
    assert curve[0].place == "cpu, 64 events at a time"
    assert {row.kind for row in run_controls(x, Two(), two, **options)} >= {"attack", "none", "random"}


@pytest.mark.usefixtures("small_gpu")
def test_a_chunk_without_memory_is_attacked_and_recorded():
    """In the merged result, its report and its JSON file, beside chunks that had memory."""
    made = conserv(model=Hungry())
    large, small = (call(made, events(n), chunk=f"file:0-{n}") for n in (400, 90))
    assert large.places == {"cpu, 64 events at a time": 1}
    assert small.places == {"cpu, 128 events at a time": 1}
    result = made.result(large + small + call(made, events(80), chunk="file:400-480"))
    assert result.places == {"cpu, 64 events at a time": 1, "cpu, 128 events at a time": 2}
    assert result.to_dict()["computed_on"] == result.places
    console = Console(record=True, width=150)
    print_report(result, console)
    text = " ".join(console.export_text().split())
    assert "2 chunks on cpu, 128 events at a time; 1 chunks on cpu, 64 events at a time" in text
    assert difference(call(made, events(400)), call(made, events(400))) == 0


def test_an_unknown_device_is_refused():
    """Before anything else."""
    with pytest.raises(ConfigurationError, match="device='tpu' is not known; choose one of auto, cpu, cuda"):
        check_device("tpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_memory_of_a_gpu_that_is_used_up():
    """With a hundredth of the memory of this GPU a model with large activations still gives an answer."""

    class Wide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(2, 4096), torch.nn.Linear(4096, 1))

        def forward(self, x):
            return self.layers(x).squeeze(1)

    x = np.random.default_rng(1).normal(size=(300_000, 2)).astype(np.float32)
    axis = hist.axis.Regular(20, -3, 3)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        found = attack(
            x,
            Wide(),
            [Feature("x", axis), Feature("y", axis)],
            budget=Budget(rms=0.1, correlation=0.1),
            device="cuda",
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found.place != "cuda"
    assert found.verdict.passed
