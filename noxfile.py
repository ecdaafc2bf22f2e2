#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.2"]
# ///
"""Sessions of nox, each a target of the Makefile in an environment of its own: ``nox --list``."""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"  # has pip, with which make fills it
nox.options.reuse_venv = "yes"

PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))


def _make(session: nox.Session, target: str, *settings: str) -> None:
    """Make a target in the environment of a session; make installs what is pinned, once."""
    session.run("make", target, f"VENV={session.virtualenv.location}", *settings, external=True)


def _chosen(session: nox.Session) -> list[str]:
    """Tests that follow ``--``; without any, all of them."""
    return [f"TESTS={' '.join(session.posargs)}"] if session.posargs else []


@nox.session
def check(session: nox.Session) -> None:
    """Check what needs no test: style, types, imports, spelling, habits, workflows."""
    _make(session, "check")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Test with the newest coffea and Dask: ``nox -s tests-3.11 -- tests/test_budget.py``."""
    _make(session, "unit", *_chosen(session))


@nox.session(python=PYTHONS, default=False)
def facility(session: nox.Session) -> None:
    """Test with coffea and Dask of the images of analysis facilities."""
    _make(session, "unit", "PINS=constraints-facility.txt", *_chosen(session))


@nox.session(default=False)
def example(session: nox.Session) -> None:
    """Run the example analysis; what follows ``--`` are settings of make, as ``RESULTS=other``."""
    _make(session, "example", *session.posargs)


if __name__ == "__main__":
    nox.main()
