"""Facts about processes, from /proc: who belongs to a test, in which role, and whether they are gone.

Only pidfds are waited for, never a fixed time, and nothing is ever killed by name: a process belongs to a
test when its environment, command line, directory or an open file names that test's own directory.
"""

import os
import select
import signal
import time


def read(path):
    """The bytes of a file in /proc, or b"" when the process is gone or not ours to look at."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


def stat(pid):
    """(comm, state, ppid) of a process, also of a zombie; None when there is no such process."""
    data = read(f"/proc/{pid}/stat").decode("utf-8", "replace")
    if not data:
        return None
    comm = data[data.index("(") + 1 : data.rindex(")")]
    rest = data[data.rindex(")") + 2 :].split()
    return comm, rest[0], int(rest[1])


def children(pid):
    """Those of the main thread."""
    return [int(child) for child in read(f"/proc/{pid}/task/{pid}/children").split()]


def comm(pid):
    found = stat(pid)
    return found[0] if found else ""


def ppid(pid):
    found = stat(pid)
    return found[2] if found else 0


def alive(pid):
    """True for a process that exists and is not a zombie."""
    found = stat(pid)
    return found is not None and found[1] not in "ZX"


def mentions(pid, needle):
    """Whether the process has to do with the directory `needle` (bytes)."""
    base = f"/proc/{pid}"
    if needle in read(base + "/environ") or needle in read(base + "/cmdline"):
        return True
    text = os.fsdecode(needle)
    if text in link(base + "/cwd"):
        return True
    try:
        fds = os.listdir(base + "/fd")
    except OSError:
        return False
    return any(text in link(f"{base}/fd/{fd}") for fd in fds)


def belonging_to(directory):
    """The pids of all live processes that belong to the test that owns `directory`."""
    needle = os.fsencode(directory)
    me = os.getpid()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if pid != me and alive(pid) and mentions(pid, needle)]


def sleeps(directory, name):
    """Whether a process of `directory` with `name` (bytes) in its command line is asleep. What python is told by a
    signal before that, between its last look at its signals and the call that waits, it acts on only after the wait."""
    return any(name in read(f"/proc/{pid}/cmdline") and (stat(pid) or "??")[1] == "S" for pid in belonging_to(directory))


def describe(pid):
    line = read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode("utf-8", "replace")
    return f"{pid} (parent {ppid(pid)}) {line[:200]}"


def wait_gone(pids, timeout):
    """Waits by pidfd until all `pids` are gone (or zombies); returns those that are not."""
    deadline = time.monotonic() + timeout
    left = []
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
                left.append(pid)
        finally:
            os.close(fd)
    return left


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def open_fds():
    """Descriptors of this process, without the one used for looking."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        target = link(f"/proc/self/fd/{name}")
        if target and not target.startswith(f"/proc/{os.getpid()}/fd"):
            found[int(name)] = target
    return found
