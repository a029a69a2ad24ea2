"""Runs the tables: every `CASES` of a module here, on one interpreter in full and on the others by sample.

    --python-all          every case on every interpreter
    --python-one          one interpreter only
    --parity-record FILE  appends one JSON line per case and interpreter (tools/parity_table.py makes docs/parity.md of it)
"""

import json
import os
import re
import sys

import pytest

sys.path[:0] = [os.path.dirname(__file__), os.path.join(os.path.dirname(os.path.dirname(__file__)), "system")]

import parity  # noqa: E402
from harness import Warm  # noqa: E402

SAMPLE = 6  # of the other interpreters' cases, one in so many


def pytest_generate_tests(metafunc):
    if "case" not in metafunc.fixturenames:
        return
    config, cases = metafunc.config, metafunc.module.CASES
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), f"two cases of one name: {sorted(n for n in names if names.count(n) > 1)}"
    main = config.pythons[len(config.pythons) // 2]
    values, ids = [], []
    for at, python in enumerate(config.pythons):
        version, one = parity.version_of(python), config.getoption("--python-one")
        label = re.sub(r".*/versions/([^/]+)/bin/python3", r"\1", python).strip("/")
        for number, case in enumerate(cases):
            sampled = python == main or config.getoption("--python-all") or (not one and number % SAMPLE == at)
            if sampled and case.suits(version):
                values.append((python, case))
                ids.append(f"{label}-{case.name}")
    metafunc.parametrize("python, case", values, ids=ids, scope="function")


@pytest.fixture(scope="module")
def users():
    """One user per table and interpreter, by the interpreter's path; their preloaded runs really were."""
    made = {}
    yield made
    for user in made.values():
        parity.assert_preloaded(user)
        user.close()


@pytest.fixture
def user(users, bin_dir, python):
    if python not in users:
        users[python] = Warm(bin_dir, python)
        parity.assert_preloaded(users[python])
    return users[python]


@pytest.fixture
def record(request, python, case):
    """A function that notes what became of the case."""
    path = request.config.getoption("--parity-record")

    def note(outcome):
        if path:
            line = {"section": request.module.__name__, "case": case.name, "python": parity.version_of(python),
                    "executable": python, "outcome": outcome}
            with open(path, "a") as file:
                file.write(json.dumps(line) + "\n")

    return note
