"""Two processes never share a fate: whoever is killed, every run ends with its own status."""

import os
import signal
import subprocess

import procs
import pytest
from harness import STANDIN, readable

WAIT = "import os, sys; print(os.getpid(), flush=True); os.read(0, 1); print('end', {0}); sys.exit({0})"


def launch(warm, count, gate, first=0):
    """Runs that print their pid, wait for the end of `gate`, and end each with its own number."""
    return [warm.start(["-c", WAIT.format(number)], stdin=gate) for number in range(first, first + count)]


def pids_of(processes):
    pids = []
    for process in processes:
        assert readable(process.stdout.fileno(), 60), "a run that did not start"
        pids.append(int(process.line()))
    return pids


def check(processes):
    for number, process in enumerate(processes):
        result = process.finish()
        assert (result.status, result.err) == (number, b""), (number, result)
        assert result.out.endswith(b"end %d\n" % number), result


def test_killed_client_takes_its_program_along(warm):
    warm.ready()
    process = warm.start(["-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"])
    pid = int(process.line())
    process.send(signal.SIGKILL)
    assert procs.wait_gone([pid], 5) == []
    process.finish()


def test_killed_client_and_busy_program(warm):
    """Also when the program blocks every signal, never looks up, and has a thread and a child."""
    warm.ready()
    program = """
import os, signal, threading, sys
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
def spin():
    while True: pass
threading.Thread(target=spin, daemon=True).start()
print(os.getpid(), flush=True)
spin()
"""
    process = warm.start(["-c", program])
    pid = int(process.line())
    process.send(signal.SIGKILL)
    assert procs.wait_gone([pid], 5) == []
    process.finish()


def test_child_of_a_killed_program_lives_on(warm):
    """The kernel's kill is for the program only: children live, as they do when python is killed."""
    warm.ready()
    program = """
import os, sys
r, w = os.pipe()
if os.fork() == 0:
    os.close(w); os.read(r, 1); print('child saw it', flush=True); os._exit(0)
print(os.getpid(), flush=True)
sys.stdin.read()
"""
    hold_read, hold = os.pipe()
    process = warm.start(["-c", program], stdin=hold_read)
    process.line()
    process.send(signal.SIGKILL)
    assert readable(process.stdout.fileno(), 10) and process.line() == b"child saw it\n"
    os.close(hold)
    os.close(hold_read)
    process.finish()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_killed_program_takes_its_client_along(warm, number):
    warm.ready()
    process = warm.start(["-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"])
    os.kill(int(process.line()), number)
    result = process.finish()
    assert (result.kind, result.value) == ("signal", number) and (result.warm or STANDIN)


def test_killed_program_with_a_child_that_holds_everything(warm):
    """The client learns of the death itself, not of the end of what the program left behind."""
    warm.ready()
    hold_read, hold = os.pipe()
    process = warm.start(["-c", "import os, subprocess, time; subprocess.Popen(['cat'], close_fds=False, stdout=2); "
                          "print(os.getpid(), flush=True); time.sleep(600)"], stdin=hold_read, stderr=subprocess.DEVNULL)
    os.kill(int(process.line()), signal.SIGKILL)
    result = process.finish(20)
    os.close(hold)
    os.close(hold_read)
    assert (result.kind, result.value) == ("signal", signal.SIGKILL)


@pytest.mark.every_python
@pytest.mark.parametrize("victim", ["zygotes", "daemons", "both"])
def test_a_hundred_runs_survive(warm, victim):
    """Half of them running, half of them starting, when the zygote or the daemon is killed."""
    warm.ready()
    read, gate = os.pipe()
    processes = launch(warm, 50, read)
    pids_of(processes)
    victims = {"zygotes": warm.zygotes(), "daemons": warm.daemons(), "both": warm.zygotes() + warm.daemons()}[victim]
    assert victims or STANDIN
    more = launch(warm, 25, read, 50)
    procs.kill(victims)
    more += launch(warm, 25, read, 75)
    pids_of(more)
    os.close(gate)
    os.close(read)
    check(processes + more)
    warm.ready(options=["-B"])  # needs a daemon: a new one comes, and finds what the old one left
    assert len(warm.daemons()) == 1 or STANDIN


def test_fifty_first_runs(warm):
    """They leave one daemon, and all succeed."""
    processes = [warm.start(["-c", f"print('run', {i})"]) for i in range(50)]
    for i, process in enumerate(processes):
        result = process.finish()
        assert (result.status, result.out, result.err) == (0, b"run %d\n" % i, b"")
    warm.ready()
    warm.until(lambda: STANDIN or len(warm.daemons()) == 1)


def test_zygotes_go_on_without_their_daemon(warm):
    warm.ready()
    procs.kill(warm.daemons())
    for i in range(10):
        result = warm.run(["-c", f"print({i})"])
        assert (result.status, result.out) == (0, b"%d\n" % i) and (result.warm or STANDIN)
    warm.ready(options=["-B"])
    assert len(warm.daemons()) == 1 or STANDIN


def test_crash_status_without_a_daemon(warm):
    """A worker that dies without a word, its daemon dead: the status is known all the same."""
    warm.ready()
    procs.kill(warm.daemons())
    result = warm.run(["-c", "import ctypes; ctypes.string_at(0)"])
    assert (result.kind, result.value) == ("signal", signal.SIGSEGV)
    result = warm.run(["-c", "import os; os.closerange(3, 100); os._exit(7)"])
    assert (result.kind, result.value) == ("exit", 7)
    warm.ready(options=["-B"])


def test_crash_status_without_a_zygote(warm):
    """Its zygote and daemon dead: never success."""
    warm.ready()
    process = warm.start(["-c", "import os, sys; print(1, flush=True); sys.stdin.read(1); os.closerange(3, 100); os.abort()"],
                         stdin=subprocess.PIPE)
    assert process.line() == b"1\n"
    procs.kill(warm.zygotes() + warm.daemons())
    process.stdin.close()
    process.popen.stdin = process.stdin = None
    result = process.finish()
    assert result.kind == "signal" and result.value in (signal.SIGABRT, signal.SIGKILL)
    warm.ready(options=["-B"])


def test_killed_zygote_is_replaced(warm):
    warm.ready()
    for _ in range(3):
        old = set(warm.zygotes())
        procs.kill(old)
        assert warm.run(["-c", "print(1)"]).out == b"1\n"
        warm.ready()
        assert STANDIN or set(warm.zygotes()) - old


def test_killed_standbys_are_replaced(warm):
    warm.ready()
    for _ in range(3):
        zygotes = set(warm.zygotes())
        procs.kill([pid for pid in procs.belonging_to(warm.dir) if procs.ppid(pid) in zygotes])
        assert warm.run(["-c", "print(1)"]).out == b"1\n"
        warm.ready()


def test_standbys_die_with_their_zygote(warm):
    warm.ready()
    zygotes = set(warm.zygotes())
    standbys = [pid for pid in procs.belonging_to(warm.dir) if procs.ppid(pid) in zygotes]
    assert standbys or STANDIN
    procs.kill(zygotes)
    assert procs.wait_gone(standbys, 10) == []


@pytest.mark.timeout(180)
def test_frozen_zygote_is_not_waited_for(warm):
    """Stopped, with all its standbys: the program runs all the same, cold, after a bounded wait; and once only, also
    when they wake up and find the request."""
    warm.ready()
    daemons = warm.daemons()
    frozen = [pid for pid in procs.belonging_to(warm.dir) if pid not in daemons]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    count = f"{warm.work}/count"
    try:
        with open(f"{warm.work}/out", "w+b") as out:  # not a pipe: the frozen standbys' queue holds the request's descriptors
            result = warm.run(["-c", f"open({count!r}, 'a').write('x')"], timeout=90, stdout=out, stderr=out)
    finally:
        for pid in frozen:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
    assert result.status == 0
    warm.ready()
    for _ in range(10):
        assert warm.run(["-c", "pass"]).status == 0
    assert procs.read(count) == b"x"


def test_frozen_daemon_is_not_waited_for(warm):
    warm.ready()
    daemons = warm.daemons()
    for pid in daemons:
        os.kill(pid, signal.SIGSTOP)
    try:
        for args in (["-c", "print(1)"], ["-B", "-c", "print(1)"], ["-OO", "-c", "print(1)"]):
            assert warm.run(args).out == b"1\n"
    finally:
        for pid in daemons:
            os.kill(pid, signal.SIGCONT)


def test_many_at_once_and_in_a_row(warm):
    """More runs than standbys, again and again."""
    warm.ready()
    for _ in range(5):
        processes = [warm.start(["-c", f"import sys; print({i}); sys.exit({i})"]) for i in range(40)]
        for i, process in enumerate(processes):
            result = process.finish()
            assert (result.status, result.out, result.err) == (i, b"%d\n" % i, b"")
    assert warm.run(["-c", "pass"]).warm or STANDIN
