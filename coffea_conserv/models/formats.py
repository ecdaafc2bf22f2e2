"""Formats in which a model can be given, and how each of them becomes bytes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coffea_conserv.errors import ModelError
from coffea_conserv.fingerprint import fingerprint
from coffea_conserv.models.archive import clean_program, clean_script, is_archive, is_script
from coffea_conserv.models.callback import Callback, hint
from coffea_conserv.models.classifier import Probabilities, facts_of_classifier, is_classifier
from coffea_conserv.models.facts import Facts, facts_of_program
from coffea_conserv.models.handle import Handle, dumped, undumped, unscripted
from coffea_conserv.models.model import UNREADABLE, Model, Pickled, file_bytes, traceable

__all__ = ("make_handle",)


def make_handle(model: Any) -> Handle:
    """Make a handle of one model.

    Raises
    ------
    ModelError
        If it is something else, or cannot be read or sent.
    """
    if isinstance(model, Handle):
        return model
    for kind, make in _KINDS:
        if isinstance(model, kind):
            return make(model)
    if is_classifier(model):
        return _from_classifier(model)
    msg = (
        f"model={model!r:.200} is no model: give the file of torch.export, an nn.Module, "
        f"Model(factory, state), Callback(function of a matrix){hint(model)}, a fitted classifier with "
        "predict_proba, or a list of these, one per fold"
    )
    raise ModelError(msg)


def _from_factory(model: Model) -> Handle:
    module = model.build().eval()
    return _handle_of("factory", (model.factory, module.state_dict()), module)


def _from_classifier(classifier: Any) -> Handle:
    facts = facts_of_classifier(classifier)
    function = Probabilities(classifier, facts.columns)
    return replace(_handle_of("callback", function, function), facts=facts)


def _from_program(program: torch.export.ExportedProgram) -> Handle:
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return _exported(stream.getvalue(), program)


def _exported(payload: bytes, program: torch.export.ExportedProgram, name: str = "the program") -> Handle:
    digest = hashlib.sha256(payload).hexdigest()
    facts = facts_of_program(program)
    if facts.least == facts.most:
        msg = (
            f"{name} was exported for {facts.most} events at a time and no other number; export it with "
            "dynamic_shapes=({0: torch.export.Dim('events')},)"
        )
        raise ModelError(msg)
    return Handle("export", payload, digest, digest, facts)


def _scripted(payload: bytes) -> Handle:
    digest = hashlib.sha256(payload).hexdigest()
    return Handle("script", payload, digest, digest, Facts(dtype=_precision(unscripted(payload))))


def _uncompiled(model: nn.Module) -> nn.Module:
    """Module that ``torch.compile`` was given: compiled code is made for one machine."""
    while isinstance(model, torch._dynamo.OptimizedModule):
        model = model._orig_mod
    return model


def _precision(module: nn.Module) -> torch.dtype:
    """Precision of the parameters, which inputs need too; single where there are none, or several."""
    kinds = {parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()}
    return kinds.pop() if len(kinds) == 1 else torch.float32


def _pickled(model: nn.Module) -> Handle:
    """Pickle a copy on the CPU in evaluation mode; the user's module stays as it is."""
    try:
        copy = undumped(dumped(model)).eval()
    except UNREADABLE as error:
        raise _unsendable(model, error) from traceable(error)
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
    return _handle_of("module", copy, copy)


def _handle_of(kind: str, content: Any, counted: Any) -> Handle:
    """Handle of something that is pickled; ``counted`` is what the hash is made of."""
    try:
        payload = dumped(content)
    except UNREADABLE as error:
        raise _unsendable(content, error) from traceable(error)
    dtype = _precision(counted) if isinstance(counted, nn.Module) else torch.float32
    digest = hashlib.sha256(payload).hexdigest()
    return Handle(kind, payload, digest, fingerprint(counted), Facts(dtype=dtype))


def _unsendable(what: Any, error: Exception) -> ModelError:
    name = "the factory of Model" if isinstance(what, tuple) else type(what).__name__
    remedy = "Model(factory, state_dict) with an importable factory, or a file of torch.export"
    if isinstance(what, Probabilities):
        name, remedy = type(what.classifier).__name__, "one that can be pickled, as those of scikit-learn can"
    elif not isinstance(what, nn.Module | tuple):
        name, remedy = f"the {name} of Callback", "a function that makes or opens what it needs"
    return ModelError(f"{name} cannot be sent to workers: {type(error).__name__}: {error}; give {remedy}")


def _from_file(path: Path) -> Handle:
    """Read a file of torch.export, TorchScript or ONNX."""
    if path.suffix == ".onnx":
        return _from_onnx(path)
    remedy = "write it with torch.export.save(torch.export.export(…), path)"
    payload = file_bytes(path, remedy)
    if not is_archive(payload):  # torch would log a traceback
        msg = f"model file {path} is damaged or not one of torch.export; {remedy}"
        raise ModelError(msg)
    try:
        if is_script(payload):
            return _scripted(clean_script(payload))
        payload = clean_program(payload)
        program = torch.export.load(io.BytesIO(payload))
    except ModelError as error:
        msg = (
            f"model file {path} is refused, because reading or calling it could run code: {error}; {remedy}, "
            "or, if you trust who wrote it, give what torch.export.load or torch.jit.load makes of it"
        )
        raise ModelError(msg) from None
    except UNREADABLE as error:
        msg = (
            f"model file {path} cannot be read by torch.export.load ({error}); {remedy}, or give "
            "Model(factory, path) if it holds parameters, or Pickled(path) if it holds a whole module and "
            "you trust who wrote it"
        )
        raise ModelError(msg) from None
    return _exported(payload, program, f"the program of {path}")


def _from_onnx(path: Path) -> Handle:
    """Read a file of ONNX, as a module of torch that has gradients."""
    payload = file_bytes(path, "write it with torch.onnx.export(module, …, path)")
    try:
        import onnx  # noqa: PLC0415 -- of an extra
        import onnx2torch  # noqa: PLC0415
        from google.protobuf.message import DecodeError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        msg = f"model file {path} needs {error.name}: pip install 'coffea-conserv[onnx]'"
        raise ModelError(msg) from None
    except (ImportError, RuntimeError) as error:  # onnx2torch imports torchvision
        msg = (
            f"model file {path} needs onnx2torch, which cannot be imported: {error}; torch and torchvision "
            "have to be builds for each other"
        )
        raise ModelError(msg) from None
    try:
        module = onnx2torch.convert(onnx.load_model_from_string(payload))
    except (*UNREADABLE, DecodeError, onnx.checker.ValidationError) as error:
        msg = f"model file {path} cannot be made a module of torch: {type(error).__name__}: {error}"
        raise ModelError(msg) from None
    return _pickled(module)


_KINDS: tuple[tuple[Any, Callable[[Any], Handle]], ...] = (
    (Model, _from_factory),
    (Pickled, lambda model: _pickled(model.build())),
    (Callback, lambda model: _handle_of("callback", model.function, model.function)),
    ((str, Path), lambda model: _from_file(Path(model))),
    (torch.export.ExportedProgram, _from_program),
    # torch.jit.save does the same with a warning
    (torch.jit.ScriptModule, lambda model: _scripted(model.save_to_buffer())),
    (nn.Module, lambda model: _pickled(_uncompiled(model))),
)
"""What a model can be, the special before the general."""
