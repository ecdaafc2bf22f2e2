"""The versions that ``make test`` and ``make test-facility`` install, and where both of them run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")
requirements = pytest.importorskip("packaging.requirements")
version = pytest.importorskip("packaging.version")

ROOT = Path(__file__).parent.parent
FILES = ("constraints.txt", "constraints-facility.txt")
COFFEA_AND_DASK = {"coffea", "dask", "distributed"}
HOOKS = {
    "codespell": "codespell",
    "cookie": "sp-repo-review",
    "mirrors-mypy": "mypy",
    "ruff-pre-commit": "ruff",
    "rumdl-pre-commit": "rumdl",
    "zizmor-pre-commit": "zizmor",
}


def text_of(name):
    """Text of a file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def pins(name):
    """Package → its pins, which are several where they depend on the version of Python."""
    found = {}
    for line in text_of(name).splitlines():
        if line and not line.startswith("#"):
            found.setdefault(re.split("==", line)[0], set()).add(line)
    return found


def demands():
    """Requirements of the package and of its extras, without those on the package itself."""
    listed = re.search(
        r"^dependencies = \[.*?^\[(?:tool|project\.scripts)",
        text_of("pyproject.toml"),
        re.MULTILINE | re.DOTALL,
    )
    written = (requirements.Requirement(text) for text in re.findall(r'"([^"]+)"', listed[0]))
    return [demand for demand in written if demand.name != "coffea-conserv"]


def versions(name, package):
    """Versions to which a file pins a package."""
    return [line.split("==")[1].split(" ")[0] for line in pins(name)[package]]


def test_the_files_differ_in_coffea_and_dask_only():
    """Whatever both files pin is the same but for coffea and Dask; facilities have dask-awkward on top."""
    newest, facility = map(pins, FILES)
    assert {name for name in newest if newest[name] != facility.get(name)} == COFFEA_AND_DASK
    assert {"dask-awkward", "dask-histogram"} <= facility.keys() - newest.keys()


def test_the_versions_are_those_of_facilities_and_the_newest():
    """Images of facilities have coffea 2026.5 and Dask before 2025.4; the other file is ahead of both."""
    newest, facility = ({name: versions(file, name)[0] for name in COFFEA_AND_DASK} for file in FILES)
    assert facility["coffea"].startswith("2026.5.")
    assert facility["dask"] == facility["distributed"]
    assert facility["dask"].startswith("2025.3.")
    assert newest["dask"] == newest["distributed"]
    for name in COFFEA_AND_DASK:
        older, newer = ([int(part) for part in made[name].split(".")] for made in (facility, newest))
        assert older < newer


@pytest.mark.parametrize("name", FILES)
def test_what_is_installed_is_what_is_asked_for(name):
    """Every requirement of ``pyproject.toml`` has a pin in both files, within its range."""
    assert len(demands()) > 20
    for demand in demands():
        assert all(demand.specifier.contains(version) for version in versions(name, demand.name)), demand


def test_the_oldest_coffea_that_is_allowed_is_tested():
    """The floor of coffea is the version of facilities, wherever it is written."""
    floors = [demand for demand in demands() if demand.name == "coffea"]
    assert len(floors) == 2
    (oldest,) = versions(FILES[1], "coffea")
    for demand in floors:
        assert str(demand.specifier) == f">={oldest.rsplit('.', 1)[0]}"


def test_both_run_on_every_version_of_python():
    """The workflow runs both targets of the Makefile on the versions of Python that the package names."""
    (job,) = yaml.safe_load(text_of(".github/workflows/test.yml"))["jobs"].values()
    matrix = job["strategy"]["matrix"]
    declared = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text_of("pyproject.toml"))
    assert matrix["python"] == declared
    targets = re.search(r"^\.PHONY: (.*)$", text_of("Makefile"), re.MULTILINE)[1].split()
    assert set(matrix["target"]) == {"test", "test-facility"} <= set(targets)
    assert "make ${{ matrix.target }}" in job["steps"][-1]["run"]


@pytest.mark.parametrize(("hook", "package"), HOOKS.items())
def test_hooks_are_those_of_make_check(hook, package):
    """A hook has the version that is pinned, and ``make check`` runs the same tool."""
    repos = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    (rev,) = (repo["rev"] for repo in repos if repo["repo"].endswith(f"/{hook}"))
    assert version.Version(rev) in map(version.Version, versions(FILES[0], package))
    recipe = re.search(r"^check: .*\n((?:\t.*\n)+)", text_of("Makefile"), re.MULTILINE)[1]
    assert f"$(BIN)/{package.removeprefix('sp-')}" in recipe.split()
