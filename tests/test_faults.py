"""The page on faults: every line says all that it has to, and has a test that is there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "faults.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if "::" in line]


def test_tables_hold_every_line():
    """A line without a test would be missing here: headings and rulers are what is left."""
    others = [line for line in PAGE.splitlines() if line.startswith("|") and "::" not in line]
    assert len(others) == 2 * PAGE.count("| Fault |")
    assert len(ROWS) > 25


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_fault_has_its_test(row):
    """What happens, what is kept, how to go on, and a test of that name in that file."""
    assert len(row) == 5
    assert all(row)
    file, name = row[-1].split("::")
    tree = ast.parse((TESTS / f"{file}.py").read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
