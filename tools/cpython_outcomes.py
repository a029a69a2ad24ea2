"""The test module that `tools/cpython_parity.py` has unittest run: loads one of CPython's and notes the outcomes.

It lies in the working directory of the run, and is found by `python3 -m unittest cpython_outcomes`, so that the
interpreter, the command line and the runner are those that a user has. What is asked for lies beside it, as JSON:
"module"; "only", the ids of the tests to run, null for all; "without", ids of those not to run; "file", where a line of
JSON is appended for each event; "directory", whose name is not part of an outcome; "preload", whose last module tells
whether it was there. Nothing of unittest is replaced: the one result object that the runner made tells what it is told.

A line is [event, test, outcome, text]: "start" and "stop" of a test, "outcome", or "preloaded". An outcome is "pass",
or what went otherwise and its kind: "fail AssertionError", "error OSError", "skip REASON", "xfail", "xpass". `text` is
for people.
"""

import sys

at_start = set(sys.modules)

import json  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import unittest  # noqa: E402

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "cpython_outcomes.json")) as file:
    asked = json.load(file)
main_pid = os.getpid()
_open, _write, _close = os.open, os.write, os.close  # tests replace them

VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+")


def plain(text):
    """`text` without what differs from run to run: addresses, numbers, the run's directory."""
    return VARYING.sub("#", str(text).replace(asked["directory"], "DIR")).strip()[:300]


def note(event, test, outcome="", text=""):
    if os.getpid() != main_pid:  # a child that a test forked and that came back to the runner
        return
    whole = getattr(test, "test_case", test)  # a subtest that is skipped is told by itself
    write_line([event, whole.id(), outcome, text[-2000:]])


def write_line(what):
    line = json.dumps(what) + "\n"
    fd = _open(asked["file"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _write(fd, line.encode("utf-8", "backslashreplace"))
    _close(fd)


def kind_of(error):
    return f"{error[0].__module__}.{error[0].__qualname__}".removeprefix("builtins.")


def text_of(error):
    try:
        return str(error[1])
    except Exception as e:  # the exception of a test may be one that cannot be shown
        return f"({type(e).__name__} while showing it)"


def sub_outcome(test, subtest, error):
    """The outcome of a subtest, named by its parameters: only what failed is told."""
    if error is None:
        return None
    word = "fail" if issubclass(error[0], test.failureException) else "error"
    return f"{word} {kind_of(error)} {plain(subtest._subDescription())}"


def listen(result):
    """Has every call of `result`'s methods noted, before it is made."""

    def wrap(name, describe):
        method = getattr(result, name)

        def call(test, *args):
            told = describe(test, *args)
            if told is not None:
                note("outcome", test, *told)
            return method(test, *args)

        setattr(result, name, call)

    def event(name, word):
        method = getattr(result, name)

        def call(test):
            note(word, test)
            return method(test)

        setattr(result, name, call)

    def subtest(test, subtest, error):
        outcome = sub_outcome(test, subtest, error)
        return outcome and (outcome, text_of(error))

    event("startTest", "start")
    event("stopTest", "stop")
    wrap("addSuccess", lambda test: ("pass",))
    wrap("addFailure", lambda test, e: (f"fail {kind_of(e)}", text_of(e)))
    wrap("addError", lambda test, e: (f"error {kind_of(e)}", text_of(e)))
    wrap("addSkip", lambda test, reason: (f"skip {plain(reason)}", str(reason)))
    wrap("addExpectedFailure", lambda test, e: (f"xfail {kind_of(e)}", text_of(e)))
    wrap("addUnexpectedSuccess", lambda test: ("xpass",))
    wrap("addSubTest", subtest)


class Noted(unittest.TestSuite):
    """The suite that tells the runner's result to note what it hears."""

    def run(self, result, debug=False):
        listen(result)
        return super().run(result, debug)


def chosen(suite, wanted):
    """The tests of `suite` for whose ids `wanted` is true, in their suites."""
    if not isinstance(suite, unittest.TestSuite):
        return suite if wanted(suite.id()) else None
    kept = [test for test in (chosen(member, wanted) for member in suite) if test is not None]
    return type(suite)(kept)


def load_tests(loader, tests, pattern):
    if asked["preload"].split(",")[-1] in at_start:
        write_line(["preloaded", "", "", ""])
    suite = loader.loadTestsFromName(asked["module"])
    only, without = asked["only"], asked["without"]
    if only is not None or without:
        suite = chosen(suite, lambda test: (only is None or test in only) and test not in without)
    return Noted([suite])
