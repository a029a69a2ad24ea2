"""The zygote that `warmfork.dask` keeps beside each Dask worker: a process that forks one process for each task.

    python -m warmfork._nodezygote SOCKET WORKERS TIMEOUT MODULE...

Messages both ways: u64 number, u64 size, that many bytes. It ends when the socket does.
"""

from __future__ import annotations

import importlib
import pickle
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from warmfork import _messages as messages
from warmfork.executor import ForkExecutor

_HEAD = struct.Struct("=QQ")


def send(sock: socket.socket, number: int, data: bytes) -> None:
    sock.sendall(_HEAD.pack(number, len(data)))
    sock.sendall(data)


def _read(sock: socket.socket, size: int) -> bytes | None:
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        n = sock.recv_into(view[got:])
        if n == 0:
            return None
        got += n
    return bytes(data)


def receive(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """The messages until the other end is closed."""
    while (head := _read(sock, _HEAD.size)) is not None:
        number, size = _HEAD.unpack(head)
        data = _read(sock, size)
        if data is None:
            return
        yield number, data


def run(payload: bytes) -> bytes:
    """In the task's own process."""
    function, args, kwargs = pickle.loads(payload)
    return messages.dumps_by_value(function(*args, **kwargs))


def main() -> None:
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    for module in sys.argv[4:]:
        importlib.import_module(module)
    lock = threading.Lock()  # for the socket: answers come from the collector's thread
    timeout = float(sys.argv[3]) if sys.argv[3] else None
    executor = ForkExecutor(int(sys.argv[2]), max_tasks_per_child=1, timeout=timeout, name="zygote")

    def answer(number: int, done: Future[Any]) -> None:
        error = done.exception()
        packed = pickle.dumps((True, done.result()) if error is None else (False, messages.pack_error(error)), 5)
        try:
            with lock:
                send(sock, number, packed)
        except OSError:
            pass  # the Dask worker has gone; so shall we

    for number, payload in receive(sock):
        executor.submit(run, payload).add_done_callback(lambda done, n=number: answer(n, done))  # type: ignore[misc]
    executor.terminate()


if __name__ == "__main__":
    main()
