"""The package as a whole: what it exports, what importing it costs, and what it leaves alone."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import pickle
import pkgutil
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import coffea_conserv
from coffea_conserv import errors

ROOT = Path(coffea_conserv.__file__).parent
PUBLIC = sorted(set(coffea_conserv.__all__) - {"__version__"})
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(ROOT)], "coffea_conserv."))
SOURCES = sorted(ROOT.rglob("*.py"))
ERRORS = [error for error in map(vars(errors).get, errors.__all__) if isinstance(error, type)]


def run(code):
    """Run code in a fresh interpreter and return what it prints and complains about."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT.parent)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def loaded_by(code):
    """Top-level modules that are loaded after some code has run."""
    out, _ = run(f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))")
    return set(out.split())


# --- exports -----------------------------------------------------------------------------------------------


def test_all_is_what_can_be_imported():
    """Every public name can be imported, once, and nothing else is shown."""
    assert len(set(coffea_conserv.__all__)) == len(coffea_conserv.__all__)
    assert dir(coffea_conserv) == sorted(coffea_conserv.__all__)
    out, _ = run(
        "from coffea_conserv import *\nprint(*sorted(n for n in dir() if n[:2] != '__'), __version__)"
    )
    assert out.split() == [*PUBLIC, coffea_conserv.__version__]


def test_type_checkers_see_what_is_exported():
    """The imports for type checkers and those at first use name the same objects of the same modules."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (alias.asname, node.module)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == set(coffea_conserv._HOME.items())


def test_unknown_names_are_refused():
    """A name that does not exist is an AttributeError that names both."""
    with pytest.raises(AttributeError, match="module 'coffea_conserv' has no attribute 'nothing'"):
        _ = coffea_conserv.nothing


@pytest.mark.parametrize("name", MODULES)
def test_modules_export_what_they_define(name):
    """Every module has a docstring, and names in ``__all__`` that exist, each once."""
    if name.startswith("coffea_conserv.plotting"):
        pytest.importorskip("mplhep")
    module = importlib.import_module(name)
    assert module.__doc__
    assert module.__doc__.splitlines()[0].endswith(".")
    exported = getattr(module, "__all__", ())
    assert len(set(exported)) == len(exported)
    assert [member for member in exported if not hasattr(module, member)] == []


def test_version_is_that_of_the_distribution():
    """The version in the package and that of the installed distribution are one."""
    assert coffea_conserv.__version__ == importlib.metadata.version("coffea-conserv")


def test_py_typed_is_there():
    """Type checkers are told that the package has types."""
    assert (ROOT / "py.typed").is_file()


# --- documentation -----------------------------------------------------------------------------------------


def sections(text):
    """Section → its text, of a docstring in the style of numpydoc."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", text, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def described(text):
    """Names that a section of parameters describes."""
    lines = [line for line in text.splitlines() if line and not line.startswith(" ")]
    return {name.strip(" *") for line in lines for name in line.split(":")[0].split(",")}


def methods(cls):
    """Public methods and properties that a class defines itself."""
    return [
        getattr(member, "fget", None) or getattr(member, "__func__", member)
        for name, member in vars(cls).items()
        if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property))
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_objects_are_documented(name):
    """A sentence first, then every parameter; methods and properties have a sentence as well."""
    thing = getattr(coffea_conserv, name)
    text = sections(inspect.getdoc(thing))
    first = text[""].split("\n\n")[0]
    assert first.rstrip().endswith("."), first
    if not (inspect.isclass(thing) and issubclass(thing, Exception)):
        parameters = set(inspect.signature(thing).parameters)
        assert parameters - described(text.get("Parameters", "")) == set()
    if inspect.isclass(thing):
        assert [method.__name__ for method in methods(thing) if not inspect.getdoc(method)] == []


# --- errors ------------------------------------------------------------------------------------------------


def test_errors_form_a_tree():
    """One base catches everything, all others are of a kind of Python too; the text has all of them."""
    assert issubclass(errors.ConservError, Exception)
    assert not issubclass(errors.ConservError, ValueError)
    for error in ERRORS:
        assert issubclass(error, errors.ConservError)
        kinds = RuntimeError if error is errors.RunError else ValueError
        assert error is errors.ConservError or issubclass(error, kinds)
        assert error.__name__ in errors.__doc__
        assert getattr(coffea_conserv, error.__name__) is error


def test_no_error_is_an_oserror():
    """Coffea may skip a file for an OSError: no exception of the package is one."""
    assert not [error for error in ERRORS if issubclass(error, OSError)]
    bases = {
        ast.unparse(base)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    }
    assert "ConservError" in bases
    assert not bases & {"OSError", "IOError", "EnvironmentError", "FileNotFoundError", "PermissionError"}


@pytest.mark.parametrize("error", ERRORS)
def test_errors_travel(error):
    """An error that is raised on a worker arrives with its text."""
    arrived = pickle.loads(pickle.dumps(error("offender; remedy")))  # noqa: S301 -- written above
    assert type(arrived) is error
    assert str(arrived) == "offender; remedy"


# --- importing does nothing --------------------------------------------------------------------------------


def test_importing_the_package_loads_no_library():
    """A worker that imports the package pays for nothing but the standard library."""
    libraries = {"torch", "awkward", "coffea", "hist", "numpy", "numba", "matplotlib", "uproot", "dask"}
    assert not loaded_by("import coffea_conserv") & libraries


def test_limits_and_sums_load_neither_torch_nor_awkward():
    """Histograms can be merged and judged where there is no torch."""
    code = (
        "from coffea_conserv import Budget, Feature, Sums, Verdict, Result, Estimate, fold_index, InputError"
    )
    assert not loaded_by(code) & {"torch", "awkward", "coffea", "matplotlib", "dask"}


def test_an_attack_loads_neither_coffea_nor_awkward():
    """The attack can be used and tested on a laptop tensor."""
    loaded = loaded_by("import coffea_conserv.attacks")
    assert "torch" in loaded
    assert not loaded & {"awkward", "coffea", "hist", "matplotlib", "mplhep", "uproot", "dask"}


def test_the_plugin_loads_no_plots():
    """Workers do not load what only the client draws, nor coffea, which brings the events."""
    loaded = loaded_by("from coffea_conserv import Conserv")
    assert {"torch", "awkward"} <= loaded
    assert not loaded & {"coffea", "matplotlib", "mplhep", "uproot", "dask"}


def test_importing_says_nothing_and_configures_nothing():
    """Importing every module prints nothing and leaves loggers and the settings of torch as they were."""
    names = [name for name in MODULES if importlib.util.find_spec("mplhep") or "plotting" not in name]
    code = f"""
import importlib, logging, torch
def state():
    settings = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    return settings, list(logging.root.handlers), logging.root.level
before = state()
for name in {names}:
    importlib.import_module(name)
assert state() == before, (before, state())
names = [name for name in logging.root.manager.loggerDict if name.startswith("coffea_conserv")]
ours = [logging.getLogger(name) for name in names]
assert ours
assert all(logger.level == 0 and not logger.handlers and logger.propagate for logger in ours), ours
"""
    assert run(code) == ("", "")


@pytest.mark.parametrize("path", SOURCES, ids=[path.relative_to(ROOT).as_posix() for path in SOURCES])
def test_no_module_prints_or_configures_logging(path):
    """Nothing is printed but to a console that the caller gives, and logging is left to the caller."""
    forbidden = {"print", "basicConfig", "dictConfig", "addHandler", "setLevel", "simplefilter"}
    if path.parent.name == "cli":  # a program of its own decides how loud libraries are
        forbidden -= {"setLevel"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name.split(".")[-1] not in forbidden or name == "console.print", ast.unparse(node)


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    """Processors, example and tests stay in the checkout: their names would collide with the users' own."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT.parent, check=True, capture_output=True)  # noqa: S603 -- our own build
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"coffea_conserv"}
    here = {
        str(path.relative_to(ROOT.parent)) for path in ROOT.rglob("*") if path.suffix in (".py", ".typed")
    }
    assert here <= set(names)
    assert "Requires-Python: >=3.10" in metadata
    assert "dask-awkward" not in metadata
