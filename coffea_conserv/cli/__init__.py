"""The command line ``coffea-conserv``: commands, and the work that they do."""

from __future__ import annotations

import sys

__all__ = ("main",)


def main() -> None:
    """Run the command line, or say what it needs."""
    try:
        from coffea_conserv.cli.app import app  # noqa: PLC0415 -- typer is of an extra
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "click"):
            raise
        sys.exit("the command line needs typer: pip install 'coffea-conserv[cli]'")
    app()
