"""Where runs follow each other closely, a standby wakes up when warmpy's file is opened, before it connects."""

import os
import signal

import procs
import pytest

LINKS = """
import os
for name in os.listdir('/proc/self/fd'):
    try:
        link = os.readlink('/proc/self/fd/' + name)
    except OSError:
        continue
    if 'inotify' in link or 'eventpoll' in link:
        print(link)
"""


def links(pid):
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []
    return [procs.link(f"/proc/{pid}/fd/{name}") for name in names]


def watching(warm):
    """The standbys that have the client's executable watched."""
    return [pid for pid in procs.belonging_to(warm.dir)
            if procs.comm(pid) != "warmforkd" and any("eventpoll" in link for link in links(pid))]


@pytest.fixture
def busy(warm):
    """Runs until a standby watches; a machine with one processor has nothing to gain, and none does."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor")
    warm.ready()

    def attempt():
        for _ in range(3):
            assert warm.run(["-c", "pass"]).status == 0
        return watching(warm)

    assert warm.until(attempt)
    return warm


def test_runs_that_follow_each_other_are_foreseen(busy):
    for _ in range(20):
        result = busy.run(["-c", "print('served')"])
        assert (result.status, result.out, result.warm) == (0, b"served\n", True)


def test_without_runs_nothing_is_watched(warm):
    warm.ctl("warm")
    assert warm.zygotes() and watching(warm) == []


def test_the_program_has_nothing_of_it(busy):
    busy.same(["-c", LINKS])
    busy.same(["-c", "import sys; print(list(sys.modules), sys.stdout, sys.stdin.closed)"])


def test_opened_and_never_connected(busy):
    """A copy, a backup or a virus scanner opens the file as well."""
    before = {pid: sorted(links(pid)) for pid in watching(busy)}
    for _ in range(500):
        os.close(os.open(busy.warmpy, os.O_RDONLY))
    after = {pid: sorted(links(pid)) for pid in watching(busy)}
    assert all(after[pid] == before[pid] for pid in before.keys() & after.keys())
    busy.same(["-c", "import sys; print(sys.argv, len(sys.modules))"])


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSTOP])
def test_the_one_that_foresees_is_lost(busy, sig):
    """Killed, or stopped for ever: the next one takes the connection, or the program runs cold; it runs."""
    for pid in watching(busy)[:1]:
        try:
            os.kill(pid, sig)
        except ProcessLookupError:  # retired meanwhile
            pass
    result = busy.run(["-c", "print('served')"])
    assert (result.status, result.out) == (0, b"served\n")


def test_the_client_is_replaced(busy, tmp_path):
    """Another file of that name: nobody foresees it, and it is served all the same."""
    copy = tmp_path / "warmpy"
    copy.write_bytes(open(busy.warmpy, "rb").read())
    copy.chmod(0o755)
    for _ in range(5):
        result = busy.spawn([str(copy), "-c", "print('served')"]).finish()
        assert (result.status, result.out) == (0, b"served\n")
