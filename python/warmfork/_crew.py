"""The threads of a `ForkExecutor`: one that collects results, and callers that do it themselves while they wait.

A caller that waits for a future takes over as the leader: the worker's result then wakes that thread and no other, and
nothing has to be handed from thread to thread. The collector sleeps meanwhile; it takes over again when the leader
leaves, and it alone sees to workers that die. It holds no reference to the executor, so that one that is dropped ends.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from warmfork import _messages as messages
from warmfork._engine import Engine
from warmfork._failures import BrokenPool
from warmfork._forksafety import own_threads
from warmfork._future import _FINISHED, _PENDING, ForkFuture, shared_condition
from warmfork._report import UnsafeForkError

if TYPE_CHECKING:
    from warmfork._worker import Options

_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


class Crew:
    """An engine whose tasks are futures, and its collector."""

    def __init__(self, max_workers: int, options: Options, timeout: float | None, retries: int) -> None:
        self.condition = shared_condition()
        # For `with`, which takes it in C: a signal's handler that raises in Condition.__enter__ would leave it locked.
        self.lock = self.condition._lock  # type: ignore[attr-defined]
        self.engine = Engine(max_workers, options, self._deliver, timeout=timeout, retries=retries)
        self.name = options.name
        self.ended = self.failed = 0
        self.on_end: Callable[[], None] | None = None
        self.feeders: list[Callable[[], bool]] = []  # inputs of maps whose results nobody will ask for
        self._thread: threading.Thread | None = None
        self._leader: int | None = None
        self._batch: list[ForkFuture[Any]] = []
        self._leaving = False
        self._watching = True  # the collector wakes up in time for the next timeout
        self._gone = threading.Event()
        _crews.add(self)

    # Tasks.

    def submit(self, function: Any, args: Any, kwargs: Any, kind: int = messages.CALL) -> ForkFuture[Any]:
        future: ForkFuture[Any] = ForkFuture(self)
        future._queued = time.monotonic_ns()
        if self._thread is None:
            self._start()  # before the first worker, which it would have to share the processor with
        try:
            future._number = self.engine.submit(future, function, args, kwargs, kind)
        except (BrokenPool, UnsafeForkError, OSError, Warning):
            raise  # no worker can be had
        except Exception as error:
            future.set_exception(error)
            return future
        if not self._watching and self.engine.timeout is not None:
            self._watching = True
            self.engine.core.kick()  # the collector sleeps without a limit
        return future

    def cancel(self, number: int) -> bool:
        return self.engine.owner == os.getpid() and self.engine.cancel(number)

    def forget(self, number: int) -> bool:
        return self.engine.owner == os.getpid() and self.engine.forget(number)

    def is_running(self, number: int) -> bool:
        engine = self.engine
        return engine.owner == os.getpid() and number in engine.items and engine.core.running(number) != 0

    def _deliver(self, future: ForkFuture[Any], error: BaseException | None, value: Any, record: bytes | None) -> None:
        """Called by the engine, with the condition held: see `_collect`."""
        if future._state != _PENDING:
            return
        future._record = record
        future._exception = error
        future._result = value
        future._state = _FINISHED
        self.ended += 1
        if error is not None:
            self.failed += 1
        if future._done_callbacks:
            self._batch.append(future)
        for waiter in future._waiters:
            if error is None:
                waiter.add_result(future)
            else:
                waiter.add_exception(future)

    def _collect(self, deaths: bool = False) -> None:
        with self.lock:
            got = self.engine.collect(deaths)
            batch, self._batch = self._batch, []
            if got or deaths:
                self.condition.notify_all()
        for future in batch:
            future._invoke_callbacks()  # type: ignore[attr-defined]
        if self.on_end is not None and (got or deaths):
            self.on_end()

    # Waiting.

    def wait_for(self, future: ForkFuture[Any], timeout: float | None) -> None:
        """Returns when the future is done, or the time is over."""
        until = None if timeout is None else time.monotonic() + timeout
        if self._leader is not None or threading.current_thread() is self._thread:
            self._wait_beside(future, until)
            return
        core = self.engine.core
        try:
            self._leader = threading.get_ident()
            while future._state == _PENDING and not self._leaving:
                self._collect()
                if future._state != _PENDING:
                    break
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    break
                core.lead(left, self.engine.may_spin())
        finally:
            self._leader = None
            core.follow()
            if self.condition._waiters:  # type: ignore[attr-defined]
                with self.lock:
                    self.condition.notify_all()
        if future._state == _PENDING and self._leaving:
            self._wait_beside(future, until)

    def _wait_beside(self, future: ForkFuture[Any], until: float | None) -> None:
        """Waits while another thread collects."""
        with self.lock:
            while future._state == _PENDING:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return
                self.condition.wait(left)

    # The collector.

    def _start(self) -> None:
        with self.lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"{self.name}-collector", daemon=True)
                own_threads.add(self._thread)
                self._thread.start()

    def _run(self) -> None:
        engine = self.engine
        try:
            wait = self._watch()
            while not (self._leaving and not engine.items and not self._feed()):
                deaths = engine.core.wait(wait, False)
                self._collect(deaths)
                wait = self._watch()
                if self._leader is not None:
                    engine.core.kick()  # it does not see deaths
            engine.stop()
        finally:
            self._gone.set()

    def _watch(self) -> float | None:
        """Looks for tasks that have run for too long; returns when to look again. A task that is submitted while this
        looks, or after it has seen none, kicks."""
        if self.engine.timeout is None:
            return None
        self._watching = False
        wait = self.engine.enforce_timeouts()
        if wait is not None:
            self._watching = True
        return wait

    def _feed(self) -> bool:
        """Goes on with maps whose results nobody waits for; whether there was anything left."""
        while self.feeders:
            if self.feeders[0]():
                return True
            self.feeders.pop(0)
        return False

    def leave(self, wait: bool, now: bool = False) -> None:
        """No more tasks: the workers end when those that there are have ended, or at once."""
        if self.engine.owner != os.getpid():
            return
        self._leaving = True
        if now:
            with self.lock:
                for number in list(self.engine.items):
                    self.engine.cancel(number)
        if self._thread is None:
            self.engine.stop(now)
            self._gone.set()
            return
        if not self._gone.is_set():
            self.engine.core.kick()
        if wait and threading.current_thread() is not self._thread:
            self._gone.wait()
            self._thread.join()


def _at_exit() -> None:
    """The program ends: what was submitted is finished first, as with the executors of the standard library."""
    for crew in list(_crews):
        crew.leave(wait=True)


threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
