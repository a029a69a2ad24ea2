"""Fixtures of the auditor's tests: `python` is each interpreter found (one with --python-one), `libraries` one that has
the real libraries of requirements-sample.txt, or with WARMFORK_AUDIT_FULL=1 of requirements.txt, in a venv of its own."""

import hashlib
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from audit_harness import ROOT, find_bin  # noqa: E402

HERE = Path(__file__).parent
ASK = "import sys; print(*sys.version_info[:2], sys.implementation.name, hasattr(sys, '_is_gil_enabled') and not " \
      "sys._is_gil_enabled())"


def pytest_addoption(parser):
    try:
        parser.addoption("--python-one", action="store_true", help="run every test on one interpreter only")
    except ValueError:
        pass  # the system tests have it as well, and both are run together


def find_pythons():
    named = os.environ.get("WARMFORK_TEST_PYTHONS")
    if named:
        return re.split("[:,]", named)
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    paths = [*root.glob("versions/*/bin/python3"), Path("/usr/local/bin/python3"), Path("/usr/bin/python3")]
    found = {}
    for path in paths:
        if not os.access(path, os.X_OK):
            continue
        words = subprocess.run([path, "-I", "-c", ASK], capture_output=True, text=True, check=False).stdout.split()
        if words[2:] == ["cpython", "False"] and tuple(map(int, words[:2])) >= (3, 10):
            found.setdefault(tuple(map(int, words[:2])), str(path))
    return [path for _, path in sorted(found.items())]


def pytest_generate_tests(metafunc):
    if "python" not in metafunc.fixturenames:
        return
    pythons = find_pythons()
    if metafunc.config.getoption("--python-one", default=False):
        pythons = [pythons[zlib.crc32(metafunc.function.__name__.encode()) % len(pythons)]]
    ids = [re.sub(r".*/versions/([^/]+)/bin/python3", r"\1", path).strip("/") for path in pythons]
    metafunc.parametrize("python", pythons, ids=ids)


def make_venv(requirements):
    """A venv with pinned libraries, made once for each content of the file, in build/ of the checkout."""
    import fcntl

    named = os.environ.get("WARMFORK_AUDIT_PYTHON")
    if named:
        return named
    base = next((p for p in find_pythons() if "3.11" in p or "3.12" in p), sys.executable)
    pins = (HERE / "requirements.txt").read_bytes()
    digest = hashlib.sha256(requirements.read_bytes() + pins + base.encode()).hexdigest()[:12]
    folder = ROOT / "build" / f"audit-{requirements.stem}-{digest}"
    folder.parent.mkdir(exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            subprocess.run([base, "-m", "venv", "--clear", folder], check=True)
            pip = [folder / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            done = subprocess.run([*pip, "--only-binary", ":all:", "-r", requirements], check=False, timeout=3600)
            if done.returncode:
                pytest.skip(f"pip cannot install {requirements.name} (status {done.returncode})")
            (folder / "made").touch()
    return str(folder / "bin/python")


@pytest.fixture(scope="session")
def libraries():
    full = os.environ.get("WARMFORK_AUDIT_FULL")
    return make_venv(HERE / ("requirements.txt" if full else "requirements-sample.txt"))


@pytest.fixture(scope="session")
def warmctl():
    return str(find_bin() / "warmctl")
