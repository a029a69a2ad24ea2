"""A sample of CPython's own test suite: every test method comes out under warmpy as it does under python.

The modules are those that look at the interpreter's life, at processes and at what is inherited, and are over in a few
seconds. `tools/cpython_parity.py` runs all of them; docs/parity.md has the results.
"""

import os
import sys
import zlib

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))

import cpython_parity  # noqa: E402
import cpython_report  # noqa: E402
import cpython_runs  # noqa: E402

MODULES = """
    test_asyncio.test_queues test_asyncio.test_protocols test_atexit test_builtin test_cmd_line_script
    test_contextlib test_dynamic test_epoll test_exceptions test_fcntl test_fileio test_finalization
    test_fork1 test_frame test_gc test_getopt test_hash test_import test_linecache test_locale test_module test_pkgutil
    test_posix test_print test_pty test_random test_resource test_runpy test_select test_sys
    test_sys_setprofile test_tempfile test_thread test_threading_local test_traceback test_tty test_types test_uuid
    test_warnings
""".split()

PRELOAD = "asyncio,trace,logging,random,tempfile,threading,subprocess,multiprocessing,json,unittest,linecache,warnings,decimal"
PRELOADED = "test_context test_trace test_functools test_json.test_decode test_linecache test_random test_tempfile".split()


@pytest.fixture(scope="module")
def lanes(bin_dir):
    """The lane of each interpreter and preload that was asked for; all are closed, and found tidy, at the end."""
    made = {}

    def lane(python, preload=""):
        if (python, preload) not in made:
            made[python, preload] = cpython_runs.Lane(bin_dir, python, limit=50, preload=preload)
            made[python, preload].prime()
        return made[python, preload]

    yield lane
    for lane in made.values():
        lane.close()


@pytest.fixture(scope="module")
def suites(pytestconfig):
    """The interpreters with a test suite, by version; one of them with --python-one."""
    found = {version: path for version, path in cpython_parity.suites().items() if path in pytestconfig.pythons}
    if not found:
        pytest.skip("no interpreter has CPython's test package")
    return dict([max(found.items())]) if pytestconfig.getoption("--python-one") else found


def same_outcomes(module, suites, lanes, preload):
    """Compares a module on one of the interpreters, always the same."""
    versions = sorted(suites)
    version = versions[zlib.crc32(module.encode()) % len(versions)]
    lane = lanes(suites[version], preload)
    result = lane.compare(f"test.{module}")
    assert result.warm, f"no run was warm: {lane.user.explain()}"
    assert result.methods > 0
    causes = cpython_report.read_causes(cpython_report.TABLE)
    strange = [entry for entry in result.differs if not cpython_report.find_cause(causes, version, entry)]
    assert not strange, "\n".join(f"{e.test}: python {e.cold}, warmpy {e.warm}\n{e.text}" for e in strange)


@pytest.mark.parametrize("module", MODULES)
def test_outcomes_of_cpythons_own_tests_are_the_same(module, suites, lanes):
    same_outcomes(module, suites, lanes, "")


@pytest.mark.parametrize("module", PRELOADED)
def test_outcomes_are_the_same_when_what_is_tested_is_preloaded(module, suites, lanes):
    same_outcomes(module, suites, lanes, PRELOAD)


def test_outcomes_tell_every_ending_of_a_test(lanes, suites):
    """What the recorder notes, on a module with one test for each ending; and a method that warmpy alone fails."""
    version, python = max(suites.items())
    lane = lanes(python)
    lane.state.joinpath("endings.py").write_text(ENDINGS)
    lane.env["PYTHONPATH"] = str(lane.state)
    try:
        run = lane.run_once("endings", False, cpython_runs.Choice())
    finally:
        del lane.env["PYTHONPATH"]
    told = {test.rpartition(".")[2]: outcomes for test, outcomes in run.outcomes.items()}
    assert told == {
        "test_pass": ("pass",), "test_fail": ("fail AssertionError",), "test_error": ("error OSError",),
        "test_skip": ("skip not today",), "test_xfail": ("xfail AssertionError",), "test_xpass": ("xpass",),
        "test_sub": ("error ValueError (number=#)", "fail AssertionError (number=#)", "skip no #"),
        "test_last": ("died exit 3",), "(exit status)": ("exit 3",),
    }


def test_a_method_that_warmpy_alone_fails_is_found(bin_dir, suites):
    """The one that is sure to: the parent is a known difference."""
    lane = cpython_runs.Lane(bin_dir, max(suites.items())[1])
    try:
        path = lane.state / "path"
        path.mkdir()
        path.joinpath("parent.py").write_text(PARENT)
        lane.env["PYTHONPATH"] = str(path)
        lane.prime()
        result = lane.compare("parent")
    finally:
        lane.close()
    assert result.warm
    assert [(entry.test, entry.cold, entry.warm) for entry in result.differs] == [
        (cpython_runs.STATUS, [["exit 0"]], [["exit 1"]]),
        ("parent.T.test_parent", [["pass"]], [["fail AssertionError"]])]
    assert (result.methods, result.same) == (2, 1)


def test_what_ends_the_process_or_hangs_does_not_hide_the_other_methods(bin_dir, suites):
    lane = cpython_runs.Lane(bin_dir, max(suites.items())[1], limit=5)
    try:
        path = lane.state / "path"
        path.mkdir()
        path.joinpath("fatal.py").write_text(FATAL)
        lane.env["PYTHONPATH"] = str(path)
        lane.prime()
        result = lane.compare("fatal")
    finally:
        lane.close()
    assert result.warm and not result.differs and not result.unsteady
    assert result.unfinished == ["fatal.T.test_hang"]
    assert (result.methods, result.same, result.outcomes) == (4, 4, {"died": 2, "pass": 2})


def test_the_quickest_modules_come_first(tmp_path):
    """As any interpreter's results have it; packages count as the module of the same name."""
    results = {"3.10": {"slow": 90, "quick": 1}, "3.12": {"quick": 2, "package.a": 20, "package.b": 20}}
    for version, took in results.items():
        lines = [cpython_runs.Comparison(name, version, seconds=(s / 2, s / 2)).line() for name, s in took.items()]
        (tmp_path / f"{version}.jsonl").write_text("".join(line + "\n" for line in lines))
    names = ["slow", "package", "unknown", "quick"]
    assert cpython_parity.quickest_first(names, tmp_path) == ["quick", "unknown", "package", "slow"]


def run_of(hung=False, **outcomes):
    told = {test: (outcome,) for test, outcome in outcomes.items() if outcome}
    return cpython_runs.Run(told, {}, 1.0, True, hung, "")


def test_a_method_that_always_differs_is_told_from_one_that_varies():
    result = cpython_runs.Comparison("m", "3")
    cpython_runs.judge(result, [
        (run_of(a="pass", b="pass", c="pass", d="pass", e="unfinished", f="skip x"),
         run_of(a="pass", b="error OSError", c="error OSError", d="", e="unfinished", f="skip y")),
        (run_of(b="pass", c="error OSError", d="pass", f="skip x"),
         run_of(b="error OSError", c="error OSError", d="", f="skip y"))])
    assert [entry.test for entry in result.differs] == ["b", "d", "f"]
    assert [entry.warm for entry in result.differs] == [[["error OSError"]], [["missing"]], [["skip y"]]]
    assert [entry.test for entry in result.unsteady] == ["c"]
    assert (result.methods, result.same, result.unfinished) == (5, 1, ["e"])
    assert result.outcomes == {"pass": 4, "skip": 1}


def test_a_run_that_once_ended_and_once_hung_under_both_is_not_steady():
    result = cpython_runs.Comparison("m", "3")
    status = {cpython_runs.STATUS: "exit 0"}
    cpython_runs.judge(result, [(run_of(a="pass", **status), run_of(hung=True, a="pass")),
                                (run_of(hung=True, a="unfinished"), run_of(hung=True, a="unfinished"))])
    assert [entry.test for entry in result.unsteady] == [cpython_runs.STATUS]
    assert result.differs == []


def test_what_hangs_under_warmpy_alone_differs():
    found = cpython_runs.differing(run_of(a="pass", b="pass"), run_of(hung=True, a="unfinished"))
    assert sorted(found) == ["a", "b"]
    assert cpython_runs.differing(run_of(hung=True, a="unfinished"), run_of(a="pass", b="pass")) == []


PARENT = """
import os, unittest
class T(unittest.TestCase):
    def test_parent(self):
        with open(f"/proc/{os.getppid()}/cmdline", "rb") as file:
            self.assertNotIn(b"boot.py", file.read())
    def test_pass(self): pass
"""

FATAL = """
import os, signal, unittest
class T(unittest.TestCase):
    def test_exit(self): os._exit(3)
    def test_hang(self): signal.pause()
    def test_interrupts_are_not_ignored(self):
        self.assertEqual(signal.getsignal(signal.SIGINT), signal.default_int_handler)
    def test_kill(self): os.kill(os.getpid(), signal.SIGKILL)
    def test_pass(self): pass
"""

ENDINGS = """
import os, unittest
class T(unittest.TestCase):
    def test_pass(self): pass
    def test_fail(self): self.fail()
    def test_error(self): raise FileNotFoundError if 0 else OSError
    def test_skip(self): self.skipTest("not today")
    @unittest.expectedFailure
    def test_xfail(self): self.fail()
    @unittest.expectedFailure
    def test_xpass(self): pass
    def test_sub(self):
        for number in range(4):
            with self.subTest(number=number):
                if number == 1: self.fail()
                if number == 2: raise ValueError
                if number == 3: self.skipTest("no 3")
class Z(unittest.TestCase):
    def test_last(self): os._exit(3)
"""
