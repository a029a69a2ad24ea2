"""The virtual environments that hold the tools: made once, in a cache directory of the checkout that git ignores.

Each of requirements/*.txt is one environment, with every version pinned.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = ROOT / ".cache" / "programs"
REQUIREMENTS = HERE / "requirements"


class Venv:
    """One environment: `python` is its interpreter, `bin` the directory of its console scripts."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.bin = self.directory / "bin"
        self.python = str(self.bin / "python")

    def holds(self, path):
        """A file below the environment, by a path relative to it or to its site-packages."""
        found = self.directory / path
        return found if found.exists() else next(self.directory.glob(f"lib/python3*/site-packages/{path}"))


def own():
    """The environment that this runs in."""
    return Venv(sys.prefix)


def names():
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def prepare(name):
    """Returns the environment `name`, made or made anew when its requirements or the interpreter have changed."""
    requirements = REQUIREMENTS / f"{name}.txt"
    base = os.path.join(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    directory = CACHE / name
    made_for = hashlib.sha256(requirements.read_bytes() + base.encode() + sys.version.encode()).hexdigest()
    stamp = directory / ".made"
    if not stamp.exists() or stamp.read_text() != made_for:
        print(f"programs: installing {requirements.relative_to(ROOT)} into {directory.relative_to(ROOT)}", flush=True)
        shutil.rmtree(directory, ignore_errors=True)
        _call([base, "-m", "venv", str(directory)])
        pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        _call([*pip, "--no-deps", "-r", str(requirements)])
        stamp.write_text(made_for)
    return Venv(directory)


def pinned(name, distribution):
    """The version of a distribution in the environment `name`, or None."""
    for line in (REQUIREMENTS / f"{name}.txt").read_text().splitlines():
        found, _, version = line.partition("==")
        if found.lower().replace("_", "-") == distribution.lower():
            return version
    return None


def _call(argv):
    """Runs a command; what it said is shown only when it fails."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"programs: {' '.join(argv)}: exit status {done.returncode}\n{done.stdout[-3000:]}")
