"""The other way round: whoever answers warmpy may be anybody of our own uid. Every program still runs, once."""

import os
import struct
import time

import peers
import procs
import pytest
from harness import STANDIN, write
from peers import message, text
from test_messages import peer_of_workers, vacated  # noqa: F401

pytestmark = [pytest.mark.skipif(STANDIN, reason="needs the real binaries"), pytest.mark.timeout(240)]


def started(pid, cookie=1):
    return message(peers.STARTED, struct.pack("<IQ", pid, cookie), nfds=peers.STARTED_FDS)


def answer(*data, close=True, first=True):
    """A worker that takes the request, answers with `data`, and goes away (or stays silent)."""
    def serve(connection):
        if first:
            connection.settimeout(5)
            peers.receive(connection)
        for each in data:
            connection.sendall(each)
        if close:
            connection.close()
    return serve


ANSWERS = {
    "closes at once": answer(first=False),
    "closes after the request": answer(),
    "never answers": answer(close=False),
    "garbage": answer(b"\x93garbage" * 100),
    "http": answer(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "half a header": answer(peers.header(peers.STARTED, 12, 1)[:7]),
    "half a header, then silence": answer(peers.header(peers.STARTED, 12, 1)[:7], close=False),
    "another version": answer(message(peers.UNSUITABLE, text(1), version=2)),
    "version 0": answer(message(peers.STARTED, bytes(12), nfds=0, version=0)),
    "wrong magic": answer(message(peers.UNSUITABLE, text(1), magic=1)),
    "huge size": answer(peers.header(peers.UNSUITABLE, (1 << 32) - 1), close=False),
    "large size": answer(peers.header(peers.UNSUITABLE, 16 << 20) + bytes(100)),
    "started without a descriptor": answer(message(peers.STARTED, struct.pack("<IQ", 1, 1), nfds=3)),
    "started that needs none": answer(message(peers.STARTED, struct.pack("<IQ", 1, 1), nfds=0)),
    "started too short": answer(message(peers.STARTED, b"1234", nfds=0)),
    "exited without started": answer(message(peers.EXITED, struct.pack("<III", 1, 0, 0))),
    "unsuitable, unknown reason": answer(message(peers.UNSUITABLE, text(99, b"because"))),
    "unsuitable, reason 0": answer(message(peers.UNSUITABLE, text(0))),
    "unsuitable, lying length": answer(message(peers.UNSUITABLE, struct.pack("<II", 1, 1 << 30) + b"x")),
    "unsuitable, long text": answer(message(peers.UNSUITABLE, text(8, b"x" * 50_000))),
    "unsuitable: key": answer(message(peers.UNSUITABLE, text(1))),
    "unsuitable: inputs": answer(message(peers.UNSUITABLE, text(4))),
    "unsuitable: stale": answer(message(peers.UNSUITABLE, text(5))),
    "unsuitable: set-up": answer(message(peers.UNSUITABLE, text(8, b"fchdir: no"))),
    "reply of a daemon": answer(message(peers.REPLY, text(0, b"hello"))),
    "request": answer(message(peers.RUN, bytes(300))),
    "memfd flag": answer(message(peers.UNSUITABLE, text(1), flags=peers.F_MEMFD)),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_strange_worker(warm, what):
    """Before a worker has said that the program starts, any nonsense leads to python itself, within a bound."""
    path = vacated(warm)
    with peers.Listener(path, ANSWERS[what]) as listener:
        result = warm.run(["-c", "import sys; print(sys.stdin.read()); sys.exit(6)"], input=b"kept for the program")
        assert (result.out, result.err, result.status) == (b"kept for the program\n", b"", 6)
        assert not result.warm and listener.served >= 1


@pytest.mark.parametrize("what", ["closes at once", "never answers", "garbage", "another version", "huge size", "http",
                                  "half a header, then silence", "reply of a daemon"])
def test_strange_daemon(warm, what):
    """The same for whoever listens on daemon.sock; warmctl fails with one line, within a bound."""
    os.mkdir(warm.rundir, 0o700)
    with peers.Listener(f"{warm.rundir}/daemon.sock", ANSWERS[what]):
        for _ in range(2):
            result = warm.run(["-c", "print('runs')"])
            assert (result.out, result.err, result.status) == (b"runs\n", b"", 0)
        if what != "reply of a daemon":
            for args in (["status"], ["start", "name", "--preload", "json"]):
                result = warm.ctl(*args, timeout=100)
                assert result.status != 0 and result.err.count(b"\n") == 1, result


def serve_started(command, then=lambda connection, child: None, cookie=lambda child: 1, **how):
    """A fake worker that says `started` with the pidfd of a real process, which meets its end in its own way; `then` happens
    before the connection is closed."""
    def serve(connection):
        connection.settimeout(5)
        peers.receive(connection)
        child = os.posix_spawn("/bin/sh", ["sh", "-c", command], {}, **how)
        fd = os.pidfd_open(child)
        peers.send(connection, started(child, cookie(child)), [fd] * peers.STARTED_FDS)
        os.close(fd)
        then(connection, child)
        connection.close()
        os.waitpid(child, 0)
    return serve


def start_time(pid):
    return int(procs.read(f"/proc/{pid}/stat").split()[21])


@pytest.mark.parametrize("then", ["exec sleep 0.2", "kill -9 $$", "exit 0", "exit 7"])
def test_started_and_gone(warm, then):
    """After `started`, nothing is run again; and without a word about the end, the answer is never a made-up success."""
    path = vacated(warm)
    with peers.Listener(path, serve_started(then, cookie=start_time)):
        result = warm.run(["-c", "print('must not run')"])
    assert result.out == b""
    expected = {"exec sleep 0.2": 0, "kill -9 $$": -9, "exit 0": 0, "exit 7": 7}[then]
    assert result.status in (-9, expected)  # the kernel knows it (6.15 and later), or nobody does


@pytest.mark.parametrize("ending,status", [((1, 5, 0), 5), ((2, 15, 0), -15), ((2, 11, 1), -11), ((1, 0, 0), 0)])
def test_exited_is_believed(warm, ending, status):
    path = vacated(warm)

    def tell(connection, child):
        peers.notify(connection, peers.NOTICE_EXITED, ending[0] << 8 | ending[1], child)

    with peers.Listener(path, serve_started("exec sleep 0.3", tell)):
        assert warm.run(["-c", "pass"]).status == status


@pytest.mark.parametrize("value", [9 << 8 | 5, 2 << 8, 0, 1 << 16, (1 << 32) - 1])
def test_lying_end(warm, value):
    """An impossible ending: an end all the same, and not success."""
    path = vacated(warm)

    def lie(connection, child):
        peers.notify(connection, peers.NOTICE_EXITED, value, child)
        os.write(gate, b"\n")

    read, gate = os.pipe()
    try:
        with peers.Listener(path, serve_started("read x; kill -9 $$", lie, file_actions=[(os.POSIX_SPAWN_DUP2, read, 0)])):
            assert warm.run(["-c", "pass"], timeout=30).status != 0
    finally:
        os.close(read)
        os.close(gate)


def test_notice_of_somebody_else(warm):
    """The same signal with the same value, but not from the worker, is the program's: this one ends of it."""
    warm.ready()
    process = warm.start(["-c", "import time; print(1, flush=True); time.sleep(600)"])
    assert process.line() == b"1\n"
    peers.queue(process.pid, peers.NOTICE, peers.notice(peers.NOTICE_EXITED, 1 << 8 | 5), os.getpid())
    result = process.finish()
    assert (result.kind, result.value) == ("signal", peers.NOTICE)


def test_no_byte_is_lost_on_the_way_to_cold(warm):
    """Whatever has been tried before, the program finds its stdin, its descriptors and its signals untouched."""
    path = vacated(warm)
    lines = write(f"{warm.work}/lines", "first\nsecond\n")
    program = "import os, sys, signal; print(input(), os.lseek(0, 0, 1) >= 0, sorted(int(f) for f in os.listdir('/proc/self/fd'))); " \
              "print(signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(13), signal.getsignal(15))"
    for what in ("unsuitable: set-up", "closes after the request", "unsuitable: inputs"):
        with peers.Listener(path, ANSWERS[what]), open(lines) as cold, open(lines) as other:
            want = warm.run_python(["-c", program], stdin=cold)
            got = warm.run(["-c", program], stdin=other)
            assert (got.out, got.err) == (want.out, want.err)


def test_wait_is_bounded(warm):
    """A worker that accepts and says nothing costs some seconds, not for ever."""
    path = vacated(warm)
    with peers.Listener(path, answer(close=False)):
        begin = time.monotonic()
        assert warm.run(["-c", "print(1)"], timeout=50).out == b"1\n"
        assert time.monotonic() - begin < 45
