"""`ForkExecutor.map`: inputs consumed as workers become free, in chunks that grow while items are quick."""

from __future__ import annotations

import pickle
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures._base import LOGGER
from itertools import islice
from typing import TYPE_CHECKING, Any

from warmfork import _messages as messages
from warmfork._queue import Chain

if TYPE_CHECKING:
    from warmfork._crew import Crew
    from warmfork._future import ForkFuture

_CHUNK_NS = 3_000_000  # how long a chunk is to take
_CHUNK_MAX = 1 << 15


def mapping(
    crew: Crew, function: Any, iterables: tuple[Iterable[Any], ...], timeout: float | None, chunksize: int | None,
    buffersize: int | None,
) -> Iterator[Any]:
    """Iterator over results in order.

    When it is dropped after its first result, what has not begun is cancelled; before, everything is run all the same.
    """
    until = None if timeout is None else time.monotonic() + timeout
    feed = Feed(crew, function, iterables, chunksize, buffersize)
    results = Chain(_chunks(feed, until))
    weakref.finalize(results, feed.dropped).atexit = False
    feed.refill()
    if feed.failure is not None and not feed.futures:
        raise feed.failure
    return results


def _chunks(feed: Feed, until: float | None) -> Iterator[list[Any]]:
    """The results of one chunk after the other."""
    feed.begun = True
    futures = feed.futures
    try:
        while feed.goes_on():
            left = None if until is None else max(0.0, until - time.monotonic())
            values, error = futures[0].result(left)
            futures.popleft()
            count = len(values)
            if feed.buffersize is None:
                feed.held -= count
            if error is None:
                feed.refill()
            yield values
            if error is not None:
                raise messages.unpack_error(pickle.loads(error))[0]
            if feed.buffersize is not None:  # now they have been taken
                feed.held -= count
                feed.refill()
        if feed.failure is not None:
            raise feed.failure
    finally:
        feed.close()


class Feed:
    """The input side of a map."""

    def __init__(
        self, crew: Crew, function: Any, iterables: tuple[Iterable[Any], ...], chunksize: int | None,
        buffersize: int | None,
    ) -> None:
        self.crew = crew
        self.function = function
        self.futures: deque[ForkFuture[Any]] = deque()
        self.unfinished = 0  # chunks; counted only where the results that wait do not limit the input
        self.failure: BaseException | None = None  # of the input, or of sending it: raised when its place comes
        self.held = 0  # items under way, or done and not asked for
        self.kind = messages.MAP if len(iterables) == 1 else messages.STARMAP
        self.source: Iterator[Any] = iter(iterables[0]) if len(iterables) == 1 else zip(*iterables, strict=False)
        # Of a range, its ends are sent instead of its items.
        self.range = iterables[0] if len(iterables) == 1 and type(iterables[0]) is range else None
        self.chunksize = chunksize
        self.size = chunksize or 1
        self.item_ns = 0  # what an item has taken lately
        self.buffersize = buffersize
        self.lazy = buffersize is not None or not all(hasattr(i, "__len__") for i in iterables)
        known = [len(i) for i in iterables if hasattr(i, "__len__")]  # type: ignore[arg-type]
        # Not so large that a worker is left with nothing at the end.
        workers = crew.engine.max_workers
        self.fair = max(1, min([_CHUNK_MAX, *(n // (4 * workers) for n in known)]))
        if buffersize is not None:
            self.fair = max(1, min(self.fair, buffersize // (2 * workers)))
        self.begun = self.discard = False
        self._lock = threading.RLock()  # results may be collected by several threads

    def _limit(self) -> int:
        """How many chunks may be under way."""
        return 2 * self.crew.engine.max_workers + 2

    def _full(self) -> bool:
        # `unfinished` may lag behind: a result can be taken before its callback has been called.
        if not self.futures:
            return False
        if self.discard:
            return self.unfinished >= self._limit()
        if self.buffersize is not None and self.held >= self.buffersize:
            return True
        return (len(self.futures) if self.lazy else self.unfinished) >= self._limit()

    def goes_on(self) -> bool:
        """Whether there is a chunk whose results have not been taken. Another thread may submit the last one at any
        time: only with the lock held does an empty `futures` mean the end."""
        if not self.futures:
            self.refill()
        return bool(self.futures)

    def refill(self) -> None:
        """Submits chunks as far as there is room."""
        with self._lock:
            while not self._full():
                size = self.size
                if self.buffersize is not None and not self.discard:
                    size = min(size, self.buffersize - self.held)
                items = self._take(size)
                if not items:
                    return
                try:
                    future = self.crew.submit(self.function, items, None, self.kind)
                except Exception as error:
                    self._fail(error)
                    return
                self.held += len(items)
                self.futures.append(future)
                self.unfinished += 1
                future.add_done_callback(self._measure)

    def _take(self, size: int) -> Sequence[Any]:
        """The next items, fewer at the end of the input."""
        if self.range is not None:
            ahead, self.range = self.range[:size], self.range[size:]
            return ahead
        items: list[Any] = []
        try:
            items.extend(islice(self.source, size))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._fail(error)
        return items

    def _fail(self, error: BaseException) -> None:
        """The input ends here. Whoever takes results gets the error after those of the items before it: this may be
        another thread, and raising it here would lose what was taken from the input."""
        self.source, self.range = iter(()), None
        if self.discard:
            LOGGER.error("the input of a map whose results nobody takes has failed", exc_info=error)
        else:
            self.failure = error

    def _measure(self, future: Any) -> None:
        """After a chunk: the next ones are to take about as long as `_CHUNK_NS`."""
        if self.chunksize is None and future._record is not None and future._exception is None:
            _, started, ended, *_ = messages.RECORD.unpack(future._record)
            count = max(1, len(future._result[0]))
            took = max(1, (ended - started) // count)
            # One chunk that the processor was taken away from says little.
            if not self.item_ns or took < self.item_ns:
                self.item_ns = took
            else:
                self.item_ns = (3 * self.item_ns + min(took, 4 * self.item_ns)) // 4
            self.size = max(1, min(self.size * 32, _CHUNK_NS // self.item_ns, self.fair))
        if self.discard:
            while self.futures and self.futures[0]._state != "PENDING":
                self.futures.popleft()
        if self.discard or not self.lazy:
            with self._lock:
                self.unfinished -= 1
            self.refill()

    def close(self) -> None:
        self.source, self.range = iter(()), None
        while self.futures:
            self.futures.pop()._withdraw()

    def dropped(self) -> None:
        """Nobody has the iterator any more."""
        if not self.begun:
            self.abandon()

    def abandon(self) -> None:
        """Nobody will ask for the results, but the calls are to be made."""
        with self._lock:
            self.discard = True
            if self.failure is not None:
                self._fail(self.failure)
            self.unfinished = sum(f._state == "PENDING" for f in self.futures)
        self.crew.feeders.append(self.more)
        self.refill()

    def more(self) -> bool:
        """Whether there is more to be done."""
        self.refill()
        return any(f._state == "PENDING" for f in self.futures)
