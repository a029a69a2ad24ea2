"""`ForkExecutor`: a `concurrent.futures.Executor` on processes forked from this one."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from warmfork import _cpus
from warmfork._crew import Crew
from warmfork._future import ForkFuture, TaskRecord
from warmfork._mapping import mapping
from warmfork._worker import Options

__all__ = ["ForkExecutor", "ForkFuture", "PoolStats", "TaskRecord", "WorkerStats"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class WorkerStats:
    """What one worker does: `task_time` is how long it has been running its present task, in seconds, None when
    idle."""

    index: int
    pid: int
    tasks: int
    busy_time: float
    task_time: float | None


@dataclass(frozen=True)
class PoolStats:
    """What a pool does: see `ForkExecutor.stats`."""

    workers: tuple[WorkerStats, ...]
    max_workers: int
    waiting: int  # tasks that no worker has begun
    running: int
    ended: int
    failed: int  # of those that have ended
    retried: int
    workers_died: int


class ForkExecutor(Executor):
    """A pool of processes forked from this one, as a `concurrent.futures.Executor`.

    >>> with ForkExecutor(4) as executor:
    ...     future = executor.submit(pow, 2, 10)
    ...     squares = list(executor.map(lambda x: x * x, range(1000)))

    Args:
        max_workers: how many processes; by default as many as there are processors for this process (affinity, cgroup).
            They are forked when they are needed.
        initializer, initargs: called in each worker before its first task. If it fails, the pool is broken
            (`BrokenPool`).
        max_tasks_per_child: a worker is replaced after so many tasks.
        max_memory_per_child: a worker is replaced after a task that leaves it with more resident memory, in bytes.
        timeout: seconds after which a running task is ended: its worker is killed, its future raises `TaskTimeout`.
        retries: how many times a task is tried again whose worker died or was killed for the timeout.
        progress: draw a progress bar (needs tqdm).
        affinity: sets of processors; worker number k is kept on the one at k modulo their number.
        cluster: run the tasks on a Dask cluster instead: the scheduler's address, or a `distributed.Client`. See
            `warmfork.dask` for which of these arguments it takes (and `preload`, modules for its zygotes to import).
        name: of the pool, in the names of its workers and threads.

    Cancelling the future of a running task kills its worker, and no other task is touched. A task whose worker dies
    fails with `WorkerDied`. When the `with` block ends by Ctrl-C, everything is stopped at once.
    """

    def __new__(cls, *args: Any, cluster: Any = None, **kwargs: Any) -> ForkExecutor:
        if cluster is not None and cls is ForkExecutor:
            from warmfork.dask import ClusterExecutor

            return super().__new__(ClusterExecutor)
        return super().__new__(cls)

    def __init__(
        self,
        max_workers: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        progress: bool = False,
        affinity: Sequence[Iterable[int]] | None = None,
        name: str | None = None,
        cluster: None = None,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        limits = {"max_tasks_per_child": max_tasks_per_child, "max_memory_per_child": max_memory_per_child}
        for label, value in limits.items():
            if value is not None and not isinstance(value, int):
                raise TypeError(f"{label} must be an integer")
            if value is not None and value <= 0:
                raise ValueError(f"{label} must be >= 1")
        cpus = _cpus.cpu_count()
        workers = min(max_workers or cpus, 1024)
        options = Options(
            initializer, initargs, max_tasks_per_child or 0, max_memory_per_child or 0, affinity,
            max(1, cpus // workers) if workers > 1 else 0, name or "ForkExecutor",
        )
        self._max_workers = workers
        self._crew = Crew(workers, options, timeout, retries)
        self._shut = False
        self._bar: Any = None
        if progress:
            from warmfork._progress import Bar

            self._bar = Bar(self._crew, name)
        self._finalizer = weakref.finalize(self, self._crew.leave, False)
        self._finalizer.atexit = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> ForkFuture[T]:
        """Schedule `fn(*args, **kwargs)` and return its future.

        >>> executor.submit(pow, 2, 10).result()
        1024

        Raises RuntimeError after `shutdown`, and BrokenPool when no worker can be started. Arguments that cannot be
        pickled fail the future.
        """
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        return self._crew.submit(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Like the built-in `map`, in the workers; results come in order.

        >>> for row in executor.map(work, open("rows"), buffersize=1000):
        ...     print(row)

        Inputs without a length (generators) are consumed as workers become free and results are taken, at most
        `buffersize` items ahead if given. `chunksize` is how many items travel together; None: as many as are quick.
        An exception is raised in the place of its item's result, in any chunk. A worker that dies fails the rest of
        its chunk.

        Raises TimeoutError when a result is not there `timeout` seconds after the call.
        """
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        if not iterables:
            raise TypeError("map() needs an iterable")
        if self._crew.engine.timeout is not None and chunksize is None:
            chunksize = 1  # the timeout is that of a task
        return mapping(self._crew, fn, iterables, timeout, chunksize, buffersize)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No more tasks. Those that there are end first, or are cancelled if they have not begun."""
        self._shut = True
        if cancel_futures:
            self._crew.feeders.clear()
            for item in list(self._crew.engine.items.values()):
                item[0]._withdraw()
        self._finalizer.detach()
        self._crew.leave(wait)
        if wait and self._bar is not None:
            self._bar.close()

    def terminate(self) -> None:
        """Kill all workers now. Tasks that have not ended are cancelled."""
        self._shut = True
        self._crew.feeders.clear()
        for item in list(self._crew.engine.items.values()):
            item[0].cancel()
        self._finalizer.detach()
        self._crew.leave(wait=True, now=True)
        if self._bar is not None:
            self._bar.close()

    def stats(self) -> PoolStats:
        """Return what the pool and each of its workers are doing.

        >>> [w.task_time for w in executor.stats().workers]
        [0.52, None]
        """
        return _stats(self._crew)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if kind is not None and not issubclass(kind, Exception):
            self.terminate()
        else:
            self.shutdown(wait=True)
        return None


def _stats(crew: Crew) -> PoolStats:
    import time

    engine, now = crew.engine, time.monotonic_ns()
    workers = () if engine.closing else tuple(
        WorkerStats(k, pid, tasks, busy / 1e9, (now - started) / 1e9 if number else None)
        for k, pid, number, started, tasks, busy, _ in engine.core.workers()
    )
    running = sum(w.task_time is not None for w in workers)
    return PoolStats(
        workers, engine.max_workers, max(0, len(engine.items) - running), running, crew.ended, crew.failed,
        engine.retried, engine.died,
    )
