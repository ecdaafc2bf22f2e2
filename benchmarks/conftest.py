"""Rows of results that the benchmarks collect, printed as tables at the end."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
import torch
from rich.console import Console
from rich.table import Table

ROWS: dict[str, list[dict[str, object]]] = defaultdict(list)


def pytest_addoption(parser):
    """``--pictures docs`` draws the pictures of the documentation anew."""
    parser.addoption("--pictures", type=Path, help="folder for pictures; a temporary one if not given")


@pytest.fixture
def pictures(request, tmp_path):
    """Where pictures go."""
    return request.config.getoption("pictures") or tmp_path


@pytest.fixture(autouse=True)
def one_thread():
    """All figures are for one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def row(benchmark):
    """Put a row into a table; it also goes into the file of pytest-benchmark."""

    def add(table: str, **columns: object) -> None:
        ROWS[table].append(columns)
        benchmark.extra_info.update({name: str(value) for name, value in columns.items()})

    return add


def pytest_terminal_summary():
    """Print the tables."""
    console = Console(width=150)
    for title, rows in ROWS.items():
        names = list(dict.fromkeys(name for columns in rows for name in columns))
        table = Table(title=title, title_justify="left")
        for name in names:
            table.add_column(name, justify="right")
        for columns in rows:
            table.add_row(*(str(columns.get(name, "")) for name in names))
        console.print(table)
