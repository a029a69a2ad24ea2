"""The futures of a `ForkExecutor`."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from warmfork import _messages as messages

if TYPE_CHECKING:
    from warmfork._crew import Crew

T = TypeVar("T")

_PENDING, _CANCELLED, _NOTIFIED, _FINISHED = "PENDING", "CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED"


@dataclass(frozen=True)
class TaskRecord:
    """What a task has used. Times are those of `time.monotonic()`, in seconds; memory is in bytes."""

    queued: float
    started: float
    ended: float
    cpu_time: float
    peak_memory: int  # of the worker, so far; 0 for tasks of less than a millisecond
    worker: int
    signal: int | None  # that killed the worker


class ForkFuture(Future[T]):
    """A `concurrent.futures.Future` that can cancel a running task.

    >>> future = executor.submit(work, row)
    >>> future.cancel() if future.running() else future.result(), future.record()

    All futures of an executor share one condition. It costs more than all the rest of a future to make.
    """

    def __init__(self, crew: Crew) -> None:
        self._condition = crew.condition
        self._state = _PENDING
        self._result = None
        self._exception = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []
        self._crew = crew
        self._number = 0
        self._queued = 0
        self._record: bytes | None = None

    def cancel(self) -> bool:
        """Cancel the task, even if it runs: its worker is killed then, and replaced.

        Returns False when the task has ended, or is just about to.
        """
        with self._crew.lock:
            if self._state in (_CANCELLED, _NOTIFIED):
                return True
            if self._state != _PENDING or not self._crew.cancel(self._number):
                return False
        return self._give_up()

    def _withdraw(self) -> bool:
        """Like `cancel`, but leaves a task that has begun alone."""
        with self._crew.lock:
            if self._state != _PENDING or not self._crew.forget(self._number):
                return False
        return self._give_up()

    def _give_up(self) -> bool:
        super().cancel()
        with self._crew.lock:
            if self._state == _CANCELLED:
                self.set_running_or_notify_cancel()
        return True

    def running(self) -> bool:
        return self._state == _PENDING and self._crew.is_running(self._number)

    def result(self, timeout: float | None = None) -> T:
        if self._state != _FINISHED:
            self._wait(timeout)
        if self._exception is None:
            return self._result  # type: ignore[return-value]
        try:
            raise self._exception
        finally:
            self = None  # type: ignore[assignment]  # as the base class does: no cycle with the traceback

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if self._state != _FINISHED:
            self._wait(timeout)
        return self._exception

    def record(self) -> TaskRecord | None:
        """Return what the task has used; None as long as it has not ended, or when it never began."""
        if self._record is None:
            return None
        _, started, ended, cpu, peak, _, _, worker = messages.RECORD.unpack(self._record)
        signum = getattr(self._exception, "signal", None)
        return TaskRecord(
            self._queued / 1e9, started / 1e9, ended / 1e9, cpu / 1e9, peak * 1024, worker,
            signum if isinstance(signum, int) else None,
        )

    def _wait(self, timeout: float | None) -> None:
        if self._state == _PENDING:
            self._crew.wait_for(self, timeout)
        if self._state in (_CANCELLED, _NOTIFIED):
            raise CancelledError
        if self._state != _FINISHED:
            raise FutureTimeout


def shared_condition() -> threading.Condition:
    """A condition for all futures of an executor."""
    return threading.Condition(threading.RLock())
