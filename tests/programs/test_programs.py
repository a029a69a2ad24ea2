"""A sample of real programs, byte for byte: those that are installed beside warmfork, so that no network is needed.

The whole, with tools from the package index, is `make programs`. (No conftest.py here: that name is imported elsewhere.)
"""

import dataclasses
import os
import sys

import cases
import pytest
import trials
import venvs
from trials import BARE, COLD, PRELOADED

SAMPLE = ("mypy: a wrong option", "pip: list", "pip: download", "pip: show what there is not", "pygmentize: a module as HTML",
          "pygmentize: no such lexer", "pytest: tests that pass", "pytest: tests that fail")
ROOT = venvs.ROOT
BY_NAME = {case.name: case for case in cases.CASES}
pytestmark = pytest.mark.timeout(300)


def bin_dir():
    for directory in (os.environ.get("WARMFORK_BIN"), ROOT / ".venv" / "bin", os.path.dirname(sys.executable)):
        if directory and os.access(os.path.join(directory, "warmpy"), os.X_OK):
            return os.path.abspath(directory)
    raise AssertionError("warmpy not found: build first (make), or set WARMFORK_BIN")


@pytest.fixture(scope="module")
def user():
    user = trials.User(bin_dir(), venvs.own())
    yield user
    user.close()


@pytest.mark.parametrize("name", SAMPLE)
def test_same(user, name):
    case = BY_NAME[name]
    with trials.prepared(user, case):
        for how in BARE, PRELOADED:
            want = user.trial(case, COLD, how)
            assert want.result.status == case.status, want.result
            user.get_warm(case, how)
            got = user.trial(case, how)
            assert got.result.warm, user.explain()
            assert not trials.difference(want, got), trials.difference(want, got)


def test_differences_are_found(user):
    """The comparison itself: a file's content, its mode, a missing file, an output, a status."""
    code = "import os, sys; open('made', 'w').write('{0}'); os.chmod('made', {1}); {2}; print({3}); sys.exit({4})"
    same = ("text", "0o644", "pass", "1", "0")
    others = [("txet", *same[1:]), (same[0], "0o600", *same[2:]), (*same[:2], "os.unlink('made')", *same[3:]),
              (*same[:3], "2", same[4]), (*same[:4], "3"), (*same[:2], "os.symlink('a', 'b')", *same[3:])]
    case = dataclasses.replace(BY_NAME["pip: list"], args=("-c", code.format(*same)))
    with trials.prepared(user, case):
        want = user.trial(case, COLD)
        assert not trials.difference(want, user.trial(case, COLD))
        for other in others:
            changed = dataclasses.replace(case, args=("-c", code.format(*other)))
            assert trials.difference(want, user.trial(changed, COLD)), other
