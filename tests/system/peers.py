"""The other end of warmfork's sockets, played by the test: fake listeners, captured and forged messages.

Only the framing of docs/protocol.md is known here (a header of 16 bytes, descriptors with its first byte); whole
requests are captured from a real client, so that these helpers need not know their fields.
"""

import array
import contextlib
import ctypes
import os
import re
import socket
import struct
import threading
from pathlib import Path

MAGIC, HEADER = 0x4B464D57, struct.Struct("<IHHIHH")
VERSION = int(re.search(r"#define WF_PROTOCOL (\d+)", (Path(__file__).parents[2] / "src/wire/wire.h").read_text())[1])
RUN, WARM, STARTED, UNSUITABLE, EXITED, STATUS, STOP, REPLY, SPAWN, READY = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
RETIRE, ASK, ANSWER, ADOPT = 12, 13, 14, 15
F_MEMFD, F_WAIT, F_NOTICES = 1, 2, 4
NOTICE = 64  # the signal that a worker tells a client of its end with, if the request says F_NOTICES
NOTICE_EXITED, NOTICE_CONNECT, NOTICE_INPUT = 1, 2, 3
STARTED_FDS = 3  # tie, pidfd, untie


def header(type, size, nfds=0, flags=0, magic=MAGIC, version=VERSION):
    return HEADER.pack(magic, version, type, size, nfds, flags)


def message(type, payload=b"", nfds=0, flags=0, **other):
    return header(type, len(payload), nfds, flags, **other) + payload


def text(code, words=b""):
    """The payload of the messages that carry a wf_text."""
    return struct.pack("<II", code, len(words)) + words


def notice(what, value):
    """The value of the signal by which a worker tells something to a client with F_NOTICES."""
    return (0x57464E00 + what) << 32 | value


class _Info(ctypes.Structure):
    """siginfo_t of a queued signal."""
    _fields_ = [("signo", ctypes.c_int), ("errno", ctypes.c_int), ("code", ctypes.c_int), ("pad", ctypes.c_int),
                ("pid", ctypes.c_int), ("uid", ctypes.c_uint), ("value", ctypes.c_uint64), ("rest", ctypes.c_char * 96)]


def queue(pid, number, value, sender):
    """Queues a signal that says it is from `sender`."""
    libc = ctypes.CDLL(None, use_errno=True)
    info = _Info(signo=number, code=-1, pid=sender, uid=os.getuid(), value=value)
    rt_sigqueueinfo = {"x86_64": 129, "aarch64": 138}[os.uname().machine]
    if libc.syscall(rt_sigqueueinfo, pid, number, ctypes.byref(info)) != 0:
        raise OSError(ctypes.get_errno(), "rt_sigqueueinfo")


def notify(connection, what, value, sender):
    """Tells the client at the other end, in the name of the worker `sender`."""
    client, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    queue(client, NOTICE, notice(what, value), sender)


def send(sock, data, fds=()):
    """Sends it all, descriptors with the first byte; False when the other end is gone."""
    try:
        sent = sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
        sock.sendall(data[sent:])
        return True
    except (BrokenPipeError, ConnectionResetError):
        return False


def receive(sock, size=1 << 20):
    """What is there, with its descriptors (closed again); b"" at the end."""
    try:
        data, ancillary, _, _ = sock.recvmsg(size, socket.CMSG_SPACE(255 * 4))
    except ConnectionResetError:
        return b"", 0
    count = 0
    for _, _, rights in ancillary:
        fds = array.array("i", rights[: len(rights) // 4 * 4])
        for fd in fds:
            os.close(fd)
        count += len(fds)
    return data, count


def receive_raw(sock):
    """One whole message as (its bytes, number of descriptors); b"" at the end."""
    data, nfds = receive(sock, HEADER.size)
    size = HEADER.size
    while data:
        if len(data) == HEADER.size:
            _, _, _, payload, _, flags = HEADER.unpack(data)
            size += 0 if flags & F_MEMFD else payload
        if len(data) == size:
            break
        more = sock.recv(size - len(data))
        if not more:
            return b"", 0
        data += more
    return data, nfds


def receive_message(sock):
    """One whole message as (type, payload, nfds), or None at the end."""
    data, nfds = receive_raw(sock)
    return (HEADER.unpack(data[:HEADER.size])[2], data[HEADER.size:], nfds) if data else None


class Listener:
    """Listens on `path` in a thread, and calls `serve(connection)` for each that comes; `served` counts them."""

    def __init__(self, path, serve):
        self.path, self.serve, self.served, self.connections = path, serve, 0, []
        self.socket = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        self.socket.bind(path)
        os.chmod(path, 0o600)
        self.socket.listen(100)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections.append(connection)
            self.served += 1
            with contextlib.suppress(OSError):
                self.serve(connection)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for connection in self.connections:
            connection.close()
        self.thread.join(10)
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.path)


def connect(path, timeout=15):
    """A connection; a full backlog is waited for (a non-blocking connect would fail at once)."""
    sock = socket.socket(socket.AF_UNIX)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", timeout, 0))
    try:
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    sock.settimeout(timeout)
    return sock
