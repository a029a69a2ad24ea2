"""Signals sent to warmpy reach the program; what they do to it is what the caller sees."""

import os
import signal
import subprocess
import time

import procs
import pytest
from harness import readable

HANDLE = """
import os, signal, sys, time
def handler(number, frame):
    os.write(1, b'got %d\\n' % number)
    if number == signal.SIGTERM: sys.exit(42)
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT, signal.SIGALRM, signal.SIGWINCH,
               signal.SIGQUIT, signal.SIGCONT, signal.SIGIO, signal.SIGURG, signal.SIGPIPE, signal.SIGTSTP, signal.SIGVTALRM):
    signal.signal(number, handler)
print('up', flush=True)
while True: time.sleep(0.01)  # signal.pause() would wait on if a signal came just before it
"""


def started(warm, program, **how):
    """A warm run of `program`, which has printed its first line."""
    warm.ready()
    process = warm.start(["-c", program], **how)
    assert readable(process.stdout.fileno(), 30), process.finish(1)
    return process, process.line()


@pytest.mark.every_python
def test_forwarded(warm):
    process, _ = started(warm, HANDLE)
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT, signal.SIGALRM, signal.SIGWINCH,
                   signal.SIGQUIT, signal.SIGCONT, signal.SIGIO, signal.SIGURG, signal.SIGPIPE, signal.SIGTSTP,
                   signal.SIGVTALRM):
        process.send(number)
        assert readable(process.stdout.fileno(), 30), f"{number!r} did not arrive"
        assert process.line() == b"got %d\n" % number
    process.send(signal.SIGTERM)
    result = process.finish()
    assert (result.status, result.out, result.err) == (42, b"got 15\n", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGQUIT,
                                    signal.SIGALRM, signal.SIGRTMIN, signal.SIGRTMAX], ids=repr)
def test_unhandled(warm, number):
    """Death by the same signal, for the program and for its client; for SIGINT after python's traceback."""
    program = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)"

    def one(start):
        process = start(["-c", program])
        assert readable(process.stdout.fileno(), 30)
        pid = int(process.line())
        while procs.stat(pid)[1] != "S":  # asleep: the traceback names that line
            time.sleep(0.001)
        process.send(number)
        result = process.finish()
        assert procs.wait_gone([pid], 10) == []
        return result

    want = one(lambda args: warm.spawn([warm.python, *args]))
    got = warm.until_warm(lambda: one(warm.start))
    assert (got.kind, got.value, got.err) == (want.kind, want.value, want.err)


def test_signals_without_default_action_change_nothing(warm):
    process, _ = started(warm, "import time\nprint('up', flush=True)\ninput(); print('end')", stdin=subprocess.PIPE)
    for number in (signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT):
        process.send(number)
    process.stdin.write(b"go\n")
    process.stdin.flush()
    result = process.finish()
    assert (result.status, result.out) == (0, b"end\n")


def test_right_at_the_start(warm):
    """A signal that arrives while the run is being set up is never lost."""
    warm.ready()
    for _ in range(30):
        process = warm.start(["-c", "import time; time.sleep(60)"])
        process.send(signal.SIGTERM)
        result = process.finish()
        assert (result.kind, result.value) == ("signal", signal.SIGTERM)


def test_ignored_by_the_program(warm):
    process, _ = started(warm, "import signal\nsignal.signal(15, signal.SIG_IGN)\nprint('up', flush=True)\ninput()\nprint('end')",
                         stdin=subprocess.PIPE)
    process.send(signal.SIGTERM)
    process.stdin.write(b"go\n")
    process.stdin.flush()
    assert process.finish().out == b"end\n"


def test_ignored_from_the_start(warm):
    """nohup warmpy …: neither the client nor the program dies."""
    warm.ready()
    process = warm.start(["-c", "print('up', flush=True)\ninput()\nprint('end')"], stdin=subprocess.PIPE,
                         before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert readable(process.stdout.fileno(), 30) and process.line() == b"up\n"
    process.send(signal.SIGHUP)
    process.stdin.write(b"go\n")
    process.stdin.flush()
    result = process.finish()
    assert (result.status, result.out) == (0, b"end\n")


SIGINFO = """
import ctypes, signal, sys
class Value(ctypes.Union): _fields_ = [('i', ctypes.c_int), ('p', ctypes.c_void_p)]
class Info(ctypes.Structure):
    _fields_ = [('signo', ctypes.c_int), ('errno', ctypes.c_int), ('code', ctypes.c_int), ('pad', ctypes.c_int),
                ('pid', ctypes.c_int), ('uid', ctypes.c_uint), ('value', Value), ('rest', ctypes.c_char * 200)]
number = signal.SIGRTMIN + 1
signal.pthread_sigmask(signal.SIG_BLOCK, [number])
libc = ctypes.CDLL(None)
s = (ctypes.c_ulong * 16)(); libc.sigemptyset(s); libc.sigaddset(s, int(number))
print('up', flush=True)
for _ in range(3):
    info = Info(); libc.sigwaitinfo(s, ctypes.byref(info))
    print(info.signo - signal.SIGRTMIN, info.value.i, info.uid, flush=True)
"""


def test_queued_value(warm):
    """sigqueue: each signal arrives once, in order, with its value."""
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)

    def one(start):
        process = start(["-c", SIGINFO])
        assert readable(process.stdout.fileno(), 30) and process.line() == b"up\n"
        for value in (7, 1234567, 9):
            assert libc.sigqueue(process.pid, int(signal.SIGRTMIN) + 1, ctypes.c_void_p(value)) == 0
        return process.finish()

    want = one(lambda args: warm.spawn([warm.python, *args]))
    got = warm.until_warm(lambda: one(warm.start))
    assert (got.status, got.out) == (want.status, want.out)


def test_stop_and_continue(warm):
    """Ctrl-Z as a shell sees it: the client is stopped, so is the program, and both go on."""
    process, line = started(warm, "import os\nprint(os.getpid(), flush=True)\ninput()\nprint('end')", stdin=subprocess.PIPE,
                            session=False, before=os.setpgrp)
    program = int(line)
    process.send(signal.SIGTSTP)
    warm.until(lambda: procs.stat(process.pid)[1] == "T" and procs.stat(program)[1] == "T")
    process.send(signal.SIGCONT)
    warm.until(lambda: procs.stat(process.pid)[1] != "T" and procs.stat(program)[1] != "T")
    process.stdin.write(b"go\n")
    process.stdin.flush()
    result = process.finish()
    assert (result.status, result.out) == (0, b"end\n")


def test_stop_that_nobody_can_catch(warm):
    """SIGSTOP of warmpy stops the program too, once the zygote has seen it; SIGCONT wakes both."""
    process, line = started(warm, "import os\nprint(os.getpid(), flush=True)\ninput()\nprint('end')", stdin=subprocess.PIPE,
                            session=False, before=os.setpgrp)
    program = int(line)
    for _ in range(2):
        process.send(signal.SIGSTOP)
        warm.until(lambda: procs.stat(program)[1] == "T")
        assert procs.stat(process.pid)[1] == "T"
        process.send(signal.SIGCONT)
        warm.until(lambda: procs.stat(process.pid)[1] != "T" and procs.stat(program)[1] != "T")
    process.stdin.write(b"go\n")
    process.stdin.flush()
    result = process.finish()
    assert (result.status, result.out) == (0, b"end\n")


def test_program_that_stops_itself(warm):
    """SIGSTOP raised in the program stops the client as well, so that a shell notices; `fg` wakes both."""
    process, line = started(warm, "import os, signal\nprint(os.getpid(), flush=True)\nos.kill(os.getpid(), signal.SIGSTOP)\n"
                            "print('end')", session=False, before=os.setpgrp)
    warm.until(lambda: procs.stat(int(line))[1] == "T")
    warm.until(lambda: procs.stat(process.pid)[1] == "T")
    process.send(signal.SIGCONT)
    assert process.finish().out == b"end\n"


def test_burst(warm):
    """A hundred real-time signals: none is lost, and the order is kept."""
    program = """
import signal, os
seen = []
numbers = [signal.SIGRTMIN + 3]
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print('up', flush=True)
for _ in range(100): signal.sigwait(numbers)
print('all')
"""
    process, _ = started(warm, program)
    for _ in range(100):
        process.send(signal.SIGRTMIN + 3)
    assert process.finish().out == b"all\n"


def test_client_is_not_disturbed_by_a_group_signal(warm):
    """kill(0, …) in the program is its own group's affair, and the caller still gets the right status."""
    program = "import os, signal\nos.setpgrp()\nsignal.signal(15, lambda *a: print('term', flush=True))\nos.kill(0, 15)\n" \
              "raise SystemExit(3)"
    warm.same(["-c", program])
