"""`ForkExecutor(cluster=...)`: the same calls on a Dask cluster.

Each Dask worker keeps one zygote: an interpreter of its own that has imported what was named, and forks a process for
each task. Dask schedules, and sees tasks that raise; a crash, a leak or a changed global of a task ends with its
process. The Dask worker neither imports nor unpickles anything of the tasks.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import wait as wait_for_all
from typing import Any

from distributed import Client, WorkerPlugin, get_worker

from warmfork import _messages as messages
from warmfork import _nodezygote
from warmfork.executor import ForkExecutor


class ZygotePlugin(WorkerPlugin):  # type: ignore[misc]
    """Keeps a zygote beside a Dask worker.

    >>> client.register_plugin(ZygotePlugin("mine", preload=["pandas"]))
    """

    def __init__(self, name: str, preload: Iterable[str] = (), timeout: float | None = None) -> None:
        self.name = name
        self.preload = list(preload)
        self.timeout = timeout

    def setup(self, worker: Any) -> None:
        """Dask calls this in each worker, also in those that join later."""
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[bytes]] = {}
        self._last = 0
        self._threads: int = worker.state.nthreads
        self._process: subprocess.Popen[bytes] | None = None

    def teardown(self, worker: Any) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
            process.wait()

    def call(self, payload: bytes) -> bytes:
        """Runs a task in a process of its own; returns when it has ended."""
        with self._lock:
            if self._process is None:
                self._start()
            self._last = number = self._last + 1
            done = self._waiting[number] = Future()
            _nodezygote.send(self._socket, number, payload)
        return done.result()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        argv = [sys.executable, "-m", "warmfork._nodezygote", str(theirs.fileno()), str(self._threads)]
        argv += ["" if self.timeout is None else str(self.timeout), *self.preload]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=env)
        self._socket = ours
        theirs.close()
        threading.Thread(target=self._read, args=(ours, self._process), daemon=True, name="warmfork zygote").start()

    def _read(self, sock: socket.socket, process: subprocess.Popen[bytes]) -> None:
        """Hands answers to those that wait. When the zygote is gone, they fail; the next task starts another one."""
        try:
            for number, answer in _nodezygote.receive(sock):
                self._waiting.pop(number).set_result(answer)
        except OSError:
            pass
        with self._lock:
            if self._process is process:
                self._process = None
            waiting, self._waiting = self._waiting, {}
        sock.close()
        status = process.wait()
        for future in waiting.values():
            future.set_exception(RuntimeError(f"the zygote of this Dask worker has ended with status {status}"))


def _run(name: str, payload: bytes) -> bytes:
    """What Dask runs."""
    plugin: ZygotePlugin = get_worker().plugins[f"warmfork-{name}"]
    return plugin.call(payload)


class ClusterExecutor(ForkExecutor):
    """What `ForkExecutor(cluster=...)` makes. `cluster` is a scheduler's address or a `distributed.Client`."""

    def __init__(
        self,
        max_workers: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        cluster: Any,
        preload: Iterable[str] = (),
        timeout: float | None = None,
        retries: int = 0,
        name: str | None = None,
        **unused: Any,
    ) -> None:
        given = [k for k, v in unused.items() if v]
        if max_workers is not None or initializer is not None or given:
            raise ValueError(f"not for a cluster: {', '.join(['max_workers', 'initializer', *given])}")
        self._own = not isinstance(cluster, Client)
        self._client = Client(cluster, set_as_default=False) if self._own else cluster
        self._name = f"{name or 'pool'}-{uuid.uuid4().hex[:8]}"
        self._retries = retries
        self._shut = False
        self._futures: set[Any] = set()  # Dask's
        self._here: set[Future[Any]] = set()  # and those that callers have
        plugin = ZygotePlugin(self._name, preload, timeout)
        self._client.register_plugin(plugin, name=f"warmfork-{self._name}")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # type: ignore[override]
        """Schedule a task somewhere in the cluster. Cancelling its future cancels it if it has not begun."""
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        key = messages.dumps_by_value(fn)
        payload = messages.dumps_by_value((messages.ByValue(key), args, kwargs))
        there = self._client.submit(_run, self._name, payload, pure=False, retries=self._retries)
        here: Future[Any] = Future()
        self._futures.add(there)
        self._here.add(here)
        here.add_done_callback(self._here.discard)
        there.add_done_callback(lambda done: self._ended(done, here))
        here.add_done_callback(lambda done: there.cancel() if done.cancelled() else None)
        return here

    def _ended(self, there: Any, here: Future[Any]) -> None:
        self._futures.discard(there)
        if here.cancelled() or not here.set_running_or_notify_cancel():
            return
        try:
            ok, data = pickle.loads(there.result())
            if ok:
                here.set_result(pickle.loads(data))
            else:
                here.set_exception(messages.unpack_error(pickle.loads(data))[0])
        except BaseException as error:
            here.set_exception(CancelledError() if there.cancelled() else error)

    def map(
        self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: float | None = None,
        chunksize: int | None = None, buffersize: int | None = None,
    ) -> Iterator[Any]:
        """As `Executor.map`: all inputs are sent at once; `chunksize` and `buffersize` are ignored."""
        return Executor.map(self, fn, *iterables, timeout=timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the zygotes when the tasks have ended. The cluster goes on."""
        if self._shut:
            return
        self._shut = True
        if cancel_futures:
            self._client.cancel(list(self._futures))
        elif wait:
            wait_for_all(list(self._here))
        if wait or cancel_futures:
            self._client.unregister_worker_plugin(f"warmfork-{self._name}")
        if self._own:
            self._client.close()

    def terminate(self) -> None:
        """Cancel everything."""
        self.shutdown(cancel_futures=True)
