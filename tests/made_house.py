"""The package as it stands in its sources: modules, imports, rooms, definitions. Nothing is imported."""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One import of one module of the package by another one.

    ``lazy`` are those inside of functions; those for types only count like all others.
    """

    source: str
    target: str
    line: int
    lazy: bool


@dataclass(frozen=True)
class House:
    """Sources of a package.

    Parameters
    ----------
    folder
        Of the package.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Name of the package."""
        return self.folder.name

    @functools.cached_property
    def modules(self) -> dict[str, Path]:
        """Module → file; a room is the module of its ``__init__``."""
        found = {}
        for path in sorted(self.folder.rglob("*.py")):
            parts = path.relative_to(self.folder.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return found

    @functools.cached_property
    def trees(self) -> dict[str, ast.Module]:
        """Module → what it says."""
        return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.modules.items()}

    @functools.cached_property
    def imports(self) -> tuple[Import, ...]:
        """All imports of modules of the package, but for the public names of its own ``__init__``."""
        return tuple(found for name in self.modules if name != self.name for found in self._of(name))

    def _of(self, source: str) -> Iterator[Import]:
        for node, lazy in _walk(self.trees[source], inside=False):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif node.level:  # relative: what lint forbids would hide here
                base = source.rsplit(".", node.level - (self.modules[source].stem == "__init__"))[0]
                base = f"{base}.{node.module}" if node.module else base
                named = [f"{base}.{alias.name}" for alias in node.names]
            else:
                named = [f"{node.module}.{alias.name}" for alias in node.names]
            for target in dict.fromkeys(map(self._module_of, named)):
                if target and target != self.name:
                    yield Import(source, target, node.lineno, lazy)

    def _module_of(self, name: str) -> str:
        """Module that a dotted name is, or is in; empty for what is of another package."""
        while name and name not in self.modules:
            name = name.rpartition(".")[0]
        return name

    def room(self, module: str) -> str:
        """Room of a module: its folder; a module at the top is a room of its own."""
        parts = module.split(".")
        if self.modules[module].stem == "__init__":
            return module
        return ".".join(parts[:-1]) if len(parts) > 2 else module

    @property
    def arrows(self) -> dict[str, set[str]]:
        """Module → modules that it imports."""
        return _graph((one.source, one.target) for one in self.imports)

    @property
    def rooms(self) -> dict[str, set[str]]:
        """Room → rooms that it imports."""
        return _graph((self.room(one.source), self.room(one.target)) for one in self.imports)

    def functions(self) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        """Module and definition of every function and method."""
        for name, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield name, node

    def aliases(self, module: str) -> dict[str, ast.expr]:
        """Names that a module gives to types, such as ``Pair = tuple[…]``."""
        made = {}
        for node in self.trees[module].body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                made[node.targets[0].id] = node.value
        return made


def _walk(node: ast.AST, *, inside: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, inside
        late = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _walk(child, inside=late)


def _graph(pairs: Iterator[tuple[str, str]]) -> dict[str, set[str]]:
    made: dict[str, set[str]] = defaultdict(set)
    for source, target in pairs:
        if source != target:
            made[source].add(target)
    return dict(made)


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Names of one circle in a graph, the first one again at the end; nothing if there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph.get(name, ())):
            if found := visit(target, [*path, name]):
                return found
        done.add(name)
        return []

    for name in sorted(graph):
        if found := visit(name, []):
            return found
    return []


def longest(graph: Mapping[str, set[str]]) -> list[str]:
    """Longest chain of a graph without circles, from the top down."""

    @functools.cache
    def below(name: str) -> tuple[str, ...]:
        parts = (below(target) for target in sorted(graph.get(name, ())))
        return (name, *max(parts, key=len, default=()))

    return list(max((below(name) for name in sorted(graph)), key=len, default=()))


# ---------------------------------------------------------------------------------------------------- the map

BEGIN, END = "<!-- drawn by `make map` from the imports -->", "<!-- end of what is drawn -->"

GROUND = "ground"
"""Drawn for the modules at the top, which import no room and which everybody may import."""


def _drawn(house: House) -> dict[str, set[str]]:
    """Rooms by their short names, and the rooms that each of them imports."""
    short = {room: room.removeprefix(f"{house.name}.") for room in map(house.room, house.modules)}
    rooms = {house.room(name) for name, path in house.modules.items() if path.stem == "__init__"}
    named = {room: text if room in rooms else GROUND for room, text in short.items()}
    pairs = ((named[a], named[b]) for a, targets in house.rooms.items() for b in targets)
    return _graph(pairs)


def needed(graph: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Arrows of a graph without circles that no way over other names replaces."""

    @functools.cache
    def reached(name: str) -> frozenset[str]:
        direct = graph.get(name, set())
        return frozenset(direct).union(*(reached(target) for target in direct))

    return sorted(
        (source, target)
        for source, targets in graph.items()
        for target in targets
        if not any(target in reached(other) for other in targets if other != target)
    )


def _node(name: str) -> str:
    return name if "." not in name else f'{name.replace(".", "_")}["{name.replace(".", "/")}"]'


def draw(house: House) -> str:
    """Rooms with the sentence and the modules of each, and a Mermaid picture of the arrows between them."""
    arrows = [f"  {_node(source)} --> {_node(target)}" for source, target in needed(_drawn(house))]
    lines = ["```mermaid", "flowchart TD", *arrows, "```", ""]
    lines += ["| room | what it is | modules |", "|---|---|---|"]
    for room, path in house.modules.items():
        if path.stem != "__init__":
            continue
        name = room.removeprefix(f"{house.name}.").replace(".", "/")
        sentence = (ast.get_docstring(house.trees[room]) or "").split("\n")[0].replace(":func:", "")
        if room == house.name:
            name, sentence = GROUND, "Values and helpers without a room, which every room may import."
        inside = sorted(p.stem for p in path.parent.glob("*.py") if p.stem != "__init__")
        lines.append(f"| **{name}** | {sentence} | {', '.join(inside)} |")
    return "\n".join(lines)


def between(text: str, house: House) -> str:
    """Text with the map of the house between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{draw(house)}\n{END}{after}"


def main() -> None:
    """Draw the map in ``ARCHITECTURE.md`` anew."""
    root = Path(__file__).parent.parent
    page = root / "ARCHITECTURE.md"
    page.write_text(
        between(page.read_text(encoding="utf-8"), House(root / "coffea_conserv")), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
