"""YAML with the line of everything in it, so that errors can say where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coffea_conserv.errors import ConfigurationError, ConservError

__all__ = ("Document", "read_yaml")

Place = tuple[str | int, ...]


class _PlacedError(ConfigurationError):
    """An error that says already where it is."""


@dataclass(frozen=True)
class Document:
    """Content of a YAML file, and where in it everything is.

    Parameters
    ----------
    path
        The file.
    content
        What it says, as plain values.
    lines
        Path of keys and indices → line, counted from 1.
    """

    path: Path
    content: Any
    lines: dict[Place, int] = field(repr=False)

    def line(self, place: Sequence[str | int]) -> int:
        """Line of the innermost part of a path that is in the file.

        Parts that are not in it, such as the names of alternatives that pydantic puts in between, are passed
        over.
        """
        at: Place = ()
        for part in place:
            if (*at, part) in self.lines:
                at = (*at, part)
        return self.lines.get(at, 1)

    def error(self, place: Sequence[str | int], text: str) -> ConfigurationError:
        """Error that names file, line and path."""
        known = [str(part) for k, part in enumerate(place) if self._known(place[: k + 1])]
        where = f", {'.'.join(known)}" if known else ""
        return _PlacedError(f"{self.path}, line {self.line(place)}{where}: {text}")

    def _known(self, place: Sequence[str | int]) -> bool:
        return any(key[-1:] == tuple(place[-1:]) for key in self.lines)

    @contextmanager
    def at(self, *place: str | int) -> Iterator[None]:
        """Errors of this package inside of it name file and line."""
        try:
            yield
        except _PlacedError:
            raise
        except ConservError as error:
            raise self.error(place, str(error)) from error


def read_yaml(path: Path) -> Document:
    """Read a YAML file.

    Raises
    ------
    ConfigurationError
        With the line, if it is not there, is no YAML, or says something twice.
    """
    try:
        import yaml  # noqa: PLC0415 -- of an extra
    except ModuleNotFoundError as error:
        msg = f"reading {path} needs PyYAML: pip install 'coffea-conserv[cli]'"
        raise ConfigurationError(msg) from error
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"the configuration {path} cannot be read: {error}"
        raise ConfigurationError(msg) from None
    lines: dict[Place, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        msg = f"{path}, line {line}: no YAML: {error.problem or error}"
        raise ConfigurationError(msg) from None
    if node is not None:
        _walk(path, node, (), lines)
    return Document(path, {} if content is None else content, lines)


def _walk(path: Path, node: Any, at: Place, lines: dict[Place, int]) -> None:
    """Note the lines of a node and of all inside of it."""
    if node.id == "mapping":
        for key, value in node.value:
            inner = (*at, key.value)
            if inner in lines:
                msg = f"{path}, line {key.start_mark.line + 1}: {key.value} is there twice"
                raise ConfigurationError(msg)
            lines[inner] = key.start_mark.line + 1
            _walk(path, value, inner, lines)
    elif node.id == "sequence":
        for k, value in enumerate(node.value):
            lines[(*at, k)] = value.start_mark.line + 1
            _walk(path, value, (*at, k), lines)
