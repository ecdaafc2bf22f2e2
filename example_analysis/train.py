"""Train the classifiers of the two analyses on the events that the processors themselves select."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner, column_accumulator
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from example_analysis.inputs import read_fileset
from processors import htautau, ttbar_ww
from processors.classifier import Classifier, export
from processors.htautau_inputs import HiggsClassifier
from processors.ttbar_ww_inputs import TopClassifier

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = (
    "ANALYSES",
    "Analysis",
    "Collector",
    "Sample",
    "Settings",
    "Training",
    "auc",
    "main",
    "read_events",
    "train",
    "training_weights",
)

Fileset = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Analysis:
    """What differs between the two analyses: how events are read, what is signal, which classifier."""

    processor: Callable[..., Any]
    schema: Any
    classifier: Callable[[], Classifier]
    columns: tuple[str, ...]
    signals: tuple[str, ...]


ANALYSES = {
    "htautau": Analysis(htautau.HiggsToTauTau, BaseSchema, HiggsClassifier, htautau.COLUMNS, htautau.SIGNALS),
    "ttbar_ww": Analysis(
        ttbar_ww.LeptonJets, ttbar_ww.QuietNanoAODSchema, TopClassifier, ttbar_ww.COLUMNS, ttbar_ww.SIGNALS
    ),
}


@dataclass(frozen=True)
class Settings:
    """How to train.

    Parameters
    ----------
    epochs
        Passes over the training events; the learning rate falls to 0 along a cosine, so none is picked.
    batch
        Events per step.
    rate
        Initial learning rate of Adam.
    decay
        Weight decay of AdamW. Large, as few simulated Z bosons carry almost half of the weight of H → ττ: a
        model without it learns them by heart.
    clip
        Largest training weight, in units of the mean weight of its class.
    seed
        Seed of initial parameters and of the order of events.
    """

    epochs: int = 40
    batch: int = 1024
    rate: float = 3e-3
    decay: float = 0.5
    clip: float = 10.0
    seed: int = 1


@dataclass(frozen=True)
class Sample:
    """Selected simulated events: ``x`` (events, features), and per event ``signal``, ``weight``, ``fold``."""

    x: NDArray[np.float32]
    signal: NDArray[np.bool_]
    weight: NDArray[np.float64]
    fold: NDArray[np.int64]

    def take(self, which: NDArray[Any]) -> Sample:
        """Events of a mask or in the order of an index."""
        return Sample(self.x[which], self.signal[which], self.weight[which], self.fold[which])


@dataclass(frozen=True)
class Training:
    """What came out, by fold: the file of the model, and its AUC on its own, unseen fold.

    Parameters
    ----------
    models
        Files of torch.export.
    auc
        With the weights of the analysis, so that the hardest large background counts most: Z → ττ differs
        from H → ττ in little but the mass, which neutrinos hide.
    auc_unweighted
        With one vote per simulated event, however many were simulated of each process.
    """

    models: tuple[Path, ...]
    auc: tuple[float, ...]
    auc_unweighted: tuple[float, ...]


class Collector:
    """Takes the place of the attack in a processor and returns the selected simulated events instead."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns

    def __call__(self, columns: Mapping[str, NDArray[Any]], **extra: Any) -> dict[str, Any]:
        """Collect one chunk.

        Parameters
        ----------
        columns
            Arrays of shape (events,) by name.
        **extra
            ``weight``, ``events``, ``fold`` and ``data`` are used, the rest is not.

        Returns
        -------
        dict
            Process → ``x``, ``weight``, ``fold`` as accumulators; empty for real data.
        """
        if extra["data"]:
            return {}
        x = np.stack([np.asarray(columns[name], dtype=np.float32) for name in self.columns], axis=1)
        arrays = {"x": x, "weight": np.asarray(extra["weight"], dtype=np.float64), "fold": extra["fold"]}
        collected = {name: column_accumulator(array) for name, array in arrays.items()}
        return {extra["events"].metadata["process"]: collected}


def read_events(analysis: Analysis, fileset: Fileset, chunksize: int = 200_000) -> Sample:
    """Run the processor over the simulation and collect what it selects.

    Parameters
    ----------
    analysis
        The analysis, whose processor defines selection and columns.
    fileset
        coffea's fileset; real data in it are left out.
    chunksize
        Events per chunk. It has no influence on the result.

    Returns
    -------
    Sample
        In an order that depends on the values only.

    Raises
    ------
    ValueError
        If signal or background is missing.
    """
    simulation = {name: entry for name, entry in fileset.items() if not entry["metadata"]["is_data"]}
    runner = Runner(IterativeExecutor(status=False), schema=analysis.schema, chunksize=chunksize)
    output = runner(simulation, analysis.processor(Collector(analysis.columns)), treename="Events")
    collected: dict[str, Any] = output["conserv"]
    processes = sorted(collected)
    parts = [
        Sample(
            collected[process]["x"].value,
            np.full(len(collected[process]["weight"].value), process in analysis.signals),
            collected[process]["weight"].value,
            collected[process]["fold"].value,
        )
        for process in processes
    ]
    sample = Sample(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("x", "signal", "weight", "fold")
        )
    )
    if sample.signal.all() or not sample.signal.any():
        msg = f"signal {analysis.signals} and background are both needed, got events of {processes}"
        raise ValueError(msg)
    return sample.take(np.lexsort((*sample.x.T, sample.signal)))


def training_weights(sample: Sample, clip: float) -> NDArray[np.float32]:
    """Weights for the loss: absolute, clipped, and of equal sum for signal and background.

    Negative weights make the loss unbounded from below wherever they outnumber the others, so their absolute
    value is taken. That changes which function is learnt, not what is measured with it: yields, templates
    and AUC use the signed weights.

    Parameters
    ----------
    sample
        Training events.
    clip
        Largest weight, in units of the mean weight of its class: no single event leads the training.

    Returns
    -------
    numpy.ndarray
        Shape (events,), with mean 1.
    """
    weight = np.abs(sample.weight)
    for kind in (sample.signal, ~sample.signal):
        clipped = np.minimum(weight[kind], clip * weight[kind].mean())
        weight[kind] = clipped / clipped.sum()
    return np.asarray(weight * len(weight) / weight.sum(), dtype=np.float32)


def auc(score: NDArray[Any], signal: NDArray[np.bool_], weight: NDArray[Any]) -> float:
    """Area under the ROC curve: the weighted share of pairs in which signal scores higher; ties count half.

    Parameters
    ----------
    score, signal, weight
        Arrays of shape (events,); weights may be negative.
    """
    _, rank = np.unique(score, return_inverse=True)
    background = np.bincount(rank, np.where(signal, 0, weight))
    foreground = np.bincount(rank, np.where(signal, weight, 0))
    below = np.cumsum(background) - background / 2
    return float((foreground * below).sum() / (foreground.sum() * background.sum()))


def train(
    analysis: Analysis,
    fileset: Fileset,
    folder: Path,
    settings: Settings | None = None,
    console: Console | None = None,
) -> Training:
    """Train one classifier per fold and write it to ``model_fold<k>.pt2``, with ``training.json`` beside it.

    Model *k* is trained on the events outside of fold *k*, applied to those inside, and judged there.

    Parameters
    ----------
    analysis
        The analysis.
    fileset
        coffea's fileset.
    folder
        Where to write; made if it does not exist.
    settings
        How to train; defaults if ``None``.
    console
        Where to show progress; silent if ``None``.

    Returns
    -------
    Training
        Paths and AUC by fold.
    """
    settings = settings or Settings()
    sample = read_events(analysis, fileset)
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    areas: list[tuple[float, float]] = []
    with _one_thread(), Progress(console=console, disable=console is None) as progress:
        for fold in range(2):
            step = progress.add_task(f"model {fold}", total=settings.epochs)
            model = _fit(
                analysis, sample.take(sample.fold != fold), settings, partial(progress.advance, step)
            )
            unseen = sample.take(sample.fold == fold)
            with torch.no_grad():
                score = model(torch.from_numpy(unseen.x)).numpy()
            votes = np.ones(len(score))
            areas.append((auc(score, unseen.signal, unseen.weight), auc(score, unseen.signal, votes)))
            paths.append(folder / f"model_fold{fold}.pt2")
            torch.export.save(export(model, len(analysis.columns)), paths[-1])
    weighted, unweighted = zip(*areas, strict=True)
    training = Training(tuple(paths), weighted, unweighted)
    _write_summary(folder / "training.json", analysis, sample, training, settings)
    return training


def _fit(analysis: Analysis, sample: Sample, settings: Settings, advance: Callable[[], object]) -> Classifier:
    """Minimise the weighted cross-entropy; the same answer for the same events and seed."""
    x, y = torch.from_numpy(sample.x), torch.from_numpy(sample.signal.astype(np.float32))
    weight = torch.from_numpy(training_weights(sample, settings.clip))
    order = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = analysis.classifier()
    model.standardise(x, weight)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs)
    for _ in range(settings.epochs):
        for batch in torch.split(torch.randperm(len(x), generator=order), settings.batch):
            _step(model, optimiser, (x[batch], y[batch], weight[batch]))
        schedule.step()
        advance()
    return model.eval()


def _step(model: Classifier, optimiser: torch.optim.Optimizer, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    x, y, weight = batch
    optimiser.zero_grad()
    loss = binary_cross_entropy_with_logits(model(x), y, weight=weight)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Small models are fastest on one thread, and then the sums have one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write_summary(
    path: Path, analysis: Analysis, sample: Sample, training: Training, settings: Settings
) -> None:
    events = {
        name: [int((kind & (sample.fold == fold)).sum()) for fold in range(2)]
        for name, kind in (("signal", sample.signal), ("background", ~sample.signal))
    }
    summary = {
        "features": list(analysis.columns),
        "signals": list(analysis.signals),
        "auc": training.auc,
        "auc_unweighted": training.auc_unweighted,
        "events_in_fold": events,
        "settings": asdict(settings),
    }
    path.write_text(json.dumps(summary, indent=2) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Train from the command line: ``python -m example_analysis.train htautau DATA results``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("analysis", choices=sorted(ANALYSES))
    parser.add_argument("data", type=Path, help="folder of the skims, or of the generated files")
    parser.add_argument("output", type=Path, help="folder for the models")
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    options = parser.parse_args(arguments)
    console = Console()
    settings = Settings(epochs=options.epochs, seed=options.seed)
    fileset = read_fileset(options.analysis, options.data)
    result = train(ANALYSES[options.analysis], fileset, options.output, settings, console)
    for path, *areas in zip(result.models, result.auc, result.auc_unweighted, strict=True):
        console.print(f"{path}: AUC {areas[0]:.4f} on its unseen fold, unweighted {areas[1]:.4f}")


if __name__ == "__main__":
    main()
