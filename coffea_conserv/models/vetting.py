"""Vetting of the texts in files of torch.export and TorchScript of which torch makes code.

Sources: ``torch/_export/serde/serialize.py`` and ``torch/export/_unlift.py`` of PyTorch. Symbolic sizes are
read by :func:`sympy.sympify`, which evaluates them; guards are executed; names become part of a function that
is executed; what a node calls is looked up in torch, attribute by attribute, up to :func:`os.system`.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import torch

from coffea_conserv.errors import ModelError

__all__ = ("check_script", "vetted")

_CODE = re.compile(r"[\x00-\x1f\"'\\()\[\]{};=:#,@]")
"""Characters that make code of a name."""

_QUOTED = re.compile(r"[\x00-\x1f\"'\\]")
"""Characters that end a text."""

_PLAIN = re.compile(
    r"_operator\.(eq|ne|le|ge|lt|gt|neg|pos|not_|mul|add|sub|floordiv|truediv|mod|pow|and_|or_|lshift|rshift|getitem)"
    r"|math\.[a-z0-9]+|torch\._?sym_[a-z0-9_]+"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|associative_scan|map|map_impl|flex_attention"
    r"|wrap_with_set_grad_enabled|wrap_with_autocast)"
)
"""What a node may call beside operators: arithmetic of sizes, and control flow."""

_CLOSED = ("_c10d", "_dtensor", "c10d", "debug", "higher_order", "inductor", "profiler", "static", "symm_mem")
"""How names of groups of torch's operators begin that reach beyond tensors."""

_FILES = ("save", "from_file", "load_tensor")
"""Operators that write or read files."""

_ALLOWED = (
    *(ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.UnaryOp, ast.unaryop),
    *(ast.BinOp, ast.operator, ast.BoolOp, ast.boolop, ast.Compare, ast.cmpop),
)
"""What an expression of sizes is made of."""

_FUNCTIONS = re.compile(
    r"Abs|Add|And|BitwiseFn_bitwise_and|BitwiseFn_bitwise_or|BooleanFalse|BooleanTrue|CeilDiv|ceiling|"
    r"CeilToInt|CleanDiv|Eq|Equality|exp|ExprCondPair|Float|FloatPow|FloatTrueDiv|floor|FloorDiv|"
    r"FloorToInt|Ge|GreaterThan|Gt|Identity|Integer|IntTrueDiv|IsNonOverlappingAndDenseIndicator|ITE|Le|"
    r"LessThan|log|LShift|Lt|Max|Min|Mod|ModularIndexing|Mul|Ne|Not|Or|Piecewise|Pow|PowByNatural|"
    r"PythonMod|Rational|RoundDecimal|RoundToInt|RShift|sqrt|StrictGreaterThan|StrictLessThan|Symbol|"
    r"ToFloat|TruncToFloat|TruncToInt|Tuple|Unequality|Where"
)
"""What it may call: sympy, as torch prints it, and ``torch.utils._sympy.functions``."""


def vetted(value: Any, key: str = "") -> Any:
    """Give the description of a graph without what is not needed, if there is no code in the rest.

    Parameters
    ----------
    value
        As read from JSON.
    key
        Under which it stands.

    Raises
    ------
    ModelError
        With the text that would be code.

    Examples
    --------
    >>> vetted({"name": "x", "guards_code": ["print()"], "metadata": {"stack_trace": "line 1"}})
    {'name': 'x', 'guards_code': [], 'metadata': {}}
    """
    if key == "guards_code":  # torch makes those of shapes anew
        return []
    if isinstance(value, dict):
        if key == "metadata":  # places in the source, and the like
            return {}
        return {_name(name): vetted(part, name) for name, part in value.items()}
    if isinstance(value, list):
        return [vetted(part, key) for part in value]
    return _text(value, key) if isinstance(value, str) else value


def _text(text: str, key: str) -> str:
    """A text, by what torch makes of it."""
    if key == "expr_str":
        _check_expression(text)
    elif key in ("target", "as_operator"):
        _check_operator(text)
    elif key in ("as_string", "as_strings"):  # an argument of an operator, such as a message
        return _QUOTED.sub("_", text)
    elif key in ("in_spec", "out_spec", "context"):
        try:
            inside = json.loads(text)
        except ValueError:
            _name(text)
        else:
            vetted(inside)
    else:
        _name(text)
    return text


def _name(text: str) -> str:
    if _CODE.search(text):
        msg = f"{text!r:.80} in its graph is no name"
        raise ModelError(msg)
    return text


def _check_expression(text: str) -> None:
    try:
        parts = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        parts = []
    good = bool(parts) and all(isinstance(part, _ALLOWED) for part in parts)
    for part in parts:
        if isinstance(part, ast.Call):
            good &= isinstance(part.func, ast.Name) and bool(_FUNCTIONS.fullmatch(part.func.id))
        elif isinstance(part, ast.Constant) and not isinstance(part.value, int | float):
            good &= isinstance(part.value, str) and not _CODE.search(part.value)
    if not good:
        msg = f"{text!r:.80} in its graph is no expression of sizes"
        raise ModelError(msg)


def _check_operator(text: str) -> None:
    found: Any = None
    parts = text.split(".")
    if len(parts) == 5 and text.startswith("torch.ops.") and not parts[2].startswith(_CLOSED):
        found = torch.ops
        for name in parts[2:]:
            found = getattr(found, name, None)
    tensors = isinstance(found, torch._ops.OpOverload) and parts[3] not in _FILES
    if not tensors and not _PLAIN.fullmatch(text):
        msg = (
            f"it calls {text!r:.80}, which is no operator on tensors that is known here; if it is one of a "
            "package of yours, import that first"
        )
        raise ModelError(msg)


def check_script(code: str) -> None:
    """Raise a ModelError if the code of TorchScript reads or writes files.

    It runs in an interpreter of its own, which knows tensors and nothing else, but for operators with a file.
    """
    words = "|".join(_FILES)
    found = re.search(rf"\b({words})\b", code) or re.search(r"getattr[^\"']*[\"'][^\"'\n]*\\", code)
    if found:
        msg = f"its code has {found.group()!r:.80}, which may read or write files"
        raise ModelError(msg)
