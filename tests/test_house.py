"""The house: measured from the sources, so that it stays one in which a newcomer finds the way."""

from __future__ import annotations

import ast
import importlib
import shutil
from collections import defaultdict
from pathlib import Path

import pytest
from made_house import House, between, circle, longest

import coffea_conserv

HOUSE = House(Path(coffea_conserv.__file__).parent)

CHAIN, ROOMS = 18, 12
"""Most modules, and most rooms, one above the other."""

LAZY = 8
"""Most imports inside of functions, beside the public names of the package."""

FULL = 16
"""Most modules in one folder, beside its ``__init__``."""

PARAMETERS = 8
"""Most parameters of a function that is neither a public call nor a command."""

CALLS = {
    "coffea_conserv.attacks.api": {"attack"},
    "coffea_conserv.studies.baselines": {"baselines"},
    "coffea_conserv.plugin.conserv": {"__call__"},
    "coffea_conserv.report.page": {"write_page"},
    "coffea_conserv.wrapper.processor": {"__init__"},
    "coffea_conserv.cli.app": {"plan", "run", "check", "export", "plot", "report"},
}
"""Public calls and commands: keywords with defaults, as many as there is to choose."""


def test_no_imports_in_a_circle():
    """Neither of modules nor of rooms; imports for types and inside of functions count."""
    assert circle(HOUSE.arrows) == []
    assert circle(HOUSE.rooms) == []


def test_chains_of_imports_are_short():
    """What is at the top is understood without all that is below."""
    chain, rooms = longest(HOUSE.arrows), longest(HOUSE.rooms)
    assert len(chain) <= CHAIN, " → ".join(chain)
    assert len(rooms) <= ROOMS, " → ".join(rooms)


def test_few_imports_inside_of_functions():
    """They hide arrows: only what takes long, or is of an extra."""
    lazy = [f"{one.source}:{one.line} → {one.target}" for one in HOUSE.imports if one.lazy]
    assert len(lazy) <= LAZY, lazy


def test_no_room_is_full():
    """Nobody searches among dozens of files."""
    count: dict[Path, list[str]] = defaultdict(list)
    for path in HOUSE.modules.values():
        if path.stem != "__init__":
            count[path.parent].append(path.stem)
    full = {str(folder): names for folder, names in count.items() if len(names) > FULL}
    assert not full


def test_modules_import_modules():
    """A room's ``__init__`` is for users: inside it would make every chain longer."""
    inits = {name for name, path in HOUSE.modules.items() if path.stem == "__init__"}
    wrong = [f"{one.source}:{one.line} → {one.target}" for one in HOUSE.imports if one.target in inits]
    assert [text for text in wrong if text.split(":")[0] not in inits] == []


def test_the_map_is_that_of_the_house():
    """ARCHITECTURE.md has rooms, modules and arrows as ``make map`` draws them from the imports."""
    page = (HOUSE.folder.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert between(page, HOUSE) == page
    assert len(page.splitlines()) < 140  # one page


def test_modules_say_what_they_are():
    """A module's docstring begins with a noun, not with a question."""
    first = {name: (ast.get_docstring(tree) or " ").split()[0] for name, tree in HOUSE.trees.items()}
    asking = {"", "What", "How", "Where", "Which", "Who", "Why", "When", "From"}
    assert {name: word for name, word in first.items() if word in asking} == {}


def test_no_relative_imports():
    """One way to name a module."""
    relative = [
        f"{name}:{node.lineno}"
        for name, tree in HOUSE.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative


def test_a_name_is_a_room_or_a_function_but_not_both():
    """``coffea_conserv.attack`` is a function, so that no folder is called so; likewise within rooms."""
    for room, path in HOUSE.modules.items():
        if path.stem == "__init__":
            modules = {name.rpartition(".")[2] for name in HOUSE.modules if name.rpartition(".")[0] == room}
            public = set(getattr(importlib.import_module(room), "__all__", ()))
            assert not modules & public, f"{room}: {', '.join(sorted(modules & public))}"


def test_no_public_class_stands_twice():
    """One name, one meaning."""
    where: dict[str, list[str]] = defaultdict(list)
    for module, tree in HOUSE.trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(module)
    assert {name: modules for name, modules in where.items() if len(modules) > 1} == {}


def arguments(function):
    """Parameters of a function but for self and cls."""
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [one for one in every if one is not None and one.arg not in ("self", "cls")]


def mixed(annotation, aliases):
    """Tuples of a fixed number of different things in an annotation, but for those that a mapping holds."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.Name) and annotation.id in aliases:
        return mixed(
            aliases[annotation.id], {name: a for name, a in aliases.items() if name != annotation.id}
        )
    if isinstance(annotation, ast.Subscript):
        kind = ast.unparse(annotation.value)
        if kind in ("Mapping", "dict"):
            return []
        if kind == "Annotated" and isinstance(annotation.slice, ast.Tuple):
            return mixed(annotation.slice.elts[0], aliases)
        if kind == "tuple" and isinstance(annotation.slice, ast.Tuple):
            parts = [ast.unparse(part) for part in annotation.slice.elts]
            pair = len(set(parts)) == 1 and parts[0] not in ("str", "int")  # width and height, two axes
            return [] if parts[-1] == "..." or pair else [ast.unparse(annotation)]
    return [found for child in ast.iter_child_nodes(annotation) for found in mixed(child, aliases)]


def test_no_parameter_is_an_anonymous_tuple():
    """What belongs together has a name, and so have its parts."""
    found = [
        f"{module}:{function.lineno} {function.name}({one.arg}: {text})"
        for module, function in HOUSE.functions()
        for one in arguments(function)
        if one.annotation is not None
        for text in mixed(one.annotation, HOUSE.aliases(module))
    ]
    assert not found, "\n".join(found)


def test_functions_have_few_parameters():
    """Only public calls and commands have as many as there is to choose."""
    many = [
        f"{module}:{function.lineno} {function.name} has {len(arguments(function))}"
        for module, function in HOUSE.functions()
        if len(arguments(function)) > PARAMETERS and function.name not in CALLS.get(module, ())
    ]
    assert not many, "\n".join(many)


def test_every_exception_is_needed():
    """A call that has become short leaves the list."""
    many = {(m, f.name) for m, f in HOUSE.functions() if len(arguments(f)) > PARAMETERS}
    commands = {
        (m, name) for m, names in CALLS.items() for name in names if not m.startswith("coffea_conserv.cli")
    }
    assert commands <= many


# ------------------------------------------------------------------------- the measures themselves can fail


@pytest.fixture
def copy(tmp_path):
    """A copy of the sources that a test may spoil."""
    folder = tmp_path / "coffea_conserv"
    shutil.copytree(HOUSE.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize(
    "line",
    [
        "import coffea_conserv.results.result",
        "def late():\n    from coffea_conserv.results import result\n    return result",
        "if TYPE_CHECKING:\n    from coffea_conserv.results.result import Result",
        "from ..results import result",
    ],
)
def test_a_circle_is_found_however_it_is_hidden(copy, line):
    """At the top, inside of a function, for types only, or relative."""
    path = copy / "limits" / "verdict.py"
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    found = circle(House(copy).arrows)
    assert {"coffea_conserv.limits.verdict", "coffea_conserv.results.result"} <= set(found)
    assert circle(House(copy).rooms)


def test_a_chain_is_counted_from_end_to_end(copy):
    """A module on top of the longest chain makes it longer by one."""
    top = longest(HOUSE.arrows)[0]
    (copy / "cli" / "higher.py").write_text(f"import {top}\n", encoding="utf-8")
    assert len(longest(House(copy).arrows)) == len(longest(HOUSE.arrows)) + 1


@pytest.mark.parametrize(
    ("annotation", "found"),
    [
        ("tuple[str, int]", ["tuple[str, int]"]),
        ("tuple[str, str] | None", ["tuple[str, str]"]),
        ("Sequence[tuple[float, Any]]", ["tuple[float, Any]"]),
        ("Pair", ["tuple[int, str]"]),
        ("'tuple[int, str]'", ["tuple[int, str]"]),
        ("tuple[str, ...]", []),
        ("tuple[float, float]", []),
        ("Mapping[str, tuple[Any, Axis]] | None", []),
        ("Named", []),
    ],
)
def test_anonymous_tuples_are_recognised(annotation, found):
    """Different things, or texts and numbers that only their place tells apart; not pairs of one kind."""
    aliases = {"Pair": ast.parse("tuple[int, str]", mode="eval").body}
    assert mixed(ast.parse(annotation, mode="eval").body, aliases) == found
