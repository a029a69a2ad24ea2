"""Fixtures of the pool's tests: nothing may be left of a test, no process, thread or descriptor."""

import gc
import os
import signal
import threading
import time
from pathlib import Path

import pytest


def children(pid="self"):
    """Of a process, of all its threads."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            found += Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        except OSError:  # that thread has ended
            pass
    return sorted(int(c) for c in found)


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


def until(condition, what="it"):
    """Waits for what has no event: the end of another process's child, say. Bounded, and never a fixed time."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def nothing_left():
    import warmfork.executor  # noqa: F401  (what importing opens is not the test's)

    before = children(), descriptors(), set(threading.enumerate())
    yield
    gc.collect()
    assert children() == before[0], "processes are left"
    assert [t for t in threading.enumerate() if t not in before[2]] == [], "threads are left"
    assert descriptors() == before[1], "descriptors are left"


def state(pid):
    """Its main thread's, as in /proc/PID/stat; X when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def alive(pid):
    return state(pid) not in "ZX"


def kill_self(signum=signal.SIGKILL):
    os.kill(os.getpid(), signum)
    time.sleep(60)  # never returns: the signal is on its way
