"""The pool's parent: tasks out, results in, workers replaced. `ForkQueue` and `ForkExecutor` are two faces of it.

Nothing here waits for a lock: calls of the extension module are atomic under the interpreter's lock, and so are the
dictionary and deque operations between them. Whoever waits calls `collect`.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from warmfork import _cpus, _worker
from warmfork import _messages as messages
from warmfork._failures import BrokenPool, TaskTimeout, WorkerDied
from warmfork._forksafety import check_fork
from warmfork._queue import PAYLOAD, Pool

_NO_ARGUMENTS = pickle.dumps((), 5)
# Workers that die one after the other before they are ready: the next one would too. SIGKILL comes from outside, so
# that it counts only where it has come again and again for a while, with no sign of life in between.
_CRASHES, _KILLS, _KILLS_S = 3, 30, 5.0

Item = tuple[Any, Any, int, bytes, bytes]  # task, function, kind, key, body
Deliver = Callable[[Any, BaseException | None, Any, bytes | None], None]


class Engine:
    """Forks workers, hands tasks to them, and delivers each task's end exactly once.

    `deliver(task, error, value, record)` is called from `collect`, with the task as it was submitted; `error` is None
    or the exception, `record` a struct wf_result (`messages.RECORD`).
    """

    def __init__(
        self,
        max_workers: int,
        options: _worker.Options,
        deliver: Deliver,
        *,
        timeout: float | None = None,
        retries: int = 0,
        also: Iterable[Any] = (),
        full: bool = False,
    ) -> None:
        self.max_workers = max_workers
        self.options = options
        self.timeout = timeout
        self.retries = retries
        self.owner = os.getpid()
        # Whoever waits begins awake only where there is a processor for each one that is.
        self._spare = _cpus.cpu_count() - 1
        self.core = Pool(max_workers, self._spare > 0 and max_workers <= self._spare + 1)
        self.items: dict[int, Item] = {}
        self.pending: deque[int] = deque()  # those that the queue had no room for
        self.broken: BrokenPool | None = None
        self.closing = False
        self.died = self.retried = 0
        self._deliver = deliver
        self._also = also
        self._full = full  # as many workers as there may be, from the start
        self._last = 0
        self._forking = threading.Lock()
        self._arrived: list[tuple[int, int, Any, int, bytes]] = []
        self._crashes = self._kills = 0
        self._killed_since = 0.0
        self._inventory: messages.Inventory | None = None
        self._keys: dict[int, tuple[Any, bytes]] = {}  # with the function, so that its id stays its own
        self._tries: dict[int, int] = {}
        self._fates: dict[int, BaseException | None] = {}  # of tasks whose workers we have killed
        if full:
            self._restock()

    # Workers.

    def fork(self) -> bool:
        """Starts a worker. False when the system has no room for another one, or another thread is starting one;
        OSError when there is none at all.
        """
        inventory = self.inventory()
        check_fork()  # before our own lock is held
        if not self._forking.acquire(blocking=False):
            return False
        try:
            return self._fork(inventory)
        finally:
            self._forking.release()

    def _fork(self, inventory: messages.Inventory) -> bool:
        if self.core.count >= self.max_workers:
            return False
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
        try:
            k, pid = self.core.fork()
        except OSError:
            if self.core.count == 0:
                raise
            return False
        if pid == 0:
            _worker.main(self.core, k, self.options, inventory)
        return True

    def inventory(self) -> messages.Inventory:
        if self._inventory is None:
            self._inventory = messages.Inventory(self._also)
        return self._inventory

    def _restock(self) -> None:
        """Starts the workers that are missing for what there is to do."""
        core = self.core
        while not self.broken and core.count < self.max_workers:
            if not self._full and (not self.items or (core.count > 0 and core.idle() >= 0)):
                return
            if not self.fork():
                return

    # Tasks out.

    def submit(self, task: Any, function: Any, args: Any, kwargs: Any = None, kind: int = messages.CALL) -> int:
        """Queues a task and returns its number. Raises what pickling raises, and BrokenPool."""
        if self.broken is not None:
            raise self.broken
        if kwargs:
            kind, args = messages.CALL_NAMED, (args, kwargs)
        known = self._keys.get(id(function))
        if known is not None:
            key = known[1]
        else:
            key, kind, args = self._key(function, kind, args)
        if args == () and kind == messages.CALL:
            body = _NO_ARGUMENTS
        else:
            kind, body = self._dumps(key, kind, args)
        self._last = number = self._last + 1
        self.items[number] = (task, function, kind, key, body)
        if self.pending or not self.core.push(number, kind, key, body):
            self.pending.append(number)
        if self.core.count < self.max_workers:
            try:
                self._restock()
            except BaseException as error:
                if self.forget(number) or not isinstance(error, Exception):
                    raise
        return number

    def _key(self, function: Any, kind: int, args: Any) -> tuple[bytes, int, Any]:
        key, lasting = self._key_for(function)
        if lasting:
            self._keys[id(function)] = (function, key)
        elif len(key) > PAYLOAD // 2:
            return messages.NO_KEY, kind | messages.WITH_FUNCTION, (messages.ByValue(key[5:]), args)
        return key, kind, args

    def _key_for(self, function: Any, *, by_value: bool = False) -> tuple[bytes, bool]:
        """Of a function that cannot be sent: its id. A worker that does not have it leaves, and the next one does."""
        inventory = self.inventory()
        try:
            return messages.function_key(function, inventory, by_value=by_value)
        except messages.UNPICKLABLE:
            inventory.note(function)
            return messages.key_by_id(function), True

    def _dumps(self, key: bytes, kind: int, args: Any) -> tuple[int, bytes]:
        room = max(0, PAYLOAD - len(key))
        try:
            large, body = self.core.dumps(args, room, None)
        except messages.UNPICKLABLE as error:
            pickler = messages.slow_pickler()
            if pickler is None:
                raise
            try:
                large, body = self.core.dumps(args, room, pickler)
            except Exception:
                raise error from None
        return kind | large, body

    def _refill(self) -> None:
        """Moves what had to wait into the queue, as far as there is room."""
        pending = self.pending
        while pending:
            number = pending[0]
            item = self.items.get(number)
            if item is not None and not self.core.push(number, item[2], item[3], item[4]):
                return
            pending.popleft()

    def _send_again(self, number: int, item: Item) -> None:
        self.items[number] = item
        self.pending.append(number)

    # Results in.

    def may_spin(self) -> bool:
        """Whether a caller may wait awake for a moment: the workers that have tasks leave it a processor."""
        return len(self.items) <= self._spare

    def collect(self, deaths: bool = False) -> int:
        """Delivers what has come in, and with `deaths` looks for workers that have died. Returns how many results.

        The handler of a signal may raise anywhere in here, or wait for a future itself: a result is forgotten only once
        it has been delivered, and to deliver it twice does nothing.
        """
        arrived, got = self._arrived, 0
        self.core.drain(arrived)
        if arrived:
            self._kills = 0
        deliver, get, pop = self._deliver, self.items.get, self.items.pop
        while arrived:
            batch = arrived[:]
            for number, kind, value, k, record in batch:
                item = get(number)
                if item is None:
                    if kind == messages.BROKEN:
                        self._break(messages.unpack_error(value)[0])
                    continue
                if item[2] & messages.SEGMENTS:
                    self.core.hold(item[4], k)
                if kind <= messages.VALUE:
                    deliver(item[0], None, value, record)
                    pop(number, None)
                else:
                    pop(number, None)
                    self._failed(number, item, kind, value, record)
            if arrived and arrived[0] is batch[0]:
                del arrived[: len(batch)]
            got += len(batch)
        if deaths:
            for death in self.core.deaths():
                self._buried(*death)
            if not self.closing or self.items:
                self._restock_or_break()
        if self.pending:
            self._refill()
        return got

    def _failed(self, number: int, item: Item, kind: int, value: Any, record: bytes) -> None:
        task, function, task_kind, key, body = item
        if kind == messages.BAD:
            self._deliver(task, value, None, record)
        elif value is None:  # the worker does not know the function: it came into being after the fork
            self._keys.pop(id(function), None)
            try:
                key = self._key_for(function, by_value=True)[0]
                self._send_again(number, (task, function, task_kind, key, body))
            except Exception as error:
                self._deliver(task, error, None, record)
        elif not value:  # not even the text of the exception could be sent
            self._deliver(task, MemoryError("the worker could not send its exception"), None, record)
        else:
            self._deliver(task, messages.unpack_error(value)[0], None, record)

    def _buried(
        self, k: int, pid: int, status: int, leaving: int, ready: int, number: int, started: int, peak_kb: int, cpu: int
    ) -> None:
        """A worker has ended. What it was doing is lost, or tried again."""
        killed = status >= 0 and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if ready:
            self._crashes = self._kills = 0
        elif killed:
            self._killed_since = self._killed_since if self._kills else time.monotonic()
            self._kills += 1
        else:
            self._crashes += 1
        self.died += not leaving
        item = self.items.pop(number, None)
        if item is None:
            return
        cancelled = number in self._fates and self._fates[number] is None
        fate = self._fates.pop(number, None)
        if not cancelled and self._tries.get(number, 0) < self.retries:
            self._tries[number] = self._tries.get(number, 0) + 1
            self.retried += 1
            self._send_again(number, item)
            return
        self._tries.pop(number, None)
        if item[2] & messages.SEGMENTS:
            self.core.unspill(item[4])
        if cancelled:
            return
        if fate is None:
            signum = os.WTERMSIG(status) if status >= 0 and os.WIFSIGNALED(status) else None
            code = os.WEXITSTATUS(status) if status >= 0 and os.WIFEXITED(status) else None
            fate = WorkerDied(_describe(item[1]), pid, code, signum, peak_kb * 1024)
        record = messages.RECORD.pack(number, started, time.monotonic_ns(), cpu, peak_kb, 0, 0, k)
        self._deliver(item[0], fate, None, record)

    def _restock_or_break(self) -> None:
        killed = self._kills >= _KILLS and time.monotonic() - self._killed_since > _KILLS_S
        if killed or self._crashes >= _CRASHES:
            self._break(RuntimeError("several workers in a row died before they were ready"))
            return
        try:
            self._restock()
        except OSError as error:
            self._break(error)

    def _break(self, cause: BaseException) -> None:
        """No worker can be had: every task fails, now and from now on."""
        if self.broken is not None:
            return
        self.broken = BrokenPool(f"the pool cannot start workers: {type(cause).__name__}: {cause}")
        self.broken.__cause__ = cause
        self.core.close(True)
        self.pending.clear()
        items, self.items = self.items, {}
        for item in items.values():
            self._deliver(item[0], self.broken, None, None)

    # Ends of tasks that are not their own.

    def forget(self, number: int) -> bool:
        """Takes back a task that nobody has begun. False: too late."""
        item = self.items.get(number)
        if item is None:
            return False
        if number in self.pending:
            self.pending.remove(number)
        elif not self.core.revoke(number):
            return False
        del self.items[number]
        if item[2] & messages.SEGMENTS:
            self.core.unspill(item[4])
        return True

    def cancel(self, number: int) -> bool:
        """Takes back a task, killing its worker if it has begun. False: it has just ended."""
        for _ in range(100):
            if number not in self.items or number in self._fates:
                return False
            if self.forget(number):
                return True
            self._fates[number] = None
            if self.core.doom(number):
                return True
            del self._fates[number]
            os.sched_yield()  # between the two: it is being taken from the queue, or its result is being sent
        return False

    def enforce_timeouts(self) -> float | None:
        """Kills the workers of tasks that have run for too long. Returns the seconds until the next one might have."""
        if self.timeout is None or not self.items:
            return None
        wait = self.timeout
        now = time.monotonic_ns()
        for _, _, number, started, *_ in self.core.workers():
            if not number or number in self._fates or number not in self.items:
                continue
            left = self.timeout - (now - started) / 1e9
            if left > 0:
                wait = min(wait, left)
            else:
                self._fates[number] = TaskTimeout(f"{_describe(self.items[number][1])} took over {self.timeout} s")
                if not self.core.doom(number):
                    del self._fates[number]
        return wait

    # The end.

    def stop(self, now: bool = False) -> None:
        """Ends all workers: when the queue is empty, or at once. Returns when they are gone."""
        if self.owner != os.getpid() or self.closing:
            return
        self.closing = True
        self.core.close(now)
        while self.core.count > 0:
            self.core.wait(None, False)
            self.core.drain([])  # nobody waits for these
            self.core.deaths()
        self.core.release()


def _describe(function: Any) -> str:
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else repr(function)[:200]
