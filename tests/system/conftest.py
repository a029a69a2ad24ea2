"""Fixtures of the system tests: which binaries, which interpreters, and a `Warm` that must leave nothing behind.

    warm     a fresh user per test; by default on one interpreter (spread over those found), on every one with
             `@pytest.mark.every_python`
    start    a function that starts a shell in a terminal, for a test that runs under python3 and under warmpy
    shared   one user per test file and interpreter, on every interpreter: for tests that only compare
"""

import os
import re
import subprocess
import sys
import zlib

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from harness import Warm  # noqa: E402
from shells import Session  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(120))


def pytest_generate_tests(metafunc):
    if "python" not in metafunc.fixturenames:
        return
    config = metafunc.config
    pythons = config.pythons
    every = "shared" in metafunc.fixturenames or metafunc.definition.get_closest_marker("every_python")
    if config.getoption("--python-one") or not (every or config.getoption("--python-all")):
        pythons = [pythons[zlib.crc32(metafunc.function.__name__.encode()) % len(pythons)]]
    ids = [re.sub(r".*/versions/([^/]+)/bin/python3", r"\1", path).strip("/") for path in pythons]
    metafunc.parametrize("python", pythons, ids=ids, scope="module")


@pytest.fixture
def warm(bin_dir, python):
    user = Warm(bin_dir, python)
    yield user
    user.close()


@pytest.fixture(scope="module")
def shared(bin_dir, python):
    user = Warm(bin_dir, python)
    yield user
    user.close()


@pytest.fixture(params=["python3", "warmpy"])
def start(request, warm):
    sessions = []

    def make(shell="bash", **how):
        session = Session(warm, warm.warmpy if request.param == "warmpy" else warm.python, shell, **how)
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        session.t.close()


@pytest.fixture(scope="session")
def numpy_python(pytestconfig):
    """An interpreter that has numpy: that of the checkout, or any found."""
    for path in [os.path.join(ROOT, ".venv/bin/python3"), *pytestconfig.pythons]:
        if os.access(path, os.X_OK) and subprocess.run([path, "-c", "import numpy"], capture_output=True).returncode == 0:
            return path
    pytest.skip("no interpreter with numpy")


@pytest.fixture
def unprivileged(bin_dir, pytestconfig):
    """A function that makes a `Warm` an ordinary user (uid 54321 when we are root), with an interpreter it can use."""
    def change(warm):
        if os.geteuid() != 0:
            warm.identity = (os.geteuid(), os.getegid())
            return
        usable = [path for path in [warm.python, *pytestconfig.pythons, "/usr/bin/python3"] if usable_by_others(path)]
        if not usable or not usable_by_others(os.path.join(bin_dir, "warmpy"), "--warmfork-version"):
            pytest.skip("no interpreter, or no warmpy, that other users may run")
        warm.python = warm.environment["WARMFORK_PYTHON"] = usable[0]
        warm.identity = (54321, 54321)
        for path in (warm.dir, warm.home, warm.work):
            os.chown(path, 54321, 54321)
    return change


def usable_by_others(path, option="-V"):
    def drop():
        os.setgroups([])
        os.setresgid(54321, 54321, 54321)
        os.setresuid(54321, 54321, 54321)
    try:
        return subprocess.run([path, option], preexec_fn=drop, capture_output=True, cwd="/").returncode in (0, 2)
    except OSError:
        return False


@pytest.fixture
def as_root():
    if os.geteuid() != 0:
        pytest.skip("needs root")
