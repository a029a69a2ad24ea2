"""A worker's life hangs on its client's, but on nothing else: not on a request whose arrival is signalled late."""

import os
import select
import struct

import peers
import pytest
from harness import STANDIN
from test_messages import capture, routes

pytestmark = pytest.mark.skipif(STANDIN, reason="needs the real binaries")


def test_late_event_of_the_request(warm):
    """The kernel signals that data has come after it can be read; a sender that is held up in between must not kill
    the program. A byte sent while WF_STARTED is still unread stands for that event."""
    data, nfds = capture(warm, "run")
    warm.ready()
    bounds, _ = capture(warm, "bounds")
    assert nfds == 4, "0, 1, 2 and the directory"
    warm.ready()
    read, write = os.pipe()
    null, root = os.open("/dev/null", os.O_RDWR), os.open("/", os.O_PATH)
    try:
        with peers.connect(routes(warm)[0]) as sock:
            peers.send(sock, data, [null, write, null, root])
            peers.send(sock, bounds)
            os.close(write)
            assert select.select([sock], [], [], 10)[0], "no answer"
            sock.send(b"x")
            sock.settimeout(10)
            assert peers.receive_message(sock)[0] == peers.STARTED
            assert os.read(read, 100) == b"1\n"
            end = peers.receive_message(sock)
            assert end and end[0] == peers.EXITED and end[1] == struct.pack("<III", 1, 0, 0), end
    finally:
        for fd in (read, null, root):
            os.close(fd)
