"""A cluster started process by process where the wheel is installed and the checkout is out of reach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
import venv
from contextlib import contextmanager
from pathlib import Path

import pytest
from made_pages import expected, importable, names_of, prepare, same, script

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
COUNT, PATIENCE = 200, 60  # events of a file; seconds to wait for a process
CONNECT = """@contextmanager
def connect():
    with Client("{}") as client:
        yield client
"""
QUIET = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Interpreter of an environment with the wheel in it; its dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("environment")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)  # noqa: S603 -- our own build
    venv.create(folder / "env", with_pip=False, symlinks=True)
    made = folder / "env" / "bin" / "python"
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*install, "--target", str(site), str(wheel)], check=True, capture_output=True)  # noqa: S603
    # A folder on the path that no .pth file is read in: the editable installation stays behind.
    site.joinpath("dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made


@contextmanager
def running(python, folder, *arguments):
    """Start a process of Dask, and stop it at the end."""
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in QUIET}
    command = [str(python), "-m", "dask", *arguments]
    with folder.joinpath("log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)  # noqa: S603
        try:
            yield folder / "log"
        finally:
            process.kill()
            process.wait(PATIENCE)


def address(path):
    """Wait for the file of the scheduler, and give the address in it."""
    end = time.monotonic() + PATIENCE
    while not path.is_file() or not path.read_text():
        assert time.monotonic() < end, "the scheduler has not written its file"
        time.sleep(0.05)
    return json.loads(path.read_text())["address"]


def worker(python, folder, where):
    """Start a worker with one thread."""
    return running(python, folder, "worker", where, "--nthreads", "1", "--no-dashboard", "--no-nanny")


def origins(client):
    """Where scheduler and workers have the package and the module of the user from, and their path."""

    def files():  # defined here, it travels by value
        import sys  # noqa: PLC0415

        import my_analysis  # noqa: PLC0415

        import coffea_conserv  # noqa: PLC0415

        return coffea_conserv.__file__, my_analysis.__file__, sys.path

    return [client.run_on_scheduler(files), *client.run(files).values()]


def test_the_script_runs_where_only_the_wheel_is(python, tmp_path, monkeypatch, capsys):
    """Scheduler and workers have the package from the wheel, and the user's module from the client."""
    user = tmp_path / "user"
    user.mkdir()
    monkeypatch.chdir(prepare(user, COUNT, quick=True))
    serve = ("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file")
    with running(python, tmp_path / "scheduler", *serve, str(tmp_path / "where.json")), importable(user):
        where = address(tmp_path / "where.json")
        with worker(python, tmp_path / "first", where):
            names_of(script("one-machine", CONNECT.format(where)))["main"]()
            with worker(python, tmp_path / "late", where), distributed.Client(where) as client:
                client.wait_for_workers(2, timeout=PATIENCE)
                found = origins(client)
        said = capsys.readouterr().out
        expected(user)
    assert said.count(f"{COUNT} events, complete") == 3
    assert same(user)
    assert len(found) == 3
    for package, module, path in found:
        assert Path(package).is_relative_to(python.parents[1])
        assert not Path(module).is_relative_to(user)
        assert not {str(ROOT), str(user)} & set(path)
