"""Garbage on every socket, from both sides: nobody dies of it, nobody blocks, and every program still runs."""

import os
import random
import signal
import socket

import peers
import pytest
from harness import STANDIN
from peers import message, text

pytestmark = [pytest.mark.skipif(STANDIN, reason="needs the real binaries"), pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def peer_of_workers():
    """Who sends real requests is told by a signal how their programs ended."""
    before = signal.signal(peers.NOTICE, lambda *_: None)
    yield
    signal.signal(peers.NOTICE, before)


def routes(warm, suffix=".0"):
    return [f"{warm.rundir}/{name}" for name in sorted(os.listdir(warm.rundir)) if name.endswith(suffix)]


def vacated(warm):
    """The path of a route that worked, and where nobody listens any more."""
    warm.ready()
    path = routes(warm)[0]
    assert warm.ctl("stop").status == 0
    return path


def capture(warm, kind):
    """The bytes of a real WF_RUN ("run"), the WF_BOUNDS after it ("bounds") or WF_WARM ("warm"), and the number of its
    descriptors."""
    path = vacated(warm)
    got = []

    def take(connection):
        connection.settimeout(5)
        for _ in range(2 if kind == "bounds" else 1):
            got.append(peers.receive_raw(connection))
        connection.close()

    name = f"{warm.rundir}/daemon.sock" if kind == "warm" else path
    with peers.Listener(name, take):
        result = warm.run(["-c", "print(1)"])
        assert result.out == b"1\n"
    whole = [each for each in got if len(each[0]) > peers.HEADER.size]
    assert whole, got
    data, nfds = whole[1 if kind == "bounds" else 0]
    assert peers.HEADER.unpack(data[:16])[3] == len(data) - 16
    return data, nfds


def reheader(data, **changes):
    """The message with fields of its header replaced."""
    names = ("magic", "version", "type", "size", "nfds", "flags")
    fields = dict(zip(names, peers.HEADER.unpack(data[:16])), **changes)
    return peers.HEADER.pack(*(fields[name] for name in names)) + data[16:]


def broken_messages(data, nfds):
    """(what, bytes, number of descriptors to attach) of every way to lie in a message."""
    size = len(data) - 16
    yield "nothing", b"", 0
    yield "one byte", data[:1], 0
    yield "half a header", data[:8], nfds
    yield "header only", data[:16], nfds
    yield "half the payload", data[: 16 + size // 2], nfds
    yield "all but one byte", data[:-1], nfds
    yield "one byte more", reheader(data + b"x", size=size + 1), nfds
    yield "wrong magic", reheader(data, magic=0x12345678), nfds
    yield "version 0", reheader(data, version=0), nfds
    yield "version 1", reheader(data, version=1), nfds
    yield "version 2", reheader(data, version=2), nfds
    yield "version 4", reheader(data, version=4), nfds
    yield "version 65535", reheader(data, version=65535), nfds
    for type in (0, 3, 4, 5, 8, 9, 10, 11, 14, 16, 19, 20, 255, 65535):
        yield f"type {type}", reheader(data, type=type), nfds
    for wrong in (size - 1, size + 100, 96 << 10, (96 << 10) + 1, 16 << 20, (16 << 20) + 1, 1 << 31, (1 << 32) - 1, 0):
        yield f"size {wrong}", reheader(data, size=wrong), nfds
    for wrong in (0, 1, 3, nfds + 1, 250, 251, 252, 65535):
        yield f"says {wrong} descriptors", reheader(data, nfds=wrong), nfds
    for wrong in (0, 1, nfds + 1, 200):
        yield f"has {wrong} descriptors", data, wrong
    for flags in (1, 2, 3, 4, 0x8000, 0xFFFF):
        yield f"flags {flags:#x}", reheader(data, flags=flags), nfds
    yield "zeroes", bytes(5000), 0
    yield "ones", b"\xff" * 5000, 0
    yield "text", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 0
    yield "zero payload", data[:16] + bytes(size), nfds
    yield "two at once", data + data, nfds
    for at in range(16, min(len(data) - 4, 1200), 37):
        yield f"cut to {at}", reheader(data[:at], size=at - 16), nfds


def changed_messages(data, nfds):
    """The message with some bytes of its payload changed: many of them are perfectly valid requests."""
    numbers = random.Random(4)
    for i in range(150):
        changed = bytearray(data)
        for _ in range(numbers.randint(1, 4)):
            changed[numbers.randrange(16, len(data))] = numbers.randrange(256)
        yield f"random bytes {i}", bytes(changed), nfds
    for at in range(16, min(len(data) - 4, 1200), 37):
        yield f"huge number at {at}", data[:at] + b"\xff\xff\xff\xff" + data[at + 4:], nfds


def assault(path, messages, may_go=False):
    """Sends each of the messages, holding some connections open until the end. `may_go`: the listener may have good
    reason to go away (a daemon makes way for a caller with higher limits)."""
    null = os.open("/dev/null", os.O_RDWR)
    root = os.open("/", os.O_PATH)
    held = []
    try:
        for what, bytes_, count in messages:
            try:
                sock = peers.connect(path)
            except (ConnectionRefusedError, FileNotFoundError) as error:
                if may_go:
                    continue
                raise AssertionError(f"gone before {what!r}: {error}") from error
            fds = ([null] * 3 + [root] + [null] * 300)[:count]
            if bytes_:
                peers.send(sock, bytes_, fds)
            if len(held) < 5:
                held.append(sock)
            else:
                sock.close()
        yield
    finally:
        for sock in held:
            sock.close()
        os.close(null)
        os.close(root)


def test_daemon_socket(warm):
    data, nfds = capture(warm, "warm")
    warm.ready()
    pid = warm.daemons()
    for _ in assault(f"{warm.rundir}/daemon.sock", broken_messages(data, nfds)):
        assert warm.daemons() == pid and warm.status()["daemon"]["pid"] == pid[0]
        warm.same(["-B", "-c", "print('all well')"])
    assert warm.daemons() == pid


def test_daemon_socket_and_changed_requests(warm):
    """Whatever the daemon makes of them, programs run, and it is there when it is needed."""
    data, nfds = capture(warm, "warm")
    warm.ready()
    for _ in assault(f"{warm.rundir}/daemon.sock", changed_messages(data, nfds), may_go=True):
        for i in range(5):
            result = warm.run(["-c", f"print({i})"])
            assert (result.out, result.err, result.status) == (b"%d\n" % i, b"", 0)
    warm.ready(options=["-B"])


def test_run_socket(warm):
    data, nfds = capture(warm, "run")
    warm.ready()
    zygotes = warm.zygotes()
    for _ in assault(routes(warm)[0], [*broken_messages(data, nfds), *changed_messages(data, nfds)]):
        for i in range(5):
            result = warm.run(["-c", f"print({i})"])
            assert (result.out, result.err, result.status) == (b"%d\n" % i, b"", 0)
    assert warm.zygotes() == zygotes
    warm.ready()


def test_bounds(warm):
    """The second half of a request may be wrong as well, or not come: that costs a standby, and nobody anything else."""
    data, nfds = capture(warm, "run")
    warm.ready()
    bounds, none = capture(warm, "bounds")
    assert none == 0
    warm.ready()
    zygotes = warm.zygotes()
    null, root = os.open("/dev/null", os.O_RDWR), os.open("/", os.O_PATH)
    held = []
    try:
        harmless = ("two at once", "flags 0x2", "flags 0x4", "says 0 descriptors", "has 0 descriptors")
        wrong = [each for each in broken_messages(bounds, 0) if each[0] not in harmless]
        for what, bytes_, count in wrong[:: 3]:
            sock = peers.connect(routes(warm)[0])
            sock.settimeout(10)
            peers.send(sock, data, ([null] * 3 + [root])[:nfds])
            if bytes_:
                peers.send(sock, bytes_, [null] * count)
            if len(held) < 3:
                held.append(sock)
                continue
            sock.shutdown(socket.SHUT_WR)
            answer = peers.receive_message(sock)
            assert answer is None or answer[0] == peers.UNSUITABLE, what
            sock.close()
            result = warm.run(["-c", "print(7)"])
            assert (result.out, result.err, result.status) == (b"7\n", b"", 0), what
    finally:
        for sock in held:
            sock.close()
        os.close(null)
        os.close(root)
    assert warm.zygotes() == zygotes
    warm.ready()


def test_control_socket(warm):
    data, nfds = capture(warm, "run")
    warm.ready()
    zygotes = warm.zygotes()
    for _ in assault(routes(warm, ".ctl")[0], [*broken_messages(data, nfds), *changed_messages(data, nfds)]):
        warm.ready()
    assert warm.zygotes() == zygotes


@pytest.mark.parametrize("suffix", [".0", ".ctl", "daemon.sock"])
def test_silent_and_slow_connections(warm, suffix):
    """Many that connect and say nothing, or a byte now and then, hold nobody up."""
    warm.ready()
    path = next(f"{warm.rundir}/{name}" for name in os.listdir(warm.rundir) if name.endswith(suffix))
    quiet = [peers.connect(path) for _ in range(20 if suffix != ".0" else 3)]
    for sock in quiet[1:3]:
        peers.send(sock, message(peers.STATUS, text(1))[:5])
    for i in range(6):
        result = warm.run(["-c", f"print({i})"])
        assert (result.out, result.err, result.status) == (b"%d\n" % i, b"", 0)
    assert warm.status()["daemon"]["pid"] in warm.daemons()
    for sock in quiet:
        sock.close()
    warm.ready()


def test_connections_that_go_away(warm):
    """Closed at once, a thousand times: no worker is lost for good."""
    warm.ready()
    for path in (routes(warm)[0], f"{warm.rundir}/daemon.sock", routes(warm, ".ctl")[0]):
        for _ in range(300):
            peers.connect(path).close()
    assert warm.run(["-c", "print(1)"]).out == b"1\n"
    warm.ready()
    assert warm.status()


def test_many_connections_to_the_daemon(warm):
    """More than it has descriptors for."""
    warm.ready()
    held = []
    try:
        for _ in range(1500):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(0.5)
            held.append(sock)
            try:
                sock.connect(f"{warm.rundir}/daemon.sock")
            except (TimeoutError, BlockingIOError, ConnectionRefusedError):
                break
        assert warm.run(["-c", "print(1)"]).out == b"1\n"
        assert warm.run(["-B", "-c", "print(1)"]).out == b"1\n"
    finally:
        for sock in held:
            sock.close()
    warm.ready(options=["-B"])


def test_descriptors_do_not_pile_up(warm):
    """What came with a refused message is closed again."""
    data, nfds = capture(warm, "run")
    warm.ready()
    watched = [*warm.daemons(), *warm.zygotes()]
    before = {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in watched}
    null = os.open("/dev/null", os.O_RDWR)
    for path in (f"{warm.rundir}/daemon.sock", routes(warm, ".ctl")[0]):
        for count in range(1, 40):
            sock = peers.connect(path)
            peers.send(sock, reheader(data, nfds=count), [null] * count)
            sock.close()
    os.close(null)
    warm.until(lambda: all(len(os.listdir(f"/proc/{pid}/fd")) <= before[pid] + 2 for pid in watched))
