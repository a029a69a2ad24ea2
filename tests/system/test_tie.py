"""A program lives as long as its client, whatever it becomes; and finds nothing open that it could tell by."""

import os
import signal
import socket
import struct
import subprocess

import peers
import procs
import pytest
from harness import STANDIN
from test_messages import capture, peer_of_workers, reheader, routes  # noqa: F401

BECOME = {
    "execv": "os.execv('/bin/sleep', ['sleep', '600'])",
    "execve, without an environment": "os.execve('/bin/sleep', ['sleep', '600'], dict())",
    "a shell": "os.execv('/bin/sh', ['sh', '-c', 'exec sleep 600'])",
    "python": "os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(600)'])",
    "warmpy": "os.execv({warmpy!r}, ['warmpy', '-c', 'import time; time.sleep(600)'])",
    "a thread's": "import threading; t = threading.Thread(target=os.execv, args=('/bin/sleep', ['sleep', '600'])); t.start(); t.join()",
    "everything closed": "os.closerange(0, 5000); os.execv('/bin/sleep', ['sleep', '600'])",
    "a session": "os.setsid() if os.getpid() != os.getsid(0) else 0; os.execv('/bin/sleep', ['sleep', '600'])",
    "another user": "os.setuid(65534) if os.getuid() == 0 else 0; os.execv('/bin/sleep', ['sleep', '600'])",
}


@pytest.mark.parametrize("what", BECOME)
def test_killed_client_and_another_program(warm, what):
    """As the program itself is: python that is killed is gone, whatever it has become."""
    warm.ready()
    code = "import os, sys; print(os.getpid(), flush=True); " + BECOME[what].format(warmpy=warm.warmpy)
    process = warm.start(["-c", code], stdin=subprocess.DEVNULL)
    pid = int(process.line())
    warm.until(lambda: procs.comm(pid) not in ("python3", "warmpy") or what in ("python", "warmpy"))
    process.send(signal.SIGKILL)
    assert procs.wait_gone([pid], 5) == []
    process.finish()


def test_killed_client_and_dead_zygote(warm):
    """Nothing but the client is needed to keep the program, and nothing but its end to end it."""
    warm.ready()
    process = warm.start(["-c", "import os; print(os.getpid(), flush=True); os.execv('/bin/sleep', ['sleep', '600'])"])
    pid = int(process.line())
    procs.kill(warm.zygotes() + warm.daemons())
    assert procs.alive(pid)
    process.send(signal.SIGKILL)
    assert procs.wait_gone([pid], 5) == []
    process.finish()
    warm.ready(options=["-B"])


def test_children_of_what_it_became_live_on(warm):
    """As they do when python is killed."""
    warm.ready()
    code = "import os; os.execv('/bin/sh', ['sh', '-c', 'sleep 600 & echo $$ $!; exec sleep 600'])"
    process = warm.start(["-c", code])
    pid, child = map(int, process.line().split())
    process.send(signal.SIGKILL)
    gone = procs.wait_gone([pid], 5) == []
    alive = procs.alive(child)
    procs.kill([child])
    process.finish()
    assert gone and alive


@pytest.mark.skipif(STANDIN, reason="needs the real binaries")
def test_client_without_signals(warm):
    """A client that asks for no notices (libwarmfork) is told over the connection."""
    data, nfds = capture(warm, "run")
    warm.ready()
    bounds, _ = capture(warm, "bounds")
    assert nfds == 4, "0, 1, 2 and the directory"
    warm.ready()
    read, write = os.pipe()
    null, root = os.open("/dev/null", os.O_RDWR), os.open("/", os.O_PATH)
    flags = peers.HEADER.unpack(data[:16])[5] & ~peers.F_NOTICES
    held = []
    try:
        with peers.connect(routes(warm)[0]) as sock:
            peers.send(sock, reheader(data, flags=flags), [null, write, null, root])
            peers.send(sock, bounds)
            os.close(write)
            sock.settimeout(10)
            start, held, _, _ = socket.recv_fds(sock, peers.HEADER.size + 12, 10)
            assert peers.HEADER.unpack(start[:16])[2] == peers.STARTED and len(held) == peers.STARTED_FDS
            assert os.read(read, 100) == b"1\n"
            end = peers.receive_message(sock)
            assert end and end[0] == peers.EXITED and end[1] == struct.pack("<III", 1, 0, 0), end
    finally:
        for fd in (read, null, root, *held):
            os.close(fd)
