"""`ForkQueue`: tasks in processes forked from this one, results in order."""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from warmfork import _messages as messages
from warmfork._engine import Engine
from warmfork._failures import ForkQueueException, RemoteTraceback, WorkerDied
from warmfork._worker import Options

_QUICK_NS = 1_000_000  # tasks of so many nanoseconds are worth having more of them under way than workers
_AHEAD = 512


class _Sink:
    """What has come in. Apart from the queue, so that the engine does not keep a queue alive that was dropped."""

    def __init__(self) -> None:
        self.results: dict[Any, Any] = {}
        self.failed: deque[tuple[Any, BaseException]] = deque()
        self.quick = False

    def done(self, job: Any, error: BaseException | None, value: Any, record: bytes | None) -> None:
        if error is not None:
            if isinstance(error.__cause__, RemoteTraceback):
                error.backtrace = error.__cause__.text  # type: ignore[attr-defined]
            self.failed.append((job, error))
            value = error
        self.results[job] = value
        if record is not None and not self.quick:
            _, started, ended, *_ = messages.RECORD.unpack(record)
            self.quick = ended - started < _QUICK_NS


class ForkQueue:
    """Tasks in processes forked from this one.

    >>> with ForkQueue(numforks=4) as queue:
    ...     for result in queue.process(lambda x: x + offset, ((i,) for i in range(100))):
    ...         print(result)

    The workers are forked here and now: functions, closures and data that exist are simply there. Functions that are
    made later are sent by value. A failed task raises `ForkQueueException` with the worker's traceback (a worker that
    died: its subclass `WorkerDied`); with `reraise=False` the exception object is returned instead. The class is that
    of the module forkqueue.
    """

    def __init__(
        self,
        numforks: int = 16,
        initfunc: Callable[[], Any] | None = None,
        reraise: bool = True,
        ordered: bool = True,
        retn_ids: bool = False,
        env: dict[str, Any] | None = None,
    ) -> None:
        self.reraise = reraise
        self.ordered = ordered
        self.retn_ids = retn_ids
        self.numforks = numforks
        self.jobids: deque[Any] = deque()  # of the jobs whose results were not taken, in order of adding
        self._sink = _Sink()
        self.jobresults = self._sink.results
        self.jobctr = 0
        callables = [f for f in (env or {}).values() if callable(f)]
        options = Options(initializer=initfunc, name="ForkQueue")
        self._engine = Engine(numforks, options, self._sink.done, also=callables, full=True)
        self._finalizer = weakref.finalize(self, _abandon, self._engine)

    def slot_available(self) -> bool:
        """Return whether a worker is free."""
        return len(self._engine.items) < self.numforks

    def add(
        self, func: Callable[..., Any], args: Iterable[Any], argsv: dict[str, Any] | None = None, jobid: Any = None
    ) -> None:
        """Queue a job: `func(*args, **argsv)`. Job ids are numbers from 0 unless given.

        Raises what pickling the arguments raises.
        """
        if jobid is None:
            jobid = self.jobctr
            self.jobctr += 1
        self._engine.submit(jobid, func, args if type(args) is tuple else tuple(args), argsv)
        if self.ordered:
            self.jobids.append(jobid)

    def _failed(self) -> bool:
        """Whether there is an exception to raise."""
        if not self.reraise:
            self._sink.failed.clear()
        return bool(self._sink.failed)

    def _raise(self) -> None:
        job, error = self._sink.failed.popleft()
        self.jobresults[job] = None
        if isinstance(error, WorkerDied):
            raise error
        cause = error.__cause__
        text = cause.text if isinstance(cause, RemoteTraceback) else f"{type(error).__name__}: {error}"
        raise ForkQueueException(f"Exception running task:\n{text}") from error

    def poll(self, timeout: float | None = 0) -> bool:
        """Wait up to `timeout` seconds (None: for ever) for a result; return whether there is a new one.

        Raises ForkQueueException when a task has failed, unless `reraise` is false.
        """
        engine = self._engine
        until = None if timeout is None else time.monotonic() + timeout
        got = engine.collect()
        while not got and not self._failed() and engine.items:
            left = None if until is None else max(0.0, until - time.monotonic())
            deaths = engine.core.wait(left, engine.may_spin())
            had = len(self.jobresults)
            got = engine.collect(deaths) or len(self.jobresults) - had
            if left == 0:
                break
        if self._failed():
            self._raise()
        return got > 0

    def wait(self) -> None:
        """Wait until all jobs are done."""
        while self._engine.items or self._failed():
            self.poll(None)

    def result_available(self) -> bool:
        """Return whether `yield_results` would yield something."""
        if self.ordered:
            return bool(self.jobids) and self.jobids[0] in self.jobresults
        return bool(self.jobresults)

    def yield_results(self) -> Iterator[Any]:
        """Yield the results that are there: in order of adding if `ordered`, with their ids if `retn_ids`."""
        results, jobids, retn_ids = self.jobresults, self.jobids, self.retn_ids
        if self.ordered:
            while jobids and jobids[0] in results:
                jobid = jobids.popleft()
                result = results.pop(jobid)
                yield (jobid, result) if retn_ids else result
        else:
            while results:
                jobid = next(iter(results))
                result = results.pop(jobid)
                yield (jobid, result) if retn_ids else result

    def process(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        argsv: dict[str, Any] | None = None,
        interval: float | None = None,
    ) -> Iterator[Any]:
        """Run `func(*args, **argsv)` for each `args` of the iterable, yielding results.

        The iterable is consumed as workers become free, a little ahead of them when tasks are quick. `interval` is how
        often to look for results; None waits for them.
        """
        numforks = self.numforks
        for args in iterable:
            while len(self._engine.items) >= (numforks + _AHEAD if self._sink.quick else numforks):
                self.poll(interval)
            self.add(func, args, argsv)
            if self.result_available():
                yield from self.yield_results()
        yield from self.results(interval=interval)

    def map(self, func: Callable[..., Any], *args: Iterable[Any]) -> Iterator[Any]:
        """Like the built-in `map`."""
        yield from self.process(func, zip(*args, strict=False))

    def results(self, poll: bool = False, interval: float | None = None) -> Iterator[Any]:
        """Yield the results of the remaining jobs; with `poll`, only of those that are done."""
        if poll:
            self.poll()
            yield from self.yield_results()
            return
        while self._engine.items or self.jobresults or self._failed():
            yield from self.yield_results()
            if self._engine.items or self._failed():
                self.poll(interval)

    def finish(self) -> None:
        """Finish the jobs and end the workers."""
        try:
            self.wait()
        finally:
            self._stop(now=bool(self._engine.items))

    def _stop(self, now: bool) -> None:
        self._engine.stop(now)
        self._finalizer.detach()

    def __enter__(self) -> ForkQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish; but at once after Ctrl-C, or when the program is about to end."""
        if kind is not None and not issubclass(kind, Exception):
            self._stop(now=True)
        elif not self._engine.closing:
            self.finish()


def _abandon(engine: Engine) -> None:
    """The queue was dropped, or the program ends: as with forkqueue, what was not waited for is lost."""
    if engine.owner == os.getpid():
        engine.stop(now=True)
