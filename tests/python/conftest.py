"""Fixtures of the tests of the installed package: its programs, and a runtime directory that is stopped afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def bin_dir():
    """Where pip has put the programs: beside the interpreter that runs the tests."""
    directory = Path(os.environ.get("WARMFORK_BIN", Path(sys.executable).parent))
    assert (directory / "warmpy").exists(), f"no warmpy in {directory}: run make"
    return directory


@pytest.fixture
def env(bin_dir, tmp_path_factory):
    """An environment with a runtime directory of its own; the path of a socket must be short."""
    directory = tmp_path_factory.mktemp("run")
    directory.chmod(0o700)
    dropped = ("WARMFORK_", "PYTHON", "VIRTUAL_ENV")
    found = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    found |= {"WARMFORK_RUNTIME_DIR": str(directory), "WARMFORK_PYTHON": sys.executable}
    yield found
    subprocess.run([bin_dir / "warmctl", "stop"], env=found, capture_output=True, check=False)
