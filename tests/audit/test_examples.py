"""The programs of docs/fork-safety.md show what it says they show, and the auditor sees the hazard of each coming."""

import os
import re
import subprocess

import pytest
from audit_harness import ROOT, clean_environment, of, run

pytestmark = pytest.mark.timeout(120)

FOLDER = ROOT / "examples/hazards"
SHOWS = {
    "atexit-callbacks": ["before: True", "after a child has ended: False"],
    "child-process": ["in a child: ChildProcessError", "in the process: 0"],
    "database": ["the parent commits: disk I/O error"],
    "env-snapshot": ["connects to: production"],
    "epoll": ["sees 1 event", "sees 0 events"],
    "event-loop": ["in a child: RuntimeError: no running event loop", "in the process: done"],
    "executor": ["in the process: 1024", "in a child: hangs"],
    "file-lock": ["before: BlockingIOError", "after a child has unlocked: has it"],
    "gc-unshares": ["with gc.freeze() before the fork: 0 MB"],
    "gpu": ["torch"],
    "inotify": ["a child reads True", "the parent finds nothing to read"],
    "io-uring": ["completions of: []", "it finds: [42]"],
    "lock": ["in a child, lock.acquire() hangs", "once the thread is done: True"],
    "native-thread": ["process: 1 by threading, 2 by the kernel", "child: 1 by threading, 1 by the kernel"],
    "pending-signal": ["in a child: 0 signals", "in the process: 1 signals"],
    "privileged-fd": ["may not open it, and reads: the secret"],
    "random-state": [re.compile(r"draw: (\d+) \1 \1 \1")],
    "shared-memory": ["the parent finds: child"],
    "shared-socket": ["gets the answer to the child"],
    "signal-mask": ["still there after SIGTERM"],
    "signal-wakeup-fd": ["told of signal 10 which was its child's"],
    "thread": ["in the process itself: done", "in a child: hangs"],
    "timer": ["in the process: True", "in a child: False"],
    "unflushed-buffer": ["['one line', 'one line']"],
}
CODE = {"atexit-callbacks": "atexit", "gc-unshares": "gc", "shared-socket": "socket"}
NOT_SEEN_COMING = {"gpu"}  # there is none
# What is the program's own at its first fork: the file can still be opened, the peer is a socket pair.
LATER = {"privileged-fd"}


def test_every_program_is_here_and_in_the_document():
    names = {path.stem for path in FOLDER.glob("*.py")} - {"show"}
    assert names == set(SHOWS)
    document = (ROOT / "docs/fork-safety.md").read_text()
    assert {name for name in names if f"examples/hazards/{name}.py" in document} == names


@pytest.mark.parametrize("name", SHOWS)
def test_shows(python, name):
    done = subprocess.run(
        [python, "-W", "ignore", f"{FOLDER}/{name}.py"], env=clean_environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    if "not shown" in done.stdout + done.stderr and name != "gpu":
        pytest.skip(done.stderr.strip() or done.stdout.strip())
    assert done.returncode == 0, done.stderr
    for text in SHOWS[name]:
        pattern = text if isinstance(text, re.Pattern) else re.escape(text)
        assert re.search(pattern, done.stdout), done.stdout


@pytest.mark.parametrize("name", sorted(set(SHOWS) - NOT_SEEN_COMING))
def test_seen_coming(python, name):
    """The auditor, asked before the first fork of each program, names its hazard."""
    program = f"""
import os, runpy, sys, warnings
warnings.simplefilter("ignore")
from warmfork._forking import before_next_fork
before_next_fork(tell)
sys.path.insert(0, {str(FOLDER)!r})
runpy.run_path({str(FOLDER / (name + ".py"))!r}, run_name="__main__")
"""
    if name == "privileged-fd" and os.geteuid() != 0:
        pytest.skip("needs root")
    report = run(python, program)
    if name not in LATER:
        assert of(report, CODE.get(name, name)), report["findings"]
