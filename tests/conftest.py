"""What all tests share: which binaries, which interpreters."""

import glob
import os
import re
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ASK = "import sys; print(*sys.version_info[:3], sys.implementation.name, hasattr(sys, '_is_gil_enabled') and " \
      "not sys._is_gil_enabled())"


def pytest_addoption(parser):
    parser.addoption("--python-all", action="store_true", help="run every test on every interpreter")
    parser.addoption("--python-one", action="store_true", help="run every test on one interpreter only")
    parser.addoption("--parity-record", help="append one JSON line per case and interpreter of tests/parity to this file")


def pytest_configure(config):
    config.addinivalue_line("markers", "every_python: run on every interpreter found")
    config.pythons = find_pythons()
    if not config.pythons:
        raise pytest.UsageError("no CPython >= 3.10 found; set WARMFORK_TEST_PYTHONS")


def find_pythons():
    """Paths of every CPython >= 3.10 on the machine, one per version, in version order."""
    named = os.environ.get("WARMFORK_TEST_PYTHONS")
    if named:
        return re.split("[:,]", named)
    root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    paths = glob.glob(os.path.join(root, "versions/*/bin/python3"))
    paths += ["/usr/local/bin/python3", "/usr/bin/python3"] + sorted(glob.glob("/usr/bin/python3.[0-9][0-9]"))
    found = {}
    for path in paths:
        if not os.access(path, os.X_OK):
            continue
        answer = subprocess.run([path, "-I", "-c", ASK], capture_output=True, text=True, check=False)
        words = answer.stdout.split()
        if answer.returncode or words[3:] != ["cpython", "False"]:
            continue
        version = tuple(map(int, words[:3]))
        if version >= (3, 10):
            found.setdefault(version, path)
    return [path for version, path in sorted(found.items())]


def find_binaries():
    for directory in (os.environ.get("WARMFORK_BIN"), os.path.join(ROOT, ".venv/bin"), os.path.dirname(sys.executable)):
        if directory and os.access(os.path.join(directory, "warmpy"), os.X_OK):
            return os.path.abspath(directory)
    return None


@pytest.fixture(scope="session")
def bin_dir():
    """The directory with warmpy, warmctl and warmforkd."""
    directory = find_binaries()
    assert directory, "warmpy not found: build first (make), or set WARMFORK_BIN"
    return directory
