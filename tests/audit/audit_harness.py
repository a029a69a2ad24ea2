"""Runs programs that audit themselves, in processes of their own, on the interpreters that are meant."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# As `warmctl audit` loads it: by path, so that the interpreter need not have warmfork installed.
BOOT = """
import importlib.util, sys
def _load(folder):
    spec = importlib.util.spec_from_file_location("warmfork", folder + "/__init__.py", submodule_search_locations=[folder])
    sys.modules["warmfork"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
warmfork = _load({folder!r})
keep = []
def tell(report=None):
    report = warmfork.audit() if report is None else report
    sys.__stdout__.flush()
    import os
    with open({answer}, "w", closefd=False) as file:
        file.write(report.to_json())
    os._exit(0)
"""


def find_bin():
    for directory in (os.environ.get("WARMFORK_BIN"), ROOT / ".venv/bin", Path(sys.executable).parent):
        if directory and os.access(Path(directory, "warmctl"), os.X_OK):
            return Path(directory).absolute()
    raise AssertionError("warmctl not found: build first (make), or set WARMFORK_BIN")


def find_package():
    """The folder of the package that belongs to the binaries."""
    folders = [find_bin().parent / "lib/warmfork", *find_bin().parent.glob("lib/python3*/site-packages/warmfork")]
    for folder in folders:
        if (folder / "_auditor.py").exists():
            return str(folder)
    raise AssertionError(f"no warmfork package beside {find_bin()}")


def clean_environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "WARMFORK_", "VIRTUAL_ENV", "COV_"))}
    return env | {"PYTHONDONTWRITEBYTECODE": "1"} | more


def run(python, program, *, wrap=(), env=None, cwd=None, timeout=60):
    """The report, as plain data, of a program that calls `tell()`; in it are `warmfork` and a list `keep`."""
    read, write = os.pipe()
    with os.fdopen(read) as answer:
        try:
            text = BOOT.format(folder=find_package(), answer=write) + program
            done = subprocess.run(
                [*wrap, python, "-c", text], env=clean_environment(**(env or {})), cwd=cwd, pass_fds=[write],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
            )  # fmt: skip
        finally:
            os.close(write)
        told = answer.read()
    assert told, f"status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(told)


def of(report, code):
    """The findings with that code."""
    return [f for f in report["findings"] if f["code"] == code]


def unsafe(report):
    return [(f["code"], f["message"], f["where"]) for f in report["findings"] if f["severity"] == "unsafe"]
